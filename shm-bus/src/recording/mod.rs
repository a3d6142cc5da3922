//! Recordings: what taps saw, in a file (`.tgr`). Compact, whole up to the last block whatever happens to the recorder,
//! and readable around whatever happens to the file.
//!
//! # The file
//!
//! A header, then blocks until the end. A block can be understood without those before it; where one is damaged or cut
//! short, the reader looks for the next, also within it: a payload that holds a whole block is shown as one then, so a
//! damaged recording proves nothing about who wrote what. Numbers are little-endian. `check` is CRC-32 (IEEE 802.3).
//!
//! | header | bytes | field | |
//! | --- | --- | --- | --- |
//! | 0 | 8 | `magic` | the bytes `TIDEGTGR` |
//! | 8 | 4 | `version` | 1; another is refused |
//! | 12 | 4 | `protocol` | what the records mean, by their users' own count, as in a segment's header |
//! | 16 | 8 | `began_at_us` | µs since the Unix epoch |
//! | 24 | 8 | `part` | a recording that rotates counts its files from 0 |
//! | 32 | 12 | `reserved` | zero |
//! | 44 | 4 | `check` | of the 44 bytes before it |
//!
//! | block | bytes | field | |
//! | --- | --- | --- | --- |
//! | 0 | 4 | `magic` | the bytes `TGRB` |
//! | 4 | 4 | `body_bytes` | at most [`BODY_BYTES_MAX`] |
//! | 8 | 8 | `at_us` | of its first entry, µs since the Unix epoch |
//! | 16 | 4 | `check` | of `body_bytes`, `at_us` and the body |
//! | 20 | | the body | entries back to back |
//!
//! # Entries
//!
//! Numbers marked *v* have 7 bits a byte, the lowest first; the top bit says that another byte follows.
//!
//! ```text
//! tag u8 · µs since the entry before, or since at_us v · gateway v · shard v · …
//!   what (bits 0 to 1)
//!   0 record    kind v · flags v [64] · shard v [32] · slot v · generation v · trace u64 [128] · principal u128 [16] ·
//!               payload bytes v · payload
//!   1 missed    bytes v: a tap was lapped, or a payload was longer than PAYLOAD_BYTES_MAX
//!   2 gateway   instance u64 · shards v · ring_bytes v · record_bytes_max v: this gateway is there
//!   3 gone      this gateway is there no more
//! ```
//!
//! Bit 2 (4) of the tag: it leads to the gateway; else to the backend. A field with a number in brackets is there if that
//! bit of the tag is set, else it is 0 (the connection's `shard`: the ring's). Bit 3 (8) is zero. `gateway` is a number
//! that the recorder gives; each file of a recording names its gateways anew. Times never go back. `partition` is not
//! kept: it is reserved and 0.
//!
//! ```
//! use shm_bus::RecordHeader;
//! use shm_bus::recording::{Direction, Entry, Event, Head, RecordingReader, RecordingWriter};
//!
//! let head = Head { protocol: 2, began_at_us: 1_700_000_000_000_000, part: 0 };
//! let mut writer = RecordingWriter::begin(Vec::new(), &head)?;
//! let header = RecordHeader { kind: 2, slot: 7, ..RecordHeader::default() };
//! let event = Event::Record { leads: Direction::ToBackend, header, payload: b"hello" };
//! let entry = Entry { at_us: head.began_at_us + 5, gateway: 0, shard: 0, event };
//! writer.write(&entry)?;
//! let file = writer.end()?;
//!
//! let mut reader = RecordingReader::open(&file[..])?;
//! assert_eq!(reader.next()?, Some(entry));
//! assert_eq!(reader.next()?, None);
//! assert_eq!(reader.damaged_bytes(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod number;
mod read;
mod write;

pub use read::{RecordingError, RecordingReader};
pub use write::RecordingWriter;
#[cfg(any(test, all(feature = "fuzzing", not(loom))))]
pub(crate) use write::block;

use crate::{identity::InstanceId, record::RecordHeader};

const MAGIC: [u8; 8] = *b"TIDEGTGR";
const VERSION: u32 = 1;
pub(crate) const HEAD_BYTES: usize = 48;
pub(crate) const BLOCK_MAGIC: [u8; 4] = *b"TGRB";
const BLOCK_HEAD_BYTES: usize = 20;

/// A block is ended when it has this much, so that a recorder that dies loses at most that.
const BODY_BYTES: usize = 64 * 1024;
/// The largest payload that is kept, bytes; of a longer one the recording says that it was missed.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// An entry without its payload has at most this.
const ENTRY_BYTES_MAX: usize = 96;
/// The largest body of a block, bytes.
pub const BODY_BYTES_MAX: usize = BODY_BYTES + PAYLOAD_BYTES_MAX + ENTRY_BYTES_MAX;

const WHAT_RECORD: u8 = 0;
const WHAT_MISSED: u8 = 1;
const WHAT_GATEWAY: u8 = 2;
const WHAT_GONE: u8 = 3;
const WHAT: u8 = 3;
const LEADS_TO_GATEWAY: u8 = 4;
const RESERVED: u8 = 8;
const HAS_PRINCIPAL: u8 = 16;
const HAS_SHARD: u8 = 32;
const HAS_FLAGS: u8 = 64;
const HAS_TRACE: u8 = 128;

/// What a recording says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// What its records mean, by their users' own count.
    pub protocol: u32,
    /// When it began, µs since the Unix epoch.
    pub began_at_us: u64,
    /// Which of its files this is, from 0.
    pub part: u64,
}

/// Where a ring leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// From a gateway.
    ToBackend,
    /// From the backend.
    ToGateway,
}

/// Something that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When, µs since the Unix epoch.
    pub at_us: u64,
    /// At which gateway, by the recorder's number.
    pub gateway: u32,
    /// At which of its shards; 0 where it is the gateway's.
    pub shard: u16,
    /// What.
    pub event: Event<'a>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A record.
    Record {
        /// Where it led.
        leads: Direction,
        /// Its header.
        header: RecordHeader,
        /// Its payload, at most [`PAYLOAD_BYTES_MAX`].
        payload: &'a [u8],
    },
    /// Not seen: the tap was lapped.
    Missed {
        /// Where they led.
        leads: Direction,
        /// Bytes of records, with their headers.
        bytes: u64,
    },
    /// A gateway is there.
    Gateway {
        /// Its instance id.
        instance: InstanceId,
        /// How many shards it has.
        shards: u16,
        /// Size of each ring, bytes.
        ring_bytes: u64,
        /// Its largest record, bytes.
        record_bytes_max: u32,
    },
    /// A gateway is there no more.
    Gone,
}

// No `unsafe` in here, and under Miri it takes minutes.
#[cfg(all(test, not(miri)))]
mod tests;
