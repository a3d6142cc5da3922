//! `tidegate backend`: the backend process, usually started by `tidegate up`.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Result;
use tidegate_backend::store::StoreError;
use tidegate_backend::{Shutdown, StartError};

use crate::settings::Settings;
use crate::{bus, gateway, process};

/// Runs until told to stop.
pub fn run(settings: Settings) -> Result<ExitCode> {
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
