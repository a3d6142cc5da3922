//! The 48-byte header of a record, and a private copy of one record.
//!
//! ```text
//!  0            4        6        8           10      12               16
//!  ├────────────┼────────┼────────┼───────────┼───────┼────────────────┤
//!  │ length u32 │kind u16│flags16 │partition16│shard16│ slot u32       │
//!  ├────────────┼────────┴────────┼───────────┴───────┴────────────────┤
//! 16 generation │ 20 check u32    │ 24 trace u64                       │
//!  ├────────────┴─────────────────┴────────────────────────────────────┤
//! 32 principal u128 (low half first)                                   │
//!  ├───────────────────────────────────────────────────────────────────┤
//! 48 payload … zeros to a multiple of 8                                │
//! ```
//!
//! All little-endian. `length` counts header and payload without the zeros behind it. Kind 0 is padding: only its
//! first 8 bytes exist, its length reaches exactly to the end of the ring, and its flags hold the check's low half.

use zerocopy::IntoBytes;

use crate::limits::RECORD_HEADER_BYTES;

/// Kind 0: padding before a wrap. Never handed out.
pub(crate) const KIND_PADDING: u16 = 0;
/// Words of the header.
pub(crate) const HEADER_WORDS: usize = RECORD_HEADER_BYTES / 8;
const CHECK_SEED: u32 = 0x7464_6762;

/// What stands before the payload. The bus reads none of it but `kind` ≠ 0 and `partition` = 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordHeader {
    /// What the payload means, by the users' own table; 0 is the bus's (padding).
    pub kind: u16,
    /// Free for the kind to use.
    pub flags: u16,
    /// Reserved: 0.
    pub partition: u16,
    /// The shard of the connection.
    pub shard: u16,
    /// The slot of the connection in its shard.
    pub slot: u32,
    /// Which tenant of the slot.
    pub generation: u32,
    /// Who it is about; 0 = nobody.
    pub principal: u128,
    /// Free for the kind to use (a timestamp, a trace id).
    pub trace: u64,
}

impl RecordHeader {
    /// The six words of a record of `length` bytes that begins at `position`.
    #[inline]
    pub(crate) fn to_words(self, length: u32, position: u64) -> [u64; HEADER_WORDS] {
        let check = check_word(position, length, self.kind);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a u128")]
        let (low, high) = (self.principal as u64, (self.principal >> 64) as u64);
        [
            u64::from(length) | u64::from(self.kind) << 32 | u64::from(self.flags) << 48,
            u64::from(self.partition) | u64::from(self.shard) << 16 | u64::from(self.slot) << 32,
            u64::from(self.generation) | u64::from(check) << 32,
            self.trace,
            low,
            high,
        ]
    }

    /// The header in these words, and the check word beside it.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "fields are cut out of words"
    )]
    pub(crate) fn from_words(words: &[u64; HEADER_WORDS]) -> (Self, u32) {
        let header = Self {
            kind: (words[0] >> 32) as u16,
            flags: (words[0] >> 48) as u16,
            partition: words[1] as u16,
            shard: (words[1] >> 16) as u16,
            slot: (words[1] >> 32) as u32,
            generation: words[2] as u32,
            principal: u128::from(words[4]) | u128::from(words[5]) << 64,
            trace: words[3],
        };
        (header, (words[2] >> 32) as u32)
    }
}

/// Ties a header to the place at which it was written: stale memory of an earlier lap does not pass.
#[expect(
    clippy::cast_possible_truncation,
    reason = "positions are compared by their low 35 bits"
)]
#[inline]
pub(crate) const fn check_word(position: u64, length: u32, kind: u16) -> u32 {
    ((position >> 3) as u32) ^ length.rotate_left(7) ^ ((kind as u32) << 16) ^ CHECK_SEED
}

/// The one word of padding of `bytes` bytes at `position`.
#[inline]
pub(crate) const fn padding_word(bytes: u32, position: u64) -> u64 {
    let check = check_word(position, bytes, KIND_PADDING) & 0xffff;
    bytes as u64 | (KIND_PADDING as u64) << 32 | (check as u64) << 48
}

/// What a record with this much payload takes of its ring, without padding before a wrap.
#[must_use]
pub const fn record_span_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(8)
}

/// Private memory that holds a copy of one record's payload. Make one per consumer and use it again and again: it
/// grows to the largest record of its ring and stays there.
#[derive(Clone, Debug, Default)]
pub struct RecordCopy {
    words: Vec<u64>,
    payload_bytes: usize,
}

impl RecordCopy {
    /// Room for records of up to `record_bytes_max` bytes (header and payload).
    #[must_use]
    pub fn with_room(record_bytes_max: usize) -> Self {
        let words = record_bytes_max
            .saturating_sub(RECORD_HEADER_BYTES)
            .div_ceil(8);
        Self {
            words: vec![0; words],
            payload_bytes: 0,
        }
    }

    /// The payload of the record read last, at an 8-byte-aligned address. Empty after anything but a record.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.words.as_bytes()[..self.payload_bytes]
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.payload_bytes = 0;
    }

    /// The words for a payload of this size, to be overwritten, all of them.
    #[inline]
    pub(crate) fn fill(&mut self, payload_bytes: usize) -> &mut [u64] {
        let count = payload_bytes.div_ceil(8);
        if self.words.len() < count {
            self.grow(count);
        }
        self.payload_bytes = payload_bytes;
        &mut self.words[..count]
    }

    #[cold]
    fn grow(&mut self, count: usize) {
        self.words.resize(count, 0);
    }
}
