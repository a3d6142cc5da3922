//! The operators' mode: a rush of visitors against a Tidegate that runs, ending in the loss ledger and a verdict.
//!
//! Some people chat before, and go on. Then the rush comes: everybody wants to see Welcome or Wait within 2 s; some ask,
//! get an agent, chat and close; some of their texts are large, some of them read nothing for a while, some lose their
//! connection and come back; on demand a process is killed. All of them and the agents who answer are marked
//! (synthetic ids): the statistics leave them out, nobody else is given to them or they to anybody else, and
//! `--clean` removes what they left.

mod clean;
mod plan;
mod rush;
mod verdict;

use anyhow::Result;

use crate::bench::{Bench, Verdict};
use crate::system::System;
use rush::Rush;

/// `tidegate bench stress`
#[derive(Debug, clap::Args)]
pub struct StressArguments {
    /// Visitors of the rush [default: as many as this machine carries, at most 100,000]
    #[arg(long, value_name = "N")]
    visitors: Option<u64>,
    /// Seconds in which they come
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    ramp: u64,
    /// Seconds that they stay, when all have come
    #[arg(long, default_value_t = 12, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    stay: u64,
    /// Agents who answer
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    agents: u32,
    /// Chats that are open before the rush, and stay open
    #[arg(long, default_value_t = 200, value_name = "N")]
    open: u64,
    /// How many of a thousand visitors ask for an agent
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000))]
    ask: u64,
    /// How many of a thousand lose their connection in the middle, and come back
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_000))]
    cut: u64,
    /// kill -9 of a process in the middle
    #[arg(long, value_enum)]
    kill: Option<Victim>,
    /// Remove what earlier runs left in the database, and do nothing else
    #[arg(long)]
    clean: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Victim {
    /// One of the gateways
    Gateway,
    /// The backend
    Backend,
}

/// Asks.
///
/// # Errors
/// When no Tidegate runs on the data directory, or the people of the load do not get in at all.
pub fn run(arguments: &StressArguments, bench: &mut Bench) -> Result<Verdict> {
    let system = System::find(&bench.data_dir)?;
    if arguments.clean {
        return clean::run(&system, bench);
    }
    let mut rush = Rush::begin(&system, arguments, bench)?;
    rush.run(arguments, bench)?;
    let seen = rush.end(bench)?;
    Ok(verdict::judge(bench, arguments, &seen))
}
