//! Signals as values in a channel: a thread of its own takes them, nothing runs in a handler.

use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

/// What a process was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// SIGTERM or SIGINT: finish and exit; the number is kept for the exit code.
    Stop(i32),
    /// SIGHUP: put a successor in place of the gateways (only the supervisor does).
    Replace,
    /// SIGUSR1: read the log level again.
    LogLevel,
    /// SIGCHLD: a child ended.
    ChildEnded,
}

/// Begins to listen. Bound: signals coalesce in the kernel, so the channel holds at most a few per kind.
pub fn listen() -> Result<Receiver<Told>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD])
        .context("cannot install signal handlers")?;
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for signal in signals.forever() {
                let told = match signal {
                    SIGHUP => Told::Replace,
                    SIGUSR1 => Told::LogLevel,
                    SIGCHLD => Told::ChildEnded,
                    other => Told::Stop(other),
                };
                if sender.send(told).is_err() {
                    return;
                }
            }
        })
        .context("cannot start the signal thread")?;
    Ok(receiver)
}
