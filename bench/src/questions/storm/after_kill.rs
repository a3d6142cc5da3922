//! How long until everybody is back whose gateway was killed?
//!
//! A Tidegate of its own. All visitors ask, so each has a conversation to resume; then one gateway gets a SIGKILL. Its
//! people come back by themselves, each after a pause of their own (half a second at random, doubled with each attempt),
//! and are resumed from the backend's memory: its database is not asked.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::StormArguments;
use crate::bench::{Bench, Verdict};
use crate::load::count;
use crate::process::kill;
use crate::report::{Cell, Table};
use crate::system::System;
use crate::visitors::Order;
use crate::visitors::askers::{self, LOOK_EVERY};

/// Then everybody is back, or the question is missed.
const BACK: Duration = Duration::from_secs(60);

/// Asks.
///
/// # Errors
/// When no Tidegate comes up, or not everybody gets in.
pub fn run(arguments: &StormArguments, bench: &mut Bench) -> Result<Verdict> {
    let people = arguments.connections;
    let gateways = askers::gateways(people);
    let (system, mut visitors) = askers::come(people, true, gateways, bench)?;
    let reads = self::reads(&system)?;
    visitors.order(Order::Kill)?;
    let victim = system.gateways().first().copied().context("a gateway")?;
    bench.progress.say(format!("kill -9 of gateway {victim}"));
    let killed = Instant::now();
    kill(victim).context("kill -9 of a gateway")?;
    loop {
        visitors.look(LOOK_EVERY)?;
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
    let asked = self::reads(&system)? - reads;
    let told = visitors.tell()?;
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

/// Reads of the backend beside its turn, so far.
fn reads(system: &System) -> Result<f64> {
    let metrics = system.metrics()?;
    metrics
        .get("tidegate_reads_total")
        .context("tidegate_reads_total at the backend's /metrics")
}
