//! The shard: all connections of one core, as a machine without I/O. Events come in (`accepted`, `received`,
//! `receive_ended`, `sent`, `tick`), and what is to be done goes out through a [`Driver`]. It knows no clock, no
//! socket and no io_uring: the simulator drives this very code.
//!
//! ```text
//!   driver                     shard                                        service
//!     │ received(buffer) ──▶ handshake | frames: decoder ─ on_message ─────▶ │
//!     │                        │  whole in the buffer: lent from there       │ Yes | Park | Reflect
//!     │                        │  cut: collected, bounded                    │
//!     │ ◀── send(head) ────── out queue ◀──────────── send, send_shared ──── │
//!     │ sent(count) ────────▶ next item, on_writable                         │
//!     │ ◀── receive, cancel, close ── flush: once per event and round        │
//! ```
//!
//! **The seam for TLS** is where `received` hands bytes to [`handshake`] or [`receive`], and where [`flush`] hands the
//! head of the out queue to the driver: a sans-IO rustls connection stands there, in the connection's `extra` box.

mod core;
mod flush;
mod handshake;
mod receive;

use protocol::ws::Bounds;

use self::core::CloseBy;
pub use self::core::Core;
use crate::config::Config;
use crate::connection::{Flags, State};
use crate::counters::Counts;
use crate::driver::{BufferId, Driver, Key, Receive, ReceiveEnd, Socket};
use crate::service::{CloseCause, Service};
use crate::time::{Span, Time};
use crate::trusted::TrustedProxies;
use crate::wheel::Tick;
use protocol::close::{CloseCode, CloseReason};

/// Accepting that met the descriptor limit is tried again after so long, or when a connection ended, ms.
const ACCEPT_RETRY_MS: u64 = 50;
/// With fewer free slots connections are accepted one at a time: a multishot accept may empty a whole backlog before
/// it hears of its cancellation, and whoever came too many would be reset.
const MULTISHOT_SLOTS_MIN: u32 = 8 << 10;
/// Buffers that a connection may fill in one round before it falls back to single receives.
const BURST_BUFFERS_MAX: u8 = 8;
/// A send that has read a receive buffer for so long gets a copy instead, when buffers are low, ms.
const PIN_MS_MAX: u64 = 20;

/// Limits and policy of a shard.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// Its number.
    pub shard: u16,
    /// Slots.
    pub connections_max: u32,
    /// Refused on the header past it.
    pub bounds: Bounds,
    /// Who may upgrade.
    pub policy: protocol::ws::handshake::Policy,
    /// Whose word about client addresses is believed.
    pub trusted: TrustedProxies,
    /// As [`crate::Config`]'s.
    pub parked_bytes_max: u32,
    /// As [`crate::Config`]'s.
    pub out_bytes_max: u32,
    /// As [`crate::Config`]'s.
    pub visitor_out_bytes_max: u32,
    /// As [`crate::Config`]'s.
    pub agent_out_bytes_max: u32,
    /// As [`crate::Config`]'s.
    pub collect_bytes_max: u64,
    /// As [`crate::Config`]'s.
    pub handshake_ms_max: u64,
    /// As [`crate::Config`]'s.
    pub stalled_frame_ms_max: u64,
    /// As [`crate::Config`]'s.
    pub drain_ms: u64,
}

impl ShardOptions {
    /// What the settings say of each shard of a gateway. `connections_max`: this shard's part of the settings'. Its
    /// number is 0 until somebody gives it another.
    #[must_use]
    pub fn of(
        config: &Config,
        connections_max: u32,
        policy: protocol::ws::handshake::Policy,
        trusted: TrustedProxies,
    ) -> Self {
        Self {
            shard: 0,
            connections_max,
            bounds: Bounds {
                message_bytes_max: config.max_message_bytes,
            },
            policy,
            trusted,
            parked_bytes_max: config.parked_bytes_max,
            out_bytes_max: config.out_bytes_max,
            visitor_out_bytes_max: config.visitor_out_bytes_max,
            agent_out_bytes_max: config.agent_out_bytes_max,
            collect_bytes_max: config.collect_bytes_max,
            handshake_ms_max: u64::from(config.handshake_ms_max),
            stalled_frame_ms_max: u64::from(config.stalled_frame_ms_max),
            drain_ms: u64::from(config.drain_ms),
        }
    }
}

/// One shard: its state and the service above it.
pub struct Shard<S> {
    core: Core,
    service: S,
    due: Vec<u32>,
    /// Accepting failed for want of descriptors: it is paused until then.
    accept_retry: Option<Time>,
    /// The driver accepts.
    accepting: bool,
    /// Draining ends then, whoever is left.
    drain_until: Option<Time>,
}

impl<S: Service> Shard<S> {
    /// A shard without connections. `seed` is for jitter.
    pub fn new(options: ShardOptions, service: S, now: Time, seed: u64) -> Self {
        Self {
            core: Core::new(options, now, seed),
            service,
            due: Vec::new(),
            accept_retry: None,
            accepting: false,
            drain_until: None,
        }
    }

    /// The service.
    pub fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// What was counted so far, with the gauges of now.
    pub fn counts(&mut self) -> &mut Counts {
        let core = &mut self.core;
        core.counts.connections = u64::from(core.live);
        core.counts.out_bytes = core.outbox.bytes;
        core.counts.parked_bytes = core.parked_bytes;
        core.counts.collect_bytes = core.collect_bytes;
        &mut core.counts
    }

    /// Begins accepting.
    pub fn start(&mut self, driver: &mut impl Driver) {
        self.accept_within_room(driver);
    }

    /// A round of the loop begins: the time of all that follows.
    pub fn begin_round(&mut self, now: Time) {
        self.core.now = now;
        self.core.round += 1;
        self.core.counts.rounds_total += 1;
    }

    /// A connection was accepted.
    pub fn accepted(&mut self, driver: &mut impl Driver, socket: Socket) {
        // Also while it drains: the peer was told by the kernel that it is connected, so it is told to come back.
        let slot = if self.is_drain_over() {
            None
        } else {
            self.core.occupy(socket)
        };
        let Some(slot) = slot else {
            driver.close(socket);
            return;
        };
        self.core.counts.accepted_total += 1;
        if !self.core.options.trusted.is_empty()
            && driver
                .peer(socket)
                .is_some_and(|peer| self.core.options.trusted.contains(peer.ip()))
        {
            self.core.connection(slot).flags.set(Flags::MAYBE_PROXY);
        }
        let ms = self.core.options.handshake_ms_max;
        self.core.set_own_deadline(slot, Some(Span::from_ms(ms)));
        let key = self.core.key(slot);
        self.core.connection(slot).flags.set(Flags::RECEIVING);
        driver.receive(key, socket, Receive::Multishot);
        self.accept_within_room(driver);
    }

    /// A connection was accepted from a sibling's socket.
    pub fn helped(&mut self, driver: &mut impl Driver, socket: Socket) {
        self.core.counts.helped_total += 1;
        self.accepted(driver, socket);
    }

    /// Accepting failed for want of descriptors or memory: it pauses and goes on.
    pub fn accept_failed(&mut self, driver: &mut impl Driver) {
        self.accept_retry = Some(self.core.now + Span::from_ms(ACCEPT_RETRY_MS));
        self.accept_within_room(driver);
    }

    /// Accepts as long as there are slots and descriptors; when few slots are left one connection at a time, so that
    /// nobody is accepted for whom there is none: the backlog waits.
    fn accept_within_room(&mut self, driver: &mut impl Driver) {
        let options = &self.core.options;
        let free_slots = options.connections_max.saturating_sub(self.core.used);
        let accepts = free_slots > 0 && self.accept_retry.is_none() && self.drain_until.is_none();
        driver.accept_one_at_a_time(free_slots < MULTISHOT_SLOTS_MIN);
        if accepts == self.accepting {
            return;
        }
        self.accepting = accepts;
        driver.set_accepting(accepts);
        if !accepts && self.drain_until.is_none() {
            self.core.counts.accept_pauses_total += 1;
            // At the limit it pauses many times a second: every doubling is told.
            if self.core.counts.accept_pauses_total.is_power_of_two() {
                let (shard, connections) = (self.core.options.shard, self.core.live);
                let times = self.core.counts.accept_pauses_total;
                tracing::warn!(shard, connections, times, "no room: accepting pauses");
            }
        }
    }

    /// A completion of this key will be handed out soon.
    #[inline]
    pub fn expect(&self, key: Key) {
        self.core.prefetch(key.slot);
    }

    /// Bytes came. The buffer is the shard's from here on.
    #[inline]
    pub fn received(&mut self, driver: &mut impl Driver, key: Key, id: BufferId, length: usize) {
        if self.core.find(key).is_none() {
            driver.give_back(id);
            return;
        }
        self.core.counts.bytes_in_total += length as u64;
        let (free, all) = driver.buffers_free();
        self.core.buffers_low = free < all / 4;
        let slot = key.slot;
        let listed = self.begin_event(slot);
        let connection = self.core.connection(slot);
        let kept = match connection.state {
            State::Handshake => self.handshake(driver, slot, id, length),
            State::Open | State::Closing if !connection.flags.any(Flags::DEAF) => {
                let bytes = &mut driver.buffer(id)[..length];
                if connection.flags.any(Flags::PARKED | Flags::PAUSED) {
                    self.hold_behind(slot, bytes);
                    false
                } else {
                    let place = receive::Place {
                        buffer: Some(id),
                        base: 0,
                    };
                    self.frames(slot, bytes, place)
                }
            }
            _ => false,
        };
        if !kept {
            driver.give_back(id);
        }
        self.limit_burst(driver, slot, length);
        self.end_event(driver, slot, listed);
    }

    /// An event of this connection is about to be dealt with, and flushed at its end: it need not be put on the list
    /// meanwhile. Returns whether it was on it already.
    #[inline]
    fn begin_event(&mut self, slot: u32) -> bool {
        let flags = &mut self.core.connection(slot).flags;
        let listed = flags.any(Flags::DIRTY);
        flags.set(Flags::DIRTY);
        listed
    }

    #[inline]
    fn end_event(&mut self, driver: &mut impl Driver, slot: u32, listed: bool) {
        if !listed {
            self.core.connection(slot).flags.clear(Flags::DIRTY);
        }
        self.flush_slot(driver, slot);
    }

    /// One hot connection must not empty the buffer pool.
    fn limit_burst(&mut self, driver: &mut impl Driver, slot: u32, length: usize) {
        let [round, ..] = self.core.round.to_le_bytes();
        let connection = self.core.connection(slot);
        if connection.burst_round != round {
            connection.burst_round = round;
            connection.burst = 0;
        }
        connection.burst = connection.burst.saturating_add(1);
        let single = Flags::SINGLE;
        if connection.flags.any(single) {
            // It has caught up when it no longer fills what it is given.
            if length < driver.buffer_bytes() {
                connection.flags.clear(single);
            }
        } else if connection.burst > BURST_BUFFERS_MAX {
            connection.flags.set(single);
            self.core.counts.single_receives_total += 1;
            self.cancel_receive(driver, slot);
        }
    }

    fn cancel_receive(&mut self, driver: &mut impl Driver, slot: u32) {
        let key = self.core.key(slot);
        let flags = &mut self.core.connection(slot).flags;
        if flags.any(Flags::RECEIVING) && !flags.any(Flags::RECEIVE_CANCELLED) {
            flags.set(Flags::RECEIVE_CANCELLED);
            driver.cancel_receive(key);
        }
    }

    /// The receive of this key is over.
    pub fn receive_ended(&mut self, driver: &mut impl Driver, key: Key, end: ReceiveEnd) {
        let Some(connection) = self.core.find(key) else {
            return;
        };
        connection
            .flags
            .clear(Flags::RECEIVING | Flags::RECEIVE_CANCELLED);
        match end {
            ReceiveEnd::Over => {}
            ReceiveEnd::NoBuffers => {
                connection.flags.set(Flags::STARVED);
                self.core.counts.no_buffers_total += 1;
                self.core.starved.push_back(key);
            }
            ReceiveEnd::Failed => self.core.kill(key.slot, CloseCause::Gone),
            ReceiveEnd::EndOfStream => {
                connection.flags.set(Flags::END_OF_STREAM);
                // The peer is gone, or (an HTTP answer, a close handshake) has said all that it will.
                match connection.state {
                    State::Handshake | State::Open => self.core.kill(key.slot, CloseCause::Gone),
                    _ => self.core.mark_dirty(key.slot),
                }
            }
        }
        self.flush_slot(driver, key.slot);
    }

    /// The send of this key is over: so many bytes, or an error.
    pub fn sent(&mut self, driver: &mut impl Driver, key: Key, sent: Result<u32, SendError>) {
        let Some(connection) = self.core.find(key) else {
            return;
        };
        connection
            .flags
            .clear(Flags::SENDING | Flags::SEND_CANCELLED);
        let unpin = connection.flags.take(Flags::UNPIN);
        let slot = key.slot;
        let listed = self.begin_event(slot);
        match sent {
            Ok(count) => {
                let core = &mut self.core;
                core.counts.sends_total += 1;
                core.counts.bytes_out_total += u64::from(count);
                let connection = &mut core.slots[slot as usize];
                if let Some(id) = core.outbox.sent(&mut connection.out, count) {
                    core.pinned[usize::from(id.0)] = None;
                    driver.give_back(id);
                } else if unpin {
                    self.unpin(driver, slot);
                }
                self.after_sent(slot);
            }
            Err(SendError::Cancelled) if unpin => self.unpin(driver, slot),
            Err(_) => self.core.kill(slot, CloseCause::Gone),
        }
        self.end_event(driver, slot, listed);
    }

    fn after_sent(&mut self, slot: u32) {
        let connection = self.core.connection(slot);
        if connection.flags.any(Flags::PAUSED) {
            self.resume_if_read(slot);
        }
        let connection = self.core.connection(slot);
        if connection.out.is_empty()
            && connection.flags.take(Flags::FILLED)
            && connection.state == State::Open
        {
            let id = self.core.id(slot);
            self.service.on_writable(&mut self.core, id);
        }
    }

    /// What a send that does not get on reads out of a receive buffer becomes memory of its own.
    fn unpin(&mut self, driver: &mut impl Driver, slot: u32) {
        let core = &mut self.core;
        let copy = |id: BufferId, start: u32, end: u32| {
            driver.buffer(id)[start as usize..end as usize].to_vec()
        };
        let freed = core.outbox.unpin(&core.slots[slot as usize].out, copy);
        if let Some(id) = freed {
            core.counts.unpinned_total += 1;
            core.pinned[usize::from(id.0)] = None;
            driver.give_back(id);
        }
    }

    /// The end of a round: timers, the service's turn, then everything that was asked for goes to the driver.
    pub fn end_round(&mut self, driver: &mut impl Driver) {
        self.tick(driver);
        self.service.turn(&mut self.core);
        self.flush(driver);
        self.feed_starved(driver);
        self.go_on_accepting(driver);
    }

    /// When the shard must run again at the latest, if nothing happens.
    pub fn next_deadline(&self) -> Option<Time> {
        let wheel = self
            .core
            .wheel
            .next()
            .map(|tick| self.core.wheel.time(tick));
        [wheel, self.accept_retry, self.drain_until]
            .into_iter()
            .flatten()
            .min()
    }

    fn tick(&mut self, driver: &mut impl Driver) {
        let mut due = ::core::mem::take(&mut self.due);
        self.core.wheel.advance(self.core.now, &mut due);
        for slot in due.drain(..) {
            self.deadline(slot);
        }
        self.due = due;
        if self.core.buffers_low {
            self.unpin_stuck(driver);
        }
    }

    fn deadline(&mut self, slot: u32) {
        let now = self.core.wheel.now();
        let connection = self.core.connection(slot);
        if connection.state == State::Free {
            return;
        }
        if connection.service_deadline <= now {
            connection.service_deadline = Tick::NEVER;
            let id = self.core.id(slot);
            self.service.on_timer(&mut self.core, id);
        }
        let connection = self.core.connection(slot);
        if connection.own_deadline <= now {
            connection.own_deadline = Tick::NEVER;
            self.own_deadline(slot);
        }
        let connection = self.core.connection(slot);
        let next = connection.own_deadline.min(connection.service_deadline);
        self.core.wheel.set(slot, next);
    }

    fn own_deadline(&mut self, slot: u32) {
        let connection = self.core.connection(slot);
        match connection.state {
            State::Handshake => {
                self.core.counts.handshake_timeouts_total += 1;
                self.core.kill(slot, CloseCause::Gone);
            }
            State::Open if connection.flags.any(Flags::DRAIN) => {
                let retry_ms = self.core.jittered_retry_ms();
                let reason = CloseReason::with_retry_ms(retry_ms, "drain");
                self.core
                    .begin_close(slot, CloseCode::DRAIN, reason.as_str(), CloseBy::Gateway);
            }
            State::Open => {
                let code = if connection.flags.any(Flags::PAUSED) {
                    CloseCode::SLOW_READER
                } else {
                    CloseCode::HALF_OPEN
                };
                self.core.counts.stalled_frames_total += 1;
                self.core
                    .begin_close(slot, code, "stalled", CloseBy::Gateway);
            }
            _ => self.core.kill(slot, CloseCause::Gone),
        }
    }

    /// Sends that hold a receive buffer and do not get on give it back.
    fn unpin_stuck(&mut self, driver: &mut impl Driver) {
        for index in 0..self.core.pinned.len() {
            let Some((key, since)) = self.core.pinned[index] else {
                continue;
            };
            if self.core.now.since(since) < Span::from_ms(PIN_MS_MAX) {
                continue;
            }
            let Some(connection) = self.core.find(key) else {
                continue;
            };
            let flags = &mut connection.flags;
            if flags.any(Flags::SENDING) && !flags.any(Flags::SEND_CANCELLED) {
                flags.set(Flags::SEND_CANCELLED | Flags::UNPIN);
                driver.cancel_send(key);
            }
        }
    }

    /// Buffers came back: connections that waited for them receive again, oldest first.
    fn feed_starved(&mut self, driver: &mut impl Driver) {
        let (free, all) = driver.buffers_free();
        self.core.buffers_low = free < all / 4;
        let mut room = if free > all / 8 { free } else { 0 };
        while room > 0
            && let Some(key) = self.core.starved.pop_front()
        {
            let Some(connection) = self.core.find(key) else {
                continue;
            };
            connection.flags.clear(Flags::STARVED);
            room -= 1;
            self.flush_slot(driver, key.slot);
        }
    }

    fn go_on_accepting(&mut self, driver: &mut impl Driver) {
        if self
            .accept_retry
            .is_some_and(|retry| retry <= self.core.now)
        {
            self.accept_retry = None;
        }
        self.accept_within_room(driver);
    }

    // --- drain --------------------------------------------------------------------------------------------------

    /// Stops accepting, lets the service say goodbye on each connection, and closes them one by one, spread over the
    /// drain time.
    pub fn drain(&mut self, driver: &mut impl Driver) {
        if self.drain_until.is_some() {
            return;
        }
        let ms = self.core.options.drain_ms;
        let (shard, connections) = (self.core.options.shard, self.core.live);
        tracing::info!(shard, connections, ms, "drain begins");
        self.drain_until = Some(self.core.now + Span::from_ms(ms));
        self.core.draining = true;
        self.accept_retry = None;
        self.accept_within_room(driver);
        for slot in 0..u32::try_from(self.core.slots.len()).expect("invariant: slots fit u32") {
            // A handshake may end; then it is said goodbye to.
            if self.core.connection(slot).state == State::Open {
                self.say_goodbye(slot);
            }
        }
        self.flush(driver);
    }

    /// Goaway now, the close frame within the drain time.
    pub(super) fn say_goodbye(&mut self, slot: u32) {
        let retry_ms = self.core.jittered_retry_ms();
        let id = self.core.id(slot);
        self.service.on_goaway(&mut self.core, id, retry_ms);
        let spread_ms = self.core.options.drain_ms * 3 / 4;
        let after = Span::from_ms(self.core.random_below(spread_ms.max(1)));
        if self.core.connection(slot).state == State::Open {
            self.core.connection(slot).flags.set(Flags::DRAIN);
            self.core.set_own_deadline(slot, Some(after));
        }
    }

    /// The sockets that are still open: for closing when the driver is gone.
    pub fn sockets(&self) -> Vec<Socket> {
        let open = |state| !matches!(state, State::Free | State::Kept);
        let slots = self.core.slots.iter();
        slots
            .filter(|connection| open(connection.state))
            .map(|connection| connection.socket)
            .collect()
    }

    /// True when a drain is over: nobody is left, or the time is.
    pub fn is_drained(&self) -> bool {
        self.is_drain_over() || (self.drain_until.is_some() && self.core.live == 0)
    }

    fn is_drain_over(&self) -> bool {
        self.drain_until.is_some_and(|until| self.core.now >= until)
    }
}

/// Why a send failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// It was cancelled.
    Cancelled,
    /// The connection is broken.
    Failed,
}
