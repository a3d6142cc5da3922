//! Ours beside the peers: every server runs every case in every round, one after the other on the same core, so that what
//! the machine does to one it does to all. What counts is the median of the ratios of a round, not a ratio of medians.
//!
//! The servers take turns at being first. A round begins with [`FLOOR_CASE`], if that is asked: where the floor is above
//! [`FLOOR_MAX`] of fastwebsockets there, something else used the machine (the floor has nothing that could make it slow), and
//! the round says nothing about any case. It is asked again, and how often that was is told.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::case::{CASES, Case, Saturated};
use super::{EchoArguments, lag_cell, mib, order};
use crate::bench::{Bench, Verdict};
use crate::latency::{Latencies, percentile_plot};
use crate::load::{Exchanged, Load, Pace};
use crate::machine::Cores;
use crate::peers::Peer;
use crate::questions::subject::{Subject, median, peers};
use crate::report::{Axis, Cell, Plot, Series, Table};

/// What bare may cost beside fastwebsockets in a round that counts.
const FLOOR_MAX: f64 = 0.74;

/// The case whose floor tells a disturbed machine from a quiet one; with more connections or bytes it is less steady.
const FLOOR_CASE: &str = "500x128";

/// From so many connections on, [`MANY_OF_BARE_MAX`] holds.
const MANY_CONNECTIONS: u64 = 100_000;

const MANY_OF_BARE_MAX: f64 = 1.15;

/// Times that disturbed rounds are begun again, for each round that was asked for; then they go on as they are.
const REPEATS_PER_ROUND_MAX: usize = 3;

/// Of one server in one case, one for each round.
type Runs = BTreeMap<Peer, Vec<Exchanged>>;

/// Rounds of all cases, either those that count or the others.
struct Rounds {
    count: usize,
    /// In the order of the cases.
    runs: Vec<Runs>,
}

impl Rounds {
    fn new(cases: &[&Case]) -> Self {
        Self {
            count: 0,
            runs: cases.iter().map(|_| Runs::new()).collect(),
        }
    }

    fn add(&mut self, nth: usize, results: Vec<(Peer, Exchanged)>) {
        for (peer, exchanged) in results {
            self.runs[nth].entry(peer).or_default().push(exchanged);
        }
    }
}

/// What ours may cost at most: beside the floor, and beside fastwebsockets.
struct Limits {
    of_bare: Option<f64>,
    of_fastwebsockets: Option<f64>,
}

fn limits(case: &Case) -> Limits {
    let (of_bare, of_fastwebsockets) = match case.name {
        "500x128" | "500x1024" => (Some(1.08), Some(0.75)),
        "10000x128" => (Some(1.10), Some(0.80)),
        "deep128" => (None, Some(0.12)),
        "deep1024" => (None, Some(0.22)),
        "open" => (Some(1.08), None),
        _ if case.connections >= MANY_CONNECTIONS => (Some(MANY_OF_BARE_MAX), None),
        _ => (None, None),
    };
    Limits {
        of_bare,
        of_fastwebsockets,
    }
}

pub(super) fn run(arguments: &EchoArguments, bench: &mut Bench) -> Result<Verdict> {
    let described = [arguments.case()];
    let cases = match &arguments.cases[..] {
        [] if arguments.describes_a_case() => &described[..],
        [] => &CASES[..],
        named => named,
    };
    let peers = peers(true, &arguments.peers);
    ensure!(
        arguments.rounds > 0,
        "--rounds 0: there is nothing to compare"
    );
    if !cfg!(feature = "peers") {
        bench.report.note(
            "fastwebsockets and tokio-tungstenite are not in this program: build it with \
             `cargo build --release -p tidegate --features peers` to see them.",
        );
    }
    for case in cases {
        arguments.ensure_descriptors(case)?;
    }
    let mut cases: Vec<&Case> = cases.iter().collect();
    // The case that tells is asked first: beginning again costs no more than that.
    cases.sort_by_key(|case| case.name != FLOOR_CASE);
    let (mut quiet, mut rough) = (Rounds::new(&cases), Rounds::new(&cases));
    let (mut repeats, repeats_max) = (0, arguments.rounds * REPEATS_PER_ROUND_MAX);
    for round in 0..arguments.rounds {
        let (first, rounds) = loop {
            let results = one_round(arguments, bench, cases[0], &peers, round)?;
            if !disturbed(cases[0], &results) {
                break (results, &mut quiet);
            }
            if repeats == repeats_max {
                break (results, &mut rough);
            }
            repeats += 1;
        };
        rounds.count += 1;
        rounds.add(0, first);
        for (nth, case) in cases.iter().enumerate().skip(1) {
            rounds.add(nth, one_round(arguments, bench, case, &peers, round)?);
        }
    }
    let counted = if quiet.count > 0 { &quiet } else { &rough };
    let mut load_was_late = false;
    for (case, runs) in cases.iter().zip(&counted.runs) {
        show(bench, case, runs)?;
        check(bench, case, runs);
        load_was_late |= open_loop_was_late(case, runs);
    }
    let disturbed_rounds = repeats + rough.count;
    if disturbed_rounds > 0 {
        bench.report.note(format!(
            "{disturbed_rounds} rounds were disturbed and say nothing: bare was above {FLOOR_MAX} × fastwebsockets in {FLOOR_CASE}."
        ));
    }
    if quiet.count == 0 {
        bench.report.note("No round was quiet: these are the disturbed ones. Ask again when less runs on this machine.");
    }
    bench.report.note(format!(
        "Median of {} interleaved rounds of {} s; ratios are medians of each round's ratio. One server ({}) on one core, the load on the other.",
        counted.count,
        arguments.seconds,
        match arguments.gateways {
            1 => "one process".to_owned(),
            several => format!("{several} processes on one port"),
        }
    ));
    Ok(if load_was_late || quiet.count == 0 {
        Verdict::Saturated
    } else {
        bench.report.verdict()
    })
}

/// An open loop beside any server that the load could not keep up: its figures are the load's.
fn open_loop_was_late(case: &Case, runs: &Runs) -> bool {
    let load_cores = Cores::parted().load.len();
    let late = |one: &&Exchanged| {
        matches!(
            case.saturated(one, load_cores),
            Saturated::Load | Saturated::Both
        )
    };
    let mut servers = runs.values();
    matches!(case.pace, Pace::Open { .. })
        && servers.any(|results| results.iter().filter(late).count() * 2 > results.len())
}

fn one_round(
    arguments: &EchoArguments,
    bench: &Bench,
    case: &Case,
    peers: &[Peer],
    round: usize,
) -> Result<Vec<(Peer, Exchanged)>> {
    let mut results = Vec::with_capacity(peers.len());
    for turn in 0..peers.len() {
        let peer = peers[(round + turn) % peers.len()];
        bench.progress.say(format!(
            "{}, round {} of {}: {}",
            case.name,
            round + 1,
            arguments.rounds,
            peer.name()
        ));
        let cores = Cores::parted();
        let subject = Subject::peer(peer, arguments.gateways.into(), cores.server)?;
        let mut load = Load::start(case.connections, &cores.load)?;
        load.connect_all(&bench.progress, &subject.target, case.connections)?;
        let window = Duration::from_secs_f64(arguments.seconds);
        let order = order(case, window, subject.pids.clone());
        results.push((peer, load.exchange(&order)?));
    }
    Ok(results)
}

fn disturbed(case: &Case, results: &[(Peer, Exchanged)]) -> bool {
    let cost = |wanted| {
        let found = results.iter().find(|(peer, _)| *peer == wanted);
        found.map(|(_, exchanged)| exchanged.cpu_us_per_message())
    };
    let telling = case.name == FLOOR_CASE;
    match (cost(Peer::Bare), cost(Peer::Fastwebsockets)) {
        (Some(bare), Some(other)) => telling && bare > FLOOR_MAX * other,
        _ => false,
    }
}

/// The median over all rounds of one server's figure.
fn median_of(runs: &[Exchanged], figure: impl Fn(&Exchanged) -> f64) -> f64 {
    median(runs.iter().map(figure).collect()).unwrap_or(f64::NAN)
}

/// The median of each round's ratio of CPU time per message.
fn ratio(runs: &Runs, of: Peer, to: Peer) -> Option<f64> {
    let (of, to) = (runs.get(&of)?, runs.get(&to)?);
    let pairs = of.iter().zip(to);
    median(
        pairs
            .map(|(of, to)| of.cpu_us_per_message() / to.cpu_us_per_message())
            .collect(),
    )
}

fn p99_ms(exchanged: &Exchanged) -> f64 {
    exchanged.latencies.quantile(0.99).as_secs_f64() * 1e3
}

fn show(bench: &mut Bench, case: &Case, runs: &Runs) -> Result<()> {
    let mut table = Table::new(
        format!("{}: {}", case.name, case.describe()),
        &[
            ("server", ""),
            ("CPU", "µs/msg"),
            ("lowest", "µs/msg"),
            ("highest", "µs/msg"),
            ("÷ bare", ""),
            ("÷ fastwebsockets", ""),
            ("rate", "msg/s"),
            ("p50", "ms"),
            ("p99", "ms"),
            ("server", "% of a core"),
            ("load", "% of a core"),
            ("load lag p99", "ms"),
            ("saturated", ""),
        ],
    );
    let mut curves = Vec::new();
    let mut memory = Vec::new();
    let mut rates = Vec::new();
    let load_cores = Cores::parted().load.len();
    for (peer, results) in runs {
        let costs: Vec<f64> = results.iter().map(Exchanged::cpu_us_per_message).collect();
        let ratio_cell =
            |to| ratio(runs, *peer, to).map_or(Cell::None, |ratio| Cell::number(ratio, 3));
        let of = |figure: fn(&Exchanged) -> f64| median_of(results, figure);
        let last = &results[results.len() - 1];
        table.row(vec![
            peer.name().into(),
            Cell::number(median_of(results, Exchanged::cpu_us_per_message), 3),
            Cell::number(costs.iter().copied().fold(f64::INFINITY, f64::min), 3),
            Cell::number(costs.iter().copied().fold(0.0, f64::max), 3),
            ratio_cell(Peer::Bare),
            ratio_cell(Peer::Fastwebsockets),
            Cell::number(of(Exchanged::rate_per_s), 0),
            Cell::number(of(|one| one.latencies.quantile(0.5).as_secs_f64() * 1e3), 3),
            Cell::number(of(p99_ms), 3),
            Cell::number(of(Exchanged::watched_cores) * 100.0, 0),
            Cell::number(of(Exchanged::load_cores) * 100.0, 0),
            lag_cell(last),
            case.saturated(last, load_cores).name().into(),
        ]);
        let mut all = Latencies::default();
        for exchanged in results {
            all.add(&exchanged.latencies)?;
        }
        curves.push(Series::new(peer.name(), all.percentiles()));
        let samples = last.samples.iter();
        let resident = samples
            .clone()
            .map(|sample| (sample.at_s, mib(sample.resident_bytes)));
        memory.push(Series::new(peer.name(), resident.collect()));
        rates.push(Series::new(
            peer.name(),
            samples
                .map(|sample| (sample.at_s, sample.rate_per_s))
                .collect(),
        ));
    }
    bench.report.table(table);
    let report = &mut bench.report;
    report.plot(percentile_plot(
        &format!("{}: latency by percentile, all rounds", case.name),
        curves,
    ));
    let over_time = |what: &str, y: Axis, series| Plot {
        title: format!("{}: {what}, last round", case.name),
        x: Axis::linear("time", "s"),
        y,
        series,
    };
    report.plot(over_time(
        "throughput over time",
        Axis::linear("rate", "msg/s"),
        rates,
    ));
    report.plot(over_time(
        "memory over time",
        Axis::linear("resident", "MiB"),
        memory,
    ));
    Ok(())
}

fn check(bench: &mut Bench, case: &Case, runs: &Runs) {
    let Limits {
        of_bare,
        of_fastwebsockets,
    } = limits(case);
    let what = format!("{}: CPU per message", case.name);
    let pairs = [
        (Peer::Bare, of_bare, "× bare"),
        (Peer::Fastwebsockets, of_fastwebsockets, "× fastwebsockets"),
    ];
    for (peer, limit, unit) in pairs {
        if let (Some(ratio), Some(limit)) = (ratio(runs, Peer::Tidegate, peer), limit) {
            bench.report.check_at_most(&what, ratio, limit, unit);
        }
    }
    if let (Pace::Open { .. }, Some(ours), Some(theirs)) = (
        case.pace,
        runs.get(&Peer::Tidegate),
        runs.get(&Peer::Fastwebsockets),
    ) {
        let (ours, theirs) = (median_of(ours, p99_ms), median_of(theirs, p99_ms));
        bench.report.check_at_most(
            format!("{}: p99, beside fastwebsockets'", case.name),
            ours,
            theirs,
            "ms",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::questions::echo::case::parse;

    fn cost(us: f64) -> Exchanged {
        Exchanged {
            messages: 1_000,
            window_s: 1.0,
            watched_cpu_us: vec![us * 1_000.0],
            ..Exchanged::default()
        }
    }

    #[test]
    fn the_median_is_of_the_ratios_of_rounds_and_not_a_ratio_of_medians() {
        let mut runs = Runs::new();
        // The machine was three times slower in the second round, for both.
        runs.insert(Peer::Tidegate, vec![cost(4.0), cost(12.0), cost(5.0)]);
        runs.insert(Peer::Bare, vec![cost(4.0), cost(12.0), cost(4.0)]);
        assert_eq!(ratio(&runs, Peer::Tidegate, Peer::Bare), Some(1.0));
        assert_eq!(ratio(&runs, Peer::Tidegate, Peer::Fastwebsockets), None);
    }

    #[test]
    fn a_round_with_a_slow_floor_is_disturbed_in_the_telling_case_only() {
        let results = [(Peer::Bare, cost(4.5)), (Peer::Fastwebsockets, cost(6.0))];
        assert!(disturbed(&parse("500x128").unwrap(), &results));
        assert!(!disturbed(&parse("500x1024").unwrap(), &results));
        assert!(!disturbed(&parse("500x128").unwrap(), &results[..1]));
        let results = [(Peer::Bare, cost(4.4)), (Peer::Fastwebsockets, cost(6.0))];
        assert!(!disturbed(&parse("500x128").unwrap(), &results));
    }
}
