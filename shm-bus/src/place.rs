//! Whether what a process holds of the bus is still what stands at its names.
//!
//! Mapped memory outlives its name: a process whose bus directory, segment or control page was removed or replaced
//! goes on with those who hold the same, and nobody who comes later ever meets it. A file that was cut short kills with
//! the next touch of a page that is gone; one that was opened to others is refused by whoever opens it next. So
//! long-lived processes look a few times a second, and end with a sentence.

use std::path::{Path, PathBuf};

use rustix::{
    fs::{AtFlags, CWD, FileType, Stat},
    io::Errno,
};

use crate::{
    access::Thing,
    bus_file::Directory,
    directory::{BACKEND_BELL, BACKEND_LOCK, BusDirectory, CONTROL_BACKEND, CONTROL_GATEWAYS},
    error::{BusError, Displaced},
    sync::Arc,
};

/// The names by which a process is met on the bus, and what stood there when it came.
#[derive(Clone, Debug)]
pub struct Place {
    parts: Arc<[Part]>,
}

/// A directory that is held, and what is held of it.
#[derive(Debug)]
struct Part {
    directory: Arc<Directory>,
    /// Where it is to be found: in another directory that is held; the bus itself at its path.
    parent: Option<Arc<Directory>>,
    files: Box<[Held]>,
}

#[derive(Debug)]
struct Held {
    name: String,
    /// Device and inode.
    identity: (u64, u64),
    /// Memory has a size, which never changes; locks and pipes have none to speak of.
    size: Option<i64>,
}

impl Held {
    const fn thing(&self) -> Thing {
        if self.size.is_some() {
            Thing::Memory
        } else {
            Thing::Private
        }
    }
}

impl Place {
    /// The bus: its directory, control pages, lock and bell.
    pub(crate) fn on(bus: &BusDirectory) -> Result<Self, BusError> {
        Ok(Self {
            parts: Arc::new([Part::of_bus(bus)?]),
        })
    }

    /// The bus, and these files of a segment on it.
    pub(crate) fn of_segment(
        bus: &BusDirectory,
        segment: &Arc<Directory>,
        files: &[&str],
    ) -> Result<Self, BusError> {
        let own = Part {
            directory: Arc::clone(segment),
            parent: Some(bus.shared_directory()),
            files: held(segment, files)?,
        };
        Ok(Self {
            parts: Arc::new([Part::of_bus(bus)?, own]),
        })
    }

    /// Looks at every name, a system call each. What the kernel does not tell counts as sound.
    ///
    /// # Errors
    /// [`Displaced`]: what was found where.
    pub fn look(&self) -> Result<(), Displaced> {
        self.parts.iter().try_for_each(Part::look)
    }
}

impl Part {
    fn of_bus(bus: &BusDirectory) -> Result<Self, BusError> {
        let directory = bus.shared_directory();
        let files = [
            CONTROL_GATEWAYS.name,
            CONTROL_BACKEND.name,
            BACKEND_LOCK,
            BACKEND_BELL,
        ];
        Ok(Self {
            files: held(&directory, &files)?,
            directory,
            parent: None,
        })
    }

    fn look(&self) -> Result<(), Displaced> {
        let path = &self.directory.path;
        let there = match (&self.parent, path.file_name()) {
            (Some(parent), Some(name)) => {
                rustix::fs::statat(parent.fd(), name, AtFlags::SYMLINK_NOFOLLOW)
            }
            _ => rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW),
        };
        if let Ok(held) = rustix::fs::fstat(self.directory.fd()) {
            compare(path, &there, identity(&held), None)?;
        }
        self.files.iter().try_for_each(|file| {
            let there =
                rustix::fs::statat(self.directory.fd(), &*file.name, AtFlags::SYMLINK_NOFOLLOW);
            let path = path.join(&file.name);
            compare(&path, &there, file.identity, file.size)?;
            match there {
                Ok(stat) if !self.directory.access.holds(&stat, file.thing()) => Err(Displaced {
                    path,
                    found: format!(
                        "owner uid {}, mode {:o}",
                        stat.st_uid,
                        stat.st_mode & 0o7777
                    ),
                    expected: format!(
                        "a file of this process's user, mode {:o}",
                        self.directory.access.mode(file.thing())
                    ),
                }),
                _ => Ok(()),
            }
        })
    }
}

/// What stands at these names now.
fn held(directory: &Directory, names: &[&str]) -> Result<Box<[Held]>, BusError> {
    let files = names.iter().map(|name| {
        let stat = rustix::fs::statat(directory.fd(), *name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| directory.failed("stat", name, e))?;
        let is_memory = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "mem");
        Ok(Held {
            name: (*name).to_owned(),
            identity: identity(&stat),
            size: is_memory.then_some(stat.st_size),
        })
    });
    files.collect()
}

fn compare(
    path: &Path,
    there: &Result<Stat, Errno>,
    expected: (u64, u64),
    size: Option<i64>,
) -> Result<(), Displaced> {
    let displaced = |found: &str, expected: &str| {
        Err(Displaced {
            path: PathBuf::from(path),
            found: found.to_owned(),
            expected: expected.to_owned(),
        })
    };
    match there {
        Ok(stat) if identity(stat) != expected => {
            displaced("another one", "the one that this process holds")
        }
        Ok(stat) if size.is_some_and(|size| size != stat.st_size) => displaced(
            &format!("{} bytes", stat.st_size),
            &format!("{} bytes", size.unwrap_or_default()),
        ),
        Err(Errno::NOENT | Errno::NOTDIR) => {
            displaced("nothing", "the one that this process holds")
        }
        _ => Ok(()),
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}
