//! The waiting room: who may come in when more people arrive than the system serves.
//!
//! Every visitor takes a number from the ticket counter on the bus's control page, which all gateways share; the
//! backend moves a frontier over the same page. *Admitted* means ticket ≤ frontier: one order over all gateways,
//! without a lock and without a word to the backend. Those at or past the frontier are upgraded and wait here, at the cost
//! of their slot, one entry in this room and their held Hello; nothing in the backend grows with them. They get
//! `Wait` with their place, the rate (the backend says it beside the frontier), the time that it makes, and when the next
//! news comes: the farther they stand, the later, and never so often that the shard would have to send more than
//! [`WAITS_PER_S_MAX`].
//!
//! **Order.** Within a shard nobody comes in before a lower ticket that waits there: newcomers whom the frontier has
//! passed go behind those of the room. Over all shards the frontier is one number, which each looks at in every turn and,
//! idle, every 100 ms: by so much, and by the time that a full ring takes, may a later ticket of one shard come in before
//! an earlier one of another. Who leaves while waiting keeps the ticket, and costs nothing but the number: the room
//! forgets them, and the backend gives back to the rate whom it did not see come.
//!
//! **Death.** The ticket counter and the frontier lie on the bus and outlive every process; each client holds its ticket.
//! So a killed gateway costs its people a reconnect and not their place, and those who were inside come back by their
//! pass ([`ticket`](super::ticket)). A ticket number that the counter has not reached is of another bus and draws anew.
//!
//! While the frontier stands at 0 nobody controls admission: no tickets are drawn and everybody is admitted.
//!
//! Not to be confused with the queue for an agent, which is the backend's and comes after it.

use super::heartbeat::Moment;
use std::collections::BTreeMap;

/// A shard sends at most this many Waits a second; what is due beyond is put off.
pub const WAITS_PER_S_MAX: u32 = 2_000;
/// Bounds of the time to the next news.
const NEXT_MS_MIN: u32 = 1_000;
const NEXT_MS_MAX: u32 = 60_000;
/// News comes after this share of the expected waiting time.
const NEWS_PER_WAIT: u32 = 4;

/// A connection as the waiting room knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Its slot in the shard.
    pub slot: u32,
    /// The slot's generation.
    pub generation: u32,
}

/// What a waiting person is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct News {
    /// 1 = the next who is let in.
    pub place: u64,
    /// Tickets admitted per second, over all gateways; 0 = unknown.
    pub rate_per_s: u32,
    /// Until they are let in, by that rate; 0 = unknown.
    pub eta_ms: u32,
    /// When the next news comes.
    pub next_ms: u32,
}

/// What the backend says on the control page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frontier {
    /// Tickets below are admitted; 0: nobody controls admission.
    pub at: u64,
    /// How fast it moves, thousandths of a ticket a second; 0 = unknown.
    pub per_1000_s: u64,
}

/// Whether the shard may send another Wait now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Say this.
    Now(News),
    /// Too many this second; look again after so many milliseconds.
    Later(u32),
}

/// The people of one shard who wait to be let in.
#[derive(Default)]
pub struct WaitingRoom {
    order: BTreeMap<(u64, u32), u32>,
    sent_in_second: u32,
    second: Moment,
}

impl WaitingRoom {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// A connection with a ticket past the frontier begins to wait.
    pub fn enter(&mut self, ticket: u64, waiter: Waiter) {
        self.order.insert((ticket, waiter.slot), waiter.generation);
    }

    /// A waiting connection went away.
    pub fn leave(&mut self, ticket: u64, waiter: Waiter) {
        self.order.remove(&(ticket, waiter.slot));
    }

    /// The next who may come in, in the order of tickets.
    pub fn next_admitted(&mut self, frontier: u64) -> Option<Waiter> {
        let first = self.order.first_entry()?;
        let &(ticket, slot) = first.key();
        (ticket < frontier).then(|| Waiter {
            slot,
            generation: first.remove(),
        })
    }

    /// Whether somebody with a lower ticket waits here.
    pub fn has_before(&self, ticket: u64) -> bool {
        let first = self.order.first_key_value();
        first.is_some_and(|(&(lowest, _), _)| lowest < ticket)
    }

    /// The first news, which answers a Hello: it is counted, but never held back. Hellos are bounded by what the
    /// sockets bring.
    pub fn first_news(&mut self, ticket: u64, frontier: Frontier, now: Moment) -> News {
        self.begin_second(now);
        self.sent_in_second = self.sent_in_second.saturating_add(1);
        self.compose(ticket, frontier)
    }

    /// The news for the holder of `ticket`, or how long to hold it back.
    pub fn news(&mut self, ticket: u64, frontier: Frontier, now: Moment) -> Turn {
        let elapsed_ms = self.begin_second(now);
        if self.sent_in_second >= WAITS_PER_S_MAX {
            // Spread over the time that the whole room needs, by the ticket's low bits.
            let spread_ms = self.round_ms().max(1_000);
            return Turn::Later(1_000 - elapsed_ms + low_bits(ticket) % spread_ms);
        }
        self.sent_in_second += 1;
        Turn::Now(self.compose(ticket, frontier))
    }

    /// Begins another second when the old one is over; returns how far into it we are, below 1,000.
    fn begin_second(&mut self, now: Moment) -> u32 {
        let elapsed_ms = now.since_ms(self.second);
        if elapsed_ms < 1_000 {
            return elapsed_ms;
        }
        self.second = now;
        self.sent_in_second = 0;
        0
    }

    fn compose(&self, ticket: u64, frontier: Frontier) -> News {
        let place = ticket.saturating_sub(frontier.at).saturating_add(1);
        let eta_ms = eta_ms(place, frontier.per_1000_s);
        let by_distance_ms = eta_ms / NEWS_PER_WAIT;
        News {
            place,
            rate_per_s: per_s(frontier.per_1000_s),
            eta_ms,
            // At the bound of Waits a second one round through the room takes so long.
            next_ms: by_distance_ms
                .clamp(NEXT_MS_MIN, NEXT_MS_MAX)
                .max(self.round_ms()),
        }
    }

    fn round_ms(&self) -> u32 {
        let waiting = u32::try_from(self.order.len()).unwrap_or(u32::MAX);
        waiting / (WAITS_PER_S_MAX / 1_000)
    }
}

fn low_bits(ticket: u64) -> u32 {
    u32::try_from(ticket & u64::from(u32::MAX)).expect("invariant: masked to 32 bits")
}

/// Rounded, but never 0 while it moves.
fn per_s(per_1000_s: u64) -> u32 {
    let rounded = (per_1000_s.saturating_add(500) / 1_000).max(u64::from(per_1000_s > 0));
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

fn eta_ms(place: u64, per_1000_s: u64) -> u32 {
    place
        .saturating_mul(1_000_000)
        .checked_div(per_1000_s)
        .map_or(0, |ms| u32::try_from(ms).unwrap_or(u32::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT_100: Frontier = Frontier {
        at: 100,
        per_1000_s: 100_000,
    };
    const AT_0: Frontier = Frontier {
        at: 0,
        per_1000_s: 100_000,
    };

    fn waiter(slot: u32) -> Waiter {
        Waiter {
            slot,
            generation: 1,
        }
    }

    #[test]
    fn people_come_in_by_ticket_whatever_order_they_arrived_in() {
        let mut room = WaitingRoom::default();
        for (ticket, slot) in [(7, 0), (5, 1), (6, 2)] {
            room.enter(ticket, waiter(slot));
        }
        assert_eq!(room.next_admitted(5), None);
        assert_eq!(room.next_admitted(7), Some(waiter(1)));
        assert_eq!(room.next_admitted(7), Some(waiter(2)));
        assert_eq!(room.next_admitted(7), None);
        assert_eq!(room.len(), 1);
    }

    #[test]
    fn who_left_is_not_let_in() {
        let mut room = WaitingRoom::default();
        room.enter(5, waiter(1));
        room.enter(5, waiter(2));
        room.leave(5, waiter(1));
        assert_eq!(room.next_admitted(u64::MAX), Some(waiter(2)));
        assert!(room.is_empty());
    }

    #[test]
    fn news_gives_place_and_rate_and_comes_later_to_those_who_stand_farther() {
        let mut room = WaitingRoom::default();
        let Turn::Now(near) = room.news(149, AT_100, Moment(1_000)) else {
            panic!("within the bound")
        };
        let Turn::Now(far) = room.news(10_099, AT_100, Moment(1_000)) else {
            panic!("within the bound")
        };
        assert_eq!(
            (near.place, near.rate_per_s, near.eta_ms, near.next_ms),
            (50, 100, 500, 1_000)
        );
        assert_eq!(
            (far.place, far.eta_ms, far.next_ms),
            (10_000, 100_000, 25_000)
        );
    }

    #[test]
    fn a_slow_rate_is_told_as_a_long_time_and_an_unknown_one_as_unknown() {
        let slow = Frontier {
            at: 0,
            per_1000_s: 250,
        };
        let news = WaitingRoom::default().first_news(9, slow, Moment(0));
        assert_eq!((news.rate_per_s, news.eta_ms), (1, 40_000));
        let unknown = Frontier {
            at: 0,
            per_1000_s: 0,
        };
        let news = WaitingRoom::default().first_news(9, unknown, Moment(0));
        assert_eq!((news.rate_per_s, news.eta_ms, news.next_ms), (0, 0, 1_000));
    }

    #[test]
    fn a_newcomer_goes_behind_those_who_wait_with_a_lower_ticket() {
        let mut room = WaitingRoom::default();
        assert!(!room.has_before(9));
        room.enter(5, waiter(1));
        assert!(room.has_before(6) && !room.has_before(5) && !room.has_before(4));
    }

    #[test]
    fn a_shard_sends_no_more_than_its_bound_of_waits_a_second() {
        let mut room = WaitingRoom::default();
        for ticket in 0..20_000_u32 {
            room.enter(u64::from(ticket) + 1, waiter(ticket));
        }
        for second in 0..10 {
            let sent = (0..20_000_u64)
                .filter(|&ticket| {
                    matches!(
                        room.news(ticket + 1, AT_0, Moment(second * 1_000)),
                        Turn::Now(_)
                    )
                })
                .count();
            assert_eq!(sent, 2_000);
        }
    }

    #[test]
    fn a_full_room_asks_for_no_more_news_than_it_may_send() {
        let mut room = WaitingRoom::default();
        for slot in 0..100_000 {
            room.enter(u64::from(slot) + 1, waiter(slot));
        }
        let Turn::Now(news) = room.news(1, AT_0, Moment(0)) else {
            panic!("within the bound")
        };
        assert_eq!(news.next_ms, 50_000, "100,000 people at 2,000 a second");
    }
}
