//! The checkpointer: a thread that moves committed pages from the write-ahead log into the database, so that no
//! commit ever does.
//!
//! **The rule at the bound.** A passive checkpoint runs beside the writer and blocks nobody, but the log starts
//! over only when a writer finds all of it moved: under steady load it grows. At `wal_bytes_max` the checkpointer
//! moves what it can beside the writer and then the rest with the writer's lock held, and the log starts over; the turn's next
//! commit waits that long, or is told `Busy` and tries again.
//!
//! How long that is depends on what the disk lacks yet, more than on what has to be moved: a passive checkpoint syncs the
//! database only if nobody wrote meanwhile. So it is repeated, beside the writer, until one was not disturbed. With 5,000
//! messages a second in 50,000 chats the writer is held for 12 to 20 ms then; before, for 60 to 130, and commits that waited
//! for more than their 50 ms ended in errors.
//!
//! A reader that stays (a backup) pins what was written since it began: stopping the writer would not help then, so
//! the log is let grow until it has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use rusqlite::Connection;

use super::open::{self, Place};
use super::{StoreError, resync};

/// Bytes of a frame's header in the log, beside the page.
const FRAME_HEADER_BYTES: u64 = 24;

/// The rest that is worth stopping the writer for: what was written during a passive checkpoint, or what a reader of
/// milliseconds pinned.
const REST_BYTES_MAX: u64 = 16 << 20;

/// Passive checkpoints in a row that try to find the writer at rest.
const PASSES_MAX: u32 = 16;

/// The thread; stops when dropped.
#[derive(Debug)]
pub struct Checkpointer {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
}

/// What it has done, for `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Commits so far; written by the store, so that an idle database is left alone.
    pub commits: AtomicU64,
    /// Bytes in the log at the last look.
    pub wal_bytes: AtomicU64,
    /// Checkpoints that ran.
    pub checkpoints: AtomicU64,
    /// Times that the log was at its bound and was emptied.
    pub emptied: AtomicU64,
    /// How long the writer was held for that at most, µs in all.
    pub emptied_us: AtomicU64,
    /// Times that the log was at its bound and a reader that stays kept it.
    pub held: AtomicU64,
    /// Checkpoints that failed.
    pub failed: AtomicU64,
    /// An fsync failed: nothing may be written before the next start has mended the log.
    pub unsynced: AtomicBool,
}

impl Checkpointer {
    /// Starts it.
    ///
    /// # Errors
    /// If its connection or its thread cannot be made.
    pub fn start(place: &Place, every_ms: u64, wal_bytes_max: u64) -> Result<Self, StoreError> {
        let connection = place.open_checkpointer()?;
        open::checkpoint_on_close(&connection, false)?;
        let counters = Arc::new(Counters::default());
        let (stop, stopped) = bounded(0);
        let work = Work {
            connection,
            counters: Arc::clone(&counters),
            place: place.clone(),
            wal_bytes_max,
            commits_seen: 0,
        };
        let every = Duration::from_millis(every_ms.max(1));
        let thread = thread::Builder::new()
            .name("checkpointer".to_owned())
            .spawn(move || work.run(&stopped, every))
            .map_err(|error| {
                StoreError::Failed(format!("cannot start the checkpointer's thread: {error}"))
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
            counters,
        })
    }

    /// Its counters.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A checkpointer that panicked has said so; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

struct Work {
    connection: Connection,
    counters: Arc<Counters>,
    place: Place,
    wal_bytes_max: u64,
    commits_seen: u64,
}

impl Work {
    fn run(mut self, stopped: &Receiver<()>, every: Duration) {
        while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
            let commits = self.counters.commits.load(Ordering::Relaxed);
            if commits == self.commits_seen {
                continue;
            }
            match self.look() {
                Ok(()) => self.commits_seen = commits,
                Err(error @ StoreError::Unsynced(_)) => {
                    // A second fsync would succeed without having written anything: see resync.rs. The next commit
                    // ends the process.
                    tracing::error!(%error, "the checkpointer stops");
                    resync::note(&self.place);
                    self.counters.unsynced.store(true, Ordering::Release);
                    return;
                }
                Err(error) => {
                    // Busy, or the disk: the log keeps everything; the next round tries again.
                    self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%error, "checkpoint failed");
                }
            }
        }
    }

    fn look(&self) -> Result<(), StoreError> {
        let passive = checkpoint(&self.connection, "PASSIVE")?;
        let log_bytes = passive.log_bytes;
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.counters.wal_bytes.store(log_bytes, Ordering::Relaxed);
        if log_bytes <= self.wal_bytes_max {
            return Ok(());
        }
        if passive.left_bytes > REST_BYTES_MAX {
            self.counters.held.fetch_add(1, Ordering::Relaxed);
        } else {
            self.catch_up(log_bytes)?;
            let began = Instant::now();
            let emptied = checkpoint(&self.connection, "RESTART")?;
            if !emptied.blocked {
                let held_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.counters
                    .emptied_us
                    .fetch_add(held_us, Ordering::Relaxed);
                self.counters.emptied.fetch_add(1, Ordering::Relaxed);
                self.counters.wal_bytes.store(0, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// Moves what is written meanwhile until the disk has all but a little of it.
    fn catch_up(&self, mut log_bytes: u64) -> Result<(), StoreError> {
        for _ in 0..PASSES_MAX {
            let again = checkpoint(&self.connection, "PASSIVE")?;
            // Nothing was written since the one before began: it has synced everything.
            if again.log_bytes == log_bytes {
                break;
            }
            log_bytes = again.log_bytes;
        }
        Ok(())
    }
}

/// What a checkpoint found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpointed {
    /// Readers or a writer kept it from finishing.
    pub blocked: bool,
    /// Bytes in the log before.
    pub log_bytes: u64,
    /// Of these, not moved into the database.
    pub left_bytes: u64,
}

/// Runs one. `mode`: `PASSIVE` blocks nobody; `RESTART` and `TRUNCATE` wait for readers and hold the writer, and
/// the log starts over in its file or in an empty one.
///
/// # Errors
/// The database's.
pub fn checkpoint(connection: &Connection, mode: &str) -> Result<Checkpointed, StoreError> {
    let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let found = connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        Ok((
            row.get::<_, i64>(0)?,
            row.get::<_, i64>(1)?,
            row.get::<_, i64>(2)?,
        ))
    })?;
    let bytes = |frames: i64| {
        u64::try_from(frames).unwrap_or(0) * (u64::from(page_bytes) + FRAME_HEADER_BYTES)
    };
    Ok(Checkpointed {
        blocked: found.0 != 0,
        log_bytes: bytes(found.1),
        left_bytes: bytes(found.1 - found.2),
    })
}
