//! When something that was recorded is due again: as long after the first as it was then, divided by the speed.

use std::time::{Duration, Instant};

/// How much faster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Speed {
    /// So many times.
    Times(f64),
    /// Nothing waits.
    Max,
}

/// The flag's value.
pub fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.parse::<f64>() {
        Ok(times) if (0.001..=1_000_000.0).contains(&times) => Ok(Speed::Times(times)),
        _ => Err("expected a number from 0.001 to 1000000, or `max`".to_owned()),
    }
}

/// How long after the first entry another one is due; `None`: it waits for nothing. Times are µs since the Unix epoch.
fn due(speed: Speed, first_us: u64, at_us: u64) -> Option<Duration> {
    let Speed::Times(times) = speed else {
        return None;
    };
    let after = Duration::from_micros(at_us.saturating_sub(first_us));
    Some(Duration::try_from_secs_f64(after.as_secs_f64() / times).unwrap_or(Duration::MAX))
}

/// A clock that began when the first entry was asked for.
#[derive(Debug)]
pub struct Pace {
    speed: Speed,
    began: Instant,
    /// The first entry: when it was recorded, and when it was asked for.
    first: Option<(u64, Instant)>,
}

impl Pace {
    pub fn begin(speed: Speed) -> Self {
        Self {
            speed,
            began: Instant::now(),
            first: None,
        }
    }

    /// How long until what was recorded at this time is due; zero: now, or overdue.
    pub fn until(&mut self, at_us: u64) -> Duration {
        let (first_us, asked) = *self.first.get_or_insert_with(|| (at_us, Instant::now()));
        due(self.speed, first_us, at_us)
            .map_or(Duration::ZERO, |due| due.saturating_sub(asked.elapsed()))
    }

    /// How long ago it was due; what is not measured in time is never late.
    pub fn overdue(&self, at_us: u64) -> Duration {
        let overdue = self.first.and_then(|(first_us, asked)| {
            Some(
                asked
                    .elapsed()
                    .saturating_sub(due(self.speed, first_us, at_us)?),
            )
        });
        overdue.unwrap_or_default()
    }

    /// Since the beginning.
    pub fn took(&self) -> Duration {
        self.began.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_a_number_or_max() {
        assert_eq!(speed("max"), Ok(Speed::Max));
        assert_eq!(speed("2.5"), Ok(Speed::Times(2.5)));
        for wrong in ["", "0", "-1", "NaN", "inf", "fast", "0.0001", "1000001"] {
            speed(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn what_was_recorded_later_is_due_as_much_later_divided_by_the_speed() {
        const FIRST_US: u64 = 1_700_000_000_000_000;
        let after = |speed, after_us: u64| due(speed, FIRST_US, FIRST_US + after_us);
        for (times, after_us, due_us) in [
            (1.0, 0, 0),
            (1.0, 1, 1),
            (1.0, 3_600_000_000, 3_600_000_000),
            (10.0, 3_600_000_000, 360_000_000),
            (0.001, 5_000, 5_000_000),
            (2.5, 1_000_000, 400_000),
        ] {
            let wanted = Some(Duration::from_micros(due_us));
            assert_eq!(
                after(Speed::Times(times), after_us),
                wanted,
                "{times} {after_us}"
            );
        }
        assert_eq!(after(Speed::Max, 3_600_000_000), None);
        // A clock that was set back waits for nothing; one that jumped far waits for long, and breaks nothing.
        assert_eq!(due(Speed::Times(1.0), FIRST_US, 5), Some(Duration::ZERO));
        assert!(due(Speed::Times(0.001), 0, u64::MAX) > Some(Duration::from_secs(1 << 40)));
    }

    #[test]
    fn the_clock_begins_with_the_first_entry_and_at_full_speed_nothing_waits_or_is_late() {
        let mut pace = Pace::begin(Speed::Times(1.0));
        assert_eq!(pace.overdue(7), Duration::ZERO, "nothing has begun");
        assert_eq!(pace.until(1_000), Duration::ZERO);
        assert!(pace.until(u64::MAX) > Duration::from_secs(3_600));
        assert_eq!(pace.until(0), Duration::ZERO, "before the first");
        let mut pace = Pace::begin(Speed::Max);
        for at_us in [5, u64::MAX, 0] {
            assert_eq!((pace.until(at_us), pace.overdue(at_us)), Default::default());
        }
    }
}
