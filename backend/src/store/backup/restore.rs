//! Putting a copy in place.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Part, Snapshot, beside, cannot_write, check_and_mark};
use crate::auth::token_key;
use crate::config::Config;
use crate::store::data_dir::DataDir;
use crate::store::{StoreError, open};

/// Makes a backup the database of a data directory that has none, and its token key that of `token_key`, if one is
/// named. No backend may run there; the next start gives all histories a new incarnation.
///
/// # Errors
/// [`StoreError::Refused`] with a sentence: the directory is in use or has a database, the file is no whole backup or
/// of a newer schema, the key is none or another one is there. Then nothing was put in place.
pub fn restore(
    config: &Config,
    file: &Path,
    token_key: Option<&Path>,
) -> Result<Snapshot, StoreError> {
    open::check_version()?;
    if bytes_beside(file, "-wal").is_some_and(|bytes| bytes > 0) {
        return Err(StoreError::Refused(format!(
            "{} is a database in use, with a log beside it, and no backup: type tidegate backup FILE",
            file.display()
        )));
    }
    let mut from = File::open(file).map_err(|error| {
        StoreError::Refused(format!(
            "cannot read the backup {} ({error})",
            file.display()
        ))
    })?;
    let taken = DataDir::take(&config.data_dir)?;
    let target = taken.database();
    // A log that an earlier database left would be taken for the restored one's.
    if let Some(left) = ["", "-wal", "-journal"]
        .iter()
        .find(|suffix| bytes_beside(&target, suffix).is_some())
    {
        return Err(StoreError::Refused(format!(
            "{}{left} is there: a backup is restored only where no database is; name an empty directory (--data-dir \
             DIRECTORY), or move away all files tidegate.db*",
            target.display()
        )));
    }
    let key = token_key.map(|path| check_key(config, path)).transpose()?;
    let part = Part::create(&target)?;
    fs::OpenOptions::new()
        .write(true)
        .open(&part.path)
        .and_then(|mut to| io::copy(&mut from, &mut to))
        .map_err(|error| cannot_write(&part.path, &error))?;
    let mut snapshot = check_and_mark(&part)?;
    if let Some(key) = key {
        let path = config.token_key_path();
        if token_key::keep(&path, &key)? != key {
            return Err(another_key(&path));
        }
    }
    snapshot.bytes = part.finish()?;
    Ok(snapshot)
}

/// The key that is to be kept, if the directory's own is not another.
fn check_key(config: &Config, path: &Path) -> Result<tidegate_protocol::token::Key, StoreError> {
    let key = token_key::load(path)?.ok_or_else(|| {
        StoreError::Refused(format!("there is no token key file {}", path.display()))
    })?;
    let kept = config.token_key_path();
    match token_key::load(&kept)? {
        Some(own) if own != key => Err(another_key(&kept)),
        _ => Ok(key),
    }
}

fn another_key(path: &Path) -> StoreError {
    StoreError::Refused(format!(
        "the token key file {} is there and holds another key: move it away, or leave --token-key away",
        path.display()
    ))
}

/// Size of the file of that name with a suffix; `None` if there is none.
fn bytes_beside(path: &Path, suffix: &str) -> Option<u64> {
    fs::metadata(beside(path, suffix))
        .ok()
        .map(|found| found.len())
}
