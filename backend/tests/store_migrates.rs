//! Databases of every version open; a kill in the middle of a migration costs nothing; a newer one is refused.

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

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
        migrate(&connection, &MIGRATIONS[..old], NOW_US).unwrap();
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

/// The database that a program of that schema left: its SQL, in a directory.
fn fixture(version: u32) -> tempfile::TempDir {
    let path = format!(
        "{}/tests/fixtures/schema_{version:04}.sql",
        env!("CARGO_MANIFEST_DIR")
    );
    let sql = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("each earlier schema needs a fixture: {path}: {error}"));
    let dir = tempfile::tempdir().unwrap();
    let connection = Connection::open(dir.path().join("tidegate.db")).unwrap();
    connection.execute_batch(&sql).unwrap();
    assert_eq!(found_version(&connection), version);
    dir
}

fn found_version(connection: &Connection) -> u32 {
    tidegate_backend::store::migrate::version(connection).unwrap()
}

/// Everything that the fixtures' programs stored is there and means the same.
fn assert_kept(dir: &tempfile::TempDir) {
    let mut store = open(dir);
    assert!(!store.history_may_be_lost());
    let loaded = store.load().unwrap();
    assert_eq!(loaded.incarnation, 4_503_599_627_370);
    assert_eq!(loaded.agents[0].name, "小李");
    let [chat] = &loaded.conversations[..] else {
        panic!("one open chat is expected: {:?}", loaded.conversations);
    };
    assert_eq!((chat.seq, chat.last_text.as_str()), (4, "两罐，谢谢 🍵"));
    assert_eq!((chat.pending.to_visitor, chat.pending.to_agent), (1, 1));
    let (to_agent, to_visitor) = (loaded.ledger.to_agent, loaded.ledger.to_visitor);
    assert_eq!((to_agent.accepted, to_agent.delivered), (3, 2));
    assert_eq!((to_visitor.accepted, to_visitor.delivered), (1, 0));
    let counted = store.recount().unwrap();
    assert_eq!(counted.check(), Ok(()));
    assert_eq!(counted.ledger, loaded.ledger);
    let last = store
        .session(chat.row.visitor, 0x8000_0000_0000_0005)
        .unwrap();
    assert_eq!(last.unwrap().last_n, 2);
    store.submit(&Chat::new(1_000).begin()).unwrap();
    store.close().unwrap();
    let connection = Connection::open(dir.path().join("tidegate.db")).unwrap();
    let verdict: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

#[test]
fn a_database_that_a_program_of_each_earlier_schema_left_opens_with_all_that_was_in_it() {
    let fresh = tempfile::tempdir().unwrap();
    open(&fresh).close().unwrap();
    for version in 1..newest() {
        let dir = fixture(version);
        assert_kept(&dir);
        assert_eq!(schema(&dir), schema(&fresh), "from version {version}");
    }
}

/// Run by the test below in a process of its own.
#[cfg(feature = "fault-points")]
#[test]
#[ignore = "the child of the next test"]
fn child_that_dies_in_a_migration() {
    let Ok(dir) = std::env::var("TIDEGATE_TEST_DIR") else {
        return;
    };
    let options = options(std::path::Path::new(&dir));
    SqliteStore::open(&options).unwrap().close().unwrap();
}

#[cfg(feature = "fault-points")]
#[test]
fn a_kill_at_any_point_of_a_migration_is_safe() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    for before in 0..newest() {
        let mut kills = 0;
        for point in [
            "migrate.before_statement",
            "migrate.before_commit",
            "migrate.after_commit",
        ] {
            // Until a run passes the point less often than that, and so lives.
            for nth in 1.. {
                let dir = match before {
                    0 => tempfile::tempdir().unwrap(),
                    version => fixture(version),
                };
                let status = Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "child_that_dies_in_a_migration", "--ignored"])
                    .env("TIDEGATE_TEST_DIR", dir.path())
                    .env("TIDEGATE_FAULT", format!("{point}:{nth}"))
                    .output()
                    .unwrap()
                    .status;
                let connection = Connection::open(dir.path().join("tidegate.db")).unwrap();
                if status.success() {
                    assert_eq!(found_version(&connection), newest());
                    break;
                }
                assert_eq!(status.signal(), Some(9), "{point}:{nth} from {before}");
                let found = found_version(&connection);
                assert!(found >= before && found <= newest(), "{point}:{nth}");
                drop(connection);
                kills += 1;
                match before {
                    0 => open(&dir).close().unwrap(),
                    _ => assert_kept(&dir),
                }
            }
        }
        let migrations = newest() - before;
        assert!(kills >= 3 * migrations, "only {kills} kills from {before}");
    }
}
