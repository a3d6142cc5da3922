//! `tidegate bench QUESTION`: one question a run; tables on standard output, progress on standard error.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::bench::{Bench, Options, Verdict};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::questions::{bus, bytes, chat, echo, idle, parse, places, scenarios, storm, stress};
use crate::report::{Report, html, json, text};
use crate::visitors::flock;
use crate::{load, peers, process};

/// `tidegate bench`
#[derive(Debug, clap::Args)]
pub struct BenchArguments {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    question: Question,
}

/// Each question is a file of [`crate::questions`].
#[derive(Debug, clap::Subcommand)]
enum Question {
    /// What does it cost to hand a record to another process?
    Bus(bus::BusArguments),
    /// How many bytes and how much CPU does a chat message take in each codec?
    Bytes(bytes::BytesArguments),
    /// What do people who chat cost, through everything, committed?
    Chat(chat::ChatArguments),
    /// What does a message cost that comes back at once?
    Echo(echo::EchoArguments),
    /// What does a connection cost that says nothing?
    Idle(idle::IdleArguments),
    /// What does each step of a message cost, without sockets?
    Parse(parse::ParseArguments),
    /// How long do the places in the queue take to all who wait?
    Places(places::PlacesArguments),
    /// How do tens of thousands fare who chat at once, with text and with 8 KB messages?
    Scenarios(scenarios::ScenariosArguments),
    /// How long does a newcomer wait when all come at once?
    Storm(storm::StormArguments),
    /// Does the Tidegate that runs on --data-dir stand a rush?
    Stress(stress::StressArguments),
    /// The far end of a way that `bus` measures
    #[command(hide = true)]
    BusPeer(bus::BusPeerArguments),
    /// One process of the load
    #[command(hide = true)]
    Load,
    /// A server that reflects, to compare with
    #[command(hide = true)]
    Peer(peers::PeerArguments),
    /// A process that plays visitors
    #[command(hide = true)]
    Visitors(VisitorsArguments),
}

/// `tidegate bench visitors`
#[derive(Debug, clap::Args)]
struct VisitorsArguments {
    /// A job as JSON
    #[arg(long)]
    job: String,
}

impl Question {
    fn name(&self) -> &'static str {
        match self {
            Self::Bus(_) => "bus",
            Self::Bytes(_) => "bytes",
            Self::Chat(_) => "chat",
            Self::Echo(_) => "echo",
            Self::Idle(_) => "idle",
            Self::Parse(_) => "parse",
            Self::Places(_) => "places",
            Self::Scenarios(_) => "scenarios",
            Self::Storm(_) => "storm",
            Self::Stress(_) => "stress",
            Self::BusPeer(_) => "bus-peer",
            Self::Load => "load",
            Self::Peer(_) => "peer",
            Self::Visitors(_) => "visitors",
        }
    }

    fn ask(&self, bench: &mut Bench) -> Result<Verdict> {
        match self {
            Self::Bus(arguments) => bus::run(arguments, bench),
            Self::Bytes(arguments) => bytes::run(arguments, bench),
            Self::Chat(arguments) => chat::run(arguments, bench),
            Self::Echo(arguments) => echo::run(arguments, bench),
            Self::Idle(arguments) => idle::run(arguments, bench),
            Self::Parse(arguments) => parse::run(arguments, bench),
            Self::Places(arguments) => places::run(arguments, bench),
            Self::Scenarios(arguments) => scenarios::run(arguments, bench),
            Self::Storm(arguments) => storm::run(arguments, bench),
            Self::Stress(arguments) => stress::run(arguments, bench),
            Self::BusPeer(_) | Self::Load | Self::Peer(_) | Self::Visitors(_) => {
                bail!("a helper process answers no question")
            }
        }
    }
}

/// Asks, shows the answer, and says by the exit code how it ended: 0 held, 1 a target missed, 3 the load saturated.
/// `data_dir`: where to find the Tidegate that runs, for questions that ask one.
///
/// # Errors
/// When the question could not be asked, or the answer not written.
pub fn run(arguments: &BenchArguments, data_dir: PathBuf) -> Result<ExitCode> {
    let question = &arguments.question;
    if let Question::Load | Question::Peer(_) | Question::Visitors(_) = question {
        process::grow_descriptor_table()?;
    }
    match question {
        Question::BusPeer(peer) => return bus::serve(peer).map(|()| ExitCode::SUCCESS),
        Question::Load => return load::run_child().map(|()| ExitCode::SUCCESS),
        Question::Peer(peer) => return peers::run(peer).map(|()| ExitCode::SUCCESS),
        Question::Visitors(played) => return flock::run(&played.job).map(|()| ExitCode::SUCCESS),
        _ => {}
    }
    // Servers and loads that are started here inherit it.
    process::raise_descriptor_limit()?;
    let mut bench = Bench {
        progress: Progress::begin(),
        report: Report::new(question.name()),
        machine: Machine::here(),
        options: arguments.options.clone(),
        data_dir,
    };
    let verdict = question.ask(&mut bench)?;
    bench.progress.end();
    if verdict == Verdict::Saturated {
        bench.report.note(
            "The load saturated before the server: use fewer messages, or more cores for the load.",
        );
    }
    show(&bench)?;
    Ok(ExitCode::from(verdict.exit_code()))
}

fn show(bench: &Bench) -> Result<()> {
    let Bench {
        report,
        machine,
        options,
        ..
    } = bench;
    if let Some(file) = &options.html {
        std::fs::write(file, html::render(report, machine))
            .with_context(|| format!("cannot write the report to {}", file.display()))?;
    }
    if options.json {
        println!("{}", json::render(report, machine));
    } else {
        print!("{}", text::render(report, &machine.hardware));
    }
    Ok(())
}
