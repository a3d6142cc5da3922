//! The directory that is the bus, and the rule by which things appear in it and go.
//!
//! ```text
//! <bus>/                               0700   (modes with a tap group: `access.rs`)
//!   control.gateways.mem               0600   tickets, roster
//!   control.backend.mem                0600   instance, heartbeat, frontier, sleep word, ledger
//!   backend.lock                       0600   held by the backend; its pid
//!   backend.bell                       0600   named pipe
//!   gateway-<16 hex digits>/           0700   one per gateway process
//!     lock                             0600   held by the gateway; its pid
//!     gateway.mem  backend.mem         0600
//!     shard-<n>.bell                   0600   named pipe
//!   gateway-<…>.new/                   being made;  gateway-<…>.old/  being removed
//! ```
//!
//! Things get their name when they are complete (link, rename), so nobody sees half of one. What a dead maker or
//! remover left is swept by the next process that starts: a `.new` directory whose lock nobody holds becomes an `.old` one, and
//! `.old` ones go. A sweeper may meet a maker before it holds its lock; then the maker cannot give its directory the
//! final name, and begins again.

use std::{io, path::Path};

use rustix::{fs::AtFlags, io::Errno};

use crate::{
    bus_file::{self, Directory, failed, is_closed, unfit},
    doorbell::Pipe,
    error::BusError,
    identity::InstanceId,
    layout::{self, FileRole},
    liveness::{LockProbe, process_exists},
    memory::Memory,
    sync::Arc,
};

/// A control page: its name and what it is.
pub(crate) struct ControlPage {
    pub(crate) name: &'static str,
    pub(crate) role: FileRole,
}

pub(crate) const CONTROL_GATEWAYS: ControlPage = ControlPage {
    name: "control.gateways.mem",
    role: FileRole::ControlGateways,
};
pub(crate) const CONTROL_BACKEND: ControlPage = ControlPage {
    name: "control.backend.mem",
    role: FileRole::ControlBackend,
};

pub(crate) const BACKEND_LOCK: &str = "backend.lock";
pub(crate) const BACKEND_BELL: &str = "backend.bell";
pub(crate) const GATEWAY_LOCK: &str = "lock";
pub(crate) const GATEWAY_FILE: &str = "gateway.mem";
pub(crate) const BACKEND_FILE: &str = "backend.mem";

const SEGMENT_PREFIX: &str = "gateway-";
const MAKING: &str = ".new";
const REMOVING: &str = ".old";
const MAKING_PAGE: &str = ".tmp";

/// How often something is made again because a sweeper or a racing starter got in the way. Each time needs another
/// process to have started in the same microseconds.
pub(crate) const ATTEMPTS_MAX: usize = 64;

/// A complete segment's directory, or one that is being made or removed.
pub(crate) fn is_segment(name: &str) -> bool {
    name.starts_with(SEGMENT_PREFIX)
}

pub(crate) fn segment_name(instance: InstanceId) -> String {
    format!("{SEGMENT_PREFIX}{instance}")
}

pub(crate) fn segment_name_making(instance: InstanceId) -> String {
    format!("{SEGMENT_PREFIX}{instance}{MAKING}")
}

pub(crate) fn shard_bell(shard: usize) -> String {
    format!("shard-{shard}.bell")
}

/// One directory, one bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BusDirectory {
    directory: Arc<Directory>,
}

impl BusDirectory {
    /// Opens the bus at `path`; makes the directory (mode 0700), the control pages and the backend's bell (0600) if
    /// they are not there, or cannot be used and nobody lives on them. Any number of processes may do so at once.
    ///
    /// # Errors
    /// The parent is missing or not writable; the directory belongs to somebody else or is open to others; a control
    /// page is of another layout version; no room.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, BusError> {
        let path = path.as_ref();
        match rustix::fs::mkdir(path, rustix::fs::Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the bus directory", path, error)),
        }
        let bus = Self::open(path)?;
        bus.mend()?;
        bus.make_control_page(&CONTROL_GATEWAYS)?;
        bus.make_control_page(&CONTROL_BACKEND)?;
        bus.directory.make_pipe(BACKEND_BELL)?;
        bus_file::open_or_make_plain(bus.directory.fd(), BACKEND_LOCK)
            .map_err(|e| bus.directory.failed("make", BACKEND_LOCK, e))?;
        Ok(bus)
    }

    /// Opens a bus that is there, and makes nothing.
    ///
    /// # Errors
    /// No such directory; it belongs to somebody else or is open to others.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, BusError> {
        let path = path.as_ref();
        if path.is_symlink() {
            return Err(unfit(
                path,
                "a symbolic link",
                "a directory",
                "give the directory's own path as bus_dir",
            ));
        }
        Ok(Self {
            directory: Arc::new(Directory::open_bus(path)?),
        })
    }

    /// Opens a bus to look at it, read-only, also another user's: if its owner lets a group look on
    /// ([`set_tap_group`](Self::set_tap_group)) and this process is a member of it. What such an observer cannot ask the
    /// locks, it asks the process ids.
    ///
    /// # Errors
    /// No such directory, or it is not open to this process: the sentence names the owner, and what to do.
    pub fn observe(path: impl AsRef<Path>) -> Result<Self, BusError> {
        let path = path.as_ref();
        let directory = Directory::observe_bus(path).map_err(|error| closed_to_us(path, error))?;
        Ok(Self {
            directory: Arc::new(directory),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// Whether the directory that this value holds is still the one at its path. A person may have removed it: those
    /// who hold the old one go on with each other, and nobody else ever finds them. Long-lived processes ask now and
    /// then, and exit with a sentence.
    #[must_use]
    pub fn is_at_its_path(&self) -> bool {
        let held = rustix::fs::fstat(self.directory.fd());
        let there = rustix::fs::lstat(&self.directory.path);
        matches!((held, there), (Ok(held), Ok(there)) if (held.st_dev, held.st_ino) == (there.st_dev, there.st_ino))
    }

    pub(crate) fn shared_directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory)
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn control_page(
        &self,
        page: &ControlPage,
        writable: bool,
    ) -> Result<Arc<Memory>, BusError> {
        bus_file::open_checked(&self.directory, page.name, page.role, writable)
            .map(|(_, memory)| memory)
    }

    pub(crate) fn backend_pipe(&self) -> Result<Pipe, BusError> {
        self.directory.check_pipe(BACKEND_BELL)?;
        Pipe::open_at(self.directory.fd(), BACKEND_BELL)
            .map_err(|e| self.directory.failed("open", BACKEND_BELL, e))
    }

    pub(crate) fn backend_probe(&self) -> Result<LockProbe, BusError> {
        LockProbe::open(self.directory.fd(), BACKEND_LOCK)
            .map_err(|e| self.directory.failed("open", BACKEND_LOCK, e))
    }

    /// Makes a control page under a name of its own, then links it in: the first of several makers wins.
    fn make_control_page(&self, page: &ControlPage) -> Result<(), BusError> {
        let header = bus_file::header(
            page.role,
            layout::PAGE_BYTES,
            concat!("shm-bus ", env!("CARGO_PKG_VERSION")),
        );
        for _ in 0..ATTEMPTS_MAX {
            if rustix::fs::accessat(
                self.directory.fd(),
                page.name,
                rustix::fs::Access::EXISTS,
                AtFlags::empty(),
            )
            .is_ok()
            {
                return Ok(());
            }
            let unique =
                InstanceId::fresh().map_err(|e| self.directory.failed("name", page.name, e))?;
            let making = format!("{}.{unique}{MAKING_PAGE}", page.name);
            bus_file::make(&self.directory, &making, &header)?;
            let fd = self.directory.fd();
            let linked = rustix::fs::linkat(fd, &*making, fd, page.name, AtFlags::empty());
            let _ = rustix::fs::unlinkat(fd, &*making, AtFlags::empty());
            match linked {
                // NOENT: swept while being made; again.
                Ok(()) | Err(Errno::EXIST | Errno::NOENT) => {}
                Err(error) => return Err(self.directory.failed("link", page.name, error)),
            }
        }
        Err(self.directory.failed(
            "make",
            page.name,
            io::Error::other("other starters removed it each time"),
        ))
    }

    /// Whether a backend holds the seat: its process lives, stopped or not. A system call or two. (An observer to whom
    /// the lock is closed asks for the process that stands on the control page.)
    #[must_use]
    pub fn backend_is_alive(&self) -> bool {
        match self.backend_probe() {
            Ok(probe) => probe.is_held(),
            Err(error) if is_closed(&error) => {
                let control = crate::Control::observe(self);
                control.is_ok_and(|control| process_exists(control.backend_pid()))
            }
            Err(_) => false,
        }
    }

    /// The segments that are there and complete, of gateways living and dead, in no order.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn segments(&self) -> Result<Vec<InstanceId>, BusError> {
        let names = self.directory.names()?;
        Ok(names
            .iter()
            .filter_map(|name| name.strip_prefix(SEGMENT_PREFIX)?.parse().ok())
            .collect())
    }

    /// Removes a segment: takes its name first, so that nobody finds half of it.
    pub(crate) fn remove_segment(&self, instance: InstanceId) -> Result<(), BusError> {
        let (name, going) = (
            segment_name(instance),
            format!("{SEGMENT_PREFIX}{instance}{REMOVING}"),
        );
        let fd = self.directory.fd();
        match rustix::fs::renameat(fd, &*name, fd, &*going) {
            Ok(()) | Err(Errno::NOENT) => self.directory.remove_inside(&going, GATEWAY_LOCK),
            Err(error) => Err(self.directory.failed("remove", &name, error)),
        }
    }

    /// Removes what dead makers and removers left. Whatever fails here fails again, with a sentence, where it matters.
    pub(crate) fn sweep(&self) {
        let directory = &*self.directory;
        for name in directory.names().unwrap_or_default() {
            if name.starts_with("control.") && name.ends_with(MAKING_PAGE) {
                let _ = rustix::fs::unlinkat(directory.fd(), &*name, AtFlags::empty());
            }
            let Some(making) = name
                .strip_prefix(SEGMENT_PREFIX)
                .and_then(|name| name.strip_suffix(MAKING))
            else {
                continue;
            };
            // A maker that is just about to take its lock looks dead. It finds its name gone, and begins again.
            let held = directory
                .open_inside(&name)
                .and_then(|inside| self.lock_in(&inside))
                .is_ok_and(|it| it.is_held());
            if !held {
                let going = format!("{SEGMENT_PREFIX}{making}{REMOVING}");
                let _ = rustix::fs::renameat(directory.fd(), &*name, directory.fd(), &*going);
            }
        }
        for name in directory.names().unwrap_or_default() {
            if name.starts_with(SEGMENT_PREFIX) && name.ends_with(REMOVING) {
                let _ = directory.remove_inside(&name, GATEWAY_LOCK);
            }
        }
    }

    /// The lock of the gateway whose segment this is, to be asked about.
    pub(crate) fn lock_in(&self, segment: &Directory) -> Result<LockProbe, BusError> {
        LockProbe::open(segment.fd(), GATEWAY_LOCK)
            .map_err(|e| segment.failed("open", GATEWAY_LOCK, e))
    }
}

/// The kernel says no: a sentence about whose bus it is.
fn closed_to_us(path: &Path, error: BusError) -> BusError {
    let stat = rustix::fs::lstat(path);
    let (true, Ok(stat)) = (is_closed(&error), stat) else {
        return error;
    };
    let group = match stat.st_mode & 0o070 {
        0 => "open to no group".to_owned(),
        _ => format!("open to group {}", stat.st_gid),
    };
    unfit(
        path,
        &format!("a bus of uid {}, {group}", stat.st_uid),
        &format!(
            "one that uid {} may look at",
            rustix::process::geteuid().as_raw()
        ),
        "look as its owner, or let the owner name a group that you are in (Tidegate: tap_group in [bus])",
    )
}
