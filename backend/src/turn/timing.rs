//! How long turns take, and messages in them: histograms whose every value is known to 1 part in 16.
//!
//! Buckets are log-linear: below 16 µs one for each value, above it 16 for each doubling. A count costs an addition; a
//! histogram has [`BUCKETS`] numbers, whatever it was told. One is of all since the start, and two of the newest
//! [`RECENT_US`], of which the older one leaves: so that a page shows how it is now and not how it was.

use serde::Serialize;

/// Buckets for each doubling.
const PARTS: u64 = 16;
const PARTS_BITS: u32 = PARTS.ilog2();
/// Values from here on are counted as this one: 71 minutes.
const VALUE_US_MAX: u64 = u32::MAX as u64;
const BUCKETS: usize = bucket(VALUE_US_MAX) + 1;
/// Each of the two newer histograms is of so long: they show the last 10 to 20 s.
const RECENT_US: u64 = 10_000_000;

/// Which bucket a value belongs to.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a few hundred: the value is below 2^32"
)]
const fn bucket(value_us: u64) -> usize {
    if value_us < PARTS {
        return value_us as usize;
    }
    let shift = value_us.ilog2() - PARTS_BITS;
    (((shift as u64 + 1) << PARTS_BITS) + (value_us >> shift) - PARTS) as usize
}

/// The largest value of a bucket.
const fn largest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * PARTS {
        return bucket;
    }
    let shift = (bucket >> PARTS_BITS) - 1;
    ((bucket % PARTS + PARTS + 1) << shift) - 1
}

/// Where so many of a thousand, or ten thousand, of all values lie; in µs. 0 while there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// How many values.
    pub count: u64,
    /// Half of them are at or below it.
    pub p50_us: u64,
    /// 99 of 100.
    pub p99_us: u64,
    /// 999 of 1,000.
    pub p999_us: u64,
    /// 9,999 of 10,000.
    pub p9999_us: u64,
    /// All of them; exact.
    pub max_us: u64,
}

#[derive(Debug, Clone)]
struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    count: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            count: 0,
            max_us: 0,
        }
    }
}

impl Histogram {
    fn record(&mut self, value_us: u64, times: u64) {
        self.counts[bucket(value_us.min(VALUE_US_MAX))] += times;
        self.count += times;
        self.max_us = self.max_us.max(value_us);
    }

    fn clear(&mut self) {
        self.counts.fill(0);
        (self.count, self.max_us) = (0, 0);
    }
}

/// Of several histograms as if they were one.
fn quantiles(of: &[&Histogram]) -> Quantiles {
    let count: u64 = of.iter().map(|one| one.count).sum();
    let max_us = of.iter().map(|one| one.max_us).max().unwrap_or(0);
    if count == 0 {
        return Quantiles::default();
    }
    let at = |part: u64, whole: u64| {
        let wanted = (u128::from(count) * u128::from(part)).div_ceil(u128::from(whole));
        let mut seen = 0_u128;
        for index in 0..BUCKETS {
            seen += of
                .iter()
                .map(|one| u128::from(one.counts[index]))
                .sum::<u128>();
            if seen >= wanted {
                return largest(index).min(max_us);
            }
        }
        max_us
    };
    Quantiles {
        count,
        p50_us: at(1, 2),
        p99_us: at(99, 100),
        p999_us: at(999, 1_000),
        p9999_us: at(9_999, 10_000),
        max_us,
    }
}

/// What took how long, since the start and lately.
#[derive(Debug, Clone, Default)]
pub struct Timing {
    all: Histogram,
    newer: Histogram,
    older: Histogram,
    newer_until_us: u64,
}

impl Timing {
    /// So many things took so long, and ended at `now_us`.
    pub fn record(&mut self, now_us: u64, took_us: u64, times: u64) {
        if times == 0 {
            return;
        }
        self.pass(now_us);
        self.all.record(took_us, times);
        self.newer.record(took_us, times);
    }

    fn pass(&mut self, now_us: u64) {
        if now_us < self.newer_until_us {
            return;
        }
        std::mem::swap(&mut self.newer, &mut self.older);
        self.newer.clear();
        if now_us >= self.newer_until_us + RECENT_US {
            self.older.clear();
        }
        self.newer_until_us = now_us + RECENT_US;
    }

    /// Of all since the start.
    #[must_use]
    pub fn since_start(&self) -> Quantiles {
        quantiles(&[&self.all])
    }

    /// Of the last 10 to 20 s.
    #[must_use]
    pub fn lately(&mut self, now_us: u64) -> Quantiles {
        self.pass(now_us);
        quantiles(&[&self.newer, &self.older])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket_and_a_bucket_is_narrow(value in 0..=VALUE_US_MAX) {
            let index = bucket(value);
            prop_assert!(value <= largest(index));
            prop_assert!(largest(index) - value <= value / PARTS);
            if index > 0 {
                prop_assert!(largest(index - 1) < value);
            }
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_values(mut values in prop::collection::vec(0..3_000_000_u64, 1..400)) {
            let mut timing = Timing::default();
            for &value in &values {
                timing.record(1, value, 1);
            }
            values.sort_unstable();
            let found = timing.since_start();
            for (found, part) in [(found.p50_us, 5_000), (found.p99_us, 9_900), (found.p9999_us, 9_999)] {
                let exact = values[(values.len() * part).div_ceil(10_000) - 1];
                prop_assert!(found >= exact && found - exact <= exact / PARTS, "{found} for {exact}");
            }
            prop_assert_eq!(found.max_us, values[values.len() - 1]);
        }
    }

    #[test]
    fn what_was_long_ago_is_known_since_the_start_and_not_lately() {
        let mut timing = Timing::default();
        timing.record(1_000, 900, 3);
        timing.record(RECENT_US + 2_000, 10, 1);
        assert_eq!(timing.lately(RECENT_US + 3_000).count, 4, "20 s at most");
        assert_eq!(timing.lately(2 * RECENT_US + 3_000).count, 1);
        assert_eq!(timing.lately(9 * RECENT_US), Quantiles::default());
        let all = timing.since_start();
        assert_eq!((all.count, all.max_us), (4, 900));
    }
}
