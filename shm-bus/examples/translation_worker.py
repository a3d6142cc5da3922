#!/usr/bin/env python3
"""A translation worker: puts a translation under each text, while Tidegate holds the text back. What visitors write is
translated for the agents, what agents write for the visitors, word by word; a text without a known word stays as it is.

    [backend.translation] enabled = true                               # in tidegate.toml
    python3 shm-bus/examples/translation_worker.py [DIRECTORY]         # BUS/translation of the running Tidegate

The records are specified in Tidegate's backend/src/workers/question.rs.
"""
import pathlib
import re
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import tidegate_bus

WORKER_PROTOCOL = 1
QUESTION, ANSWER = 1, 2
ALLOW, REPLACE = 0, 2
TEXT_BYTES_MAX = 16_384

FOR_AGENTS = {"hello": "你好", "order": "订单", "price": "价格", "delivery": "送货", "refund": "退款", "thanks": "谢谢"}
FOR_VISITORS = {there: here for here, there in FOR_AGENTS.items()}


def translate(text, words):
    known = "|".join(map(re.escape, words))
    return re.sub(f"(?<![a-z])({known})(?![a-z])", lambda word: words[word[0].lower()], text, flags=re.IGNORECASE)


def answer(question):
    _conversation, text_bytes, by_agent = struct.unpack_from("<16sIB3x", question)
    text = question[24 : 24 + text_bytes].decode()
    translated = translate(text, FOR_VISITORS if by_agent else FOR_AGENTS)
    said = f"{text}\n{translated}".encode()
    if translated == text or len(said) > TEXT_BYTES_MAX:
        return struct.pack("<B3xI", ALLOW, 0)
    return struct.pack("<B3xI", REPLACE, len(said)) + said


directory = sys.argv[1] if len(sys.argv) > 1 else tidegate_bus.running_bus() + "/translation"
with tidegate_bus.Backend(directory, WORKER_PROTOCOL) as bus:
    while True:
        for record in bus.records():
            if record.kind == QUESTION:
                # Without room for the answer the text is sent as it is.
                bus.send(record.gateway, record.ring, answer(record.payload), ANSWER, trace=record.trace, shard=0)
                bus.ring(record.gateway, record.ring)
            bus.release(record)
        bus.wait()
