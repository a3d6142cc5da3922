//! How a gateway or a backend begins as a process: its log, its signals, and what it owes to the supervisor.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::logging;
use crate::settings::Settings;
use crate::signals::{self, Told};

/// Set by the supervisor in the environment of what it starts.
const SUPERVISED: &str = "TIDEGATE_SUPERVISED";

/// A process that a supervisor started ends when its supervisor does, even by kill -9: an orphan would hold the port and
/// the bus against the next start. Asks the kernel for SIGTERM at the supervisor's death, where there is one.
fn die_with_supervisor() {
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

/// Between two times that freed memory is given back to the system.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(1);

/// Gives freed memory back to the system while nobody allocates: the allocator does it only as it goes about its work,
/// so that after a storm a quiet gateway would keep what the longest messages took.
fn give_memory_back() -> Result<()> {
    #[expect(unsafe_code, reason = "mimalloc's function for it is C")]
    // SAFETY: this is its declaration in mimalloc.h; the program's allocator is mimalloc.
    unsafe extern "C" {
        safe fn mi_collect(force: bool);
    }
    let rounds = move || loop {
        std::thread::sleep(GIVE_BACK_EVERY);
        mi_collect(false);
    };
    let thread = std::thread::Builder::new().name("memory".to_owned());
    thread.spawn(rounds).context("cannot start a thread")?;
    Ok(())
}

/// Starts log lines and signals of this process, ties it to its supervisor, gives its freed memory back, and makes it end
/// with a sentence when a bus file is truncated. `stop` is called, on a thread of its own, each time that the process is
/// told to stop.
pub fn begin(settings: &Settings, stop: impl Fn() + Send + 'static) -> Result<()> {
    let told = signals::listen()?;
    let level = logging::start(&settings.log, &settings.data_dir)?;
    std::thread::Builder::new()
        .name("told".to_owned())
        .spawn(move || {
            for told in told {
                match told {
                    Told::Stop(_) => stop(),
                    Told::LogLevel => level.reload(),
                    Told::Replace | Told::ChildEnded => {}
                }
            }
        })
        .context("cannot start a thread")?;
    die_with_supervisor();
    give_memory_back()?;
    shm_bus::exit_on_truncation().context("cannot install the handler for a truncated bus")
}
