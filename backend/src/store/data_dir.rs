//! The data directory: made with safe modes, owned by one backend at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::StoreError;

/// The database's file.
pub const DATABASE: &str = "tidegate.db";
/// Locked for as long as a backend (or a command that changes the database) lives; says who holds it.
const LOCK: &str = "backend.lock";
/// Bytes of the lock file that are read at most.
const LOCK_BYTES_MAX: u64 = 1024;
/// Between two looks whether the lock is free.
const HELD_LOOK_EVERY: Duration = Duration::from_millis(20);

/// The directory while this process owns it. The lock dies with the process, however it dies.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

/// What the owner of a data directory wrote into its lock file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owner {
    /// Process.
    pub pid: Option<u32>,
    /// Address of its HTTP, once it listens: `127.0.0.1:8600`.
    pub http: Option<String>,
}

impl DataDir {
    /// Makes the directory if need be, and takes it.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with a sentence if it cannot be made or written, or if another process has it.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        Self::take_within(path, Duration::ZERO)
    }

    /// As [`Self::take`], but waits while another process has it, at most for so long. A command that works on the files
    /// because no backend answers (`tidegate agent add`) has it for some milliseconds: a backend that is being started
    /// again just then must not take that for a mistake of the settings, with which no start is tried again.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub fn take_within(path: &Path, patience: Duration) -> Result<Self, StoreError> {
        make_private_dir(path)?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| refuse_io("cannot write in the data directory", path, &error))?;
        let deadline = Instant::now() + patience;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(HELD_LOOK_EVERY);
                }
                Err(TryLockError::WouldBlock) => return Err(held(path)),
                Err(TryLockError::Error(error)) => {
                    return Err(refuse_io("cannot lock the data directory", path, &error));
                }
            }
        }
        let mut taken = Self {
            path: path.to_owned(),
            lock,
        };
        taken
            .say(None)
            .map_err(|error| refuse_io("cannot write in the data directory", path, &error))?;
        Ok(taken)
    }

    /// Tells where this process's HTTP listens, for commands that work through it.
    ///
    /// # Errors
    /// If the lock file cannot be written.
    pub fn say(&mut self, http: Option<std::net::SocketAddr>) -> io::Result<()> {
        let mut text = format!("pid {}\n", std::process::id());
        if let Some(http) = http {
            text.push_str(&format!("http {http}\n"));
        }
        self.lock.set_len(0)?;
        self.lock.seek(SeekFrom::Start(0))?;
        self.lock.write_all(text.as_bytes())
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The database's file in it.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }
}

/// Who owns the directory now, as far as the lock file says; what a dead owner left there means nothing.
#[must_use]
pub fn owner(path: &Path) -> Owner {
    let mut text = String::new();
    if let Ok(file) = File::open(path.join(LOCK)) {
        // A lock file that cannot be read says as much as an empty one.
        let _ = file.take(LOCK_BYTES_MAX).read_to_string(&mut text);
    }
    let mut owner = Owner::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("pid", pid)) => owner.pid = pid.parse().ok(),
            Some(("http", http)) => owner.http = Some(http.to_owned()),
            _ => {}
        }
    }
    owner
}

/// Is somebody holding it at this moment?
#[must_use]
pub fn is_taken(path: &Path) -> bool {
    File::open(path.join(LOCK))
        .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Makes a directory of mode 0700, with its parents; takes other people's rights away from one that was there.
///
/// # Errors
/// A sentence naming the path.
pub fn make_private_dir(path: &Path) -> Result<(), StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| refuse_io("cannot make the directory", path, &error))?;
    let mode = fs::metadata(path)
        .map_err(|error| refuse_io("cannot look at", path, &error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(|error| {
            refuse_io(
                "others may read the directory, and its mode cannot be changed:",
                path,
                &error,
            )
        })?;
    }
    Ok(())
}

/// Makes an empty file of mode 0600 unless it is there; SQLite gives its log and index the same mode.
///
/// # Errors
/// A sentence naming the path.
pub fn make_private_file(path: &Path) -> Result<(), StoreError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let file = file.map_err(|error| refuse_io("cannot write", path, &error))?;
    let mode = file
        .metadata()
        .map_err(|error| refuse_io("cannot look at", path, &error))?
        .permissions()
        .mode();
    if mode & 0o077 != 0 {
        file.set_permissions(fs::Permissions::from_mode(0o600))
            .map_err(|error| {
                refuse_io(
                    "others may read the file, and its mode cannot be changed:",
                    path,
                    &error,
                )
            })?;
    }
    Ok(())
}

/// The sentence for whoever finds the directory in another's hands.
fn held(path: &Path) -> StoreError {
    let who = owner(path).pid.map_or_else(
        || "another process".to_owned(),
        |pid| format!("process {pid}"),
    );
    StoreError::Refused(format!(
        "{who} already uses the data directory {}: stop it, or set another data_dir",
        path.display()
    ))
}

fn refuse_io(what: &str, path: &Path, error: &io::Error) -> StoreError {
    let advice = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            ": it belongs to another user; set data_dir, or run as its owner"
        }
        io::ErrorKind::ReadOnlyFilesystem => ": the file system is read-only; set another data_dir",
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            ": a file of that name is in the way"
        }
        _ => "",
    };
    let path = path.display();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full(format!("{what} {path} ({error}): make room on that disk"))
        }
        _ => StoreError::Refused(format!("{what} {path} ({error}){advice}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_directory_and_its_lock_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a").join("b");
        let taken = DataDir::take(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(LOCK)), 0o600);
        drop(taken);
    }

    #[test]
    fn a_directory_open_to_others_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let _taken = DataDir::take(dir.path()).unwrap();
        assert_eq!(mode(dir.path()), 0o700);
    }

    #[test]
    fn a_second_backend_is_refused_by_the_pid_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = DataDir::take(dir.path()).unwrap();
        first.say(Some("127.0.0.1:8600".parse().unwrap())).unwrap();
        let error = DataDir::take(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(&std::process::id().to_string()) && error.contains("data_dir"),
            "{error}"
        );
        assert_eq!(owner(dir.path()).http.as_deref(), Some("127.0.0.1:8600"));
        assert!(is_taken(dir.path()));
        drop(first);
        assert!(!is_taken(dir.path()));
        let _second = DataDir::take(dir.path()).unwrap();
    }

    #[test]
    fn a_start_waits_for_a_command_that_has_the_directory_for_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let command = DataDir::take(dir.path()).unwrap();
        let (waits, path) = (std::sync::Barrier::new(2), dir.path());
        std::thread::scope(|scope| {
            let backend = scope.spawn(|| {
                waits.wait();
                DataDir::take_within(path, Duration::from_secs(60)).map(drop)
            });
            waits.wait();
            std::thread::sleep(3 * HELD_LOOK_EVERY);
            assert!(!backend.is_finished(), "it has it although another has it");
            drop(command);
            backend.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        fs::write(&path, "x").unwrap();
        let error = DataDir::take(&path).unwrap_err().to_string();
        assert!(error.contains("in the way"), "{error}");
    }
}
