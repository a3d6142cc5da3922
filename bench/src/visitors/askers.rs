//! A Tidegate of the question's own without agents, and visitors who all ask: everybody has a conversation, and waits.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::far::Visitors;
use super::{Job, Order};
use crate::bench::Bench;
use crate::system::{Setup, System};

/// Descriptors leave room for the gateway's own, and the kernel spreads visitors by chance.
const CONNECTIONS_PER_GATEWAY: u64 = 17_000;
/// Newcomers a second: below what is let in, and what a core greets.
const ARRIVALS_PER_S: u64 = 3_000;
/// Past the schedule of arrivals: then everybody's question is committed.
const ASK_S_MAX: u64 = 60;
/// Between two looks at them.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Gateways that so many visitors need.
#[must_use]
pub const fn gateways(visitors: u64) -> u64 {
    visitors.div_ceil(CONNECTIONS_PER_GATEWAY)
}

/// Starts it, and lets them come and ask.
///
/// # Errors
/// When no Tidegate comes up, or not everybody gets in.
pub fn come(
    count: u64,
    synthetic: bool,
    gateways: u64,
    bench: &Bench,
) -> Result<(System, Visitors)> {
    bench
        .progress
        .say(format!("starting {gateways} gateway(s)"));
    let system = System::start(&Setup::of_gateways(gateways)?)?;
    let mut visitors = Visitors::start(&Job {
        synthetic,
        ..Job::to_ask(system.data_dir(), fastrand::u32(1..), count)
    })?;
    let over_ms = count * 1_000 / ARRIVALS_PER_S;
    visitors.order(Order::Come { over_ms })?;
    let deadline = Instant::now() + Duration::from_millis(over_ms) + Duration::from_secs(ASK_S_MAX);
    while visitors.newest().accepted < count {
        ensure!(
            Instant::now() < deadline,
            "of {count} visitors {} are inside, and the questions of {} are accepted",
            visitors.newest().inside,
            visitors.newest().accepted
        );
        visitors.look(LOOK_EVERY)?;
        let asked = visitors.newest().accepted;
        bench.progress.say(format!("{asked} of {count} have asked"));
    }
    Ok((system, visitors))
}
