"""Reading, writing and tapping from Python: one process plays all sides. Structures agree with the header."""
import ctypes
import pathlib
import re
import tempfile
import unittest

import tidegate_bus as bus

HEADER = (pathlib.Path(__file__).parents[1] / "include/tidegate_bus.h").read_text()


class Bus(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name + "/bus"

    def test_a_record_goes_there_and_back_and_a_tap_sees_both(self):
        with bus.Backend(self.directory, protocol=5) as backend, bus.Gateway(self.directory, protocol=5) as gateway:
            with bus.Tap(self.directory) as tap:
                principal = (3 << 64) + 4
                self.assertTrue(gateway.send(gateway.instance, 0, "你好".encode(), 9, slot=7, principal=principal))
                (record,) = backend.records()
                self.assertEqual((record.kind, record.slot, record.principal), (9, 7, principal))
                self.assertEqual((record.payload.decode(), record.to_gateway), ("你好", False))
                self.assertEqual(backend.gateways(), [gateway.instance])
                self.assertEqual(gateway.backend(), backend.backend())
                self.assertTrue(backend.send(record.gateway, record.ring, b"", 10, trace=8))
                backend.release(record)
                self.assertTrue(gateway.wait())
                self.assertEqual([(it.kind, it.trace, it.payload) for it in gateway.records()], [(10, 8, b"")])
                gateway.release()
                seen = [(it.kind, it.to_gateway) for it in tap.records()]
                self.assertEqual((seen, tap.missed), ([(9, False), (10, True)], 0))

    def test_what_was_not_released_is_read_again(self):
        with bus.Gateway(self.directory) as gateway:
            for number in range(3):
                gateway.send(gateway.instance, 0, bytes([number]), 1)
            with bus.Backend(self.directory) as backend:
                first, *_ = backend.records()
                backend.release(first)
            with bus.Backend(self.directory) as backend:
                self.assertEqual([it.payload[0] for it in backend.records()], [1, 2])

    def test_a_full_ring_says_so_and_a_lapped_tap_counts_what_it_missed(self):
        with bus.Backend(self.directory) as backend, bus.Gateway(self.directory, ring_bytes=4096) as gateway:
            with bus.Tap(self.directory) as tap:
                for _ in range(3):
                    while gateway.send(gateway.instance, 0, b"x" * 200, 1):
                        pass
                    self.assertLess(gateway.room(gateway.instance, 0), 248)
                    list(backend.records())
                    backend.release()
                self.assertIsNone(tap.next())
                self.assertGreater(tap.missed, 8192)

    def test_a_second_backend_is_refused_by_the_firsts_pid(self):
        with bus.Backend(self.directory):
            with self.assertRaisesRegex(bus.BusError, r"already holds this bus \(pid \d+\)") as refused:
                bus.Backend(self.directory)
            self.assertEqual(refused.exception.code, bus.TAKEN)

    def test_structures_functions_and_codes_are_the_headers(self):
        c_types = {"uint8_t": 1, "uint16_t": 2, "uint32_t": 4, "uint64_t": 8, "size_t": 8}
        for name, structure in [("header", bus.Header), ("record", bus.Found), ("gateway_options", bus.GatewayOptions)]:
            body = re.search(rf"struct tidegate_bus_{name} \{{(.*?)^\}};", HEADER, re.DOTALL | re.MULTILINE)[1]
            wanted = re.findall(r"^ +((?:const |struct )?\w+) (\*?)(\w+);", body, re.MULTILINE)
            fields = [(field, ctypes.sizeof(kind)) for field, kind in structure._fields_]
            sizes = {"struct tidegate_bus_header": ctypes.sizeof(bus.Header)} | c_types
            self.assertEqual(fields, [(field, 8 if star else sizes[kind]) for kind, star, field in wanted])
        for name, code in [("OK", 0), ("EMPTY", 1), ("FULL", 2), ("LAPPED", 3), ("TAKEN", -4), ("GONE", -7), ("REFUSED", -8)]:
            self.assertIn(f"#define TIDEGATE_BUS_{name} {code}\n", HEADER)
            self.assertEqual(getattr(bus, name), code)


if __name__ == "__main__":
    unittest.main()
