//! The key that signs tokens: 32 bytes as 64 hex digits in a file of mode 0600, made at the first start.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use tidegate_protocol::token::Key;

use super::random;
use crate::store::StoreError;
use crate::store::data_dir::make_private_dir;

/// Reads the key; makes it if the file is absent. Two starters at once end with the same key.
///
/// # Errors
/// [`StoreError::Refused`] with a sentence: the file cannot be read or written, others may read it, or what it
/// holds is no key.
pub fn load_or_create(path: &Path) -> Result<Key, StoreError> {
    match load(path)? {
        Some(key) => Ok(key),
        None => create(path),
    }
}

/// Reads the key; `None` if there is no file.
///
/// # Errors
/// As [`load_or_create`].
pub fn load(path: &Path) -> Result<Option<Key>, StoreError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(path, &format!("cannot be read ({error})"))),
    };
    let mode = fs::metadata(path)
        .map_err(|error| refuse(path, &error.to_string()))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        return Err(refuse(
            path,
            &format!(
                "may be read by others (mode {:o}): chmod 600 it",
                mode & 0o777
            ),
        ));
    }
    let key = Key::from_hex(&text);
    key.map(Some).ok_or_else(|| {
        refuse(
            path,
            "holds no key: 64 hex digits are expected; remove it to get a new one",
        )
    })
}

fn create(path: &Path) -> Result<Key, StoreError> {
    let mut bytes = [0; 32];
    random::fill(&mut bytes).map_err(|error| refuse(path, &error.to_string()))?;
    keep(path, &Key::new(bytes))
}

/// Puts a key into its file unless one is there; answers the one that is there then.
///
/// # Errors
/// As [`load_or_create`].
pub fn keep(path: &Path, key: &Key) -> Result<Key, StoreError> {
    if let Some(dir) = path.parent()
        && !dir.as_os_str().is_empty()
    {
        make_private_dir(dir)?;
    }
    // Written beside and linked into place: nobody ever reads half a key, and the first of two starters wins.
    let unique = random::u64().map_err(|error| refuse(path, &error.to_string()))?;
    let beside = path.with_extension(format!("new-{unique:016x}"));
    let written = write_beside(&beside, key).and_then(|()| fs::hard_link(&beside, path));
    // Whether the link was made or not, the other name has served.
    let _ = fs::remove_file(&beside);
    match written {
        Ok(()) => Ok(key.clone()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            load(path)?.ok_or_else(|| refuse(path, "appeared and vanished again"))
        }
        Err(error) => Err(refuse(path, &format!("cannot be written ({error})"))),
    }
}

fn write_beside(path: &Path, key: &Key) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{}", key.to_hex())?;
    file.sync_all()
}

fn refuse(path: &Path, what: &str) -> StoreError {
    StoreError::Refused(format!("the token key file {} {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_private_key_and_the_second_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secrets").join("token.key");
        let made = load_or_create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(path.parent().unwrap())
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        assert_eq!(load_or_create(&path).unwrap(), made);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn eight_starters_at_once_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        let keys: Vec<Key> = std::thread::scope(|scope| {
            let starters: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| load_or_create(&path)))
                .collect();
            starters
                .into_iter()
                .map(|starter| starter.join().unwrap().unwrap())
                .collect()
        });
        let kept = load_or_create(&path).unwrap();
        assert!(keys.iter().all(|key| *key == kept));
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn half_a_key_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token.key");
        fs::write(&path, "0123").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("64 hex digits"), "{error}");
    }
}
