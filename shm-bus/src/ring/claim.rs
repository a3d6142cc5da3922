//! The producer: claims room, never waits for it.

use super::{RingShape, commit::Claim};
use crate::{
    counters::{Counter, Counters},
    doorbell::Ringer,
    error::{ClaimError, Damage},
    identity::Position,
    layout,
    limits::{POSITION_MAX, RECORD_HEADER_BYTES},
    memory::{Memory, Word, Words},
    record::record_span_bytes,
    sync::{Arc, Ordering, fence},
};

/// What a claim came to.
#[derive(Debug)]
pub enum Claimed<'a> {
    /// Room for the record: write the payload, then commit. Dropped uncommitted, it never was.
    Claimed(Claim<'a>),
    /// No room until the consumer releases some.
    Full,
}

/// The writing end of a ring. One per ring; it may move to another thread, but not be shared.
pub struct Producer {
    pub(super) shape: RingShape,
    pub(super) ring: Words,
    pub(super) published_word: Word,
    claimed_word: Word,
    released_word: Word,
    pub(super) published: u64,
    /// The end of the farthest claim ever made, abandoned ones and those of earlier lives included.
    claimed: u64,
    /// The consumer's cursor as read last: never more than what it is now, so it is safe to go by.
    released: u64,
    condemned: Option<Damage>,
    /// The lock of the role in which this end is held: the role lasts as long as the end.
    role: Option<std::sync::Arc<dyn std::any::Any + Send + Sync>>,
    ringer: Option<Ringer>,
    pub(super) counters: Counters,
    pub(super) records: u64,
    full: u64,
}

impl Producer {
    /// Over its own file's memory and its consumer's; the port page and the ring lie at these offsets.
    /// A fresh ring begins at 0; a ring that had a producer goes on where that one published last.
    pub(crate) fn over(
        shape: RingShape,
        own: &Arc<Memory>,
        peer: &Arc<Memory>,
        port_offset: usize,
        ring_offset: usize,
    ) -> Result<Self, Damage> {
        let published_word = Word::at(own, port_offset + layout::PORT_PUBLISHED_OFFSET);
        let released_word = Word::at(peer, port_offset + layout::PORT_RELEASED_OFFSET);
        // This side wrote `published` itself (perhaps in an earlier life): Relaxed.
        let published = published_word.load(Ordering::Relaxed);
        if !published.is_multiple_of(8) || published > POSITION_MAX {
            let (found, least, most) = (published, 0, POSITION_MAX);
            return Err(Damage::Cursor { found, least, most });
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "ring_bytes is at most RING_BYTES_MAX"
        )]
        let ring = Words::at(own, ring_offset, shape.ring_bytes as usize);
        let counters = Counters::at(own, port_offset);
        let claimed_word = Word::at(own, port_offset + layout::PORT_CLAIMED_OFFSET);
        let mut producer = Self {
            shape,
            ring,
            published_word,
            claimed: claimed_word
                .load(Ordering::Relaxed)
                .min(published + shape.ring_bytes),
            claimed_word,
            released_word,
            published,
            released: published.saturating_sub(shape.ring_bytes),
            condemned: None,
            role: None,
            ringer: None,
            records: counters.get(Counter::RecordsOut),
            full: counters.get(Counter::RingFull),
            counters,
        };
        producer.look_at_released()?;
        Ok(producer)
    }

    #[cfg_attr(
        loom,
        expect(dead_code, reason = "segments do not exist in model runs")
    )]
    pub(crate) fn set_ringer(&mut self, ringer: Ringer) {
        self.ringer = Some(ringer);
    }

    #[cfg_attr(
        loom,
        expect(dead_code, reason = "segments do not exist in model runs")
    )]
    pub(crate) fn hold(&mut self, role: std::sync::Arc<dyn std::any::Any + Send + Sync>) {
        self.role = Some(role);
    }

    /// Claims room for one record with this much payload. Never waits.
    ///
    /// # Errors
    /// [`ClaimError::TooLarge`]: it would fit no empty ring either. [`ClaimError::Condemned`]: the consumer's cursor
    /// is impossible, now or before.
    #[inline]
    pub fn claim(&mut self, payload_bytes: usize) -> Result<Claimed<'_>, ClaimError> {
        let payload_bytes_max = self.payload_bytes_max();
        if payload_bytes > payload_bytes_max {
            return Err(ClaimError::TooLarge {
                payload_bytes,
                payload_bytes_max,
            });
        }
        let span = record_span_bytes(payload_bytes) as u64;
        let to_end = self.shape.to_end_bytes(self.published);
        let padding = if span > to_end { to_end } else { 0 };
        let end = self.published + padding + span;
        if end - self.released > self.shape.ring_bytes {
            self.look_at_released().map_err(ClaimError::Condemned)?;
            if end - self.released > self.shape.ring_bytes {
                self.full += 1;
                self.counters.set(Counter::RingFull, self.full);
                return Ok(Claimed::Full);
            }
        }
        // SYNC(lapped): a tap that reads bytes of this claim also reads this `claimed`, and drops its copy. It never
        // goes back: an abandoned claim may have been written to.
        if end > self.claimed {
            self.claimed = end;
            self.claimed_word.store(end, Ordering::Relaxed);
        }
        fence(Ordering::Release);
        crate::fault::point("claim.before_commit");
        Ok(Claimed::Claimed(Claim::new(
            self,
            end - span,
            payload_bytes,
        )))
    }

    /// The largest payload that [`claim`](Self::claim) takes.
    #[must_use]
    #[inline]
    pub fn payload_bytes_max(&self) -> usize {
        self.shape.record_bytes_max as usize - RECORD_HEADER_BYTES
    }

    /// Room that is there for certain: records whose [`record_span_bytes`] add up to at most this can all be claimed
    /// now, whatever their sizes (what padding before the wrap may cost is taken off). Looks at the consumer's
    /// cursor. 0 on a condemned ring.
    pub fn room_bytes(&mut self) -> usize {
        if self.look_at_released().is_err() {
            return 0;
        }
        let free = self.shape.ring_bytes - (self.published - self.released);
        let to_end = self.shape.to_end_bytes(self.published);
        // A record that does not fit before the end leaves less than its own span unused there.
        let wasted = if free > to_end {
            to_end.min(u64::from(self.shape.record_bytes_max) - 8)
        } else {
            0
        };
        usize::try_from(free - wasted).expect("at most RING_BYTES_MAX")
    }

    /// How full the ring is, 0 to 100: what was committed and not given back. Looks at the consumer's cursor; 100 on a
    /// condemned ring.
    pub fn fill_percent(&mut self) -> u32 {
        if self.look_at_released().is_err() {
            return 100;
        }
        let filled = (self.published - self.released) * 100 / self.shape.ring_bytes;
        u32::try_from(filled)
            .expect("at most 100: published - released is checked against ring_bytes")
    }

    /// End of the last committed record.
    #[must_use]
    pub fn position(&self) -> Position {
        Position::from_raw(self.published)
    }

    /// How far the consumer has given back. Looks at its cursor.
    pub fn released(&mut self) -> Position {
        // A condemned ring stays where it was when it was last sound.
        let _ = self.look_at_released();
        Position::from_raw(self.released)
    }

    /// Why nothing is written here any more, if so.
    #[must_use]
    pub fn condemned(&self) -> Option<Damage> {
        self.condemned
    }

    /// Rings the consumer's doorbell if it sleeps: once after a batch of commits.
    #[inline]
    pub fn ring(&self) {
        crate::fault::point("ring.before_doorbell");
        if let Some(ringer) = &self.ringer
            && ringer.ring()
        {
            self.counters.add(Counter::DoorbellsRung, 1);
        }
    }

    /// Reads the consumer's cursor once, checks it, keeps it.
    #[inline]
    fn look_at_released(&mut self) -> Result<(), Damage> {
        if let Some(damage) = self.condemned {
            return Err(damage);
        }
        // SYNC(space-free)
        let found = self.released_word.load(Ordering::Acquire);
        if found < self.released || found > self.published || !found.is_multiple_of(8) {
            let damage = Damage::Cursor {
                found,
                least: self.released,
                most: self.published,
            };
            self.condemned = Some(damage);
            return Err(damage);
        }
        self.released = found;
        Ok(())
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer")
            .field("ring_bytes", &self.shape.ring_bytes)
            .field("published", &self.published)
            .field("released", &self.released)
            .field("condemned", &self.condemned)
            .finish_non_exhaustive()
    }
}
