//! The loss ledger derived from the rows: it follows marks and removals, and sees what was lost, doubled or counted
//! wrong.

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

use rusqlite::Connection;
use support::{Chat, open};
use tempfile::TempDir;
use tidegate_backend::engine::ledger::{Account, Ledger};
use tidegate_backend::engine::rows::{LedgerRow, MarksRow};
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::{Recount, Store, recount_at};

const fn account(accepted: u64, delivered: u64, pending: u64, expired: u64) -> Account {
    Account {
        accepted,
        delivered,
        pending,
        expired,
    }
}

/// A visitor's three texts, of which the agent's side has two.
fn three_texts(dir: &TempDir) -> Recount {
    let mut store = open(dir);
    let mut chat = Chat::new(1);
    let mut set = chat.begin();
    for text in ["one", "two", "three"] {
        chat.say(&mut set, text);
    }
    store.submit(&set).unwrap();
    let (conversation, seq) = (chat.conversation, chat.seq);
    let ledger = Ledger {
        to_agent: account(3, 2, 1, 0),
        ..Ledger::default()
    };
    store
        .submit(&WriteSet {
            marks: vec![MarksRow {
                site_id: 1,
                conversation,
                visitor_delivered: seq,
                visitor_read: 0,
                agent_delivered: seq - 1,
                agent_read: 0,
            }],
            ledger: Some(LedgerRow {
                site_id: 1,
                at_us: support::NOW_US,
                ledger,
            }),
            ..WriteSet::default()
        })
        .unwrap();
    let found = recount_at(&path(dir)).unwrap();
    assert_eq!(
        found,
        store.recount().unwrap(),
        "a reader beside it sees the same"
    );
    store.close().unwrap();
    found
}

fn path(dir: &TempDir) -> std::path::PathBuf {
    dir.path().join("tidegate.db")
}

fn damage(dir: &TempDir, sql: &str) -> String {
    let changed = Connection::open(path(dir))
        .unwrap()
        .execute(sql, [])
        .unwrap();
    assert!(changed > 0, "{sql}");
    recount_at(&path(dir)).unwrap().check().unwrap_err()
}

#[test]
fn the_rows_say_what_was_delivered_and_what_waits_while_open_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let running = three_texts(&dir);
    assert_eq!(running.ledger.to_agent, account(3, 2, 1, 0));
    assert_eq!(running.ledger.to_visitor, Account::default());
    assert_eq!((running.promised, running.kept), (3, 3));
    running.check().unwrap();
    let files = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .filter(|name| !name.to_string_lossy().ends_with("-shm"))
            .collect();
        names.sort();
        (names, std::fs::read(path(&dir)).unwrap())
    };
    let before = files();
    assert_eq!(recount_at(&path(&dir)).unwrap(), running);
    assert!(
        before.1 == files().1,
        "counting changes no byte of the database"
    );
}

#[test]
fn a_lost_message_a_doubled_one_a_lowered_mark_and_a_wrong_counter_are_seen() {
    for (sql, words) in [
        ("DELETE FROM message WHERE text = 'two'", "promised"),
        (
            "INSERT INTO message SELECT conversation, seq + 100, site_id, at_us, sender_role, sender, session, n,
                 body_hash, content, system, close_reason, sender_name, text, long_text FROM message WHERE text = 'two'",
            "promised",
        ),
        ("UPDATE marks SET agent_delivered = 1", "the rows say"),
        ("DELETE FROM marks", "the rows say"),
        ("UPDATE ledger SET pending_to_agent = 0, delivered_to_agent = 3", "the counters say"),
        ("UPDATE session SET last_n = last_n + 1", "promised"),
        ("DELETE FROM conversation", "promised"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        three_texts(&dir);
        let error = damage(&dir, sql);
        assert!(error.contains(words), "{sql}: {error}");
    }
}

#[test]
fn what_retention_removed_stays_accounted_for() {
    let dir = tempfile::tempdir().unwrap();
    three_texts(&dir);
    let connection = Connection::open(path(&dir)).unwrap();
    connection
        .execute_batch(
            "DELETE FROM message WHERE text IN ('two', 'three');
             INSERT INTO erased SELECT id, 1, 3, 2, 1, 1, 0, 0 FROM conversation;
             UPDATE ledger SET pending_to_agent = 0, expired_to_agent = 1;",
        )
        .unwrap();
    let found = recount_at(&path(&dir)).unwrap();
    assert_eq!(found.ledger.to_agent, account(3, 2, 0, 1));
    found.check().unwrap();
}

#[test]
fn a_place_without_a_database_is_refused_with_the_flag_to_type() {
    let dir = tempfile::tempdir().unwrap();
    let error = recount_at(&path(&dir)).unwrap_err().to_string();
    assert!(error.contains("--data-dir"), "{error}");
    assert!(!path(&dir).exists(), "nothing is made");
}
