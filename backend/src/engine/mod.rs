//! The rules of the chat, pure: no socket, no SQL, no clock, no randomness of its own.
//!
//! `apply(now, input)` changes the state in memory, says in a [`write_set::WriteSet`] what has to be stored,
//! and lists effects that address people and conversations. `bus` finds their connections.

pub mod kinds;
pub mod loaded;
pub mod rows;
pub mod write_set;
