//! A bound on how often something is done: so many a second, in bursts of at most a tenth of that.

use super::heartbeat::Moment;

/// Grants so many a second.
pub struct TokenBucket {
    per_s: u32,
    left: u32,
    filled: Moment,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(per_s: u32, now: Moment) -> TokenBucket {
        TokenBucket {
            per_s,
            left: burst(per_s),
            filled: now,
        }
    }

    /// Whether one more may be done now.
    pub fn take(&mut self, now: Moment) -> bool {
        self.fill(now);
        let granted = self.left > 0;
        self.left -= u32::from(granted);
        granted
    }

    /// Milliseconds until at least one more may be done.
    pub fn wait_ms(&self) -> u32 {
        if self.left > 0 {
            0
        } else {
            (1_000 / self.per_s.max(1)).max(1)
        }
    }

    fn fill(&mut self, now: Moment) {
        // A second or more fills any bucket; the bound keeps the product small.
        let elapsed_ms = now.since_ms(self.filled).min(1_000);
        let earned = u64::from(elapsed_ms) * u64::from(self.per_s) / 1_000;
        if earned > 0 {
            self.filled = now;
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(earned).min(burst(self.per_s));
        }
    }
}

fn burst(per_s: u32) -> u32 {
    (per_s / 10).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_grants_its_rate_and_no_more() {
        let mut bucket = TokenBucket::new(1_000, Moment(0));
        let mut granted = 0;
        for ms in 0..5_000 {
            while bucket.take(Moment(ms)) {
                granted += 1;
            }
        }
        assert!((5_000..=5_100).contains(&granted), "{granted}");
    }

    #[test]
    fn idleness_earns_no_more_than_a_tenth_of_a_second() {
        let mut bucket = TokenBucket::new(1_000, Moment(0));
        while bucket.take(Moment(0)) {}
        let granted = (0..1_000)
            .filter(|_| bucket.take(Moment(1_000_000)))
            .count();
        assert_eq!(granted, 100);
    }
}
