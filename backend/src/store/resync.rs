//! After an fsync that failed.
//!
//! Linux then counts the pages as clean: they can be read as long as they stay in memory, they may never have reached
//! the disk, and no later fsync writes them. Whoever went on would find transactions in the log that a power cut takes
//! away again, out of its middle: acknowledged and lost, or moved into the database in part. So whoever sees an fsync
//! fail notes it beside the database and ends; the next start writes the whole log again, byte for byte, and
//! synchronises it, before SQLite reads any of it.
//!
//! A disk whose fsync fails may well be full, too. So the note is a byte of a file that every start has ready before
//! anything else is written: to change it needs no room and no device. It has to outlast the process, not the machine:
//! after a power cut the medium is all there is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::StoreError;
use super::open::{Place, beside};
#[cfg(feature = "simulation")]
use super::vfs::simulated;

const NOTE: &str = "-unsynced";
const LOG: &str = "-wal";
/// What the note says: no fsync failed. Anything else, nothing too: one did.
const NONE_FAILED: &[u8] = b"0";
const ONE_FAILED: &[u8] = b"1";
const CHUNK_BYTES: usize = 1 << 20;

/// Notes that an fsync of the database or its log failed.
pub fn note(place: &Place) {
    let path = beside(&place.path, NOTE);
    if let Err(error) = overwrite(place, &path, ONE_FAILED) {
        tracing::error!(%error, note = %path.display(), "an fsync failed, and that cannot be noted");
    }
}

/// Writes the log again if an fsync was noted to have failed, and has the note ready for the next one. To be called
/// before the database is opened.
///
/// # Errors
/// The disk still fails.
pub fn mend(place: &Place) -> Result<(), StoreError> {
    let note = beside(&place.path, NOTE);
    let found = read(place, &note).map_err(|error| cannot_keep(&note, &error))?;
    match found.as_deref() {
        Some(NONE_FAILED) => Ok(()),
        None => create(place, &note, NONE_FAILED).map_err(|error| cannot_keep(&note, &error)),
        Some(_) => write_again(place, &note),
    }
}

fn write_again(place: &Place, note: &Path) -> Result<(), StoreError> {
    let log = beside(&place.path, LOG);
    tracing::warn!(log = %log.display(), "an fsync failed under the last backend: writing the log again");
    // Without a log the database is new, or was closed in order: then it is the file whose fsync failed, and it is
    // small, or was synchronised before. With a log, the next checkpoint writes again
    // what earlier ones had moved.
    let mended = rewrite(place, &log)
        .and_then(|any| {
            if any {
                Ok(true)
            } else {
                rewrite(place, &place.path)
            }
        })
        .and_then(|_| overwrite(place, note, NONE_FAILED));
    mended.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => StoreError::Full(format!(
            "{} cannot be written again ({error}): make room on that disk",
            log.display()
        )),
        _ => StoreError::Failed(format!(
            "{} cannot be written again after a failed fsync ({error}): look at the disk (`dmesg`), and until this has \
             started open the database with nothing that writes (`sqlite3 -readonly` does not)",
            log.display()
        )),
    })
}

fn cannot_keep(note: &Path, error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull => StoreError::Full(format!(
            "{} cannot be made ({error}): make room on that disk",
            note.display()
        )),
        _ => StoreError::Failed(format!(
            "{} cannot be made or read ({error}): it must be a file that this user may write",
            note.display()
        )),
    }
}

/// Is the database on a disk of the simulator?
#[cfg(feature = "simulation")]
fn is_simulated(place: &Place) -> bool {
    place.vfs.as_deref() == Some(simulated::VFS)
}

/// A small file; `None`: there is none.
fn read(place: &Place, path: &Path) -> io::Result<Option<Vec<u8>>> {
    #[cfg(feature = "simulation")]
    if is_simulated(place) {
        return simulated::read(path);
    }
    let _only_simulated_ones_differ = place;
    match std::fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Makes a file and synchronises it: from then on it has its room.
fn create(place: &Place, path: &Path, bytes: &[u8]) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if is_simulated(place) {
        return simulated::create(path, bytes);
    }
    let _only_simulated_ones_differ = place;
    let file = File::create(path)?;
    file.write_all_at(bytes, 0)?;
    file.sync_all()
}

/// Writes over what a file has; whoever reads it sees that, whether it reaches the disk or not.
fn overwrite(place: &Place, path: &Path, bytes: &[u8]) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if is_simulated(place) {
        return simulated::overwrite(path, bytes);
    }
    let _only_simulated_ones_differ = place;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    file.write_all_at(bytes, 0)
}

/// Writes every byte of a file where it is, and synchronises it; whether there were any.
fn rewrite(place: &Place, path: &Path) -> io::Result<bool> {
    #[cfg(feature = "simulation")]
    if is_simulated(place) {
        return simulated::rewrite(path);
    }
    let _only_simulated_ones_differ = place;
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let bytes = file.read_at(&mut chunk, offset)?;
        if bytes == 0 {
            file.sync_all()?;
            return Ok(offset > 0);
        }
        file.write_all_at(&chunk[..bytes], offset)?;
        offset += bytes as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn place(dir: &TempDir) -> Place {
        Place {
            path: dir.path().join("tidegate.db"),
            vfs: None,
            busy_ms_max: 1,
            cache_bytes: 1 << 20,
            mmap_bytes: 0,
        }
    }

    fn noted(dir: &TempDir) -> Vec<u8> {
        fs::read(dir.path().join("tidegate.db-unsynced")).unwrap()
    }

    #[test]
    fn a_log_is_written_again_as_it_was_and_the_note_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let place = place(&dir);
        let log = dir.path().join("tidegate.db-wal");
        let bytes: Vec<u8> = (0..3 * CHUNK_BYTES + 17)
            .map(|at| at.to_le_bytes()[0])
            .collect();
        fs::write(&log, &bytes).unwrap();
        mend(&place).unwrap();
        assert_eq!(noted(&dir), NONE_FAILED);
        note(&place);
        assert_eq!(noted(&dir), ONE_FAILED);
        mend(&place).unwrap();
        assert_eq!(fs::read(&log).unwrap(), bytes);
        assert_eq!(noted(&dir), NONE_FAILED);
        // Without a log there is nothing to write.
        fs::remove_file(&log).unwrap();
        note(&place);
        mend(&place).unwrap();
        assert_eq!(noted(&dir), NONE_FAILED);
    }

    #[test]
    fn an_empty_note_as_earlier_versions_left_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("tidegate.db-unsynced"), "").unwrap();
        mend(&place(&dir)).unwrap();
        assert_eq!(noted(&dir), NONE_FAILED);
    }
}
