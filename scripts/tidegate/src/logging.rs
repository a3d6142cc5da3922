//! Log lines to standard error, as text for people or JSON for machines, at a level that can change while we run.
//!
//! The level is a `tracing` filter (`info`, `warn,tidegate_gateway=debug`). It comes from the settings and can be
//! replaced at any time: `tidegate log debug` writes the data directory's `log-level` file and tells the supervisor,
//! which passes SIGUSR1 on; every process then reads the file again.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line for a person to read.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The `[log]` table of the settings file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A tracing filter: a level (`error` … `trace`), or levels by module separated by commas.
    pub level: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: "info".to_owned(),
        }
    }
}

/// Changes the level of the running process.
pub struct LogLevel {
    filter: reload::Handle<Targets, Registry>,
    file: PathBuf,
}

/// The file in the data directory that overrides the settings' level.
pub fn level_file(data_dir: &Path) -> PathBuf {
    data_dir.join("log-level")
}

/// Checks a filter and says what is wrong with it.
pub fn parse_level(level: &str) -> Result<Targets> {
    level.parse::<Targets>().with_context(|| {
        format!("log level {level:?} is not a filter; expected for instance `info` or `warn,tidegate_gateway=debug`")
    })
}

/// Installs the subscriber of this process. Call once.
pub fn start(settings: &LogSettings, data_dir: &Path) -> Result<LogLevel> {
    let (layer, filter) = reload::Layer::new(parse_level(&settings.level)?);
    let registry = tracing_subscriber::registry().with(layer);
    match settings.format {
        LogFormat::Text => {
            let lines = fmt::layer()
                .with_target(false)
                .with_ansi(io::stderr().is_terminal());
            registry.with(lines.with_writer(io::stderr)).init();
        }
        LogFormat::Json => registry
            .with(
                fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_writer(io::stderr),
            )
            .init(),
    }
    let level = LogLevel {
        filter,
        file: level_file(data_dir),
    };
    if level.file.exists() {
        level.reload();
    }
    Ok(level)
}

impl LogLevel {
    /// Reads the level file again. A bad or missing file changes nothing and says so.
    pub fn reload(&self) {
        let outcome = std::fs::read_to_string(&self.file)
            .with_context(|| format!("cannot read {}", self.file.display()))
            .and_then(|text| parse_level(text.trim()).map(|filter| (text, filter)))
            .and_then(|(text, filter)| {
                self.filter
                    .reload(filter)
                    .map(|()| text)
                    .context("the log subscriber is gone")
            });
        match outcome {
            Ok(text) => tracing::info!(level = text.trim(), "log level changed"),
            Err(error) => tracing::warn!("log level unchanged: {error:#}"),
        }
    }
}
