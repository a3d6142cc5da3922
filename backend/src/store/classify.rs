//! What an error of SQLite means for whoever asked: does it pass, and what should a person do.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use super::{CommitError, StoreError};

/// The rule of DESIGN §8: busy, full and a failed write pass; anything else, above all a failed fsync, does not. What
/// the disk does is no fault of what was submitted.
pub fn commit_error(error: &rusqlite::Error) -> CommitError {
    let text = error.to_string();
    let Some(failure) = error.sqlite_error() else {
        return CommitError::Fatal(text);
    };
    match failure.code {
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => CommitError::Busy(text),
        ErrorCode::DiskFull => CommitError::Full(text),
        // Growing the log's index also writes; it fails this way on a full disk.
        ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE => {
            CommitError::Full(text)
        }
        ErrorCode::SystemIoFailure if failure.extended_code == ffi::SQLITE_IOERR_WRITE => {
            CommitError::Io(text)
        }
        ErrorCode::SystemIoFailure if is_sync(failure.extended_code) => CommitError::Unsynced(text),
        ErrorCode::SystemIoFailure
        | ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::OutOfMemory
        | ErrorCode::FileLockingProtocolFailed => CommitError::Broken(text),
        _ => CommitError::Fatal(text),
    }
}

/// For reading and opening: a sentence that says what to do where there is something to do.
pub fn store_error(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(format!(
            "another program holds tidegate.db ({error}): end it (`fuser tidegate.db` names it)"
        )),
        Some(ErrorCode::DiskFull) => full(error),
        Some(ErrorCode::SystemIoFailure)
            if error.sqlite_error().map(|failure| failure.extended_code)
                == Some(ffi::SQLITE_IOERR_SHMSIZE) =>
        {
            full(error)
        }
        Some(ErrorCode::SystemIoFailure)
            if error
                .sqlite_error()
                .is_some_and(|failure| is_sync(failure.extended_code)) =>
        {
            StoreError::Unsynced(error.to_string())
        }
        Some(ErrorCode::NotADatabase) => StoreError::Refused(
            "the file tidegate.db is no SQLite database: name another data_dir, or put back a backup".to_owned(),
        ),
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Refused(format!(
            "the database is damaged ({error}): put back a backup, or save what can be read with \
             `sqlite3 tidegate.db .recover | sqlite3 saved.db`"
        )),
        _ => StoreError::Failed(error.to_string()),
    }
}

const fn is_sync(extended_code: i32) -> bool {
    matches!(
        extended_code,
        ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC
    )
}

fn full(error: &rusqlite::Error) -> StoreError {
    StoreError::Full(format!(
        "the disk of tidegate.db is full ({error}): make room on it"
    ))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        store_error(&error)
    }
}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        commit_error(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(extended_code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(extended_code), None)
    }

    #[test]
    fn busy_full_and_a_failed_write_pass() {
        for (code, expected) in [
            (ffi::SQLITE_BUSY, "locked"),
            (ffi::SQLITE_LOCKED, "locked"),
            (ffi::SQLITE_FULL, "full"),
            (ffi::SQLITE_IOERR_SHMSIZE, "full"),
            (ffi::SQLITE_IOERR_WRITE, "writing"),
        ] {
            let error = commit_error(&failed(code));
            assert!(error.passes(), "{code}: {error}");
            assert!(error.to_string().contains(expected), "{code}: {error}");
        }
    }

    #[test]
    fn what_the_disk_does_is_blamed_on_no_input() {
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_NOMEM,
        ] {
            let error = commit_error(&failed(code));
            assert!(
                matches!(error, CommitError::Broken(_) | CommitError::Unsynced(_)),
                "{code}: {error}"
            );
        }
        let constraint = commit_error(&failed(ffi::SQLITE_CONSTRAINT_PRIMARYKEY));
        assert!(matches!(constraint, CommitError::Fatal(_)), "{constraint}");
    }

    #[test]
    fn a_full_disk_passes_also_for_a_start() {
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            let error = store_error(&failed(code));
            assert!(
                error.passes() && error.to_string().contains("make room"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_failed_fsync_damage_and_constraints_do_not_pass() {
        for code in [
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_IOERR_DIR_FSYNC,
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_CORRUPT,
            ffi::SQLITE_CONSTRAINT_PRIMARYKEY,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
            ffi::SQLITE_NOMEM,
        ] {
            assert!(!commit_error(&failed(code)).passes(), "{code}");
        }
    }
}
