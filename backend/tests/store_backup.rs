//! A copy made while messages are being written is one commit's state, whole, private, and never over something else;
//! where it is restored, clients are told.

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;
use support::{Chat, config, open, options};
use tidegate_backend::auth::token_key;
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::backup::{backup, restore};
use tidegate_backend::store::data_dir::DataDir;
use tidegate_backend::store::migrate::MIGRATIONS;
use tidegate_backend::store::{SqliteStore, Store, StoreOptions};

fn incarnation(store: &mut SqliteStore) -> u64 {
    store.load().unwrap().incarnation
}

/// Names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_copy_made_under_load_is_one_commits_state_and_its_ledger_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("chats.backup");
    let mut store = SqliteStore::open(&StoreOptions {
        checkpoint_every_ms: 5,
        wal_bytes_max: 1 << 20,
        ..options(dir.path())
    })
    .unwrap();
    let mut chats: Vec<Chat> = (1..=20).map(Chat::new).collect();
    for chat in &chats {
        store.submit(&chat.begin()).unwrap();
    }
    // Each commit gives every chat one message: in any commit's state all have the same number.
    let rounds = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    let (first, snapshot) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let mut set = WriteSet::default();
                let mut sessions = Vec::new();
                for chat in &mut chats {
                    chat.say(&mut set, &"长".repeat(200));
                    sessions.append(&mut set.sessions);
                }
                set.sessions = sessions;
                while let Err(error) = store.submit(&set) {
                    assert!(error.passes(), "{error}");
                }
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        support::until("there is something to copy", || {
            assert!(!writer.is_finished());
            rounds.load(Ordering::Relaxed) >= 300
        });
        let first = rounds.load(Ordering::Relaxed);
        let mut steps = 0;
        let made = backup(&config(&dir), &file, &mut |_| {
            steps += 1;
            // The writer goes on in the middle of the copy.
            let now = rounds.load(Ordering::Relaxed);
            support::until("the writer went on", || {
                rounds.load(Ordering::Relaxed) > now
            });
        });
        done.store(true, Ordering::Relaxed);
        assert!(steps > 1, "the copy went in {steps} steps");
        (first, made.unwrap())
    });
    let before = incarnation(&mut store);
    store.close().unwrap();

    assert_eq!(names(elsewhere.path()), ["chats.backup"]);
    let found = fs::metadata(&file).unwrap();
    assert_eq!(found.permissions().mode() & 0o777, 0o600);
    assert_eq!(found.len(), snapshot.bytes);
    assert_eq!(snapshot.incarnation, before);
    let counted = snapshot.counted.unwrap();
    counted.check().unwrap();
    let accepted = counted.ledger.total().accepted;
    let copied = accepted / 20;
    assert_eq!(accepted % 20, 0, "half a commit was copied");
    assert!(copied >= first && copied < rounds.load(Ordering::Relaxed));

    let restored = tempfile::tempdir().unwrap();
    let again = restore(&config(&restored), &file, None).unwrap();
    assert_eq!(again.counted, Some(counted));
    let mut store = open(&restored);
    assert!(store.history_may_be_lost());
    let loaded = store.load().unwrap();
    assert_ne!(loaded.incarnation, before);
    assert!(loaded.incarnation < 1 << 53);
    assert_eq!(loaded.conversations.len(), 20);
    assert!(loaded.conversations.iter().all(|chat| chat.seq == copied));
    // Only the first start tells of it.
    store.close().unwrap();
    let mut store = open(&restored);
    assert!(!store.history_may_be_lost());
    assert_eq!(incarnation(&mut store), loaded.incarnation);
}

#[test]
fn a_file_that_is_there_is_not_overwritten_and_a_backup_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("b");
    let refusal = |file: &Path| {
        backup(&config(&dir), file, &mut |_| {})
            .unwrap_err()
            .to_string()
    };
    assert!(refusal(&file).contains("there is no database"));
    open(&dir).close().unwrap();
    fs::write(&file, "mine").unwrap();
    let error = refusal(&file);
    assert!(error.contains("not overwritten"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let error = refusal(&elsewhere.path().join("absent").join("b"));
    assert!(error.contains("make its directory"), "{error}");
    assert_eq!(names(elsewhere.path()), ["b"]);
    // A copy that a kill left is not taken for one that runs, nor removed behind its back.
    fs::write(elsewhere.path().join("c.part"), "half").unwrap();
    let error = refusal(&elsewhere.path().join("c"));
    assert!(
        error.contains("c.part") && error.contains("remove"),
        "{error}"
    );
}

#[test]
fn a_closed_database_is_copied_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    let mut set = chat.begin();
    chat.say(&mut set, "您好");
    store.submit(&set).unwrap();
    store.close().unwrap();
    let file = elsewhere.path().join("b");
    let snapshot = backup(&config(&dir), &file, &mut |_| {}).unwrap();
    assert_eq!(snapshot.counted.unwrap().ledger.total().pending, 1);
    // And it is a database that any SQLite opens, in one file.
    let text: String = Connection::open(&file)
        .unwrap()
        .query_row("SELECT text FROM message", [], |row| row.get(0))
        .unwrap();
    assert_eq!(text, "您好");
}

#[test]
fn a_restore_touches_nothing_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    open(&dir).close().unwrap();
    let file = elsewhere.path().join("b");
    backup(&config(&dir), &file, &mut |_| {}).unwrap();
    let refusal = |target: &tempfile::TempDir, file: &Path| {
        restore(&config(target), file, None)
            .unwrap_err()
            .to_string()
    };

    let error = refusal(&dir, &file);
    assert!(
        error.contains("tidegate.db is there") && error.contains("--data-dir"),
        "{error}"
    );
    // A log without its database would be taken for the restored one's.
    let target = tempfile::tempdir().unwrap();
    fs::write(target.path().join("tidegate.db-wal"), "frames").unwrap();
    let error = refusal(&target, &file);
    assert!(error.contains("tidegate.db-wal is there"), "{error}");

    let running = tempfile::tempdir().unwrap();
    let _owner = DataDir::take(running.path()).unwrap();
    let error = refusal(&running, &file);
    assert!(error.contains("already uses"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    for (content, words) in [
        (&b""[..], "empty"),
        (&b"no database, for all its bytes"[..], "no SQLite database"),
    ] {
        let bad = elsewhere.path().join("bad");
        fs::write(&bad, content).unwrap();
        let error = refusal(&empty, &bad);
        assert!(error.contains(words), "{error}");
        assert!(!empty.path().join("tidegate.db").exists());
    }
    // A live database is more than its main file.
    let live = tempfile::tempdir().unwrap();
    let mut store = open(&live);
    store.submit(&Chat::new(1).begin()).unwrap();
    let error = refusal(&empty, &live.path().join("tidegate.db"));
    assert!(error.contains("tidegate backup"), "{error}");
}

#[test]
fn a_page_that_went_bad_is_found_and_nothing_is_put_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    let mut set = chat.begin();
    for _ in 0..200 {
        chat.say(&mut set, &"长".repeat(100));
    }
    store.submit(&set).unwrap();
    store.close().unwrap();
    let file = elsewhere.path().join("b");
    backup(&config(&dir), &file, &mut |_| {}).unwrap();
    let mut bytes = fs::read(&file).unwrap();
    let pages = bytes.len() / 4_096;
    // A page of the tree of messages, which are most of the file.
    let at = pages / 2 * 4_096;
    bytes[at..at + 4_096].fill(0xa5);
    fs::write(&file, bytes).unwrap();
    let target = tempfile::tempdir().unwrap();
    let error = restore(&config(&target), &file, None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("damaged"), "{error}");
    assert!(
        names(target.path())
            .iter()
            .all(|name| !name.starts_with("tidegate.db"))
    );
}

#[test]
fn a_backup_of_a_newer_schema_is_refused_where_it_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    open(&dir).close().unwrap();
    let file = elsewhere.path().join("b");
    backup(&config(&dir), &file, &mut |_| {}).unwrap();
    Connection::open(&file)
        .unwrap()
        .execute("INSERT INTO schema_version VALUES (99, 'tomorrow', 0)", [])
        .unwrap();
    let target = tempfile::tempdir().unwrap();
    let error = restore(&config(&target), &file, None)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("99") && error.contains(&MIGRATIONS.len().to_string()),
        "{error}"
    );
}

#[test]
fn a_restore_brings_the_token_key_along_but_never_over_another() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    open(&dir).close().unwrap();
    let key = token_key::load_or_create(&config(&dir).token_key_path()).unwrap();
    let file = elsewhere.path().join("b");
    backup(&config(&dir), &file, &mut |_| {}).unwrap();
    let bytes = fs::read(&file).unwrap();
    let hex = key.to_hex();
    assert!(
        !bytes.windows(hex.len()).any(|part| part == hex.as_bytes()),
        "the key is in the backup"
    );

    let kept = elsewhere.path().join("token.key");
    fs::copy(config(&dir).token_key_path(), &kept).unwrap();
    let target = tempfile::tempdir().unwrap();
    restore(&config(&target), &file, Some(&kept)).unwrap();
    let restored = token_key::load(&config(&target).token_key_path()).unwrap();
    assert!(restored.unwrap() == key);

    let other = tempfile::tempdir().unwrap();
    token_key::load_or_create(&config(&other).token_key_path()).unwrap();
    let error = restore(&config(&other), &file, Some(&kept))
        .unwrap_err()
        .to_string();
    assert!(error.contains("holds another key"), "{error}");
    assert!(!other.path().join("tidegate.db").exists());
}
