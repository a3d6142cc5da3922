//! What a shard knows: slots, wheel, out queues, bounds. All of it without a driver: what must be asked of the world
//! is noted on the connection, which is put on the list of those that need a flush.

use std::collections::VecDeque;

use super::ShardOptions;
use crate::connection::outbox::{OutQueue, Outbox};
use crate::connection::{Connection, Flags, State};
use crate::counters::Counts;
use crate::driver::{BufferId, Key, Socket};
use crate::id::ConnectionId;
use crate::service::{
    CloseCause, Frame, MessageKind, PeerClass, SendOutcome, SharedFrame, Sockets,
};
use crate::time::{Span, Time};
use crate::wheel::{Tick, Wheel};
use protocol::close::CloseCode;
use protocol::ws::Opcode;
use protocol::ws::encoder::server_header;

/// End of the chain of free slots.
const NO_SLOT: u32 = u32::MAX;
/// After our close frame, the peer has so long to answer and to hang up, ms.
const CLOSE_MS_MAX: u64 = 5_000;
/// Pongs are skipped while more than this is queued: a pong answers the newest ping (RFC 6455 5.5.3), and a peer
/// that does not read gets no more of them.
const PONG_QUEUE_BYTES_MAX: u32 = 16 << 10;

/// State of one shard.
pub struct Core {
    pub(super) options: ShardOptions,
    pub(super) now: Time,
    pub(super) slots: Vec<Connection>,
    free: u32,
    /// Slots that hold a descriptor.
    pub(super) live: u32,
    /// Slots that are not free: those, and those whose end the service has still to tell.
    pub(super) used: u32,
    pub(super) wheel: Wheel,
    pub(super) outbox: Outbox,
    pub(super) dirty: Vec<u32>,
    /// Connections whose receive ended for want of a buffer.
    pub(super) starved: VecDeque<Key>,
    /// Per receive buffer: the connection whose send reads it, and since when.
    pub(super) pinned: Vec<Option<(Key, Time)>>,
    /// Buffers that the driver gets back at the end of the round.
    pub(super) to_give_back: Vec<BufferId>,
    /// Bytes of partial messages.
    pub(super) collect_bytes: u64,
    /// Bytes held for parked and paused connections.
    pub(super) parked_bytes: u64,
    pub(super) counts: Counts,
    pub(super) round: u64,
    shed_round: u64,
    pub(super) draining: bool,
    /// Fewer than a quarter of the receive buffers are the kernel's.
    pub(super) buffers_low: bool,
    random: u64,
}

impl Core {
    pub(super) fn new(options: ShardOptions, now: Time, seed: u64) -> Self {
        let slots_max = options.connections_max as usize;
        Self {
            now,
            // Reserved, not touched: a slot's memory becomes resident when it is first used, and never moves.
            slots: Vec::with_capacity(slots_max),
            free: NO_SLOT,
            live: 0,
            used: 0,
            wheel: Wheel::new(now, slots_max),
            outbox: Outbox::new(),
            dirty: Vec::new(),
            starved: VecDeque::new(),
            pinned: Vec::new(),
            to_give_back: Vec::new(),
            collect_bytes: 0,
            parked_bytes: 0,
            counts: Counts::default(),
            round: 0,
            shed_round: u64::MAX,
            draining: false,
            buffers_low: false,
            random: seed | 1,
            options,
        }
    }

    pub(super) fn connection(&mut self, slot: u32) -> &mut Connection {
        &mut self.slots[slot as usize]
    }

    /// The slot of a key whose operations may still complete.
    pub(super) fn find(&mut self, key: Key) -> Option<&mut Connection> {
        self.slots
            .get_mut(key.slot as usize)
            .filter(|connection| connection.generation == key.generation)
    }

    /// Asks for the slot's memory ahead of its use: with many connections it is in no cache, and the completions of one
    /// round name many slots. Costs nothing measurable where it is of no use.
    #[inline]
    pub(super) fn prefetch(&self, slot: u32) {
        #[cfg(target_arch = "x86_64")]
        if let Some(connection) = self.slots.get(slot as usize) {
            use ::core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let start = ::core::ptr::from_ref(connection).cast::<i8>();
            #[expect(unsafe_code, reason = "prefetching takes a raw pointer")]
            // SAFETY: a prefetch reads nothing, and both addresses lie in the slot.
            unsafe {
                _mm_prefetch::<_MM_HINT_T0>(start);
                _mm_prefetch::<_MM_HINT_T0>(start.add(size_of::<Connection>() - 1));
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = slot;
    }

    pub(super) fn key(&self, slot: u32) -> Key {
        Key {
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }

    pub(super) fn id(&self, slot: u32) -> ConnectionId {
        ConnectionId {
            shard: self.options.shard,
            slot,
            generation: self.slots[slot as usize].generation,
        }
    }

    /// The slot of an id that still names its connection.
    fn resolve(&self, id: ConnectionId) -> Option<u32> {
        let connection = self.slots.get(id.slot as usize)?;
        (connection.generation == id.generation && id.shard == self.options.shard)
            .then_some(id.slot)
    }

    fn open(&self, id: ConnectionId) -> Option<u32> {
        self.resolve(id)
            .filter(|&slot| self.slots[slot as usize].state == State::Open)
    }

    /// Takes a slot for an accepted socket.
    pub(super) fn occupy(&mut self, socket: Socket) -> Option<u32> {
        let slot = if self.free != NO_SLOT {
            let slot = self.free;
            self.free = self.connection(slot).socket.0;
            slot
        } else if self.slots.len() < self.options.connections_max as usize {
            self.slots.push(Connection::unused());
            u32::try_from(self.slots.len() - 1).expect("invariant: SLOTS_MAX fits u32")
        } else {
            return None;
        };
        self.live += 1;
        self.used += 1;
        let connection = self.connection(slot);
        let mut generation = connection.generation.wrapping_add(1).max(1);
        if shm_bus::mutant::is_planted("reuse_generation") {
            generation = 1;
        }
        *connection = Connection {
            generation,
            socket,
            state: State::Handshake,
            ..Connection::unused()
        };
        Some(slot)
    }

    /// Gives the slot back; its generation ends here.
    pub(super) fn vacate(&mut self, slot: u32) {
        let free = self.free;
        self.used -= 1;
        let connection = self.connection(slot);
        connection.state = State::Free;
        connection.generation = connection.generation.wrapping_add(1).max(1);
        connection.socket = Socket(free);
        self.free = slot;
    }

    pub(super) fn mark_dirty(&mut self, slot: u32) {
        let flags = &mut self.slots[slot as usize].flags;
        if !flags.any(Flags::DIRTY) {
            flags.set(Flags::DIRTY);
            self.dirty.push(slot);
        }
    }

    /// A number below `bound` from the shard's own sequence (xorshift64*): for jitter, not for secrets.
    pub(super) fn random_below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound.max(1)
    }

    pub(super) fn set_own_deadline(&mut self, slot: u32, after: Option<Span>) {
        let tick = after.map_or(Tick::NEVER, |after| self.wheel.tick(self.now + after));
        let connection = &mut self.slots[slot as usize];
        if connection.own_deadline != tick {
            connection.own_deadline = tick;
            self.wheel.set(slot, tick.min(connection.service_deadline));
        }
    }

    /// Starts the deadline of the connection's present state. A drain's, once set, stands.
    pub(super) fn set_state_deadline(&mut self, slot: u32, after: Span) {
        if !self.slots[slot as usize].flags.any(Flags::DRAIN) {
            self.set_own_deadline(slot, Some(after));
        }
    }

    /// The state that had a deadline is over.
    pub(super) fn clear_state_deadline(&mut self, slot: u32) {
        if self.slots[slot as usize].state_deadline_set() {
            self.set_own_deadline(slot, None);
        }
    }

    pub(super) fn set_service_deadline(&mut self, slot: u32, tick: Tick) {
        let connection = &mut self.slots[slot as usize];
        if connection.service_deadline != tick {
            connection.service_deadline = tick;
            self.wheel.set(slot, tick.min(connection.own_deadline));
        }
    }

    // --- sending ------------------------------------------------------------------------------------------------

    /// Queues one frame behind its header.
    pub(super) fn queue_frame(&mut self, slot: u32, opcode: Opcode, payload: &[u8]) {
        let header = server_header(opcode, payload.len());
        self.counts.frames_out_total += 1;
        let connection = &mut self.slots[slot as usize];
        let sending = connection.flags.any(Flags::SENDING);
        self.outbox
            .push_copy(&mut connection.out, sending, [&header, payload]);
        self.mark_dirty(slot);
    }

    fn out_bytes_max(&self, connection: &Connection) -> u32 {
        if connection.flags.any(Flags::AGENT) {
            self.options.agent_out_bytes_max
        } else {
            self.options.visitor_out_bytes_max
        }
    }

    /// The rule of the out queue: true if so many bytes more may be queued, else the connection is being closed.
    fn may_queue(&mut self, slot: u32, length: usize) -> bool {
        let connection = &self.slots[slot as usize];
        let bound = self.out_bytes_max(connection);
        let filled = connection.out.bytes as usize + length;
        // A queue that is empty takes any frame: bounds are for what piles up.
        if filled > bound as usize && connection.out.bytes > 0 {
            self.counts.slow_readers_total += 1;
            self.begin_close(slot, CloseCode::SLOW_READER, "", CloseBy::Gateway);
            return false;
        }
        if filled > bound as usize / 2 {
            self.connection(slot).flags.set(Flags::FILLED);
        }
        if self.outbox.bytes + length as u64 > u64::from(self.options.out_bytes_max) {
            self.shed();
        }
        self.slots[slot as usize].state == State::Open
    }

    /// The shard's queues are at their bound: the largest are cut off, until there is an eighth of room. At most once a
    /// round, so that one look at all slots is its price; the bound is exceeded by at most what one round queues.
    fn shed(&mut self) {
        if self.shed_round == self.round {
            return;
        }
        self.shed_round = self.round;
        let bound = u64::from(self.options.out_bytes_max);
        let is_open = |connection: &Connection| connection.state == State::Open;
        // What connections that are ending hold is on its way out already.
        let open = self.slots.iter().filter(|connection| is_open(connection));
        let open_bytes: u64 = open.map(|connection| u64::from(connection.out.bytes)).sum();
        let mut bytes_to_free = open_bytes.saturating_sub(bound - bound / 8);
        while bytes_to_free > 0 {
            let largest = (0..)
                .zip(&self.slots)
                .filter(|(_, connection)| is_open(connection))
                .max_by_key(|(_, connection)| connection.out.bytes);
            let Some((slot, connection)) = largest else {
                return;
            };
            bytes_to_free = bytes_to_free.saturating_sub(u64::from(connection.out.bytes));
            self.counts.shed_total += 1;
            let CloseCode(code) = CloseCode::SLOW_READER;
            self.kill(slot, CloseCause::Gateway { code });
        }
    }

    /// Answers a ping, unless the peer does not read.
    pub(super) fn queue_pong(&mut self, slot: u32, payload: &[u8]) {
        self.counts.pings_in_total += 1;
        if self.slots[slot as usize].out.bytes > PONG_QUEUE_BYTES_MAX {
            self.counts.pongs_skipped_total += 1;
        } else {
            self.queue_frame(slot, Opcode::Pong, payload);
        }
    }

    // --- closing ------------------------------------------------------------------------------------------------

    /// Queues a close frame and discards from here on what the peer sends.
    pub(super) fn begin_close(&mut self, slot: u32, code: CloseCode, reason: &str, by: CloseBy) {
        let CloseCode(number) = code;
        let connection = self.connection(slot);
        match connection.state {
            State::Open => {}
            State::Handshake => return self.kill(slot, CloseCause::Gateway { code: number }),
            _ => return,
        }
        connection.state = State::Closing;
        connection.cause = match by {
            CloseBy::Peer => CloseCause::Peer { code: number },
            CloseBy::Gateway => CloseCause::Gateway { code: number },
            CloseBy::Service => CloseCause::Service { code: number },
        };
        connection
            .flags
            .clear(Flags::PARKED | Flags::PAUSED | Flags::UNPARK);
        self.drop_extra(slot);
        if number == CloseCode::SLOW_READER.0 {
            // It would only reach the peer behind what it does not read.
            self.truncate_out(slot);
        }
        let mut payload = [0; 125];
        let mut length = 0;
        // 1005 stands for a close frame without a code (RFC 6455 7.1.5): so is the answer.
        if number != 1005 {
            let cut = reason.floor_char_boundary(reason.len().min(123));
            payload[..2].copy_from_slice(&number.to_be_bytes());
            payload[2..2 + cut].copy_from_slice(&reason.as_bytes()[..cut]);
            length = 2 + cut;
        }
        self.queue_frame(slot, Opcode::Close, &payload[..length]);
        self.set_own_deadline(slot, Some(Span::from_ms(CLOSE_MS_MAX)));
        self.set_service_deadline(slot, Tick::NEVER);
    }

    /// The connection is over: cancel what is under way, then close.
    pub(super) fn kill(&mut self, slot: u32, cause: CloseCause) {
        let connection = self.connection(slot);
        match connection.state {
            State::Free | State::Kept | State::Dying => return,
            State::Closing => {}
            State::Handshake | State::Open | State::Answering => connection.cause = cause,
        }
        connection.state = State::Dying;
        connection
            .flags
            .clear(Flags::PARKED | Flags::PAUSED | Flags::UNPARK);
        self.drop_extra(slot);
        self.set_own_deadline(slot, None);
        self.set_service_deadline(slot, Tick::NEVER);
        self.mark_dirty(slot);
    }

    /// Drops what waits behind the send that is under way: whole frames, all of it.
    fn truncate_out(&mut self, slot: u32) {
        let connection = &mut self.slots[slot as usize];
        let sending = connection.flags.any(Flags::SENDING);
        self.outbox
            .truncate(&mut connection.out, sending, &mut self.to_give_back);
    }

    pub(super) fn drop_extra(&mut self, slot: u32) {
        if let Some(extra) = self.connection(slot).extra.take() {
            self.collect_bytes -= extra.collect.len() as u64;
            self.parked_bytes -= extra.held_bytes();
        }
    }

    /// Frees the box of what only a busy connection needs, if nothing is in it.
    pub(super) fn shrink_extra(&mut self, slot: u32) {
        let extra = &mut self.connection(slot).extra;
        if extra.as_ref().is_some_and(|extra| extra.is_empty()) {
            *extra = None;
        }
    }

    /// When a closed client may come back: spread, so that not all come at once, ms.
    pub(super) fn jittered_retry_ms(&mut self) -> u32 {
        let spread_ms = self.options.drain_ms.clamp(500, 60_000);
        u32::try_from(100 + self.random_below(spread_ms)).expect("invariant: at most a minute")
    }

    /// A send is about to read this buffer.
    pub(super) fn pin(&mut self, id: BufferId, key: Key) {
        let index = usize::from(id.0);
        if index >= self.pinned.len() {
            self.pinned.resize(index + 1, None);
        }
        self.pinned[index] = Some((key, self.now));
    }
}

/// Who ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CloseBy {
    Peer,
    Gateway,
    Service,
}

/// The opcode of a message's first frame.
pub(super) fn data_opcode(kind: MessageKind) -> Opcode {
    match kind {
        MessageKind::Text => Opcode::Text,
        MessageKind::Binary => Opcode::Binary,
    }
}

impl Sockets for Core {
    fn now(&self) -> Time {
        self.now
    }

    fn shard(&self) -> u16 {
        self.options.shard
    }

    fn send(&mut self, id: ConnectionId, frame: Frame<'_>) -> SendOutcome {
        let Some(slot) = self.open(id) else {
            return SendOutcome::NotOpen;
        };
        let (opcode, payload) = match frame {
            Frame::Text(payload) => (Opcode::Text, payload),
            Frame::Binary(payload) => (Opcode::Binary, payload),
            Frame::Ping(payload) => {
                self.queue_frame(slot, Opcode::Ping, &payload[..payload.len().min(125)]);
                return SendOutcome::Queued;
            }
        };
        if !self.may_queue(slot, payload.len()) {
            return SendOutcome::SlowReader;
        }
        self.queue_frame(slot, opcode, payload);
        SendOutcome::Queued
    }

    fn send_shared(&mut self, id: ConnectionId, frame: &SharedFrame) -> SendOutcome {
        let Some(slot) = self.open(id) else {
            return SendOutcome::NotOpen;
        };
        if !self.may_queue(slot, frame.0.len()) {
            return SendOutcome::SlowReader;
        }
        self.counts.frames_out_total += 1;
        let connection = &mut self.slots[slot as usize];
        let sending = connection.flags.any(Flags::SENDING);
        self.outbox
            .push_shared(&mut connection.out, sending, &frame.0);
        self.mark_dirty(slot);
        SendOutcome::Queued
    }

    fn out_bytes(&self, id: ConnectionId) -> u32 {
        self.open(id)
            .map_or(0, |slot| self.slots[slot as usize].out.bytes)
    }

    fn room_bytes(&self, id: ConnectionId) -> u32 {
        self.open(id).map_or(0, |slot| {
            let connection = &self.slots[slot as usize];
            self.out_bytes_max(connection)
                .saturating_sub(connection.out.bytes)
        })
    }

    fn set_class(&mut self, id: ConnectionId, class: PeerClass) {
        if let Some(slot) = self.open(id) {
            let flags = &mut self.connection(slot).flags;
            match class {
                PeerClass::Visitor => flags.clear(Flags::AGENT),
                PeerClass::Agent => flags.set(Flags::AGENT),
            }
        }
    }

    fn close(&mut self, id: ConnectionId, code: u16, reason: &str) {
        if let Some(slot) = self.open(id) {
            self.begin_close(slot, CloseCode(code), reason, CloseBy::Service);
        }
    }

    fn set_timer(&mut self, id: ConnectionId, at: Time) {
        if let Some(slot) = self.open(id) {
            let tick = self.wheel.tick(at);
            self.set_service_deadline(slot, tick);
        }
    }

    fn clear_timer(&mut self, id: ConnectionId) {
        if let Some(slot) = self.open(id) {
            self.set_service_deadline(slot, Tick::NEVER);
        }
    }

    fn unpark(&mut self, id: ConnectionId) {
        if let Some(slot) = self.open(id)
            && self.slots[slot as usize].flags.any(Flags::PARKED)
        {
            self.connection(slot).flags.set(Flags::UNPARK);
            self.mark_dirty(slot);
        }
    }

    fn release(&mut self, id: ConnectionId) {
        let Some(slot) = self.resolve(id) else {
            return;
        };
        let connection = self.connection(slot);
        connection.flags.clear(Flags::KEPT);
        if connection.state == State::Kept {
            self.vacate(slot);
        }
    }

    fn is_open(&self, id: ConnectionId) -> bool {
        self.open(id).is_some()
    }
}

const _: () = assert!(size_of::<OutQueue>() == 12);
