//! `tidegate backend`: the backend process, usually started by `tidegate up`; and its journal, applied again.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use tidegate_backend::store::StoreError;
use tidegate_backend::{Shutdown, StartError};

use crate::replay::{self, ReplayArguments};
use crate::settings::Settings;
use crate::{bus, gateway, process};

/// `tidegate backend`
#[derive(Debug, clap::Args)]
pub struct BackendArguments {
    /// Write every input to FILE.00000000 and on, so that --replay can apply them again: [backend] journal_file
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Mask in it what people write
    #[arg(long)]
    journal_masked: bool,
    #[command(flatten)]
    replay: ReplayArguments,
}

/// Runs until told to stop; or replays a journal.
pub fn run(mut settings: Settings, wish: &BackendArguments) -> Result<ExitCode> {
    if wish.replay.are_given() {
        return replay::run(&settings, &wish.replay);
    }
    if let Some(journal) = &wish.journal {
        settings.backend.journal_file = std::path::absolute(journal)?;
    }
    settings.backend.journal_masked |= wish.journal_masked;
    let shutdown = Shutdown::new();
    let asked = shutdown.clone();
    process::begin(&settings, move || asked.ask())?;
    bus::open_to_taps(&settings)?;
    let http = gateway::inherited()?.own.pop().map(TcpListener::from);
    match tidegate_backend::run(settings.backend, http, &shutdown) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // It ran, and goes on from the store at the next start.
        Err(error @ StartError::Broken(_)) => {
            tracing::error!("{error}");
            Ok(ExitCode::FAILURE)
        }
        // What the disk did now it may not do at the next start.
        Err(error @ StartError::Store(StoreError::Failed(_) | StoreError::Unsynced(_))) => {
            tracing::error!("{error}");
            Ok(ExitCode::FAILURE)
        }
        // Another start helps, once the other program has let go.
        Err(error @ StartError::Store(StoreError::Busy(_))) => {
            tracing::error!(
                "{error}: another program holds its lock; end that, this one tries again"
            );
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}
