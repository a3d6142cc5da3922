#!/usr/bin/env python3
"""How many messages went by, minute by minute, as JSON Lines: a tap, which nobody on the bus notices.

    python3 shm-bus/examples/messages_per_minute.py [BUS_DIRECTORY] [SECONDS]      SECONDS: 60 unless said
"""
import json
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "shm-bus/python"), str(ROOT / "protocol/python")]
import tidegate_bus
from tidegate_chat import ENVELOPE, ENVELOPE_DOWN, TABLES

NAMES = {(ENVELOPE, "Send"): "sent", (ENVELOPE_DOWN, "Message"): "delivered", (ENVELOPE_DOWN, "SendResult"): "answered"}


def main():
    bus_dir = sys.argv[1] if len(sys.argv) > 1 else tidegate_bus.running_bus()
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60
    with tidegate_bus.Tap(bus_dir) as tap:
        print(f"taps {bus_dir}", file=sys.stderr, flush=True)
        while True:
            counts, end = dict.fromkeys(NAMES.values(), 0), time.monotonic() + seconds
            while time.monotonic() < end:
                for record in tap.records():
                    name = NAMES.get((record.kind, TABLES.get(record.flags & 0xFF)))
                    if name:
                        counts[name] += 1
                time.sleep(0.01)
            print(json.dumps({"at": int(time.time()), **counts, "missed_bytes": tap.missed}), flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
