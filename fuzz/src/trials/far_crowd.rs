//! A crowd in a process of its own: past one process's descriptors, and on whatever core is free. The process is this
//! program again, told so by its environment; orders go in and reports come out, one JSON object a line.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

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
    process: Child,
    orders: ChildStdin,
    reports: Receiver<Report>,
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
        let mut process = Command::new(env::current_exe()?)
            .env(JOB, &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = process.stdin.take().context("a pipe")?;
        let lines = BufReader::new(process.stdout.take().context("a pipe")?).lines();
        let (sender, reports) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Ok(report) = serde_json::from_str(&line) else {
                    return;
                };
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            process,
            orders,
            reports,
        })
    }

    /// Its next report, once it has come.
    pub(super) fn report(&mut self) -> anyhow::Result<Report> {
        self.order(Order::Report)?;
        let limit = Duration::from_secs(ARRIVALS_S_MAX);
        self.reports
            .recv_timeout(limit)
            .context("a crowd's process does not answer")
    }

    /// So many of it say something; the report that answers comes when they have begun.
    pub(super) fn speak(&mut self, count: usize) -> anyhow::Result<()> {
        self.order(Order::Speak(count))
    }

    fn order(&mut self, order: Order) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&order)?;
        line.push(b'\n');
        self.orders
            .write_all(&line)
            .context("a crowd's process has ended")
    }
}

impl Drop for FarCrowd {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
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
    let (sender, orders) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(order) = serde_json::from_str(&line) else {
                return;
            };
            if sender.send(order).is_err() {
                return;
            }
        }
    });
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
