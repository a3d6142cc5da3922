//! How long until everybody is back whose gateway was killed?
//!
//! A Tidegate of its own. All visitors ask, so each has a conversation to resume; then one gateway gets a SIGKILL. Its
//! people come back by themselves, each after a pause of their own (half a second at random, doubled with each attempt),
//! and are resumed from the backend's memory: its database is not asked.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::StormArguments;
use crate::bench::{Bench, Verdict};
use crate::load::count;
use crate::report::{Cell, Table};
use crate::system::{Setup, System, until};
use crate::visitors::far::Visitors;
use crate::visitors::{Job, Order};

/// Descriptors leave room for the gateway's own, and the kernel spreads visitors by chance.
const CONNECTIONS_PER_GATEWAY: u64 = 17_000;
/// Newcomers a second: coming is not what this asks about.
const ARRIVALS_PER_S: u64 = 3_000;
/// Past the schedule of arrivals: then everybody's question is committed.
const ASK_S_MAX: u64 = 60;
/// Then everybody is back, or the question is missed.
const BACK: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Asks.
///
/// # Errors
/// When no Tidegate comes up, or not everybody gets in.
pub fn run(arguments: &StormArguments, bench: &mut Bench) -> Result<Verdict> {
    let people = arguments.connections;
    let gateways = people.div_ceil(CONNECTIONS_PER_GATEWAY);
    bench
        .progress
        .say(format!("starting {gateways} gateway(s)"));
    let system = System::start(&Setup {
        gateways: usize::try_from(gateways)?,
        shards: 1,
        synchronous: "normal",
        core: None,
    })?;
    let mut visitors = come(&system, people, bench)?;
    let reads = reads(&system)?;
    visitors.order(Order::Kill)?;
    let victim = system.gateways().first().copied().context("a gateway")?;
    let pid = Pid::from_raw(i32::try_from(victim)?).context("a process id")?;
    bench.progress.say(format!("kill -9 of gateway {victim}"));
    let killed = Instant::now();
    kill_process(pid, Signal::KILL).context("kill -9 of a gateway")?;
    loop {
        look(&mut visitors)?;
        let newest = visitors.newest();
        bench.progress.say(format!("{} are away", newest.away));
        let is_late = killed.elapsed() > BACK;
        // A process that is gone has closed all its sockets.
        let is_gone = !Path::new(&format!("/proc/{victim}")).exists();
        let all_back = newest.lost > 0 && newest.away == 0 && newest.inside == people;
        if is_gone && all_back || is_late {
            break;
        }
    }
    let asked = reads_since(&system, reads)?;
    tell(&mut visitors)?;
    let told = visitors.newest();
    let ms = |part| Cell::number(told.back.quantile(part).as_secs_f64() * 1e3, 0);
    let mut table = Table::new(
        format!(
            "{people} visitors with a chat each at {gateways} gateway(s), of which one is killed"
        ),
        &[
            ("lost", ""),
            ("back", ""),
            ("p50", "ms"),
            ("p99", "ms"),
            ("last", "ms"),
            ("reads of the database", ""),
        ],
    );
    table.row(vec![
        Cell::count(told.lost),
        Cell::count(told.back.count()),
        ms(0.5),
        ms(0.99),
        ms(1.0),
        Cell::number(asked, 0),
    ]);
    let (away, broken) = (told.away, told.broken);
    let report = &mut bench.report;
    report.table(table);
    report.note(
        "From the loss of the connection to the next Welcome, with the pause that each client makes before it tries.",
    );
    report.check_at_most("not back", count(away), 0.0, "");
    report.check_at_most("gaps, refused texts, turned away", count(broken), 0.0, "");
    report.check_at_most("reads of the database", asked, 0.0, "");
    Ok(report.verdict())
}

/// Everybody comes and asks; nobody answers.
fn come(system: &System, people: u64, bench: &Bench) -> Result<Visitors> {
    let mut visitors = Visitors::start(&Job {
        data_dir: system.data_dir().to_owned(),
        run: fastrand::u32(1..),
        synthetic: true,
        first: 0,
        count: people,
        open: false,
        ask_permille: 1_000,
        says: 0,
        every_ms: 1_000,
        text_bytes: 0,
        large_permille: 0,
        slow_permille: 0,
    })?;
    let over_ms = people * 1_000 / ARRIVALS_PER_S;
    visitors.order(Order::Come { over_ms })?;
    let deadline = Instant::now() + Duration::from_millis(over_ms) + Duration::from_secs(ASK_S_MAX);
    while visitors.newest().accepted < people {
        ensure!(
            Instant::now() < deadline,
            "of {people} visitors {} are inside, and the questions of {} are accepted",
            visitors.newest().inside,
            visitors.newest().accepted
        );
        look(&mut visitors)?;
        bench
            .progress
            .say(format!("{} of {people} asked", visitors.newest().accepted));
    }
    Ok(visitors)
}

/// Waits a moment, and takes a report in.
fn look(visitors: &mut Visitors) -> Result<()> {
    if visitors.awaited() == 0 {
        visitors.order(Order::Look)?;
    }
    std::thread::sleep(LOOK_EVERY);
    visitors.report()?;
    Ok(())
}

/// Everybody tells all that they saw.
fn tell(visitors: &mut Visitors) -> Result<()> {
    let answered = |visitors: &mut Visitors| {
        until("everybody tells what they saw", BACK, || {
            visitors.report()?;
            Ok(visitors.awaited() == 0)
        })
    };
    // The look before it comes first.
    answered(visitors)?;
    visitors.order(Order::Tell)?;
    answered(visitors)
}

/// Reads of the backend beside its turn, so far.
fn reads(system: &System) -> Result<f64> {
    let metrics = system.metrics()?;
    metrics
        .get("tidegate_reads_total")
        .context("tidegate_reads_total at the backend's /metrics")
}

fn reads_since(system: &System, before: f64) -> Result<f64> {
    Ok(reads(system)? - before)
}
