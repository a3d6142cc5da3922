//! What does each step of a message cost, without sockets?
//!
//! Every step runs alone, from a warm cache, on one core: the best of several rounds, as anything that disturbs a round
//! only makes it longer. FlatBuffers stands beside JSON and Protocol Buffers for the same message.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::bench::{Bench, Verdict};
use crate::report::{Cell, Table};
use crate::steps::{self, Step};
use crate::{machine, process};

/// What reading a chat message may cost: its header, the verification of its FlatBuffers, its fields.
const READ_MESSAGE_NS_MAX: f64 = 150.0;
/// Steps between two looks at the clock.
const STEPS: u32 = 100;

/// `tidegate bench parse`
#[derive(Debug, clap::Args)]
pub struct ParseArguments {
    /// Rounds of each step; the best counts
    #[arg(long, default_value_t = 9, value_name = "N")]
    rounds: u32,
    /// How long a round is
    #[arg(long, default_value_t = 20, value_name = "MS")]
    round_ms: u64,
}

/// Asks.
///
/// # Errors
/// When this thread can't be pinned to a core.
pub fn run(arguments: &ParseArguments, bench: &mut Bench) -> Result<Verdict> {
    let core = machine::cores().last().copied().unwrap_or_default();
    process::pin(core).with_context(|| format!("cannot use core {core}"))?;
    let mut table = Table::new(
        "one step, one core, warm cache",
        &[
            ("step", ""),
            ("what", ""),
            ("bytes", "B"),
            ("time", "ns"),
            ("rate", "GB/s"),
        ],
    );
    let mut steps = steps::all();
    let mut best_ns = vec![f64::INFINITY; steps.len()];
    // Rounds outside, steps inside: what disturbs the machine for a while disturbs one round of each.
    for round in 1..=arguments.rounds {
        bench
            .progress
            .say(format!("round {round} of {}", arguments.rounds));
        for (step, best) in steps.iter_mut().zip(&mut best_ns) {
            *best = best.min(round_ns(step, Duration::from_millis(arguments.round_ms)));
        }
    }
    for (step, ns) in steps.iter().zip(&best_ns) {
        #[expect(clippy::cast_precision_loss, reason = "some kilobytes")]
        let bytes = step.bytes as f64;
        table.row(vec![
            step.name.into(),
            step.what.clone().into(),
            Cell::number(bytes, 0),
            Cell::number(*ns, 1),
            Cell::number(bytes / ns, 2),
        ]);
        if step.name == steps::READ_MESSAGE {
            let what = format!("header and verified read of a chat message of {bytes} B");
            bench
                .report
                .check_at_most(what, *ns, READ_MESSAGE_NS_MAX, "ns");
        }
    }
    bench.report.table(table);
    #[cfg(not(feature = "peers"))]
    bench.report.note(
        "Built without Protocol Buffers to compare with; type: cargo build --release --package tidegate --features peers",
    );
    Ok(bench.report.verdict())
}

/// Nanoseconds a step in one round.
fn round_ns(step: &mut Step, duration: Duration) -> f64 {
    let (began, mut steps) = (Instant::now(), 0_u32);
    while began.elapsed() < duration {
        (0..STEPS).for_each(|_| step.run());
        steps += STEPS;
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(steps.max(1))
}
