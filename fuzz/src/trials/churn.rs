//! Two thousand people come and go for half an hour, by every way that a connection can end: resident memory and
//! descriptors of both processes stay flat. A tenth has six times the arrivals a second, for a few seconds.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::Pid;

use super::{Scale, Stand};
use crate::procfs;
use crate::rig::{Crowd, Load, Role, Setup, System, check};

const PEOPLE: u64 = 2_000;
const AGENTS: u64 = 4;
const TEXT_BYTES: usize = 2_000;
/// Samples of which a level is the median.
const SAMPLES: usize = 9;
/// What an allocator and a window that fills may add.
const GROWTH_KIB_MAX: u64 = 8 << 10;
const GROWTH_PART_MAX: u64 = 20; // a 20th
const DESCRIPTORS_MAX: usize = 8;
/// Between them it is looked how things stand.
const SPELLS: u32 = 5;
const SETTLED: Duration = Duration::from_secs(60);

/// How much of it.
struct Pace {
    /// In the whole run long enough for SQLite's page cache to be full; in a tenth there are too few messages to see it
    /// grow.
    warm_up: Duration,
    time: Duration,
    arrivals_per_s: u64,
    messages_per_s: u64,
    /// Whether people say something when they are cut off.
    says: bool,
}

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let pace = if stand.scale == Scale::Full {
        Pace {
            warm_up: Duration::from_secs(400),
            time: Duration::from_secs(1_800),
            arrivals_per_s: 100,
            messages_per_s: 100,
            says: true,
        }
    } else {
        Pace {
            warm_up: Duration::from_secs(5),
            time: Duration::from_secs(15),
            arrivals_per_s: 600,
            messages_per_s: 10,
            says: false,
        }
    };
    let setup = Setup::new(&stand.binary, stand.scratch())
        // The window is full after the warm-up: what it may hold is no growth.
        .with("BACKEND__WINDOW_BYTES_MAX", 1 << 20);
    let system = System::start(&setup)?;
    let mut crowd = Crowd::new(system.ws(), stand.seed)?;
    for n in 0..AGENTS {
        crowd.add_agent(&system.add_agent(&format!("agent{n}"), 1_000)?);
    }
    for n in 0..PEOPLE {
        crowd.add_visitor(&system.visitor_token(n));
    }
    crowd.start();
    crowd.until("all are welcome", SETTLED, |crowd| {
        crowd.open() == crowd.len()
    })?;
    crowd.load = Some(Load {
        per_s: pace.messages_per_s,
        text_bytes: TEXT_BYTES,
    });
    let mut random = fastrand::Rng::with_seed(stand.seed);
    churn(&mut crowd, &mut random, pace.warm_up, &pace)?;
    let before = Levels::of(&system, &mut crowd)?;
    let arrived = crowd.tally.welcomes;
    let begun = Instant::now();
    for _ in 0..SPELLS {
        churn(&mut crowd, &mut random, pace.time / SPELLS, &pace)?;
        let now = Levels::of(&system, &mut crowd)?;
        stand.progress(&format!(
            "after {:.0} s: gateway {}, backend {}",
            begun.elapsed().as_secs_f64(),
            now.gateway,
            now.backend
        ));
    }
    let arrivals = crowd.tally.welcomes - arrived;
    let after = Levels::of(&system, &mut crowd)?;
    let seconds = begun.elapsed().as_secs_f64();
    crowd.settle(SETTLED)?;
    let report = check::check(&crowd.journal, &check::Stored::read(&system.database())?);
    stand.figure("arrivals", format!("{arrivals} in {seconds:.0} s"));
    stand.figure("messages", report.to_string());
    report.into_result()?;
    for (name, before, after) in [
        ("gateway", &before.gateway, &after.gateway),
        ("backend", &before.backend, &after.backend),
    ] {
        let line = format!("{before}, then {after}");
        stand.figure(&format!("{name} before and after"), &line);
        ensure!(
            after.kib <= before.kib + before.kib / GROWTH_PART_MAX + GROWTH_KIB_MAX
                && after.descriptors <= before.descriptors + DESCRIPTORS_MAX,
            "expected the {name} to stay as it is, found {line}"
        );
    }
    Ok(())
}

/// People leave in one of several ways, and come back at once.
fn churn(
    crowd: &mut Crowd,
    random: &mut fastrand::Rng,
    time: Duration,
    pace: &Pace,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut done = 0;
    while begun.elapsed() < time {
        let due = u64::try_from(begun.elapsed().as_millis())? * pace.arrivals_per_s / 1_000;
        while done < due {
            done += 1;
            let number = random.usize(usize::try_from(AGENTS)?..crowd.len());
            match random.u8(0..3) {
                // A close frame, and back.
                0 => {
                    crowd.stop_one(number);
                    crowd.start_one(number);
                }
                // The stream ends without a word; the client comes back after its pause.
                1 => crowd.cut(number),
                // Something is under way when it ends.
                _ => {
                    if pace.says {
                        crowd.say(number, None, TEXT_BYTES);
                    }
                    crowd.cut(number);
                }
            }
        }
        crowd.turn(Duration::from_millis(2))?;
    }
    Ok(())
}

struct Levels {
    gateway: Level,
    backend: Level,
}

struct Level {
    kib: u64,
    descriptors: usize,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} KiB and {} descriptors", self.kib, self.descriptors)
    }
}

impl Levels {
    /// With everybody there and quiet.
    fn of(system: &System, crowd: &mut Crowd) -> anyhow::Result<Self> {
        let load = crowd.load.take();
        crowd.until("all are back", SETTLED, |crowd| {
            crowd.open() == crowd.len() && crowd.unanswered() == 0
        })?;
        let pid = |role| system.pid(role).context("it runs");
        let (gateway, backend) = (pid(Role::Gateway(0))?, pid(Role::Backend)?);
        let mut samples = [Vec::new(), Vec::new()];
        for _ in 0..SAMPLES {
            crowd.pass(Duration::from_millis(100))?;
            for (samples, pid) in samples.iter_mut().zip([gateway, backend]) {
                samples.push(procfs::resident_kib(pid)?);
            }
        }
        crowd.load = load;
        let [of_gateway, of_backend] = samples.map(median);
        Ok(Self {
            gateway: Level::new(of_gateway, gateway)?,
            backend: Level::new(of_backend, backend)?,
        })
    }
}

impl Level {
    fn new(kib: u64, pid: Pid) -> anyhow::Result<Self> {
        Ok(Self {
            kib,
            descriptors: procfs::descriptors(pid)?,
        })
    }
}

fn median(mut samples: Vec<u64>) -> u64 {
    samples.sort_unstable();
    samples[samples.len() / 2]
}
