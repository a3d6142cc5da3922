//! Latencies in an HDR histogram, with the line that a person reads and the object that a machine reads.

use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::report::{Axis, Plot, Series};

const LOWEST_NS: u64 = 100;
const HIGHEST_NS: u64 = 60_000_000_000;

/// What was measured, in nanoseconds. Goes from process to process as pairs of a value and its count.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Latencies(Histogram<u64>);

impl From<Vec<(u64, u64)>> for Latencies {
    fn from(counts: Vec<(u64, u64)>) -> Self {
        let mut latencies = Self::default();
        for (value, count) in counts {
            latencies.0.saturating_record_n(value, count);
        }
        latencies
    }
}

impl From<Latencies> for Vec<(u64, u64)> {
    fn from(latencies: Latencies) -> Self {
        let recorded = latencies.0.iter_recorded();
        recorded
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect()
    }
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, 3)
            .expect("the bounds are constants in order");
        Self(histogram)
    }
}

impl Latencies {
    /// Counts one; what is longer than a minute counts as a minute.
    pub fn record(&mut self, latency: Duration) {
        self.0
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(HIGHEST_NS));
    }

    /// Counts what another counted.
    ///
    /// # Errors
    /// Never: all have the same bounds.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        self.0.add(&other.0).context("histograms of other bounds")
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The sum divided by the count; nothing counted is nothing.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e9)
    }

    /// The latency below which this part (0 to 1) of all lies.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(part))
    }

    /// `n 10000  p50 0.104 ms  p99 0.512 ms  p99.9 1.003 ms  max 4.120 ms`
    #[must_use]
    pub fn line(&self) -> String {
        let ms = |part| self.quantile(part).as_secs_f64() * 1e3;
        format!(
            "n {}  p50 {:.3} ms  p99 {:.3} ms  p99.9 {:.3} ms  max {:.3} ms",
            self.count(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            ms(1.0)
        )
    }

    /// The same as a JSON object, in microseconds.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let us = |part| self.quantile(part).as_secs_f64() * 1e6;
        serde_json::json!({
            "count": self.count(), "p50_us": us(0.5), "p99_us": us(0.99), "p999_us": us(0.999), "max_us": us(1.0)
        })
    }

    /// Points of a percentile curve: how long, in ms, takes the slowest one in so many.
    #[must_use]
    pub fn percentiles(&self) -> Vec<(f64, f64)> {
        let points = self.0.iter_quantiles(5).map(|step| {
            let rest = (1.0 - step.quantile()).max(0.0);
            #[expect(
                clippy::cast_precision_loss,
                reason = "nanoseconds of a minute, and a count"
            )]
            let (ns, count) = (step.value_iterated_to() as f64, self.count() as f64);
            ((1.0 / rest).min(count.max(1.0)), ns / 1e6)
        });
        points.collect()
    }

    /// The percentile curve alone.
    #[must_use]
    pub fn plot(&self, title: &str, name: &str) -> Plot {
        percentile_plot(title, vec![Series::new(name, self.percentiles())])
    }
}

/// Percentile curves beside each other.
#[must_use]
pub fn percentile_plot(title: &str, series: Vec<Series>) -> Plot {
    Plot {
        title: title.to_owned(),
        x: Axis::logarithmic("one in so many takes longer (100: p99)", ""),
        y: Axis::logarithmic("latency", "ms"),
        series,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_processes_counted_adds_up_after_its_way_through_a_pipe() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        for ms in 1..=100 {
            one.record(Duration::from_millis(ms));
            other.record(Duration::from_millis(ms + 100));
        }
        let line = serde_json::to_string(&other).unwrap();
        one.add(&serde_json::from_str(&line).unwrap()).unwrap();
        assert_eq!(one.count(), 200);
        let near = |part, ms: f64| (one.quantile(part).as_secs_f64() * 1e3 - ms).abs() < ms * 0.002;
        assert!(
            near(0.5, 100.0) && near(0.99, 198.0) && near(1.0, 200.0),
            "{}",
            one.line()
        );
    }

    #[test]
    fn the_percentile_curve_ends_at_the_slowest_of_all() {
        let mut latencies = Latencies::default();
        assert!(latencies.percentiles().is_empty());
        for ms in 1..=1_000 {
            latencies.record(Duration::from_millis(ms));
        }
        let curve = latencies.percentiles();
        let last = curve[curve.len() - 1];
        assert!(
            (last.0 - 1_000.0).abs() < 1e-6 && (last.1 - 1_000.0).abs() < 2.0,
            "{last:?}"
        );
        assert!(
            curve
                .windows(2)
                .all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1)
        );
    }
}
