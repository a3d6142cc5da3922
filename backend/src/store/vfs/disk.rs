//! The disk behind the file system calls, without SQLite's C interface: names, files, locks, faults and crashes.
//!
//! A *life* is the time between two crashes. Whoever opened a file in an earlier life is dead: every call of theirs
//! fails and changes nothing, so a store that is dropped after the crash cannot tidy up what it no longer owns.
//!
//! Names are durable when their directory was synchronised, which SQLite does with the first sync of a journal or a
//! log that it made, and with most of its deletions. Until then a power cut may undo a creation or a deletion.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::sync::Arc;

use rusqlite::ffi;

use super::choices::Choices;
use super::contents::Contents;
use super::fault::{Failure, Faults, Operation};
use super::locks::{FileLocks, Holder, IndexLocks};
use super::shared_memory::Regions;

/// What a call answers: SQLite's code if it is not OK.
pub type Answer<T> = Result<T, c_int>;

/// One open file of one life.
#[derive(Debug, Clone, Copy)]
pub struct Handle {
    pub file: u64,
    pub holder: Holder,
    pub life: u64,
    /// Deleted when closed.
    pub temporary: bool,
    /// Opened for reading alone: it can neither be written nor locked against readers, as a descriptor of the kernel's.
    pub read_only: bool,
}

/// All of it, behind one lock.
#[derive(Debug)]
pub struct Disk {
    /// Counts crashes.
    pub life: u64,
    /// Counts power cuts.
    pub boot: u64,
    /// `false`: a disk that says "synchronised" and did nothing.
    pub honest: bool,
    pub faults: Faults,
    choices: Choices,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    files: BTreeMap<u64, File>,
    given: u64,
}

#[derive(Debug, Default)]
pub struct File {
    pub contents: Contents,
    pub locks: FileLocks,
    pub index_locks: IndexLocks,
    /// The log's index, while somebody has it mapped.
    pub index: Option<Arc<Regions>>,
    /// Made by SQLite as a journal or a log: its first sync also synchronises the names.
    names_with_sync: bool,
}

impl Disk {
    pub fn new(seed: u64) -> Self {
        Self {
            life: 1,
            boot: 1,
            honest: true,
            faults: Faults::default(),
            choices: Choices::new(seed),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            files: BTreeMap::new(),
            given: 0,
        }
    }

    /// Opens a file by name, or one without a name; `create`: makes it if it is not there.
    pub fn open(&mut self, name: Option<&str>, flags: c_int) -> Answer<Handle> {
        let found = name.and_then(|name| self.names.get(name).copied());
        let file = match found {
            Some(file) if flags & ffi::SQLITE_OPEN_EXCLUSIVE == 0 => file,
            None if flags & ffi::SQLITE_OPEN_CREATE != 0 => {
                let journal = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
                let made = File {
                    names_with_sync: flags & journal != 0,
                    ..File::default()
                };
                let file = self.number();
                self.files.insert(file, made);
                if let Some(name) = name {
                    self.names.insert(name.to_owned(), file);
                }
                file
            }
            _ => return Err(ffi::SQLITE_CANTOPEN),
        };
        Ok(Handle {
            file,
            holder: self.number(),
            life: self.life,
            temporary: name.is_none() || flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0,
            read_only: flags & ffi::SQLITE_OPEN_READONLY != 0,
        })
    }

    pub fn close(&mut self, handle: Handle) {
        if handle.life != self.life {
            return;
        }
        if let Some(file) = self.files.get_mut(&handle.file) {
            file.locks.lower(handle.holder, ffi::SQLITE_LOCK_NONE);
            file.index_locks.release_all(handle.holder);
        }
        if handle.temporary {
            self.names.retain(|_, file| *file != handle.file);
            self.files.remove(&handle.file);
        }
    }

    pub fn delete(&mut self, name: &str, and_sync: bool) -> Answer<()> {
        let gone = self.names.remove(name);
        if and_sync {
            self.sync_names();
        }
        gone.map(|_| ()).ok_or(ffi::SQLITE_IOERR_DELETE_NOENT)
    }

    /// As SQLite's own VFS: an empty file counts as none.
    pub fn exists(&self, name: &str) -> bool {
        self.names
            .get(name)
            .and_then(|file| self.files.get(file))
            .is_some_and(|file| file.contents.len() > 0)
    }

    /// The file of a handle, if its life is this one.
    pub fn file(&mut self, handle: Handle, otherwise: c_int) -> Answer<&mut File> {
        if handle.life != self.life {
            return Err(otherwise);
        }
        self.files.get_mut(&handle.file).ok_or(otherwise)
    }

    /// The same, to change it.
    fn writable(&mut self, handle: Handle, otherwise: c_int) -> Answer<&mut File> {
        if handle.read_only {
            return Err(otherwise);
        }
        self.file(handle, otherwise)
    }

    pub fn write(&mut self, handle: Handle, offset: usize, bytes: &[u8]) -> Answer<()> {
        self.writable(handle, ffi::SQLITE_IOERR_WRITE)?;
        if let Some(failure) = self.faults.next(Operation::Write) {
            // A device that fails, or is full, may have taken the beginning.
            if failure != Failure::Busy {
                let ways = bytes.len() as u64 + 1;
                let taken = usize::try_from(self.choices.below(ways)).unwrap_or(0);
                let file = self.file(handle, ffi::SQLITE_IOERR_WRITE)?;
                if taken > 0 {
                    file.contents.write(offset, &bytes[..taken]);
                }
            }
            return Err(failure.code(Operation::Write));
        }
        let file = self.file(handle, ffi::SQLITE_IOERR_WRITE)?;
        file.contents.write(offset, bytes);
        Ok(())
    }

    /// Writes to the beginning of a file. What a file has already takes no room and reaches the kernel's memory alone, so
    /// no fault of the disk can hit it.
    pub fn overwrite(&mut self, handle: Handle, bytes: &[u8]) -> Answer<()> {
        let file = self.writable(handle, ffi::SQLITE_IOERR_WRITE)?;
        if file.contents.len() < bytes.len() {
            return self.write(handle, 0, bytes);
        }
        file.contents.write(0, bytes);
        Ok(())
    }

    pub fn truncate(&mut self, handle: Handle, bytes: usize) -> Answer<()> {
        self.writable(handle, ffi::SQLITE_IOERR_TRUNCATE)?;
        if let Some(failure) = self.faults.next(Operation::Write) {
            return Err(match failure {
                Failure::Busy => ffi::SQLITE_BUSY,
                _ => ffi::SQLITE_IOERR_TRUNCATE,
            });
        }
        let file = self.file(handle, ffi::SQLITE_IOERR_TRUNCATE)?;
        file.contents.truncate(bytes);
        Ok(())
    }

    pub fn sync(&mut self, handle: Handle) -> Answer<()> {
        self.file(handle, ffi::SQLITE_IOERR_FSYNC)?;
        let failure = self.faults.next(Operation::Sync);
        let Some(file) = self.files.get_mut(&handle.file) else {
            return Err(ffi::SQLITE_IOERR_FSYNC);
        };
        if let Some(failure) = failure {
            if failure != Failure::Busy {
                file.contents.fail_sync(&mut self.choices);
            }
            return Err(failure.code(Operation::Sync));
        }
        if self.honest {
            file.contents.sync();
            if std::mem::take(&mut file.names_with_sync) {
                self.sync_names();
            }
        }
        Ok(())
    }

    /// Raises a handle's lock; false: somebody else stands in the way.
    pub fn lock(&mut self, handle: Handle, level: c_int) -> Answer<bool> {
        if level > ffi::SQLITE_LOCK_SHARED {
            self.writable(handle, ffi::SQLITE_IOERR_LOCK)?;
            if self.lock_fails() {
                return Ok(false);
            }
        }
        let file = self.file(handle, ffi::SQLITE_IOERR_LOCK)?;
        Ok(file.locks.raise(handle.holder, level))
    }

    /// The writer's lock is asked for: is it refused on purpose?
    pub fn lock_fails(&mut self) -> bool {
        self.faults.next(Operation::Lock).is_some()
    }

    /// Everything that processes held is gone; what they wrote is there, because the kernel lives.
    pub fn crash(&mut self) {
        self.life += 1;
        for file in self.files.values_mut() {
            file.locks = FileLocks::default();
            file.index_locks = IndexLocks::default();
            file.index = None;
        }
        self.forget_unnamed();
    }

    /// The kernel is gone, too: each file and name is what the medium has of it.
    pub fn cut_power(&mut self) {
        self.boot += 1;
        self.crash();
        let mut names: Vec<String> = self.names.keys().cloned().collect();
        names.extend(self.durable_names.keys().cloned());
        names.sort_unstable();
        names.dedup();
        for name in names {
            let (now, durable) = (self.names.get(&name), self.durable_names.get(&name));
            if now != durable && self.choices.below(2) == 0 {
                match durable {
                    Some(file) => self.names.insert(name, *file),
                    None => self.names.remove(&name),
                };
            }
        }
        self.durable_names.clone_from(&self.names);
        for file in self.files.values_mut() {
            file.contents.cut_power(&mut self.choices);
            file.names_with_sync = false;
        }
        self.forget_unnamed();
    }

    /// Bytes of a file by name; `None`: there is none.
    pub fn bytes_of(&self, name: &str) -> Option<u64> {
        let file = self.files.get(self.names.get(name)?)?;
        Some(file.contents.len() as u64)
    }

    /// Is everything on the medium?
    pub fn is_synced(&self) -> bool {
        self.files.values().all(|file| file.contents.is_synced())
    }

    fn sync_names(&mut self) {
        self.durable_names.clone_from(&self.names);
    }

    fn forget_unnamed(&mut self) {
        let (names, durable) = (&self.names, &self.durable_names);
        self.files.retain(|number, _| {
            names
                .values()
                .chain(durable.values())
                .any(|file| file == number)
        });
    }

    const fn number(&mut self) -> u64 {
        self.given += 1;
        self.given
    }
}
