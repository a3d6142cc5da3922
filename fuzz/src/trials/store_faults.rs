//! The store's first writes and syncs fail, each once, in a real process while people chat.
//!
//! One process in ten writes is failed, so that each commit still gets through at its second try; another life fails
//! the next ones. A failed sync ends the backend by design, and `tidegate up` starts it again. (Each of the first 200
//! by itself, write for write and sync for sync: `cargo test -p tidegate-backend --all-features --test store_write_faults`.)

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Stand;
use crate::rig::{Setup, Shop, check};

const VISITORS: u64 = 20;
const AGENTS: u64 = 2;
const SENDS_PER_S: u64 = 200;
/// Writes of a life that are failed, and every how many.
const WRITES: u64 = 200;
const STRIDE: u64 = 10;
/// Lives in which two syncs are failed, of each kind of failure.
const SYNC_LIVES: u64 = 10;
const STRUCK_S_MAX: u64 = 60;
const RELIEF_MS_MAX: u128 = 2_000;
const SETTLE_S_MAX: u64 = 60;

/// What the fault struck, and how long nothing was acknowledged.
#[derive(Default)]
struct Found {
    lives: u64,
    struck: usize,
    accepted: u64,
    longest: Duration,
}

/// `store-write-faults`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let mut random = fastrand::Rng::with_seed(stand.seed);
    let mut found = Found::default();
    for failure in ["ENOSPC", "EIO", "BUSY"] {
        let first = random.u64(..STRIDE);
        for life in 0..stand.scale.of(STRIDE) {
            let ordinals: Vec<u64> = (1..=WRITES)
                .filter(|nth| nth % STRIDE == (first + life) % STRIDE)
                .collect();
            live(stand, "write", &ordinals, failure, "normal", &mut found)?;
        }
        for _ in 0..stand.scale.of(SYNC_LIVES) {
            let ordinals = [random.u64(1..20), random.u64(20..60)];
            live(stand, "sync", &ordinals, failure, "full", &mut found)?;
        }
        stand.progress(&format!("{failure}: {} faults so far", found.struck));
    }
    stand.figure("lives", found.lives);
    stand.figure("writes and syncs failed", found.struck);
    stand.figure("messages acknowledged", found.accepted);
    stand.figure("lost, doubled, out of order, silent gaps", 0);
    stand.figure(
        "longest time without an acknowledgement",
        format!("{} ms", found.longest.as_millis()),
    );
    stand.in_time(
        found.longest.as_millis() <= RELIEF_MS_MAX,
        &format!(
            "a fault passes at once, and yet nothing was acknowledged for {:?}; the promise is 2 s",
            found.longest
        ),
    )
}

fn live(
    stand: &Stand,
    operation: &str,
    ordinals: &[u64],
    failure: &str,
    synchronous: &str,
    found: &mut Found,
) -> anyhow::Result<()> {
    found.lives += 1;
    let directory = stand.scratch().join(format!("life-{}", found.lives));
    let notes = directory.join("struck");
    fs::create_dir_all(&notes)?;
    let list: Vec<String> = ordinals.iter().map(u64::to_string).collect();
    let fault = format!("{operation}:{}:{failure}", list.join(","));
    let setup = Setup::new(&stand.binary, &directory)
        .with("BACKEND__SYNCHRONOUS", synchronous)
        .with("STORE_FAULT", &fault)
        .with("STORE_FAULT_ONCE", notes.display());
    let what = || format!("{fault}, synchronous = {synchronous}");
    let mut shop = Shop::open_up(stand, &setup, VISITORS, AGENTS).with_context(what)?;
    shop.chat(SENDS_PER_S);
    let longest = chat_until_all_struck(&mut shop, &notes, ordinals.len())
        .with_context(|| format!("{}{}", what(), shop.logs()))?;
    found.longest = found.longest.max(longest);
    shop.crowd
        .settle(Duration::from_secs(SETTLE_S_MAX))
        .with_context(|| format!("{}{}", what(), shop.logs()))?;
    let stored = check::Stored::read(&shop.system.database())?;
    let report = check::check(&shop.crowd.journal, &stored)
        .into_result()
        .with_context(what)?;
    found.accepted += report.accepted;
    found.struck += ordinals.len();
    drop(shop);
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// The longest time without an acknowledgement until every fault has struck, and people chat again.
fn chat_until_all_struck(shop: &mut Shop, notes: &Path, faults: usize) -> anyhow::Result<Duration> {
    let mut accepted = shop.crowd.tally.accepted;
    let mut since = Instant::now();
    let mut longest = Duration::ZERO;
    let mut goal = None;
    let time_max = Duration::from_secs(STRUCK_S_MAX);
    shop.crowd
        .until("every fault has struck", time_max, |crowd| {
            if crowd.tally.accepted > accepted {
                accepted = crowd.tally.accepted;
                longest = longest.max(since.elapsed());
                since = Instant::now();
            }
            let struck = fs::read_dir(notes).map_or(0, Iterator::count);
            if struck >= faults {
                let goal = goal.get_or_insert(accepted + SENDS_PER_S);
                return accepted >= *goal;
            }
            false
        })?;
    Ok(longest)
}
