//! Who only looks into the database moves nothing of its log: neither on the platform's files nor on a simulated disk,
//! and above all not after a failed fsync, before the next start has mended it. (Seed 170 of the simulator: a disk
//! that let a reader lock and write had the recount that stands before each start move a log with holes into the
//! database, in part; the power cut that followed left an index and its table of different commits.)

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

use std::path::Path;

use support::{Chat, open, options};
use tempfile::TempDir;
use tidegate_backend::config::Synchronous;
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::recount::recount_in;
use tidegate_backend::store::vfs::{Crash, Failure, Fault, Operation, SimulatedDisk};
use tidegate_backend::store::{CommitError, SqliteStore, Store, StoreOptions, recount_at};

const SEEDS: u64 = 60;

fn on(disk: &SimulatedDisk, synchronous: Synchronous) -> StoreOptions {
    disk.options(StoreOptions {
        synchronous,
        ..options(Path::new(""))
    })
}

fn say_some(store: &mut SqliteStore, chat: &mut Chat, texts: u64) {
    for _ in 0..texts {
        let mut set = match chat.seq {
            0 => chat.begin(),
            _ => WriteSet::default(),
        };
        chat.say(&mut set, &"x".repeat(2_000));
        store.submit(&set).unwrap();
    }
}

#[test]
fn a_recount_after_a_kill_leaves_the_log_of_the_platforms_files_as_it_is() {
    let dir = TempDir::new().unwrap();
    let mut store = open(&dir);
    say_some(&mut store, &mut Chat::new(1), 5);
    drop(store);
    let files = ["tidegate.db", "tidegate.db-wal"].map(|name| dir.path().join(name));
    let read = || files.clone().map(|file| std::fs::read(file).unwrap());
    let before = read();
    assert!(before[1].len() > 5 * 4096, "the log holds what was said");
    recount_at(&files[0]).unwrap();
    assert_eq!(read(), before);
}

#[test]
fn a_recount_after_a_kill_leaves_the_log_of_a_simulated_disk_as_it_is() {
    let disk = SimulatedDisk::new(1);
    let mut store = SqliteStore::open(&on(&disk, Synchronous::Normal)).unwrap();
    say_some(&mut store, &mut Chat::new(1), 5);
    disk.crash(Crash::Process);
    drop(store);
    let (log_bytes, counts) = (disk.log_bytes(), disk.counts());
    recount_in(&on(&disk, Synchronous::Normal).place).unwrap();
    assert_eq!(disk.log_bytes(), log_bytes);
    assert_eq!(disk.counts().writes, counts.writes);
    assert_eq!(disk.counts().syncs, counts.syncs);
}

#[test]
fn who_looks_after_a_failed_fsync_does_no_harm() {
    for seed in 0..SEEDS {
        let disk = SimulatedDisk::new(seed);
        let mut chat = Chat::new(1);
        let mut store = SqliteStore::open(&on(&disk, Synchronous::Normal)).unwrap();
        say_some(&mut store, &mut chat, 1);
        store.checkpoint().unwrap();
        say_some(&mut store, &mut chat, 8);
        disk.fail(Fault::once(Operation::Sync, 1, Failure::Io));
        store.checkpoint().expect_err("the log is not synchronised");
        let error = store.submit(&WriteSet {
            visitors: chat.begin().visitors,
            ..WriteSet::default()
        });
        assert!(matches!(error, Err(CommitError::Unsynced(_))), "{error:?}");
        disk.crash(Crash::Process);
        drop(store);
        // Whatever it does, it does not get to its end.
        disk.fail(Fault {
            nth: 1 + seed % 9,
            ..Fault::lasting(Operation::Write, Failure::Full)
        });
        recount_in(&on(&disk, Synchronous::Normal).place).unwrap();
        disk.crash(Crash::Power);
        disk.heal();
        let store = SqliteStore::open(&on(&disk, Synchronous::Normal))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        disk.check_integrity()
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        drop(store);
    }
}
