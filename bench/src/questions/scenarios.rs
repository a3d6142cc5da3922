//! The table that the field prints: so many people chat at once, each says something every so often; how long does it take,
//! and what goes wrong?
//!
//! Each scenario has a Tidegate of its own with as many gateways on the one port as its connections need, agents enough for
//! everybody, and a load over as many processes as its descriptors need, all on this machine.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::{Bench, Verdict};
use crate::latency::percentile_plot;
use crate::report::{Cell, Series, Table};
use crate::system::{Setup, System};
use crate::visitors::agents::Agents;
use crate::visitors::far::Visitors;
use crate::visitors::{Job, Order};

/// Connections of one gateway: below the 20,000 descriptors that a process often has at most.
const CONNECTIONS_PER_GATEWAY: u64 = 18_000;
const CHATS_PER_AGENT: u64 = 100;
/// Newcomers a second: coming is not what these ask about.
const ARRIVALS_PER_S: u64 = 1_500;
/// Beyond the time that arrivals take, everybody has an agent within this.
const COME_S_MAX: u64 = 60;
/// After the last send everything has arrived within this, or never will.
const SETTLE: Duration = Duration::from_secs(10);
const TURN_MAX: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LARGE_TEXT_BYTES: usize = 8 << 10;
/// A load that does things later than this (p99) has measured itself.
const LAG_P99_MS_MAX: f64 = 10.0;

/// `tidegate bench scenarios`
#[derive(Debug, clap::Args)]
pub struct ScenariosArguments {
    /// People who chat with text; 0: leave this one out
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    text: u64,
    /// People who send messages of 8 KB; 0: leave this one out
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    large: u64,
    /// Each says something every so often, and is answered
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// How long is measured, when everybody is there
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
}

/// Asks.
///
/// # Errors
/// When a server can't be started, or people do not get to talk.
pub fn run(arguments: &ScenariosArguments, bench: &mut Bench) -> Result<Verdict> {
    let mut table = Table::new(
        format!(
            "everybody says something every {} s, and is answered; on {}",
            arguments.every, bench.machine.hardware
        ),
        &[
            ("scenario", ""),
            ("concurrency", ""),
            ("gateways", ""),
            ("messages", "msg/s"),
            ("mean", "ms"),
            ("p99", "ms"),
            ("read as history", ""),
            ("error", "%"),
            ("connections lost", ""),
            ("load's lag, p99", "ms"),
        ],
    );
    let (mut curves, mut saturated) = (Vec::new(), false);
    for (name, visitors, text_bytes) in [
        ("text", arguments.text, 0),
        ("8 KB messages", arguments.large, LARGE_TEXT_BYTES),
    ] {
        if visitors == 0 {
            continue;
        }
        let played = play(arguments, bench, name, visitors, text_bytes)?;
        saturated |= played.lag_ms > LAG_P99_MS_MAX;
        table.row(played.row);
        curves.push(played.curve);
    }
    bench.report.table(table);
    bench.report.plot(percentile_plot(
        "from a visitor's scheduled send to the agent's receipt",
        curves,
    ));
    bench.report.note(
        "mean and p99 from a visitor's scheduled send to the agent's receipt, commit included; read as history: texts \
         of which an agent who joined the chat saw nothing for 0.3 s, so that they were read over HTTP; error: texts that \
         had not arrived 10 s after the last one, of all that were said; server and load share the machine.",
    );
    Ok(if saturated {
        Verdict::Saturated
    } else {
        bench.report.verdict()
    })
}

struct Played {
    row: Vec<Cell>,
    curve: Series,
    lag_ms: f64,
}

fn play(
    arguments: &ScenariosArguments,
    bench: &mut Bench,
    name: &str,
    count: u64,
    text_bytes: usize,
) -> Result<Played> {
    let agent_count = count.div_ceil(CHATS_PER_AGENT);
    let gateways = (count + agent_count).div_ceil(CONNECTIONS_PER_GATEWAY);
    bench
        .progress
        .say(format!("{name}: starting {gateways} gateway(s)"));
    let system = System::start(&Setup::of_gateways(gateways)?)?;
    let run = fastrand::u32(1..);
    let capacity = u32::try_from(CHATS_PER_AGENT)?;
    let mut agents = Agents::come(&system, run, u32::try_from(agent_count)?, capacity)?;
    let mut visitors = Visitors::start(&Job {
        every_ms: arguments.every * 1_000,
        text_bytes,
        ..Job::to_ask(system.data_dir(), run, count)
    })?;
    let over_ms = count * 1_000 / ARRIVALS_PER_S;
    visitors.order(Order::Come { over_ms })?;
    let deadline =
        Instant::now() + Duration::from_millis(over_ms) + Duration::from_secs(COME_S_MAX);
    while visitors.newest().chatting < count {
        ensure!(
            Instant::now() < deadline,
            "{name}: of {count} visitors {} are inside and {} have an agent",
            visitors.newest().inside,
            visitors.newest().chatting
        );
        pass(LOOK_EVERY, &mut agents, &mut visitors)?;
        let newest = visitors.newest();
        bench
            .progress
            .say(format!("{name}: {} of {count} chat", newest.chatting));
    }
    agents.measure_from_now();
    let (began, said) = (Instant::now(), visitors.newest().sent);
    let end = began + Duration::from_secs(arguments.seconds);
    while Instant::now() < end {
        pass(LOOK_EVERY, &mut agents, &mut visitors)?;
        let p99_ms = agents.from_new.quantile(0.99).as_secs_f64() * 1e3;
        bench.progress.say(format!("{name}: p99 {p99_ms:.2} ms"));
    }
    let latencies = agents.from_new.clone();
    let (sent, seconds) = (visitors.newest().sent, began.elapsed().as_secs_f64());
    let concurrency = visitors.newest().inside;
    visitors.order(Order::Hush)?;
    let deadline = Instant::now() + SETTLE;
    while agents.received < visitors.newest().sent && Instant::now() < deadline {
        pass(LOOK_EVERY, &mut agents, &mut visitors)?;
    }
    while visitors.awaited() > 0 {
        visitors.report()?;
        agents.turn(TURN_MAX)?;
    }
    visitors.order(Order::Tell)?;
    while visitors.awaited() > 0 {
        visitors.report()?;
        agents.turn(TURN_MAX)?;
    }
    let told = visitors.newest();
    let from_history = agents.read_history(&system)?;
    let missing = told.sent.saturating_sub(agents.received);
    let lag_ms = told.lag.quantile(0.99).as_secs_f64() * 1e3;
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    let (rate, errors) = (
        2.0 * (sent - said) as f64 / seconds,
        100.0 * missing as f64 / (told.sent as f64).max(1.0),
    );
    Ok(Played {
        row: vec![
            name.into(),
            Cell::count(concurrency),
            Cell::count(gateways),
            Cell::number(rate, 0),
            Cell::number(latencies.mean().as_secs_f64() * 1e3, 2),
            Cell::number(latencies.quantile(0.99).as_secs_f64() * 1e3, 2),
            Cell::count(from_history),
            Cell::number(errors, 3),
            Cell::count(told.lost),
            Cell::number(lag_ms, 2),
        ],
        curve: Series::new(name, latencies.percentiles()),
        lag_ms,
    })
}

/// Goes on for so long, and asks the visitors how they are.
fn pass(time: Duration, agents: &mut Agents, visitors: &mut Visitors) -> Result<()> {
    if visitors.awaited() == 0 {
        visitors.order(Order::Look)?;
    }
    let end = Instant::now() + time;
    while Instant::now() < end {
        visitors.report()?;
        agents.turn(TURN_MAX)?;
    }
    Ok(())
}
