//! Every byte of every file of the bus. The one place in which an offset is written down.
//!
//! Four kinds of file, all little-endian, all beginning with the same [`FileHeader`]:
//!
//! ```text
//! control.gateways.mem   written by all gateways, mapped read-only by the backend        4 KiB
//! control.backend.mem    written by the backend, mapped read-only by the gateways        4 KiB
//! gateway.mem            one per gateway: written by it, mapped read-only by the backend
//! backend.mem            its twin: written by the backend, mapped read-only by the gateway
//!
//! gateway.mem and backend.mem
//!          0 ┌──────────────────────────────────────────────┐
//!            │ FileHeader, 256 bytes                        │
//!        256 │ attached, refused: backends   (backend.mem)  │
//!       4096 ├──────────────────────────────────────────────┤  ports_offset
//!            │ port page of shard 0, 4096 bytes             │
//!            │     0 published  128 released  256 sleep     │
//!            │   384 claimed    512 counters, 448 × u64     │
//!       8192 ├──────────────────────────────────────────────┤
//!            │ port page of shard 1 …                       │
//!            ├──────────────────────────────────────────────┤  rings_offset = 4096 × (1 + shards)
//!            │ ring of shard 0, ring_bytes                  │  gateway.mem: to_backend
//!            │ ring of shard 1 …                            │  backend.mem: to_gateway
//!            └──────────────────────────────────────────────┘  file_bytes
//! ```
//!
//! Words that different threads write stand 128 bytes apart: cores prefetch cache lines in pairs.

use std::mem::{offset_of, size_of};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::{RING_BYTES_MAX, SHARDS_MAX};

/// `"TIDEGBUS"` read as a little-endian number.
pub const MAGIC: u64 = u64::from_le_bytes(*b"TIDEGBUS");
/// Peers of different majors refuse each other.
pub const LAYOUT_MAJOR: u32 = 1;
/// A minor only adds in what was reserved.
pub const LAYOUT_MINOR: u32 = 2;
/// As it stands in the header: major in the high half. Stored last; 0 means that the file is not finished.
pub const LAYOUT_VERSION: u64 = (LAYOUT_MAJOR as u64) << 32 | LAYOUT_MINOR as u64;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FileRole {
    /// `<instance>/gateway.mem`
    Gateway = 1,
    /// `<instance>/backend.mem`
    Backend = 2,
    /// `control.gateways.mem`
    ControlGateways = 3,
    /// `control.backend.mem`
    ControlBackend = 4,
}

/// The first 256 bytes of every file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileHeader {
    /// [`MAGIC`].
    pub magic: u64,
    /// [`LAYOUT_VERSION`], stored last.
    pub layout_version: u64,
    /// A [`FileRole`].
    pub role: u32,
    /// Port pages and rings in this file; 0 in the control pages.
    pub shards: u32,
    /// The gateway's incarnation; 0 in the control pages.
    pub instance: u64,
    /// Size of the file.
    pub file_bytes: u64,
    /// Size of each ring, a power of two; 0 in the control pages.
    pub ring_bytes: u64,
    /// Largest record: header and payload.
    pub record_bytes_max: u64,
    /// Where the port pages begin.
    pub ports_offset: u64,
    /// From one port page to the next.
    pub port_stride_bytes: u64,
    /// Where the rings begin.
    pub rings_offset: u64,
    /// Who made the file.
    pub pid: u32,
    /// Its owner.
    pub uid: u32,
    /// When, in µs since the Unix epoch.
    pub created_at_us: u64,
    /// What the records of this segment mean, by their users' own count; 0 in the control pages.
    pub protocol: u32,
    /// Zero.
    pub reserved: [u32; 5],
    /// Name and version of the program that made the file, UTF-8, filled with zeros.
    pub build: [u8; 64],
    /// Zero.
    pub reserved_tail: [u64; 9],
}

/// Size of a page: header page, port page, control file.
pub const PAGE_BYTES: usize = 4096;

// Header page, behind the header.
/// backend.mem: the backend instance that attached last, stored after all its cursors.
pub const ATTACHED_OFFSET: usize = 256;
/// backend.mem: the backend instance that will not serve this segment; 0 = none. Its gateway ends.
pub const REFUSED_OFFSET: usize = 264;

// Port page.
/// End of the last committed record of the ring in this file.
pub const PORT_PUBLISHED_OFFSET: usize = 0;
/// End of the farthest claim of the ring in this file: what its producer may be writing. For taps. A line of its own:
/// the consumer polls `published`, and would take this word away with it.
pub const PORT_CLAIMED_OFFSET: usize = 384;
/// How far the owner of this file has given back the ring in the *other* file.
pub const PORT_RELEASED_OFFSET: usize = 128;
/// gateway.mem: the shard's sleep word. Even: awake. Odd: asleep, ring it.
pub const PORT_SLEEP_OFFSET: usize = 256;
/// First counter.
pub const PORT_COUNTERS_OFFSET: usize = 512;
/// Counters of a port page. (Fewer in model runs: loom tracks each.)
pub const PORT_COUNTERS: usize = if cfg!(loom) {
    16
} else {
    (PAGE_BYTES - PORT_COUNTERS_OFFSET) / 8
};

// control.gateways.mem
/// The next admission ticket; gateways add.
pub const TICKETS_OFFSET: usize = 256;
/// Grows by one with each new segment: the backend looks for it.
pub const ROSTER_OFFSET: usize = 384;

// control.backend.mem
/// The incarnation of the backend that holds the seat.
pub const BACKEND_INSTANCE_OFFSET: usize = 256;
/// Its process id.
pub const BACKEND_PID_OFFSET: usize = 264;
/// When it last made a turn, µs since the Unix epoch.
pub const BACKEND_HEARTBEAT_OFFSET: usize = 272;
/// What it takes records to mean: a gateway's header has to say the same.
pub const BACKEND_PROTOCOL_OFFSET: usize = 280;
/// Tickets up to here are admitted.
pub const FRONTIER_OFFSET: usize = 384;
/// How fast the frontier moves, in thousandths of a ticket a second. On the frontier's line: who reads the one reads
/// the other.
pub const ADMISSION_RATE_OFFSET: usize = 392;
/// The backend's sleep word.
pub const BACKEND_SLEEP_OFFSET: usize = 512;
/// Odd while the ledger's counters are being written; grows with each writing.
pub const LEDGER_VERSION_OFFSET: usize = 640;
/// First ledger counter.
pub const LEDGER_OFFSET: usize = 1024;
/// Ledger counters.
pub const LEDGER_COUNTERS: usize = (PAGE_BYTES - LEDGER_OFFSET) / 8;

/// Where the rings begin in a file with this many shards.
#[must_use]
pub const fn rings_offset(shards: usize) -> usize {
    PAGE_BYTES * (1 + shards)
}

/// Size of gateway.mem and of backend.mem.
#[must_use]
pub const fn file_bytes(shards: usize, ring_bytes: usize) -> usize {
    rings_offset(shards) + shards * ring_bytes
}

const _: () = {
    assert!(size_of::<FileHeader>() == 256);
    assert!(offset_of!(FileHeader, magic) == 0);
    assert!(offset_of!(FileHeader, layout_version) == 8);
    assert!(offset_of!(FileHeader, role) == 16);
    assert!(offset_of!(FileHeader, shards) == 20);
    assert!(offset_of!(FileHeader, instance) == 24);
    assert!(offset_of!(FileHeader, file_bytes) == 32);
    assert!(offset_of!(FileHeader, ring_bytes) == 40);
    assert!(offset_of!(FileHeader, record_bytes_max) == 48);
    assert!(offset_of!(FileHeader, ports_offset) == 56);
    assert!(offset_of!(FileHeader, port_stride_bytes) == 64);
    assert!(offset_of!(FileHeader, rings_offset) == 72);
    assert!(offset_of!(FileHeader, pid) == 80);
    assert!(offset_of!(FileHeader, uid) == 84);
    assert!(offset_of!(FileHeader, created_at_us) == 88);
    assert!(offset_of!(FileHeader, protocol) == 96);
    assert!(offset_of!(FileHeader, reserved) == 100);
    assert!(offset_of!(FileHeader, build) == 120);
    assert!(offset_of!(FileHeader, reserved_tail) == 184);
    // Nothing overlaps, and each contested word is two cache lines from the next.
    assert!(
        ATTACHED_OFFSET >= size_of::<FileHeader>() && TICKETS_OFFSET >= size_of::<FileHeader>()
    );
    assert!(
        PORT_CLAIMED_OFFSET - PORT_SLEEP_OFFSET >= 128
            && PORT_COUNTERS_OFFSET - PORT_CLAIMED_OFFSET >= 128
    );
    assert!(
        PORT_RELEASED_OFFSET - PORT_PUBLISHED_OFFSET >= 128
            && PORT_SLEEP_OFFSET - PORT_RELEASED_OFFSET >= 128
    );
    assert!(PORT_COUNTERS_OFFSET - PORT_SLEEP_OFFSET >= 128);
    assert!(
        ROSTER_OFFSET - TICKETS_OFFSET >= 128 && FRONTIER_OFFSET - BACKEND_PROTOCOL_OFFSET >= 64
    );
    assert!(
        BACKEND_SLEEP_OFFSET - ADMISSION_RATE_OFFSET >= 120
            && LEDGER_VERSION_OFFSET - BACKEND_SLEEP_OFFSET >= 128
            && LEDGER_OFFSET - LEDGER_VERSION_OFFSET >= 128
    );
    // Sizes never overflow.
    assert!(SHARDS_MAX.checked_mul(RING_BYTES_MAX).is_some());
    // Offsets are written in bytes of little-endian memory.
    assert!(
        cfg!(target_endian = "little"),
        "shm-bus is little-endian memory, shared without conversion"
    );
    assert!(
        cfg!(target_pointer_width = "64"),
        "positions are u64 and rings are mapped whole"
    );
};
