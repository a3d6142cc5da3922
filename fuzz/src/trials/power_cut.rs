//! What clients see after a power cut: both processes gone at once, the newest frames of the log gone with them, and
//! another boot of the machine. Nobody can cut the power of the machine that runs a trial, so the database is made to
//! look like that: the log is cut, and the boot that the last backend noted is another.
//! (What a real disk may leave, by thousands of seeds: `cargo test -p tidegate-backend --all-features --test
//! store_loses_power`.)

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use tidegate_backend::store::open::Place;

use super::Stand;
use crate::rig::journal::{Entry, Room};
use crate::rig::{Crowd, Role, Setup, Shop, check};

const VISITORS: u64 = 40;
const AGENTS: u64 = 2;
const SENDS_PER_S: u64 = 300;
const MESSAGES: u64 = 400;
/// The log's header, and one frame: its header and a page.
const HEADER_BYTES: u64 = 32;
const FRAME_BYTES: u64 = 24 + 4096;
/// Of the log's frames so many in a hundred are lost.
const LOST_PERCENT: u64 = 30;
const BACK_S_MAX: u64 = 60;
const SETTLE_S_MAX: u64 = 60;

/// `power-cut`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let lost = normal(stand).context("synchronous = normal")?;
    stand.figure("normal: acknowledged messages that the cut took", lost);
    let kept = full(stand).context("synchronous = full")?;
    stand.figure("full: acknowledged messages, all kept", kept);
    Ok(())
}

/// Some of the newest frames are gone. Everybody is told; how many messages were lost.
fn normal(stand: &mut Stand) -> anyhow::Result<usize> {
    // No checkpoint moves what the cut is to take.
    let setup = Setup::new(&stand.binary, &stand.scratch().join("normal"))
        .with("BACKEND__CHECKPOINT_EVERY_MS", 3_600_000);
    let mut shop = chatted(stand, &setup)?;
    let database = shop.system.database();
    let before = incarnation(&database)?;
    let rooms: usize = shop.crowd.members().map(|member| member.rooms.len()).sum();
    let acknowledged = usize::try_from(shop.crowd.tally.accepted)?;
    cut(&mut shop, LOST_PERCENT)?;
    come_back(&mut shop)?;
    let after = incarnation(&database)?;
    ensure!(before != after, "the incarnation is still {before}");
    let time_max = Duration::from_secs(BACK_S_MAX);
    let Shop { crowd, .. } = &mut shop;
    crowd
        .until("everybody is told of another history", time_max, |crowd| {
            told(crowd).len() >= rooms
        })
        .with_context(|| format!("{} of {rooms} were told", told(crowd).len()))?;
    let stored = check::Stored::read(&database)?;
    ensure!(
        stored.integrity == "ok",
        "integrity_check: {}",
        stored.integrity
    );
    let texts = stored.messages.iter().filter(|row| row.is_text).count();
    stand.figure(
        "normal: conversations of people, each told of another history",
        rooms,
    );
    Ok(acknowledged.saturating_sub(texts))
}

/// Every frame was synchronised before its acknowledgement, so the cut takes none.
fn full(stand: &mut Stand) -> anyhow::Result<u64> {
    let setup = Setup::new(&stand.binary, &stand.scratch().join("full"))
        .with("BACKEND__CHECKPOINT_EVERY_MS", 3_600_000)
        .with("BACKEND__SYNCHRONOUS", "full");
    let mut shop = chatted(stand, &setup)?;
    let before = incarnation(&shop.system.database())?;
    cut(&mut shop, 0)?;
    come_back(&mut shop)?;
    shop.crowd.settle(Duration::from_secs(SETTLE_S_MAX))?;
    let after = incarnation(&shop.system.database())?;
    ensure!(
        before == after,
        "the incarnation changed from {before} to {after}"
    );
    let told = told(&shop.crowd).len();
    ensure!(told == 0, "{told} were told of another history");
    let stored = check::Stored::read(&shop.system.database())?;
    let report = check::check(&shop.crowd.journal, &stored).into_result()?;
    Ok(report.accepted)
}

/// A system in which people have chatted; nothing of the log has been moved since.
fn chatted(stand: &Stand, setup: &Setup) -> anyhow::Result<Shop> {
    let mut shop = Shop::open(stand, setup, VISITORS, AGENTS)?;
    shop.chat(SENDS_PER_S);
    shop.flow(MESSAGES)?;
    Ok(shop)
}

/// Both processes end at once; so much of the log's end is gone; the machine boots anew.
fn cut(shop: &mut Shop, lost_percent: u64) -> anyhow::Result<()> {
    shop.system.kill(Role::Gateway(0))?;
    shop.system.kill(Role::Backend)?;
    shop.crowd.load = None;
    let database = shop.system.database();
    let beside = |suffix: &str| PathBuf::from(format!("{}{suffix}", database.display()));
    let log = File::options().write(true).open(beside("-wal"))?;
    let frames = log.metadata()?.len().saturating_sub(HEADER_BYTES) / FRAME_BYTES;
    ensure!(frames > 100, "the log has only {frames} frames");
    log.set_len(HEADER_BYTES + frames * (100 - lost_percent) / 100 * FRAME_BYTES)?;
    std::fs::remove_file(beside("-shm"))?;
    let noted = place(&database).open_writer()?.execute(
        "UPDATE meta_text SET value = 'another boot' WHERE key = 'boot_id'",
        (),
    )?;
    ensure!(noted == 1, "no boot was noted in the database");
    Ok(())
}

fn come_back(shop: &mut Shop) -> anyhow::Result<()> {
    shop.system.begin(Role::Backend, None)?;
    shop.system.await_ready(Role::Backend)?;
    shop.system.begin(Role::Gateway(0), None)?;
    let time_max = Duration::from_secs(BACK_S_MAX);
    shop.crowd
        .until("all are back", time_max, |crowd| {
            crowd.open() == crowd.len()
        })
        .with_context(|| shop.logs())
}

/// Of whose conversations was it said that they are another history?
fn told(crowd: &Crowd) -> BTreeSet<(u32, Room)> {
    let entries = crowd.journal.entries().iter();
    entries
        .filter_map(|entry| match *entry {
            Entry::Hole {
                member,
                room,
                reset: true,
                ..
            } => Some((member, room)),
            _ => None,
        })
        .collect()
}

fn incarnation(database: &Path) -> anyhow::Result<i64> {
    let query = "SELECT value FROM meta WHERE key = 'incarnation'";
    Ok(place(database)
        .open_reader()?
        .query_row(query, (), |row| row.get(0))?)
}

fn place(database: &Path) -> Place {
    Place {
        path: database.to_owned(),
        vfs: None,
        busy_ms_max: 5_000,
        cache_bytes: 1 << 20,
        mmap_bytes: 0,
    }
}
