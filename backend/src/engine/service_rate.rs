//! How fast agents serve the queue, measured: the time from one freed place to the next while somebody waits.
//!
//! What counts is an assignment that took a place that a closed conversation had freed. At the begin of a rush, or when an
//! agent comes, many are assigned at once into places that were free anyway; that says nothing about how long the
//! next will take, and an estimate by it would promise seconds for minutes. And time counts only while somebody
//! waited: agents who wait for customers are not slow.

use std::collections::VecDeque;

/// Services that the rate is measured over.
const SAMPLES_MAX: usize = 64;
/// With fewer there is no estimate.
const SAMPLES_MIN: u64 = 2;
/// Older ones say nothing about now.
const SAMPLE_AGE_US_MAX: u64 = 15 * 60 * 1_000_000;

/// The measure.
#[derive(Debug, Default)]
pub struct ServiceRate {
    /// When somebody was served, and how long after the one before, µs.
    served: VecDeque<(u64, u64)>,
    /// Since when the next one is waited for; `None` while nobody waits.
    waiting_since_us: Option<u64>,
    /// Places freed in this turn and not taken yet.
    freed: u32,
}

impl ServiceRate {
    /// A conversation that an agent had was closed.
    pub const fn freed(&mut self) {
        self.freed += 1;
    }

    /// One left the queue to an agent.
    pub fn assigned(&mut self, now_us: u64) {
        let Some(freed) = self.freed.checked_sub(1) else {
            return;
        };
        self.freed = freed;
        let Some(since_us) = self.waiting_since_us.replace(now_us) else {
            self.waiting_since_us = None;
            return;
        };
        if self.served.len() == SAMPLES_MAX {
            self.served.pop_front();
        }
        self.served
            .push_back((now_us, now_us.saturating_sub(since_us)));
    }

    /// A turn is over; somebody waits, or nobody.
    pub fn end_turn(&mut self, somebody_waits: bool, now_us: u64) {
        self.freed = 0;
        if somebody_waits {
            self.waiting_since_us.get_or_insert(now_us);
        } else {
            self.waiting_since_us = None;
        }
    }

    /// The time from one served to the next; 0 = unknown.
    #[must_use]
    pub fn each_us(&self, now_us: u64) -> u64 {
        let fresh_us = now_us.saturating_sub(SAMPLE_AGE_US_MAX);
        let fresh = self.served.iter().filter(|&&(at_us, _)| at_us >= fresh_us);
        let (count, sum_us) = fresh.fold((0, 0), |(count, sum), &(_, took_us)| {
            (count + 1, sum + took_us)
        });
        if count < SAMPLES_MIN {
            return 0;
        }
        // A standstill counts once it is longer than what was usual.
        let open_us = self
            .waiting_since_us
            .map_or(0, |since_us| now_us.saturating_sub(since_us));
        (sum_us / count)
            .max((sum_us + open_us) / (count + 1))
            .max(1)
    }

    /// What the one at this position may expect, ms; 0 = unknown.
    #[must_use]
    pub fn eta_ms(&self, position: u32, now_us: u64) -> u32 {
        let us = u64::from(position).saturating_mul(self.each_us(now_us));
        u32::try_from(us.div_ceil(1_000)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    /// Agents who free a place every `each_us`, taken at once by somebody who waits.
    fn serve(rate: &mut ServiceRate, from_us: u64, each_us: u64, times: u64) -> u64 {
        rate.end_turn(true, from_us);
        for time in 1..=times {
            rate.freed();
            rate.assigned(from_us + time * each_us);
            rate.end_turn(true, from_us + time * each_us);
        }
        from_us + times * each_us
    }

    #[test]
    fn the_estimate_follows_the_measured_rate_and_is_unknown_without_one() {
        let mut rate = ServiceRate::default();
        assert_eq!(rate.eta_ms(3, 0), 0);
        let now_us = serve(&mut rate, 0, SECOND, 1);
        assert_eq!(rate.eta_ms(3, now_us), 0, "one is no rate");
        let now_us = serve(&mut rate, now_us, SECOND, 9);
        assert_eq!(rate.eta_ms(3, now_us), 3_000);
        assert!(
            rate.eta_ms(3, now_us + 60 * SECOND) > 15_000,
            "a standstill lengthens it"
        );
        assert_eq!(rate.eta_ms(3, SAMPLE_AGE_US_MAX * 2), 0);
    }

    #[test]
    fn filling_empty_places_at_the_begin_of_a_rush_is_no_service() {
        let mut rate = ServiceRate::default();
        for _ in 0..60 {
            rate.assigned(SECOND);
        }
        rate.end_turn(true, SECOND);
        assert_eq!(rate.eta_ms(1_000, 2 * SECOND), 0);
        // 60 places that are freed every 5 minutes: one in 5 seconds.
        let now_us = serve(&mut rate, SECOND, 5 * SECOND, 30);
        assert_eq!(rate.eta_ms(1_000, now_us), 5_000_000);
    }

    #[test]
    fn time_in_which_nobody_waits_does_not_count() {
        let mut rate = ServiceRate::default();
        let now_us = serve(&mut rate, 0, SECOND, 5);
        rate.end_turn(false, now_us);
        rate.freed();
        rate.end_turn(false, now_us + 300 * SECOND);
        let now_us = serve(&mut rate, now_us + 600 * SECOND, SECOND, 5);
        assert_eq!(rate.eta_ms(1, now_us), 1_000);
    }
}
