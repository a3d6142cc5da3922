//! Each of the store's first 200 writes and syncs fails once: no room, an error of the device, somebody else's lock.
//! Nothing is acknowledged that is not stored; the next commit goes through, at once or after a new start; and what was
//! acknowledged survives a power cut that follows. A part of the ordinals, or all: `TIDEGATE_EVERY_FAULT=1`.

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

use std::path::Path;

use support::{Chat, options};
use tidegate_backend::config::Synchronous;
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::vfs::{Crash, Failure, Fault, Operation, SimulatedDisk};
use tidegate_backend::store::{SqliteStore, Store, StoreOptions};

const ORDINALS: u64 = 200;
/// Every how many of them without being asked for all.
const STRIDE: usize = 9;
/// Starts that one fault may cost.
const STARTS_MAX: u64 = 3;

struct Life {
    disk: SimulatedDisk,
    store: Option<SqliteStore>,
    starts: u64,
}

impl Life {
    /// As the supervisor does it: starts until a start succeeds.
    fn store(&mut self) -> &mut SqliteStore {
        while self.store.is_none() {
            self.starts += 1;
            let base = options(Path::new(""));
            let options = self.disk.options(StoreOptions {
                synchronous: Synchronous::Full,
                ..base
            });
            match SqliteStore::open(&options) {
                Ok(store) => self.store = Some(store),
                Err(_) => self.disk.crash(Crash::Process),
            }
            assert!(self.starts <= 1 + STARTS_MAX, "it never starts");
        }
        self.store.as_mut().unwrap()
    }

    fn end(&mut self, crash: Crash) {
        self.disk.crash(crash);
        self.store = None;
    }

    /// The newest seq, all below being there.
    fn newest(&mut self, chat: &Chat) -> u64 {
        let mut seqs = Vec::new();
        self.store()
            .walk_back(chat.conversation, 10_000, &mut |_, _, _, sent| {
                seqs.push(sent.seq)
            })
            .unwrap();
        seqs.reverse();
        assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
        seqs.len() as u64
    }
}

/// Commits until the fault has struck, and a little more; then the power is cut.
fn story(operation: Operation, failure: Failure, nth: u64) {
    let disk = SimulatedDisk::new(nth);
    disk.fail(Fault::once(operation, nth, failure));
    let mut life = Life {
        disk,
        store: None,
        starts: 0,
    };
    let mut chat = Chat::new(1);
    let mut after = 0;
    while after < 3 {
        let mut set = if chat.seq == 0 {
            chat.begin()
        } else {
            WriteSet::default()
        };
        for _ in 0..=nth % 3 {
            chat.say(&mut set, &"x".repeat(900));
        }
        commit(&mut life, &set, &chat);
        after += u64::from(life.disk.counts().failed > 0);
        if chat.seq.is_multiple_of(7) && life.store().checkpoint().is_err() {
            life.end(Crash::Process);
        }
        assert!(chat.seq < 2_000, "it never strikes");
    }
    life.end(Crash::Power);
    life.store();
    life.disk.check_integrity().unwrap();
    assert_eq!(life.newest(&chat), chat.seq, "acknowledged and gone");
}

/// As the turn does it: again at once where the failure passes; else a new start, which looks what is there.
fn commit(life: &mut Life, set: &WriteSet, chat: &Chat) {
    for _ in 0..=STARTS_MAX {
        match life.store().submit(set) {
            Ok(_) => return,
            Err(error) if error.passes() => {}
            Err(_) => {
                life.end(Crash::Process);
                if life.newest(chat) == chat.seq {
                    return;
                }
            }
        }
    }
    panic!("it is refused again and again");
}

fn every(operation: Operation, failure: Failure) {
    let stride = match std::env::var_os("TIDEGATE_EVERY_FAULT") {
        Some(_) => 1,
        None => STRIDE,
    };
    for nth in (1..=ORDINALS).step_by(stride) {
        println!("{operation:?} {nth}: {failure:?}");
        story(operation, failure, nth);
    }
}

macro_rules! faults {
    ($($test:ident $operation:ident $failure:ident;)*) => {
        $(#[test] fn $test() { every(Operation::$operation, Failure::$failure); })*
    };
}

faults! {
    a_write_without_room_is_a_retry_and_never_an_acknowledgement Write Full;
    a_write_that_fails_is_a_retry_and_never_an_acknowledgement Write Io;
    a_write_that_has_to_wait_is_a_retry_and_never_an_acknowledgement Write Busy;
    a_sync_without_room_is_a_new_start_and_never_an_acknowledgement Sync Full;
    a_sync_that_fails_is_a_new_start_and_never_an_acknowledgement Sync Io;
    a_sync_that_has_to_wait_is_a_retry_and_never_an_acknowledgement Sync Busy;
}
