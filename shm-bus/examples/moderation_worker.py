#!/usr/bin/env python3
"""A moderation worker: answers each question about a visitor's text, while Tidegate holds the text back.
Texts with `forbidden` are refused, `secret` is starred out, everything else is allowed.

    [backend.moderation] enabled = true                                # in tidegate.toml
    python3 shm-bus/examples/moderation_worker.py [DIRECTORY]          # BUS/moderation of the running Tidegate

The records are specified in Tidegate's backend/src/workers/question.rs.
"""
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import tidegate_bus

WORKER_PROTOCOL = 1
QUESTION, ANSWER = 1, 2
ALLOW, REFUSE, REPLACE = 0, 1, 2


def rule(text):
    if "forbidden" in text:
        return REFUSE, "not in this shop"
    if "secret" in text:
        return REPLACE, text.replace("secret", "******")
    return ALLOW, ""


def answer(question):
    _conversation, text_bytes, _reserved = struct.unpack_from("<16sII", question)
    verdict, said = rule(question[24 : 24 + text_bytes].decode())
    said = said.encode()
    return struct.pack("<B3xI", verdict, len(said)) + said


directory = sys.argv[1] if len(sys.argv) > 1 else tidegate_bus.running_bus() + "/moderation"
with tidegate_bus.Backend(directory, WORKER_PROTOCOL) as bus:
    while True:
        for record in bus.records():
            if record.kind == QUESTION:
                # Without room for the answer the text gets Tidegate's default.
                bus.send(record.gateway, record.ring, answer(record.payload), ANSWER, trace=record.trace, shard=0)
                bus.ring(record.gateway, record.ring)
            bus.release(record)
        bus.wait()
