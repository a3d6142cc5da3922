//! A tap: reads what goes through a ring without a trace, and knows when it was lapped.
//!
//! A tap takes no room and gives none back: the producer does not know of it, and may be writing where it reads. So it
//! copies first, and then asks how far the producer had claimed: what was read lies in [position, …), and is whole
//! only if nothing beyond `position + ring_bytes` was claimed by then.

use super::RingShape;
use crate::{
    identity::Position,
    layout,
    limits::RECORD_HEADER_BYTES,
    memory::{Memory, Word, Words},
    record::{HEADER_WORDS, KIND_PADDING, RecordCopy, RecordHeader, check_word, padding_word},
    sync::{Arc, Ordering, fence},
};

/// What a tap saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tapped {
    /// A record, whole; its payload is in the copy.
    Record(RecordHeader),
    /// Nothing new.
    Empty,
    /// The producer went past this tap, or wrote something that is no record ([`Tap::bad_records`] tells which): the tap
    /// goes on at what is published now. So many bytes of records (with their headers and padding) were missed.
    Lapped {
        /// Bytes between where the tap was and where it goes on.
        missed_bytes: u64,
    },
}

/// A read-only observer of one ring. Any number of them; none slows, blocks or changes anything.
pub struct Tap {
    shape: RingShape,
    ring: Words,
    published_word: Word,
    claimed_word: Word,
    read: u64,
    missed_bytes: u64,
    bad_records: u64,
    /// What the models leave out, to see that they notice.
    #[cfg(all(test, loom))]
    pub(super) planted: Planted,
}

/// A part of `SYNC(lapped)` that a model leaves out of a tap.
#[cfg(all(test, loom))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Planted {
    #[default]
    Nothing,
    /// No look at `claimed` behind the copy.
    NoSecondLook,
    /// The look, without the fence in front of it.
    NoFence,
}

impl Tap {
    /// Over the memory of the ring's producer, from what is published now.
    pub(crate) fn over(
        shape: RingShape,
        producer: &Arc<Memory>,
        port_offset: usize,
        ring_offset: usize,
    ) -> Self {
        let published_word = Word::at(producer, port_offset + layout::PORT_PUBLISHED_OFFSET);
        let ring_bytes = usize::try_from(shape.ring_bytes).expect("at most RING_BYTES_MAX");
        Self {
            shape,
            ring: Words::at(producer, ring_offset, ring_bytes),
            // SYNC(record-complete)
            read: published_word.load(Ordering::Acquire) & !7,
            published_word,
            claimed_word: Word::at(producer, port_offset + layout::PORT_CLAIMED_OFFSET),
            missed_bytes: 0,
            bad_records: 0,
            #[cfg(all(test, loom))]
            planted: Planted::default(),
        }
    }

    /// Size of the ring.
    #[must_use]
    pub const fn ring_bytes(&self) -> u64 {
        self.shape.ring_bytes
    }

    /// The largest record, header and payload, bytes.
    #[must_use]
    pub const fn record_bytes_max(&self) -> u32 {
        self.shape.record_bytes_max
    }

    /// Goes on at a position at which a record begins: 0 for a ring that was made just now, or what its consumer gave
    /// back. What was written over since is told as [`Tapped::Lapped`]; so is a position at which no record begins.
    pub fn go_to(&mut self, position: Position) {
        self.read = position.get() & !7;
    }

    /// Copies the next record out, if it is there and was not overwritten meanwhile.
    pub fn next(&mut self, copy: &mut RecordCopy) -> Tapped {
        copy.clear();
        loop {
            // SYNC(record-complete)
            let published = self.published_word.load(Ordering::Acquire) & !7;
            if published == self.read {
                return Tapped::Empty;
            }
            // A cursor that went back or jumped is nobody's doing but damage; the copy below would not be whole.
            if published < self.read || published - self.read > self.shape.ring_bytes {
                return self.lapped(published);
            }
            let found = self.copy_out(published - self.read, copy);
            let overwritten = self.was_overwritten();
            match found {
                Some((span, header)) if !overwritten => {
                    self.read += span;
                    match header {
                        // What a consumer skips is not shown.
                        Some(header) if header.partition != 0 => {
                            copy.clear();
                            self.bad_records += 1;
                        }
                        Some(header) => return Tapped::Record(header),
                        None => {}
                    }
                }
                // Overwritten; or, if not, no record of ours: a tap has nobody to tell but its user, and goes on.
                Some(_) | None => {
                    copy.clear();
                    self.bad_records += u64::from(!overwritten);
                    return self.lapped(published);
                }
            }
        }
    }

    /// The second look: whether anything that was read behind `self.read` may be of a later lap.
    fn was_overwritten(&self) -> bool {
        #[cfg(all(test, loom))]
        match self.planted {
            Planted::Nothing => fence(Ordering::Acquire),
            Planted::NoFence => {}
            Planted::NoSecondLook => return false,
        }
        // SYNC(lapped): if any word above was of a later claim, this sees that claim.
        #[cfg(not(all(test, loom)))]
        fence(Ordering::Acquire);
        let claimed = self.claimed_word.load(Ordering::Relaxed);
        claimed.saturating_sub(self.read) > self.shape.ring_bytes
    }

    /// One record or padding at `self.read`: its span, and the header if it is a record. `None` if it is neither.
    fn copy_out(
        &self,
        available: u64,
        copy: &mut RecordCopy,
    ) -> Option<(u64, Option<RecordHeader>)> {
        let index = self.shape.word_index(self.read);
        let to_end = self.shape.to_end_bytes(self.read);
        let first = self.ring.load(index);
        #[expect(
            clippy::cast_possible_truncation,
            reason = "length is the low half, kind the 16 bits behind it"
        )]
        let (length, kind) = (first as u32, (first >> 32) as u16);
        if kind == KIND_PADDING {
            let sound = u64::from(length) == to_end
                && to_end <= available
                && to_end <= u64::from(self.shape.record_bytes_max) - 8
                && first == padding_word(length, self.read);
            return sound.then_some((to_end, None));
        }
        let most = u64::from(self.shape.record_bytes_max)
            .min(available)
            .min(to_end);
        if u64::from(length) > most || (length as usize) < RECORD_HEADER_BYTES {
            return None;
        }
        let mut words = [first, 0, 0, 0, 0, 0];
        for (offset, word) in words.iter_mut().enumerate().skip(1) {
            *word = self.ring.load(index + offset);
        }
        let (header, check) = RecordHeader::from_words(&words);
        if check != check_word(self.read, length, kind) {
            return None;
        }
        let payload_bytes = length as usize - RECORD_HEADER_BYTES;
        self.ring
            .copy_out(index + HEADER_WORDS, copy.fill(payload_bytes));
        Some((u64::from(length).next_multiple_of(8), Some(header)))
    }

    #[cold]
    fn lapped(&mut self, published: u64) -> Tapped {
        let missed_bytes = published.saturating_sub(self.read);
        self.read = published;
        self.missed_bytes = self.missed_bytes.saturating_add(missed_bytes);
        Tapped::Lapped { missed_bytes }
    }

    /// End of the record seen last.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::from_raw(self.read)
    }

    /// How far the producer is now.
    #[must_use]
    pub fn published(&self) -> Position {
        Position::from_raw(self.published_word.load(Ordering::Relaxed))
    }

    /// Records met, not overwritten, that no producer writes: skipped, or gone past.
    #[must_use]
    pub fn bad_records(&self) -> u64 {
        self.bad_records
    }

    /// Bytes missed in all.
    #[must_use]
    pub fn missed_bytes(&self) -> u64 {
        self.missed_bytes
    }
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap")
            .field("read", &self.read)
            .finish_non_exhaustive()
    }
}
