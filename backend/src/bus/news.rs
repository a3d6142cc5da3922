//! Transient words: agents' presence and the queue's numbers. They are collected and sent at most a few times a
//! second, the newest replacing all before; without room they are dropped and counted, and the next ones make up.
//!
//! Every agent is told of every other, so what all agents together are told grows with the square of their number: a round
//! tells of as many as make no more than its share of [`ENVELOPES_PER_S_MAX`], and the next goes on behind them.
//!
//! However many wait, the queue costs one record a shard and round here: the gateways know who waits
//! ([`bus::JOINS_QUEUE`]) and send it to them, encoded once, and everybody finds their own place in it
//! ([`crate::engine::queue`]). What grows with the queue is the gateways' sending, so its rounds grow longer with it.

use std::collections::BTreeSet;
use std::ops::Bound;

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
/// Rounds are so far apart, and tell of so few, that no more envelopes than this come of them: of those to agents, and of
/// those to visitors who wait.
const ENVELOPES_PER_S_MAX: u64 = 20_000;
const PER_ENVELOPE_US: u64 = 1_000_000 / ENVELOPES_PER_S_MAX;

/// What was told, and when.
#[derive(Debug, Default)]
pub struct News {
    presences: Presences,
    /// Agents lack the queue's newest numbers.
    queue: bool,
    /// Those who wait lack them.
    places: bool,
    agents_next_us: u64,
    places_next_us: u64,
    queue_next_us: u64,
}

/// Agents of whom the others lack the newest.
#[derive(Debug, Default)]
struct Presences {
    changed: BTreeSet<Id>,
    /// The last that was told of: the next round begins behind it, so that nobody is told of a few again and again.
    told: Id,
}

impl Presences {
    /// Whom a round tells so many receivers of.
    fn take(&mut self, receivers: u64) -> Vec<Id> {
        let round = ENVELOPES_PER_S_MAX * NEWS_EVERY_US / 1_000_000;
        let share = usize::try_from(round / receivers.max(1)).unwrap_or(usize::MAX);
        let behind = (Bound::Excluded(self.told), Bound::Unbounded);
        let from_there = self.changed.range(behind);
        let ids: Vec<Id> = from_there
            .chain(self.changed.range(..=self.told))
            .take(share.max(1))
            .copied()
            .collect();
        for id in &ids {
            self.changed.remove(id);
            self.told = *id;
        }
        ids
    }
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
        self.news
            .presences
            .changed
            .append(&mut engine.take_presence());
        self.news.queue |= changed || due;
        self.news.places = (self.news.places || changed || due) && waiting > 0;
        let engine = &*engine;
        let for_agents = self.news.queue || !self.news.presences.changed.is_empty();
        if for_agents && now_us >= self.news.agents_next_us {
            let envelopes = self.tell_agents(engine);
            self.news.agents_next_us = now_us + NEWS_EVERY_US.max(envelopes * PER_ENVELOPE_US);
        }
        if self.news.places && now_us >= self.news.places_next_us {
            self.news.places_next_us = now_us + NEWS_EVERY_US.max(waiting * PER_ENVELOPE_US);
            self.tell_places(engine);
        }
        let or_never = |wanted: bool, at_us: u64| if wanted { at_us } else { u64::MAX };
        let for_agents = self.news.queue || !self.news.presences.changed.is_empty();
        or_never(for_agents, self.news.agents_next_us)
            .min(or_never(self.news.places, self.news.places_next_us))
            .min(or_never(waiting > 0, self.news.queue_next_us))
    }

    /// How many envelopes come of it.
    fn tell_agents(&mut self, engine: &Engine) -> u64 {
        let mut builder = std::mem::take(&mut self.builder);
        let receivers = u64::from(engine.connections().agents());
        let ids = self.news.presences.take(receivers);
        let mut records = ids.len() as u64;
        for id in ids {
            if let Some(presence) = engine.presence_of(id, 0) {
                let payload = presence.encode(&mut builder);
                self.broadcast(AGENTS, false, Kind::Presence, engine.view_us(), payload);
            }
        }
        if std::mem::take(&mut self.news.queue) {
            records += 1;
            let payload = engine.queue_update(&[]).encode(&mut builder);
            self.broadcast(AGENTS, false, Kind::QueueUpdate, engine.view_us(), payload);
        }
        self.builder = builder;
        records * receivers
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_agents_are_told_of_in_one_round() {
        let mut presences = Presences::default();
        presences.changed.extend((1..=50).map(Id));
        assert_eq!(presences.take(50).len(), 50);
        assert!(presences.take(50).is_empty());
    }

    #[test]
    fn a_round_for_many_agents_keeps_its_bound_and_everybody_gets_a_turn() {
        let mut presences = Presences::default();
        let mut told = BTreeSet::new();
        for round in 1..=50 {
            // All of them changed again meanwhile.
            presences.changed.extend((1..=500).map(Id));
            let ids = presences.take(500);
            assert!(ids.len() * 500 <= 5_000, "of {} in one round", ids.len());
            told.extend(ids);
            assert_eq!(told.len(), round * 10);
        }
        assert_eq!(presences.take(1_000_000).len(), 1, "never nobody");
    }
}
