//! Plots: lines over two axes, each linear or logarithmic, drawn as one inline SVG.
//!
//! Colours come from the page's custom properties (`--series-0` …), so that one drawing serves light and dark.

use std::fmt::Write as _;

use super::table;

/// Lines over two axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// One line each; more than [`SERIES_COLOURS`] share colours.
    pub series: Vec<Series>,
}

/// One axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// What it measures.
    pub name: String,
    /// In which unit; may be empty.
    pub unit: String,
    /// Each step is a factor; values of zero or less stand at the smallest positive one.
    pub logarithmic: bool,
}

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// As the legend names it.
    pub name: String,
    /// In the order in which they are joined.
    pub points: Vec<(f64, f64)>,
}

/// Colours that the page defines.
pub const SERIES_COLOURS: usize = 6;

/// Points that a line is drawn with at most: more are not seen.
const POINTS_MAX: usize = 600;
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 44.0;
const TICKS_WANTED: f64 = 6.0;

impl Axis {
    /// Steps of a sum.
    #[must_use]
    pub fn linear(name: &str, unit: &str) -> Self {
        Self {
            name: name.to_owned(),
            unit: unit.to_owned(),
            logarithmic: false,
        }
    }

    /// Steps of a factor.
    #[must_use]
    pub fn logarithmic(name: &str, unit: &str) -> Self {
        Self {
            logarithmic: true,
            ..Self::linear(name, unit)
        }
    }

    fn label(&self) -> String {
        if self.unit.is_empty() {
            self.name.clone()
        } else {
            format!("{}, {}", self.name, self.unit)
        }
    }
}

impl Series {
    /// A named line.
    #[must_use]
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            points,
        }
    }
}

/// Where values of one axis lie: from `low` to `high`, of the logarithm where the axis is logarithmic.
struct Scale {
    low: f64,
    high: f64,
    floor: f64,
    logarithmic: bool,
}

impl Scale {
    fn over(axis: &Axis, values: impl Iterator<Item = f64> + Clone) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let positive = finite.clone().filter(|value| *value > 0.0);
        let floor = positive.fold(f64::INFINITY, f64::min);
        let floor = if floor.is_finite() { floor } else { 1.0 };
        let highest = finite.clone().fold(f64::NEG_INFINITY, f64::max);
        if axis.logarithmic {
            let (low, high) = (floor.log10().floor(), highest.max(floor).log10().ceil());
            let high = high.max(low + 1.0);
            return Self {
                low,
                high,
                floor,
                logarithmic: true,
            };
        }
        // Sums begin at zero: a plot that cuts its axis exaggerates.
        let low = finite.fold(0.0, f64::min);
        let high = if highest.is_finite() && highest > low {
            highest
        } else {
            low + 1.0
        };
        let step = nice_step(high - low);
        Self {
            low: (low / step).floor() * step,
            high: (high / step).ceil() * step,
            floor,
            logarithmic: false,
        }
    }

    /// From 0 (low) to 1 (high).
    fn part(&self, value: f64) -> f64 {
        let value = match (self.logarithmic, value > 0.0) {
            (true, true) => value.log10(),
            (true, false) => self.floor.log10(),
            (false, _) => value,
        };
        (value - self.low) / (self.high - self.low)
    }

    fn ticks(&self) -> Vec<f64> {
        let mut ticks = Vec::new();
        if self.logarithmic {
            let mut exponent = self.low;
            while exponent <= self.high + 1e-9 {
                ticks.push(10_f64.powf(exponent));
                exponent += 1.0;
            }
            return ticks;
        }
        let step = nice_step(self.high - self.low);
        let mut tick = self.low;
        while tick <= self.high + step * 1e-6 {
            ticks.push(tick);
            tick += step;
        }
        ticks
    }
}

/// 1, 2 or 5 times a power of ten, so that about [`TICKS_WANTED`] of it cover the range.
fn nice_step(range: f64) -> f64 {
    let rough = range / TICKS_WANTED;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|factor| factor * power >= rough * 0.999)
        .unwrap_or(10.0);
    factor * power
}

/// `0`, `0.25`, `1,500`, `20k`, `3M`: short, and without a lie.
fn tick_label(value: f64) -> String {
    let magnitude = value.abs();
    let (value, suffix) = if magnitude >= 1e6 {
        (value / 1e6, "M")
    } else if magnitude >= 1e4 {
        (value / 1e3, "k")
    } else {
        (value, "")
    };
    let digits = (0..6)
        .find(|digits| {
            let factor = 10_f64.powi(*digits);
            (value * factor - (value * factor).round()).abs() < 1e-6 * factor.max(1.0)
        })
        .unwrap_or(6);
    let shown = table::number(value, usize::try_from(digits).unwrap_or(0));
    format!("{shown}{suffix}")
}

/// The plot as an `<svg>` element, with a legend below where there are several lines.
#[must_use]
pub fn svg(plot: &Plot) -> String {
    let points = || plot.series.iter().flat_map(|series| &series.points);
    let x = Scale::over(&plot.x, points().map(|point| point.0));
    let y = Scale::over(&plot.y, points().map(|point| point.1));
    let at_x = |value: f64| LEFT + x.part(value) * (WIDTH - LEFT - RIGHT);
    let at_y = |value: f64| HEIGHT - BOTTOM - y.part(value) * (HEIGHT - TOP - BOTTOM);
    let mut out = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
        escaped(&plot.title)
    );
    for tick in y.ticks() {
        let (height, label) = (at_y(tick), tick_label(tick));
        let _never_fails = write!(
            out,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{height:.1}\" y2=\"{height:.1}\"/>\
             <text class=\"tick\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            height + 4.0
        );
    }
    let floor = HEIGHT - BOTTOM;
    for tick in x.ticks() {
        let (place, label) = (at_x(tick), tick_label(tick));
        let _never_fails = write!(
            out,
            "<line class=\"axis\" x1=\"{place:.1}\" x2=\"{place:.1}\" y1=\"{floor}\" y2=\"{:.1}\"/>\
             <text class=\"tick\" text-anchor=\"middle\" x=\"{place:.1}\" y=\"{:.1}\">{label}</text>",
            floor + 4.0,
            floor + 18.0
        );
    }
    let _never_fails = write!(
        out,
        "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{floor}\" y2=\"{floor}\"/>\
         <text class=\"label\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
         <text class=\"label\" transform=\"translate(14 {TOP}) rotate(-90)\" text-anchor=\"end\">{}</text>",
        WIDTH - RIGHT,
        WIDTH - RIGHT,
        HEIGHT - 6.0,
        escaped(&plot.x.label()),
        escaped(&plot.y.label())
    );
    for (index, series) in plot.series.iter().enumerate() {
        let mut path = String::new();
        for (x, y) in thinned(&series.points) {
            let command = if path.is_empty() { 'M' } else { 'L' };
            let _never_fails = write!(path, "{command}{:.1} {:.1}", at_x(x), at_y(y));
        }
        let _never_fails = write!(
            out,
            "<path class=\"line\" style=\"stroke:var(--series-{})\" d=\"{path}\"><title>{}</title></path>",
            index % SERIES_COLOURS,
            escaped(&series.name)
        );
    }
    out.push_str("</svg>");
    if plot.series.len() > 1 {
        out.push_str(&legend(&plot.series));
    }
    out
}

fn legend(series: &[Series]) -> String {
    let mut out = String::from("<ul class=\"legend\">");
    for (index, series) in series.iter().enumerate() {
        let _never_fails = write!(
            out,
            "<li><span style=\"background:var(--series-{})\"></span>{}</li>",
            index % SERIES_COLOURS,
            escaped(&series.name)
        );
    }
    out.push_str("</ul>");
    out
}

/// At most [`POINTS_MAX`] finite points. Of each group the lowest and the highest stay, so that no peak is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite = points.iter().copied();
    let finite: Vec<_> = finite
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .collect();
    if finite.len() <= POINTS_MAX {
        return finite;
    }
    let group = finite.len().div_ceil(POINTS_MAX / 2);
    let mut kept = Vec::with_capacity(POINTS_MAX);
    for group in finite.chunks(group) {
        let position = |best: fn(&f64, &f64) -> bool| {
            let mut found = 0;
            for (index, point) in group.iter().enumerate() {
                if best(&point.1, &group[found].1) {
                    found = index;
                }
            }
            found
        };
        let (low, high) = (position(|a, b| a < b), position(|a, b| a > b));
        kept.push(group[low.min(high)]);
        if low != high {
            kept.push(group[low.max(high)]);
        }
    }
    kept
}

/// Text for HTML and SVG.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(y: Axis, points: Vec<(f64, f64)>) -> Plot {
        Plot {
            title: "a < b".to_owned(),
            x: Axis::linear("time", "s"),
            y,
            series: vec![Series::new("one", points)],
        }
    }

    #[test]
    fn a_plot_of_nothing_is_still_a_plot() {
        for points in [vec![], vec![(0.0, 0.0)], vec![(f64::NAN, 1.0)]] {
            for y in [Axis::linear("rate", ""), Axis::logarithmic("rate", "")] {
                let svg = svg(&plot(y, points.clone()));
                assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"));
                assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
                assert!(svg.contains("a &lt; b"));
            }
        }
    }

    #[test]
    fn points_lie_inside_the_axes() {
        let points = vec![(0.0, 0.003), (5.0, 8_000.0), (9.7, 0.0)];
        for y in [Axis::linear("rate", ""), Axis::logarithmic("rate", "")] {
            let plot = plot(y, points.clone());
            let scale = Scale::over(&plot.y, points.iter().map(|point| point.1));
            for (_, value) in &points {
                assert!((0.0..=1.0).contains(&scale.part(*value)), "{value}");
            }
        }
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let axis = Axis::linear("rate", "");
        let scale = Scale::over(&axis, [0.0, 87.0].into_iter());
        let labels: Vec<String> = scale.ticks().into_iter().map(tick_label).collect();
        assert_eq!(labels, ["0", "20", "40", "60", "80", "100"]);
        let axis = Axis::logarithmic("latency", "ms");
        let scale = Scale::over(&axis, [0.07, 130.0].into_iter());
        let labels: Vec<String> = scale.ticks().into_iter().map(tick_label).collect();
        assert_eq!(labels, ["0.01", "0.1", "1", "10", "100", "1,000"]);
        let parts = scale.ticks().into_iter().map(|tick| scale.part(tick));
        for (index, part) in (0_u8..).zip(parts) {
            assert!(
                (part - f64::from(index) / 5.0).abs() < 1e-9,
                "a decade is as wide as the next"
            );
        }
        assert_eq!(tick_label(2_500_000.0), "2.5M");
        assert_eq!(tick_label(40_000.0), "40k");
    }

    #[test]
    fn a_peak_survives_the_thinning() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), 1.0)).collect();
        points[54_321].1 = 99.0;
        let thinned = thinned(&points);
        assert!(thinned.len() <= POINTS_MAX);
        assert!(thinned.contains(&(54_321.0, 99.0)));
    }
}
