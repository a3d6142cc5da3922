//! What bytes mean in Tidegate. No I/O, no clock, no allocation on the hot path.
//!
//! The modules stand in the order in which a message meets them.

pub mod bus; //      what the records on shm-bus carry
pub mod close; //    one table of WebSocket close codes and their classes
pub mod codec;
pub mod envelope; // the 13-byte header, kinds, batch reader (checked views), writer
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing; // the bodies of the fuzz targets
pub mod generated; // flatc's output for schema/tidegate.fbs, committed
pub mod id; //       128-bit, time-ordered ids
pub mod limits; //   every maximum on either wire, with compile-time relations between them
pub mod message; //  every message as a plain struct, and its encoder
pub mod names; //    the snake_case names of the schema's enumerations
pub mod queue; //    where one stands in the queue for an agent
pub mod token;
pub mod ws; //       RFC 6455: handshake, frames, masking, UTF-8, messages //    signed tokens: who a connection belongs to //    fb and json, to and from the one internal form

#[cfg(test)]
mod vectors; // golden bytes that the JavaScript tests read too

pub use codec::Codec;
pub use envelope::{Envelope, EnvelopeHeader, Kind, View, verify};
pub use generated::tidegate as fb;
pub use id::Id;
