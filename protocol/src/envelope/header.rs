//! The byte layout of an envelope's header, little-endian:
//!
//! ```text
//!  0        1                         9               13
//!  ├────────┼─────────────────────────┼───────────────┼──────────────── … ┤
//!  │ kind u8│ timestamp u64 (µs, Unix)│ length u32    │ payload
//! ```

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Size of the header in bytes.
pub const ENVELOPE_HEADER_BYTES: usize = 13;

/// The header as it stands in the bytes, at any address.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct EnvelopeHeader {
    /// What the payload is; see [`Kind`](super::Kind).
    pub kind: u8,
    /// The sender's clock, µs since the Unix epoch; information only.
    pub timestamp_us: U64,
    /// Bytes of payload that follow.
    pub payload_bytes: U32,
}

const _: () = {
    assert!(size_of::<EnvelopeHeader>() == ENVELOPE_HEADER_BYTES);
    assert!(align_of::<EnvelopeHeader>() == 1);
    assert!(core::mem::offset_of!(EnvelopeHeader, kind) == 0);
    assert!(core::mem::offset_of!(EnvelopeHeader, timestamp_us) == 1);
    assert!(core::mem::offset_of!(EnvelopeHeader, payload_bytes) == 9);
};
