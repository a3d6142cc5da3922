"""What the records on Tidegate's bus say (protocol/src/bus.rs), for a backend in Python over shm-bus/python/tidegate_bus.py."""
import struct
import time

import tidegate_bus
import tidegate_flat as flat

BUS_PROTOCOL = 2
OPENED, ENVELOPE, CLOSED, ENVELOPE_DOWN = 1, 2, 3, 16
TABLES = {kind: name for name, kind in flat.KINDS.items()}
# Of an OPENED record; name, padding to 8 and Hello's payload follow.
OPENED_FIELDS = struct.Struct("<QQQ16sIIIHBBBB2xII4x")
OPENED_NAMES = "session request issued_at_s peer_prefix widget site hello_bytes name_bytes role family codec flags heartbeat_ms connection"
ANNOUNCED, ON_TICKET = 1, 2
CLOSED_FIELDS = struct.Struct("<HBx")
ROOM_S_MAX = 2


def read(record):
    """What a record from a gateway is, and its fields: ("Opened", …), ("Closed", …), or an envelope's table ("Send", …).
    (None, {}) where it is nothing that is known here. The session of an envelope is its record's `trace`."""
    if record.kind == OPENED:
        fields = dict(zip(OPENED_NAMES.split(), OPENED_FIELDS.unpack_from(record.payload)))
        begin = OPENED_FIELDS.size
        hello = begin + (fields["name_bytes"] + 7 & ~7)
        fields["name"] = record.payload[begin : begin + fields["name_bytes"]].decode()
        fields["announced"] = bool(fields["flags"] & ANNOUNCED)  # it lived before this backend did: no Welcome is awaited
        fields["hello"] = flat.decode("Hello", record.payload[hello:]) if fields["hello_bytes"] else None
        return "Opened", fields
    if record.kind == CLOSED:
        code, cause = CLOSED_FIELDS.unpack_from(record.payload)
        return "Closed", {"code": code, "cause": cause}
    if record.kind == ENVELOPE and (table := TABLES.get(record.flags & 0xFF)):
        return table, flat.decode(table, record.payload)
    return None, {}


def now_us():
    return time.time_ns() // 1000


def answer(bus, record, table, **fields):
    """One envelope to the connection that a record came from. Waits a little for room: a gateway drains what leads to it
    before it does anything else. False: it is gone, or does not read any more; its connections come back, and resume."""
    payload, at = flat.encode(table, **fields), {"slot": record.slot, "generation": record.generation, "principal": record.principal}
    end = time.monotonic() + ROOM_S_MAX
    try:
        while not bus.send(record.gateway, record.ring, payload, ENVELOPE_DOWN, flags=flat.KINDS[table], trace=now_us(), **at):
            if time.monotonic() > end:
                return False
            time.sleep(0.001)
    except tidegate_bus.BusError as error:
        if error.code != tidegate_bus.GONE:
            raise
        return False
    return True
