//! Reading without the turn: a fixed number of threads, each with a read-only connection, behind one bounded queue.
//!
//! A read is a closure over a [`Reader`]; it runs inside one short read transaction, so it sees one commit, and
//! never holds the log for long. When the queue is full the asker is told so at once (HTTP: 503).

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::thread;

use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::oneshot;

use super::StoreError;
use super::open::Place;
use super::read::Reader;

type Job = Box<dyn FnOnce(&Reader) + Send>;

/// The threads' door; cheap to clone. The threads end when the last clone is gone.
#[derive(Debug, Clone)]
pub struct Readers {
    jobs: Sender<Job>,
    counters: Arc<Counters>,
}

/// For `/metrics`.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reads that ran.
    pub reads: AtomicU64,
    /// Reads refused because the queue was full.
    pub refused: AtomicU64,
    /// Reads that failed.
    pub failed: AtomicU64,
}

/// An answer on its way.
#[derive(Debug)]
pub struct Reading<T> {
    answer: oneshot::Receiver<Result<T, StoreError>>,
}

impl Readers {
    /// Opens the connections and starts the threads.
    ///
    /// # Errors
    /// If a connection or a thread cannot be made.
    pub fn start(
        place: &Place,
        site_id: u32,
        threads: usize,
        reads_waiting_max: usize,
    ) -> Result<Self, StoreError> {
        let (jobs, queue) = bounded(reads_waiting_max.max(1));
        for number in 0..threads.max(1) {
            let reader = Reader::new(place.open_reader()?, site_id);
            let queue = queue.clone();
            thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(move || run(&reader, &queue))
                .map_err(|error| {
                    StoreError::Failed(format!("cannot start a reader's thread: {error}"))
                })?;
        }
        Ok(Self {
            jobs,
            counters: Arc::default(),
        })
    }

    /// Has a thread read something.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too many reads wait already.
    pub fn ask<T, R>(&self, read: R) -> Result<Reading<T>, StoreError>
    where
        T: Send + 'static,
        R: FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        self.ask_then(read, move |found| {
            // The asker may have gone; then nobody minds.
            let _ = sender.send(found);
        })?;
        Ok(Reading { answer })
    }

    /// The same with a callback on the reader's thread, for askers that are no tasks (the turn: put the answer
    /// into its queue and ring its doorbell). The callback must not wait for anything.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when too many reads wait already; the callback is then not called.
    pub fn ask_then<T, R, F>(&self, read: R, then: F) -> Result<(), StoreError>
    where
        R: FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
        F: FnOnce(Result<T, StoreError>) + Send + 'static,
    {
        let counters = Arc::clone(&self.counters);
        let job: Job = Box::new(move |reader| {
            let found = catch_unwind(AssertUnwindSafe(|| reader.in_transaction(|| read(reader))))
                .unwrap_or_else(|_| {
                    Err(StoreError::Failed(
                        "a read panicked; the log says where".to_owned(),
                    ))
                });
            counters.reads.fetch_add(1, Ordering::Relaxed);
            counters
                .failed
                .fetch_add(u64::from(found.is_err()), Ordering::Relaxed);
            then(found);
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => {
                self.counters.refused.fetch_add(1, Ordering::Relaxed);
                StoreError::Busy("too many reads wait; try again".to_owned())
            }
            TrySendError::Disconnected(_) => {
                StoreError::Failed("the readers have stopped".to_owned())
            }
        })
    }

    /// What they have done.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

fn run(reader: &Reader, queue: &Receiver<Job>) {
    for job in queue {
        job(reader);
    }
}

impl<T> Reading<T> {
    /// Waits on this thread; never call it on the turn's or on a task's.
    ///
    /// # Errors
    /// The read's.
    pub fn wait(self) -> Result<T, StoreError> {
        self.answer
            .blocking_recv()
            .unwrap_or_else(|_| Err(stopped()))
    }
}

impl<T> Future for Reading<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.answer)
            .poll(context)
            .map(|answer| answer.unwrap_or_else(|_| Err(stopped())))
    }
}

fn stopped() -> StoreError {
    StoreError::Failed("the readers have stopped".to_owned())
}
