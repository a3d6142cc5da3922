//! The schema's versions. Each migration is one transaction, its row in `schema_version` included: a kill in the
//! middle leaves the version before. The files are never changed once released; the next one is appended, and the
//! version before it gets a fixture (`tests/fixtures/schema_NNNN.sql`).
//!
//! Named points for `TIDEGATE_FAULT`: `migrate.before_statement`, `migrate.before_commit`, `migrate.after_commit`.

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::StoreError;

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// 1, 2, 3 …
    pub version: u32,
    /// The file's name without number.
    pub name: &'static str,
    /// Statements.
    pub sql: &'static str,
}

/// All of them, oldest first.
pub const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "chat",
        sql: include_str!("../../migrations/0001_chat.sql"),
    },
    Migration {
        version: 2,
        name: "canned_replies",
        sql: include_str!("../../migrations/0002_canned_replies.sql"),
    },
    Migration {
        version: 3,
        name: "ledger",
        sql: include_str!("../../migrations/0003_ledger.sql"),
    },
    Migration {
        version: 4,
        name: "long_texts",
        sql: include_str!("../../migrations/0004_long_texts.sql"),
    },
];

/// "TIDE": says that a file is ours (`PRAGMA application_id`).
pub const APPLICATION_ID: i32 = 0x5449_4445;

const VERSION_TABLE: &str = "CREATE TABLE schema_version (
    version       INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL,
    applied_at_us INTEGER NOT NULL
) STRICT";

/// Brings the database to the newest version.
///
/// # Errors
/// [`StoreError::Refused`] for a database of a newer version or of another program; otherwise the database's error.
pub fn migrate(
    connection: &Connection,
    migrations: &[Migration],
    now_us: u64,
) -> Result<u32, StoreError> {
    let newest = migrations.last().map_or(0, |migration| migration.version);
    let found = version(connection)?;
    if found > newest {
        return Err(newer(found, newest));
    }
    for migration in migrations
        .iter()
        .filter(|migration| migration.version > found)
    {
        let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
        // Another starter cannot have come first (the data directory is locked), but a command might.
        if version(connection)? >= migration.version {
            continue;
        }
        if migration.version == 1 {
            connection.execute_batch(VERSION_TABLE)?;
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        let mut statements = Batch::new(connection, migration.sql);
        while let Some(mut statement) = statements.next()? {
            shm_bus::fault::point("migrate.before_statement");
            statement.execute([])?;
        }
        connection.execute(
            "INSERT INTO schema_version (version, name, applied_at_us) VALUES (?1, ?2, ?3)",
            (migration.version, migration.name, now_us.cast_signed()),
        )?;
        shm_bus::fault::point("migrate.before_commit");
        transaction.commit()?;
        shm_bus::fault::point("migrate.after_commit");
        tracing::info!(
            version = migration.version,
            name = migration.name,
            "schema migrated"
        );
    }
    Ok(newest)
}

/// Why a database of a newer version is left alone.
pub(super) fn newer(found: u32, newest: u32) -> StoreError {
    StoreError::Refused(format!(
        "the database has schema version {found} and this tidegate knows up to {newest}: start the newer tidegate \
         that wrote it, or put back the backup from before"
    ))
}

/// The version of a database; 0 for an empty one.
///
/// # Errors
/// [`StoreError::Refused`] if it holds another program's tables.
pub fn version(connection: &Connection) -> Result<u32, StoreError> {
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(0);
    }
    let application_id: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let ours: Option<i64> = connection
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'schema_version'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if application_id != APPLICATION_ID || ours.is_none() {
        return Err(StoreError::Refused(
            "the file tidegate.db was made by another program: set another data_dir".to_owned(),
        ));
    }
    let version = connection.query_row(
        "SELECT coalesce(max(version), 0) FROM schema_version",
        [],
        |row| row.get(0),
    )?;
    Ok(version)
}
