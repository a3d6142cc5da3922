//! The real store on disks that lose what was not synchronised, by many seeds: what `synchronous = full` and
//! `normal` promise holds, and the same test finds a disk that only says that it synchronised.

mod support;

use std::path::Path;

use support::{Chat, options};
use tidegate_backend::config::Synchronous;
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::vfs::{Crash, Failure, Fault, Operation, SimulatedDisk};
use tidegate_backend::store::{CommitError, SqliteStore, Store, StoreOptions};

/// Disks per test; `TIDEGATE_SEEDS` asks for more.
const SEEDS: u64 = 60;
/// Lives of the store on each disk.
const LIVES: u64 = 4;

fn seeds() -> u64 {
    std::env::var("TIDEGATE_SEEDS").map_or(SEEDS, |seeds| {
        seeds.parse().expect("TIDEGATE_SEEDS is a number")
    })
}

/// Small numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, ways: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % ways
    }
}

fn on(disk: &SimulatedDisk, synchronous: Synchronous, life: u64) -> StoreOptions {
    let base = options(Path::new(""));
    disk.options(StoreOptions {
        synchronous,
        random: (life + 1) << 40,
        ..base
    })
}

/// What the database says: the newest seq, having checked that nothing is missing below it.
fn newest(store: &mut SqliteStore, chat: &Chat) -> Result<u64, String> {
    let mut stored = Vec::new();
    store
        .walk_back(chat.conversation, 100_000, &mut |_, _, n, sent| {
            stored.push((n, sent.seq))
        })
        .map_err(|error| error.to_string())?;
    stored.reverse();
    let newest = stored.len() as u64;
    match stored == (1..=newest).map(|seq| (seq, seq)).collect::<Vec<_>>() {
        true => Ok(newest),
        false => Err(format!("the messages are not 1 to {newest}: {stored:?}")),
    }
}

struct Told {
    /// Lives that began with a new incarnation although one was there.
    incarnations: u64,
    /// Acknowledged messages that were gone.
    lost: u64,
}

/// Some lives of a store; each ends in a crash, sometimes inside a commit or a checkpoint.
fn story(
    disk: &SimulatedDisk,
    seed: u64,
    synchronous: Synchronous,
    crash: Crash,
) -> Result<Told, String> {
    let mut dice = Dice(seed);
    let mut chat = Chat::new(1);
    let mut told = Told {
        incarnations: 0,
        lost: 0,
    };
    let mut acknowledged = 0;
    for life in 0..LIVES {
        let mut store = SqliteStore::open(&on(disk, synchronous, life))
            .map_err(|error| format!("life {life}: {error}"))?;
        disk.check_integrity()
            .map_err(|error| format!("life {life}: {error}"))?;
        told.incarnations += u64::from(store.history_may_be_lost());
        let found = newest(&mut store, &chat)?;
        told.lost += u64::saturating_sub(acknowledged, found);
        chat.seq = found;
        acknowledged = found;
        if dice.below(3) == 0 {
            disk.fail(Fault {
                nth: 1 + dice.below(40),
                ..Fault::lasting(Operation::Write, Failure::Io)
            });
        }
        for _ in 0..dice.below(25) {
            let mut set = match chat.seq {
                0 => chat.begin(),
                _ => WriteSet::default(),
            };
            let before = chat.clone();
            for _ in 0..=dice.below(4) {
                let length = usize::try_from(dice.below(3) * dice.below(3_000)).expect("small");
                chat.say(&mut set, &"字".repeat(length / 3 + 1));
            }
            match store.submit(&set) {
                Ok(_) => acknowledged = chat.seq,
                Err(error) if error.passes() => chat = before,
                Err(error) => return Err(format!("life {life}: {error}")),
            }
            if dice.below(8) == 0 {
                // May fail on the planted fault.
                let _ = store.checkpoint();
            }
        }
        disk.crash(crash);
        disk.heal();
        drop(store);
    }
    Ok(told)
}

#[test]
fn under_full_every_acknowledged_transaction_survives_a_power_cut_and_no_incarnation_changes() {
    for seed in 0..seeds() {
        let disk = SimulatedDisk::new(seed);
        let told = story(&disk, seed, Synchronous::Full, Crash::Power)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((told.lost, told.incarnations), (0, 0), "seed {seed}");
    }
}

#[test]
fn under_normal_a_power_cut_leaves_a_sound_prefix_and_a_new_incarnation_each_time() {
    let mut lost = 0;
    for seed in 0..seeds() {
        let disk = SimulatedDisk::new(seed);
        let told = story(&disk, seed, Synchronous::Normal, Crash::Power)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(told.incarnations, LIVES - 1, "seed {seed}");
        lost += told.lost;
    }
    assert!(
        lost > 0,
        "these power cuts took nothing: they prove nothing"
    );
}

#[test]
fn under_normal_a_killed_process_loses_nothing_and_no_incarnation_changes() {
    for seed in 0..seeds() {
        let disk = SimulatedDisk::new(seed);
        let told = story(&disk, seed, Synchronous::Normal, Crash::Process)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!((told.lost, told.incarnations), (0, 0), "seed {seed}");
    }
}

#[test]
fn a_disk_that_only_says_that_it_synchronised_is_found_out() {
    let caught = (0..seeds())
        .filter(|seed| {
            let disk = SimulatedDisk::lying(*seed);
            !matches!(story(&disk, *seed, Synchronous::Full, Crash::Power), Ok(told) if told.lost == 0)
        })
        .count() as u64;
    assert!(caught > seeds() / 3, "{caught} of {}", seeds());
}

#[test]
fn the_same_seed_leaves_the_same_disk() {
    let outcome = |seed| {
        let disk = SimulatedDisk::new(seed);
        let told = story(&disk, seed, Synchronous::Normal, Crash::Power).unwrap();
        (
            told.lost,
            told.incarnations,
            disk.counts(),
            disk.log_bytes(),
        )
    };
    for seed in 0..20 {
        assert_eq!(outcome(seed), outcome(seed), "seed {seed}");
    }
}

#[test]
fn faults_of_the_disk_are_refusals_that_pass_or_do_not_and_nothing_of_them_is_stored() {
    for (operation, failure, passes) in [
        (Operation::Write, Failure::Full, true),
        (Operation::Write, Failure::Io, true),
        (Operation::Write, Failure::Busy, true),
        (Operation::Lock, Failure::Busy, true),
        (Operation::Sync, Failure::Io, false),
    ] {
        let disk = SimulatedDisk::new(1);
        let mut store = SqliteStore::open(&on(&disk, Synchronous::Full, 0)).unwrap();
        let mut chat = Chat::new(1);
        let mut set = chat.begin();
        chat.say(&mut set, "once");
        disk.fail(Fault::lasting(operation, failure));
        for _ in 0..3 {
            let error = store.submit(&set).expect_err("it fails");
            assert_eq!(error.passes(), passes, "{operation:?} {failure:?}: {error}");
            if !passes {
                break;
            }
            assert_eq!(newest(&mut store, &Chat::new(1)), Ok(0));
        }
        disk.heal();
        if passes {
            store.submit(&set).unwrap();
            assert_eq!(newest(&mut store, &Chat::new(1)), Ok(1));
        }
    }
}

#[test]
fn what_a_start_has_seen_after_a_failed_fsync_is_there_after_a_power_cut_too() {
    let mut seen_again = 0;
    for seed in 0..seeds() {
        let disk = SimulatedDisk::new(seed);
        let mut store = SqliteStore::open(&on(&disk, Synchronous::Full, 0)).unwrap();
        let mut chat = Chat::new(1);
        let mut set = chat.begin();
        chat.say(&mut set, "answered by nobody yet");
        disk.fail(Fault::once(Operation::Sync, 1, Failure::Io));
        let error = store.submit(&set).expect_err("the sync fails");
        assert!(
            matches!(error, CommitError::Unsynced(_)),
            "seed {seed}: {error}"
        );
        disk.crash(Crash::Process);
        drop(store);
        // The page cache shows the transaction: the next process answers its repeat as a duplicate, stored.
        let mut store = SqliteStore::open(&on(&disk, Synchronous::Full, 1)).unwrap();
        let seen = newest(&mut store, &chat).unwrap();
        seen_again += seen;
        disk.crash(Crash::Power);
        drop(store);
        let mut store = SqliteStore::open(&on(&disk, Synchronous::Full, 2)).unwrap();
        assert_eq!(newest(&mut store, &chat), Ok(seen), "seed {seed}");
    }
    assert!(
        seen_again > 0,
        "no failed commit was ever seen again: this proves nothing"
    );
}

#[test]
fn a_failed_fsync_is_noted_on_a_full_disk_too() {
    for seed in 0..seeds() {
        let disk = SimulatedDisk::new(seed);
        let mut store = SqliteStore::open(&on(&disk, Synchronous::Full, 0)).unwrap();
        let mut chat = Chat::new(1);
        let mut set = chat.begin();
        chat.say(&mut set, "the last for which there was room");
        disk.fail(Fault::once(Operation::Sync, 1, Failure::Full));
        disk.fail(Fault {
            nth: writes_of(&set) + 1,
            ..Fault::lasting(Operation::Write, Failure::Full)
        });
        let error = store.submit(&set).expect_err("the sync fails");
        assert!(
            matches!(error, CommitError::Unsynced(_)),
            "seed {seed}: {error}"
        );
        disk.crash(Crash::Process);
        disk.heal();
        drop(store);
        let mut store = SqliteStore::open(&on(&disk, Synchronous::Full, 1)).unwrap();
        let seen = newest(&mut store, &chat).unwrap();
        disk.crash(Crash::Power);
        drop(store);
        let mut store = SqliteStore::open(&on(&disk, Synchronous::Full, 2)).unwrap();
        assert_eq!(newest(&mut store, &chat), Ok(seen), "seed {seed}");
    }
}

/// How many writes the commit of a first set takes.
fn writes_of(set: &WriteSet) -> u64 {
    let disk = SimulatedDisk::new(0);
    let mut store =
        SqliteStore::open(&on(&disk, Synchronous::Full, 0)).expect("a disk without faults");
    let before = disk.counts().writes;
    store.submit(set).expect("a disk without faults");
    disk.counts().writes - before
}

#[test]
fn the_dead_of_an_earlier_life_change_nothing() {
    let disk = SimulatedDisk::new(1);
    let mut chat = Chat::new(1);
    let mut dead = SqliteStore::open(&on(&disk, Synchronous::Full, 0)).unwrap();
    let mut set = chat.begin();
    chat.say(&mut set, "kept");
    dead.submit(&set).unwrap();
    let path_before = disk.data_dir();
    disk.crash(Crash::Process);
    assert_ne!(disk.data_dir(), path_before);
    let mut store = SqliteStore::open(&on(&disk, Synchronous::Full, 1)).unwrap();
    let mut set = WriteSet::default();
    chat.say(&mut set, "from the grave");
    assert!(matches!(dead.submit(&set), Err(CommitError::Broken(_))));
    drop(dead);
    assert_eq!(newest(&mut store, &chat), Ok(1));
    store.submit(&set).unwrap();
    disk.check_integrity().unwrap();
}

#[test]
fn each_thread_has_its_own_disk() {
    std::thread::scope(|scope| {
        for seed in 0..4 {
            scope.spawn(move || {
                let disk = SimulatedDisk::new(seed);
                story(&disk, seed, Synchronous::Full, Crash::Power).unwrap();
            });
        }
    });
}
