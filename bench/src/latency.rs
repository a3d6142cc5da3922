//! Latencies in an HDR histogram, with the line that a person reads and the object that a machine reads.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::{Axis, Plot, Series};

const LOWEST_NS: u64 = 100;
const HIGHEST_NS: u64 = 60_000_000_000;

/// What was measured, in nanoseconds.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

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

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
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
