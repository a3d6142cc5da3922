#!/usr/bin/env python3
"""A backend in 80 lines of Python: answers each visitor with what they wrote.

    scripts/run --no-backend                      # or: tidegate up --no-backend
    python3 shm-bus/examples/echo_backend.py      # then open the visitor page, and write
It keeps everything in memory: after its restart conversations begin anew. The tables: protocol/README.md, § 5.
"""
import pathlib
import secrets
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "shm-bus/python"), str(ROOT / "protocol/python")]
import tidegate_bus
from tidegate_chat import BUS_PROTOCOL, answer, now_us, read

INCARNATION, ECHO = secrets.randbits(53) | 1, {"agent": 0xEC40, "agent_name": "Echo"}
chats, accepted = {}, {}  # a visitor's conversation, by principal; the answers of a session, by n


def state(chat, **more):
    return {"conversation": chat["id"], "incarnation": INCARNATION, "status": "Chatting", "seq": len(chat["messages"]), **ECHO,
            "visitor_online": True, "opened_at_us": chat["at_us"], "assigned_at_us": chat["at_us"], **more}


def add(chat, **message):
    chat["messages"].append({"conversation": chat["id"], "seq": len(chat["messages"]) + 1, "at_us": now_us(), **message})
    return chat["messages"][-1]


def opened(bus, record, request, role, heartbeat_ms, session, announced, hello, **_):
    """Welcomes a connection, and sends what it does not have yet."""
    if announced:
        return
    chat = chats.get(record.principal)
    shown = [{"state": state(chat), "recovered": True}] if chat else []
    answer(bus, record, "Welcome", request=request, principal=record.principal, role=role, heartbeat_ms=heartbeat_ms, agents_online=1,
           last_n=max(accepted.get(session, [0])), conversations=shown)
    held = [it["seq"] for it in hello["cursors"] if chat and (it["conversation"], it["incarnation"]) == (chat["id"], INCARNATION)]
    for message in chat["messages"][max(held, default=0):] if chat else []:
        answer(bus, record, "Message", **message)


def sent(bus, record, n, text, **_):
    """Accepts the next message of a session, repeats the answer to one that came before, asks for one that is missing."""
    answers = accepted.setdefault(record.trace, {})
    expected = max(answers, default=n - 1) + 1
    if n != expected:
        known = {"outcome": "Duplicate", **answers[n]} if n in answers else {"outcome": "Gap", "expected_n": expected}
        return answer(bus, record, "SendResult", n=n, **known)
    if record.principal not in chats:
        chats[record.principal] = {"id": secrets.randbits(127) | 1, "at_us": now_us(), "messages": []}
        answer(bus, record, "ConversationState", **state(chats[record.principal]))
    chat = chats[record.principal]
    mine = add(chat, sender_role="Visitor", sender=record.principal, session=record.trace, n=n, text=text)
    answers[n] = {key: mine[key] for key in ("conversation", "seq", "at_us")}
    answer(bus, record, "SendResult", n=n, outcome="Accepted", **answers[n])
    answer(bus, record, "Message", **add(chat, sender_role="Agent", sender=ECHO["agent"], sender_name="Echo", text=f"You said: {text}"))


def main():
    bus_dir = sys.argv[1] if len(sys.argv) > 1 else tidegate_bus.running_bus()
    try:
        bus = tidegate_bus.Backend(bus_dir, BUS_PROTOCOL)
    except tidegate_bus.BusError as error:
        sys.exit(f"{error}\nWhat `tidegate up` started it starts again: stop that (Ctrl+C), then type: tidegate up --no-backend")
    print(f"echoes on {bus_dir}; Ctrl+C ends it", flush=True)
    bus.admit()
    while True:
        bus.wait()
        for record in bus.records():
            what, fields = read(record)
            if task := {"Opened": opened, "Send": sent}.get(what):
                task(bus, record, **fields)
                bus.ring(record.gateway, record.ring)
            bus.release(record)


if __name__ == "__main__":
    main()
