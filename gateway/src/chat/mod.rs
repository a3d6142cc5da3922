//! The chat: what stands between WebSocket messages and the shared-memory bus. One [`Chat`] per shard.
//!
//! Sans-IO: it reads no clock and touches no socket; time and sockets come in through
//! [`Sockets`](crate::service::Sockets), the bus through a shard's end of the segment. So the driver, the tests and
//! a simulator run the same code.
//!
//! A message on its way up meets the modules in this order:
//!
//! | module | what it does with it |
//! | --- | --- |
//! | [`hello`] | verifies who is there, before anything else counts |
//! | [`admission`], [`ticket`] | lets people in, in one order over all gateways, or has them wait |
//! | [`inbound`] | decodes to the one internal form and places it in the ring; refuses what is malformed |
//! | [`park`] | keeps the connection whose message found no room, for a bounded time |
//! | [`untold`] | gets OPENED and CLOSED into the ring, however full it is |
//! | [`announce`] | tells a new backend who is here |
//!
//! and on its way down [`outbound`], which encodes a payload once per codec and fans it out. [`liveness`] and
//! [`heartbeat`] find out who died. What the gateway itself says goes through [`voice`].
//!
//! **While the backend is away** connections stay. The rings take what fits; then the next message of each
//! connection is parked, and refused `busy` after `park_ms_max`. Pings are answered here, always: they never need the
//! ring. Once a backend is back it reads what is left in the rings, and is told of everybody.
//!
//! **Order of a turn.** What came from the backend is drained first and never waits for room towards it; only then
//! OPENED and CLOSED, held acknowledgements, parked messages, admissions and announcements compete for room, in this
//! order. So two full rings can not wait for each other.

pub mod admission;
pub mod announce;
pub mod bus_echo;
pub mod counters;
pub mod heartbeat;
mod hello;
mod inbound;
mod jitter;
mod link;
mod liveness;
mod outbound;
mod park;
pub mod peer;
mod serve;
pub mod ticket;
pub mod token_bucket;
mod untold;
mod voice;

#[cfg(test)]
mod tests;

pub use serve::{run, run_bus_echo};

use std::os::fd::{AsRawFd, RawFd};

use crate::config::Config;
use crate::service::{
    CloseCause, ConnectionId, Message, Service, Sockets, Taken, Time, Told, Upgrade,
};
use admission::WaitingRoom;
use announce::Announcer;
use counters::Tally;
use heartbeat::{Bounds, Moment, learned::Learned};
use jitter::Jitter;
use link::Link;
use park::Parking;
use peer::{Flags, Peers};
use shm_bus::ShardEnd;
use ticket::TicketOffice;
use tidegate_protocol::codec::json::JsonDecoder;
use tidegate_protocol::token::Key;
use tidegate_protocol::{Codec, fb};
use token_bucket::TokenBucket;
use untold::Untold;
use voice::Voice;

/// What the chat is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Verifies tokens, signs tickets.
    pub token_key: Key,
    /// Shortest heartbeat interval, ms.
    pub heartbeat_ms_min: u32,
    /// Longest heartbeat interval of `h5`, ms.
    pub heartbeat_ms_max: u32,
    /// A message that found no room is refused after so long, ms.
    pub park_ms_max: u32,
    /// Bytes of Hellos that may be held for people who wait, per shard.
    pub held_bytes_max: usize,
    /// Slots of the shard are below it.
    pub connections_max: u32,
    /// Seeds the jitter of what clients are told to wait. Any number; the same number gives the same run.
    pub seed: u64,
}

impl Settings {
    /// From the gateway's configuration.
    #[must_use]
    pub fn new(config: &Config, token_key: Key, seed: u64) -> Settings {
        Settings {
            token_key,
            heartbeat_ms_min: config.heartbeat_ms_min,
            heartbeat_ms_max: config.heartbeat_ms_max,
            park_ms_max: config.park_ms_max,
            held_bytes_max: config.parked_bytes_max as usize,
            connections_max: config.connections_max,
            seed,
        }
    }
}

/// The chat of one shard.
pub struct Chat {
    settings: Settings,
    office: TicketOffice,
    link: Link,
    peers: Peers,
    learned: Learned,
    untold: Untold,
    parking: Parking,
    room: WaitingRoom,
    announcer: Announcer,
    fanouts: outbound::Fanouts,
    voice: Voice,
    jitter: Jitter,
    /// Bounds the log lines about hostile connections; all are counted.
    hostile_lines: TokenBucket,
    /// Payloads that are made here to be placed: Hello without its secrets, merged acknowledgements.
    builder: flatbuffers::FlatBufferBuilder<'static>,
    json_decoder: JsonDecoder,
    held_bytes: usize,
    open: usize,
    asleep: bool,
    /// The sweep of announcements has more to do at once.
    sweeping: bool,
}

impl Chat {
    /// The chat over one shard's end of the segment.
    #[must_use]
    pub fn new(settings: Settings, end: ShardEnd, now: Time) -> Chat {
        Chat {
            office: TicketOffice::new(settings.token_key.to_hex().as_bytes()),
            jitter: Jitter::new(settings.seed ^ u64::from(end.shard)),
            link: Link::new(end),
            peers: Peers::new(settings.connections_max),
            learned: Learned::default(),
            untold: Untold::default(),
            parking: Parking::default(),
            room: WaitingRoom::default(),
            announcer: Announcer::new(moment(now)),
            hostile_lines: TokenBucket::new(HOSTILE_LINES_PER_S_MAX, moment(now)),
            fanouts: outbound::Fanouts::default(),
            voice: Voice::default(),
            builder: flatbuffers::FlatBufferBuilder::new(),
            json_decoder: JsonDecoder::default(),
            held_bytes: 0,
            open: 0,
            asleep: false,
            sweeping: false,
            settings,
        }
    }

    /// What was counted.
    #[must_use]
    pub fn counted(&self, tally: Tally) -> u64 {
        self.link.counted(tally)
    }

    /// What was refused for a reason.
    #[must_use]
    pub fn counted_refused(&self, reason: fb::Reason) -> u64 {
        self.link.counted_refused(reason)
    }

    fn bounds(&self, family: fb::Family) -> Bounds {
        Bounds::of_family(
            family,
            self.settings.heartbeat_ms_min,
            self.settings.heartbeat_ms_max,
        )
    }

    /// When somebody who is refused now should try again: later if no backend is there.
    fn retry_ms(&mut self) -> u32 {
        let least_ms = if self.link.backend_alive() {
            RETRY_MS
        } else {
            RETRY_WITHOUT_BACKEND_MS
        };
        self.jitter.retry_ms(least_ms)
    }
}

/// Log lines about hostile connections, per shard.
const HOSTILE_LINES_PER_S_MAX: u32 = 1;
/// Busy with a living backend: its turn is a matter of milliseconds.
const RETRY_MS: u32 = 500;
/// Busy without one: a restart takes a second or two.
const RETRY_WITHOUT_BACKEND_MS: u32 = 2_000;

/// The shard's time as connections keep it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "moments wrap; only differences count"
)]
fn moment(now: Time) -> Moment {
    Moment(now.ms() as u32)
}

/// The same codec by the names of the protocol.
fn codec_of(codec: crate::service::Codec) -> Codec {
    match codec {
        crate::service::Codec::Flat => Codec::Flat,
        crate::service::Codec::Json => Codec::Json,
    }
}

impl Service for Chat {
    fn on_upgraded(&mut self, io: &mut impl Sockets, id: ConnectionId, upgrade: &Upgrade<'_>) {
        self.upgraded(io, id, upgrade);
    }

    fn on_message(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        message: Message<'_>,
    ) -> Taken {
        let taken = self.take_message(io, id, message);
        if taken == Taken::Yes
            && let Some(peer) = self.peers.by_id(id)
        {
            peer.flags.clear(Flags::PARKED);
            peer.flags.clear(Flags::OVERDUE);
        }
        taken
    }

    fn on_traffic(&mut self, io: &mut impl Sockets, id: ConnectionId) {
        self.heard(io, id);
    }

    fn on_timer(&mut self, io: &mut impl Sockets, id: ConnectionId) {
        self.look_at(io, id);
    }

    fn on_goaway(&mut self, io: &mut impl Sockets, id: ConnectionId, retry_ms: u32) {
        if let Some(peer) = self.peers.by_id(id) {
            self.voice.goaway(io, id, peer.codec, retry_ms);
        }
    }

    fn on_closed(&mut self, io: &mut impl Sockets, id: ConnectionId, cause: CloseCause) -> Told {
        self.closed(io, id, cause)
    }

    fn turn(&mut self, io: &mut impl Sockets) {
        if std::mem::take(&mut self.asleep) {
            self.link.wake();
        }
        self.notice_backend();
        self.drain_to_gateway(io);
        self.tell_untold(io);
        self.offer_parked(io);
        self.admit_waiting(io);
        self.sweeping = self.announce_some(io);
        self.link.gauge(Tally::Open, self.open);
        self.link.gauge(Tally::Waiting, self.room.len());
        self.link.gauge(Tally::Untold, self.untold.len());
        self.link.ring();
    }

    fn doorbell(&self) -> Option<RawFd> {
        Some(self.link.doorbell().as_raw_fd())
    }

    fn failure(&self) -> Option<String> {
        self.link.failure()
    }

    fn before_sleep(&mut self) -> bool {
        self.link.ring();
        self.asleep = self.fanouts.is_empty() && !self.sweeping && self.link.prepare_sleep();
        self.asleep
    }
}
