//! Visitors and agents through everything: gateway, bus, backend, SQLite, and back.
//!
//! Every visitor has a conversation of their own with one of the agents; both sides talk. A message counts when its
//! recipient's acknowledgement has reached the backend (the ledger's `delivered`), so a message that was committed and
//! shown to nobody is none. Each is one envelope in one frame, with an id of its own; acknowledgements and receipts
//! are on. The server is started for the question, with one gateway of one shard, unless `--running` is said.

mod figures;
mod sampler;
mod talk;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_protocol::Codec;

use crate::bench::{Bench, Verdict};
use crate::client::Settings;
use crate::machine;
use crate::process;
use crate::system::{Ledger, Setup, System};
use sampler::Sampler;
use talk::{Pace, Talk};

/// After the last send everything has arrived within this, or never will.
const SETTLE_S_MAX: u64 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// `tidegate bench chat`
#[derive(Debug, clap::Args)]
pub struct ChatArguments {
    /// Visitors, each in a conversation of their own
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=15_000))]
    visitors: u32,
    /// Agents, who share the visitors evenly
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=2_000))]
    agents: u32,
    /// Open loop: messages a second, both directions together, said on a schedule that waits for nobody
    #[arg(
        long,
        default_value_t = 10_000,
        value_name = "MSGS",
        conflicts_with = "depth"
    )]
    rate: u64,
    /// Pipelined instead: each side of each conversation has so many messages without an acknowledgement, always
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    depth: Option<u32>,
    /// How long is measured
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long they chat before that
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    warm_up: u64,
    /// What an acknowledged message survives
    #[arg(long, value_enum, default_value_t = Synchronous::Normal)]
    synchronous: Synchronous,
    /// Which cores: the server on the first and the load on the second, or all on all
    #[arg(long, value_enum, default_value_t = Pin::Together)]
    pin: Pin,
    /// How the clients speak
    #[arg(long, value_enum, default_value_t = Speech::Fb)]
    codec: Speech,
    /// Ask the Tidegate that runs on --data-dir instead of one started for this; its own limits of sends hold
    #[arg(long)]
    running: bool,
    /// Miss if fewer messages a second are delivered
    #[arg(long, value_name = "MSGS")]
    at_least: Option<u64>,
    /// Miss if the median from an agent's send to the visitor's receipt is longer
    #[arg(long, value_name = "MICROSECONDS")]
    p50_us_at_most: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Synchronous {
    /// Any crash of a process
    Normal,
    /// A loss of power as well
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pin {
    /// Gateway and backend on one core, the load on another, where it never sleeps
    Apart,
    /// Everything on all cores, the load included
    Together,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Speech {
    /// FlatBuffers, as the SDK
    Fb,
    /// JSON
    Json,
}

impl Synchronous {
    const fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Full => "full",
        }
    }
}

/// Asks.
///
/// # Errors
/// When the server can't be started or found, or people do not get to talk.
pub fn run(arguments: &ChatArguments, bench: &mut Bench) -> Result<Verdict> {
    let cores = machine::cores();
    let apart = arguments.pin == Pin::Apart;
    ensure!(
        !apart || cores.len() > 1,
        "--pin apart needs two cores, and this process may use one: say --pin together"
    );
    let system = Arc::new(if arguments.running {
        System::find(&bench.data_dir)?
    } else {
        bench.progress.say("starting a server");
        System::start(&Setup {
            gateways: 1,
            shards: 1,
            synchronous: arguments.synchronous.name(),
            core: apart.then(|| cores[0]),
        })?
    });
    if apart {
        process::pin(cores[1])?;
    }
    let codec = match arguments.codec {
        Speech::Fb => Codec::Flat,
        Speech::Json => Codec::Json,
    };
    let settings = Settings::new(&system.ws().to_string(), codec);
    let pace = match arguments.depth {
        Some(depth) => Pace::Depth(depth),
        None => Pace::Rate(arguments.rate),
    };
    bench.progress.say(format!(
        "{} visitors and {} agents come",
        arguments.visitors, arguments.agents
    ));
    let mut talk = Talk::begin(&system, settings, arguments.visitors, arguments.agents)?;
    talk.sleeps = !apart;
    bench.progress.say("everybody talks; warming up");
    talk.go_on(pace, Duration::from_secs(arguments.warm_up), |_| {})?;
    talk.measure_from_now();
    let sampler = Sampler::start(&system)?;
    let progress = &bench.progress;
    talk.go_on(pace, Duration::from_secs(arguments.seconds), |talk| {
        progress.say(talk.line());
    })?;
    let samples = sampler.stop()?;
    bench.progress.say("the last acknowledgements");
    let ledger = settle(&mut talk, &system)?;
    figures::report(bench, arguments, &talk, &samples, ledger);
    let verdict = bench.report.verdict();
    Ok(if talk.was_late() {
        Verdict::Saturated
    } else {
        verdict
    })
}

/// Says nothing more, and waits until everything has reached everybody and the backend knows it, or not for longer than
/// [`SETTLE_S_MAX`].
fn settle(talk: &mut Talk, system: &System) -> Result<Ledger> {
    let deadline = Instant::now() + Duration::from_secs(SETTLE_S_MAX);
    talk.fall_silent();
    loop {
        talk.listen(LOOK_EVERY)?;
        let ledger = Ledger::from(&system.metrics()?);
        let is_done = talk.unanswered() == 0 && ledger.pending == 0;
        if is_done || Instant::now() > deadline {
            return Ok(ledger);
        }
    }
}
