//! The simulator's door to its disks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use rusqlite::ffi;

use super::calls;
use super::disk::{Answer, Disk};
use super::fault::{Counts, Fault};
use crate::store::data_dir::DATABASE;
use crate::store::open::Place;
use crate::store::{StoreError, StoreOptions};

/// Where all disks are.
const ROOT: &str = "/simulated-disks";

/// How a store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Crash {
    /// `kill -9`: what was written stays (the kernel has it), locks and shared memory go.
    Process,
    /// The machine loses power: what was not synchronised is gone, kept, torn or out of order, by the seed.
    Power,
}

/// A disk of this process's memory on which the real store runs. Dropping it takes its files along; whoever still
/// has one open gets errors.
///
/// After a crash the disk has other paths: take [`SimulatedDisk::options`] again. The store of the life before can
/// be dropped before or after the crash, but only one that is dropped *after* it dies without tidying up.
#[derive(Debug)]
pub struct SimulatedDisk {
    number: u64,
    shared: Arc<Shared>,
}

/// A disk behind its lock; files in use keep it alive.
#[derive(Debug)]
pub struct Shared(Mutex<Disk>);

static DISKS: LazyLock<Mutex<Disks>> = LazyLock::new(Mutex::default);

#[derive(Debug, Default)]
struct Disks {
    made: u64,
    by_number: BTreeMap<u64, Arc<Shared>>,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn disks() -> MutexGuard<'static, Disks> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which disk, which of its lives and which file a path means.
pub fn locate(path: &str) -> Option<(Arc<Shared>, u64, &str)> {
    let mut parts = path.strip_prefix(ROOT)?.strip_prefix('/')?.splitn(3, '/');
    let number = parts.next()?.parse().ok()?;
    let life = parts.next()?.parse().ok()?;
    let name = parts.next()?;
    let disk = disks().by_number.get(&number).map(Arc::clone)?;
    Some((disk, life, name))
}

/// The VFS of all simulated disks, by name.
pub const VFS: &str = "tidegate-simulated";

/// Makes a file and synchronises it.
pub fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    on(path, |disk, name| {
        let handle = disk.open(Some(name), ffi::SQLITE_OPEN_CREATE)?;
        disk.write(handle, 0, bytes)?;
        disk.sync(handle)
    })
}

/// What a file holds; `None`: there is none.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    on(path, |disk, name| {
        let Ok(handle) = disk.open(Some(name), ffi::SQLITE_OPEN_READONLY) else {
            return Ok(None);
        };
        let contents = &disk.file(handle, ffi::SQLITE_IOERR_READ)?.contents;
        let mut bytes = vec![0; contents.len()];
        contents.read(0, &mut bytes);
        Ok(Some(bytes))
    })
}

/// Writes over what a file has.
pub fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    on(path, |disk, name| {
        let handle = disk.open(Some(name), ffi::SQLITE_OPEN_CREATE)?;
        disk.overwrite(handle, bytes)
    })
}

/// Writes every byte of a file again and synchronises it; whether there were any.
pub fn rewrite(path: &Path) -> io::Result<bool> {
    let bytes = read(path)?.unwrap_or_default();
    if bytes.is_empty() {
        return Ok(false);
    }
    create(path, &bytes).map(|()| true)
}

fn on<T>(path: &Path, call: impl FnOnce(&mut Disk, &str) -> Answer<T>) -> io::Result<T> {
    let (disk, life, name) = path
        .to_str()
        .and_then(locate)
        .ok_or_else(|| io::Error::other("no simulated disk has this path"))?;
    let mut disk = disk.lock();
    if disk.life != life {
        return Err(io::Error::other("a path of an earlier life"));
    }
    call(&mut disk, name).map_err(|code| io::Error::other(format!("SQLite's code {code}")))
}

/// Where files without a name are: a disk of their own that dies with them.
pub fn scratch() -> Arc<Shared> {
    Arc::new(Shared(Mutex::new(Disk::new(0))))
}

impl SimulatedDisk {
    /// An empty disk. What its power cuts leave follows from `seed` and from what was written.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        calls::register();
        let shared = Arc::new(Shared(Mutex::new(Disk::new(seed))));
        let mut disks = disks();
        disks.made += 1;
        let number = disks.made;
        disks.by_number.insert(number, Arc::clone(&shared));
        Self { number, shared }
    }

    /// A disk that says "synchronised" and has done nothing: a planted bug that tests of durability must catch.
    #[must_use]
    pub fn lying(seed: u64) -> Self {
        let disk = Self::new(seed);
        disk.shared.lock().honest = false;
        disk
    }

    /// For the configuration's `sqlite_vfs`.
    #[must_use]
    pub fn vfs_name(&self) -> &'static str {
        VFS
    }

    /// For the configuration's `data_dir`, until the next crash. There is no such directory anywhere else.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let life = self.shared.lock().life;
        PathBuf::from(format!("{ROOT}/{}/{life}", self.number))
    }

    /// What the machine calls its present boot; another one after each power cut.
    #[must_use]
    pub fn boot_id(&self) -> String {
        format!("simulated-boot-{}", self.shared.lock().boot)
    }

    /// The same options on this disk, in this life, without a checkpointer's thread and without waiting for locks.
    #[must_use]
    pub fn options(&self, options: StoreOptions) -> StoreOptions {
        StoreOptions {
            place: Place {
                path: self.data_dir().join(DATABASE),
                vfs: Some(self.vfs_name().to_owned()),
                busy_ms_max: 0,
                mmap_bytes: 0,
                ..options.place
            },
            checkpoint_every_ms: 0,
            boot_id: self.boot_id(),
            ..options
        }
    }

    /// Ends this life. Whatever is open fails from now on and changes nothing any more. Faults stay planted.
    pub fn crash(&self, crash: Crash) {
        let mut disk = self.shared.lock();
        match crash {
            Crash::Process => disk.crash(),
            Crash::Power => disk.cut_power(),
        }
    }

    /// Plants a fault.
    pub fn fail(&self, fault: Fault) {
        self.shared.lock().faults.plant(fault);
    }

    /// Takes all faults away.
    pub fn heal(&self) {
        self.shared.lock().faults.heal();
    }

    /// What it was asked to do so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.lock().faults.counts()
    }

    /// Bytes of the write-ahead log's file.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        let name = format!("{DATABASE}-wal");
        self.shared.lock().bytes_of(&name).unwrap_or(0)
    }

    /// Is every byte on the medium? Then a power cut changes nothing.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.shared.lock().is_synced()
    }

    /// `PRAGMA integrity_check` of the database as it is now, on a connection of its own.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_integrity(&self) -> Result<(), StoreError> {
        let place = Place {
            path: self.data_dir().join(DATABASE),
            vfs: Some(self.vfs_name().to_owned()),
            busy_ms_max: 0,
            cache_bytes: 1 << 20,
            mmap_bytes: 0,
        };
        let connection = place.open_reader()?;
        let found: String =
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        if found == "ok" {
            Ok(())
        } else {
            Err(StoreError::Failed(format!("integrity_check says: {found}")))
        }
    }
}

impl Drop for SimulatedDisk {
    fn drop(&mut self) {
        disks().by_number.remove(&self.number);
    }
}
