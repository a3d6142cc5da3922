//! What a run has shown, beside what was promised.

use std::time::Duration;

use super::StressArguments;
use super::rush::{Sample, Seen};
use crate::bench::{Bench, Verdict};
use crate::latency::{Latencies, percentile_plot};
use crate::report::{Axis, Cell, Check, Plot, Report, Series, Table};
use crate::visitors::Report as Visitors;

/// Chats, both those that were open before and those that came with the rush.
const CHAT_P99_MS_MAX: f64 = 200.0;
/// What the backend's memory may grow by while people wait in the gateways.
const GROWTH_PERCENT_MAX: f64 = 10.0;
/// What those who are let in may cost the backend meanwhile: a visitor, and a conversation.
const VISITOR_BYTES: f64 = 1_000.0;
const CHAT_BYTES: f64 = 5.0 * 1024.0;
/// A load that does things later than this (p99) has measured itself.
const LAG_P99_MS_MAX: f64 = 10.0;
/// Several gateways look at the frontier at their own moments, and a crowd's process tells its news in turn: what is
/// within this of each other was let in together.
const TOGETHER_US: u64 = 250_000;

#[expect(clippy::cast_precision_loss, reason = "counts and bytes below 2^53")]
const fn float(count: u64) -> f64 {
    count as f64
}

fn ms(times: &Latencies, part: f64) -> f64 {
    times.quantile(part).as_secs_f64() * 1e3
}

/// Fills the report, and judges.
pub(super) fn judge(bench: &mut Bench, arguments: &StressArguments, seen: &Seen) -> Verdict {
    let report = &mut bench.report;
    report.table(people(seen));
    let later_by = overtaken(&seen.new.let_in);
    report.table(times(seen, &later_by));
    report.table(ledger(seen));
    plots(report, seen);
    checks(report, arguments, seen, later_by.count());
    if lag_ms(seen) > LAG_P99_MS_MAX {
        return Verdict::Saturated;
    }
    report.verdict()
}

fn lag_ms(seen: &Seen) -> f64 {
    ms(&seen.new.lag, 0.99).max(ms(&seen.open.lag, 0.99))
}

fn people(seen: &Seen) -> Table {
    let mut table = Table::new(
        "people",
        &[
            ("who", ""),
            ("came", ""),
            ("late", ""),
            ("waited, let in", ""),
            ("said", "msg"),
            ("committed", "msg"),
            ("received", "msg"),
            ("set back", "msg"),
            ("connections lost", ""),
            ("broken", ""),
        ],
    );
    let mut row = |name: &str, of: &Visitors| {
        let counts = [
            of.came,
            of.late,
            of.let_in.len() as u64,
            of.sent,
            of.accepted,
            of.received,
            of.set_back,
            of.lost,
            of.broken,
        ];
        let counts = counts.into_iter().map(Cell::count);
        table.row(std::iter::once(name.into()).chain(counts).collect());
    };
    row("open chats", &seen.open);
    row("the rush", &seen.new);
    let agents = &seen.agents;
    let mut row = vec!["agents".into(), Cell::None, Cell::None, Cell::None];
    row.extend([agents.sent, agents.accepted, agents.received].map(Cell::count));
    row.extend([Cell::None, Cell::None, Cell::count(agents.broken)]);
    table.row(row);
    table
}

fn times(seen: &Seen, later_by: &Latencies) -> Table {
    let mut table = Table::new(
        "how long it took",
        &[
            ("what", ""),
            ("count", ""),
            ("p50", "ms"),
            ("p99", "ms"),
            ("p99.9", "ms"),
            ("max", "ms"),
        ],
    );
    let back = {
        let mut all = seen.new.back.clone();
        // Histograms of the same bounds always add up.
        let _same_bounds = all.add(&seen.open.back);
        all
    };
    for (name, of) in [
        ("arrival to Welcome or Wait", &seen.new.arrivals),
        ("open chat, visitor to agent", &seen.agents.from_open),
        ("open chat, agent to visitor", &seen.open.to_visitor),
        ("new chat, visitor to agent", &seen.agents.from_new),
        ("new chat, agent to visitor", &seen.new.to_visitor),
        ("back after the kill", &back),
        (
            "said within 5 s of the kill, to agents",
            &seen.agents.through_kill,
        ),
        ("the load's own lag", &seen.new.lag),
        ("let in after a later ticket, by", later_by),
    ] {
        if of.count() == 0 {
            continue;
        }
        let mut row = vec![name.into(), Cell::count(of.count())];
        row.extend([0.5, 0.99, 0.999, 1.0].map(|part| Cell::number(ms(of, part), 2)));
        table.row(row);
    }
    table
}

fn ledger(seen: &Seen) -> Table {
    let mut table = Table::new(
        "the loss ledger",
        &[
            ("when", ""),
            ("accepted", "msg"),
            ("delivered", "msg"),
            ("pending", "msg"),
            ("expired", "msg"),
        ],
    );
    for (when, of) in [("before", seen.before), ("after", seen.after)] {
        let counts = [of.accepted, of.delivered, of.pending, of.expired].map(Cell::count);
        table.row(std::iter::once(when.into()).chain(counts).collect());
    }
    table
}

fn checks(report: &mut Report, arguments: &StressArguments, seen: &Seen, overtaken: u64) {
    report.check(Check {
        what: "the loss ledger, recounted from the rows".to_owned(),
        measured: match &seen.recounted {
            Ok(()) => "closed".to_owned(),
            Err(wrong) => wrong.clone(),
        },
        target: "closed".to_owned(),
        held: seen.recounted.is_ok() && seen.after.is_closed(),
    });
    let ours = seen.open.accepted + seen.new.accepted + seen.agents.accepted;
    report.check_at_least(
        "texts that the ledger accepted, of those acknowledged to the load",
        float(seen.after.accepted - seen.before.accepted),
        float(ours),
        "",
    );
    let broken = seen.open.broken + seen.new.broken + seen.agents.broken;
    report.check_at_most(
        "refused for good, gaps, turned away",
        float(broken),
        0.0,
        "",
    );
    let late = seen.open.late + seen.new.late;
    report.check_at_most(
        "visitors without Welcome or Wait after 2 s",
        float(late),
        0.0,
        "",
    );
    report.check_at_most("let in after a later ticket", float(overtaken), 0.0, "");
    for (what, times) in [
        ("open chats, visitor to agent, p99", &seen.agents.from_open),
        ("open chats, agent to visitor, p99", &seen.open.to_visitor),
        ("new chats, visitor to agent, p99", &seen.agents.from_new),
        ("new chats, agent to visitor, p99", &seen.new.to_visitor),
    ] {
        if times.count() > 0 {
            report.check_at_most(what, ms(times, 0.99), CHAT_P99_MS_MAX, "ms");
        }
    }
    match growth_percent(seen) {
        Some(grew) => report.check_at_most(
            "the backend's own memory without its database's caches, grown while people waited, less 1,000 B a visitor inside and 5 KiB a chat",
            grew,
            GROWTH_PERCENT_MAX,
            "%",
        ),
        None => report.note(
            "Nobody had to wait, so nothing was seen of the waiting room: set an admission rate to have one.",
        ),
    }
    if arguments.kill.is_some() {
        let away = seen.open.away + seen.new.away;
        report.check_at_most("not back after the kill", float(away), 0.0, "");
    }
    report.check_at_most(
        "the load's own lag, p99",
        lag_ms(seen),
        LAG_P99_MS_MAX,
        "ms",
    );
}

/// How much later than somebody with a higher ticket people were let in, where it was not together with them.
fn overtaken(let_in: &[(u64, u64)]) -> Latencies {
    let mut by_ticket = let_in.to_vec();
    by_ticket.sort_unstable();
    let mut later_by = Latencies::default();
    let mut earliest_behind_us = u64::MAX;
    for &(_, at_us) in by_ticket.iter().rev() {
        let by_us = at_us.saturating_sub(earliest_behind_us);
        if by_us > TOGETHER_US {
            later_by.record(Duration::from_micros(by_us));
        }
        earliest_behind_us = earliest_behind_us.min(at_us);
    }
    later_by
}

/// The backend's memory while at least half as many waited as ever did, against its memory when half had come: the other
/// half came after that, so what grows with those who wait is seen, and what a fresh process warms up for is not.
/// `None`: nobody waited.
fn growth_percent(seen: &Seen) -> Option<f64> {
    let most = seen.samples.iter().map(|sample| sample.waiting).max()?;
    if most == 0 {
        return None;
    }
    let is_full = |sample: &&Sample| sample.waiting * 2 >= most;
    let half = seen.samples.iter().find(is_full)?;
    let own_bytes =
        |sample: &Sample| (float(sample.backend_bytes) - sample.database_bytes).max(1.0);
    let before = own_bytes(half);
    let grew = seen.samples.iter().filter(is_full).map(|sample| {
        let inside = float(sample.inside.saturating_sub(half.inside));
        let asked = float(sample.asked.saturating_sub(half.asked));
        let allowed = VISITOR_BYTES * inside + CHAT_BYTES * asked;
        (own_bytes(sample) - before - allowed) / before * 100.0
    });
    grew.reduce(f64::max)
}

fn plots(report: &mut Report, seen: &Seen) {
    report.plot(percentile_plot(
        "how long texts were under way",
        vec![
            Series::new("open, to agents", seen.agents.from_open.percentiles()),
            Series::new("open, to visitors", seen.open.to_visitor.percentiles()),
            Series::new("new, to agents", seen.agents.from_new.percentiles()),
            Series::new("new, to visitors", seen.new.to_visitor.percentiles()),
        ],
    ));
    report.plot(
        seen.new
            .arrivals
            .plot("from arrival to Welcome or Wait", "arrivals"),
    );
    let line = |name: &str, value: &dyn Fn(&Sample) -> f64| {
        let points = seen
            .samples
            .iter()
            .map(|sample| (sample.at_s, value(sample)));
        Series::new(name, points.collect())
    };
    report.plot(Plot {
        title: "people over time".to_owned(),
        x: Axis::linear("time", "s"),
        y: Axis::linear("people", ""),
        series: vec![
            line("inside", &|sample| float(sample.inside)),
            line("waiting", &|sample| float(sample.waiting)),
            line("chatting", &|sample| float(sample.chatting)),
        ],
    });
    let mib = |bytes: u64| float(bytes) / f64::from(1 << 20);
    report.plot(Plot {
        title: "resident memory over time".to_owned(),
        x: Axis::linear("time", "s"),
        y: Axis::linear("resident", "MiB"),
        series: vec![
            line("backend", &|sample| mib(sample.backend_bytes)),
            line("gateways", &|sample| mib(sample.gateways_bytes)),
        ],
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_let_in_after_a_later_ticket_is_counted_and_neighbours_are_not() {
        let s = 1_000_000;
        assert_eq!(overtaken(&[(1, s), (2, 2 * s), (3, 3 * s)]).count(), 0);
        assert_eq!(
            overtaken(&[(3, s), (1, s + TOGETHER_US), (2, s)]).count(),
            0
        );
        assert_eq!(overtaken(&[(1, 3 * s), (2, 2 * s), (3, s)]).count(), 2);
    }
}
