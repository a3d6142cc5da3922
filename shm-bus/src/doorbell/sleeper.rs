//! The side that sleeps.

#[cfg(not(loom))]
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::{
    counters::{Counter, Counters},
    doorbell::{Pipe, Ringer},
    limits::SLEEP_MS_MAX,
    memory::Word,
    sync::{Arc, Ordering, fence},
};

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Somebody rang.
    Bell,
    /// Nobody did. Look all the same.
    Timeout,
}

/// One consumer thread's doorbell: announce the sleep, look once more, sleep.
///
/// ```no_run
/// # use std::time::Duration;
/// # fn shard(end: &mut shm_bus::ShardEnd, mut work: impl FnMut(&mut shm_bus::Consumer)) {
/// loop {
///     work(&mut end.to_gateway);
///     end.sleeper.prepare();
///     if end.to_gateway.is_empty() {
///         end.sleeper.sleep(Duration::from_millis(100));
///     } else {
///         end.sleeper.wake();
///     }
/// }
/// # }
/// ```
///
/// A thread that waits in its own io_uring submits a read of (or a poll on) [`fd`](Self::fd) instead of calling
/// `sleep`, with a time-out of at most [`SLEEP_MS_MAX`], and calls [`wake`](Self::wake) after its wait, however that
/// ended. The read may be left armed from one sleep to the next.
pub struct Sleeper {
    word: Word,
    /// What stands in the word.
    sleep: u64,
    pipe: Arc<Pipe>,
    ringer: Ringer,
    counters: Option<Counters>,
}

impl Sleeper {
    /// Over the sleeper's own word, left by an earlier life perhaps, in whatever state.
    pub(crate) fn new(word: Word, pipe: Arc<Pipe>, counters: Option<Counters>) -> Self {
        let sleep = word.load(Ordering::Relaxed).wrapping_add(1) & !1;
        word.store(sleep, Ordering::Relaxed);
        pipe.drain();
        let ringer = Ringer::new(word.clone(), Arc::clone(&pipe));
        Self {
            word,
            sleep,
            pipe,
            ringer,
            counters,
        }
    }

    /// Announces the sleep. From here on producers ring; so look at all rings now, then [`sleep`](Self::sleep), or
    /// [`wake`](Self::wake) if there was something.
    #[inline]
    pub fn prepare(&mut self) {
        self.sleep |= 1;
        self.word.store(self.sleep, Ordering::Relaxed);
        // SYNC(asleep)
        fence(Ordering::SeqCst);
    }

    /// Waits until somebody rings or the time is over (at most [`SLEEP_MS_MAX`]), and is awake then.
    pub fn sleep(&mut self, timeout: Duration) -> Woken {
        if let Some(counters) = &self.counters {
            counters.add(Counter::Sleeps, 1);
        }
        let rung = self
            .pipe
            .wait(timeout.min(Duration::from_millis(SLEEP_MS_MAX)));
        self.awake();
        if rung {
            self.pipe.drain();
            Woken::Bell
        } else {
            Woken::Timeout
        }
    }

    /// Ends what [`prepare`](Self::prepare) announced, and takes the bytes that were rung meanwhile: costs a system
    /// call, as a byte may be there that nobody waited for.
    pub fn wake(&mut self) {
        self.awake();
        self.pipe.drain();
    }

    /// Ends what [`prepare`](Self::prepare) announced without touching the pipe: for one who waits with an armed
    /// io_uring read, which takes the bytes itself. A byte rung too late ends the next sleep early, and that is all.
    pub fn awake(&mut self) {
        if !self.sleep.is_multiple_of(2) {
            self.sleep = self.sleep.wrapping_add(1);
            self.word.store(self.sleep, Ordering::Relaxed);
        }
    }

    /// The pipe's reading side: poll it, or submit an io_uring read of it. It is in blocking mode: a plain read(2)
    /// of it waits.
    #[cfg(not(loom))]
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.waiting()
    }

    /// A ringer of this doorbell, for other threads of this process.
    #[must_use]
    pub fn ringer(&self) -> Ringer {
        self.ringer.clone()
    }
}

impl std::fmt::Debug for Sleeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleeper")
            .field("sleep", &self.sleep)
            .finish_non_exhaustive()
    }
}
