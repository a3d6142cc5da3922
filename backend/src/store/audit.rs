//! What the database itself says, for those who check it from outside: read-only, beside a running owner or alone.

use std::path::Path;

use tidegate_protocol::Id;

use super::StoreError;
use super::open::Place;

/// Nothing writes here for longer.
const BUSY_MS_MAX: u64 = 30_000;
const CACHE_BYTES: u64 = 8 << 20;

/// A message as its row says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// Which.
    pub conversation: Id,
    /// Its place there.
    pub seq: u64,
    /// With `n` its id; 0 = it has none.
    pub session: u64,
    /// Counts up by one.
    pub n: u64,
    /// A person wrote it.
    pub is_text: bool,
    /// What was written.
    pub text: String,
}

/// SQLite's own opinion: `ok`, or what is wrong.
///
/// # Errors
/// If the file can't be opened or read.
pub fn integrity(database: &Path) -> Result<String, StoreError> {
    let connection = place(database).open_reader()?;
    let mut statement = connection.prepare("PRAGMA integrity_check")?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    Ok(lines.collect::<Result<Vec<_>, _>>()?.join("; "))
}

/// Every message, by conversation and seq, as of one moment.
///
/// # Errors
/// If the file can't be opened or read.
pub fn messages(database: &Path) -> Result<Vec<MessageRow>, StoreError> {
    let connection = place(database).open_reader()?;
    let mut statement = connection.prepare(
        "SELECT conversation, seq, session, n, content, text FROM whole_message ORDER BY conversation, seq",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(MessageRow {
            conversation: Id(u128::from_be_bytes(row.get(0)?)),
            seq: row.get::<_, i64>(1)?.cast_unsigned(),
            session: row.get::<_, i64>(2)?.cast_unsigned(),
            n: row.get::<_, i64>(3)?.cast_unsigned(),
            is_text: row.get::<_, i64>(4)? == 0,
            text: row.get(5)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn place(database: &Path) -> Place {
    Place {
        path: database.to_owned(),
        vfs: None,
        busy_ms_max: BUSY_MS_MAX,
        cache_bytes: CACHE_BYTES,
        mmap_bytes: 0,
    }
}
