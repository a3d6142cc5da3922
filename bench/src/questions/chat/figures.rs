//! The answer to `chat` as tables, plots and checks.

use super::ChatArguments;
use super::sampler::Sample;
use super::talk::{LAG_MS_MAX, Talk};
use crate::bench::Bench;
use crate::latency::{Latencies, percentile_plot};
use crate::report::{Axis, Cell, Check, Plot, Series, Table};
use crate::system::Ledger;

/// A queue that grew by more than this over the run is growing, not breathing.
const GROWTH_BYTES_MAX: f64 = 256.0 * 1024.0;
/// Of what was said on schedule, so much has to have arrived when the measurement ends.
const DELIVERED_PART_MIN: f64 = 0.99;

#[expect(clippy::cast_precision_loss, reason = "counts and bytes below 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}

/// Fills the report.
pub(super) fn report(
    bench: &mut Bench,
    arguments: &ChatArguments,
    talk: &Talk,
    samples: &[Sample],
    after: Ledger,
) {
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    let seconds = last.at.duration_since(first.at).as_secs_f64();
    let delivered = float(last.ledger.delivered - first.ledger.delivered);
    bench
        .report
        .table(rates(arguments, talk, delivered, seconds));
    bench.report.table(latencies(talk));
    bench
        .report
        .table(processes(talk, first, last, delivered, seconds));
    bench.report.table(turns(first, last));
    bench.report.table(inside(last));
    plots(bench, talk, samples);
    checks(bench, arguments, talk, samples, delivered / seconds);
    bench.report.check(Check {
        what: "ledger after the last acknowledgement".to_owned(),
        measured: format!(
            "{} accepted, {} delivered, {} pending, {} expired",
            after.accepted, after.delivered, after.pending, after.expired
        ),
        target: "closed, nothing pending, everything answered".to_owned(),
        held: after.is_closed() && after.pending == 0 && talk.unanswered() == 0,
    });
    bench.report.note(format!(
        "{} visitors, {} agents, texts of 32–256 bytes of Chinese; delivered = the recipient's acknowledgement \
         reached the backend; latencies from the scheduled send to the other person's receipt.",
        arguments.visitors, arguments.agents
    ));
}

fn rates(arguments: &ChatArguments, talk: &Talk, delivered: f64, seconds: f64) -> Table {
    let pace = match arguments.depth {
        Some(depth) => format!("pipelined, depth {depth}"),
        None => format!("open loop, {} a second", arguments.rate),
    };
    let mut table = Table::new(
        format!("{pace}; synchronous = {}", arguments.synchronous.name()),
        &[
            ("delivered", "msg/s"),
            ("committed", "msg/s"),
            ("said", "msg/s"),
            ("set back", "msg"),
            ("passed over", "msg"),
            ("broken", ""),
        ],
    );
    let tally = &talk.tally;
    let lasted = tally.lasted.as_secs_f64();
    table.row(vec![
        Cell::number(delivered / seconds, 0),
        Cell::number(float(tally.accepted) / lasted, 0),
        Cell::number(float(tally.sent) / lasted, 0),
        Cell::count(tally.set_back),
        Cell::count(tally.passed_over),
        Cell::count(tally.broken),
    ]);
    table
}

fn latencies(talk: &Talk) -> Table {
    let mut table = Table::new(
        "from one person's send to the other's receipt",
        &[
            ("direction", ""),
            ("count", ""),
            ("p50", "ms"),
            ("p99", "ms"),
            ("p99.9", "ms"),
            ("max", "ms"),
        ],
    );
    for (name, times) in [
        ("agent to visitor", &talk.tally.to_visitor),
        ("visitor to agent", &talk.tally.to_agent),
        ("the load's own lag", &talk.tally.lag),
    ] {
        let mut row = vec![name.into(), Cell::count(times.count())];
        row.extend([0.5, 0.99, 0.999, 1.0].map(|part| Cell::number(ms(times, part), 3)));
        table.row(row);
    }
    table
}

fn ms(times: &Latencies, part: f64) -> f64 {
    times.quantile(part).as_secs_f64() * 1e3
}

fn processes(talk: &Talk, first: &Sample, last: &Sample, delivered: f64, seconds: f64) -> Table {
    let mut table = Table::new(
        "by process, for each delivered message",
        &[
            ("process", ""),
            ("CPU", "µs"),
            ("of a core", "%"),
            ("received", "B"),
            ("sent", "B"),
            ("to disk", "B"),
            ("resident", "MiB"),
        ],
    );
    let count = first.processes.len();
    let wire = talk.tally.wire_bytes;
    for (index, (was, is)) in first.processes.iter().zip(&last.processes).enumerate() {
        let cpu_us = is.cpu_us - was.cpu_us;
        let name = match index {
            0 => "backend".to_owned(),
            _ if index + 1 == count => "load".to_owned(),
            _ if count == 3 => "gateway".to_owned(),
            _ => format!("gateway {index}"),
        };
        let per_message = |bytes: u64| Cell::number(float(bytes) / delivered.max(1.0), 0);
        // The load's bytes are the gateways' from the other side; with several of them nobody counts them apart.
        let (received, sent) = match index {
            0 => (Cell::None, Cell::None),
            _ if index + 1 == count => (per_message(wire.1), per_message(wire.0)),
            _ if count == 3 => (per_message(wire.0), per_message(wire.1)),
            _ => (Cell::None, Cell::None),
        };
        table.row(vec![
            name.into(),
            Cell::number(cpu_us / delivered.max(1.0), 2),
            Cell::number(cpu_us / seconds / 1e4, 1),
            received,
            sent,
            per_message(is.written_bytes - was.written_bytes),
            Cell::number(float(is.resident_bytes) / f64::from(1 << 20), 1),
        ]);
    }
    table
}

/// The backend's turns: what it tells of them at /metrics.
fn turns(first: &Sample, last: &Sample) -> Table {
    let mut table = Table::new("the backend's turns", &[("figure", ""), ("value", "")]);
    let grew = |name: &str| last.metrics.sum(name) - first.metrics.sum(name);
    let turns = grew("tidegate_turns_total").max(1.0);
    let mut row = |what: &str, value: f64, digits| {
        table.row(vec![what.into(), Cell::number(value, digits)]);
    };
    row("turns", turns, 0);
    row("inputs a turn", grew("tidegate_inputs_total") / turns, 1);
    row(
        "texts a turn",
        grew("tidegate_messages_accepted_total") / turns,
        1,
    );
    row(
        "commit, µs a turn",
        grew("tidegate_commit_us_total") / turns,
        0,
    );
    table
}

/// How long the backend's turns and texts took, by its own histograms; they begin with its start, so the arrival of all
/// those people and the warm-up are in them.
fn inside(last: &Sample) -> Table {
    let mut table = Table::new(
        "inside the backend, since its start",
        &[
            ("what", ""),
            ("p50", "ms"),
            ("p99", "ms"),
            ("p99.9", "ms"),
            ("p99.99", "ms"),
            ("max", "ms"),
        ],
    );
    for (what, name) in [
        ("turn, take to release", "tidegate_turn_us"),
        ("text, begin of its turn to publication", "tidegate_chat_us"),
    ] {
        let quantile = |part: &str| {
            let found = last.metrics.get(&format!("{name}{{quantile=\"{part}\"}}"));
            found.map_or(Cell::None, |us| Cell::number(us / 1e3, 3))
        };
        let parts = ["0.5", "0.99", "0.999", "0.9999", "1"].map(quantile);
        table.row(std::iter::once(what.into()).chain(parts).collect());
    }
    table
}

fn plots(bench: &mut Bench, talk: &Talk, samples: &[Sample]) {
    bench.report.plot(percentile_plot(
        "from one person's send to the other's receipt",
        vec![
            Series::new("agent to visitor", talk.tally.to_visitor.percentiles()),
            Series::new("visitor to agent", talk.tally.to_agent.percentiles()),
        ],
    ));
    let began = samples[0].at;
    let at = |sample: &Sample| sample.at.duration_since(began).as_secs_f64();
    let rate = |pair: &[Sample]| {
        let delivered = float(pair[1].ledger.delivered - pair[0].ledger.delivered);
        (at(&pair[1]), delivered / (at(&pair[1]) - at(&pair[0])))
    };
    let over_time = |title: &str, name: &str, unit: &str, series| Plot {
        title: title.to_owned(),
        x: Axis::linear("time", "s"),
        y: Axis::linear(name, unit),
        series,
    };
    bench.report.plot(over_time(
        "throughput over time",
        "delivered",
        "msg/s",
        vec![Series::new(
            "delivered",
            samples.windows(2).map(rate).collect(),
        )],
    ));
    let of =
        |value: &dyn Fn(&Sample) -> f64| samples.iter().map(|one| (at(one), value(one))).collect();
    bench.report.plot(over_time(
        "waiting in the rings",
        "depth",
        "KiB",
        vec![
            Series::new(
                "to the backend",
                of(&|one| float(one.depths_bytes.0) / 1024.0),
            ),
            Series::new("to gateways", of(&|one| float(one.depths_bytes.1) / 1024.0)),
        ],
    ));
    let resident =
        |index: usize| of(&|one| float(one.processes[index].resident_bytes) / f64::from(1 << 20));
    bench.report.plot(over_time(
        "resident memory",
        "resident",
        "MiB",
        vec![
            Series::new("backend", resident(0)),
            Series::new("gateway", resident(1)),
        ],
    ));
}

fn checks(
    bench: &mut Bench,
    arguments: &ChatArguments,
    talk: &Talk,
    samples: &[Sample],
    rate: f64,
) {
    let quarter = (samples.len() / 4).max(1);
    let mean = |part: &[Sample]| {
        let depths = part
            .iter()
            .map(|one| float(one.depths_bytes.0 + one.depths_bytes.1));
        depths.sum::<f64>() / float(part.len() as u64)
    };
    let grew = mean(&samples[samples.len() - quarter..]) - mean(&samples[..quarter]);
    let report = &mut bench.report;
    report.check_at_most(
        "growth of the rings' depth",
        grew / 1024.0,
        GROWTH_BYTES_MAX / 1024.0,
        "KiB",
    );
    report.check_at_most(
        "lost, refused or disconnected",
        float(talk.tally.broken),
        0.0,
        "",
    );
    if arguments.depth.is_none() {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let offered = arguments.rate as f64;
        report.check_at_least(
            "delivered of what was offered",
            rate / offered,
            DELIVERED_PART_MIN,
            "",
        );
        let lag_ms = ms(&talk.tally.lag, 0.99);
        report.check_at_most("the load's own lag, p99", lag_ms, LAG_MS_MAX, "ms");
    }
    if let Some(at_least) = arguments.at_least {
        report.check_at_least("delivered", rate, float(at_least), "msg/s");
    }
    if let Some(p50_us) = arguments.p50_us_at_most {
        let p50 = ms(&talk.tally.to_visitor, 0.5) * 1e3;
        report.check_at_most("agent to visitor, p50", p50, float(p50_us), "µs");
    }
}
