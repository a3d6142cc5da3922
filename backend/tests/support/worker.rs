//! A worker beside the backend as a process of its own: the test's own program, run again, that is killed when dropped.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_backend::workers::{Desk, Records, Worker as _};

/// Names the worker's directory to this program, when it is to be the worker.
pub const DIRECTORY: &str = "TIDEGATE_TEST_WORKER";

/// No step waits longer.
const DEADLINE: Duration = Duration::from_secs(20);

/// The test of that name in this file is the worker's process: it serves where [`DIRECTORY`] is set, and else does nothing.
const THE_WORKER: &str = "the_worker_process";

pub struct Worker(Child);

impl Worker {
    pub fn start(directory: &Path) -> Self {
        let program = std::env::current_exe().expect("this test's own file");
        let child = Command::new(program)
            .args(["--exact", THE_WORKER])
            .env(DIRECTORY, directory)
            .stdout(Stdio::null())
            .spawn();
        Self(child.expect("it starts"))
    }
}

impl Drop for Worker {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn await_worker<R: Records>(desk: &Desk<R>, there: bool) {
    eventually("the worker to come or go", || {
        (desk.is_there() == there).then_some(())
    });
}

pub fn ask<R: Records>(desk: &mut Desk<R>, number: u64, question: R::Question) -> R::Answer {
    assert!(desk.ask(number, question), "a worker is there");
    let (answered, answer) = eventually("the answer", || desk.answer());
    assert_eq!(answered, number);
    answer
}
