//! Which bus: the one of the Tidegate that runs on the data directory, found by what `up` wrote there; or one that is
//! named, which is how another user of the tap group gets to it.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use shm_bus::{BusDirectory, ObservedGateway};
use tidegate_settings::settings::Settings;

use crate::data_dir::running_settings;

/// The bus to look at.
#[derive(Debug, clap::Args)]
pub struct BusArguments {
    /// The bus itself [default: that of the Tidegate that runs on the data directory]
    #[arg(long, value_name = "DIRECTORY")]
    bus: Option<PathBuf>,
}

/// Opens it to look; refuses where nobody lives on it.
pub fn running(settings: Settings, arguments: &BusArguments) -> Result<BusDirectory> {
    let (path, whose) = if let Some(path) = &arguments.bus {
        (path.clone(), path.display().to_string())
    } else {
        let data_dir = settings.data_dir.clone();
        if let Ok(stat) = std::fs::metadata(&data_dir)
            && std::fs::read_dir(&data_dir).is_err()
        {
            bail!(
                "{} is open to uid {} alone, and this is uid {}; look as that user. A group that it names (tap_group in [bus]) \
                 may look too, and says where: --bus DIRECTORY (`tidegate check-config --show` prints it as bus_dir)",
                data_dir.display(),
                stat.uid(),
                rustix::process::geteuid().as_raw()
            );
        }
        let settings = running_settings(settings)?;
        (settings.bus_dir, settings.data_dir.display().to_string())
    };
    if !path.exists() {
        bail!(
            "no Tidegate runs on {whose}: there is no bus at {}. Start it with `tidegate up`, or name its data directory: \
             --data-dir DIRECTORY",
            path.display()
        );
    }
    let bus = BusDirectory::observe(path)?;
    if !is_lived_on(&bus) {
        bail!(
            "no Tidegate runs on {whose}: what is at {} was left by one that ended. Start it with `tidegate up`",
            bus.path().display()
        );
    }
    // A file that is cut short while it is mapped ends this process with a sentence.
    shm_bus::exit_on_truncation().context("cannot install a signal handler")?;
    Ok(bus)
}

/// Whether a backend or a gateway lives.
pub fn is_lived_on(bus: &BusDirectory) -> bool {
    let lives = |instance| ObservedGateway::open(bus, instance).is_ok_and(|it| it.is_alive());
    bus.backend_is_alive() || bus.segments().unwrap_or_default().into_iter().any(lives)
}
