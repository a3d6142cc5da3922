//! What does a connection cost that says nothing?
//!
//! Connections are opened in steps. Memory is the slope between the first step and the last (what one more connection
//! costs), and the whole process over all of them (what it costs with its rings and buffers); the kernel's memory is of
//! both ends, as both are here. Then they are held while each second one in a hundred is pinged.
//!
//! One process holds as many connections as it has descriptors: `--gateways` starts several on one port. `--visitors` starts
//! a whole Tidegate, and each connection is a visitor who was welcomed and then says nothing. At the end the servers' own
//! descriptors are counted, so that a connection counts that both ends hold.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::subject::{Subject, median, peers};
use crate::bench::{Bench, Verdict};
use crate::kernel;
use crate::load::{Exchange, Load, Message, Pace, Visitors, count};
use crate::machine::Cores;
use crate::peers::Peer;
use crate::report::{Axis, Cell, Plot, Series, Table};

/// Steps from the first to the last.
const STEPS: u64 = 5;

/// A server gives back what the handshakes took before its memory is read.
const SETTLE: Duration = Duration::from_millis(1_300);

/// Below so many connections the rings and buffers are all that is seen: nothing is checked.
const CHECKED_FROM: u64 = 18_000;

const SLOPE_BYTES_MAX: f64 = 192.0;
const WHOLE_BYTES_MAX: f64 = 640.0;
const ACCEPT_US_MAX: f64 = 11.0;
const VISITOR_BYTES_MAX: f64 = 1_000.0;

/// `tidegate bench idle`
#[derive(Debug, clap::Args)]
pub struct IdleArguments {
    /// Connections in the end
    #[arg(long, default_value_t = 18_000, value_name = "N")]
    connections: u64,
    /// Connections from which on the slope is measured
    #[arg(long, default_value_t = 5_000, value_name = "N")]
    from: u64,
    /// For how long they are held, while one in a hundred is pinged each second
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    /// Processes of each server on the one port: past the descriptors of one
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "server", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    gateways: u16,
    /// Visitors of a whole Tidegate, each welcomed, instead of connections of the echo
    #[arg(long, conflicts_with_all = ["server", "compare"])]
    visitors: bool,
    /// Run ours beside the peers, in turn
    #[arg(long, conflicts_with = "server")]
    compare: bool,
    /// How often each server is asked
    #[arg(long, default_value_t = 1, value_name = "N")]
    rounds: usize,
    /// With --compare: only these servers
    #[arg(long = "peer", value_name = "NAME", requires = "compare")]
    peers: Vec<Peer>,
}

/// What one server showed.
struct Seen {
    accepts_per_s: f64,
    accept_us: f64,
    slope_bytes: f64,
    whole_bytes: f64,
    kernel_bytes: f64,
    held_cores: f64,
    pong_p99_ms: f64,
    unanswered: u64,
    /// Connections that the server's processes hold in the end, by their descriptors.
    held: f64,
    /// Connections, and the process's resident bytes with them.
    memory: Vec<(f64, f64)>,
    load_cores: f64,
}

/// Asks.
///
/// # Errors
/// When a server can't be started or reached, or closes a connection.
pub fn run(arguments: &IdleArguments, bench: &mut Bench) -> Result<Verdict> {
    ensure!(
        arguments.from < arguments.connections,
        "--from {} must be below --connections {}",
        arguments.from,
        arguments.connections
    );
    ensure!(arguments.rounds > 0, "--rounds 0: there is nothing to ask");
    let cores = Cores::parted();
    let peers = peers(arguments.compare, &arguments.peers);
    let mut all: Vec<(String, Vec<Seen>)> = Vec::new();
    for round in 0..arguments.rounds {
        for peer in &peers {
            let gateways = usize::from(arguments.gateways);
            let (subject, visitors) = if arguments.compare {
                (Subject::peer(*peer, gateways, cores.server)?, None)
            } else if arguments.visitors {
                let (subject, visitors) = Subject::whole(gateways, cores.server)?;
                (subject, Some(visitors))
            } else {
                let subject = Subject::asked(&bench.options, gateways, cores.server)?;
                (subject, None)
            };
            bench.progress.say(format!(
                "round {} of {}: {}",
                round + 1,
                arguments.rounds,
                subject.name
            ));
            let seen = ask(arguments, bench, &subject, visitors, &cores)?;
            match all.iter_mut().find(|(name, _)| *name == subject.name) {
                Some((_, runs)) => runs.push(seen),
                None => all.push((subject.name.clone(), vec![seen])),
            }
        }
    }
    show(arguments, bench, &all);
    let ours = all.iter().find(|(name, _)| name == Peer::Tidegate.name());
    if let Some((_, runs)) = ours
        && arguments.connections >= CHECKED_FROM
    {
        let of = |figure: fn(&Seen) -> f64| {
            median(runs.iter().map(figure).collect()).unwrap_or(f64::NAN)
        };
        let report = &mut bench.report;
        report.check_at_most(
            "resident memory of one more connection",
            of(|seen| seen.slope_bytes),
            SLOPE_BYTES_MAX,
            "B",
        );
        report.check_at_most(
            "the whole process ÷ connections",
            of(|seen| seen.whole_bytes),
            WHOLE_BYTES_MAX,
            "B",
        );
        report.check_at_most(
            "CPU time of accept and upgrade",
            of(|seen| seen.accept_us),
            ACCEPT_US_MAX,
            "µs",
        );
    }
    let whole = arguments.visitors || arguments.gateways > 1;
    for (name, runs) in all.iter().filter(|_| whole) {
        check_fleet(arguments, bench, name, runs);
    }
    Ok(bench.report.verdict())
}

/// What several processes together must hold.
fn check_fleet(arguments: &IdleArguments, bench: &mut Bench, name: &str, runs: &[Seen]) {
    let total = count(arguments.connections);
    let of = |figure: fn(&Seen) -> f64| median(runs.iter().map(figure).collect());
    let held = of(|seen| seen.held).unwrap_or(0.0);
    let report = &mut bench.report;
    report.check_at_most(
        format!("{name}: connections that the servers do not hold in the end"),
        total - held,
        0.0,
        "",
    );
    report.check_at_most(
        format!("{name}: pings not answered within two seconds"),
        of(|seen| count(seen.unanswered)).unwrap_or(f64::NAN),
        0.0,
        "",
    );
    if arguments.visitors && arguments.connections >= CHECKED_FROM {
        report.check_at_most(
            "resident memory of one more welcomed visitor, gateways and backend",
            of(|seen| seen.slope_bytes).unwrap_or(f64::NAN),
            VISITOR_BYTES_MAX,
            "B",
        );
    }
}

fn ask(
    arguments: &IdleArguments,
    bench: &Bench,
    subject: &Subject,
    visitors: Option<Visitors>,
    cores: &Cores,
) -> Result<Seen> {
    let total = arguments.connections;
    let mut load = Load::start(total, &cores.load)?;
    if let Some(visitors) = visitors {
        load = load.of_visitors(visitors);
    }
    let descriptors = subject.descriptors()?;
    let kernel_before = kernel::memory_bytes()?;
    let mut memory = Vec::new();
    let (mut open, mut connect_s, mut connect_us, mut load_us) = (0, 0.0, 0.0, 0.0);
    let steps = (0..=STEPS).map(|step| arguments.from + (total - arguments.from) * step / STEPS);
    for wanted in steps {
        let cpu_us = subject.cpu_us()?;
        let connected = load.connect_all(&bench.progress, &subject.target, wanted - open)?;
        // Up to the first step the server is cold: its pages are touched for the first time.
        if open > 0 {
            connect_us += subject.cpu_us()? - cpu_us;
            connect_s += connected.elapsed_s;
            load_us += connected.load_cpu_us;
        }
        open = wanted;
        std::thread::sleep(SETTLE);
        memory.push((count(open), subject.resident_bytes()?));
    }
    // The load's own memory is not the kernel's, so it does not disturb this difference.
    let kernel_bytes = count(kernel::memory_bytes()?.saturating_sub(kernel_before)) / count(total);
    bench
        .progress
        .say(format!("{}: {open} connections are held", subject.name));
    let exchanged = load.exchange(&Exchange {
        message: Message::Ping,
        pace: Pace::Open {
            per_s: (count(total) / 100.0).max(1.0),
        },
        begin_ns: 0,
        warm_ms: 200,
        window_ms: u64::try_from(Duration::from_secs_f64(arguments.seconds).as_millis())?,
        watched: subject.pids.clone(),
    })?;
    let held = count(subject.descriptors()?.saturating_sub(descriptors));
    let more = count(total - arguments.from);
    let last = memory[memory.len() - 1].1;
    Ok(Seen {
        accepts_per_s: more / connect_s.max(1e-9),
        accept_us: connect_us / more,
        slope_bytes: (last - memory[0].1) / more,
        whole_bytes: last / count(total),
        kernel_bytes,
        held_cores: exchanged.watched_cores(),
        pong_p99_ms: exchanged.latencies.quantile(0.99).as_secs_f64() * 1e3,
        unanswered: exchanged.unanswered,
        held,
        memory,
        load_cores: load_us / 1e6 / connect_s.max(1e-9),
    })
}

fn show(arguments: &IdleArguments, bench: &mut Bench, all: &[(String, Vec<Seen>)]) {
    let mut table = Table::new(
        format!(
            "{} connections that say nothing, 1 % pinged each second",
            arguments.connections
        ),
        &[
            ("server", ""),
            ("held", ""),
            ("accepts", "1/s"),
            ("CPU per accept", "µs"),
            ("one more", "B"),
            ("whole process", "B/conn."),
            ("kernel, both ends", "B/conn."),
            ("CPU while held", "% of a core"),
            ("pong p99", "ms"),
            ("load", "% of a core"),
        ],
    );
    let mut series = Vec::new();
    for (name, runs) in all {
        let watched = runs[0].whole_bytes > 0.0;
        let of = |figure: fn(&Seen) -> f64, digits| {
            let value = median(runs.iter().map(figure).collect());
            value.map_or(Cell::None, |value| Cell::number(value, digits))
        };
        let only = |figure: fn(&Seen) -> f64, digits| {
            if watched {
                of(figure, digits)
            } else {
                Cell::None
            }
        };
        let kernel = match median(runs.iter().map(|seen| seen.kernel_bytes).collect()) {
            Some(bytes) if bytes > 0.0 => Cell::number(bytes, 0),
            // The kernel reused what it had kept of an earlier server's sockets.
            _ => Cell::None,
        };
        table.row(vec![
            name.as_str().into(),
            only(|seen| seen.held, 0),
            of(|seen| seen.accepts_per_s, 0),
            only(|seen| seen.accept_us, 2),
            only(|seen| seen.slope_bytes, 0),
            only(|seen| seen.whole_bytes, 0),
            kernel,
            only(|seen| seen.held_cores * 100.0, 2),
            of(|seen| seen.pong_p99_ms, 2),
            of(|seen| seen.load_cores * 100.0, 0),
        ]);
        let unanswered: u64 = runs.iter().map(|seen| seen.unanswered).sum();
        if unanswered > 0 {
            bench.report.note(format!(
                "{name}: {unanswered} pings were not answered within two seconds."
            ));
        }
        if watched {
            let points = runs[runs.len() - 1].memory.iter();
            let points = points.map(|(open, bytes)| (*open, bytes / f64::from(1 << 20)));
            series.push(Series::new(name, points.collect()));
        }
    }
    bench.report.table(table);
    bench.report.plot(Plot {
        title: "resident memory by connections".to_owned(),
        x: Axis::linear("connections", ""),
        y: Axis::linear("resident", "MiB"),
        series,
    });
    bench.report.note(format!(
        "One more: slope of resident memory from {} to {} connections. Accepts: at the load's pace, 200 handshakes under way.",
        arguments.from, arguments.connections
    ));
}
