//! Who is alive. One timer a connection, set lazily: it comes due where the connection was last expected to be
//! silent for too long, looks, and is set again. So traffic costs no timer.

use super::admission::{News, Turn};
use super::counters::Tally;
use super::heartbeat::{Due, Moment};
use super::inbound::Step;
use super::peer::{Flags, Peer, Phase};
use super::ticket::Ticket;
use super::{Chat, moment};
use crate::service::{CloseCause, ConnectionId, Frame, Sockets, Span, Time};
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::limits::HELLO_MS_MAX;
use tidegate_protocol::message;

/// A peer that sends, but has not acknowledged a Message for so long, does not hear us. Browsers wake a hidden page's
/// timers once a minute only, and its acknowledgement may come with the wake-up after the message's.
pub const HALF_OPEN_MS: u32 = 90_000;

impl Peer {
    /// Whether a Message went out so long ago that a living peer had acknowledged something by now.
    pub(super) fn is_half_open(&self, now: Moment) -> bool {
        self.phase == Phase::Open
            && self.flags.has(Flags::UNACKNOWLEDGED)
            && now.since_ms(self.since) >= HALF_OPEN_MS
    }

    /// A Message goes out.
    pub(super) fn expects_ack(&mut self, now: Moment) {
        if !self.flags.has(Flags::UNACKNOWLEDGED) {
            self.flags.set(Flags::UNACKNOWLEDGED);
            self.since = now;
        }
    }
}

impl Chat {
    /// Bytes came.
    pub(super) fn heard(&mut self, io: &impl Sockets, id: ConnectionId) {
        let now = moment(io.now());
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        let Some(silence_ms) = peer.pulse.heard(now) else {
            return;
        };
        let network = peer.network;
        self.learned.survived(network, silence_ms, now);
        let ceiling_ms = self
            .learned
            .ceiling_ms(network, &self.bounds(network.family()), now);
        if let Some(peer) = self.peers.by_id(id) {
            peer.pulse.grow(ceiling_ms);
        }
    }

    /// The connection's timer came due.
    pub(super) fn look_at(&mut self, io: &mut impl Sockets, id: ConnectionId) {
        let now = moment(io.now());
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        match peer.phase {
            Phase::Free | Phase::Closed => {}
            Phase::Upgraded => self.look_at_stranger(io, id, now),
            Phase::Waiting => {
                self.look_at_waiting(io, id, now);
                self.schedule(io, id);
            }
            Phase::Opening | Phase::Open => {
                peer.strikes /= 2;
                if io.now().s() >= u64::from(peer.expires_at_s) {
                    io.close(
                        id,
                        CloseCode::EXPIRED_TOKEN.0,
                        "the token expired: get a new one, then come back",
                    );
                } else {
                    self.schedule(io, id);
                }
            }
        }
    }

    fn look_at_stranger(&mut self, io: &mut impl Sockets, id: ConnectionId, now: Moment) {
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        let owed_ms = u64::from(now.since_ms(peer.since));
        if owed_ms < HELLO_MS_MAX {
            io.set_timer(id, io.now() + Span::from_ms(HELLO_MS_MAX - owed_ms));
            return;
        }
        self.link.count(Tally::HelloTimeouts);
        io.close(id, CloseCode::HELLO_TIMEOUT.0, "no hello in time");
    }

    fn look_at_waiting(&mut self, io: &mut impl Sockets, id: ConnectionId, now: Moment) {
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        let Some(ticket) = peer.held().map(|held| held.ticket) else {
            return;
        };
        if ahead_ms(now, peer.since) > 0 {
            return;
        }
        match self.room.news(ticket, self.link.frontier(), now) {
            Turn::Now(news) => self.tell_news(io, id, news),
            Turn::Later(ms) => {
                if let Some(peer) = self.peers.by_id(id) {
                    peer.since = now.after_ms(ms);
                }
            }
        }
    }

    /// Tells a waiting connection its place, and plans the next news.
    pub(super) fn tell_news(&mut self, io: &mut impl Sockets, id: ConnectionId, news: News) {
        let now = moment(io.now());
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        peer.since = now.after_ms(news.next_ms);
        let (codec, principal) = (peer.codec, peer.principal);
        let Some(held) = peer.held() else { return };
        let ticket = self.office.sign(
            Ticket {
                number: held.ticket,
                arrived_ms: held.arrived_ms,
            },
            principal.0,
        );
        self.link.count(Tally::Waits);
        let wait = message::Wait {
            place: news.place,
            rate_per_s: news.rate_per_s,
            next_ms: news.next_ms,
            ticket: &ticket,
            eta_ms: news.eta_ms,
        };
        self.voice.wait(io, id, codec, &wait);
        self.schedule(io, id);
    }

    /// Looks at the pulse, acts on it, and sets the timer to what is due next.
    pub(super) fn schedule(&mut self, io: &mut impl Sockets, id: ConnectionId) {
        let now = moment(io.now());
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        let network = peer.network;
        let bounds = self.bounds(network.family());
        // A neighbour may have died since: its lesson counts for those who live, too.
        let ceiling_ms = self.learned.ceiling_ms(network, &bounds, now);
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        if peer.pulse.interval_ms() > ceiling_ms {
            peer.pulse.set_interval_ms(ceiling_ms);
        }
        let mut next_ms = match peer.pulse.look(now, &bounds) {
            Due::At(at) => ahead_ms(now, at),
            Due::Ping(at) => {
                self.link.count(Tally::Pings);
                let _lost_with_the_connection = io.send(id, Frame::Ping(&[]));
                ahead_ms(now, at)
            }
            Due::Dead { silence_ms } => {
                self.learned.died(network, &bounds, silence_ms, now);
                peer.flags.set(Flags::TIMED_OUT);
                self.link.count(Tally::Silent);
                io.close(id, CloseCode::HALF_OPEN.0, "silent for too long");
                return;
            }
        };
        if peer.phase == Phase::Waiting {
            next_ms = next_ms.min(ahead_ms(now, peer.since));
        }
        let token_s = u64::from(peer.expires_at_s).saturating_sub(io.now().s());
        let at = after(
            io.now(),
            u64::from(next_ms).min(token_s.saturating_mul(1_000)).max(1),
        );
        io.set_timer(id, at);
    }

    /// It sends, but does not hear.
    pub(super) fn close_half_open(&mut self, io: &mut impl Sockets, id: ConnectionId) -> Step {
        self.link.count(Tally::HalfOpen);
        io.close(
            id,
            CloseCode::HALF_OPEN.0,
            "messages were never acknowledged",
        );
        Step::Stop
    }

    /// A connection that ended without a word while a ping was unanswered died of silence, whoever noticed first.
    pub(super) fn learn_from_death(
        &mut self,
        io: &impl Sockets,
        id: ConnectionId,
        cause: CloseCause,
    ) {
        let now = moment(io.now());
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        let network = peer.network;
        if cause == CloseCause::Gone
            && peer.phase == Phase::Open
            && let Some(silence_ms) = peer.pulse.unanswered_silence_ms()
        {
            let bounds = self.bounds(network.family());
            self.learned.died(network, &bounds, silence_ms, now);
        }
    }
}

/// How far `at` lies ahead, 0 if it is past.
fn ahead_ms(now: Moment, at: Moment) -> u32 {
    at.since_ms(now)
}

fn after(now: Time, ms: u64) -> Time {
    now + Span::from_ms(ms)
}
