//! Telling a new backend who is here.
//!
//! A backend that restarted knows nobody. The gateway sees its new instance on the segment and announces every live
//! connection with an OPENED record marked `announced`: a connection always before its own next record, the rest in
//! the order of slots at a bounded rate, and only while half of the ring is free, so that those who have something to
//! say go first. No visitor notices.

use super::heartbeat::Moment;
use super::link::Placed;
use super::peer::Phase;
use super::token_bucket::TokenBucket;
use super::{Chat, moment};
use crate::service::Sockets;
use shm_bus::InstanceId;

/// A shard announces at most this many connections a second beside those that have something to say.
pub const ANNOUNCED_PER_S_MAX: u32 = 50_000;

/// Slots that one turn looks at.
const SLOTS_PER_TURN_MAX: usize = 16_384;

/// Which backend the connections of a shard are known to.
pub struct Announcer {
    backend: Option<InstanceId>,
    /// Counts backends; a connection that is known to an earlier count has to be announced.
    count: u16,
    sweep: Option<Sweep>,
    bucket: TokenBucket,
}

/// Slots that are still to be looked at.
#[derive(Clone, Copy)]
struct Sweep {
    next_slot: u32,
    end: u32,
}

impl Announcer {
    /// Nobody was announced to anybody.
    pub fn new(now: Moment) -> Announcer {
        Announcer {
            backend: None,
            count: 0,
            sweep: None,
            bucket: TokenBucket::new(ANNOUNCED_PER_S_MAX, now),
        }
    }

    /// The count of the backend that is there now; a new one starts a sweep over the slots below `end`. Cheap: asked
    /// before every record. A backend that went away changes nothing: who comes back is a new instance.
    pub fn observe(&mut self, backend: Option<InstanceId>, end: u32) -> u16 {
        if backend.is_some() && backend != self.backend {
            self.backend = backend;
            self.count = self.count.wrapping_add(1);
            self.sweep = (end > 0).then_some(Sweep { next_slot: 0, end });
        }
        self.count
    }

    /// The count of the backend as observed last.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// The next slot to look at, if the sweep is not at its end.
    pub fn next_slot(&self) -> Option<u32> {
        self.sweep.map(|sweep| sweep.next_slot)
    }

    /// Whether the rate allows one more announcement now.
    pub fn may_announce(&mut self, now: Moment) -> bool {
        self.bucket.take(now)
    }

    /// The slot of [`Announcer::next_slot`] was dealt with.
    pub fn advance(&mut self) {
        if let Some(sweep) = &mut self.sweep {
            sweep.next_slot += 1;
            if sweep.next_slot >= sweep.end {
                self.sweep = None;
            }
        }
    }
}

impl Chat {
    /// Looks which backend is there; the count of it. One load where nothing changed.
    pub(super) fn notice_backend(&mut self) -> u16 {
        let before = self.announcer.count();
        let backend = self.link.backend();
        let count = self.announcer.observe(backend, self.peers.end());
        if count != before {
            let backend = backend.map_or(0, InstanceId::get);
            tracing::info!(
                backend = format_args!("{backend:016x}"),
                connections = self.open,
                "backend attached, announcing"
            );
        }
        count
    }

    /// Goes on with the sweep, while there is room to spare. True: it has more to do at once; where it waits for the
    /// rate or for room it goes on in a later turn, which comes at the latest with the shard's next look around.
    pub(super) fn announce_some(&mut self, io: &impl Sockets) -> bool {
        let now = moment(io.now());
        let current = self.announcer.count();
        for _ in 0..SLOTS_PER_TURN_MAX {
            let Some(slot) = self.announcer.next_slot() else {
                return false;
            };
            if let Some(peer) = self.peers.at(slot).filter(|peer| peer.phase == Phase::Open)
                && peer.known_to != current
            {
                let (generation, heartbeat_ms) = (peer.generation, peer.pulse.interval_ms());
                let has_room = self.untold.is_empty() && self.link.is_half_free();
                if !has_room || !self.announcer.may_announce(now) {
                    return false;
                }
                if self.tell_announced(slot, generation, current, heartbeat_ms) != Placed::Yes {
                    return false;
                }
            }
            self.announcer.advance();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_backend_starts_one_sweep_over_the_slots_of_that_moment() {
        let mut announcer = Announcer::new(Moment(0));
        let (first, second) = (InstanceId::from_raw(1), InstanceId::from_raw(2));
        assert_eq!(announcer.observe(None, 3), 0);
        assert_eq!(announcer.next_slot(), None);
        assert_eq!(announcer.observe(first, 2), 1);
        assert_eq!(announcer.next_slot(), Some(0));
        announcer.advance();
        assert_eq!(
            announcer.observe(first, 2),
            1,
            "the same backend starts no second sweep"
        );
        assert_eq!(announcer.next_slot(), Some(1));
        announcer.advance();
        assert_eq!(announcer.next_slot(), None);
        assert_eq!(
            announcer.observe(None, 2),
            1,
            "an absent backend is no new one"
        );
        assert_eq!(announcer.observe(second, 5), 2);
        assert_eq!(announcer.next_slot(), Some(0));
    }
}
