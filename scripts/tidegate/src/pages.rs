//! `tidegate pages`: pages and tokens without a backend, started by `tidegate up --no-backend`.

use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::Result;
use tidegate_backend::Shutdown;

use crate::settings::Settings;
use crate::{gateway, process};

/// Runs until told to stop.
pub fn run(settings: Settings) -> Result<ExitCode> {
    let shutdown = Shutdown::new();
    let asked = shutdown.clone();
    process::begin(&settings, move || asked.ask())?;
    let http = gateway::inherited()?.own.pop().map(TcpListener::from);
    tidegate_backend::run_pages(settings.backend, http, &shutdown)?;
    Ok(ExitCode::SUCCESS)
}
