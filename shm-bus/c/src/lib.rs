//! The C interface of `shm-bus`. `../include/tidegate_bus.h` is made of this crate and documents it; the memory, its
//! bytes and its orderings are `shm-bus`'s own, so a program in any language that can call C has them right.
//!
//! Three rules hold at every entry:
//!
//! - a null pointer, a text that is no UTF-8 and a handle that broke are refused with a code, not with a crash;
//! - no panic crosses it ([`failure::entry`]);
//! - what a handle lends (a payload, room of a claim) ends with the next call on that handle that says so.

#![expect(
    unsafe_code,
    reason = "pointers from C: each block says what its caller promised"
)]

mod backend; // the seat, all gateways' rings in turn
mod bus; // the handle of both roles, and every call on it
mod failure; // codes, the last message, the guard of each entry
mod gateway; // a segment of one shard
mod port; // one pair of rings, with a claim that outlives a call
mod record; // what a record is in C
mod tap; // the handle of an observer

pub use bus::*;
pub use failure::*;
pub use record::*;
pub use tap::*;
