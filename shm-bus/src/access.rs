//! Who may open what. A bus belongs to one user. Its owner may let one group look on: the bus directory then has that
//! group and mode 2750, and everything in it follows from that. There is no other place where it stands.
//!
//! | | owner alone | with a tap group |
//! | --- | --- | --- |
//! | directories | 0700 | 2750: whatever is made inside gets the group |
//! | memory (`*.mem`) | 0600 | 0640 |
//! | locks, bells | 0600 | 0600 |
//!
//! Locks stay closed because who can open one for reading can hold a shared lock on it, and nobody could take the
//! role any more; bells, because who reads one takes the byte that was meant to wake its sleeper. So a member of the
//! group can look, and can do nothing else.

use std::path::Path;

use rustix::{
    fs::{AtFlags, Gid, Mode, OFlags, Stat},
    io::Errno,
};

use crate::{
    bus_file::{Directory, failed, unfit},
    directory::{BusDirectory, is_segment},
    error::BusError,
};

const FILE_MODE: u32 = 0o600;
const FILE_MODE_TAPPED: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o700;
const DIRECTORY_MODE_TAPPED: u32 = 0o2750;
/// What group and others may do where no group looks on: nothing.
const MODE_FOREIGN: u32 = 0o077;

/// What something on the bus is, as far as its mode goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    Directory,
    /// Rings and control pages.
    Memory,
    /// Locks and bells.
    Private,
}

/// Whose a bus is, and which group looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) owner: u32,
    tap_group: Option<u32>,
}

impl Access {
    /// As the bus directory says it; `owner` is whose it has to be.
    pub(crate) fn of_bus(stat: &Stat, owner: u32) -> Self {
        let is_tapped = stat.st_mode & 0o7777 == DIRECTORY_MODE_TAPPED;
        Self {
            owner,
            tap_group: is_tapped.then_some(stat.st_gid),
        }
    }

    /// The mode that a thing is made with.
    pub(crate) const fn mode(self, thing: Thing) -> u32 {
        match (thing, self.tap_group) {
            (Thing::Directory, None) => DIRECTORY_MODE,
            (Thing::Directory, Some(_)) => DIRECTORY_MODE_TAPPED,
            (Thing::Memory, Some(_)) => FILE_MODE_TAPPED,
            (Thing::Memory, None) | (Thing::Private, _) => FILE_MODE,
        }
    }

    /// Whether a group looks on.
    pub(crate) const fn is_tapped(self) -> bool {
        self.tap_group.is_some()
    }

    /// Of the owner, and open to nobody but who may look.
    pub(crate) fn holds(self, stat: &Stat, thing: Thing) -> bool {
        stat.st_uid == self.owner && !self.is_open_to_others(stat, thing)
    }

    fn is_open_to_others(self, stat: &Stat, thing: Thing) -> bool {
        let foreign = stat.st_mode & MODE_FOREIGN;
        foreign & !self.mode(thing) != 0
            || foreign != 0 && self.tap_group.is_some_and(|group| group != stat.st_gid)
    }

    /// A refusal that says what was found and what to do.
    pub(crate) fn check(self, path: &Path, stat: &Stat, thing: Thing) -> Result<(), BusError> {
        if stat.st_uid != self.owner {
            let remedy = "run gateway and backend as one user, or choose another bus_dir";
            let whose = if self.owner == rustix::process::geteuid().as_raw() {
                "this process's"
            } else {
                "its bus's"
            };
            let (found, expected) = (stat.st_uid, self.owner);
            return Err(unfit(
                path,
                &format!("owner uid {found}"),
                &format!("uid {expected}, {whose}"),
                remedy,
            ));
        }
        if self.is_open_to_others(stat, thing) {
            let mode = self.mode(thing);
            let remedy = format!("chmod {mode:o} it, if you know why it was open to others");
            let mut found = format!("mode {:o}", stat.st_mode & 0o7777);
            if stat.st_mode & MODE_FOREIGN & !mode == 0 {
                found.push_str(&format!(" for group {}", stat.st_gid));
            }
            return Err(unfit(path, &found, &format!("mode {mode:o}"), &remedy));
        }
        Ok(())
    }
}

impl BusDirectory {
    /// Lets the members of one group look at the bus at `path`, read-only, or (`None`) nobody but its owner. For who
    /// starts a system, before it opens the bus: the directory is made if it is not there, and what is in it follows.
    /// Nothing is touched where it is so already, or where the directory is open in another way (that is refused when
    /// it is opened).
    ///
    /// # Errors
    /// The parent is missing or not writable; the directory belongs to somebody else; this process is no member of the
    /// group, and so cannot give it anything.
    ///
    /// ```no_run
    /// use shm_bus::BusDirectory;
    /// BusDirectory::set_tap_group("/dev/shm/my-bus", Some(1_234))?;
    /// let bus = BusDirectory::open_or_create("/dev/shm/my-bus")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set_tap_group(path: impl AsRef<Path>, group: Option<u32>) -> Result<(), BusError> {
        let path = path.as_ref();
        match rustix::fs::mkdir(path, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the bus directory", path, error)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed("open", path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("stat", path, e))?;
        let owner = rustix::process::geteuid().as_raw();
        let before = Access::of_bus(&stat, owner);
        let is_open_otherwise = stat.st_mode & MODE_FOREIGN != 0 && !before.is_tapped();
        if before.tap_group == group || stat.st_uid != owner || is_open_otherwise {
            return Ok(());
        }
        let after = Access {
            owner,
            tap_group: group,
        };
        let give = |name: &Path, thing| {
            give(&fd, name, after, thing).map_err(|error| {
                let sentence = match (error, group) {
                    (Errno::PERM, Some(group)) => format!(
                        "this process is no member of group {group}, so it can give that group nothing; add its user to \
                         the group (usermod -aG) and start again, or name a group that it is in"
                    ),
                    _ => return failed("change owner and mode of", &path.join(name), error),
                };
                unfit(
                    path,
                    &format!("group {}", stat.st_gid),
                    &format!("group {}", group.unwrap_or_default()),
                    &sentence,
                )
            })
        };
        // What lies in it first: once the directory says so, nobody looks again.
        let inside = Directory::held(
            path,
            fd.try_clone().map_err(|e| failed("open", path, e))?,
            before,
        );
        for name in inside.names()? {
            if name.ends_with(".mem") {
                give(Path::new(&name), Thing::Memory)?;
            } else if is_segment(&name) {
                for file in ["gateway.mem", "backend.mem"] {
                    give(&Path::new(&name).join(file), Thing::Memory)?;
                }
                give(Path::new(&name), Thing::Directory)?;
            }
        }
        give(Path::new("."), Thing::Directory)
    }
}

/// Gives a thing its group and mode; what is gone meanwhile needs none.
fn give(
    bus: impl std::os::fd::AsFd,
    name: &Path,
    access: Access,
    thing: Thing,
) -> Result<(), Errno> {
    let group = access.tap_group.map(Gid::from_raw);
    let mode = Mode::from_raw_mode(access.mode(thing));
    // First the group: a change of it takes the bit away that makes what is inside inherit it.
    let given = rustix::fs::chownat(&bus, name, None, group, AtFlags::SYMLINK_NOFOLLOW)
        .and_then(|()| rustix::fs::chmodat(&bus, name, mode, AtFlags::empty()));
    match given {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
