//! `tidegate bus stat`: the bus of a running Tidegate, looked at through read-only mappings. In a terminal a table that is
//! drawn anew each second; else, or as JSON, a sample at a time.

mod look;
mod table;
mod terminal;

use std::io::{IsTerminal as _, Write as _, stdout};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tidegate_settings::settings::Settings;

use super::find::{self, BusArguments};
use look::Eye;
use terminal::{Keys, Screen};

/// `tidegate bus stat`
#[derive(Debug, clap::Args)]
pub struct StatArguments {
    #[command(flatten)]
    bus: BusArguments,
    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
    /// Milliseconds between two looks; rates are taken over them
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    over_ms: u64,
    /// End after so many samples [default: in a terminal none, else 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    samples: Option<u64>,
}

/// Looks and shows; refuses where no bus is.
pub fn run(settings: Settings, wish: &StatArguments) -> Result<ExitCode> {
    let mut eye = Eye::open(find::running(settings, &wish.bus)?)?;
    let is_terminal = stdout().is_terminal();
    let samples = match (wish.samples, is_terminal) {
        (None, true) => u64::MAX,
        (samples, _) => samples.unwrap_or(1),
    };
    let over = Duration::from_millis(wish.over_ms);
    let screen = (is_terminal && !wish.json)
        .then(Screen::enter)
        .transpose()?;
    let keys = Keys::listen(screen.is_some())?;
    for sample in 0..samples {
        // The first table shows at once, without rates: nobody likes to look at nothing.
        if let Some(screen) = &screen
            && sample == 0
        {
            screen.draw(&table::text(&eye.look()?))?;
        }
        if keys.asks_to_end_within(over)? {
            break;
        }
        let stat = eye.look()?;
        if let Some(screen) = &screen {
            screen.draw(&table::text(&stat))?;
            continue;
        }
        let text = if wish.json {
            serde_json::to_string(&stat).context("figures as JSON")? + "\n"
        } else {
            table::text(&stat)
        };
        let mut out = stdout().lock();
        if out
            .write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_err()
        {
            // Whoever reads has enough: `| head`.
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}
