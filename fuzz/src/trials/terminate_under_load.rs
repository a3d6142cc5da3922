//! SIGTERM to `tidegate up` while people chat: everybody is told to come back, everything ends within 5 s, what was
//! acknowledged is stored; and when it is started again, everybody is back and nothing stays unanswered.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::kill_process;

use super::Stand;
use crate::rig::check::{self, Stored};
use crate::rig::system::Signal;
use crate::rig::{Setup, Shop};

const VISITORS: u64 = 200;
const AGENTS: u64 = 8;
const SENDS_PER_S: u64 = 500;
const WARM_MESSAGES: u64 = 300;
const TIMES: u64 = 10;
const END_S_MAX: u64 = 5;
/// Beyond the promise, so that a late end is told as such and not as one that never came.
const WAIT_S_MAX: u64 = 30;

/// `terminate-under-load`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let times = stand.scale.of(TIMES);
    let setup = Setup::new(&stand.binary, stand.scratch()).with_gateways(2);
    let mut shop = Shop::open_up(stand, &setup, VISITORS, AGENTS)?;
    let mut took_ms = Vec::new();
    for nth in 1..=times {
        shop.chat(SENDS_PER_S);
        shop.flow(WARM_MESSAGES)?;
        took_ms.push(terminate(&mut shop).with_context(|| format!("time {nth}{}", shop.logs()))?);
        shop.crowd.load = None;
        shop.system.begin_up()?;
        let back = Duration::from_secs(60);
        shop.crowd
            .until("everybody is back", back, |crowd| {
                crowd.open() == crowd.len() && crowd.unanswered() == 0
            })
            .with_context(|| shop.logs())?;
    }
    stand.figure("terminated", format!("{times} times"));
    stand.figure(
        "told to come back, each time",
        format!("all {}", shop.crowd.len()),
    );
    took_ms.sort_unstable();
    stand.figure(
        "until everything has ended, longest",
        format!("{} ms", took_ms[took_ms.len() - 1]),
    );
    shop.close(stand).with_context(|| shop.logs())?;
    Ok(())
}

/// One SIGTERM; how long everything took to end, ms.
fn terminate(shop: &mut Shop) -> anyhow::Result<u128> {
    let told_before: Vec<u64> = shop.crowd.members().map(|member| member.goaways).collect();
    let up = shop.system.up().context("`up` runs")?;
    let begun = Instant::now();
    kill_process(up, Signal::TERM)?;
    let Shop { system, crowd, .. } = shop;
    let mut status = None;
    crowd.until("`up` ends", Duration::from_secs(WAIT_S_MAX), |_| {
        status = system.up_ended().ok().flatten();
        status.is_some()
    })?;
    let took = begun.elapsed();
    ensure!(
        status.is_some_and(|status| status.success()),
        "`up` ended with {status:?}"
    );
    ensure!(
        took <= Duration::from_secs(END_S_MAX),
        "everything ended after {took:?}, expected {END_S_MAX} s or less"
    );
    let untold = crowd
        .members()
        .zip(&told_before)
        .filter(|(member, before)| member.goaways == **before)
        .count();
    ensure!(untold == 0, "{untold} of {} got no goaway", crowd.len());
    let report = check::check(&crowd.journal, &Stored::read(&system.database())?);
    report.into_result().context("after the end")?;
    Ok(took.as_millis())
}
