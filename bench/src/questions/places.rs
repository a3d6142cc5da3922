//! How long do the places in the queue take to all who wait?
//!
//! A Tidegate of its own, without agents: everybody asks, so everybody waits in the queue for one. From time to time the
//! backend tells all of them how many wait, by one record for each shard; the gateways encode it once for each codec and fan it
//! out, and each client finds its own place in it. Nothing else happens meanwhile. Each telling is timed from its first
//! receiver to its last, and from the backend's turn to the last; counted are those that everybody who waits has heard.
//!
//! The visitors are no synthetic ones: the backend tells those no places, as the queue that they would be told is the real
//! people's. Whoever asks this of a Tidegate that runs would have to leave them there; so it asks none.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::bench::{Bench, Verdict};
use crate::latency::Latencies;
use crate::load::count;
use crate::process::cpu_us;
use crate::report::{Cell, Table};
use crate::system::System;
use crate::visitors::askers::{self, LOOK_EVERY};
use crate::visitors::far::Visitors;
use crate::visitors::places::Telling;

/// `tidegate bench places`
#[derive(Debug, clap::Args)]
pub struct PlacesArguments {
    /// Visitors who wait
    #[arg(long, default_value_t = 15_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    visitors: u64,
    /// Gateway processes on the one port [default: as many as the visitors need]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000))]
    gateways: Option<u64>,
    /// How long they are told their places after all have asked; the backend tells at least every five seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(6..=3_600))]
    seconds: u64,
}

/// CPU time so far, µs.
#[derive(Debug, Clone, Copy)]
struct Spent {
    gateways: f64,
    backend: f64,
    load: f64,
}

/// Asks.
///
/// # Errors
/// When no Tidegate comes up, or not everybody gets into its queue.
pub fn run(arguments: &PlacesArguments, bench: &mut Bench) -> Result<Verdict> {
    let waiting = arguments.visitors;
    let gateways = arguments
        .gateways
        .unwrap_or_else(|| askers::gateways(waiting));
    let (system, mut visitors) = askers::come(waiting, false, gateways, bench)?;
    let before = spent(&system, &visitors)?;
    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    while Instant::now() < end {
        visitors.look(LOOK_EVERY)?;
    }
    let after = spent(&system, &visitors)?;
    bench.progress.say("what they were told");
    let told = visitors.tell()?;
    let whole: Vec<Telling> = told.tellings.to_at_least(waiting).copied().collect();
    show(bench, waiting, gateways, &whole, (before, after));
    let report = &mut bench.report;
    report.check_at_least(
        "tellings that everybody who waits has heard",
        count(whole.len() as u64),
        1.0,
        "",
    );
    report.check_at_most(
        "connections lost, refused texts, gaps",
        count(told.lost + told.broken),
        0.0,
        "",
    );
    Ok(bench.report.verdict())
}

fn spent(system: &System, visitors: &Visitors) -> Result<Spent> {
    let mut gateways = 0.0;
    for pid in system.gateways() {
        gateways += cpu_us(pid)?;
    }
    Ok(Spent {
        gateways,
        backend: system.backend().map_or(Ok(0.0), cpu_us)?,
        load: visitors.newest().cpu_us,
    })
}

fn show(
    bench: &mut Bench,
    waiting: u64,
    gateways: u64,
    whole: &[Telling],
    (before, after): (Spent, Spent),
) {
    let times = |us: fn(&Telling) -> u64| {
        let mut times = Latencies::default();
        for telling in whole {
            times.record(Duration::from_micros(us(telling)));
        }
        times
    };
    let mut table = Table::new(
        format!("the places in the queue, told to {waiting} visitors at {gateways} gateway(s)"),
        &[
            ("what", ""),
            ("tellings", ""),
            ("p50", "ms"),
            ("p99", "ms"),
            ("max", "ms"),
        ],
    );
    for (name, of) in [
        (
            "from the first receiver to the last",
            times(|telling| telling.last_us - telling.first_us),
        ),
        (
            "from the backend's turn to the last",
            times(|telling| telling.took_us),
        ),
    ] {
        let ms = |part| Cell::number(of.quantile(part).as_secs_f64() * 1e3, 1);
        table.row(vec![
            name.into(),
            Cell::count(of.count()),
            ms(0.5),
            ms(0.99),
            ms(1.0),
        ]);
    }
    bench.report.table(table);
    let heard: u64 = whole.iter().map(|telling| telling.receivers).sum();
    let each = |of: fn(&Spent) -> f64| (of(&after) - of(&before)) / count(heard.max(1));
    bench.report.note(format!(
        "CPU time for each receiver of a telling, all that was done meanwhile included: gateways {:.2} µs, backend {:.2} µs, \
         load {:.2} µs. All of them share the machine's cores.",
        each(|spent| spent.gateways),
        each(|spent| spent.backend),
        each(|spent| spent.load)
    ));
}
