//! The named pipe of one sleeper; in model runs, a counter of bytes.

#[cfg(not(loom))]
pub(crate) use fifo::Pipe;
#[cfg(loom)]
pub(crate) use model::Pipe;

#[cfg(not(loom))]
mod fifo {
    use std::{
        io,
        os::fd::{AsFd, BorrowedFd, OwnedFd},
        time::Duration,
    };

    use rustix::{
        event::{PollFd, PollFlags, Timespec, poll},
        fs::{Mode, OFlags},
        io::{Errno, retry_on_intr},
    };

    /// Two open descriptions of one FIFO. Waiting is done on a blocking one (so that an io_uring read waits for a
    /// byte instead of failing with EAGAIN); ringing and draining on one that never blocks.
    #[derive(Debug)]
    pub(crate) struct Pipe {
        waiting: OwnedFd,
        ringing: OwnedFd,
    }

    impl Pipe {
        /// Opens the FIFO `name` in a directory. Neither open waits for a peer.
        pub(crate) fn open_at(directory: BorrowedFd<'_>, name: &str) -> io::Result<Self> {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let ringing =
                rustix::fs::openat(directory, name, flags | OFlags::NONBLOCK, Mode::empty())?;
            let waiting = rustix::fs::openat(directory, name, flags, Mode::empty())?;
            Ok(Self { waiting, ringing })
        }

        pub(crate) fn waiting(&self) -> BorrowedFd<'_> {
            self.waiting.as_fd()
        }

        /// A byte, unless the pipe is full of them.
        pub(crate) fn ring(&self) {
            // Nothing to do about any error: EAGAIN means that the sleeper has bytes to wake by, and for the rest
            // it looks again by itself.
            let _ = retry_on_intr(|| rustix::io::write(&self.ringing, &[1]));
        }

        /// Takes all bytes. Bounded: one read takes a pipe's whole default capacity or leaves it to the next wake.
        pub(crate) fn drain(&self) {
            let mut bytes = [0u8; 4096];
            let _ = retry_on_intr(|| rustix::io::read(&self.ringing, &mut bytes));
        }

        /// Waits for a byte; true if there is one. A signal counts as a time-out: the caller looks again.
        pub(crate) fn wait(&self, timeout: Duration) -> bool {
            let mut fds = [PollFd::new(&self.waiting, PollFlags::IN)];
            let timeout = Timespec::try_from(timeout).expect("at most SLEEP_MS_MAX");
            match poll(&mut fds, Some(&timeout)) {
                Ok(ready) => ready > 0,
                Err(Errno::INTR | _) => false,
            }
        }
    }
}

#[cfg(loom)]
mod model {
    use loom::sync::{Condvar, Mutex};

    /// Bytes in the pipe, as loom sees it. There is no time-out: a lost wake-up is a deadlock, which loom reports.
    #[derive(Debug, Default)]
    pub(crate) struct Pipe {
        bytes: Mutex<usize>,
        rung: Condvar,
    }

    impl Pipe {
        pub(crate) fn ring(&self) {
            *self.bytes.lock().expect("no model panics with it") += 1;
            self.rung.notify_one();
        }

        pub(crate) fn drain(&self) {
            *self.bytes.lock().expect("no model panics with it") = 0;
        }

        pub(crate) fn wait(&self, _timeout: std::time::Duration) -> bool {
            let mut bytes = self.bytes.lock().expect("no model panics with it");
            while *bytes == 0 {
                bytes = self.rung.wait(bytes).expect("no model panics with it");
            }
            true
        }
    }
}
