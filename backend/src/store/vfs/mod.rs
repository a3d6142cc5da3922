//! Disks that break, for tests: SQLite's VFS is where the real store meets them.
//!
//! [`SimulatedDisk`] is a disk in memory that keeps what was not synchronised apart and loses it at a power cut, as
//! real ones may; the real store, schema and SQL run on it unchanged. Everything follows from a seed. (One thing does
//! not: the salts of SQLite's log come from the platform's randomness. They decide nothing that a caller sees.)

mod calls;
mod choices;
mod contents;
mod disk;
mod fault;
mod locks;
mod shared_memory;
mod simulated;

pub use fault::{Counts, Failure, Fault, Operation};
pub use simulated::{Crash, SimulatedDisk};
