//! The one binary of Tidegate: `tidegate up` starts the other processes, each of which is this file again.

mod agent;
mod backend;
mod backup;
mod bus;
mod check_config;
mod data_dir;
mod gateway;
mod ledger;
mod pace;
mod pages;
mod process;
mod replay;
mod signals;
mod token;
mod up;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tidegate_settings::{logging, settings};

/// Replaces the system's allocator: the backend's turn and the gateways' codecs allocate small and often, and
/// mimalloc returns a rush's memory sooner.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Live chat for flash sales, self-hosted.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, about, arg_required_else_help = true)]
struct Arguments {
    /// Settings file [default: ./tidegate.toml, if there is one]
    #[arg(long, global = true, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// Where everything is kept [default: ./tidegate-data]
    #[arg(long, global = true, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a backend and gateways, and keep them running
    Up(up::UpArguments),
    /// One gateway process (`up` starts these)
    Gateway(Box<gateway::GatewayArguments>),
    /// The backend process (`up` starts it), or its journal applied again
    Backend(backend::BackendArguments),
    /// Pages and tokens while the backend is another program (`up --no-backend` starts it)
    #[command(hide = true)]
    Pages,
    /// Explain every mistake in the settings
    CheckConfig(check_config::CheckConfigArguments),
    /// Make a token for a visitor or an agent
    Token(token::TokenArguments),
    /// Agents: add, list, passwd
    Agent(agent::AgentArguments),
    /// The shared-memory bus of a running Tidegate
    #[command(subcommand)]
    Bus(bus::BusCommand),
    /// What became of every accepted message
    Ledger(ledger::LedgerArguments),
    /// Copy the database to a file, while everything runs
    Backup(backup::BackupArguments),
    /// Make a backup the database of an empty data directory
    Restore(backup::RestoreArguments),
    /// Change the log level of a running Tidegate
    Log(data_dir::LogArguments),
    /// Questions with numbers: what it costs, how fast it is, how much it holds
    Bench(Box<tidegate_bench::command::BenchArguments>),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            // Nothing of this mends itself by another start: the supervisor must not try.
            exit_code(up::EXIT_UNUSABLE)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Command::Gateway(_) = &arguments.command {
        gateway::begin_without_huge_pages();
    }
    let mut figment = settings::sources(arguments.config.as_deref())?;
    if let Some(data_dir) = &arguments.data_dir {
        figment = figment.merge(("data_dir", data_dir));
    }
    // What it starts reads the settings by itself; what runs already is found by its directory.
    if let Command::Bench(wish) = &arguments.command {
        let data_dir = figment.extract_inner("data_dir")?;
        return tidegate_bench::command::run(wish, data_dir);
    }
    if let Command::CheckConfig(wish) = &arguments.command {
        return check_config::run(&figment, wish);
    }
    let settings = settings::load(&figment)?;
    match &arguments.command {
        Command::CheckConfig(_) | Command::Bench(_) => unreachable!("answered above"),
        Command::Token(wish) => token::run(&settings, wish)?,
        Command::Agent(wish) => agent::run(&settings, wish)?,
        Command::Bus(wish) => return bus::run(settings, wish),
        Command::Ledger(wish) => return ledger::run(&data_dir::running_settings(settings)?, wish),
        Command::Backup(wish) => backup::backup(&settings, wish)?,
        Command::Restore(wish) => backup::restore(&settings, wish)?,
        Command::Log(wish) => data_dir::change_log_level(&settings.data_dir, wish)?,
        Command::Up(wish) => {
            let told = signals::listen()?;
            let _level = logging::start(&settings.log, &settings.data_dir)?;
            return Ok(exit_code(up::run(settings, wish, &told)?));
        }
        Command::Gateway(wish) => return gateway::run(settings, wish),
        Command::Backend(wish) => return backend::run(settings, wish),
        Command::Pages => return pages::run(settings),
    }
    Ok(ExitCode::SUCCESS)
}

/// A process's exit code is a byte; what does not fit counts as failure.
fn exit_code(code: i32) -> ExitCode {
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
