//! After an fsync that failed.
//!
//! Linux then counts the pages as clean: they can be read as long as they stay in memory, they may never have reached
//! the disk, and no later fsync writes them. Whoever went on would find transactions in the log that a power cut takes
//! away again, out of its middle: acknowledged and lost, or moved into the database in part. So whoever sees an fsync
//! fail notes it beside the database and ends; the next start writes the whole log again, byte for byte, and
//! synchronises it, before SQLite reads any of it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::StoreError;
use super::open::{Place, beside};
#[cfg(feature = "simulation")]
use super::vfs::simulated;

const NOTE: &str = "-unsynced";
const LOG: &str = "-wal";
const CHUNK_BYTES: usize = 1 << 20;

/// Notes that an fsync of the database or its log failed.
pub fn note(place: &Place) {
    let path = beside(&place.path, NOTE);
    if let Err(error) = create(place, &path) {
        tracing::error!(%error, note = %path.display(), "an fsync failed, and that cannot be noted");
    }
}

/// Writes the log again if an fsync was noted to have failed. To be called before the database is opened.
///
/// # Errors
/// The disk still fails.
pub fn mend(place: &Place) -> Result<(), StoreError> {
    let note = beside(&place.path, NOTE);
    if !exists(place, &note) {
        return Ok(());
    }
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
        .and_then(|_| remove(place, &note));
    mended.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull => StoreError::Full(format!(
            "{} cannot be written again ({error}): make room on that disk",
            log.display()
        )),
        _ => StoreError::Failed(format!(
            "{} cannot be written again after a failed fsync ({error}): look at the disk (`dmesg`)",
            log.display()
        )),
    })
}

/// Is the database on a disk of the simulator?
#[cfg(feature = "simulation")]
fn is_simulated(place: &Place) -> bool {
    place.vfs.as_deref() == Some(simulated::VFS)
}

fn create(place: &Place, path: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if is_simulated(place) {
        return simulated::create(path);
    }
    let _only_simulated_ones_differ = place;
    File::create(path)?.sync_all()
}

fn exists(place: &Place, path: &Path) -> bool {
    #[cfg(feature = "simulation")]
    if is_simulated(place) {
        return simulated::exists(path);
    }
    let _only_simulated_ones_differ = place;
    path.exists()
}

fn remove(place: &Place, path: &Path) -> io::Result<()> {
    #[cfg(feature = "simulation")]
    if is_simulated(place) {
        return simulated::remove(path);
    }
    let _only_simulated_ones_differ = place;
    fs::remove_file(path)
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
    use super::*;

    #[test]
    fn a_log_is_written_again_as_it_was_and_the_note_goes() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place {
            path: dir.path().join("tidegate.db"),
            vfs: None,
            busy_ms_max: 1,
            cache_bytes: 1 << 20,
            mmap_bytes: 0,
        };
        let log = dir.path().join("tidegate.db-wal");
        let bytes: Vec<u8> = (0..3 * CHUNK_BYTES + 17)
            .map(|at| at.to_le_bytes()[0])
            .collect();
        fs::write(&log, &bytes).unwrap();
        mend(&place).unwrap();
        note(&place);
        assert!(dir.path().join("tidegate.db-unsynced").exists());
        mend(&place).unwrap();
        assert_eq!(fs::read(&log).unwrap(), bytes);
        assert!(!dir.path().join("tidegate.db-unsynced").exists());
        // Without a log there is nothing to write.
        fs::remove_file(&log).unwrap();
        note(&place);
        mend(&place).unwrap();
    }
}
