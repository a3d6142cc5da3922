//! What the backend has to be told of a connection, however full the ring is: that it opened, and that it closed.
//!
//! Both are states of the connection's slot. Placing the record ends the state; where there is no room the slot
//! stands in a queue (once) that each turn sweeps before anything else may use the ring. A slot is used again only
//! after its CLOSED was placed, so the backend never sees two tenants of a slot mixed.

use std::collections::VecDeque;

use super::admission::Waiter;
use super::counters::Tally;
use super::link::Placed;
use super::peer::{Flags, HeldAck, Phase};
use super::{Chat, moment};
use crate::service::{CloseCause, ConnectionId, Sockets, Told};
use tidegate_protocol::bus::{
    self, ClosedCause, ClosedRecord, OPENED_ANNOUNCED, OPENED_ON_TICKET, Opened,
};
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::{Kind, message};
use zerocopy::IntoBytes as _;

/// Slots whose OPENED or CLOSED waits for room, and those that hold acknowledgements: each at most once.
#[derive(Default)]
pub struct Untold {
    slots: VecDeque<Waiter>,
    acks: VecDeque<Waiter>,
}

impl Untold {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// How many connections wait to be told of.
    pub fn len(&self) -> usize {
        self.slots.len()
    }
}

/// Conversations whose acknowledgements a connection may hold. Agents have few more open ones than that.
const HELD_ACKS_MAX: usize = 64;

impl Chat {
    /// Places the OPENED record of a connection that comes in. On success it is open.
    pub(super) fn tell_opened(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        request: u64,
        on_ticket: bool,
        hello: &[u8],
    ) -> bool {
        let now = moment(io.now());
        let known_to = self.notice_backend();
        let Some(peer) = self.peers.get(id.slot, id.generation) else {
            return true;
        };
        let bounds = self.bounds(peer.network.family());
        let heartbeat_ms = self.learned.ceiling_ms(peer.network, &bounds, now);
        let flags = if on_ticket { OPENED_ON_TICKET } else { 0 };
        let mut record = peer.opened_record(heartbeat_ms, flags);
        record.request = request;
        let opened = Opened {
            record,
            name: peer.name(),
            hello,
        };
        let mut header = self.link.header(bus::OPENED, id.slot, id.generation);
        header.principal = peer.principal.0;
        header.trace = peer.session;
        if self
            .link
            .place(header, opened.bytes(), |to| opened.write(to))
            != Placed::Yes
        {
            return false;
        }
        self.open += 1;
        let Some(peer) = self.peers.by_id(id) else {
            return true;
        };
        peer.phase = Phase::Open;
        peer.known_to = known_to;
        peer.flags.clear(Flags::UNACKNOWLEDGED);
        let parked = peer.flags.has(Flags::PARKED);
        let holds_acks = peer.extra().is_some_and(|extra| !extra.acks.is_empty());
        self.let_go(id);
        if holds_acks {
            self.queue_acks(id);
        }
        if parked {
            io.unpark(id);
        }
        self.schedule(io, id);
        true
    }

    /// Places the OPENED record of a connection whose Hello is held, or queues it.
    pub(super) fn tell_or_owe_opened(&mut self, io: &mut impl Sockets, id: ConnectionId) {
        if !self.tell_held(io, id) {
            self.owe(id);
        }
    }

    fn tell_held(&mut self, io: &mut impl Sockets, id: ConnectionId) -> bool {
        let Some(held) = self
            .peers
            .by_id(id)
            .and_then(|peer| peer.extra_mut().held.take())
        else {
            return true;
        };
        let told = self.tell_opened(io, id, held.request, held.on_ticket, &held.hello);
        if told {
            self.held_bytes -= held.hello.len();
        } else if let Some(peer) = self.peers.by_id(id) {
            peer.extra_mut().held = Some(held);
        }
        told
    }

    /// Announces a connection to a backend that does not know it.
    pub(super) fn tell_announced(
        &mut self,
        slot: u32,
        generation: u32,
        known_to: u16,
        heartbeat_ms: u32,
    ) -> Placed {
        let Some(peer) = self.peers.get(slot, generation) else {
            return Placed::Yes;
        };
        let opened = Opened {
            record: peer.opened_record(heartbeat_ms, OPENED_ANNOUNCED),
            name: peer.name(),
            hello: &[],
        };
        let mut header = self.link.header(bus::OPENED, slot, generation);
        header.principal = peer.principal.0;
        header.trace = peer.session;
        let placed = self
            .link
            .place(header, opened.bytes(), |to| opened.write(to));
        if placed == Placed::Yes {
            self.link.count(Tally::Announced);
            if let Some(peer) = self.peers.get_mut(slot, generation) {
                peer.known_to = known_to;
            }
        }
        placed
    }

    /// Queues a connection whose OPENED or CLOSED found no room.
    pub(super) fn owe(&mut self, id: ConnectionId) {
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        if !peer.flags.has(Flags::QUEUED) {
            peer.flags.set(Flags::QUEUED);
            self.untold.slots.push_back(Waiter {
                slot: id.slot,
                generation: id.generation,
            });
            self.link.count(Tally::UntoldQueued);
        }
    }

    /// The socket is gone.
    pub(super) fn closed(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        cause: CloseCause,
    ) -> Told {
        self.learn_from_death(io, id, cause);
        let Some(peer) = self.peers.by_id(id) else {
            return Told::Now;
        };
        match peer.phase {
            Phase::Open => {}
            phase => {
                let ticket = peer.held().map(|held| held.ticket);
                if let (Phase::Waiting, Some(ticket)) = (phase, ticket) {
                    self.room.leave(
                        ticket,
                        Waiter {
                            slot: id.slot,
                            generation: id.generation,
                        },
                    );
                }
                self.let_go(id);
                self.peers.remove(id.slot);
                return Told::Now;
            }
        }
        self.open -= 1;
        let record = ClosedRecord {
            code: cause.code(),
            cause: told_cause(cause, peer.flags) as u8,
            reserved: 0,
        };
        peer.phase = Phase::Closed;
        let extra = peer.extra_mut();
        extra.acks = Vec::new();
        extra.closed = Some(record);
        if self.untold.is_empty() && self.tell_closed(id) {
            return Told::Now;
        }
        self.owe(id);
        Told::Later
    }

    /// Places the CLOSED record of a connection that ended; on success its slot is free here.
    fn tell_closed(&mut self, id: ConnectionId) -> bool {
        let Some(peer) = self.peers.get(id.slot, id.generation) else {
            return true;
        };
        let record = peer
            .extra()
            .and_then(|extra| extra.closed)
            .unwrap_or_default();
        let mut header = self.link.header(bus::CLOSED, id.slot, id.generation);
        header.principal = peer.principal.0;
        header.trace = peer.session;
        let bytes = record.as_bytes();
        if self
            .link
            .place(header, bytes.len(), |to| to.copy_from_slice(bytes))
            != Placed::Yes
        {
            return false;
        }
        self.peers.remove(id.slot);
        true
    }

    /// Sweeps what waits into the ring, in order, as far as there is room.
    pub(super) fn tell_untold(&mut self, io: &mut impl Sockets) {
        while let Some(&Waiter { slot, generation }) = self.untold.slots.front() {
            let id = self.link.id(slot, generation);
            let told = match self.peers.by_id(id).map(|peer| peer.phase) {
                Some(Phase::Opening) => self.tell_held(io, id),
                Some(Phase::Closed) => {
                    let told = self.tell_closed(id);
                    if told {
                        io.release(id);
                    }
                    told
                }
                _ => true,
            };
            if !told {
                return;
            }
            self.untold.slots.pop_front();
            if let Some(peer) = self.peers.by_id(id) {
                peer.flags.clear(Flags::QUEUED);
            }
        }
        self.tell_acks();
    }

    /// Keeps an acknowledgement for which there is no room: merged, because they are cumulative. False if the
    /// connection holds too many already.
    pub(super) fn hold_ack(&mut self, id: ConnectionId, ack: HeldAck) -> bool {
        let Some(peer) = self.peers.by_id(id) else {
            return true;
        };
        let is_open = peer.phase == Phase::Open;
        let acks = &mut peer.extra_mut().acks;
        if let Some(held) = acks
            .iter_mut()
            .find(|held| held.conversation == ack.conversation)
        {
            held.delivered = held.delivered.max(ack.delivered);
            held.read = held.read.max(ack.read);
        } else if acks.len() < HELD_ACKS_MAX {
            acks.push(ack);
        } else {
            return false;
        }
        self.link.count(Tally::AcksHeld);
        if is_open {
            self.queue_acks(id);
        }
        true
    }

    fn queue_acks(&mut self, id: ConnectionId) {
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        if !peer.flags.has(Flags::ACKS_QUEUED) {
            peer.flags.set(Flags::ACKS_QUEUED);
            self.untold.acks.push_back(Waiter {
                slot: id.slot,
                generation: id.generation,
            });
        }
    }

    /// Places held acknowledgements, as far as there is room.
    fn tell_acks(&mut self) {
        while let Some(&Waiter { slot, generation }) = self.untold.acks.front() {
            let id = self.link.id(slot, generation);
            while let Some(&ack) = self
                .peers
                .by_id(id)
                .and_then(|peer| peer.extra().and_then(|extra| extra.acks.last()))
            {
                let HeldAck {
                    conversation,
                    delivered,
                    read,
                } = ack;
                let mut builder = std::mem::take(&mut self.builder);
                let payload = message::Ack {
                    conversation,
                    delivered,
                    read,
                }
                .encode(&mut builder);
                let placed = self.place_envelope(id, Kind::Ack, payload);
                self.builder = builder;
                if placed == Placed::Full {
                    return;
                }
                if let Some(peer) = self.peers.by_id(id) {
                    peer.extra_mut().acks.pop();
                }
            }
            self.untold.acks.pop_front();
            if let Some(peer) = self.peers.by_id(id) {
                peer.flags.clear(Flags::ACKS_QUEUED);
                peer.shrink();
            }
        }
    }
}

/// The cause in the backend's words.
fn told_cause(cause: CloseCause, flags: Flags) -> ClosedCause {
    if flags.has(Flags::TIMED_OUT) {
        return ClosedCause::TimedOut;
    }
    if flags.has(Flags::ENDED_BY_BACKEND) {
        return ClosedCause::ByBackend;
    }
    match cause {
        CloseCause::Peer { .. } => ClosedCause::PeerClosed,
        CloseCause::Gone => ClosedCause::PeerGone,
        CloseCause::Gateway { code } | CloseCause::Service { code } => match CloseCode(code) {
            CloseCode::SLOW_READER => ClosedCause::SlowReader,
            CloseCode::HALF_OPEN | CloseCode::HELLO_TIMEOUT => ClosedCause::TimedOut,
            CloseCode::PROTOCOL_ERROR
            | CloseCode::UNSUPPORTED_DATA
            | CloseCode::INVALID_PAYLOAD
            | CloseCode::POLICY_VIOLATION
            | CloseCode::MESSAGE_TOO_BIG
            | CloseCode::PROTOCOL_ABUSE => ClosedCause::Misbehaved,
            _ => ClosedCause::ByGateway,
        },
    }
}
