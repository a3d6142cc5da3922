#!/usr/bin/env python3
"""A bot: answers visitors' questions about opening hours and orders by their words while no agent has the chat, and
says nothing to anything else.

    [backend.bot] enabled = true                                       # in tidegate.toml
    python3 shm-bus/examples/bot_worker.py [DIRECTORY]                 # BUS/bot of the running Tidegate

The records are specified in Tidegate's backend/src/workers/bot.rs.
"""
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "python"))
import tidegate_bus

BOT_PROTOCOL = 2
QUESTION, ANSWER = 1, 2
NOTHING, SAY = 0, 1

ANSWERS = [
    (("open", "hours", "营业", "开门"), "We are open from 9:00 to 18:00, Monday to Saturday."),
    (("order", "订单", "发货"), "Please send the number of your order: whoever takes this chat will look at it first."),
]
NOBODY = " Nobody is here at the moment; an agent answers in this chat as soon as one comes."


def reply(text, nobody_online):
    text = text.lower()
    for words, said in ANSWERS:
        if any(word in text for word in words):
            return said + NOBODY if nobody_online else said
    return ""


def answer(question):
    _conversation, _seq, text_bytes, nobody_online = struct.unpack_from("<16sQIB3x", question)
    said = reply(question[32 : 32 + text_bytes].decode(), nobody_online).encode()
    return struct.pack("<B3xI", SAY if said else NOTHING, len(said)) + said


directory = sys.argv[1] if len(sys.argv) > 1 else tidegate_bus.running_bus() + "/bot"
with tidegate_bus.Backend(directory, BOT_PROTOCOL) as bus:
    while True:
        for record in bus.records():
            if record.kind == QUESTION:
                # Without room for the answer nothing is said.
                bus.send(record.gateway, record.ring, answer(record.payload), ANSWER, trace=record.trace, shard=0)
                bus.ring(record.gateway, record.ring)
            bus.release(record)
        bus.wait()
