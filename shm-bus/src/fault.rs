//! Named points at which tests kill a process, and the clock that they step.
//!
//! With the feature `fault-points`, a process whose environment says `TIDEGATE_FAULT=name` or
//! `TIDEGATE_FAULT=name:nth` sends itself SIGKILL when it passes the point of that name for the first (nth) time;
//! several are separated by commas. Without the feature a point is nothing at all.
//!
//! With the feature `simulation` a thread can be told to die in the same places without its process: the simulator
//! plays several processes on one thread, arms (`arm`) the one whose turn it is, and a point then unwinds with `Died`.
//! Whoever catches it drops what that process held, without any orderly stop.
//!
//! Points of this crate: `claim.before_commit`, `commit.before_publish`, `commit.after_publish`,
//! `ring.before_doorbell`, `consume.before_release`, `consume.after_release`, `segment.before_version`,
//! `segment.before_rename`, `attach.before_attached`.

use std::time::SystemTime;

#[cfg(feature = "simulation")]
pub use simulated::{Died, arm, disarm};

/// The machine's wall clock: what every part of Tidegate reads, so that a trial can step it.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
#[must_use]
pub fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// The machine's wall clock. With `TIDEGATE_CLOCK_FILE` in the environment, so many seconds ahead of it (behind it: a
/// negative number) as that file says now: the clock of a machine can't be stepped for one process alone.
#[cfg(feature = "fault-points")]
#[must_use]
pub fn wall_clock() -> SystemTime {
    use std::time::Duration;
    let now = SystemTime::now();
    let Some(file) = std::env::var_os("TIDEGATE_CLOCK_FILE") else {
        return now;
    };
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let ahead_s: i64 = text.trim().parse().unwrap_or(0);
    let step = Duration::from_secs(ahead_s.unsigned_abs());
    if ahead_s < 0 { now - step } else { now + step }
}

/// Dies here if the environment says so.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Dies here if the environment says so, or the simulator.
#[cfg(feature = "fault-points")]
pub fn point(name: &str) {
    use std::sync::{Mutex, OnceLock, PoisonError};
    /// A name, and how often it is still passed.
    type Fault = (String, u64);
    static FAULTS: OnceLock<Mutex<Vec<Fault>>> = OnceLock::new();
    #[cfg(feature = "simulation")]
    simulated::pass(name);
    let faults = FAULTS.get_or_init(|| {
        let wanted = std::env::var("TIDEGATE_FAULT").unwrap_or_default();
        let wanted = wanted.split(',').filter(|one| !one.is_empty());
        let faults = wanted.map(|one| {
            let (name, nth) = one.split_once(':').unwrap_or((one, "1"));
            (name.to_owned(), nth.parse().unwrap_or(1))
        });
        Mutex::new(faults.collect())
    });
    let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
    for (_, passes_left) in faults.iter_mut().filter(|(known, _)| known == name) {
        *passes_left = passes_left.saturating_sub(1);
        if *passes_left == 0 {
            // SIGKILL to oneself: nothing is flushed, dropped or unwound, as when the kernel's OOM killer comes.
            let me = rustix::process::getpid();
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        }
    }
}

#[cfg(feature = "simulation")]
mod simulated {
    use std::cell::Cell;

    thread_local! {
        /// Points that this thread still passes before it dies; 0 = it is not armed.
        static PASSES_LEFT: Cell<u64> = const { Cell::new(0) };
    }

    /// What a thread that died at a point unwinds with.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Died {
        /// Where.
        pub point: String,
    }

    /// From here on this thread dies at the nth point that it passes, whatever its name. 0 = it does not.
    pub fn arm(nth: u64) {
        PASSES_LEFT.set(nth);
    }

    /// Takes [`arm`] back; how many points it would still have passed, 0 if it was not armed.
    pub fn disarm() -> u64 {
        PASSES_LEFT.replace(0)
    }

    pub(super) fn pass(name: &str) {
        let left = PASSES_LEFT.get();
        PASSES_LEFT.set(left.saturating_sub(1));
        if left == 1 {
            let died = Died {
                point: name.to_owned(),
            };
            // Without the panic hook: nothing failed.
            std::panic::resume_unwind(Box::new(died));
        }
    }
}
