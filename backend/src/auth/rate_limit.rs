//! How often somebody may try: a token bucket per address or name, in a table that never grows past its bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// Token buckets by key. A bucket holds `per_min` tokens at most and fills by as many a minute.
///
/// **The rule at the bound.** A full bucket says nothing and is dropped first; if none is full, the one that is
/// nearest to it goes: whoever tried least of late. So a flood of new keys cannot free the one who tries most.
#[derive(Debug)]
pub struct RateLimit<K> {
    per_min: f64,
    entries_max: usize,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at_us: u64,
}

impl Bucket {
    fn filled(self, per_min: f64, now_us: u64) -> f64 {
        let minutes = std::time::Duration::from_micros(now_us.saturating_sub(self.at_us))
            .as_secs_f64()
            / 60.0;
        minutes.mul_add(per_min, self.tokens).min(per_min)
    }
}

impl<K: Hash + Eq + Clone> RateLimit<K> {
    /// At most `per_min` a minute for each key, for at most `entries_max` keys at a time.
    #[must_use]
    pub fn new(per_min: u32, entries_max: usize) -> Self {
        Self {
            per_min: f64::from(per_min.max(1)),
            entries_max: entries_max.max(1),
            buckets: Mutex::default(),
        }
    }

    /// Takes one. `Err`: how many seconds to wait until there is one.
    ///
    /// # Errors
    /// When the bucket is empty.
    pub fn take(&self, key: &K, now_us: u64) -> Result<(), u64> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens = buckets
            .get(key)
            .map_or(self.per_min, |bucket| bucket.filled(self.per_min, now_us));
        if tokens < 1.0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 60"
            )]
            let wait_s = ((1.0 - tokens) * 60.0 / self.per_min).ceil() as u64;
            return Err(wait_s.max(1));
        }
        if !buckets.contains_key(key) && buckets.len() >= self.entries_max {
            self.make_room(&mut buckets, now_us);
        }
        buckets.insert(
            key.clone(),
            Bucket {
                tokens: tokens - 1.0,
                at_us: now_us,
            },
        );
        Ok(())
    }

    /// Gives one back: the try was a good one.
    pub fn give_back(&self, key: &K) {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(key) {
            bucket.tokens = (bucket.tokens + 1.0).min(self.per_min);
        }
    }

    fn make_room(&self, buckets: &mut HashMap<K, Bucket>, now_us: u64) {
        buckets.retain(|_, bucket| bucket.filled(self.per_min, now_us) < self.per_min);
        if buckets.len() < self.entries_max {
            return;
        }
        let fullest = buckets
            .iter()
            .max_by(|a, b| {
                a.1.filled(self.per_min, now_us)
                    .total_cmp(&b.1.filled(self.per_min, now_us))
            })
            .map(|(key, _)| key.clone());
        if let Some(key) = fullest {
            buckets.remove(&key);
        }
    }

    /// Keys remembered now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .len()
    }

    /// None?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    #[test]
    fn the_one_too_many_is_told_how_long_to_wait() {
        let limit = RateLimit::new(6, 10);
        for _ in 0..6 {
            limit.take(&"a", SECOND_US).unwrap();
        }
        assert_eq!(limit.take(&"a", SECOND_US), Err(10));
        assert_eq!(limit.take(&"b", SECOND_US), Ok(()));
        assert_eq!(limit.take(&"a", 11 * SECOND_US), Ok(()));
    }

    #[test]
    fn a_good_try_costs_nothing() {
        let limit = RateLimit::new(1, 10);
        for _ in 0..100 {
            limit.take(&"a", 5).unwrap();
            limit.give_back(&"a");
        }
    }

    #[test]
    fn the_table_never_grows_past_its_bound_and_keeps_the_worst() {
        let limit = RateLimit::new(3, 8);
        for _ in 0..3 {
            limit.take(&0, SECOND_US).unwrap();
        }
        for key in 1..1_000 {
            limit.take(&key, SECOND_US).unwrap();
            assert!(limit.len() <= 8);
        }
        assert!(
            limit.take(&0, SECOND_US).is_err(),
            "a flood of others freed the one who tried most"
        );
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let limit = RateLimit::new(1, 8);
        limit.take(&0, 100 * SECOND_US).unwrap();
        assert!(limit.take(&0, 10 * SECOND_US).is_err());
    }
}
