//! When a silent connection is pinged, and when it is given up.
//!
//! Any traffic counts as a sign of life, so a busy connection is never pinged. A silent one is pinged after its
//! *interval* of silence. The interval belongs to the connection and grows by a quarter with each silence that it
//! survived, up to a ceiling; a connection that did not answer within its grace is dead, and teaches the others of
//! its client family and network prefix a shorter ceiling ([`learned`]): what killed it is most often a NAT or a
//! proxy on the way that drops a silent flow, and that box stands in front of its neighbours, too.
//!
//! Pure arithmetic: no clock, no socket. Times are milliseconds of the shard's clock in a wrapping `u32`
//! ([`Moment`]): four bytes a field, in a struct that exists once per connection.

pub mod learned;

#[cfg(test)]
mod simulation;

use tidegate_protocol::fb::Family;

/// Milliseconds of the shard's clock, wrapping after 49 days. Only differences mean anything, and no difference
/// that is taken here is longer than two intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Moment(pub u32);

impl Moment {
    /// How long ago `earlier` was, 0 if it lies ahead.
    pub fn since_ms(self, earlier: Moment) -> u32 {
        let difference = self.0.wrapping_sub(earlier.0);
        if difference > u32::MAX / 2 {
            0
        } else {
            difference
        }
    }

    /// The moment `ms` from here.
    #[must_use]
    pub fn after_ms(self, ms: u32) -> Moment {
        Moment(self.0.wrapping_add(ms))
    }
}

/// What a client family gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// No connection is pinged more often than this.
    pub interval_ms_min: u32,
    /// No connection is silent for longer than this.
    pub interval_ms_max: u32,
    /// How long an answer to a ping may take at least, whatever the round-trip time was before.
    pub grace_ms: u32,
}

/// An answer is waited for this many smoothed round trips, if that is longer than the grace.
const GRACE_ROUND_TRIPS: u32 = 4;
/// …but never longer than this: a dead connection holds a slot.
const GRACE_MS_MAX: u32 = 60_000;

impl Bounds {
    /// The bounds of a family, derived from the two that are configured (they are those of `h5`).
    ///
    /// WeChat suspends a page that went into the background and cuts its socket seconds later without a close
    /// event; nothing that is pinged there answers. It gets half the interval, so that its slot is not held for
    /// long, and twice the grace, so that a page that was only slow to come back is not punished. An app keeps its
    /// own socket and gets what h5 gets.
    pub fn of_family(family: Family, interval_ms_min: u32, interval_ms_max: u32) -> Bounds {
        let (divisor, grace_ms) = match family {
            Family::Wechat => (2, 20_000),
            _ => (1, 10_000),
        };
        let interval_ms_min = interval_ms_min.max(1);
        Bounds {
            interval_ms_min,
            interval_ms_max: (interval_ms_max / divisor).max(interval_ms_min),
            grace_ms,
        }
    }

    /// Where a connection of an unknown network begins: half way, so that a peer that can bear the longest silence
    /// is there after a few answers, and one that cannot is not lost by the first.
    pub fn interval_ms_first(&self) -> u32 {
        (self.interval_ms_max / 2).max(self.interval_ms_min)
    }
}

/// What is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing before this moment.
    At(Moment),
    /// The connection was silent for its interval: ping it. The answer is awaited until the moment given.
    Ping(Moment),
    /// A ping stayed unanswered; the connection had been silent for this long when it was sent.
    Dead {
        /// Silence before the unanswered ping.
        silence_ms: u32,
    },
}

/// The liveness of one connection. 16 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    heard: Moment,
    pinged: Moment,
    interval_ms: u32,
    round_trip_ms: u16,
    awaits_answer: bool,
}

const _: () = assert!(size_of::<Pulse>() == 16);

impl Pulse {
    /// A connection that was heard now and may be silent for `interval_ms`.
    pub fn new(now: Moment, interval_ms: u32) -> Pulse {
        Pulse {
            heard: now,
            pinged: now,
            interval_ms,
            round_trip_ms: 0,
            awaits_answer: false,
        }
    }

    /// The silence after which the connection is pinged.
    pub fn interval_ms(&self) -> u32 {
        self.interval_ms
    }

    /// The smoothed round-trip time of its pings, 0 if none was measured.
    pub fn round_trip_ms(&self) -> u16 {
        self.round_trip_ms
    }

    /// How long nothing was heard.
    pub fn silence_ms(&self, now: Moment) -> u32 {
        now.since_ms(self.heard)
    }

    /// The silence before a ping that was not answered yet.
    pub fn unanswered_silence_ms(&self) -> Option<u32> {
        self.awaits_answer.then(|| self.pinged.since_ms(self.heard))
    }

    /// Something arrived. Returns the silence that ended, if it was long enough to prove that the way bears it.
    pub fn heard(&mut self, now: Moment) -> Option<u32> {
        let silence_ms = if self.awaits_answer {
            let sample_ms = now.since_ms(self.pinged).min(u32::from(u16::MAX));
            self.round_trip_ms = smoothed(self.round_trip_ms, sample_ms);
            self.pinged.since_ms(self.heard)
        } else {
            now.since_ms(self.heard)
        };
        self.awaits_answer = false;
        self.heard = now;
        (silence_ms >= self.interval_ms / 4 * 3).then_some(silence_ms)
    }

    /// A silence was survived: the next may be a quarter longer.
    pub fn grow(&mut self, ceiling_ms: u32) {
        self.interval_ms = (self.interval_ms + self.interval_ms / 4).min(ceiling_ms);
    }

    /// The family or the network became known, or its ceiling sank.
    pub fn set_interval_ms(&mut self, interval_ms: u32) {
        self.interval_ms = interval_ms;
    }

    /// Looks at the clock. After [`Due::Ping`] the answer is awaited: the caller sends the ping.
    pub fn look(&mut self, now: Moment, bounds: &Bounds) -> Due {
        if self.awaits_answer {
            let grace_ms = self.grace_ms(bounds);
            if now.since_ms(self.pinged) >= grace_ms {
                return Due::Dead {
                    silence_ms: self.pinged.since_ms(self.heard),
                };
            }
            return Due::At(self.pinged.after_ms(grace_ms));
        }
        if now.since_ms(self.heard) >= self.interval_ms {
            self.awaits_answer = true;
            self.pinged = now;
            return Due::Ping(now.after_ms(self.grace_ms(bounds)));
        }
        Due::At(self.heard.after_ms(self.interval_ms))
    }

    fn grace_ms(&self, bounds: &Bounds) -> u32 {
        (u32::from(self.round_trip_ms) * GRACE_ROUND_TRIPS)
            .clamp(bounds.grace_ms, GRACE_MS_MAX.max(bounds.grace_ms))
    }
}

/// An eighth of the new sample, as TCP smooths its own.
fn smoothed(old_ms: u16, sample_ms: u32) -> u16 {
    let new_ms = if old_ms == 0 {
        sample_ms
    } else {
        (u32::from(old_ms) * 7 + sample_ms) / 8
    };
    u16::try_from(new_ms).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        interval_ms_min: 10_000,
        interval_ms_max: 60_000,
        grace_ms: 10_000,
    };

    #[test]
    fn a_busy_connection_is_never_pinged() {
        let mut pulse = Pulse::new(Moment(0), 30_000);
        for second in 1..1_000 {
            let now = Moment(second * 1_000);
            assert_eq!(pulse.heard(now), None);
            assert!(matches!(pulse.look(now, &BOUNDS), Due::At(_)));
        }
    }

    #[test]
    fn a_silent_connection_is_pinged_once_and_given_up_after_its_grace() {
        let mut pulse = Pulse::new(Moment(0), 30_000);
        assert_eq!(pulse.look(Moment(29_999), &BOUNDS), Due::At(Moment(30_000)));
        assert_eq!(
            pulse.look(Moment(30_000), &BOUNDS),
            Due::Ping(Moment(40_000))
        );
        assert_eq!(pulse.look(Moment(35_000), &BOUNDS), Due::At(Moment(40_000)));
        assert_eq!(
            pulse.look(Moment(40_000), &BOUNDS),
            Due::Dead { silence_ms: 30_000 }
        );
    }

    #[test]
    fn an_answer_ends_the_wait_and_measures_the_round_trip() {
        let mut pulse = Pulse::new(Moment(0), 30_000);
        assert!(matches!(pulse.look(Moment(30_000), &BOUNDS), Due::Ping(_)));
        assert_eq!(pulse.heard(Moment(30_200)), Some(30_000));
        assert_eq!(pulse.round_trip_ms(), 200);
        assert_eq!(pulse.look(Moment(30_300), &BOUNDS), Due::At(Moment(60_200)));
    }

    #[test]
    fn a_slow_way_is_given_four_round_trips() {
        let mut pulse = Pulse::new(Moment(0), 30_000);
        assert!(matches!(pulse.look(Moment(30_000), &BOUNDS), Due::Ping(_)));
        pulse.heard(Moment(35_000));
        assert_eq!(
            pulse.look(Moment(65_000), &BOUNDS),
            Due::Ping(Moment(85_000))
        );
    }

    #[test]
    fn the_clock_may_wrap() {
        let mut pulse = Pulse::new(Moment(u32::MAX - 1_000), 30_000);
        assert_eq!(
            pulse.look(Moment(u32::MAX), &BOUNDS),
            Due::At(Moment(28_999))
        );
        assert!(matches!(pulse.look(Moment(28_999), &BOUNDS), Due::Ping(_)));
    }

    #[test]
    fn wechat_gets_shorter_silences_and_a_longer_grace() {
        let h5 = Bounds::of_family(Family::H5, 10_000, 60_000);
        let wechat = Bounds::of_family(Family::Wechat, 10_000, 60_000);
        assert!(wechat.interval_ms_max < h5.interval_ms_max && wechat.grace_ms > h5.grace_ms);
    }
}
