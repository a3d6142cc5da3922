//! The loop of a shard: submit, sleep in the shard's own ring, hand out what happened, let the core do its round.
//!
//! It runs as one glommio task. The ring's sleep is the thread's sleep, so the task visits glommio's queues itself:
//! when the control doorbell rang, and at least every 100 ms.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use io_uring::cqueue;

use super::uring::UringDriver;
use super::user_data::{Operation, unpack};
use super::{Key, ReceiveEnd, Socket};
use crate::counters::Published;
use crate::service::Service;
use crate::shard::{SendError, Shard};
use crate::time::{Span, Time};

/// The ring's task visits glommio's queues at least so often, ms; a bell that got lost is found by then.
const VISIT_MS: u64 = 100;
/// Completions that are handed out between two submissions.
const ROUND_COMPLETIONS_MAX: usize = 1024;

/// Slots are prefetched for so many completions ahead.
const EXPECT_AHEAD: usize = 4;

/// Wall clock at the start plus monotonic time: it never steps back.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began_us: u64,
    began: Instant,
}

impl Clock {
    /// Reads the wall clock, for the only time.
    #[must_use]
    pub fn start() -> Self {
        let wall = shm_bus::fault::wall_clock().duration_since(UNIX_EPOCH);
        Self {
            began_us: wall.map_or(0, |wall| u64::try_from(wall.as_micros()).unwrap_or(0)),
            began: Instant::now(),
        }
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> Time {
        let since = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        Time::from_us(self.began_us.saturating_add(since))
    }
}

/// What the control plane asked of a shard. Set from any thread; the bell makes a sleeping shard look, and a shard
/// looks at every visit.
///
/// Not a message over glommio's channels: between executors that sleep in rings of their own their wake-ups get lost.
#[derive(Debug, Default)]
pub struct Asked {
    /// Drain and return.
    pub drain: AtomicBool,
}

/// The shard's way to its environment.
pub struct Surroundings<'a> {
    /// The process's clock.
    pub clock: Clock,
    /// Rung when something was asked: an eventfd.
    pub bell: &'a OwnedFd,
    /// What was asked.
    pub asked: &'a Asked,
    /// Where counters are published.
    pub published: &'a Published,
}

/// Drives the shard until it was drained.
///
/// # Errors
/// When the ring itself fails.
pub async fn drive<S: Service>(
    shard: &mut Shard<S>,
    driver: &mut UringDriver,
    around: Surroundings<'_>,
) -> io::Result<()> {
    let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(ROUND_COMPLETIONS_MAX);
    let doorbell = shard.service().doorbell();
    let bell = around.bell.as_raw_fd();
    driver.watch(Operation::Control, bell);
    if let Some(doorbell) = doorbell {
        driver.watch(Operation::Doorbell, doorbell);
    }
    let mut visit_at = around.clock.now();
    let mut now = visit_at;
    shard.begin_round(now);
    shard.start(driver);
    loop {
        // A service with a doorbell publishes that it sleeps, which costs its peer a system call to end: not before it
        // is known that there is nothing to do.
        if doorbell.is_some() {
            driver.enter(None)?;
            driver.completions(&mut completions);
        }
        if completions.is_empty() {
            let sleep = doorbell.is_none() || shard.service().before_sleep();
            let until = shard
                .next_deadline()
                .map_or(visit_at, |at| at.min(visit_at));
            let timeout = if sleep {
                until.since(around.clock.now())
            } else {
                Span::default()
            };
            driver.enter(Some(Duration::from_micros(timeout.us())))?;
            driver.completions(&mut completions);
        }
        now = around.clock.now().max(now);
        shard.begin_round(now);
        let mut rung = false;
        for (index, completion) in completions.iter().enumerate() {
            if let Some(ahead) = completions.get(index + EXPECT_AHEAD) {
                shard.expect(unpack(ahead.user_data()).1);
            }
            rung |= complete(shard, driver, completion, (bell, doorbell));
        }
        completions.clear();
        if now >= visit_at {
            driver.help_siblings(|driver, newcomer| match newcomer {
                Some(socket) => shard.helped(driver, socket),
                None => shard.accept_failed(driver),
            });
        }
        driver.arm_accepts();
        shard.end_round(driver);
        if rung || now >= visit_at {
            let counts = shard.counts();
            counts.completion_overflows_total = driver.overflows;
            counts.buffers_free = u64::from(super::Driver::buffers_free(driver).0);
            around.published.publish(counts);
            // What was asked for goes to the kernel before others get the thread.
            driver.enter(None)?;
            glommio::executor().yield_task_queue_now().await;
            visit_at = around.clock.now() + Span::from_ms(VISIT_MS);
            if let Some(sentence) = shard.service().failure() {
                return Err(io::Error::other(sentence));
            }
            if around.asked.drain.load(Ordering::Acquire) {
                shard.drain(driver);
            }
        }
        if shard.is_drained() && driver.accepts_ended() {
            driver.enter(None)?;
            around.published.publish(shard.counts());
            return Ok(());
        }
    }
}

/// Hands out one completion. True: the control doorbell rang.
fn complete<S: Service>(
    shard: &mut Shard<S>,
    driver: &mut UringDriver,
    completion: &cqueue::Entry,
    (bell, doorbell): (RawFd, Option<RawFd>),
) -> bool {
    let (operation, key) = unpack(completion.user_data());
    let result = completion.result();
    let more = cqueue::more(completion.flags());
    match operation {
        Operation::Receive => received(shard, driver, key, completion),
        Operation::Send => {
            let sent = match u32::try_from(result) {
                Ok(count) => Ok(count),
                Err(_) if result == -libc::ECANCELED => Err(SendError::Cancelled),
                Err(_) => Err(SendError::Failed),
            };
            shard.sent(driver, key, sent);
        }
        Operation::Accept => {
            if !more {
                driver.accept_ended(key.slot);
            }
            match u32::try_from(result) {
                Ok(socket) => shard.accepted(driver, Socket(socket)),
                Err(_) if out_of_room(-result) => shard.accept_failed(driver),
                // The peer of a connection in the backlog hung up, or accepting was paused.
                Err(_) => {}
            }
        }
        Operation::Control => {
            drain_eventfd(bell);
            if !more {
                driver.watch(Operation::Control, bell);
            }
            return true;
        }
        Operation::Doorbell => {
            if let Some(doorbell) = doorbell
                && !more
            {
                driver.watch(Operation::Doorbell, doorbell);
            }
        }
        Operation::Ignored => {}
    }
    false
}

#[inline]
fn received<S: Service>(
    shard: &mut Shard<S>,
    driver: &mut UringDriver,
    key: Key,
    completion: &cqueue::Entry,
) {
    let result = completion.result();
    let buffer = driver.take_buffer(completion);
    match (buffer, usize::try_from(result)) {
        (Some(id), Ok(length)) if length > 0 => shard.received(driver, key, id, length),
        (Some(id), _) => super::Driver::give_back(driver, id),
        (None, _) => {}
    }
    if cqueue::more(completion.flags()) {
        return;
    }
    let end = match result {
        0 => ReceiveEnd::EndOfStream,
        1.. => ReceiveEnd::Over,
        _ if result == -libc::ENOBUFS => ReceiveEnd::NoBuffers,
        _ if matches!(-result, libc::ECANCELED | libc::EAGAIN | libc::EINTR) => ReceiveEnd::Over,
        _ => ReceiveEnd::Failed,
    };
    shard.receive_ended(driver, key, end);
}

/// Whether accepting failed for want of descriptors or memory.
fn out_of_room(errno: i32) -> bool {
    matches!(
        errno,
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS
    )
}

fn drain_eventfd(bell: RawFd) {
    let mut count = [0; 8];
    #[expect(unsafe_code, reason = "the descriptor is borrowed by number")]
    // SAFETY: the eventfd lives as long as the drive, which borrows it.
    let bell = unsafe { std::os::fd::BorrowedFd::borrow_raw(bell) };
    // It does not block; nothing to read is as good.
    let _ = rustix::io::read(bell, &mut count);
}
