//! Named points at which tests kill a process.
//!
//! With the feature `fault-points`, a process whose environment says `TIDEGATE_FAULT=name` or
//! `TIDEGATE_FAULT=name:nth` sends itself SIGKILL when it passes the point of that name for the first (nth) time;
//! several are separated by commas. Without the feature a point is nothing at all.
//!
//! Points of this crate: `claim.before_commit`, `commit.before_publish`, `commit.after_publish`,
//! `ring.before_doorbell`, `consume.before_release`, `consume.after_release`, `segment.before_version`,
//! `segment.before_rename`, `attach.before_attached`.

/// Dies here if the environment says so.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_name: &str) {}

/// Dies here if the environment says so.
#[cfg(feature = "fault-points")]
pub fn point(name: &str) {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };
    struct Fault {
        name: String,
        passes_left: AtomicU64,
    }
    static FAULTS: OnceLock<Vec<Fault>> = OnceLock::new();
    let faults = FAULTS.get_or_init(|| {
        let wanted = std::env::var("TIDEGATE_FAULT").unwrap_or_default();
        let named = wanted.split(',').filter(|one| !one.is_empty());
        named
            .map(|one| {
                let (name, nth) = one.split_once(':').unwrap_or((one, "1"));
                let nth = nth.parse().unwrap_or(1);
                Fault {
                    name: name.to_owned(),
                    passes_left: AtomicU64::new(nth),
                }
            })
            .collect()
    });
    for fault in faults.iter().filter(|fault| fault.name == name) {
        if fault.passes_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // SIGKILL to oneself: nothing is flushed, dropped or unwound, as when the kernel's OOM killer comes.
            let me = rustix::process::getpid();
            let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
        }
    }
}
