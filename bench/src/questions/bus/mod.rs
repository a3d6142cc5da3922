//! What does it cost to hand a record to another process?
//!
//! The rings of this bus, with ends that spin and ends that sleep, beside what one would take instead: iceoryx2, a named
//! pipe, a Unix socket, Redis publish and subscribe. Two processes, each pinned to a core; every record is checked for its
//! number and its end. The ways take turns for several rounds, so that whatever else the machine does hits all of them;
//! a bare ring without any checks runs among them and says what the machine itself takes.

mod bare;
#[cfg(feature = "peers")]
mod iceoryx;
mod link;
mod redis;
mod ring;
mod stream;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use self::link::{Link, Measured, PAYLOAD_BYTES};
use self::ring::Idle;
use crate::bench::{Bench, Verdict};
use crate::latency::percentile_plot;
use crate::machine;
use crate::process::{self, Process};
use crate::report::{Cell, Series, Table};

/// What a record through the ring may cost.
const RECORD_NS_MAX: f64 = 20.0;
/// What a round trip through both rings may take.
const ROUND_TRIP_US_MAX: f64 = 0.35;
/// By how much the rings are faster than Redis and than iceoryx2.
const FASTER_MIN: f64 = 10.0;

/// `tidegate bench bus`
#[derive(Debug, clap::Args)]
pub struct BusArguments {
    /// For how long each way is measured, in all rounds
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS")]
    seconds: f64,
    /// How often the ways take turns
    #[arg(long, default_value_t = 9, value_name = "N")]
    rounds: u32,
}

/// The far end of a way: `tidegate bench bus-peer`.
#[derive(Debug, clap::Args)]
pub struct BusPeerArguments {
    #[arg(value_enum)]
    way: Way,
    directory: PathBuf,
}

/// How a record gets from one process to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Way {
    RingSpinning,
    RingSleeping,
    Bare,
    #[cfg(feature = "peers")]
    Iceoryx2,
    Pipe,
    Socket,
    Redis,
}

impl Way {
    const ALL: &[Self] = &[
        Self::RingSpinning,
        Self::RingSleeping,
        Self::Bare,
        #[cfg(feature = "peers")]
        Self::Iceoryx2,
        Self::Pipe,
        Self::Socket,
        Self::Redis,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::RingSpinning => "ring, spinning",
            Self::RingSleeping => "ring, sleeping",
            Self::Bare => "bare ring, unchecked, spinning",
            #[cfg(feature = "peers")]
            Self::Iceoryx2 => "iceoryx2, spinning",
            Self::Pipe => "pipe",
            Self::Socket => "Unix socket",
            Self::Redis => "Redis publish/subscribe",
        }
    }

    /// As it is typed.
    fn word(self) -> String {
        use clap::ValueEnum;
        self.to_possible_value()
            .map(|value| value.get_name().to_owned())
            .unwrap_or_default()
    }
}

/// Asks.
///
/// # Errors
/// When a way can't be made, or loses or damages a record.
pub fn run(arguments: &BusArguments, bench: &mut Bench) -> Result<Verdict> {
    let cores = machine::cores();
    let &[near, far, ..] = cores.as_slice() else {
        anyhow::bail!(
            "two processes that spin need two cores; found {}",
            cores.len()
        );
    };
    let ways: Vec<Way> = Way::ALL
        .iter()
        .copied()
        .filter(|way| *way != Way::Redis || redis::is_installed())
        .collect();
    if !ways.contains(&Way::Redis) {
        bench.report.note(format!(
            "No {} here to compare with; type: sudo apt-get install -y redis-server",
            redis::PROGRAM
        ));
    }
    #[cfg(not(feature = "peers"))]
    bench.report.note(
        "Built without iceoryx2 to compare with; type: cargo build --release --package tidegate --features peers",
    );
    let part = Duration::from_secs_f64(arguments.seconds / f64::from(arguments.rounds.max(1)));
    let mut all: Vec<Measured> = ways.iter().map(|_| Measured::default()).collect();
    for round in 1..=arguments.rounds {
        for (way, measured) in ways.iter().zip(&mut all) {
            bench.progress.say(format!(
                "round {round} of {}: {}",
                arguments.rounds,
                way.name()
            ));
            ask(*way, (near, far), part, measured).with_context(|| way.name())?;
        }
    }
    report(bench, &ways, &all);
    Ok(bench.report.verdict())
}

/// One round of one way.
fn ask(way: Way, (near, far): (usize, usize), part: Duration, into: &mut Measured) -> Result<()> {
    // In memory, so that no disk has a part in it.
    let scratch = tempfile::tempdir_in("/dev/shm").context("no room in /dev/shm")?;
    let path = scratch.path();
    let directory = path.to_str().context("a path that is no text")?;
    let _server = (way == Way::Redis)
        .then(|| redis::start(path))
        .transpose()?;
    let start = || Process::again(&["bench", "bus-peer", &way.word(), directory], Some(far));
    // A thread of its own is pinned: what this process starts later may run anywhere.
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            process::pin(near)?;
            match way {
                Way::RingSpinning | Way::RingSleeping => {
                    let seat = ring::take_seat(&path.join("bus"))?;
                    let peer = start()?;
                    converse(ring::near(seat, idle(way))?, peer, part, into)
                }
                Way::Bare => {
                    bare::make(path)?;
                    let peer = start()?;
                    converse(bare::Bare::near(path)?, peer, part, into)
                }
                #[cfg(feature = "peers")]
                Way::Iceoryx2 => {
                    let near = iceoryx::Services::open(
                        &format!("{directory}/to_far"),
                        &format!("{directory}/to_near"),
                    )?;
                    converse(near, start()?, part, into)
                }
                Way::Pipe => {
                    stream::make_pipes(path)?;
                    let peer = start()?;
                    converse(stream::near_pipes(path)?, peer, part, into)
                }
                Way::Socket => {
                    let listener = stream::listen(path)?;
                    let peer = start()?;
                    converse(stream::near_socket(&listener)?, peer, part, into)
                }
                Way::Redis => {
                    let near = redis::Channels::open(path, "to_far", "to_near")?;
                    converse(near, start()?, part, into)
                }
            }
        });
        asking
            .join()
            .map_err(|_| anyhow::anyhow!("the measuring thread panicked"))?
    })
}

fn converse(
    mut link: impl Link,
    mut peer: Process,
    part: Duration,
    into: &mut Measured,
) -> Result<()> {
    peer.word_after(READY)?;
    link::measure(&mut link, part, into)?;
    link::end(&mut link)?;
    // It puts away what it made before it ends.
    while peer.line().is_ok() {}
    Ok(())
}

/// What the far end prints once it can be spoken to.
const READY: &str = "ready";

/// The far end: started by the near one with its core given.
///
/// # Errors
/// When the way can't be opened or breaks.
pub fn serve(arguments: &BusPeerArguments) -> Result<()> {
    process::end_with_parent();
    let path: &Path = &arguments.directory;
    match arguments.way {
        way @ (Way::RingSpinning | Way::RingSleeping) => {
            answer(ring::far(&path.join("bus"), idle(way))?)
        }
        Way::Bare => answer(bare::Bare::far(path)?),
        #[cfg(feature = "peers")]
        Way::Iceoryx2 => {
            let directory = path.display();
            answer(iceoryx::Services::open(
                &format!("{directory}/to_near"),
                &format!("{directory}/to_far"),
            )?)
        }
        Way::Pipe => answer(stream::far_pipes(path)?),
        Way::Socket => answer(stream::far_socket(path)?),
        Way::Redis => answer(redis::Channels::open(path, "to_near", "to_far")?),
    }
}

fn answer(mut link: impl Link) -> Result<()> {
    println!("{READY}");
    link::serve(&mut link)
}

fn idle(way: Way) -> Idle {
    if way == Way::RingSleeping {
        Idle::Sleep
    } else {
        Idle::Spin
    }
}

fn report(bench: &mut Bench, ways: &[Way], all: &[Measured]) {
    let of = |wanted: Way| {
        let at = ways.iter().position(|way| *way == wanted);
        at.map(|at| &all[at])
    };
    let us = |measured: &Measured, part| measured.round_trips.quantile(part).as_secs_f64() * 1e6;
    let mut table = Table::new(
        format!(
            "records of {PAYLOAD_BYTES} B of payload, 512 B with the ring's header; two processes on two cores"
        ),
        &[
            ("way", ""),
            ("rate", "records/s"),
            ("record", "ns"),
            ("round trip p50", "µs"),
            ("p99", "µs"),
            ("p99.9", "µs"),
        ],
    );
    for (way, measured) in ways.iter().zip(all) {
        let ns = measured.median_record_ns();
        table.row(vec![
            way.name().into(),
            Cell::number(1e9 / ns, 0),
            Cell::number(ns, 1),
            Cell::number(us(measured, 0.5), 2),
            Cell::number(us(measured, 0.99), 2),
            Cell::number(us(measured, 0.999), 2),
        ]);
    }
    bench.report.table(table);
    let series = ways.iter().zip(all);
    let series = series.map(|(way, all)| Series::new(way.name(), all.round_trips.percentiles()));
    bench
        .report
        .plot(percentile_plot("round trips", series.collect()));
    let Some(ring) = of(Way::RingSpinning) else {
        return;
    };
    let (ns, trip_us) = (ring.median_record_ns(), us(ring, 0.5));
    let report = &mut bench.report;
    report.check_at_most(
        "a record through the ring, doorbell check after each",
        ns,
        RECORD_NS_MAX,
        "ns",
    );
    report.check_at_most(
        "round trip p50 through both rings",
        trip_us,
        ROUND_TRIP_US_MAX,
        "µs",
    );
    if let Some(redis) = of(Way::Redis) {
        let faster = redis.median_record_ns() / ns;
        report.check_at_least("rate beside Redis", faster, FASTER_MIN, "×");
        let faster = us(redis, 0.5) / trip_us;
        report.check_at_least("round trip beside Redis", faster, FASTER_MIN, "× shorter");
    }
    #[cfg(feature = "peers")]
    if let Some(iceoryx) = of(Way::Iceoryx2) {
        let faster = iceoryx.median_record_ns() / ns;
        report.check_at_least("rate beside iceoryx2", faster, FASTER_MIN, "×");
    }
    if let Some(bare) = of(Way::Bare) {
        report.note(format!(
            "Against the bare ring, which checks nothing and cannot sleep: {:.2} × a record, {:.2} × a round trip. It \
             says what the two cores take today: virtual ones may be two threads of one core or lie far apart.",
            ns / bare.median_record_ns(),
            trip_us / us(bare, 0.5)
        ));
    }
}
