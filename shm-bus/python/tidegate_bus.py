"""The bus from Python, through libtidegate_bus: the memory's order and its checks are the library's.

    with Backend("/dev/shm/my-bus") as bus:          # or Gateway(…), or Tap(…)
        for record in bus.records():                 # what is there now
            bus.send(record.gateway, record.ring, b"…", kind=1, slot=record.slot)
            bus.ring(record.gateway, record.ring)    # once a batch
            bus.release(record)                      # what was not released is read again after a crash
        bus.wait()

The library is found in $TIDEGATE_BUS_LIB, or where cargo put it: cargo build --profile fast -p tidegate-bus-c. What each
call promises stands in include/tidegate_bus.h. One thread at a time uses an object.
"""
import ctypes
import os
import pathlib
import re
import sys

OK, EMPTY, FULL, LAPPED = 0, 1, 2, 3
TAKEN, GONE, REFUSED = -4, -7, -8
WAIT_MS_MAX = 100


class BusError(Exception):
    """An error of the library: its code, and its sentence."""

    def __init__(self, code):
        super().__init__(LIBRARY.tidegate_bus_message().decode())
        self.code = code


class Header(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_uint16), ("flags", ctypes.c_uint16), ("partition", ctypes.c_uint16), ("shard", ctypes.c_uint16),
        ("slot", ctypes.c_uint32), ("generation", ctypes.c_uint32), ("trace", ctypes.c_uint64),
        ("principal_low", ctypes.c_uint64), ("principal_high", ctypes.c_uint64),
    ]


class Found(ctypes.Structure):
    _fields_ = [
        ("header", Header), ("gateway", ctypes.c_uint64), ("position", ctypes.c_uint64), ("payload", ctypes.c_void_p),
        ("payload_bytes", ctypes.c_size_t), ("ring", ctypes.c_uint16), ("to_gateway", ctypes.c_uint8),
    ]


class GatewayOptions(ctypes.Structure):
    _fields_ = [
        ("ring_bytes", ctypes.c_size_t), ("record_bytes_max", ctypes.c_size_t), ("protocol", ctypes.c_uint32),
        ("build", ctypes.c_char_p),
    ]


class Record:
    """One record, copied: the header's fields, the payload, and where it was."""

    def __init__(self, found):
        header = found.header
        self.kind, self.flags, self.shard = header.kind, header.flags, header.shard
        self.slot, self.generation, self.trace = header.slot, header.generation, header.trace
        self.principal = header.principal_high << 64 | header.principal_low
        self.gateway, self.ring, self.position = found.gateway, found.ring, found.position
        self.to_gateway = bool(found.to_gateway)
        self.payload = ctypes.string_at(found.payload, found.payload_bytes) if found.payload_bytes else b""


def library():
    """The library that was named, or the one that cargo built last."""
    named = os.environ.get("TIDEGATE_BUS_LIB")
    root = pathlib.Path(__file__).resolve().parents[2]
    targets = [pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")), root / "target"]
    built = [pathlib.Path(named)] if named else [path for it in targets for path in it.glob("*/libtidegate_bus.so")]
    if not built:
        raise OSError("no libtidegate_bus.so; type: cargo build --profile fast -p tidegate-bus-c")
    found = ctypes.CDLL(str(max(built, key=lambda path: path.stat().st_mtime)))
    found.tidegate_bus_message.restype = ctypes.c_char_p
    handle, u64, u32, u16, size = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32, ctypes.c_uint16, ctypes.c_size_t
    arguments = {
        "take_backend": [ctypes.c_char_p, u32, ctypes.POINTER(handle)],
        "make_gateway": [ctypes.c_char_p, ctypes.POINTER(GatewayOptions), ctypes.POINTER(handle)],
        "free": [handle], "next": [handle, ctypes.POINTER(Found)], "wait": [handle, u32],
        "release": [handle, u64, u16, u64], "release_all": [handle], "ring": [handle, u64, u16],
        "send": [handle, u64, u16, ctypes.POINTER(Header), ctypes.c_char_p, size],
        "room": [handle, u64, u16, ctypes.POINTER(size)], "admit": [handle, u64],
        "gateways": [handle, ctypes.POINTER(u64), size, ctypes.POINTER(size)], "backend": [handle, ctypes.POINTER(u64)],
        "tap_open": [ctypes.c_char_p, ctypes.POINTER(handle)], "tap_next": [handle, ctypes.POINTER(Found)],
        "tap_missed": [handle, ctypes.POINTER(u64)], "tap_free": [handle],
    }
    for name, types in arguments.items():
        getattr(found, f"tidegate_bus_{name}").argtypes = types
    return found


LIBRARY = library()


def call(name, *arguments):
    code = getattr(LIBRARY, f"tidegate_bus_{name}")(*arguments)
    if code < 0:
        raise BusError(code)
    return code


def unless_gone(name, *arguments):
    """A call about a gateway that may have died meanwhile."""
    try:
        call(name, *arguments)
    except BusError as error:
        if error.code != GONE:
            raise


def running_bus(data_dir="tidegate-data"):
    """The directory of the bus that `tidegate up` runs on, from what it wrote down at its start."""
    settings = pathlib.Path(data_dir) / "run/settings.toml"
    if not settings.exists():
        raise SystemExit(f"{settings} is not there: is Tidegate up, and started from this directory?")
    return re.search(r'^bus_dir = "(.*)"$', settings.read_text(), re.MULTILINE)[1]


class Handle:
    """What all three have in common: a handle that is given back, records that are read."""

    NEXT, FREE = "next", "free"

    def __init__(self, name, bus_dir, *arguments):
        self.handle = ctypes.c_void_p()
        call(name, os.fsencode(bus_dir), *arguments, ctypes.byref(self.handle))
        self.found = Found()

    def next(self):
        """The next record, or None."""
        return Record(self.found) if call(self.NEXT, self.handle, ctypes.byref(self.found)) == OK else None

    def records(self):
        """Records until there is none now."""
        while record := self.next():
            yield record

    def close(self):
        getattr(LIBRARY, f"tidegate_bus_{self.FREE}")(self.handle)
        self.handle = ctypes.c_void_p()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Part(Handle):
    """A part in the bus: what a backend and a gateway can both do."""

    def wait(self, timeout_ms=WAIT_MS_MAX):
        """Sleeps until a record may be there; True: look. At most WAIT_MS_MAX ms."""
        return call("wait", self.handle, timeout_ms) == OK

    def send(self, gateway, ring, payload, kind, *, flags=0, slot=0, generation=0, trace=0, principal=0, shard=None):
        """Writes one record; False: the ring is full, nothing was written. Wakes nobody: see ring."""
        low = principal & (1 << 64) - 1
        header = Header(kind, flags, 0, ring if shard is None else shard, slot, generation, trace, low, principal >> 64)
        payload = bytes(payload)
        return call("send", self.handle, gateway, ring, ctypes.byref(header), payload, len(payload)) == OK

    def ring(self, gateway, ring):
        """Wakes the other side if it sleeps: once after a batch. One that is gone needs no waking."""
        unless_gone("ring", self.handle, gateway, ring)

    def release(self, record=None):
        """Gives the room up to the end of a record back; without one, of all that was read."""
        if record is None:
            call("release_all", self.handle)
        else:
            unless_gone("release", self.handle, record.gateway, record.ring, record.position)

    def room(self, gateway, ring):
        """Bytes that are there for certain: of records, with 48 of header each."""
        room = ctypes.c_size_t()
        call("room", self.handle, gateway, ring, ctypes.byref(room))
        return room.value

    def gateways(self):
        """Instance ids of the gateways that are served; of a gateway, its own."""
        ids, count = (ctypes.c_uint64 * 4096)(), ctypes.c_size_t()
        call("gateways", self.handle, ids, len(ids), ctypes.byref(count))
        return list(ids[: count.value])

    def backend(self):
        """The backend instance that serves here (0: none yet), and whether it lives."""
        instance = ctypes.c_uint64()
        lives = call("backend", self.handle, ctypes.byref(instance)) == OK
        return instance.value, lives


class Backend(Part):
    """The one backend of a bus. BusError TAKEN, which names the pid, where there is one."""

    def __init__(self, bus_dir, protocol=0):
        super().__init__("take_backend", bus_dir, protocol)

    def next(self):
        """The next record, or None. A gateway that cannot be served is named on the standard error; the others go on."""
        while True:
            try:
                return super().next()
            except BusError as error:
                if error.code != REFUSED:
                    raise
                print(error, file=sys.stderr)

    def admit(self, frontier=1 << 62):
        """Lets everybody in whose ticket is below: where an earlier backend of this bus controlled admission."""
        call("admit", self.handle, frontier)


class Gateway(Part):
    """A gateway of one shard, on a segment of its own."""

    def __init__(self, bus_dir, protocol=0, ring_bytes=0, record_bytes_max=0, build="tidegate_bus.py"):
        options = GatewayOptions(ring_bytes, record_bytes_max, protocol, build.encode())
        super().__init__("make_gateway", bus_dir, ctypes.byref(options))
        (self.instance,) = self.gateways()


class Tap(Handle):
    """An observer of every ring, from now on. It maps the memory read-only: nobody notices. A gateway that comes is found
    within 100 ms; what it published before counts as missed."""

    NEXT, FREE = "tap_next", "tap_free"

    def __init__(self, bus_dir):
        super().__init__("tap_open", bus_dir)

    def next(self):
        """The next record, or None; where the tap was too slow, it goes on at what is new, and `missed` grew."""
        while (code := call("tap_next", self.handle, ctypes.byref(self.found))) == LAPPED:
            pass
        return Record(self.found) if code == OK else None

    @property
    def missed(self):
        """Bytes of records that went by unseen."""
        missed = ctypes.c_uint64()
        call("tap_missed", self.handle, ctypes.byref(missed))
        return missed.value
