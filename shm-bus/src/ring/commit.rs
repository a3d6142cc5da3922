//! From claim to commit. A claim that is dropped is abandoned: nothing was published, nothing is left.

use super::claim::Producer;
use crate::{
    counters::Counter,
    limits::RECORD_HEADER_BYTES,
    record::{KIND_PADDING, RecordHeader, padding_word, record_span_bytes},
    sync::Ordering,
};

/// Room for one record. Nobody sees it before [`commit`](Self::commit).
#[derive(Debug)]
pub struct Claim<'a> {
    producer: &'a mut Producer,
    padding: u64,
    payload_bytes: usize,
    /// loom's atomics are no plain bytes: in model runs the payload is staged, and stored word by word.
    #[cfg(loom)]
    staged: Vec<u8>,
}

impl<'a> Claim<'a> {
    pub(super) fn new(producer: &'a mut Producer, padding: u64, payload_bytes: usize) -> Self {
        let claim = Self {
            producer,
            padding,
            payload_bytes,
            #[cfg(loom)]
            staged: vec![0; payload_bytes],
        };
        if !payload_bytes.is_multiple_of(8) {
            // What fills the last word is zeros, not a record of an earlier lap.
            let last = claim.word_index() + record_span_bytes(payload_bytes) / 8 - 1;
            claim.producer.ring.store(last, 0);
        }
        claim
    }

    /// Where the record begins, as bytes since the ring was made.
    fn position(&self) -> u64 {
        self.producer.published + self.padding
    }

    fn word_index(&self) -> usize {
        self.producer.shape.word_index(self.position())
    }

    /// The payload, 8-byte aligned, with whatever an earlier record left there: write all of it.
    #[cfg(not(loom))]
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let index = self.word_index() + RECORD_HEADER_BYTES / 8;
        // SAFETY: a claim borrows its ring's one producer, whose memory is its own (peers map it read-only), and
        // lies outside [released, published): the consumer does not read there.
        unsafe { self.producer.ring.claim_bytes(index, self.payload_bytes) }
    }

    /// The payload, staged.
    #[cfg(loom)]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.staged
    }

    /// Publishes the record and tells its end. The doorbell is [`Producer::ring`]'s, once a batch.
    ///
    /// # Panics
    /// `header.kind` is 0, which is padding's.
    #[inline]
    pub fn commit(self, header: RecordHeader) -> crate::Position {
        assert_ne!(header.kind, KIND_PADDING, "kind 0 is padding's");
        let length = u32::try_from(RECORD_HEADER_BYTES + self.payload_bytes)
            .expect("at most record_bytes_max");
        let (position, index) = (self.position(), self.word_index());
        let end = position + record_span_bytes(self.payload_bytes) as u64;
        let producer = self.producer;
        if self.padding > 0 {
            let padding = u32::try_from(self.padding).expect("less than a record");
            producer.ring.store(
                producer.shape.word_index(producer.published),
                padding_word(padding, producer.published),
            );
        }
        for (offset, word) in header.to_words(length, position).into_iter().enumerate() {
            producer.ring.store(index + offset, word);
        }
        #[cfg(loom)]
        for (offset, bytes) in self.staged.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            producer.ring.store(
                index + RECORD_HEADER_BYTES / 8 + offset,
                u64::from_le_bytes(word),
            );
        }
        crate::fault::point("commit.before_publish");
        // SYNC(record-complete)
        producer.published_word.store(end, Ordering::Release);
        producer.published = end;
        crate::fault::point("commit.after_publish");
        producer.records += 1;
        producer.counters.set(Counter::RecordsOut, producer.records);
        crate::Position::from_raw(end)
    }

    /// Gives the claim up. The same as dropping it, said aloud.
    pub fn abandon(self) {}
}
