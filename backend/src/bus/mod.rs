//! Between the rings and the engine: records become inputs, effects become records.
//!
//! In the order in which a message meets them:
//!
//! - [`link`]: gateways that are attached, and how they are found; [`seat`] over shm-bus, [`local`] in one process
//! - [`decode`]: a record becomes an [`Input`](crate::engine::input::Input)
//! - [`port`]: one shard's two rings: how far it was read, what room is reserved for answers
//! - [`delivery`]: per connection, which conversations it follows and how far it has them
//! - [`publish`]: effects become records; who cannot be served is *behind* and pulled from its cursor later
//! - [`cold`]: what left the window, from reader threads
//! - [`news`]: presence, queue numbers: coalesced, or dropped and counted
//! - [`board`]: what the bus's control page shows of all this
//!
//! Nothing is queued as bytes for others: a connection that cannot be served now is a key in a list. Only answers
//! wait as bytes, and of those no more than the inputs that were taken.

pub mod board;
pub mod cold;
pub mod decode;
pub mod delivery;
pub mod link;
pub mod local;
pub mod news;
pub mod port;
pub mod publish;
mod pull;
pub mod seat;

use std::collections::{BTreeMap, VecDeque};

use flatbuffers::FlatBufferBuilder;

use self::cold::ColdReader;
use self::delivery::Deliveries;
use self::link::{Gateways, Link};
use self::news::News;
use self::port::Port;

/// Counted since the process started.
#[derive(Debug, Clone, Default)]
pub struct BusTally {
    /// Records written to gateways.
    pub records_out: u64,
    /// Transient effects dropped or coalesced for want of room.
    pub transient_dropped: u64,
    /// Times that a connection was marked behind.
    pub marked_behind: u64,
    /// Messages replayed from memory.
    pub replayed_warm: u64,
    /// Messages replayed from the store.
    pub replayed_cold: u64,
    /// Bad records met.
    pub records_bad: u64,
    /// Repeats of long ago whose first answer was found.
    pub repeats_found: u64,
    /// Of these, with another body.
    pub repeats_conflicting: u64,
    /// Repeats that were answered `busy` because too many were being looked for.
    pub repeats_refused: u64,
}

/// One attached gateway and the state of its ports.
pub(crate) struct Attached<L> {
    pub(crate) link: L,
    pub(crate) ports: Vec<Port>,
    /// Its process ended; its ring is drained to the end, then it is let go.
    pub(crate) dead: bool,
    /// The engine was told that it is gone; it leaves after that turn's commit.
    pub(crate) leaving: bool,
}

/// All gateways, all deliveries.
pub struct Bus<G: Gateways, C> {
    pub(crate) gateways: G,
    pub(crate) attached: BTreeMap<u64, Attached<G::Link>>,
    /// Stored cursors of gateways that were not attached yet.
    pub(crate) stored_cursors: BTreeMap<(u64, u16), u64>,
    pub(crate) deliveries: Deliveries,
    /// Connections whose state or receipts have to go out at the end of the publishing.
    pub(crate) dirty: Vec<crate::engine::connections::ConnectionKey>,
    /// Connections whose receipts may wait, and until when: one entry a connection.
    pub(crate) owed: VecDeque<(u64, crate::engine::connections::ConnectionKey)>,
    pub(crate) cold: C,
    pub(crate) cold_waiting: VecDeque<crate::engine::connections::ConnectionKey>,
    pub(crate) news: News,
    pub(crate) builder: FlatBufferBuilder<'static>,
    pub(crate) tally: BusTally,
    next_look_us: u64,
}

/// How often living gateways are probed.
const LOOK_EVERY_US: u64 = 100_000;

impl<G: Gateways, C: ColdReader> Bus<G, C> {
    /// Over a way to find gateways, with the cursors that the store kept.
    pub fn new(gateways: G, cold: C, cursors: &[crate::engine::rows::RingCursorRow]) -> Self {
        Self {
            gateways,
            attached: BTreeMap::new(),
            stored_cursors: cursors
                .iter()
                .map(|row| ((row.gateway, row.shard), row.position))
                .collect(),
            deliveries: Deliveries::default(),
            dirty: Vec::new(),
            owed: VecDeque::new(),
            cold,
            cold_waiting: VecDeque::new(),
            news: News::default(),
            builder: FlatBufferBuilder::new(),
            tally: BusTally::default(),
            next_look_us: 0,
        }
    }

    /// Attaches gateways that came, notices those that ended. Cheap when called every turn.
    pub fn look(&mut self, now_us: u64) {
        for mut link in self.gateways.discover() {
            let instance = link.instance();
            let payload_bytes_max = link.to_gateway(0).payload_bytes_max();
            if payload_bytes_max < decode::ANSWER_BYTES_MAX {
                tracing::error!(
                    gateway = format!("{instance:016x}"),
                    payload_bytes_max,
                    needed = decode::ANSWER_BYTES_MAX,
                    "a gateway's rings are too small for the longest answer: give it ring_bytes of 262144 or more"
                );
                self.gateways.refuse(link);
                continue;
            }
            let ports = (0..link.shards())
                .map(|shard| {
                    let stored = self.stored_cursors.remove(&(instance, shard));
                    let left_over_to = link.to_backend(shard).published();
                    if shm_bus::mutant::is_planted("forget_leftovers") {
                        link.to_backend(shard).skip_to(left_over_to);
                    }
                    Port::new(stored.unwrap_or(0), left_over_to)
                })
                .collect();
            self.attached.insert(
                instance,
                Attached {
                    link,
                    ports,
                    dead: false,
                    leaving: false,
                },
            );
        }
        if now_us < self.next_look_us {
            return;
        }
        self.next_look_us = now_us + LOOK_EVERY_US;
        self.gateways.beat(now_us);
        for gateway in self.attached.values_mut() {
            gateway.dead = gateway.dead || !gateway.link.is_alive();
        }
    }

    /// Gateways with a stored cursor whose segment is no longer there: nothing of theirs can come any more.
    pub fn take_vanished(&mut self) -> Vec<u64> {
        let mut vanished: Vec<u64> = self
            .stored_cursors
            .keys()
            .map(|&(gateway, _)| gateway)
            .collect();
        vanished.dedup();
        vanished.retain(|gateway| !self.attached.contains_key(gateway));
        self.stored_cursors.clear();
        vanished
    }

    /// A gateway that ended and whose ring is read to the end: its connections are gone. Told once.
    pub fn next_gone(&mut self) -> Option<u64> {
        let (&instance, gateway) = self.attached.iter_mut().find(|(_, gateway)| {
            gateway.dead && !gateway.leaving && gateway.ports.iter().all(|port| port.read_to_end)
        })?;
        gateway.leaving = true;
        Some(instance)
    }

    /// Lets go of gateways whose end was committed.
    pub fn unlink_gone(&mut self) {
        let gone: Vec<u64> = self
            .attached
            .iter()
            .filter(|(_, gateway)| gateway.leaving)
            .map(|(&instance, _)| instance)
            .collect();
        for instance in gone {
            let Some(Attached { link, .. }) = self.attached.remove(&instance) else {
                continue;
            };
            if link.is_alive() {
                // Its ring is beyond reading: it cannot know that unless it is told.
                self.gateways.refuse(link);
            } else if let Err(error) = link.unlink() {
                tracing::warn!(
                    gateway = format!("{instance:016x}"),
                    error,
                    "a dead gateway's segment stays"
                );
            }
        }
    }

    /// Whether a ring or a reader has something that can be taken now.
    pub fn has_input(&mut self) -> bool {
        self.cold.is_ready()
            || self.any_port(|port, link, shard, dead| {
                !port.read_to_end
                    && (dead || port.may_take(link.to_gateway(shard), decode::ANSWER_BYTES_MAX))
                    && !link.to_backend(shard).is_empty()
            })
    }

    /// Whether something waits for room in a ring. Nobody rings when room comes: look again soon.
    pub fn is_blocked(&mut self) -> bool {
        self.any_port(|port, link, shard, dead| {
            let waits = !port.waiting.is_empty() || !port.behind.is_empty();
            let full = !port.may_take(link.to_gateway(shard), decode::ANSWER_BYTES_MAX);
            !dead && (waits || (full && !link.to_backend(shard).is_empty()))
        })
    }

    fn any_port(&mut self, mut is: impl FnMut(&mut Port, &mut G::Link, u16, bool) -> bool) -> bool {
        self.attached.values_mut().any(|gateway| {
            let dead = gateway.dead;
            (0..)
                .zip(&mut gateway.ports)
                .any(|(shard, port)| is(port, &mut gateway.link, shard, dead))
        })
    }

    /// The fullest ring of a living gateway, whichever way it leads, in percent.
    pub fn fill_percent(&mut self) -> u32 {
        let mut fullest = 0;
        for gateway in self.attached.values_mut().filter(|gateway| !gateway.dead) {
            for shard in 0..gateway.link.shards() {
                let to_backend = gateway.link.to_backend(shard).fill_percent();
                let to_gateway = gateway.link.to_gateway(shard).fill_percent();
                fullest = fullest.max(to_backend).max(to_gateway);
            }
        }
        fullest
    }

    /// Gateways attached.
    pub fn gateway_count(&self) -> u32 {
        u32::try_from(self.attached.len()).unwrap_or(u32::MAX)
    }

    /// What was counted.
    pub const fn tally(&self) -> &BusTally {
        &self.tally
    }

    /// Connections that are behind now.
    pub fn behind(&self) -> u64 {
        self.attached
            .values()
            .flat_map(|gateway| &gateway.ports)
            .map(|port| port.behind.len() as u64)
            .sum()
    }

    /// The way to sleep and to be woken.
    pub const fn gateways_mut(&mut self) -> &mut G {
        &mut self.gateways
    }
}
