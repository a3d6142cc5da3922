//! Locks that die with their process.
//!
//! An open-file-description lock (`F_OFD_SETLK`) on a small file: the kernel takes it back when the last descriptor
//! of that open goes, which a kill -9 sees to, and never before, so that a stopped process keeps its role. It is an
//! OFD lock and not a flock because the kernel can be *asked* about it (`F_OFD_GETLK`): a probe by flock would have
//! to take the lock for a moment, and would now and then refuse a rightful starter.
//!
//! The descriptor is close-on-exec: a role does not leak into children that exec. A child that only forks would hold
//! it too: don't.

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd},
        unix::fs::FileExt,
    },
};

use rustix::io::Errno;

use crate::bus_file;

/// What trying for a lock came to.
pub(crate) enum Taking {
    Taken(RoleLock),
    /// Somebody has it; the process id that stands in the file, 0 if none yet.
    Held(u32),
}

/// A held lock. Whoever acts in a role keeps a reference to its lock.
#[derive(Debug)]
pub(crate) struct RoleLock {
    _file: std::fs::File,
}

impl RoleLock {
    /// Takes the lock on `name`, made if need be (mode 0600), and writes this process's id into it. Never waits.
    pub(crate) fn take(directory: BorrowedFd<'_>, name: &str) -> io::Result<Taking> {
        let file = bus_file::open_or_make_plain(directory, name)?;
        if !set_lock(&file)? {
            return Ok(Taking::Held(pid_in(&file)));
        }
        file.set_len(0)?;
        file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)?;
        Ok(Taking::Taken(Self { _file: file }))
    }
}

/// A lock somebody else may hold, to be asked about.
#[derive(Debug)]
pub(crate) struct LockProbe {
    file: std::fs::File,
}

impl LockProbe {
    pub(crate) fn open(directory: BorrowedFd<'_>, name: &str) -> io::Result<Self> {
        Ok(Self {
            file: bus_file::open_plain(directory, name, false)?,
        })
    }

    /// Whether a living process holds the lock. Asks; takes nothing. An error of the kernel counts as held: nothing
    /// is ever taken from a holder that may live.
    pub(crate) fn is_held(&self) -> bool {
        let mut lock = whole_file(libc::F_WRLCK);
        // SAFETY: the descriptor is open for the call, and `lock` is a `struct flock` that the kernel may overwrite.
        let result =
            unsafe { libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
        result != 0 || i32::from(lock.l_type) != libc::F_UNLCK
    }

    /// The process id that its holder wrote down; 0 if none.
    pub(crate) fn pid(&self) -> u32 {
        pid_in(&self.file)
    }
}

/// Whether some process has this id: what an observer asks to whom the locks are closed. A dead one's id may have been
/// given to another since.
pub(crate) fn process_exists(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    // Not permitted to signal it: so it is there.
    pid.is_some_and(|pid| {
        matches!(
            rustix::process::test_kill_process(pid),
            Ok(()) | Err(Errno::PERM)
        )
    })
}

fn pid_in(file: &std::fs::File) -> u32 {
    let mut text = [0u8; 16];
    let read = file.read_at(&mut text, 0).unwrap_or(0);
    std::str::from_utf8(&text[..read])
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

/// True: taken. False: somebody has it.
fn set_lock(file: &std::fs::File) -> io::Result<bool> {
    let lock = whole_file(libc::F_WRLCK);
    // SAFETY: the descriptor is open for the call, and `lock` is a `struct flock` that the kernel only reads.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match Errno::from_io_error(&error) {
        Some(Errno::AGAIN | Errno::ACCESS) => Ok(false),
        _ => Err(error),
    }
}

/// From the first byte to whatever the end will be. OFD locks want `l_pid` 0.
fn whole_file(kind: i32) -> libc::flock {
    let kind = libc::c_short::try_from(kind).expect("lock kinds are 0 to 2");
    let from = libc::c_short::try_from(libc::SEEK_SET).expect("SEEK_SET is 0");
    libc::flock {
        l_type: kind,
        l_whence: from,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}
