//! When something is due: as long after the beginning as it was recorded, divided by the speed.

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

/// A clock that began with the first entry.
#[derive(Debug)]
pub struct Pace {
    speed: Speed,
    began: Instant,
    first_us: Option<u64>,
}

impl Pace {
    pub fn begin(speed: Speed) -> Self {
        Self {
            speed,
            began: Instant::now(),
            first_us: None,
        }
    }

    /// How long until what was recorded at this time is due; zero: now, or overdue.
    pub fn until(&mut self, at_us: u64) -> Duration {
        self.first_us.get_or_insert(at_us);
        let due = self.due(at_us);
        due.map_or(Duration::ZERO, |due| {
            due.saturating_sub(self.began.elapsed())
        })
    }

    /// How long ago it was due; what is not measured in time is never late.
    pub fn overdue(&self, at_us: u64) -> Duration {
        let due = self.due(at_us);
        due.map_or(Duration::ZERO, |due| {
            self.began.elapsed().saturating_sub(due)
        })
    }

    /// When it is due, since the beginning.
    fn due(&self, at_us: u64) -> Option<Duration> {
        let Speed::Times(times) = self.speed else {
            return None;
        };
        let after = Duration::from_micros(at_us.saturating_sub(self.first_us?));
        Some(Duration::try_from_secs_f64(after.as_secs_f64() / times).unwrap_or(Duration::MAX))
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
        for wrong in ["", "0", "-1", "NaN", "inf", "fast"] {
            speed(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn what_came_an_hour_later_is_due_in_time() {
        let mut pace = Pace::begin(Speed::Times(3_600.0));
        assert_eq!(pace.until(1_000), Duration::ZERO);
        let later = pace.until(1_000 + 3_600_000_000);
        assert!(later <= Duration::from_secs(1) && later > Duration::from_millis(500));
        assert!(pace.until(u64::MAX) > Duration::from_secs(1));
        let mut pace = Pace::begin(Speed::Max);
        assert_eq!(pace.until(5), Duration::ZERO);
        assert_eq!(pace.until(u64::MAX), Duration::ZERO);
    }
}
