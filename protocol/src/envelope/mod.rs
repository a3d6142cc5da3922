//! Envelopes: one binary WebSocket message carries one or more, back to back. Each is a 13-byte header, then the
//! payload, a FlatBuffers root table of the header's kind.

pub mod batch;
pub mod header;
pub mod kind;
pub(crate) mod verifier;
pub mod view;

pub use batch::{BatchError, BatchReader, append_envelope};
pub use header::{ENVELOPE_HEADER_BYTES, EnvelopeHeader};
pub use kind::Kind;
pub use view::{Malformed, View, verify};

/// One envelope of a batch: its header's fields and its payload, not verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The kind byte; unknown kinds are skipped.
    pub kind: u8,
    /// The sender's clock, µs since the Unix epoch; information only.
    pub timestamp_us: u64,
    /// A FlatBuffers root table of that kind.
    pub payload: &'a [u8],
}
