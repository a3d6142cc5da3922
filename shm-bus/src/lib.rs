#![doc = include_str!("../README.md")]
#![expect(
    unsafe_code,
    reason = "memory shared between processes is this crate's subject; every block says why it holds"
)]

// In the order in which a record meets them.
mod bus_file; // files made in full, opened with suspicion
mod control; // the two control pages: tickets, frontier, heartbeat
mod counters; // numbers anybody may read
mod directory; // the directory that is the bus
mod doorbell; // sleep word and named pipe
mod error; // what was found, what was expected, what to do
pub mod fault;
mod identity; // instance ids and positions
pub mod layout; // every byte of every file
mod limits; // every maximum, with the relations between them
mod liveness; // locks that die with their process
mod memory; // heap, memfd or file: words that a peer may be writing
mod record; // the 48-byte header, and a copy of one record
mod ring; // claim, commit, consume
mod seat; // the one backend: takes its seat, discovers, attaches
mod segment; // a gateway makes its segment
mod sync; // the one door to atomics; loom stands behind it in model runs // named points at which tests kill a process

pub use control::{BackendControl, Control, GatewayControl};
pub use counters::{Counter, Counters};
pub use directory::BusDirectory;
pub use doorbell::{Ringer, Sleeper, Woken};
pub use error::{AttachError, BusError, ClaimError, Damage, SeatError, SegmentError};
pub use identity::{InstanceId, Position};
pub use limits::*;
pub use record::{RecordCopy, RecordHeader, record_span_bytes};
pub use ring::{Bad, Claim, Claimed, Consumer, Producer, Read, RingBacking, ring_pair};
pub use seat::{AttachedGateway, BackendSeat, ShardPorts};
pub use segment::{BackendWatch, GatewaySegment, SegmentOptions, ShardEnd};
