//! The server looked at from outside while people talk, a few times a second, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::process::{cpu_us, resident_bytes};
use crate::rest::Metrics;
use crate::system::{Ledger, System};

const EVERY: Duration = Duration::from_millis(500);

/// One process at one moment.
#[derive(Debug, Clone, Copy)]
pub struct ProcessSample {
    /// CPU time so far, µs.
    pub cpu_us: f64,
    /// Resident, bytes.
    pub resident_bytes: u64,
    /// Handed to the kernel to be written, files only, bytes so far.
    pub written_bytes: u64,
}

/// The server at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// The backend's account of all texts.
    pub ledger: Ledger,
    /// What waits in the rings: to the backend, to gateways.
    pub depths_bytes: (u64, u64),
    /// The backend, then the gateways, then the load.
    pub processes: Vec<ProcessSample>,
    /// All that the backend serves.
    pub metrics: Metrics,
}

/// Takes samples until it is stopped.
#[derive(Debug)]
pub struct Sampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<Sample>>>,
}

/// What can be asked without the system itself, which stays where it is.
struct Eye {
    system: Arc<System>,
    pids: Vec<u32>,
}

impl Sampler {
    /// Takes the first sample, and goes on.
    ///
    /// # Errors
    /// The backend does not run.
    pub fn start(system: &Arc<System>) -> Result<Self> {
        let backend = system.backend().context("the backend does not run")?;
        let mut pids = vec![backend];
        pids.extend(system.gateways());
        pids.push(std::process::id());
        let eye = Eye {
            system: Arc::clone(system),
            pids,
        };
        let mut samples = vec![eye.look()?];
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                std::thread::park_timeout(EVERY);
                samples.push(eye.look()?);
            }
            Ok(samples)
        });
        Ok(Self { stop, thread })
    }

    /// Takes the last sample; all of them, at least two.
    ///
    /// # Errors
    /// The server could not be looked at.
    pub fn stop(self) -> Result<Vec<Sample>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        let samples = self.thread.join();
        samples.map_err(|_| anyhow!("the thread that looks at the server panicked"))?
    }
}

impl Eye {
    fn look(&self) -> Result<Sample> {
        let metrics = self.system.metrics()?;
        let process = |pid: &u32| {
            let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
            let written = io
                .lines()
                .find_map(|line| line.strip_prefix("write_bytes: "));
            Ok(ProcessSample {
                cpu_us: cpu_us(*pid)?,
                resident_bytes: resident_bytes(*pid)?,
                written_bytes: written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0),
            })
        };
        Ok(Sample {
            at: Instant::now(),
            ledger: Ledger::from(&metrics),
            depths_bytes: self.system.ring_depths_bytes()?,
            processes: self.pids.iter().map(process).collect::<Result<_>>()?,
            metrics,
        })
    }
}
