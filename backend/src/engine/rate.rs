//! A token bucket in eight bytes: how many messages somebody may send.

use serde::{Deserialize, Serialize};

/// Allowed on average, and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RateLimit {
    /// Per second.
    pub per_s: u32,
    /// At once.
    pub burst: u32,
}

/// One sender's bucket: the time at which it will be full again.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bucket {
    full_at_us: u64,
}

impl Bucket {
    /// Takes one.
    ///
    /// # Errors
    /// How many ms to wait until there is one.
    pub fn take(&mut self, limit: RateLimit, now_us: u64) -> Result<(), u32> {
        let each_us = 1_000_000 / u64::from(limit.per_s.max(1));
        let full_at_us = self.full_at_us.max(now_us) + each_us;
        let debt_us = full_at_us - now_us;
        let most_us = each_us * u64::from(limit.burst.max(1));
        if debt_us > most_us {
            return Err(u32::try_from((debt_us - most_us).div_ceil(1_000)).unwrap_or(u32::MAX));
        }
        self.full_at_us = full_at_us;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_the_wait_told_is_the_wait_needed() {
        let limit = RateLimit {
            per_s: 10,
            burst: 5,
        };
        let mut bucket = Bucket::default();
        let passed = (0..20)
            .filter(|_| bucket.take(limit, 1_000_000).is_ok())
            .count();
        assert_eq!(passed, 5);
        let wait_ms = bucket.take(limit, 1_000_000).unwrap_err();
        assert!(
            bucket
                .take(limit, 1_000_000 + u64::from(wait_ms) * 1_000)
                .is_ok()
        );
        assert!(
            bucket
                .take(limit, 1_000_000 + u64::from(wait_ms) * 1_000)
                .is_err()
        );
    }
}
