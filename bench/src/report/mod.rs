//! What a question found out, before anybody decides how it is shown: tables, plots, checks against targets, notes.
//! [`text`] shows it to a person in a terminal, [`json`] to a program, [`html`] to a person who was sent a file.

pub mod html;
pub mod json;
pub mod plot;
pub mod table;
pub mod text;

pub use plot::{Axis, Plot, Series};
pub use table::{Cell, Column, Table};

use crate::bench::Verdict;

/// The answer to one question.
#[derive(Debug)]
pub struct Report {
    /// The question's name, as it is typed.
    pub question: String,
    /// In the order in which they are read.
    pub tables: Vec<Table>,
    /// Shown in the HTML file and in JSON.
    pub plots: Vec<Plot>,
    /// What was compared with a target.
    pub checks: Vec<Check>,
    /// What a reader must know to believe the figures.
    pub notes: Vec<String>,
}

/// One figure beside its target.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// What was measured.
    pub what: String,
    /// The figure with its unit.
    pub measured: String,
    /// The target with its unit.
    pub target: String,
    /// Whether the target was reached.
    pub held: bool,
}

impl Report {
    /// An empty answer.
    #[must_use]
    pub fn new(question: impl Into<String>) -> Self {
        Self {
            question: question.into(),
            tables: Vec::new(),
            plots: Vec::new(),
            checks: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Adds a table.
    pub fn table(&mut self, table: Table) {
        self.tables.push(table);
    }

    /// Adds a plot.
    pub fn plot(&mut self, plot: Plot) {
        self.plots.push(plot);
    }

    /// Adds a figure beside its target.
    pub fn check(&mut self, check: Check) {
        self.checks.push(check);
    }

    /// Adds a check that a figure is at most `target`.
    pub fn check_at_most(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        target: f64,
        unit: &str,
    ) {
        let held = measured <= target;
        self.compare(what.into(), measured, ('≤', target), unit, held);
    }

    /// Adds a check that a figure is at least `target`.
    pub fn check_at_least(
        &mut self,
        what: impl Into<String>,
        measured: f64,
        target: f64,
        unit: &str,
    ) {
        let held = measured >= target;
        self.compare(what.into(), measured, ('≥', target), unit, held);
    }

    fn compare(
        &mut self,
        what: String,
        measured: f64,
        (sign, target): (char, f64),
        unit: &str,
        held: bool,
    ) {
        self.check(Check {
            what,
            measured: with_unit(measured, unit),
            target: format!("{sign} {}", with_unit(target, unit)),
            held,
        });
    }

    /// Adds a sentence.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// Held, unless a check was missed. A question that found its load too slow says [`Verdict::Saturated`] instead.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.checks.iter().all(|check| check.held) {
            Verdict::Held
        } else {
            Verdict::Missed
        }
    }
}

/// Two digits after the point for what is small, none for what is large: a figure that a person compares.
fn with_unit(value: f64, unit: &str) -> String {
    let digits = if value.abs() < 1.0 {
        3
    } else if value.abs() < 100.0 {
        2
    } else {
        0
    };
    let number = table::number(value, digits);
    if unit.is_empty() {
        number
    } else {
        format!("{number} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_check_is_a_missed_verdict() {
        let mut report = Report::new("echo");
        assert_eq!(report.verdict(), Verdict::Held, "nothing was promised");
        report.check_at_most("CPU", 1.08, 1.08, "× bare");
        report.check_at_least("rate", 50_000.0, 40_000.0, "a second");
        assert_eq!(report.verdict(), Verdict::Held);
        assert_eq!(report.checks[1].measured, "50,000 a second");
        report.check_at_most("CPU", 1.09, 1.08, "× bare");
        assert_eq!(report.verdict(), Verdict::Missed);
        assert_eq!(report.checks[2].target, "≤ 1.08 × bare");
    }
}
