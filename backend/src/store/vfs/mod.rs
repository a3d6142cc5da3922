//! Disks that break, for tests: SQLite's VFS is where the real store meets them.
//!
//! - [`SimulatedDisk`] (feature `simulation`): a disk in memory that keeps what was not synchronised apart and loses
//!   it at a power cut, as real ones may; the real store, schema and SQL run on it unchanged. Everything follows from
//!   a seed. (One thing does not: the salts of SQLite's log come from the platform's randomness. They decide nothing
//!   that a caller sees.)
//! - [`shim`] (feature `fault-points`): the platform's own files in a real process, with faults from the environment.

#[cfg(feature = "simulation")]
mod calls;
#[cfg(feature = "simulation")]
mod choices;
#[cfg(feature = "simulation")]
mod contents;
#[cfg(feature = "simulation")]
mod disk;
mod fault;
#[cfg(feature = "simulation")]
mod locks;
#[cfg(feature = "simulation")]
mod shared_memory;
#[cfg(feature = "fault-points")]
pub mod shim;
#[cfg(feature = "simulation")]
pub(super) mod simulated;

pub use fault::{Counts, Failure, Fault, Operation};
#[cfg(feature = "simulation")]
pub use simulated::{Crash, SimulatedDisk};
