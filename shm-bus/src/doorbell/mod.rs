//! Waking a consumer that sleeps: one sleep word and one named pipe per consumer thread, not per ring.
//!
//! The word is the sleeper's alone; producers read it through a read-only mapping. Even: awake. Odd: asleep. Each
//! sleep has a number of its own, so each producer rings at most once a sleep.
//!
//! ```text
//!  sleeper                                   producer
//!  word = odd                                publish the record
//!  fence(SeqCst)         SYNC(asleep)        fence(SeqCst)
//!  look at all rings: anything?              look at the word: odd, and not rung in this sleep?
//!    yes → word = even, go on                  yes → a byte into the pipe
//!    no  → wait for the pipe
//! ```
//!
//! Of two threads that each store, fence and look, at least one sees the other's store: either the sleeper finds the
//! record or the producer finds it asleep. A producer may die between publish and ring: a sleeper looks again every
//! [`SLEEP_MS_MAX`](crate::SLEEP_MS_MAX) ms.
//!
//! The pipe is found by path, opened for reading and writing by both sides (Linux allows that for FIFOs): so no side
//! waits for the other to open it, a peer's death is no SIGPIPE, and a byte that was rung while no backend ran is
//! found by the next one. A full pipe means that there is something to wake up for: EAGAIN is success.

#[cfg(all(test, loom))]
mod models;
mod pipe;
mod ringer;
mod sleeper;

pub use ringer::Ringer;
pub use sleeper::{Sleeper, Woken};

pub(crate) use pipe::Pipe;
