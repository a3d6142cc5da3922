//! A crowd in a process of its own: past one process's descriptors, and on whatever core is free. The process is this
//! program again, told so by its environment; orders go in and reports come out, one JSON object a line.

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use tidegate_bench::dialogue::{self, Dialogue};

use crate::rig::{Crowd, System};

/// Members of one process: a descriptor each, of 20,000 that a process usually gets.
pub(super) const MEMBERS_MAX: u64 = 16_000;
/// Who connects at once; more would only wait in the listening socket's backlog.
const ARRIVALS: usize = 1_000;
const ARRIVALS_S_MAX: u64 = 120;
/// How long a far crowd moves between two looks for an order.
const STEP: Duration = Duration::from_millis(20);
/// In the environment: the job's file.
const JOB: &str = "TIDEGATE_FAR_CROWD";

/// What a far crowd is.
#[derive(Debug, Serialize, Deserialize)]
struct Job {
    server: SocketAddr,
    seed: u64,
    tokens: Vec<String>,
}

/// What it is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Order {
    /// Say how it is.
    Report,
    /// Let so many of you say something, spread over all.
    Speak(usize),
}

/// How a far crowd is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Report {
    /// Welcome now.
    pub(super) open: u64,
    /// Welcomes since it came: more than members means that somebody had to come again.
    pub(super) welcomes: u64,
    /// Messages that wait for their answer.
    pub(super) unanswered: u64,
    /// Messages that were accepted.
    pub(super) accepted: u64,
}

/// The parent's end.
pub(super) struct FarCrowd {
    dialogue: Dialogue<Report>,
}

impl FarCrowd {
    /// Starts a process for the visitors `first` .. `first + count`.
    pub(super) fn start(
        system: &System,
        scratch: &Path,
        seed: u64,
        first: u64,
        count: u64,
    ) -> anyhow::Result<Self> {
        let job = Job {
            server: system.ws(),
            seed: seed.wrapping_add(first),
            tokens: (first..first + count)
                .map(|number| system.visitor_token(number))
                .collect(),
        };
        let path = scratch.join(format!("crowd-{first}"));
        std::fs::write(&path, serde_json::to_vec(&job)?)?;
        let mut command = Command::new(env::current_exe()?);
        command.env(JOB, &path);
        Ok(Self {
            dialogue: Dialogue::start(&mut command)?,
        })
    }

    /// Its next report, once it has come.
    pub(super) fn report(&mut self) -> anyhow::Result<Report> {
        self.dialogue.order(&Order::Report)?;
        let limit = Duration::from_secs(ARRIVALS_S_MAX);
        self.dialogue
            .reports
            .recv_timeout(limit)
            .context("a crowd's process does not answer")
    }

    /// So many of it say something; the report that answers comes when they have begun.
    pub(super) fn speak(&mut self, count: usize) -> anyhow::Result<()> {
        self.dialogue.order(&Order::Speak(count))
    }
}

/// Plays a far crowd, if that is what this process was started for.
#[must_use]
pub fn play() -> Option<ExitCode> {
    let job = PathBuf::from(env::var_os(JOB)?);
    Some(match crowd(&job) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("a crowd's process: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn crowd(job: &Path) -> anyhow::Result<()> {
    let job: Job = serde_json::from_slice(&std::fs::read(job)?)?;
    let mut crowd = Crowd::new(job.server, job.seed)?;
    let limit = Duration::from_secs(ARRIVALS_S_MAX);
    for tokens in job.tokens.chunks(ARRIVALS) {
        for token in tokens {
            let number = crowd.add_visitor(token);
            crowd.start_one(number);
        }
        crowd.until("all are welcome", limit, |crowd| {
            crowd.open() == crowd.len()
        })?;
    }
    let orders = dialogue::orders::<Order>();
    loop {
        crowd.pass(STEP)?;
        loop {
            match orders.try_recv() {
                Ok(order) => obey(&mut crowd, order)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
    }
}

fn obey(crowd: &mut Crowd, order: Order) -> anyhow::Result<()> {
    match order {
        Order::Report => {
            let report = Report {
                open: crowd.open() as u64,
                welcomes: crowd.tally.welcomes,
                unanswered: crowd.unanswered() as u64,
                accepted: crowd.tally.accepted,
            };
            println!("{}", serde_json::to_string(&report)?);
        }
        Order::Speak(count) => {
            ensure!(
                count > 0 && count <= crowd.len(),
                "{count} of {}",
                crowd.len()
            );
            let apart = crowd.len() / count;
            for number in (0..crowd.len()).step_by(apart).take(count) {
                if crowd.say(number, None, 40).is_none() {
                    bail!("the outbox of {number} is full");
                }
            }
        }
    }
    Ok(())
}

/// All far crowds' reports added up.
pub(super) fn reports(crowds: &mut [FarCrowd]) -> anyhow::Result<Report> {
    let mut sum = Report {
        open: 0,
        welcomes: 0,
        unanswered: 0,
        accepted: 0,
    };
    for crowd in crowds {
        let one = crowd.report()?;
        sum.open += one.open;
        sum.welcomes += one.welcomes;
        sum.unanswered += one.unanswered;
        sum.accepted += one.accepted;
    }
    Ok(sum)
}

/// Waits until the sum of the reports is so.
pub(super) fn until(
    crowds: &mut [FarCrowd],
    what: &str,
    time_max: Duration,
    mut so: impl FnMut(&Report) -> bool,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + time_max;
    loop {
        let report = reports(crowds)?;
        if so(&report) {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "not within {time_max:?}: {what}; {report:?}"
        );
    }
}
