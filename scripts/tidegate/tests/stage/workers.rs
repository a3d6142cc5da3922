//! Workers beside the backend: the examples of shm-bus in Python, and what `/metrics` says of them.

use std::path::Path;
use std::process::{Child, Stdio};

use super::python::python_itself;
use super::{Stage, eventually, http};

/// A worker as a process of its own.
pub struct Worker(Child);

impl Worker {
    /// `shm-bus/examples/{kind}_worker.py`, once Tidegate sees it.
    pub fn start(stage: &Stage, kind: &str) -> Self {
        let directory = stage.bus().join(kind);
        let worker = Self(spawn(kind, &directory));
        await_figure(stage, "worker_present", kind, 1);
        worker
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

fn spawn(kind: &str, directory: &Path) -> Child {
    let mut command = python_itself(&format!("shm-bus/examples/{kind}_worker.py"));
    command.arg(directory).stderr(Stdio::inherit());
    command.stdout(Stdio::null()).spawn().expect("it starts")
}

impl Drop for Worker {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// One figure of a kind of worker.
pub fn figure(stage: &Stage, name: &str, kind: &str) -> u64 {
    let metrics = http::get(stage.http, "/metrics", None).body;
    let begin = format!("tidegate_{name}{{worker=\"{kind}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&begin));
    // The first snapshot of a backend has none yet.
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// Waits until a figure is that: what is shown is a moment old.
pub fn await_figure(stage: &Stage, name: &str, kind: &str, value: u64) {
    eventually(&format!("{name} of {kind} to be {value}"), || {
        (figure(stage, name, kind) == value).then_some(())
    });
}
