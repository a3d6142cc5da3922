//! `tidegate backend`: the backend process, usually started by `tidegate up`.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::{Context, Result};
use tidegate_backend::{Shutdown, StartError};

use crate::settings::Settings;
use crate::signals::{self, Told};
use crate::{gateway, logging, parent};

/// Runs until told to stop.
pub fn run(settings: Settings) -> Result<ExitCode> {
    parent::die_with_supervisor();
    shm_bus::exit_on_truncation().context("cannot install the handler for a truncated bus")?;
    let told = signals::listen()?;
    let level = logging::start(&settings.log, &settings.data_dir)?;
    let shutdown = Shutdown::new();
    let asked = shutdown.clone();
    std::thread::Builder::new()
        .name("told".to_owned())
        .spawn(move || {
            for told in told {
                match told {
                    Told::Stop(_) => asked.ask(),
                    Told::LogLevel => level.reload(),
                    Told::Replace | Told::ChildEnded => {}
                }
            }
        })
        .context("cannot start a thread")?;
    let http = gateway::inherited()?.pop().map(TcpListener::from);
    match tidegate_backend::run(settings.backend, http, &shutdown) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // It ran, and goes on from the store at the next start.
        Err(error @ StartError::Broken(_)) => {
            tracing::error!("{error}");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}
