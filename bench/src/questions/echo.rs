//! What does a message cost that comes back at once?
//!
//! Every connection has one message under way; what comes back must be what was sent.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::{Bench, Verdict};
use crate::latency::Latencies;
use crate::process::Process;
use crate::report::{Axis, Cell, Plot, Series, Table};
use crate::socket::{BINARY, Socket};
use crate::target::Target;

/// `tidegate bench echo`
#[derive(Debug, clap::Args)]
pub struct EchoArguments {
    /// Connections, each with one message under way
    #[arg(long, default_value_t = 50, value_name = "N")]
    connections: usize,
    /// Payload of a message
    #[arg(long, default_value_t = 128, value_name = "BYTES")]
    bytes: usize,
    /// For how long
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    seconds: u64,
}

/// Asks.
///
/// # Errors
/// When the server can't be started or reached, or answers with something else.
pub fn run(arguments: &EchoArguments, bench: &mut Bench) -> Result<Verdict> {
    let mut own = None;
    let url = match &bench.options.server {
        Some(url) => url.clone(),
        None => {
            let words = [
                "gateway",
                "--echo",
                "--shards",
                "1",
                "--listen",
                "127.0.0.1:0",
            ];
            let server = own.insert(Process::again(&words, None)?);
            format!("ws://{}", server.word_after("ws://")?)
        }
    };
    let target = Target::parse(&url)?;
    bench.progress.say(format!(
        "{} connections to {}",
        arguments.connections,
        target.url()
    ));
    let mut sockets = Vec::with_capacity(arguments.connections);
    for _ in 0..arguments.connections {
        let socket = Socket::open(target.address, None);
        sockets.push(socket.with_context(|| format!("cannot connect to {}", target.url()))?);
    }
    let payload: Vec<u8> = (0..arguments.bytes).map(|_| fastrand::u8(..)).collect();
    let (mut latencies, mut answer) = (Latencies::default(), Vec::new());
    let duration = Duration::from_secs(arguments.seconds);
    let (began, mut messages, mut rates) = (Instant::now(), 0_u64, Vec::new());
    let mut reported = (0.0, 0);
    while began.elapsed() < duration {
        let sent = Instant::now();
        for socket in &mut sockets {
            socket.send(BINARY, &payload)?;
        }
        for socket in &mut sockets {
            socket.receive(&mut answer)?;
            ensure!(
                answer == payload,
                "{} sent back something else",
                target.url()
            );
            latencies.record(sent.elapsed());
        }
        messages += sockets.len() as u64;
        let now = began.elapsed().as_secs_f64();
        if now >= reported.0 + 0.5 {
            #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
            let rate = (messages - reported.1) as f64 / (now - reported.0);
            rates.push((now, rate));
            bench.progress.say(format!("{rate:.0} messages a second"));
            reported = (now, messages);
        }
    }
    report(bench, arguments, &latencies, rates, began.elapsed());
    Ok(bench.report.verdict())
}

fn report(
    bench: &mut Bench,
    arguments: &EchoArguments,
    latencies: &Latencies,
    rates: Vec<(f64, f64)>,
    elapsed: Duration,
) {
    let ms = |part| latencies.quantile(part).as_secs_f64() * 1e3;
    let mut table = Table::new(
        format!(
            "{} connections, {} bytes, closed loop",
            arguments.connections, arguments.bytes
        ),
        &[
            ("rate", "msg/s"),
            ("p50", "ms"),
            ("p99", "ms"),
            ("p99.9", "ms"),
            ("max", "ms"),
        ],
    );
    #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
    let rate = latencies.count() as f64 / elapsed.as_secs_f64();
    let mut row = vec![Cell::number(rate, 0)];
    row.extend([0.5, 0.99, 0.999, 1.0].map(|part| Cell::number(ms(part), 3)));
    table.row(row);
    bench.report.table(table);
    bench
        .report
        .plot(latencies.plot("latency by percentile", "echo"));
    bench.report.plot(Plot {
        title: "throughput over time".to_owned(),
        x: Axis::linear("time", "s"),
        y: Axis::linear("rate", "msg/s"),
        series: vec![Series::new("echo", rates)],
    });
}
