//! `tidegate bus`: the shared-memory bus of a running Tidegate, looked at through read-only mappings; what was seen, kept
//! in a file; and a file played again.

mod find; // which bus
mod line; // what was seen, as a line of JSON
mod mask; // what nobody has to see
mod record;
mod replay;
mod stat;
mod tap;
mod watch; // taps on every ring of every gateway, those that come included

use std::process::ExitCode;

use anyhow::Result;
use shm_bus::BusDirectory;
use tidegate_settings::settings::Settings;

/// `tidegate bus …`
#[derive(Debug, clap::Subcommand)]
pub enum BusCommand {
    /// Rings, rates, heartbeats and the loss ledger: live in a terminal, else once
    Stat(stat::StatArguments),
    /// Everything that goes over the bus, decoded, a JSON object a line
    Tap(tap::TapArguments),
    /// Keep what goes over the bus in a file
    Record(record::RecordArguments),
    /// Play a recording: at a running Tidegate as load, or into a bus of its own
    Replay(replay::ReplayArguments),
}

/// Does one of them.
pub fn run(settings: Settings, command: &BusCommand) -> Result<ExitCode> {
    match command {
        BusCommand::Stat(wish) => stat::run(settings, wish),
        BusCommand::Tap(wish) => tap::run(settings, wish),
        BusCommand::Record(wish) => record::run(settings, wish),
        BusCommand::Replay(wish) => replay::run(&settings, wish),
    }
}

/// Lets the group of the settings look at the bus, or nobody. For whoever is about to open the bus.
pub fn open_to_taps(settings: &Settings) -> Result<()> {
    let group = settings.bus.tap_group_id()?;
    Ok(BusDirectory::set_tap_group(&settings.bus_dir, group)?)
}
