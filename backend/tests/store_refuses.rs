//! Databases that cannot be used, or not at this moment: each says so, in a sentence, and loses nothing.

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

use support::{Chat, open, options};
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::{CommitError, SqliteStore, Store, StoreError, StoreOptions};

#[test]
fn a_database_locked_by_another_process_is_busy_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let other = rusqlite::Connection::open(dir.path().join("tidegate.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let set = Chat::new(1).begin();
    let error = store.submit(&set).unwrap_err();
    assert!(
        matches!(error, CommitError::Busy(_)) && error.passes(),
        "{error}"
    );
    other.execute_batch("ROLLBACK").unwrap();
    store.submit(&set).unwrap();
}

#[test]
fn a_start_waits_for_who_looks_into_the_database_at_that_moment() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).close().unwrap();
    let other = rusqlite::Connection::open(dir.path().join("tidegate.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut options = options(dir.path());
    options.place.busy_ms_max = 1;
    let opening = std::thread::spawn(move || SqliteStore::open(&options).map(drop));
    // Far longer than the turn would wait.
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!opening.is_finished(), "it waits");
    other.execute_batch("ROLLBACK").unwrap();
    opening.join().unwrap().unwrap();
}

#[test]
fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("tidegate.db"),
        "this is a diary, not a database; it is longer than a header".repeat(20),
    )
    .unwrap();
    let error = SqliteStore::open(&options(dir.path()))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("no SQLite database") && error.contains("data_dir"),
        "{error}"
    );
}

#[test]
fn another_programs_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let other = rusqlite::Connection::open(dir.path().join("tidegate.db")).unwrap();
    other
        .execute_batch("CREATE TABLE recipes (name TEXT)")
        .unwrap();
    drop(other);
    let error = SqliteStore::open(&options(dir.path()))
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("another program"), "{error}");
}

#[test]
fn a_damaged_database_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    store.submit(&chat.begin()).unwrap();
    for _ in 0..20 {
        let mut set = WriteSet::default();
        for _ in 0..50 {
            chat.say(&mut set, &"x".repeat(200));
        }
        store.submit(&set).unwrap();
    }
    store.close().unwrap();
    let path = dir.path().join("tidegate.db");
    let bytes = fs::metadata(&path).unwrap().len();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for page in (bytes / 4096 / 3)..(bytes / 4096) {
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&[0xa5; 512]).unwrap();
    }
    drop(file);
    let error = match SqliteStore::open(&options(dir.path())) {
        Err(error) => error,
        Ok(mut store) => store.load().unwrap_err(),
    };
    assert!(matches!(&error, StoreError::Refused(_)), "{error:?}");
    let error = error.to_string();
    assert!(
        error.contains("damaged") && error.contains("backup"),
        "{error}"
    );
}

#[test]
fn an_unknown_vfs_is_refused_and_a_known_one_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut named = options(dir.path());
    named.place.vfs = Some("no-such-vfs".to_owned());
    assert!(SqliteStore::open(&named).is_err());
    named.place.vfs = Some("unix-excl".to_owned());
    let mut store = SqliteStore::open(&named).unwrap();
    store.submit(&Chat::new(1).begin()).unwrap();
}

#[test]
fn a_full_disk_refuses_and_heals() {
    const NAME: &str = "a_full_disk_refuses_and_heals";
    if let Ok(dir) = std::env::var("TIDEGATE_TEST_TINY_DISK") {
        return fill(std::path::Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    // A file system of 4 MiB of this test's own, in a mount namespace of its own.
    let script =
        "mount -t tmpfs -o size=4m tmpfs \"$1\" || exit 77; exec \"$2\" --exact \"$3\" --nocapture";
    let status = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
        ])
        .arg(dir.path())
        .arg(std::env::current_exe().unwrap())
        .arg(NAME)
        .env("TIDEGATE_TEST_TINY_DISK", dir.path())
        .status();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => {}
        Ok(Some(77 | 1)) | Err(_) => {
            eprintln!("skipped: this machine lets nobody mount a tmpfs in a namespace")
        }
        other => panic!("{other:?}"),
    }
}

fn fill(dir: &std::path::Path) {
    let mut store = SqliteStore::open(&StoreOptions { ..options(dir) }).unwrap();
    let mut chat = Chat::new(1);
    store.submit(&chat.begin()).unwrap();
    let ballast = dir.join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let mut refused = None;
    while refused.is_none() {
        let mut set = WriteSet::default();
        for _ in 0..100 {
            chat.say(&mut set, &"x".repeat(500));
        }
        match store.submit(&set) {
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(error, CommitError::Full(_)), "{error}");
                assert!(
                    matches!(store.submit(&set), Err(CommitError::Full(_))),
                    "it is still full"
                );
                refused = Some(set);
            }
        }
    }
    // Room again: the very set that was refused is stored, whole and once.
    fs::remove_file(ballast).unwrap();
    store.submit(&refused.unwrap()).unwrap();
    assert_eq!(store.load().unwrap().conversations[0].seq, chat.seq);
    println!("healed");
}
