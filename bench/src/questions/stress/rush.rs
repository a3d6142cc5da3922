//! One run: who comes when, what is done to them, and what was seen.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{StressArguments, Victim, plan};
use crate::bench::Bench;
use crate::process::{kill, own_bytes, resident_bytes};
use crate::system::{Ledger, System, until};
use crate::visitors::agents::Agents;
use crate::visitors::far::Visitors;
use crate::visitors::{Job, Order, Report};

/// Conversations at once of one agent.
const CAPACITY: u32 = 50;
/// Those who chat all the time say something every so often.
const OPEN_EVERY_MS: u64 = 1_000;
/// Newcomers who ask say this many more, one every so often, and close.
const NEW_SAYS: u32 = 3;
const NEW_EVERY_MS: u64 = 700;
/// Of a thousand texts; of a thousand who ask.
const LARGE_PERMILLE: u64 = 20;
const SLOW_PERMILLE: u64 = 20;
/// Before the rush, with only the open chats.
const CALM: Duration = Duration::from_secs(3);
/// The open chats begin within this.
const OPEN_S_MAX: u64 = 20;
/// After the last send all is answered within this; and reports come.
const SETTLE: Duration = Duration::from_secs(10);
const TURN_MAX: Duration = Duration::from_millis(5);
const LOOK_EVERY: Duration = Duration::from_millis(250);
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The server and its visitors at one moment of the run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) at_s: f64,
    /// Its own, without the bus.
    pub(super) backend_bytes: u64,
    /// Of these, the database library's: caches of a bounded size that fill up in any case.
    pub(super) database_bytes: f64,
    pub(super) gateways_bytes: u64,
    pub(super) inside: u64,
    pub(super) asked: u64,
    pub(super) waiting: u64,
    pub(super) chatting: u64,
}

/// What was seen in the end.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) open: Report,
    pub(super) new: Report,
    pub(super) agents: Agents,
    pub(super) before: Ledger,
    pub(super) after: Ledger,
    /// What the rows say beside the counters; `Err`: the ledger is open.
    pub(super) recounted: Result<(), String>,
    pub(super) samples: Vec<Sample>,
}

/// A run under way.
#[derive(Debug)]
pub(super) struct Rush<'a> {
    system: &'a System,
    agents: Agents,
    open: Visitors,
    new: Visitors,
    before: Ledger,
    samples: Vec<Sample>,
    begun: Instant,
    said_at: Instant,
    /// The database's memory when it was asked for last, once a second.
    database_bytes: f64,
}

impl<'a> Rush<'a> {
    /// Lets agents and the open chats come, and gets the others ready.
    ///
    /// # Errors
    /// The chats do not begin.
    pub(super) fn begin(
        system: &'a System,
        arguments: &StressArguments,
        bench: &mut Bench,
    ) -> Result<Self> {
        let visitors = match arguments.visitors {
            Some(visitors) => visitors,
            None => {
                let bound = plan::carried(system, arguments.ramp);
                let visitors = bound
                    .visitors
                    .saturating_sub(arguments.open + u64::from(arguments.agents));
                let line = format!("{visitors} visitors: {}", bound.reason);
                bench.progress.say(&line);
                bench.report.note(line);
                visitors
            }
        };
        ensure!(visitors > 0, "there is no room for a single visitor");
        let before = Ledger::from(&system.metrics()?);
        let run = fastrand::u32(1..);
        let capacity = CAPACITY.max(u32::try_from(arguments.open * 2)?.div_ceil(arguments.agents));
        let agents = Agents::come(system, run, arguments.agents, capacity)?;
        let open = Job {
            open: true,
            every_ms: OPEN_EVERY_MS,
            ..Job::to_ask(system.data_dir(), run, arguments.open)
        };
        let new = Job {
            first: arguments.open,
            count: visitors,
            open: false,
            ask_permille: arguments.ask,
            says: NEW_SAYS,
            every_ms: NEW_EVERY_MS,
            large_permille: LARGE_PERMILLE,
            slow_permille: SLOW_PERMILLE,
            ..open.clone()
        };
        let mut rush = Self {
            system,
            agents,
            open: Visitors::start(&open)?,
            new: Visitors::start(&new)?,
            before,
            samples: Vec::new(),
            begun: Instant::now(),
            said_at: Instant::now(),
            database_bytes: 0.0,
        };
        rush.open.order(Order::Come { over_ms: 1_000 })?;
        let deadline = Instant::now() + Duration::from_secs(OPEN_S_MAX);
        while rush.open.newest().chatting < arguments.open {
            ensure!(
                Instant::now() < deadline,
                "not within {OPEN_S_MAX} s: {} open chats; {} are inside, {} have an agent. Does the Tidegate admit \
                 visitors now?",
                arguments.open,
                rush.open.newest().inside,
                rush.open.newest().chatting
            );
            rush.pass(LOOK_EVERY, bench, "people who chat before the rush")?;
        }
        Ok(rush)
    }

    /// The rush, and what is done to it.
    ///
    /// # Errors
    /// A process of the load ended.
    pub(super) fn run(&mut self, arguments: &StressArguments, bench: &Bench) -> Result<()> {
        self.pass(CALM, bench, "calm")?;
        let over_ms = arguments.ramp * 1_000;
        self.new.order(Order::Come { over_ms })?;
        self.pass(Duration::from_millis(over_ms), bench, "they come")?;
        let part = Duration::from_secs(arguments.stay) / 3;
        self.pass(part, bench, "all have come")?;
        if arguments.cut > 0 {
            self.new.order(Order::Cut {
                permille: arguments.cut,
            })?;
            self.pass(part, bench, "connections are cut")?;
        }
        if let Some(victim) = arguments.kill {
            for visitors in [&mut self.open, &mut self.new] {
                visitors.order(Order::Kill)?;
            }
            self.agents.kill_follows();
            self.kill(victim)?;
        }
        self.pass(part, bench, "they stay")
    }

    fn kill(&self, victim: Victim) -> Result<()> {
        let pid = match victim {
            Victim::Backend => self.system.backend(),
            Victim::Gateway => self.system.gateways().first().copied(),
        };
        let pid = pid.with_context(|| format!("there is no {victim:?} to kill"))?;
        kill(pid).with_context(|| format!("kill -9 of the {victim:?}"))
    }

    /// Nobody says anything more; when all is answered everybody tells what they saw, and leaves.
    ///
    /// # Errors
    /// They do not tell, or the ledger can't be read.
    pub(super) fn end(mut self, bench: &Bench) -> Result<Seen> {
        for visitors in [&mut self.open, &mut self.new] {
            visitors.order(Order::Hush)?;
        }
        let deadline = Instant::now() + SETTLE;
        loop {
            self.pass(LOOK_EVERY, bench, "the last answers")?;
            let (open, new) = (self.open.newest(), self.new.newest());
            let unanswered = open.unanswered + new.unanswered + self.agents.unanswered() as u64;
            let away = open.away + new.away;
            if unanswered + away == 0 || Instant::now() > deadline {
                break;
            }
        }
        self.agents.answer = false;
        let open = self.told(|rush| &mut rush.open)?;
        let new = self.told(|rush| &mut rush.new)?;
        for visitors in [&mut self.open, &mut self.new] {
            visitors.order(Order::Leave)?;
        }
        self.agents.leave();
        self.agents.turn(TURN_MAX)?;
        let mut after = None;
        until("the backend serves its figures", SETTLE, || {
            after = self.system.metrics().ok();
            Ok(after.is_some())
        })?;
        Ok(Seen {
            open,
            new,
            agents: self.agents,
            before: self.before,
            after: Ledger::from(&after.context("figures")?),
            recounted: recount(self.system)?,
            samples: self.samples,
        })
    }

    /// Everything that one kind of visitors saw.
    fn told(&mut self, of: impl Fn(&mut Self) -> &mut Visitors) -> Result<Report> {
        // Reports of looks that are still under way come first.
        while of(self).awaited() > 0 {
            self.take_reports()?;
            self.agents.turn(TURN_MAX)?;
        }
        of(self).order(Order::Tell)?;
        let deadline = Instant::now() + SETTLE;
        while of(self).report()?.is_none() {
            ensure!(
                Instant::now() < deadline,
                "a process of the load does not answer"
            );
            self.agents.turn(TURN_MAX)?;
        }
        Ok(of(self).newest().clone())
    }

    // --- time --------------------------------------------------------------------------------------------------

    /// Goes on for so long.
    fn pass(&mut self, time: Duration, bench: &Bench, what: &str) -> Result<()> {
        let end = Instant::now() + time;
        let mut look_at = Instant::now();
        while Instant::now() < end {
            if Instant::now() >= look_at {
                look_at += LOOK_EVERY;
                self.look(bench, what)?;
            }
            self.take_reports()?;
            self.agents.turn(TURN_MAX)?;
        }
        Ok(())
    }

    fn take_reports(&mut self) -> Result<()> {
        while self.open.report()?.is_some() || self.new.report()?.is_some() {}
        Ok(())
    }

    fn look(&mut self, bench: &Bench, what: &str) -> Result<()> {
        for visitors in [&mut self.open, &mut self.new] {
            // Who is slow to answer is not asked once more meanwhile.
            if visitors.awaited() == 0 {
                visitors.order(Order::Look)?;
            }
        }
        let of = |pid: u32| resident_bytes(pid).unwrap_or(0);
        let says = self.said_at.elapsed() >= SAY_EVERY;
        if says {
            self.said_at = Instant::now();
            // While no backend answers, what it said last holds.
            let metrics = self.system.metrics().unwrap_or_default();
            if let Some(bytes) = metrics.get("tidegate_database_memory_bytes") {
                self.database_bytes = bytes;
            }
        }
        let (open, new) = (self.open.newest(), self.new.newest());
        let backend = self.system.backend();
        let sample = Sample {
            at_s: self.begun.elapsed().as_secs_f64(),
            backend_bytes: backend.and_then(|pid| own_bytes(pid).ok()).unwrap_or(0),
            database_bytes: self.database_bytes,
            gateways_bytes: self.system.gateways().into_iter().map(of).sum(),
            inside: open.inside + new.inside,
            asked: new.asked,
            waiting: open.waiting + new.waiting,
            chatting: open.chatting + new.chatting,
        };
        self.samples.push(sample);
        if says {
            bench.progress.say(format!(
                "{what}: {} inside, {} wait, {} chat; {} late; p99 to agents {:.1} ms",
                sample.inside,
                sample.waiting,
                sample.chatting,
                new.late,
                self.agents.from_open.quantile(0.99).as_secs_f64() * 1e3
            ));
        }
        Ok(())
    }
}

/// Has every row counted by `tidegate ledger --recount`.
fn recount(system: &System) -> Result<Result<(), String>> {
    let output = Command::new(std::env::current_exe()?)
        .arg("--data-dir")
        .arg(system.data_dir())
        .args(["ledger", "--recount"])
        .output()
        .context("tidegate ledger --recount")?;
    match output.status.code() {
        Some(0) => Ok(Ok(())),
        Some(1) => Ok(Err(String::from_utf8_lossy(&output.stderr)
            .trim()
            .to_owned())),
        _ => bail!(
            "tidegate ledger --recount: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    }
}
