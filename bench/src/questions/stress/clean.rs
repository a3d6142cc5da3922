//! `--clean`: the running backend removes what earlier loads left, step by step; each step is one of its turns, as short as
//! those of retention, so people who chat meanwhile do not notice.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::bench::{Bench, Verdict};
use crate::report::Check;
use crate::system::{Ledger, System};

/// Between two steps.
const PAUSE: Duration = Duration::from_millis(5);
/// A run of 100,000 visitors is gone long before.
const CLEAN_S_MAX: u64 = 600;
const SAY_EVERY: u64 = 50;

/// Removes everything.
pub(super) fn run(system: &System, bench: &mut Bench) -> Result<Verdict> {
    let deadline = Instant::now() + Duration::from_secs(CLEAN_S_MAX);
    let mut steps = 0;
    loop {
        let answer = system.ask("DELETE", "/api/admin/synthetic", None)?;
        steps += 1;
        if answer.get("more").and_then(Value::as_bool) != Some(true) {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "not clean after {CLEAN_S_MAX} s and {steps} steps; run it again"
        );
        if steps % SAY_EVERY == 0 {
            bench.progress.say(format!("{steps} steps"));
        }
        std::thread::sleep(PAUSE);
    }
    let ledger = Ledger::from(&system.metrics()?);
    bench.report.check(Check {
        what: format!("the loss ledger, after {steps} steps"),
        measured: format!(
            "{} accepted, {} delivered, {} pending, {} expired",
            ledger.accepted, ledger.delivered, ledger.pending, ledger.expired
        ),
        target: "closed".to_owned(),
        held: ledger.is_closed(),
    });
    bench.report.note(
        "What was removed stays in the ledger: a text that was pending has expired with it, as under retention.",
    );
    Ok(bench.report.verdict())
}
