//! Backend and gateway are killed with -9 in turn, each as soon as it is ready: every start succeeds, nothing is left to
//! clean by hand, and the bus takes no more memory after a thousand of them than after ten.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Stand;
use crate::rig::{Role, Setup, Shop};

const ROUNDS: u64 = 1_000;
/// Rounds after which everything there is has been made once.
const WARM_ROUNDS: u64 = 10;
const GONE_S_MAX: u64 = 10;
const LOOK_EVERY: Duration = Duration::from_millis(10);
const BYTES_PER_BLOCK: u64 = 512;

/// `restart-loop`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let rounds = stand.scale.of(ROUNDS);
    let setup = Setup::new(&stand.binary, stand.scratch());
    let mut shop = Shop::open(stand, &setup, 10, 1)?;
    let before = settled(shop.system.bus())?;
    let (mut warm, mut most_bytes) = (before.clone(), 0);
    let mut ready_ms = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        let which = usize::from(round % 2 == 1);
        let role = [Role::Backend, Role::Gateway(0)][which];
        let killed = Instant::now();
        shop.kill(role)?;
        let ready = shop.system.await_ready(role);
        ready.with_context(|| format!("start {round} failed{}", shop.logs()))?;
        ready_ms[which].push(killed.elapsed().as_millis());
        // Clients come back all the while.
        shop.crowd.turn(Duration::ZERO)?;
        most_bytes = most_bytes.max(usage(shop.system.bus())?.bytes);
        if round + 1 == WARM_ROUNDS {
            warm = settled(shop.system.bus())?;
        }
        if (round + 1) % 100 == 0 {
            stand.progress(&format!("{} of {rounds} restarts", round + 1));
        }
    }
    let after = settled(shop.system.bus())?;
    ensure!(
        after.names == before.names,
        "on the bus stand {:?}, expected {:?}: somebody has to clean up",
        after.names,
        before.names
    );
    ensure!(
        after.bytes <= warm.bytes,
        "the bus takes {} bytes after {rounds} restarts, {} after {WARM_ROUNDS}",
        after.bytes,
        warm.bytes
    );
    stand.figure("restarts", rounds);
    stand.figure("starts that failed", 0);
    for (name, ms) in ["backend", "gateway"].into_iter().zip(&mut ready_ms) {
        ms.sort_unstable();
        let (median, longest) = (ms[ms.len() / 2], ms[ms.len() - 1]);
        stand.figure(
            &format!("killed to ready again, {name}"),
            format!("median {median} ms, longest {longest} ms"),
        );
    }
    stand.figure(
        "bus, after ten restarts",
        format!("{} KiB", warm.bytes >> 10),
    );
    stand.figure("bus, at most", format!("{} KiB", most_bytes >> 10));
    stand.figure("bus, in the end", format!("{} KiB", after.bytes >> 10));
    // And the last of all these is as good as the first.
    shop.chat(100);
    shop.flow(100)?;
    shop.close(stand).map(drop)
}

/// What is on a bus.
#[derive(Clone, Debug)]
struct Usage {
    bytes: u64,
    /// Sorted; segments without their ids.
    names: Vec<String>,
}

/// The usage once there is one segment, and nothing half made or half removed.
fn settled(bus: &Path) -> anyhow::Result<Usage> {
    let deadline = Instant::now() + Duration::from_secs(GONE_S_MAX);
    loop {
        let usage = usage(bus)?;
        let segments = usage
            .names
            .iter()
            .filter(|name| name.starts_with("gateway-"));
        if segments.eq(["gateway-"]) {
            return Ok(usage);
        }
        ensure!(
            Instant::now() < deadline,
            "on the bus stand {:?} after {GONE_S_MAX} s, expected one segment",
            usage.names
        );
        std::thread::sleep(LOOK_EVERY);
    }
}

fn usage(bus: &Path) -> anyhow::Result<Usage> {
    let (mut bytes, mut names) = (0, Vec::new());
    for entry in fs::read_dir(bus).with_context(|| bus.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // Segments go while they are looked at.
        if let Ok(inside) = fs::read_dir(entry.path()) {
            for file in inside.flatten() {
                bytes += file
                    .metadata()
                    .map_or(0, |file| file.blocks() * BYTES_PER_BLOCK);
            }
        }
        bytes += entry
            .metadata()
            .map_or(0, |file| file.blocks() * BYTES_PER_BLOCK);
        let is_whole = name.starts_with("gateway-") && !name.contains('.');
        names.push(if is_whole {
            "gateway-".to_owned()
        } else {
            name
        });
    }
    names.sort();
    Ok(Usage { bytes, names })
}
