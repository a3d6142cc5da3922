//! How long does a newcomer wait when all come at once?
//!
//! Connections are begun evenly over a short time, whatever the server does. Each is counted from the moment at which it
//! was due to the moment at which its upgrade was read, so a late load shows as a slow server: a run in which the load's
//! core was nearly full is asked again, slower.

mod after_kill;

use std::time::Duration;

use anyhow::{Result, ensure};

use super::subject::{Subject, median, peers};
use crate::bench::{Bench, Verdict};
use crate::kernel;
use crate::latency::{Latencies, percentile_plot};
use crate::load::{Connected, Load, count};
use crate::machine::Cores;
use crate::peers::Peer;
use crate::report::{Cell, Series, Table};

/// Above it the load's core counts as full.
const LOAD_MAX: f64 = 0.9;

/// Times that a storm is asked again with half as much time more.
const SLOWER_MAX: usize = 3;

/// Before each storm: the sockets of the one before it are closed and their memory is freed by then, on the server's core
/// as well. Without it two storms of three had a p99 of 300 ms and more, whoever served; with it none of five.
const CALM: Duration = Duration::from_secs(4);

/// Below so many connections nothing is checked.
const CHECKED_FROM: u64 = 15_000;

const P99_MS_MAX: f64 = 20.0;

/// `tidegate bench storm`
#[derive(Debug, clap::Args)]
pub struct StormArguments {
    /// Connections
    #[arg(long, default_value_t = 15_000, value_name = "N")]
    connections: u64,
    /// Within so long
    #[arg(long, default_value_t = 0.75, value_name = "SECONDS")]
    within: f64,
    /// Run ours beside the peers, in turn
    #[arg(long, conflicts_with = "server")]
    compare: bool,
    /// How often each server is asked
    #[arg(long, default_value_t = 3, value_name = "N")]
    rounds: usize,
    /// With --compare: only these servers
    #[arg(long = "peer", value_name = "NAME", requires = "compare")]
    peers: Vec<Peer>,
    /// Instead: that many visitors with a chat each at a whole Tidegate, of which one gateway is killed with SIGKILL
    #[arg(long, conflicts_with_all = ["compare", "server", "within", "rounds"])]
    kill: bool,
}

/// What one storm showed.
struct Seen {
    within_s: f64,
    connected: Connected,
    overflows: u64,
    server_us: f64,
    load_cores: f64,
}

/// Asks.
///
/// # Errors
/// When a server can't be started.
pub fn run(arguments: &StormArguments, bench: &mut Bench) -> Result<Verdict> {
    if arguments.kill {
        return after_kill::run(arguments, bench);
    }
    ensure!(arguments.rounds > 0, "--rounds 0: there is nothing to ask");
    ensure!(
        arguments.within >= 0.001,
        "--within {}: at least a millisecond",
        arguments.within
    );
    let peers = peers(arguments.compare, &arguments.peers);
    let mut all: Vec<(String, Vec<Seen>)> = Vec::new();
    // One that was asked slower makes all later ones slower too: the rows of a table are of one storm.
    let mut within_s = arguments.within;
    for round in 0..arguments.rounds {
        for peer in &peers {
            let (name, seen) = calm_load(arguments, bench, *peer, round, &mut within_s)?;
            match all.iter_mut().find(|(known, _)| *known == name) {
                Some((_, runs)) => runs.push(seen),
                None => all.push((name, vec![seen])),
            }
        }
    }
    show(arguments, bench, &all)?;
    let ours = all.iter().find(|(name, _)| name == Peer::Tidegate.name());
    if let Some((_, runs)) = ours
        && arguments.connections >= CHECKED_FROM
    {
        let p99 = median(runs.iter().map(p99_ms).collect()).unwrap_or(f64::NAN);
        bench
            .report
            .check_at_most("p99 from due to upgraded", p99, P99_MS_MAX, "ms");
        let overflows = runs
            .iter()
            .map(|seen| count(seen.overflows))
            .fold(0.0, f64::max);
        bench
            .report
            .check_at_most("listen queue overflows", overflows, 0.0, "");
    }
    let full = all
        .iter()
        .flat_map(|(_, runs)| runs)
        .any(|seen| seen.load_cores > LOAD_MAX);
    Ok(if full {
        Verdict::Saturated
    } else {
        bench.report.verdict()
    })
}

/// Asks one server, again and slower while the load's core is full.
fn calm_load(
    arguments: &StormArguments,
    bench: &Bench,
    peer: Peer,
    round: usize,
    within_s: &mut f64,
) -> Result<(String, Seen)> {
    let cores = Cores::parted();
    let mut slower = 0;
    loop {
        std::thread::sleep(CALM);
        let subject = if arguments.compare {
            Subject::peer(peer, 1, cores.server)?
        } else {
            Subject::asked(&bench.options, 1, cores.server)?
        };
        bench.progress.say(format!(
            "round {} of {}: {} connections to {} within {within_s:.2} s",
            round + 1,
            arguments.rounds,
            arguments.connections,
            subject.name
        ));
        let seen = ask(arguments, bench, &subject, &cores, *within_s)?;
        if seen.load_cores <= LOAD_MAX || slower == SLOWER_MAX {
            return Ok((subject.name, seen));
        }
        slower += 1;
        *within_s *= 1.5;
    }
}

fn ask(
    arguments: &StormArguments,
    bench: &Bench,
    subject: &Subject,
    cores: &Cores,
    within_s: f64,
) -> Result<Seen> {
    let mut load = Load::start(arguments.connections, &cores.load)?;
    let (overflows, cpu_us) = (kernel::listen_overflows()?, subject.cpu_us()?);
    let over = Duration::from_secs_f64(within_s);
    let connected = load.connect(
        &bench.progress,
        &subject.target,
        arguments.connections,
        over,
    )?;
    let busy_s = connected.elapsed_s.max(within_s);
    Ok(Seen {
        within_s,
        overflows: kernel::listen_overflows()? - overflows,
        server_us: (subject.cpu_us()? - cpu_us) / count(connected.open.max(1)),
        load_cores: connected.load_cpu_us / 1e6 / busy_s,
        connected,
    })
}

fn p99_ms(seen: &Seen) -> f64 {
    seen.connected.upgrades.quantile(0.99).as_secs_f64() * 1e3
}

fn show(arguments: &StormArguments, bench: &mut Bench, all: &[(String, Vec<Seen>)]) -> Result<()> {
    let mut table = Table::new(
        format!("{} connections at once", arguments.connections),
        &[
            ("server", ""),
            ("within", "s"),
            ("p50", "ms"),
            ("p99", "ms"),
            ("max", "ms"),
            ("last after", "s"),
            ("failed", ""),
            ("overflows", ""),
            ("server CPU", "µs/conn."),
            ("load", "% of a core"),
            ("load lag p99", "ms"),
        ],
    );
    let mut curves = Vec::new();
    for (name, runs) in all {
        let of = |figure: fn(&Seen) -> f64, digits| {
            let value = median(runs.iter().map(figure).collect());
            value.map_or(Cell::None, |value| Cell::number(value, digits))
        };
        table.row(vec![
            name.as_str().into(),
            of(|seen| seen.within_s, 2),
            of(
                |seen| seen.connected.upgrades.quantile(0.5).as_secs_f64() * 1e3,
                2,
            ),
            of(p99_ms, 2),
            of(
                |seen| seen.connected.upgrades.quantile(1.0).as_secs_f64() * 1e3,
                2,
            ),
            of(|seen| seen.connected.elapsed_s, 3),
            of(|seen| count(seen.connected.failed), 0),
            of(|seen| count(seen.overflows), 0),
            of(|seen| seen.server_us, 2),
            of(|seen| seen.load_cores * 100.0, 0),
            of(
                |seen| seen.connected.lag.quantile(0.99).as_secs_f64() * 1e3,
                2,
            ),
        ]);
        let mut upgrades = Latencies::default();
        for seen in runs {
            upgrades.add(&seen.connected.upgrades)?;
        }
        curves.push(Series::new(name, upgrades.percentiles()));
        let errors = runs
            .iter()
            .filter_map(|seen| seen.connected.first_error.as_deref());
        for error in errors {
            bench.report.note(format!("{name}: {error}"));
        }
    }
    bench.report.table(table);
    bench.report.plot(percentile_plot(
        "from due to upgraded, by percentile",
        curves,
    ));
    bench.report.note(format!("Medians of {} rounds. The load's core is full above 90 %; then a storm is asked again, slower.", arguments.rounds));
    Ok(())
}
