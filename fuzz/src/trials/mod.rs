//! Trials of the real processes: each breaks something in a running Tidegate, and measures what its users see of it.
//!
//! A trial is one file with one function, and one line in [`TRIALS`]. It fails with an error that says what was
//! expected and what was found; what it measured it leaves as figures, which `fuzz/README.md` quotes with the command
//! that prints them. `scripts/faults` builds what the trials need and runs them.

mod stand;

pub use stand::{Scale, Stand};

/// One trial.
#[derive(Clone, Copy)]
pub struct Trial {
    /// What a person types.
    pub name: &'static str,
    /// What it proves, in one sentence.
    pub promise: &'static str,
    /// Runs it; an error is a promise broken.
    pub run: fn(&mut Stand) -> anyhow::Result<()>,
}

/// Every trial, sorted by name.
pub static TRIALS: &[Trial] = &[];
