//! Transient words: agents' presence and the queue's numbers. They are collected and sent at most a few times a
//! second, the newest replacing all before; without room they are dropped and counted, and the next ones make up.
//!
//! However many wait, the queue costs one record a shard and round here: the gateways know who waits
//! ([`bus::JOINS_QUEUE`]) and send it to them, encoded once, and everybody finds their own place in it
//! ([`crate::engine::queue`]). What grows with the queue is the gateways' sending, so its rounds grow longer with it.

use tidegate_protocol::{Id, Kind, bus, message};
use zerocopy::IntoBytes;

use super::Bus;
use super::cold::ColdReader;
use super::link::Gateways;
use crate::engine::Engine;
use crate::engine::kinds::Role;

/// Presence and queue numbers go out at most this often.
const NEWS_EVERY_US: u64 = 250_000;
/// While somebody waits, numbers go out at least this often: waits grow.
const QUEUE_EVERY_US: u64 = 5_000_000;
/// Rounds to those who wait are so far apart that no more than 20,000 envelopes a second come of them.
const PER_VISITOR_US: u64 = 50;

/// What was told, and when.
#[derive(Debug, Default)]
pub struct News {
    presence: std::collections::BTreeSet<Id>,
    /// Agents lack the queue's newest numbers.
    queue: bool,
    /// Those who wait lack them.
    places: bool,
    agents_next_us: u64,
    places_next_us: u64,
    queue_next_us: u64,
}

const AGENTS: u8 = 1 << Role::Agent.code() | 1 << Role::Supervisor.code();
const VISITORS: u8 = 1 << Role::Visitor.code();

impl<G: Gateways, C: ColdReader> Bus<G, C> {
    /// Sends what changed, if it is time. Returns when it wants to be called again.
    pub fn tell_news(&mut self, engine: &mut Engine, now_us: u64) -> u64 {
        let waiting = u64::from(engine.queue().len());
        let changed = engine.take_queue_change();
        let due = waiting > 0 && now_us >= self.news.queue_next_us;
        if due {
            self.news.queue_next_us = now_us + QUEUE_EVERY_US;
        }
        self.news.presence.append(&mut engine.take_presence());
        self.news.queue |= changed || due;
        self.news.places = (self.news.places || changed || due) && waiting > 0;
        let engine = &*engine;
        if (self.news.queue || !self.news.presence.is_empty()) && now_us >= self.news.agents_next_us
        {
            self.news.agents_next_us = now_us + NEWS_EVERY_US;
            self.tell_agents(engine);
        }
        if self.news.places && now_us >= self.news.places_next_us {
            self.news.places_next_us = now_us + NEWS_EVERY_US.max(waiting * PER_VISITOR_US);
            self.tell_places(engine);
        }
        let or_never = |wanted: bool, at_us: u64| if wanted { at_us } else { u64::MAX };
        let for_agents = self.news.queue || !self.news.presence.is_empty();
        or_never(for_agents, self.news.agents_next_us)
            .min(or_never(self.news.places, self.news.places_next_us))
            .min(or_never(waiting > 0, self.news.queue_next_us))
    }

    fn tell_agents(&mut self, engine: &Engine) {
        let mut builder = std::mem::take(&mut self.builder);
        for id in std::mem::take(&mut self.news.presence) {
            if let Some(presence) = engine.presence_of(id, 0) {
                let payload = presence.encode(&mut builder);
                self.broadcast(AGENTS, false, Kind::Presence, engine.view_us(), payload);
            }
        }
        if std::mem::take(&mut self.news.queue) {
            let payload = engine.queue_update(&[]).encode(&mut builder);
            self.broadcast(AGENTS, false, Kind::QueueUpdate, engine.view_us(), payload);
        }
        self.builder = builder;
    }

    /// One record a shard, for all who wait in the queue.
    fn tell_places(&mut self, engine: &Engine) {
        self.news.places = false;
        let marks: Vec<message::QueueMark> = engine.queue_marks();
        let mut builder = std::mem::take(&mut self.builder);
        let payload = engine.queue_update(&marks).encode(&mut builder);
        self.broadcast(VISITORS, true, Kind::QueueUpdate, engine.view_us(), payload);
        self.builder = builder;
    }

    fn broadcast(&mut self, role_mask: u8, queued: bool, kind: Kind, at_us: u64, payload: &[u8]) {
        let filter = bus::BroadcastFilter {
            role_mask,
            queued: u8::from(queued),
            reserved: [0; 2],
            widget: 0,
        };
        let mut record = Vec::with_capacity(8 + payload.len());
        record.extend_from_slice(filter.as_bytes());
        record.extend_from_slice(payload);
        self.offer_everywhere(kind, at_us, &record);
    }
}
