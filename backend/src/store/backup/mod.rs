//! A copy of the database, made while it is being written, and put back somewhere else.
//!
//! **Made.** [`backup`] runs in a process of its own with a connection that only reads. One read transaction holds one
//! commit's state for the whole copy, so it begins once however much is written meanwhile; the pages go over in steps
//! with pauses between them, so that a turn on the same disk and the same cores is not kept waiting. The price is that
//! the write-ahead log can't begin anew until the copy is done: it grows by what is written meanwhile.
//!
//! **Whole or not there.** The copy is made under another name, checked, synchronised, and linked to its name, which
//! must be free: a kill leaves a `.part` file and never half a backup.
//!
//! **A copy knows that it is one.** Its `meta` says so, and the first owner to open it gives all histories a new
//! incarnation: between the copy and the loss of its original clients were told things that the copy has not.
//!
//! What is not in it: `secrets/token.key`. Copies go where a key that can sign any token should not; who restores
//! elsewhere brings it along, or everybody's tokens are void.

mod copy;
mod restore;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

pub use copy::{Progress, backup, backup_by, backup_of};
pub use restore::restore;

use super::StoreError;
use super::migrate::{self, MIGRATIONS};
use super::open::beside;
use super::recount::{Recount, recount};
use super::sqlite::{meta_value, own_meta};
use crate::engine::rows::meta;

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Version of its schema.
    pub schema_version: u32,
    /// Incarnation of the histories that were copied; the copy's own is made at its first start.
    pub incarnation: u64,
    /// The loss ledger at this commit; `None` for a schema of another version, which this program can't count.
    pub counted: Option<Recount>,
}

/// The name that a copy has until it is whole.
#[must_use]
pub fn unfinished(target: &Path) -> PathBuf {
    beside(target, ".part")
}

/// Makes a copy go on as its original did: who opens it next is not told that it is one. For what is replayed into it.
///
/// # Errors
/// The database's.
pub fn unmark(copy: &Path) -> Result<(), StoreError> {
    let connection = Connection::open(copy)?;
    connection.execute("DELETE FROM meta WHERE key = ?1", [own_meta::COPIED])?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}

/// A file on its way to its name.
struct Part {
    path: PathBuf,
    target: PathBuf,
}

impl Part {
    /// Makes the file, for nobody else to read.
    fn create(target: &Path) -> Result<Self, StoreError> {
        if fs::symlink_metadata(target).is_ok() {
            return Err(in_the_way(target));
        }
        let path = unfinished(target);
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        match made {
            Ok(_) => Ok(Self {
                path,
                target: target.to_owned(),
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(StoreError::Refused(format!(
                    "{} is there: another backup runs, or was killed; when none runs, remove the file",
                    path.display()
                )))
            }
            Err(error) => Err(cannot_write(&path, &error)),
        }
    }

    /// Gives it its name. Whoever sees the name sees all of the file, also after a loss of power.
    fn finish(self) -> Result<u64, StoreError> {
        let linked = File::open(&self.path)
            .and_then(|file| {
                file.sync_all()?;
                file.metadata()
            })
            .and_then(|found| fs::hard_link(&self.path, &self.target).map(|()| found.len()));
        let bytes = linked.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => in_the_way(&self.target),
            _ => cannot_write(&self.target, &error),
        })?;
        let directory = self
            .target
            .parent()
            .filter(|path| !path.as_os_str().is_empty());
        fs::remove_file(&self.path)
            .and_then(|()| File::open(directory.unwrap_or(Path::new(".")))?.sync_all())
            .map_err(|error| cannot_write(&self.target, &error))?;
        std::mem::forget(self);
        Ok(bytes)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // A copy that failed is worth nothing; what SQLite left beside it neither.
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let _ = fs::remove_file(beside(&self.path, suffix));
        }
    }
}

fn in_the_way(path: &Path) -> StoreError {
    StoreError::Refused(format!(
        "{} exists and is not overwritten: name another file, or move it away",
        path.display()
    ))
}

fn cannot_write(path: &Path, error: &io::Error) -> StoreError {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => ": make its directory first",
        io::ErrorKind::PermissionDenied => ": this user may not write there",
        io::ErrorKind::StorageFull => ": the disk is full",
        _ => "",
    };
    StoreError::Refused(format!("cannot write {} ({error}){advice}", path.display()))
}

/// Checks a copy from end to end, writes into it that it is one, and tells what it holds. It becomes a single file,
/// without a write-ahead log beside it.
fn check_and_mark(part: &Part) -> Result<Snapshot, StoreError> {
    let damaged = |what: &str| {
        StoreError::Refused(format!(
            "the copy of the database is damaged ({what}): the original is as well; put back an older backup"
        ))
    };
    let connection = Connection::open(&part.path)?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let newest = MIGRATIONS.last().map_or(0, |migration| migration.version);
    let schema_version = migrate::version(&connection)?;
    if schema_version == 0 {
        return Err(StoreError::Refused(
            "there is no Tidegate database: the file is empty".to_owned(),
        ));
    }
    if schema_version > newest {
        return Err(migrate::newer(schema_version, newest));
    }
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(damaged(&verdict));
    }
    connection.execute(
        "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, 1)",
        [own_meta::COPIED],
    )?;
    let counted = if schema_version == newest {
        Some(recount(&connection)?)
    } else {
        None
    };
    let incarnation = meta_value(&connection, meta::INCARNATION)?.unwrap_or(0);
    connection.close().map_err(|(_, error)| error)?;
    Ok(Snapshot {
        file: part.target.clone(),
        bytes: 0,
        schema_version,
        incarnation,
        counted,
    })
}
