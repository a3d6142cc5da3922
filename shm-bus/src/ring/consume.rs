//! The consumer: copies out, checks the copy, gives room back when told to.

use super::RingShape;
use crate::{
    counters::{Counter, Counters},
    error::Damage,
    identity::Position,
    layout,
    limits::{POSITION_MAX, RECORD_HEADER_BYTES},
    memory::{Memory, Word, Words},
    record::{HEADER_WORDS, KIND_PADDING, RecordCopy, RecordHeader, check_word, padding_word},
    sync::{Arc, Ordering},
};

/// What the next record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A record; its payload is in the copy.
    Record(RecordHeader),
    /// Nothing is published beyond [`Consumer::position`].
    Empty,
    /// Something no producer writes. Counted.
    Bad(Bad),
}

/// What was wrong, and what became of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// What was found.
    pub damage: Damage,
    /// True: the records behind it cannot be found; every further call says the same, and the users of this ring
    /// treat its producer as dead. False: the one record was skipped.
    pub condemned: bool,
}

/// The reading end of a ring. One per ring; it may move to another thread, but not be shared.
pub struct Consumer {
    shape: RingShape,
    ring: Words,
    published_word: Word,
    released_word: Word,
    read: u64,
    released: u64,
    /// The producer's cursor as read last: never more than what it is now.
    published: u64,
    condemned: Option<Damage>,
    /// The lock of the role in which this end is held: the role lasts as long as the end.
    role: Option<std::sync::Arc<dyn std::any::Any + Send + Sync>>,
    /// `next` has told that the ring is condemned.
    told: bool,
    counters: Counters,
    records: u64,
}

impl Consumer {
    /// Over its own file's memory and its producer's. It begins at the position released last: what an earlier
    /// consumer read but did not release is read again.
    pub(crate) fn over(
        shape: RingShape,
        own: &Arc<Memory>,
        peer: &Arc<Memory>,
        port_offset: usize,
        ring_offset: usize,
    ) -> Result<Self, Damage> {
        let released_word = Word::at(own, port_offset + layout::PORT_RELEASED_OFFSET);
        // This side wrote `released` itself (perhaps in an earlier life): Relaxed.
        let released = released_word.load(Ordering::Relaxed);
        if !released.is_multiple_of(8) || released > POSITION_MAX {
            let (found, least, most) = (released, 0, POSITION_MAX);
            return Err(Damage::Cursor { found, least, most });
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "ring_bytes is at most RING_BYTES_MAX"
        )]
        let ring = Words::at(peer, ring_offset, shape.ring_bytes as usize);
        let counters = Counters::at(own, port_offset);
        let mut consumer = Self {
            shape,
            ring,
            published_word: Word::at(peer, port_offset + layout::PORT_PUBLISHED_OFFSET),
            released_word,
            read: released,
            released,
            published: released,
            condemned: None,
            role: None,
            told: false,
            records: counters.get(Counter::RecordsIn),
            counters,
        };
        consumer.look_at_published()?;
        Ok(consumer)
    }

    #[cfg_attr(
        loom,
        expect(dead_code, reason = "segments do not exist in model runs")
    )]
    pub(crate) fn hold(&mut self, role: std::sync::Arc<dyn std::any::Any + Send + Sync>) {
        self.role = Some(role);
    }

    /// Copies the next record out and checks the copy. Never waits; never reads outside the ring; each call either
    /// goes forward, says `Empty`, or has condemned the ring.
    #[inline]
    pub fn next(&mut self, copy: &mut RecordCopy) -> Read {
        copy.clear();
        // Bounded: a turn of this loop either leaves it or takes padding, which ends at the ring's end; what follows
        // padding is at the ring's beginning, and padding there would be a whole ring long, which is refused.
        loop {
            if self.read == self.published || self.condemned.is_some() {
                if let Err(damage) = self.look_at_published() {
                    return self.condemn(damage);
                }
                if self.read == self.published {
                    return Read::Empty;
                }
            }
            let (position, index) = (self.read, self.shape.word_index(self.read));
            let available = self.published - position;
            let to_end = self.shape.to_end_bytes(position);
            // The control word: read once, here, and never again.
            let first = self.ring.load(index);
            #[expect(
                clippy::cast_possible_truncation,
                reason = "length is the low half, kind the 16 bits behind it"
            )]
            let (length, kind) = (first as u32, (first >> 32) as u16);
            if kind == KIND_PADDING {
                match self.padding(first, length, available, to_end) {
                    Ok(bytes) => self.read += bytes,
                    Err(damage) => return self.condemn(damage),
                }
                continue;
            }
            let most = u64::from(self.shape.record_bytes_max)
                .min(available)
                .min(to_end);
            if u64::from(length) > most || (length as usize) < RECORD_HEADER_BYTES {
                return self.condemn_length(length, most);
            }
            // The rest of the header, into registers; the payload, into the copy. The ring is not looked at again.
            let mut words = [first, 0, 0, 0, 0, 0];
            for (offset, word) in words.iter_mut().enumerate().skip(1) {
                *word = self.ring.load(index + offset);
            }
            let (header, found) = RecordHeader::from_words(&words);
            let expected = check_word(position, length, kind);
            if found != expected {
                return self.condemn(Damage::Check {
                    position,
                    found,
                    expected,
                });
            }
            let payload_bytes = length as usize - RECORD_HEADER_BYTES;
            self.ring
                .copy_out(index + HEADER_WORDS, copy.fill(payload_bytes));
            self.read += (length as usize).next_multiple_of(8) as u64;
            if header.partition != 0 {
                copy.clear();
                return self.skipped(Damage::Reserved {
                    position,
                    found: header.partition,
                });
            }
            self.records += 1;
            self.counters.set(Counter::RecordsIn, self.records);
            return Read::Record(header);
        }
    }

    /// Whether `next` has nothing new to say: what a consumer asks between announcing its sleep and sleeping. A
    /// condemned ring is empty once `next` has said so.
    pub fn is_empty(&mut self) -> bool {
        if self.condemned.is_none() && self.read == self.published {
            // Damage found here is told by the next `next`.
            let _ = self.look_at_published();
        }
        if self.condemned.is_some() {
            self.told
        } else {
            self.read == self.published
        }
    }

    /// How full the ring is, 0 to 100: what was published and not given back.
    pub fn fill_percent(&mut self) -> u32 {
        // Damage found here is told by the next `next`.
        let _ = self.look_at_published();
        let filled = (self.published - self.released) * 100 / self.shape.ring_bytes;
        u32::try_from(filled)
            .expect("at most 100: published - released is checked against ring_bytes")
    }

    /// Checks padding, and tells its size.
    fn padding(&self, word: u64, length: u32, available: u64, to_end: u64) -> Result<u64, Damage> {
        let position = self.read;
        let most = u64::from(self.shape.record_bytes_max) - 8;
        if u64::from(length) != to_end || to_end > available || to_end > most {
            let most =
                u32::try_from(to_end.min(available).min(most)).expect("at most record_bytes_max");
            return Err(Damage::Length {
                position,
                found: length,
                least: 8,
                most,
            });
        }
        let expected = padding_word(length, position);
        if word != expected {
            let (found, expected) = ((word >> 48) as u32, (expected >> 48) as u32);
            return Err(Damage::Check {
                position,
                found,
                expected,
            });
        }
        Ok(to_end)
    }

    /// End of the record read last (or skipped).
    #[must_use]
    #[inline]
    pub fn position(&self) -> Position {
        Position::from_raw(self.read)
    }

    /// End of the last record that the producer was seen to have published: at this end's beginning, all that was there.
    #[must_use]
    pub fn published(&self) -> Position {
        Position::from_raw(self.published)
    }

    /// How far room was given back.
    #[must_use]
    #[inline]
    pub fn released(&self) -> Position {
        Position::from_raw(self.released)
    }

    /// Gives the room before `position` back to the producer. What was released is never read again, by anybody: a
    /// backend releases after its commit. A position outside [released, position] is brought to the nearer end.
    #[inline]
    pub fn release_to(&mut self, position: Position) {
        let to = position.get().clamp(self.released, self.read) & !7;
        if to > self.released {
            crate::fault::point("consume.before_release");
            // SYNC(space-free)
            self.released_word.store(to, Ordering::Release);
            self.released = to;
            crate::fault::point("consume.after_release");
        }
    }

    /// Moves on to a position that this consumer's user knows to be settled (its store says so), without looking at
    /// the records before it. Only forward, and only to what is published; tells whether it moved.
    pub fn skip_to(&mut self, position: Position) -> bool {
        let _ = self.look_at_published();
        let sound = position.get() > self.read
            && position.get() <= self.published
            && position.get().is_multiple_of(8);
        if sound && self.condemned.is_none() {
            self.read = position.get();
        }
        sound && self.condemned.is_none()
    }

    /// Goes back to what was released, as the next consumer of this ring would begin: for users that begin anew
    /// within one process.
    pub fn rewind(&mut self) {
        self.read = self.released;
    }

    /// Why this ring is unusable, if so.
    #[must_use]
    pub fn condemned(&self) -> Option<Damage> {
        self.condemned
    }

    #[cold]
    fn condemn_length(&mut self, found: u32, most: u64) -> Read {
        let most = u32::try_from(most).expect("at most record_bytes_max");
        let least = u32::try_from(RECORD_HEADER_BYTES).expect("48");
        self.condemn(Damage::Length {
            position: self.read,
            found,
            least,
            most,
        })
    }

    #[cold]
    fn condemn(&mut self, damage: Damage) -> Read {
        if self.condemned.is_none() {
            self.condemned = Some(damage);
            self.counters.add(Counter::BadRecords, 1);
        }
        self.told = true;
        Read::Bad(Bad {
            damage,
            condemned: true,
        })
    }

    #[cold]
    fn skipped(&mut self, damage: Damage) -> Read {
        self.counters.add(Counter::BadRecords, 1);
        Read::Bad(Bad {
            damage,
            condemned: false,
        })
    }

    /// Reads the producer's cursor once, checks it, keeps it.
    #[inline]
    fn look_at_published(&mut self) -> Result<(), Damage> {
        if let Some(damage) = self.condemned {
            return Err(damage);
        }
        // SYNC(record-complete)
        let found = self.published_word.load(Ordering::Acquire);
        let most = self.released.saturating_add(self.shape.ring_bytes);
        if found < self.published || found > most || !found.is_multiple_of(8) {
            let damage = Damage::Cursor {
                found,
                least: self.published,
                most,
            };
            self.condemned = Some(damage);
            self.counters.add(Counter::BadRecords, 1);
            return Err(damage);
        }
        self.published = found;
        Ok(())
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("ring_bytes", &self.shape.ring_bytes)
            .field("read", &self.read)
            .field("released", &self.released)
            .field("condemned", &self.condemned)
            .finish_non_exhaustive()
    }
}
