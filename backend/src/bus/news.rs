//! Transient words: agents' presence and the queue's numbers. They are collected and sent at most a few times a
//! second, the newest replacing all before; without room they are dropped and counted, and the next ones make up.

use tidegate_protocol::{Id, Kind, bus, message};
use zerocopy::IntoBytes;

use super::Bus;
use super::cold::ColdReader;
use super::link::Gateways;
use crate::engine::Engine;
use crate::engine::conversation::ConversationKey;
use crate::engine::kinds::Role;

/// Presence and queue numbers go out at most this often.
const NEWS_EVERY_US: u64 = 250_000;
/// While somebody waits, numbers go out at least this often: waits grow.
const QUEUE_EVERY_US: u64 = 5_000_000;
/// Visitors told of their place in one round; those in front first, the others in turn.
const PLACES_PER_ROUND_MAX: usize = 2_000;
/// Of these, the places in front.
const FRONT_PLACES_MAX: usize = 500;

/// What was told, and when.
#[derive(Debug, Default)]
pub struct News {
    next_us: u64,
    queue_next_us: u64,
    /// Place that a conversation's visitor was told last, by key.
    told: Vec<u32>,
    /// Where the next round goes on behind the front.
    turn_at: usize,
    presence: std::collections::BTreeSet<Id>,
    queue: bool,
}

const AGENTS: u8 = 1 << Role::Agent.code() | 1 << Role::Supervisor.code();

impl<G: Gateways, C: ColdReader> Bus<G, C> {
    /// Sends what changed, if it is time. Returns when it wants to be called again.
    pub fn tell_news(&mut self, engine: &mut Engine, now_us: u64) -> u64 {
        self.news.presence.append(&mut engine.take_presence());
        self.news.queue |= engine.take_queue_change();
        let waits = !engine.queue().is_empty();
        let due = !self.news.presence.is_empty()
            || self.news.queue
            || (waits && now_us >= self.news.queue_next_us);
        if !due {
            return if waits {
                self.news.queue_next_us
            } else {
                u64::MAX
            };
        }
        if now_us < self.news.next_us {
            return self.news.next_us;
        }
        self.news.next_us = now_us + NEWS_EVERY_US;
        let engine = &*engine;
        let mut builder = std::mem::take(&mut self.builder);
        for id in std::mem::take(&mut self.news.presence) {
            if let Some(presence) = engine.presence_of(id, 0) {
                let payload = presence.encode(&mut builder);
                self.tell_agents(Kind::Presence, engine.view_us(), payload);
            }
        }
        if std::mem::take(&mut self.news.queue) || now_us >= self.news.queue_next_us {
            self.news.queue_next_us = now_us + QUEUE_EVERY_US;
            let mut update = engine.queue_update(Id::ABSENT, 0);
            update.eta_ms = engine.eta_ms(engine.queue().len() + 1);
            let payload = update.encode(&mut builder);
            self.tell_agents(Kind::QueueUpdate, engine.view_us(), payload);
            self.tell_places(engine, &mut builder);
        }
        self.builder = builder;
        if waits {
            self.news.queue_next_us
        } else {
            u64::MAX
        }
    }

    fn tell_agents(&mut self, kind: Kind, at_us: u64, payload: &[u8]) {
        let filter = bus::BroadcastFilter {
            role_mask: AGENTS,
            reserved: [0; 3],
            widget: 0,
        };
        let mut record = Vec::with_capacity(8 + payload.len());
        record.extend_from_slice(filter.as_bytes());
        record.extend_from_slice(payload);
        self.offer_everywhere(kind, at_us, &record);
    }

    /// Tells visitors their new places.
    fn tell_places(
        &mut self,
        engine: &Engine,
        builder: &mut flatbuffers::FlatBufferBuilder<'static>,
    ) {
        let waiting = engine.queue().len() as usize;
        let from = if self.news.turn_at >= waiting {
            FRONT_PLACES_MAX
        } else {
            self.news.turn_at
        };
        let mut told = 0;
        let mut last = 0;
        let places = engine.queue().iter().enumerate();
        for (index, key) in places.filter(|&(index, _)| index < FRONT_PLACES_MAX || index >= from) {
            if told >= PLACES_PER_ROUND_MAX {
                break;
            }
            last = index;
            told += usize::from(self.tell_place(engine, ConversationKey(key), index, builder));
        }
        self.news.turn_at = if last + 1 >= waiting {
            FRONT_PLACES_MAX
        } else {
            (last + 1).max(FRONT_PLACES_MAX)
        };
    }

    fn tell_place(
        &mut self,
        engine: &Engine,
        key: ConversationKey,
        index: usize,
        builder: &mut flatbuffers::FlatBufferBuilder<'static>,
    ) -> bool {
        let position = u32::try_from(index + 1).unwrap_or(u32::MAX);
        if self.news.told.len() <= key.index() {
            self.news.told.resize(key.index() + 1, 0);
        }
        let count = self.deliveries.follower_count(key);
        if self.news.told[key.index()] == position || count == 0 {
            return false;
        }
        self.news.told[key.index()] = position;
        let id = engine.conversations().at(key).row.id;
        let update: message::QueueUpdate<'_> = engine.queue_update(id, position);
        let payload = update.encode(builder);
        for index in 0..count {
            let follower = self
                .deliveries
                .follower(key, index)
                .and_then(|key| self.deliveries.get(key));
            let Some(delivery) = follower.filter(|delivery| delivery.role == Role::Visitor) else {
                continue;
            };
            let address = delivery.address;
            if !self.offer_transient(address, Kind::QueueUpdate, engine.view_us(), payload) {
                self.news.told[key.index()] = 0;
            }
        }
        true
    }
}
