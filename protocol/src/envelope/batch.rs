//! Reading and writing batches. The envelopes of a batch are independent: those before a bad one count.

use zerocopy::{FromBytes as _, IntoBytes as _};

use super::{ENVELOPE_HEADER_BYTES, Envelope, EnvelopeHeader, Kind};
use crate::limits::{ENVELOPE_PAYLOAD_BYTES_MAX, ENVELOPES_PER_BATCH_MAX};

/// Where a batch stops being one. Answered with Error `malformed_envelope`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than a header are left.
    #[error("{0} bytes are left where a header has {ENVELOPE_HEADER_BYTES}")]
    HeaderTruncated(usize),
    /// The header declares more than [`ENVELOPE_PAYLOAD_BYTES_MAX`].
    #[error("a payload of {0} bytes is longer than {ENVELOPE_PAYLOAD_BYTES_MAX}")]
    PayloadTooLong(u32),
    /// The header declares more than is there.
    #[error("a payload of {declared} bytes was declared and {found} are left")]
    PayloadTruncated {
        /// What the header says.
        declared: u32,
        /// What follows it.
        found: usize,
    },
    /// More than [`ENVELOPES_PER_BATCH_MAX`].
    #[error("more than {ENVELOPES_PER_BATCH_MAX} envelopes in one batch")]
    TooMany,
}

/// Iterates over the envelopes of one WebSocket message. After an error it is at its end.
#[derive(Clone, Debug)]
pub struct BatchReader<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> BatchReader<'a> {
    /// Over the payload of one binary message.
    #[must_use]
    pub const fn new(message: &'a [u8]) -> Self {
        Self {
            rest: message,
            taken: 0,
        }
    }

    /// What follows the envelopes taken so far.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self) -> Result<Envelope<'a>, BatchError> {
        if self.taken == ENVELOPES_PER_BATCH_MAX {
            return Err(BatchError::TooMany);
        }
        let (header, tail) = EnvelopeHeader::ref_from_prefix(self.rest)
            .map_err(|_| BatchError::HeaderTruncated(self.rest.len()))?;
        let declared = header.payload_bytes.get();
        if declared as usize > ENVELOPE_PAYLOAD_BYTES_MAX {
            return Err(BatchError::PayloadTooLong(declared));
        }
        let (payload, rest) =
            tail.split_at_checked(declared as usize)
                .ok_or(BatchError::PayloadTruncated {
                    declared,
                    found: tail.len(),
                })?;
        self.rest = rest;
        self.taken += 1;
        Ok(Envelope {
            kind: header.kind,
            timestamp_us: header.timestamp_us.get(),
            payload,
        })
    }
}

impl<'a> Iterator for BatchReader<'a> {
    type Item = Result<Envelope<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let taken = self.take();
        if taken.is_err() {
            self.rest = &[];
        }
        Some(taken)
    }
}

impl core::iter::FusedIterator for BatchReader<'_> {}

impl EnvelopeHeader {
    /// The header of a payload.
    ///
    /// # Panics
    /// When the payload is longer than a u32 can say; [`ENVELOPE_PAYLOAD_BYTES_MAX`] is far below.
    #[must_use]
    pub fn new(kind: Kind, timestamp_us: u64, payload_bytes: usize) -> Self {
        let payload_bytes = u32::try_from(payload_bytes).expect("a payload within its limit");
        Self {
            kind: kind as u8,
            timestamp_us: timestamp_us.into(),
            payload_bytes: payload_bytes.into(),
        }
    }
}

/// Appends one envelope to a message that is being written.
pub fn append_envelope(out: &mut Vec<u8>, kind: Kind, timestamp_us: u64, payload: &[u8]) {
    out.reserve(ENVELOPE_HEADER_BYTES + payload.len());
    out.extend_from_slice(EnvelopeHeader::new(kind, timestamp_us, payload.len()).as_bytes());
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for (n, payload) in (0..).zip(payloads) {
            append_envelope(&mut out, Kind::Send, n, payload);
        }
        out
    }

    #[test]
    fn envelopes_come_back_in_the_order_in_which_they_were_appended() {
        let bytes = batch(&[b"a", b"", b"ccc"]);
        let read: Result<Vec<_>, _> = BatchReader::new(&bytes).collect();
        let read = read.expect("whole");
        assert_eq!(
            read.iter().map(|e| e.payload).collect::<Vec<_>>(),
            [&b"a"[..], b"", b"ccc"]
        );
        assert_eq!(read[2].timestamp_us, 2);
    }

    #[test]
    fn those_before_a_bad_one_count_wherever_the_batch_is_cut() {
        let bytes = batch(&[b"first", b"second"]);
        for cut in 0..bytes.len() {
            let read: Vec<_> = BatchReader::new(&bytes[..cut]).collect();
            let whole = read.iter().filter(|r| r.is_ok()).count();
            assert_eq!(whole, usize::from(cut >= 18), "cut at {cut}");
            assert_eq!(
                read.len() - whole,
                usize::from(cut != 0 && cut != 18),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_on_the_header() {
        let mut bytes = batch(&[b"x"]);
        bytes[9..13].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(
            BatchReader::new(&bytes).collect::<Vec<_>>(),
            [Err(BatchError::PayloadTooLong(u32::MAX))]
        );
    }

    #[test]
    fn a_batch_longer_than_its_limit_stops_there() {
        let bytes = batch(&[&b""[..]; ENVELOPES_PER_BATCH_MAX + 5]);
        let read: Vec<_> = BatchReader::new(&bytes).collect();
        assert_eq!(read.len(), ENVELOPES_PER_BATCH_MAX + 1);
        assert_eq!(read.last(), Some(&Err(BatchError::TooMany)));
    }
}
