//! The hybrid logical clock that stamps last-writer-wins registers.
//!
//! A stamp is `ms << 16 | counter`. It never repeats and never steps back, not even over a restart: a ceiling is
//! stored ahead of use, and a restart goes on above the ceiling. A stamp from elsewhere may run ahead of our clock
//! by at most [`HLC_DRIFT_MS_MAX`]; what is farther is refused, so a broken peer cannot drag time into the future.

/// How far ahead of our wall clock a stamp of another node may be.
pub const HLC_DRIFT_MS_MAX: u64 = 60_000;
/// How far ahead the stored ceiling is set, so that it is not written with every stamp.
pub const HLC_CEILING_AHEAD_MS: u64 = 10_000;

const COUNTER_BITS: u32 = 16;

/// One stamp. Compared as a number; ties between nodes are broken by the node's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp(pub u64);

/// The clock of this node.
#[derive(Debug, Clone)]
pub struct HybridClock {
    last: u64,
    ceiling: u64,
    node: u32,
}

/// A stamp was too far ahead of our clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFarAhead;

impl HybridClock {
    /// Goes on above the stored ceiling (0: a new database).
    #[must_use]
    pub const fn new(node: u32, ceiling: u64) -> Self {
        Self {
            last: ceiling,
            ceiling,
            node,
        }
    }

    /// This node, the tie-breaker.
    #[must_use]
    pub const fn node(&self) -> u32 {
        self.node
    }

    /// A new stamp, above every stamp given or seen, and the new ceiling where it has to be stored first.
    pub fn stamp(&mut self, now_us: u64) -> (Stamp, Option<u64>) {
        self.last = ((now_us / 1_000) << COUNTER_BITS).max(self.last + 1);
        if self.last <= self.ceiling {
            return (Stamp(self.last), None);
        }
        self.ceiling = self.last + (HLC_CEILING_AHEAD_MS << COUNTER_BITS);
        (Stamp(self.last), Some(self.ceiling))
    }

    /// Learns of a stamp of another node.
    ///
    /// # Errors
    /// When it is more than [`HLC_DRIFT_MS_MAX`] ahead of `now_us`; then nothing changes.
    pub fn observe(&mut self, stamp: Stamp, now_us: u64) -> Result<(), TooFarAhead> {
        if stamp.0 >> COUNTER_BITS > now_us / 1_000 + HLC_DRIFT_MS_MAX {
            return Err(TooFarAhead);
        }
        self.last = self.last.max(stamp.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_even_when_the_clock_steps_back() {
        let mut clock = HybridClock::new(1, 0);
        let (first, _) = clock.stamp(5_000_000);
        let (second, _) = clock.stamp(1_000_000);
        let (third, _) = clock.stamp(1_000_000);
        assert!(first < second && second < third);
    }

    #[test]
    fn a_restart_goes_on_above_everything_that_was_given_out() {
        let mut clock = HybridClock::new(1, 0);
        let (first, ceiling) = clock.stamp(5_000_000);
        let mut again = HybridClock::new(1, ceiling.unwrap());
        assert!(again.stamp(0).0 > first);
    }

    #[test]
    fn the_ceiling_is_written_rarely() {
        let mut clock = HybridClock::new(1, 0);
        let written = (0..10_000_u64)
            .filter(|ms| clock.stamp(ms * 1_000).1.is_some())
            .count();
        assert!(written <= 2, "{written}");
    }

    #[test]
    fn a_stamp_from_the_far_future_is_refused_and_changes_nothing() {
        let mut clock = HybridClock::new(1, 0);
        assert_eq!(clock.observe(Stamp(u64::MAX), 0), Err(TooFarAhead));
        assert_eq!(clock.stamp(0).0, Stamp(1));
        clock.observe(Stamp(7 << 16), 0).unwrap();
        assert!(clock.stamp(0).0 > Stamp(7 << 16));
    }
}
