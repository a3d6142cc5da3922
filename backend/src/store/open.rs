//! Connections: how each kind is opened, and the oldest SQLite that is good enough.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{StoreError, log_file};
use crate::config::Synchronous;

/// The oldest SQLite that is used: older ones could lose committed transactions when a checkpoint that empties the
/// log meets a writer.
pub const SQLITE_VERSION_MIN: i32 = 3_051_003;
/// Prepared statements kept per connection.
const STATEMENTS_CACHED_MAX: usize = 64;

/// Where a database is and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// VFS by name; `None`: the platform's. The simulator registers its own.
    pub vfs: Option<String>,
    /// How long a statement waits for a lock.
    pub busy_ms_max: u64,
    /// Page cache of a connection.
    pub cache_bytes: u64,
    /// Part of the file that is memory-mapped; 0 = none.
    pub mmap_bytes: u64,
}

/// Is the SQLite that this binary carries new enough?
///
/// # Errors
/// A sentence with both versions.
pub fn check_version() -> Result<(), StoreError> {
    let found = rusqlite::version_number();
    if found < SQLITE_VERSION_MIN {
        return Err(StoreError::Refused(format!(
            "this binary carries SQLite {} and 3.51.3 or newer is needed: build it with the bundled one",
            rusqlite::version()
        )));
    }
    Ok(())
}

/// The file of that name with a suffix: SQLite's and ours lie beside the database.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

impl Place {
    fn open(&self, flags: OpenFlags, vfs: Option<&str>) -> Result<Connection, StoreError> {
        // A connection never crosses threads while it works: SQLite's own mutexes would only cost.
        let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match vfs {
            Some(vfs) => Connection::open_with_flags_and_vfs(&self.path, flags, vfs),
            None => Connection::open_with_flags(&self.path, flags),
        }
        .map_err(|error| cannot_open(&self.path, &error))?;
        connection.busy_timeout(Duration::from_millis(self.busy_ms_max))?;
        // Otherwise SQLite looks at the value of `LIMIT ?` when it plans, and so plans such a statement anew each time.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_CACHED_MAX);
        let cache_kib = i64::try_from(self.cache_bytes / 1024).unwrap_or(i64::MAX);
        connection.pragma_update(None, "cache_size", -cache_kib)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    }

    /// The connection that writes: log instead of journal, one write for a commit ([`log_file`]), and never a
    /// checkpoint inside a commit.
    ///
    /// # Errors
    /// If the file cannot be opened, or the log is refused (a network file system), or the disk fails.
    pub fn open_writer(&self) -> Result<Connection, StoreError> {
        let vfs = match &self.vfs {
            Some(vfs) => vfs,
            None => log_file::registered_name()?,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let connection = self.open(flags, Some(vfs))?;
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if !mode.eq_ignore_ascii_case("wal") {
            return Err(StoreError::Refused(format!(
                "SQLite cannot keep a write-ahead log at {} (it answers \"{mode}\"): put data_dir on a local disk",
                self.path.display()
            )));
        }
        // The answer comes before the switch is committed, and nobody says whether that went well. A log that is not
        // there has -1 frames; only who has read knows whether it is there.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        let frames: i64 =
            connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1))?;
        if frames < 0 {
            return Err(StoreError::Unsynced(format!(
                "the switch to a write-ahead log did not reach {}",
                self.path.display()
            )));
        }
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        set_synchronous(&connection, Synchronous::Full)?;
        Ok(connection)
    }

    /// The checkpointer's.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open_checkpointer(&self) -> Result<Connection, StoreError> {
        let connection = self.open(OpenFlags::SQLITE_OPEN_READ_WRITE, self.vfs.as_deref())?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        set_synchronous(&connection, Synchronous::Full)?;
        Ok(connection)
    }

    /// A connection that can only read.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open_reader(&self) -> Result<Connection, StoreError> {
        let connection = self.open(OpenFlags::SQLITE_OPEN_READ_ONLY, self.vfs.as_deref())?;
        connection.pragma_update(None, "query_only", true)?;
        connection.pragma_update(None, "mmap_size", self.mmap_bytes.cast_signed())?;
        Ok(connection)
    }
}

/// What a commit on this connection waits for.
///
/// # Errors
/// The database's.
pub fn set_synchronous(
    connection: &Connection,
    synchronous: Synchronous,
) -> Result<(), StoreError> {
    let value = match synchronous {
        Synchronous::Normal => "NORMAL",
        Synchronous::Full => "FULL",
    };
    connection.pragma_update(None, "synchronous", value)?;
    Ok(())
}

/// May closing move the log into the database and remove it? Not while what is on disk may be unknown ([`super::resync`]).
///
/// # Errors
/// The database's.
pub fn checkpoint_on_close(connection: &Connection, may: bool) -> Result<(), StoreError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !may)?;
    Ok(())
}

fn cannot_open(path: &Path, error: &rusqlite::Error) -> StoreError {
    StoreError::Refused(format!(
        "cannot open the database {} ({error}): it must be a file that this user may write",
        path.display()
    ))
}

/// Memory that SQLite holds in this process, bytes: caches of pages, prepared statements. It grows up to
/// `writer_cache_bytes` and the readers' shares as pages are touched, whoever sends what.
#[must_use]
pub fn library_bytes() -> u64 {
    #[expect(unsafe_code, reason = "a counter of the C library")]
    // SAFETY: it reads a counter, from any thread (sqlite.org/c3ref/memory_highwater.html).
    let bytes = unsafe { rusqlite::ffi::sqlite3_memory_used() };
    u64::try_from(bytes).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_sqlite_is_new_enough() {
        check_version().unwrap();
    }

    #[test]
    fn the_writer_keeps_a_log_never_checkpoints_by_itself_and_waits_for_what_it_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            path: dir.path().join("x.db"),
            vfs: None,
            busy_ms_max: 1,
            cache_bytes: 1 << 20,
            mmap_bytes: 0,
        };
        let connection = place.open_writer().unwrap();
        let text = |name: &str| -> String {
            connection
                .pragma_query_value(None, name, |row| row.get(0))
                .unwrap()
        };
        let number = |name: &str| -> i64 {
            connection
                .pragma_query_value(None, name, |row| row.get(0))
                .unwrap()
        };
        assert_eq!(text("journal_mode"), "wal");
        assert_eq!(number("wal_autocheckpoint"), 0);
        assert_eq!(number("synchronous"), 2);
        set_synchronous(&connection, Synchronous::Normal).unwrap();
        assert_eq!(number("synchronous"), 1);
    }
}
