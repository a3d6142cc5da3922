//! `tidegate bus replay FILE`: what was recorded happens again, at its own pace or another. Without `--into` it is load: the
//! visitors of the recording come again as fresh ones, through the gateway. With it the replay is the gateway, on a bus of
//! its own, and whatever backend is started there gets the recorded records.

mod into;
mod load;
mod naming; // what was called so in the recording is called otherwise now

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result};
use shm_bus::recording::RecordingReader;
use signal_hook::consts::{SIGINT, SIGTERM};
use tidegate_settings::settings::Settings;

use super::tap::check_protocol;
use crate::pace::{Speed, speed};

/// `tidegate bus replay`
#[derive(Debug, clap::Args)]
pub struct ReplayArguments {
    /// The recording
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Play the gateway on a bus of its own in this directory, for whatever backend is started there; else the recorded
    /// visitors visit the Tidegate that runs on the data directory
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
    /// How much faster than it was recorded; `max`: as fast as it goes
    #[arg(long, value_name = "TIMES", default_value = "1", value_parser = speed)]
    speed: Speed,
    /// Say how it went as JSON
    #[arg(long)]
    json: bool,
}

/// Plays. Exit code 1: not all that was said was accepted.
pub fn run(settings: &Settings, wish: &ReplayArguments) -> Result<ExitCode> {
    let told = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&told)).context("cannot await Ctrl-C")?;
    }
    match &wish.into {
        Some(directory) => into::run(wish, directory, &told),
        None => load::run(settings, wish, &told),
    }
}

type Recording = RecordingReader<BufReader<File>>;

fn open(path: &Path) -> Result<Recording> {
    let name = path.display();
    let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
    let reader = RecordingReader::open(BufReader::new(file)).with_context(|| format!("{name}"))?;
    check_protocol(reader.head().protocol, &format!("what recorded {name}"))?;
    Ok(reader)
}

/// Says what of the file could not be read: it was not played.
fn tell_damage(path: &Path, reader: &Recording) {
    let bytes = reader.damaged_bytes();
    if bytes > 0 {
        eprintln!(
            "tidegate: {}: {bytes} bytes are damaged and were passed over; what was in them is missing here",
            path.display()
        );
    }
}
