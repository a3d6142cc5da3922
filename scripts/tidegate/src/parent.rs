//! A process that a supervisor started ends when its supervisor does, even by kill -9: an orphan would hold the
//! port and the bus against the next start.

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

/// Set by the supervisor in the environment of what it starts.
const SUPERVISED: &str = "TIDEGATE_SUPERVISED";

/// Asks the kernel for SIGTERM at the supervisor's death, where there is one.
pub fn die_with_supervisor() {
    if std::env::var_os(SUPERVISED).is_none() {
        return;
    }
    if let Err(error) = set_parent_process_death_signal(Some(Signal::TERM)) {
        tracing::warn!("cannot tie my life to the supervisor's: {error}");
    }
    // It may have died before the line above.
    if getppid().is_none_or(|parent| parent.is_init()) {
        std::process::exit(0);
    }
}
