//! Databases of every version open; a kill in the middle of a migration costs nothing; a newer one is refused.

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

use std::process::Command;

use rusqlite::Connection;
use support::{Chat, NOW_US, open, options};
use tidegate_backend::store::migrate::{MIGRATIONS, migrate, version};
use tidegate_backend::store::{SqliteStore, Store};

fn newest() -> u32 {
    MIGRATIONS.last().unwrap().version
}

fn schema(dir: &tempfile::TempDir) -> Vec<String> {
    let connection = Connection::open(dir.path().join("tidegate.db")).unwrap();
    let mut statement = connection
        .prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name")
        .unwrap();
    statement
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect()
}

#[test]
fn versions_count_up_by_one_and_have_names() {
    for (place, migration) in MIGRATIONS.iter().enumerate() {
        assert_eq!(migration.version as usize, place + 1);
        let file = format!("migrations/{:04}_{}.sql", migration.version, migration.name);
        assert!(
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(&file)
                .exists(),
            "{file}"
        );
    }
}

#[test]
fn a_database_of_every_version_becomes_the_newest() {
    let fresh = tempfile::tempdir().unwrap();
    open(&fresh).close().unwrap();
    for old in 0..=MIGRATIONS.len() {
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join("tidegate.db")).unwrap();
        migrate(&connection, &MIGRATIONS[..old], NOW_US, &mut |_, _| {}).unwrap();
        assert_eq!(version(&connection).unwrap() as usize, old);
        drop(connection);
        let mut store = open(&dir);
        store.submit(&Chat::new(1).begin()).unwrap();
        store.close().unwrap();
        assert_eq!(schema(&dir), schema(&fresh), "from version {old}");
    }
}

#[test]
fn a_newer_database_is_refused_with_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    open(&dir).close().unwrap();
    let connection = Connection::open(dir.path().join("tidegate.db")).unwrap();
    connection
        .execute(
            "INSERT INTO schema_version (version, name, applied_at_us) VALUES (99, 'tomorrow', 0)",
            [],
        )
        .unwrap();
    drop(connection);
    let error = SqliteStore::open(&options(dir.path()))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("99") && error.contains(&newest().to_string()) && error.contains("newer"),
        "{error}"
    );
    assert!(!error.contains('\n'));
}

/// Run by the test below in a process of its own.
#[test]
#[ignore = "the child of the next test"]
fn child_that_dies_in_a_migration() {
    let Ok(dir) = std::env::var("TIDEGATE_TEST_DIR") else {
        return;
    };
    let (at_version, at_step): (u32, usize) = {
        let point = std::env::var("TIDEGATE_TEST_POINT").unwrap();
        let (version, step) = point.split_once(' ').unwrap();
        (version.parse().unwrap(), step.parse().unwrap())
    };
    let connection = support::place(std::path::Path::new(&dir))
        .open_writer()
        .unwrap();
    migrate(&connection, MIGRATIONS, NOW_US, &mut |version, step| {
        if (version, step) == (at_version, at_step) {
            std::process::abort();
        }
    })
    .unwrap();
}

#[test]
fn a_kill_at_any_statement_of_a_migration_is_safe() {
    // Every point there is, from a run that does not die.
    let mut points = Vec::new();
    let dir = tempfile::tempdir().unwrap();
    let connection = Connection::open(dir.path().join("tidegate.db")).unwrap();
    migrate(&connection, MIGRATIONS, NOW_US, &mut |version, step| {
        points.push((version, step))
    })
    .unwrap();
    assert!(points.len() > 10);
    for (version, step) in points {
        let dir = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_dies_in_a_migration", "--ignored"])
            .env("TIDEGATE_TEST_DIR", dir.path())
            .env("TIDEGATE_TEST_POINT", format!("{version} {step}"))
            .output()
            .unwrap()
            .status;
        assert!(
            !status.success(),
            "the child was to die at {version} {step}"
        );
        let connection = Connection::open(dir.path().join("tidegate.db")).unwrap();
        assert_eq!(
            tidegate_backend::store::migrate::version(&connection).unwrap(),
            version - 1
        );
        drop(connection);
        let mut store = open(&dir);
        store.submit(&Chat::new(1).begin()).unwrap();
        store.close().unwrap();
    }
}
