//! From claim to commit. A claim that is dropped is abandoned: nothing was published, nothing is left.

use super::claim::Producer;
use crate::{
    counters::Counter,
    identity::Position,
    limits::RECORD_HEADER_BYTES,
    record::{HEADER_WORDS, KIND_PADDING, RecordHeader, padding_word, record_span_bytes},
    sync::Ordering,
};

/// Room for one record. Nobody sees it before [`commit`](Self::commit).
#[derive(Debug)]
pub struct Claim<'a> {
    producer: &'a mut Producer,
    /// Where the record begins: bytes since the ring was made, and as an index of words.
    position: u64,
    index: usize,
    payload_bytes: usize,
    /// loom's atomics are no plain bytes: in model runs the payload is staged, and stored word by word.
    #[cfg(loom)]
    staged: Vec<u8>,
}

impl<'a> Claim<'a> {
    #[inline]
    pub(super) fn new(producer: &'a mut Producer, position: u64, payload_bytes: usize) -> Self {
        let index = producer.shape.word_index(position);
        if !payload_bytes.is_multiple_of(8) {
            // What fills the last word is zeros, not a record of an earlier lap.
            let last = index + record_span_bytes(payload_bytes) / 8 - 1;
            producer.ring.store(last, 0);
        }
        Self {
            producer,
            position,
            index,
            payload_bytes,
            #[cfg(loom)]
            staged: vec![0; payload_bytes],
        }
    }

    /// The payload, 8-byte aligned, with whatever an earlier record left there: write all of it.
    #[cfg(not(loom))]
    #[inline]
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let index = self.index + HEADER_WORDS;
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
    pub fn commit(self, header: RecordHeader) -> Position {
        assert_ne!(header.kind, KIND_PADDING, "kind 0 is padding's");
        let length = u32::try_from(RECORD_HEADER_BYTES + self.payload_bytes)
            .expect("at most record_bytes_max");
        let end = self.position + record_span_bytes(self.payload_bytes) as u64;
        let producer = self.producer;
        if self.position > producer.published {
            let padding =
                u32::try_from(self.position - producer.published).expect("less than a record");
            let at = producer.shape.word_index(producer.published);
            producer
                .ring
                .store(at, padding_word(padding, producer.published));
        }
        let words = header.to_words(length, self.position);
        for (offset, word) in words.into_iter().enumerate() {
            producer.ring.store(self.index + offset, word);
        }
        #[cfg(loom)]
        for (offset, bytes) in self.staged.chunks(8).enumerate() {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            producer
                .ring
                .store(self.index + HEADER_WORDS + offset, u64::from_le_bytes(word));
        }
        crate::fault::point("commit.before_publish");
        // SYNC(record-complete)
        producer.published_word.store(end, Ordering::Release);
        producer.published = end;
        crate::fault::point("commit.after_publish");
        producer.records += 1;
        producer.counters.set(Counter::RecordsOut, producer.records);
        Position::from_raw(end)
    }

    /// Gives the claim up. The same as dropping it, said aloud.
    pub fn abandon(self) {}
}
