//! One shard's two rings: how far the one was read, what room of the other is reserved for answers.
//!
//! An input is taken only when `to_gateway` has room for the longest answer beyond what is reserved already; its
//! own reservation is then what its kind may need. Derivable and transient effects use only what is not reserved.
//! So an answer has room when it comes. (Answers to *others*, a Close of a superseded connection on another gateway,
//! reserve nothing; they wait in `waiting` if they must, and nothing is taken from a ring while its `waiting` is not
//! empty: at most one per input taken.)

use std::collections::{BTreeSet, VecDeque};

use shm_bus::{Claimed, Position, Producer, RecordHeader, record_span_bytes};

use crate::engine::connections::ConnectionKey;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is in the ring.
    Yes,
    /// There is no room for it now.
    NoRoom,
}

/// State of one pair of rings.
#[derive(Debug, Default)]
pub struct Port {
    /// End of the last record taken.
    pub read_to: u64,
    /// The newest position that the store has.
    pub stored: u64,
    /// What lay in the ring when this backend came ends here: an earlier one may have answered it.
    pub left_over_to: u64,
    /// Something was taken since the last release.
    pub taken: bool,
    /// Position to release to once the running turn is published; not beyond what is held.
    pub release_to: Option<Position>,
    /// Where records begin that wait for a worker: they stay in the ring.
    pub held: BTreeSet<u64>,
    /// The producer ended and everything it published was taken, or the ring is beyond reading.
    pub read_to_end: bool,
    /// Bytes promised to answers.
    pub reserved_bytes: usize,
    /// Room known to be there; looked up again when it does not suffice.
    room_bytes: usize,
    /// Answers that found no room: header, payload.
    pub waiting: VecDeque<(RecordHeader, Box<[u8]>)>,
    /// Connections to pull when there is room.
    pub behind: VecDeque<ConnectionKey>,
    /// Something was written since the last ring of the bell.
    pub written: bool,
}

impl Port {
    /// A port whose ring the store has seen up to `stored`, and in which records up to `left_over_to` lie now.
    #[must_use]
    pub fn new(stored: u64, left_over_to: Position) -> Self {
        Self {
            stored,
            left_over_to: left_over_to.get(),
            ..Self::default()
        }
    }

    /// How far the ring may be given back now; once told, not again.
    pub fn take_release(&mut self) -> Option<Position> {
        let position = self.release_to.take()?;
        let held = self.held.first().map_or(u64::MAX, |&start| start);
        Some(Position::from_raw(position.get().min(held)))
    }

    /// Room for the longest answer to one more input?
    pub fn may_take(&mut self, producer: &mut Producer, answer_bytes_max: usize) -> bool {
        self.waiting.is_empty() && self.has_room(producer, answer_bytes_max)
    }

    /// Room for this many bytes beyond what is reserved?
    fn has_room(&mut self, producer: &mut Producer, bytes: usize) -> bool {
        if self.reserved_bytes + bytes > self.room_bytes {
            self.room_bytes = producer.room_bytes();
        }
        self.reserved_bytes + bytes <= self.room_bytes
    }

    /// Writes an answer into the room reserved for it. It is never lost: without room it waits.
    pub fn answer(&mut self, producer: &mut Producer, header: RecordHeader, payload: &[u8]) {
        self.reserved_bytes = self
            .reserved_bytes
            .saturating_sub(record_span_bytes(payload.len()));
        if !self.waiting.is_empty() || self.write(producer, header, payload) == Sent::NoRoom {
            self.waiting.push_back((header, payload.into()));
        }
    }

    /// Writes what was not promised, if there is room beyond what is.
    pub fn offer(&mut self, producer: &mut Producer, header: RecordHeader, payload: &[u8]) -> Sent {
        if !self.waiting.is_empty() || !self.has_room(producer, record_span_bytes(payload.len())) {
            return Sent::NoRoom;
        }
        self.write(producer, header, payload)
    }

    /// Writes the answers that waited, as far as there is room.
    pub fn flush_waiting(&mut self, producer: &mut Producer) {
        while let Some((header, payload)) = self.waiting.pop_front() {
            if self.write(producer, header, &payload) == Sent::NoRoom {
                self.waiting.push_front((header, payload));
                return;
            }
        }
    }

    fn write(&mut self, producer: &mut Producer, header: RecordHeader, payload: &[u8]) -> Sent {
        match producer.claim(payload.len()) {
            Ok(Claimed::Claimed(mut claim)) => {
                claim.payload_mut().copy_from_slice(payload);
                claim.commit(header);
                self.room_bytes = self
                    .room_bytes
                    .saturating_sub(record_span_bytes(payload.len()));
                self.written = true;
                Sent::Yes
            }
            Ok(Claimed::Full) => {
                self.room_bytes = 0;
                Sent::NoRoom
            }
            Err(error) => {
                // Too large for any ring, or the consumer's cursor is impossible: nobody will ever read it.
                tracing::error!(%error, kind = header.kind, "a record cannot be written");
                Sent::Yes
            }
        }
    }
}
