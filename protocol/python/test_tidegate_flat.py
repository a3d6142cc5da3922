"""The golden vectors, read; and written again so that they read the same."""
import json
import pathlib
import re
import unittest

import tidegate_flat as flat

VECTORS = json.loads((pathlib.Path(__file__).parents[1] / "vectors/envelopes.json").read_text())
TABLE_OF = {kind: name for name, kind in flat.KINDS.items()}


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def as_json(name, fields):
    """What protocol/README.md, § 3, makes of a table: defaults left out, ids and enumerations as text."""
    plain = {}
    for field, kind, default in flat.TABLES[name]:
        value = fields[field]
        if kind in flat.ENUMS:
            text = {number: snake(key) for key, number in flat.ENUMS[kind].items()}.get(value, "none")
            plain |= {field: text} if text != "none" else {}
        elif kind == "Id" or field == "session":
            plain |= {field: f"{value:0{32 if kind == 'Id' else 16}x}"} if value else {}
        elif kind.startswith("["):
            plain |= {field: [as_json(kind[1:-1], one) for one in value]} if value else {}
        elif kind in flat.TABLES:
            plain |= {field: as_json(kind, value)} if value is not None else {}
        elif value != (default or ("" if kind == "string" else 0)):
            plain[field] = bool(value) if kind == "bool" else value
    return plain


class Vectors(unittest.TestCase):
    def test_every_vector_reads_as_its_json_and_is_written_so_that_it_reads_the_same(self):
        tried = set()
        for vector in VECTORS:
            name = TABLE_OF.get(vector["kind"])
            if name is None or "json" not in vector:
                continue
            wanted = {key: value for key, value in vector["json"].items() if key not in ("kind", "ts")}
            payload = bytes.fromhex(vector["envelope_hex"])[13:]
            fields = flat.decode(name, payload)
            self.assertEqual(as_json(name, fields), wanted, vector["name"])
            self.assertEqual(flat.decode(name, flat.encode(name, **fields)), fields, vector["name"])
            tried.add(name)
        self.assertEqual(tried, set(flat.KINDS))

    def test_fields_are_aligned_from_the_first_byte(self):
        payload = flat.encode("Message", conversation=7 << 64 | 9, seq=3, text="x", content="Text", system="Closed")
        table = flat.at(payload, "I", 0)
        vtable = table - flat.at(payload, "i", table)
        self.assertEqual((table % 8, vtable % 2), (4, 0))
        self.assertEqual((table + flat.at(payload, "H", vtable + 4)) % 8, 0)

    def test_what_is_no_table_is_an_error_and_an_unknown_field_is_named(self):
        for payload in (b"", b"\xff" * 8, b"\4\0\0\0\xff\xff\xff\x7f"):
            with self.assertRaises((ValueError, flat.struct.error)):
                flat.decode("Send", payload)
        with self.assertRaisesRegex(KeyError, "Send has no field body"):
            flat.encode("Send", body="x")


if __name__ == "__main__":
    unittest.main()
