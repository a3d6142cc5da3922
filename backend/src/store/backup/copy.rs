//! Making the copy.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{Part, Snapshot, check_and_mark};
use crate::config::Config;
use crate::store::StoreError;
use crate::store::open::{self, Place};
use crate::store::sqlite::place;

/// One step: 2 MiB at SQLite's page size. Milliseconds of work, then a pause.
const STEP_PAGES: i32 = 512;
/// A pause is as long as the step before it, and at least this: half a core at most is taken from the turn.
const PAUSE_MS_MIN: u64 = 1;
/// Tries of a step that meets a lock; each waits a pause. In WAL mode only a recovery after a kill holds one.
const BUSY_STEPS_MAX: u32 = 5_000;
/// Page cache of either connection: pages pass through once.
const CACHE_KIB: i64 = 4_096;

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Pages copied.
    pub pages: u64,
    /// Pages in all.
    pub pages_all: u64,
}

/// Copies the configuration's database to a file that does not exist yet, with a backend running on it or not.
///
/// # Errors
/// [`StoreError::Refused`] with a sentence: there is no database, the file exists or cannot be written, or what was
/// copied is damaged. Then there is no file of that name.
pub fn backup(
    config: &Config,
    file: &Path,
    tell: &mut dyn FnMut(Progress),
) -> Result<Snapshot, StoreError> {
    backup_of(&place(config), file, tell)
}

/// The same for the database at a place.
///
/// # Errors
/// As [`backup`].
pub fn backup_of(
    place: &Place,
    file: &Path,
    tell: &mut dyn FnMut(Progress),
) -> Result<Snapshot, StoreError> {
    backup_by(place, file, |source, to| copy(source, to, tell))
}

/// The same by another way of copying: into a file that is there and empty.
///
/// # Errors
/// As [`backup`], and the way's own.
pub fn backup_by(
    place: &Place,
    file: &Path,
    copy: impl FnOnce(&Connection, &mut Connection) -> Result<(), StoreError>,
) -> Result<Snapshot, StoreError> {
    open::check_version()?;
    if !place.path.exists() {
        return Err(StoreError::Refused(format!(
            "there is no database at {}: name the data directory, --data-dir DIRECTORY",
            place.path.display()
        )));
    }
    let source = place.open_reader()?;
    let part = Part::create(file)?;
    let mut target = Connection::open(&part.path)?;
    // A copy that is broken off is removed: it needs no journal, and is synchronised once, at its end.
    target.pragma_update(None, "journal_mode", "OFF")?;
    target.pragma_update(None, "synchronous", "OFF")?;
    target.pragma_update(None, "cache_size", -CACHE_KIB)?;
    copy(&source, &mut target)?;
    target.close().map_err(|(_, error)| error)?;
    // The snapshot is given back before the check, which may take as long again.
    drop(source);
    let mut snapshot = check_and_mark(&part)?;
    snapshot.bytes = part.finish()?;
    Ok(snapshot)
}

fn copy(
    source: &Connection,
    target: &mut Connection,
    tell: &mut dyn FnMut(Progress),
) -> Result<(), StoreError> {
    source.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let snapshot = source.unchecked_transaction()?;
    // A transaction holds its state from its first read on; without one every foreign commit starts the copy anew.
    let _rows: i64 =
        snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let copying = Backup::new(&snapshot, target)?;
    let mut busy = 0;
    loop {
        let began = Instant::now();
        let step = copying.step(STEP_PAGES)?;
        let progress = copying.progress();
        let pages_all = u64::try_from(progress.pagecount).unwrap_or(0);
        let left = u64::try_from(progress.remaining).unwrap_or(0);
        tell(Progress {
            pages: pages_all.saturating_sub(left),
            pages_all,
        });
        match step {
            StepResult::Done => break,
            StepResult::More => busy = 0,
            _ if busy < BUSY_STEPS_MAX => busy += 1,
            _ => {
                return Err(StoreError::Busy(
                    "another process keeps it locked; try again".to_owned(),
                ));
            }
        }
        thread::sleep(began.elapsed().max(Duration::from_millis(PAUSE_MS_MIN)));
    }
    Ok(())
}
