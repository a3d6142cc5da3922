//! What every question gets, and what it gives back.

use std::path::PathBuf;

use crate::machine::Machine;
use crate::progress::Progress;
use crate::report::Report;

/// One run of one question.
#[derive(Debug)]
pub struct Bench {
    /// What the person who waits is told.
    pub progress: Progress,
    /// What was found out.
    pub report: Report,
    /// Where, when and from which source.
    pub machine: Machine,
    /// How it was asked.
    pub options: Options,
    /// The data directory of the Tidegate that runs, for questions that ask one.
    pub data_dir: PathBuf,
}

/// What can be said to every question.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Options {
    /// Print one JSON object instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// Write the report with plots to a file that a browser shows
    #[arg(long, global = true, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Ask a server that runs already (ws://host:port/path); without it one is started for the question
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// With --server: the id of one of its processes, whose CPU time and memory are measured
    #[arg(long, global = true, value_name = "PID", requires = "server")]
    pub watch: Vec<u32>,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every check held, or nothing was checked.
    Held,
    /// A target was missed.
    Missed,
    /// The load was at its end before the server: the figures say nothing about the server.
    Saturated,
}

impl Verdict {
    /// The exit code of the command.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Held => 0,
            Self::Missed => 1,
            Self::Saturated => 3,
        }
    }
}
