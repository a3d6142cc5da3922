//! What a worker was asked, and what came of it: for the figures of `/metrics`.

use serde::Serialize;

/// Counted since the process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct WorkerTally {
    /// Questions asked.
    pub asked: u64,
    /// Of these, answered in time.
    pub answered: u64,
    /// What got the default: asked and not answered in time, or not asked because nobody was there or too much was
    /// under way.
    pub defaulted: u64,
    /// Answers that came too late, or to what nobody asked: nothing came of them.
    pub late: u64,
}

/// One kind of worker, as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    /// Its name.
    pub name: &'static str,
    /// Whether one is there.
    pub present: bool,
    /// What it was asked.
    pub tally: WorkerTally,
}
