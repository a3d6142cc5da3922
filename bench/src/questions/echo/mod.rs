//! What does a message cost that comes back at once?
//!
//! Against one server: rate, latency, and for a server that was started here its CPU time per message and its memory.
//! With `--compare`: ours beside the peers, in turn, in one run ([`compare`]). With `--gateways` each server is several
//! processes on one port: past the descriptors of one.

mod case;
mod compare;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bench::{Bench, Verdict};
use crate::latency::percentile_plot;
use crate::load::{Exchange, Exchanged, Load, Message, Pace, Sample, count};
use crate::machine::Cores;
use crate::peers::Peer;
use crate::process::descriptors_max;
use crate::questions::subject::Subject;
use crate::report::{Axis, Cell, Plot, Series, Table};
use case::{Case, Saturated};

/// `tidegate bench echo`
#[derive(Debug, clap::Args)]
pub struct EchoArguments {
    /// Connections [default: 500]
    #[arg(long, value_name = "N")]
    connections: Option<u64>,
    /// Payload of a message [default: 128]
    #[arg(long, value_name = "BYTES")]
    bytes: Option<usize>,
    /// Messages that each connection has under way [default: 1]
    #[arg(long, value_name = "N")]
    depth: Option<usize>,
    /// Instead: so many messages a second over all connections, whatever comes back
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "depth")]
    rate: Option<f64>,
    /// Processes of each server on the one port: past the descriptors of one
    #[arg(long, default_value_t = 1, value_name = "N", conflicts_with = "server", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    gateways: u16,
    /// What is measured, after a warm-up
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    /// Run ours beside the peers, in turn: CPU time per message, in the case that the flags above describe, or else in all
    #[arg(long, conflicts_with = "server")]
    compare: bool,
    /// With --compare: how often each server runs each case
    #[arg(long, default_value_t = 9, value_name = "N", requires = "compare")]
    rounds: usize,
    /// With --compare: only these cases
    #[arg(long = "case", value_name = "NAME", value_parser = case::parse, requires = "compare", conflicts_with_all = ["connections", "bytes", "depth", "rate"])]
    cases: Vec<Case>,
    /// With --compare: only these servers
    #[arg(long = "peer", value_name = "NAME", requires = "compare")]
    peers: Vec<Peer>,
}

/// Asks.
///
/// # Errors
/// When the server can't be started or reached, or answers with something else.
pub fn run(arguments: &EchoArguments, bench: &mut Bench) -> Result<Verdict> {
    ensure!(
        arguments.seconds > 0.0,
        "--seconds {}: there is nothing to measure in no time",
        arguments.seconds
    );
    if arguments.compare {
        return compare::run(arguments, bench);
    }
    let case = arguments.case();
    if bench.options.server.is_none() {
        arguments.ensure_descriptors(&case)?;
    }
    let cores = Cores::parted();
    let subject = Subject::asked(&bench.options, arguments.gateways.into(), cores.server)?;
    let target = &subject.target;
    let mut load = Load::start(case.connections, &cores.load)?;
    load.connect_all(&bench.progress, target, case.connections)?;
    bench
        .progress
        .say(format!("{} to {}", case.describe(), target.url()));
    let exchanged = load.exchange(&order(
        &case,
        Duration::from_secs_f64(arguments.seconds),
        subject.pids.clone(),
    ))?;
    show(bench, &case, &exchanged);
    Ok(match case.saturated(&exchanged, cores.load.len()) {
        Saturated::Load if arguments.rate.is_some() => Verdict::Saturated,
        _ => bench.report.verdict(),
    })
}

impl EchoArguments {
    /// The case that the flags describe.
    fn case(&self) -> Case {
        let depth = self.depth.unwrap_or(1);
        Case {
            name: "asked",
            connections: self.connections.unwrap_or(500),
            bytes: self.bytes.unwrap_or(128),
            pace: self
                .rate
                .map_or(Pace::Closed { depth }, |per_s| Pace::Open { per_s }),
        }
    }

    /// Whether a flag describes a case.
    fn describes_a_case(&self) -> bool {
        self.connections.is_some()
            || self.bytes.is_some()
            || self.depth.is_some()
            || self.rate.is_some()
    }

    /// The kernel spreads connections over the processes by chance: a tenth of the descriptors is left to that, and to files.
    fn ensure_descriptors(&self, case: &Case) -> Result<()> {
        let descriptors = descriptors_max();
        let each_max = descriptors - descriptors / 10;
        ensure!(
            case.connections <= each_max.saturating_mul(self.gateways.into()),
            "expected at most {each_max} connections for each process of a server (it has {descriptors} descriptors), \
             found {} for {}: type --gateways {}, or raise `ulimit -n`",
            case.connections,
            self.gateways,
            case.connections.div_ceil(each_max.max(1))
        );
        Ok(())
    }
}

fn order(case: &Case, window: Duration, watched: Vec<u32>) -> Exchange {
    let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    Exchange {
        message: Message::Binary { bytes: case.bytes },
        pace: case.pace,
        begin_ns: 0,
        warm_ms: (window_ms / 3).clamp(50, 1_000),
        window_ms,
        watched,
    }
}

fn show(bench: &mut Bench, case: &Case, exchanged: &Exchanged) {
    let ms = |part| Cell::number(exchanged.latencies.quantile(part).as_secs_f64() * 1e3, 3);
    let watched = !exchanged.watched_cpu_us.is_empty();
    let only = |value: f64, digits| {
        if watched {
            Cell::number(value, digits)
        } else {
            Cell::None
        }
    };
    let mut table = Table::new(
        case.describe(),
        &[
            ("rate", "msg/s"),
            ("p50", "ms"),
            ("p99", "ms"),
            ("p99.9", "ms"),
            ("max", "ms"),
            ("server CPU", "µs/msg"),
            ("server", "% of a core"),
            ("load", "% of a core"),
            ("load lag p99", "ms"),
        ],
    );
    table.row(vec![
        Cell::number(exchanged.rate_per_s(), 0),
        ms(0.5),
        ms(0.99),
        ms(0.999),
        ms(1.0),
        only(exchanged.cpu_us_per_message(), 3),
        only(exchanged.watched_cores() * 100.0, 0),
        Cell::number(exchanged.load_cores() * 100.0, 0),
        lag_cell(exchanged),
    ]);
    bench.report.table(table);
    let saturated = case.saturated(exchanged, Cores::parted().load.len());
    bench.report.note(saturated.sentence());
    if exchanged.unanswered > 0 {
        bench.report.note(format!(
            "{} messages were not answered within two seconds.",
            exchanged.unanswered
        ));
    }
    let percentiles = Series::new("echo", exchanged.latencies.percentiles());
    bench
        .report
        .plot(percentile_plot("latency by percentile", vec![percentiles]));
    let over_time = |value: fn(&Sample) -> f64| {
        let samples = exchanged.samples.iter();
        samples.map(|sample| (sample.at_s, value(sample))).collect()
    };
    bench.report.plot(Plot {
        title: "throughput over time".to_owned(),
        x: Axis::linear("time", "s"),
        y: Axis::linear("rate", "msg/s"),
        series: vec![Series::new("echo", over_time(|sample| sample.rate_per_s))],
    });
    if watched {
        bench.report.plot(Plot {
            title: "memory over time".to_owned(),
            x: Axis::linear("time", "s"),
            y: Axis::linear("resident", "MiB"),
            series: vec![Series::new(
                "server",
                over_time(|sample| mib(sample.resident_bytes)),
            )],
        });
    }
}

/// How late the load sent, where it keeps a schedule.
fn lag_cell(exchanged: &Exchanged) -> Cell {
    if exchanged.lag.count() == 0 {
        return Cell::None;
    }
    Cell::number(exchanged.lag.quantile(0.99).as_secs_f64() * 1e3, 3)
}

fn mib(bytes: u64) -> f64 {
    count(bytes) / f64::from(1 << 20)
}
