//! `tidegate check-config`: every mistake at once, or what Tidegate would run on.

use std::process::ExitCode;

use anyhow::{Context, Result};
use figment::Figment;

use crate::settings;

/// `tidegate check-config`
#[derive(Debug, clap::Args)]
pub struct CheckConfigArguments {
    /// Print the settings as they are after file, environment and defaults
    #[arg(long)]
    show: bool,
}

/// Exit code 0: nothing is wrong.
pub fn run(figment: &Figment, arguments: &CheckConfigArguments) -> Result<ExitCode> {
    match settings::explain(figment) {
        Ok(settings) => {
            if arguments.show {
                print!(
                    "{}",
                    toml::to_string(&settings).context("settings can't be written as TOML")?
                );
            } else {
                println!("The settings are in order. (--show prints them all)");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(mistakes) => {
            for mistake in &mistakes {
                println!("{mistake}");
            }
            println!(
                "{} {}.",
                mistakes.len(),
                if mistakes.len() == 1 {
                    "mistake"
                } else {
                    "mistakes"
                }
            );
            Ok(ExitCode::FAILURE)
        }
    }
}
