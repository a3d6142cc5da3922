//! What the chat knows of one connection, and the slab of all of them, indexed by the shard's slots.
//!
//! ```text
//!            Hello, ticket past the frontier          frontier passed
//! Upgraded ────────────────────────────────▶ Waiting ────────────────┐
//!    │                                                               ▼
//!    └───────────────── Hello, admitted ─────────────────────────▶ Opening ──▶ Open
//!                                                          OPENED is in the ring
//! ```
//!
//! A connection that ends in `Opening` or before was never told to the backend: its slot is free at once. One that
//! ends in `Open` becomes `Closed` until its CLOSED record is in the ring, and only then is its slot used again.
//! OPENED and CLOSED are states, not messages in a queue: however full the ring is, neither can be lost.

use super::heartbeat::{Moment, Pulse, learned::NetworkKey};
use super::inbound::TYPING_MS_MIN;
use crate::id::ConnectionId;
use tidegate_protocol::bus::{ClosedRecord, OpenedRecord};
use tidegate_protocol::{Codec, Id, fb};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nobody uses the slot.
    Free,
    /// Owes us a Hello.
    Upgraded,
    /// Said Hello; waits in the waiting room.
    Waiting,
    /// Admitted; OPENED is not in the ring yet.
    Opening,
    /// The backend was told.
    Open,
    /// The socket is gone; CLOSED is not in the ring yet.
    Closed,
}

/// What is kept only while a connection waits for admission or for room in the ring.
#[derive(Debug, Default)]
pub struct Held {
    /// The verified payload of its Hello.
    pub hello: Box<[u8]>,
    /// `Hello.request`.
    pub request: u64,
    /// Its number in the order of admission.
    pub ticket: u64,
    /// When it drew that number, ms since the Unix epoch.
    pub arrived_ms: u64,
    /// Comes in on that number, and was not inside before.
    pub on_ticket: bool,
}

/// Acknowledgements that found the ring full: one entry a conversation, merged (they are cumulative).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldAck {
    /// Which conversation.
    pub conversation: Id,
    /// Highest delivered seq.
    pub delivered: u64,
    /// Highest read seq.
    pub read: u64,
}

/// The `sid` of tokens where one company uses the system.
const SITE_USUAL: u32 = 1;

/// What few connections have: boxed, so that the others do not pay for it.
#[derive(Debug, Default)]
pub struct Extra {
    /// The token's `name`; an announcement repeats it.
    pub name: Box<str>,
    /// Agents: the token's `iat`, seconds since the Unix epoch; an announcement repeats it. 0 for visitors.
    pub issued_at_s: u64,
    /// The token's `sid`, unless it is the usual one.
    site: Option<u32>,
    /// Set while in [`Phase::Waiting`] and [`Phase::Opening`].
    pub held: Option<Held>,
    /// Set while acknowledgements wait for room.
    pub acks: Vec<HeldAck>,
    /// Set in [`Phase::Closed`].
    pub closed: Option<ClosedRecord>,
}

impl Extra {
    fn is_empty(&self) -> bool {
        self.name.is_empty()
            && self.issued_at_s == 0
            && self.site.is_none()
            && self.held.is_none()
            && self.acks.is_empty()
            && self.closed.is_none()
    }
}

/// Small facts about a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    /// A Message went out that no Ack followed; `since` says when the oldest did.
    pub const UNACKNOWLEDGED: Flags = Flags(1);
    /// The shard keeps a message of it; `since` of [`Peer::parked_since`] counts.
    pub const PARKED: Flags = Flags(2);
    /// Its parked message is too old: what cannot be placed now is refused.
    pub const OVERDUE: Flags = Flags(4);
    /// It stands in the queue of OPENED or CLOSED records that wait for room.
    pub const QUEUED: Flags = Flags(8);
    /// It stands in the queue of held acknowledgements.
    pub const ACKS_QUEUED: Flags = Flags(16);
    /// The backend asked for its end.
    pub const ENDED_BY_BACKEND: Flags = Flags(32);
    /// Silence ended it.
    pub const TIMED_OUT: Flags = Flags(64);
    /// It waits in the queue for an agent, as the backend said.
    pub const IN_QUEUE: Flags = Flags(128);

    /// Whether all of `flags` are set.
    pub fn has(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Sets `flags`.
    pub fn set(&mut self, flags: Flags) {
        self.0 |= flags.0;
    }

    /// Clears `flags`.
    pub fn clear(&mut self, flags: Flags) {
        self.0 &= !flags.0;
    }
}

/// One connection of the chat. Idle and without a name it owns nothing beyond these bytes.
#[derive(Debug)]
pub struct Peer {
    /// The token's `sub`; absent before Hello.
    pub principal: Id,
    /// `Hello.session`.
    pub session: u64,
    /// `Hello.connection`; an announcement repeats it.
    pub connection: u32,
    /// Where it comes from, and its client family.
    pub network: NetworkKey,
    extra: Option<Box<Extra>>,
    /// When it is pinged and given up.
    pub pulse: Pulse,
    /// Which use of the slot this is.
    pub generation: u32,
    /// The token's `wid`.
    pub widget: u32,
    /// The token's `exp`, seconds since the Unix epoch; a `u32` lasts until 2106.
    pub expires_at_s: u32,
    /// Upgraded: since when. Waiting: when the next news is due. Open: when the oldest unacknowledged Message went
    /// out.
    pub since: Moment,
    /// When the message that the shard keeps was first offered.
    pub parked_since: Moment,
    /// When it was last heard typing.
    pub typed_at: Moment,
    /// When an acknowledgement of it was last placed at once.
    pub acked_at: Moment,
    /// The backend (by the count of [`announce`](super::announce)) that knows this connection.
    pub known_to: u16,
    /// The token's role.
    pub role: fb::Role,
    /// How it speaks.
    pub codec: Codec,
    /// Where it stands.
    pub phase: Phase,
    /// Malformed things it sent lately.
    pub strikes: u8,
    /// Small facts.
    pub flags: Flags,
}

/// The idle connection's budget is 192 bytes over all slabs of the gateway.
const _: () = assert!(size_of::<Peer>() <= 96);

impl Peer {
    fn free() -> Peer {
        Peer {
            principal: Id::ABSENT,
            session: 0,
            connection: 0,
            network: NetworkKey::default(),
            extra: None,
            pulse: Pulse::new(Moment(0), 0),
            generation: 0,
            widget: 0,
            expires_at_s: 0,
            since: Moment(0),
            parked_since: Moment(0),
            typed_at: Moment(0),
            acked_at: Moment(0),
            known_to: 0,
            role: fb::Role::Visitor,
            codec: Codec::Json,
            phase: Phase::Free,
            strikes: 0,
            flags: Flags::default(),
        }
    }

    /// A connection that was upgraded now.
    pub fn upgraded(
        generation: u32,
        codec: Codec,
        network: NetworkKey,
        now: Moment,
        interval_ms: u32,
    ) -> Peer {
        Peer {
            generation,
            codec,
            network,
            pulse: Pulse::new(now, interval_ms),
            since: now,
            // The first one after the upgrade is not too early.
            typed_at: Moment(now.0.wrapping_sub(TYPING_MS_MIN)),
            acked_at: now,
            phase: Phase::Upgraded,
            ..Peer::free()
        }
    }

    /// What few have, if it has any of it.
    pub fn extra(&self) -> Option<&Extra> {
        self.extra.as_deref()
    }

    /// What few have, made when absent.
    pub fn extra_mut(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// The same, if it has any of it.
    pub fn extra_if_any(&mut self) -> Option<&mut Extra> {
        self.extra.as_deref_mut()
    }

    /// Gives the box back when nothing is left in it.
    pub fn shrink(&mut self) {
        if self.extra.as_deref().is_some_and(Extra::is_empty) {
            self.extra = None;
        }
    }

    /// Keeps the token's `sid`.
    pub fn set_site(&mut self, site: u32) {
        if site != SITE_USUAL {
            self.extra_mut().site = Some(site);
        }
    }

    /// The token's `name`.
    pub fn name(&self) -> &str {
        self.extra().map_or("", |extra| &extra.name)
    }

    /// What it held while it waited.
    pub fn held(&self) -> Option<&Held> {
        self.extra().and_then(|extra| extra.held.as_ref())
    }

    /// Whether the backend treats it as an agent's.
    pub fn is_staff(&self) -> bool {
        matches!(self.role, fb::Role::Agent | fb::Role::Supervisor)
    }

    /// The fixed part of its OPENED record.
    pub fn opened_record(&self, heartbeat_ms: u32, flags: u8) -> OpenedRecord {
        OpenedRecord {
            session: self.session,
            request: self.held().map_or(0, |held| held.request),
            issued_at_s: self.extra().map_or(0, |extra| extra.issued_at_s),
            peer_prefix: self.network.prefix(),
            widget: self.widget,
            site: self
                .extra()
                .and_then(|extra| extra.site)
                .unwrap_or(SITE_USUAL),
            role: self.role.0,
            family: self.network.family().0,
            codec: self.codec as u8,
            flags,
            heartbeat_ms,
            connection: self.connection,
            ..OpenedRecord::default()
        }
    }
}

/// All connections of a shard. As long as the highest slot that was ever used, and never shorter.
#[derive(Debug)]
pub struct Peers {
    slots: Vec<Peer>,
}

impl Peers {
    /// For slots below `connections_max`: their memory is reserved, becomes resident as they are first used, and never
    /// moves.
    #[must_use]
    pub fn new(connections_max: u32) -> Peers {
        Peers {
            slots: Vec::with_capacity(connections_max as usize),
        }
    }

    /// Puts a new connection into its slot.
    pub fn insert(&mut self, slot: u32, peer: Peer) {
        let index = slot as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, Peer::free);
        }
        debug_assert!(
            self.slots[index].phase == Phase::Free,
            "a slot is used again only after it was freed"
        );
        self.slots[index] = peer;
    }

    /// Empties a slot.
    pub fn remove(&mut self, slot: u32) {
        if let Some(peer) = self.slots.get_mut(slot as usize) {
            *peer = Peer::free();
        }
    }

    /// The connection in this slot, if it is still this one.
    pub fn get(&self, slot: u32, generation: u32) -> Option<&Peer> {
        self.slots
            .get(slot as usize)
            .filter(|peer| is_it(peer, generation))
    }

    /// The same, to change.
    pub fn get_mut(&mut self, slot: u32, generation: u32) -> Option<&mut Peer> {
        self.slots
            .get_mut(slot as usize)
            .filter(|peer| is_it(peer, generation))
    }

    /// The connection of a callback. The shard calls only for connections that it showed and that have not ended.
    pub fn by_id(&mut self, id: ConnectionId) -> Option<&mut Peer> {
        self.get_mut(id.slot, id.generation)
    }

    /// Whatever is in this slot.
    pub fn at(&self, slot: u32) -> Option<&Peer> {
        self.slots
            .get(slot as usize)
            .filter(|peer| peer.phase != Phase::Free)
    }

    /// Slots ever used: one past the highest.
    pub fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).expect("invariant: slots are u32")
    }
}

fn is_it(peer: &Peer, generation: u32) -> bool {
    peer.phase != Phase::Free && peer.generation == generation
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(generation: u32) -> Peer {
        Peer::upgraded(
            generation,
            Codec::Flat,
            NetworkKey::default(),
            Moment(0),
            30_000,
        )
    }

    #[test]
    fn a_connection_is_found_under_its_generation_and_no_other() {
        let mut peers = Peers::new(8);
        peers.insert(3, peer(7));
        assert!(peers.get(3, 7).is_some());
        assert!(peers.get(3, 6).is_none() && peers.get(3, 8).is_none());
        assert!(
            peers.get(2, 0).is_none(),
            "a slot that nobody used has no connection of any generation"
        );
        assert!(peers.get(4, 7).is_none());
        peers.remove(3);
        assert!(peers.get(3, 7).is_none());
    }

    #[test]
    fn what_few_have_is_given_back_when_it_is_empty() {
        let mut peer = peer(1);
        peer.extra_mut().held = Some(Held::default());
        peer.shrink();
        assert!(peer.held().is_some());
        peer.extra_mut().held = None;
        peer.shrink();
        assert!(peer.extra().is_none());
    }
}
