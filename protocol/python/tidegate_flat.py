"""The payloads of envelopes in FlatBuffers, without the flatbuffers package: reads protocol/schema/tidegate.fbs at import.

    encode("SendResult", n=1, outcome="Accepted", seq=3)   → bytes
    decode("Send", payload)                                → {"n": 1, "conversation": 0, "text": "hello"}

An Id is an int (0: absent), a bool, an enumeration and a number are ints (an enumeration's name may be written), a table is
a dict, a vector a list. A field that is absent reads as its default; one that this schema does not know is skipped.
"""
import pathlib
import re
import struct

# The kind byte of each payload's table: protocol/README.md, § 5.
KINDS = {name: 1 + i for i, name in enumerate("Hello Ping Send Ack Typing Command".split())} | {
    name: 65 + i
    for i, name in enumerate(
        "Welcome Pong SendResult Message ConversationState Receipt TypingNotice QueueUpdate Presence Error Wait Goaway Admitted".split()
    )
}
SCALARS = {"ubyte": "B", "bool": "B", "uint": "I", "ulong": "Q"}
SCHEMA = re.sub(r"//.*", "", (pathlib.Path(__file__).parents[1] / "schema/tidegate.fbs").read_text())
ENUMS = {
    name: {key: int(value) for key, value in re.findall(r"(\w+)\s*=\s*(\d+)", body)}
    for name, body in re.findall(r"enum (\w+):ubyte \{([^}]*)\}", SCHEMA)
}
# name → [(field, type, default)], in the order of their ids.
TABLES = {
    name: [
        (field, kind, ENUMS.get(kind, {"true": 1, "false": 0}).get(default, 0) if default else 0)
        for field, kind, default in re.findall(r"(\w+):(\[?\w+\]?)(?: = (\w+))?;", body)
    ]
    for name, body in re.findall(r"table (\w+) \{([^}]*)\}", SCHEMA)
}


def size(kind):
    """Bytes that a field of this type takes inside of its table."""
    return {"Id": 16, "ulong": 8, "ubyte": 1, "bool": 1}.get(kind, 1 if kind in ENUMS else 4)


def scalar(kind):
    return SCALARS.get(kind) or ("B" if kind in ENUMS else None)


def encode(name, /, **fields):
    """The table as the root of a payload."""
    out = bytearray(4)
    struct.pack_into("<I", out, 0, put_table(out, name, fields))
    return bytes(out)


def put_table(out, name, fields):
    """Appends a table and what it refers to; where the table begins. Offsets only lead forward, as a reader wants them."""
    known = TABLES[name]
    if unknown := fields.keys() - {field for field, _, _ in known}:
        raise KeyError(f"{name} has no field {', '.join(sorted(unknown))}")
    values = {}
    for number, (field, kind, default) in enumerate(known):
        value = fields.get(field)
        value = ENUMS[kind][value] if isinstance(value, str) and kind in ENUMS else value
        if value is not None and value != (default if scalar(kind) or kind == "Id" else None):
            values[number] = (kind, value)
    vtable, place = [0] * len(known), 4
    for number in sorted(values, key=lambda it: -size(values[it][0])):
        vtable[number], place = place, place + size(values[number][0])
    # The table begins 4 behind a multiple of 8: its widest fields, which come first, are aligned.
    while (len(out) + 4 + 2 * len(vtable)) % 8 != 4:
        out += b"\0"
    begin = len(out)
    out += struct.pack(f"<HH{len(vtable)}H", 4 + 2 * len(vtable), place, *vtable)
    table = len(out)
    out += struct.pack("<i", table - begin) + bytes(place - 4)
    for number, (kind, value) in values.items():
        at = table + vtable[number]
        if kind == "Id":
            struct.pack_into("<QQ", out, at, value >> 64, value & (1 << 64) - 1)
        elif form := scalar(kind):
            struct.pack_into("<" + form, out, at, value)
        else:
            target = put_object(out, kind, value)
            struct.pack_into("<I", out, at, target - at)
    return table


def put_object(out, kind, value):
    """Appends a string, a vector or a table; where it begins."""
    if kind not in ("string",) and not kind.startswith("["):
        return put_table(out, kind, value)
    out += bytes(-len(out) % 4)
    begin = len(out)
    if kind == "string":
        text = value.encode()
        out += struct.pack("<I", len(text)) + text + b"\0"
        return begin
    out += struct.pack("<I", len(value)) + bytes(4 * len(value))
    for index, element in enumerate(value):
        at = begin + 4 + 4 * index
        target = put_object(out, kind[1:-1], element)
        struct.pack_into("<I", out, at, target - at)
    return begin


def decode(name, payload):
    """The fields of a payload's root table. struct.error or ValueError where it is none."""
    return get_table(name, payload, at(payload, "I", 0))


def at(payload, form, place):
    if place < 0:
        raise ValueError("an offset leads before the payload")
    return struct.unpack_from("<" + form, payload, place)[0]


def get_table(name, payload, table):
    vtable = table - at(payload, "i", table)
    count = (at(payload, "H", vtable) - 4) // 2
    fields = {}
    for number, (field, kind, default) in enumerate(TABLES[name]):
        offset = at(payload, "H", vtable + 4 + 2 * number) if number < count else 0
        place = table + offset
        if kind == "Id":
            fields[field] = at(payload, "Q", place) << 64 | at(payload, "Q", place + 8) if offset else 0
        elif form := scalar(kind):
            fields[field] = at(payload, form, place) if offset else default
        elif offset:
            fields[field] = get_object(kind, payload, place + at(payload, "I", place))
        else:
            fields[field] = "" if kind == "string" else [] if kind.startswith("[") else None
    return fields


def get_object(kind, payload, begin):
    if kind == "string":
        return payload[begin + 4 : begin + 4 + at(payload, "I", begin)].decode()
    if kind.startswith("["):
        places = [begin + 4 + 4 * index for index in range(at(payload, "I", begin))]
        return [get_object(kind[1:-1], payload, place + at(payload, "I", place)) for place in places]
    return get_table(kind, payload, begin)
