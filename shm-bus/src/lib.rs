#![doc = include_str!("../README.md")]
#![expect(
    unsafe_code,
    reason = "memory shared between processes is this crate's subject; every block says why it holds"
)]

// In the order in which a record meets them. Files and processes do not exist in model runs (`--cfg loom`).
#[cfg(not(loom))]
mod access; // whose a bus is, and which group looks on
#[cfg(not(loom))]
mod bus_file; // files made in full, opened with suspicion
#[cfg(not(loom))]
mod control; // the two control pages: tickets, frontier, heartbeat, ledger
mod counters; // numbers anybody may read
#[cfg(not(loom))]
mod directory; // the directory that is the bus
mod doorbell; // sleep word and named pipe
mod error; // what was found, what was expected, what to do
pub mod fault; // named points at which tests kill a process
#[cfg(all(any(test, feature = "fuzzing"), not(loom)))]
pub mod fuzzing; // the bodies of the fuzz targets
mod identity; // instance ids and positions
pub mod layout; // every byte of every file
mod limits; // every maximum, with the relations between them
#[cfg(not(loom))]
mod liveness; // locks that die with their process
#[cfg(not(loom))]
mod mapping; // a file mapped shared, at a multiple of 2 MiB
mod memory; // heap, memfd or file: words that a peer may be writing
#[cfg(not(loom))]
mod mend; // control pages that cannot be used, where nobody lives
pub mod mutant; // planted bugs that the simulator has to find
#[cfg(not(loom))]
mod observe; // taps and counters for processes that have no part in the bus
#[cfg(not(loom))]
mod place; // whether what is held is still what stands at its names
#[cfg(not(loom))]
mod placement; // huge pages and NUMA: what was wished for and what it is
mod record; // the 48-byte header, and a copy of one record
#[cfg(not(loom))]
pub mod recording; // what taps saw, in a file
mod ring; // claim, commit, consume
#[cfg(not(loom))]
mod seat; // the one backend: takes its seat, discovers, attaches
#[cfg(not(loom))]
mod segment; // a gateway makes its segment
mod sync; // the one door to atomics; loom stands behind it in model runs
#[cfg(not(loom))]
mod truncation; // a mapped file cut short: an exit with a sentence
#[cfg(not(loom))]
mod watch; // what a gateway knows of the backend

#[cfg(not(loom))]
pub use control::{BackendControl, Control, GatewayControl};
pub use counters::{Counter, Counters};
#[cfg(not(loom))]
pub use directory::BusDirectory;
pub use doorbell::{Ringer, Sleeper, Woken};
pub use error::{AttachError, BusError, ClaimError, Damage, Displaced, SeatError, SegmentError};
#[cfg(feature = "simulation")]
pub use identity::seed_instance_ids;
pub use identity::{InstanceId, Position};
pub use limits::*;
#[cfg(not(loom))]
pub use observe::{ObservedCounters, ObservedGateway, ObservedShard};
#[cfg(not(loom))]
pub use place::Place;
#[cfg(not(loom))]
pub use placement::{Placed, Placement};
pub use record::{RecordCopy, RecordHeader, record_span_bytes};
pub use ring::{
    Bad, Claim, Claimed, Consumer, Producer, Read, RingBacking, Tap, Tapped, ring_pair,
};
#[cfg(not(loom))]
pub use seat::{AttachedGateway, BackendSeat, ShardPorts};
#[cfg(not(loom))]
pub use segment::{GatewaySegment, SegmentOptions, ShardEnd};
#[cfg(not(loom))]
pub use truncation::{EXIT_CODE_TRUNCATED, exit_on_truncation};
#[cfg(not(loom))]
pub use watch::BackendWatch;
