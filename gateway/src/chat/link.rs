//! The shard's end of the bus: where records are placed, and where they are taken from.

use super::admission::Frontier;
use super::counters::{Tally, refused_index};
use crate::id::ConnectionId;
use shm_bus::{
    BackendWatch, ClaimError, Claimed, Consumer, Counters, GatewayControl, InstanceId, Place,
    Producer, Read, RecordCopy, RecordHeader, ShardEnd, Sleeper, record_span_bytes,
};
use tidegate_protocol::fb;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Placed {
    /// It is in the ring.
    Yes,
    /// No room now.
    Full,
    /// It would fit no ring of this size.
    TooLarge,
}

/// Both rings of one shard, and its doorbell.
pub struct Link {
    shard: u16,
    to_backend: Producer,
    to_gateway: Consumer,
    sleeper: Sleeper,
    backend: BackendWatch,
    control: GatewayControl,
    counters: Counters,
    place: Place,
    copy: RecordCopy,
    /// What an empty ring has room for.
    room_bytes_max: usize,
    /// Records were placed since the backend was last rung.
    unrung: bool,
}

impl Link {
    /// Over one shard's end of the segment.
    pub fn new(mut end: ShardEnd) -> Link {
        Link {
            room_bytes_max: end.to_backend.room_bytes(),
            shard: end.shard,
            to_backend: end.to_backend,
            to_gateway: end.to_gateway,
            sleeper: end.sleeper,
            backend: end.backend,
            control: end.control,
            counters: end.counters,
            place: end.place,
            copy: RecordCopy::default(),
            unrung: false,
        }
    }

    /// The header of a record about one connection.
    pub fn header(&self, kind: u16, slot: u32, generation: u32) -> RecordHeader {
        RecordHeader {
            kind,
            shard: self.shard,
            slot,
            generation,
            ..RecordHeader::default()
        }
    }

    /// Places a whole record. Never waits. The backend is rung later, once a batch ([`Link::ring`]).
    pub fn place(
        &mut self,
        header: RecordHeader,
        payload_bytes: usize,
        write: impl FnOnce(&mut [u8]),
    ) -> Placed {
        match self.to_backend.claim(payload_bytes) {
            Ok(Claimed::Claimed(mut claim)) => {
                write(claim.payload_mut());
                claim.commit(header);
                self.unrung = true;
                Placed::Yes
            }
            Ok(Claimed::Full) => Placed::Full,
            Err(ClaimError::TooLarge { .. }) => Placed::TooLarge,
            // The backend's cursor is impossible. Nothing can be placed any more: full for good, until the process
            // that is told so (`failure`) ends and begins with a fresh segment.
            Err(_) => Placed::Full,
        }
    }

    /// Bytes of records that can be placed for certain.
    pub fn room_bytes(&mut self) -> usize {
        self.to_backend.room_bytes()
    }

    /// Whether at least half of the ring is free.
    pub fn is_half_free(&mut self) -> bool {
        self.room_bytes() >= self.room_bytes_max / 2
    }

    /// Copies the next record from the backend out.
    pub fn next(&mut self, copy: &mut RecordCopy) -> Read {
        self.to_gateway.next(copy)
    }

    /// Takes the copy away, so that its payload can be read while the link is used; [`Link::put_back`] it.
    pub fn take_copy(&mut self) -> RecordCopy {
        std::mem::take(&mut self.copy)
    }

    /// Gives the copy back for the next record.
    pub fn put_back(&mut self, copy: RecordCopy) {
        self.copy = copy;
    }

    /// Gives the room of everything taken so far back to the backend.
    pub fn release(&mut self) {
        let position = self.to_gateway.position();
        self.to_gateway.release_to(position);
    }

    /// Rings the backend if something was placed since the last ring.
    pub fn ring(&mut self) {
        if std::mem::take(&mut self.unrung) {
            self.to_backend.ring();
        }
    }

    /// Announces a sleep, and looks once more: false if there is something to do.
    pub fn prepare_sleep(&mut self) -> bool {
        self.sleeper.prepare();
        let empty = self.to_gateway.is_empty();
        if !empty {
            self.sleeper.awake();
        }
        empty
    }

    /// Ends a sleep.
    pub fn wake(&mut self) {
        self.sleeper.wake();
    }

    /// The doorbell's descriptor.
    pub fn doorbell(&self) -> std::os::fd::BorrowedFd<'_> {
        self.sleeper.fd()
    }

    /// The backend that attached to this segment last.
    pub fn backend(&self) -> Option<InstanceId> {
        self.backend.instance()
    }

    /// Whether a process holds the backend's seat. A system call.
    pub fn backend_alive(&self) -> bool {
        self.backend.alive()
    }

    /// Draws the next number in the order of admission.
    pub fn take_ticket(&self) -> u64 {
        self.control.take_tickets(1)
    }

    /// Numbers below this were drawn.
    pub fn tickets(&self) -> u64 {
        self.control.tickets()
    }

    /// Who is admitted, and how fast that goes on.
    pub fn frontier(&self) -> Frontier {
        Frontier {
            at: self.control.frontier(),
            per_1000_s: self.control.admission_rate(),
        }
    }

    /// Why this segment cannot be used any more, if so: it is damaged, the backend will not serve it, or it is no longer
    /// what stands at its name on the bus. Costs a dozen system calls: asked ten times a second.
    pub fn failure(&self) -> Option<String> {
        if let Some(damage) = self.to_backend.condemned().or(self.to_gateway.condemned()) {
            return Some(format!(
                "the bus segment is damaged ({damage}); restart this gateway: it makes a fresh one"
            ));
        }
        if let Some(backend) = self.backend.refused_by() {
            return Some(format!(
                "the backend {backend} (pid {}) does not serve this gateway, its log says why; run gateway and backend \
                 of one release, and restart this gateway: it makes a fresh segment",
                self.backend.pid()
            ));
        }
        self.place
            .look()
            .err()
            .map(|displaced| displaced.to_string())
    }

    /// Counts something.
    pub fn count(&self, tally: Tally) {
        self.counters.add_user(tally.index(), 1);
    }

    /// Counts a refusal, whatever it is said with: an Error or a SendResult.
    pub fn count_refused(&self, reason: fb::Reason) {
        self.counters.add_user(refused_index(reason), 1);
    }

    /// What was refused for a reason.
    pub fn counted_refused(&self, reason: fb::Reason) -> u64 {
        self.counters.user(refused_index(reason))
    }

    /// Sets a gauge.
    pub fn gauge(&self, tally: Tally, value: usize) {
        self.counters.set_user(tally.index(), value as u64);
    }

    /// What was counted.
    pub fn counted(&self, tally: Tally) -> u64 {
        self.counters.user(tally.index())
    }

    /// The id of a connection of this shard.
    pub fn id(&self, slot: u32, generation: u32) -> ConnectionId {
        ConnectionId {
            shard: self.shard,
            slot,
            generation,
        }
    }
}

/// What a record with this payload takes of the ring.
pub fn span_bytes(payload_bytes: usize) -> usize {
    record_span_bytes(payload_bytes)
}
