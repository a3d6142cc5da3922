//! One supervised process: started with its sockets, restarted with backoff, its exit code kept.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, Signal, kill_process};

/// Exit code of a process whose settings or surroundings are wrong: starting it again would not help.
pub const EXIT_UNUSABLE: i32 = 78;

const RESTART_MS_MIN: u64 = 100;
const RESTART_MS_MAX: u64 = 10_000;
/// A process that ran this long before it died begins its backoff anew.
const SETTLED_MS: u64 = 30_000;

/// The first descriptor that a child inherits, by the systemd socket-activation protocol.
const FIRST_LISTEN_FD: i32 = 3;

/// How to start one process.
#[derive(Debug)]
pub struct Plan {
    /// For log lines: `backend`, `gateway-1`.
    pub name: String,
    /// The program; the supervisor's own file, unless a newer one was put in its place.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Sockets that it inherits, in this order, from descriptor 3 on.
    pub listeners: Vec<Passed>,
}

/// A listening socket that is passed on.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The supervisor's own, which outlives every child.
    pub socket: Arc<TcpListener>,
    /// What the child is told that it is for, as systemd's FileDescriptorName.
    pub name: &'static str,
}

/// What became of a child that was looked at.
#[derive(Debug)]
pub enum Fate {
    /// It runs, or waits for its next start.
    Alive,
    /// It ended; it will be started again at the given time.
    Restarts(ExitStatus, Duration),
    /// It ended for its successor, which is started at the next look.
    Renewed(ExitStatus),
    /// It ended and is not started again.
    Over(ExitStatus),
}

/// A plan and the process that runs it, if one does.
#[derive(Debug)]
pub struct Supervised {
    plan: Plan,
    process: Option<Child>,
    started: Instant,
    restart_at: Option<Instant>,
    failures: u32,
    stopping: bool,
    /// Told to end for its successor; by then it is killed.
    renewed_by: Option<Instant>,
}

impl Supervised {
    /// Starts the process.
    pub fn start(plan: Plan) -> Result<Self> {
        let process = spawn(&plan)?;
        Ok(Self {
            plan,
            process: Some(process),
            started: Instant::now(),
            restart_at: None,
            failures: 0,
            stopping: false,
            renewed_by: None,
        })
    }

    /// The name for log lines.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// The process id while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// When this child wants to be looked at again, at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.restart_at.or(self.renewed_by)
    }

    /// Asks the process to finish; it is not started again.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.restart_at = None;
        self.signal(Signal::TERM);
    }

    /// Asks the process to finish; another takes its place at once. It is killed when it has not ended by then.
    pub fn renew(&mut self, by: Instant) {
        // One that is down starts from the newer file anyway.
        if self.process.is_some() {
            self.renewed_by = Some(by);
            self.signal(Signal::TERM);
        }
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        self.stopping = true;
        self.signal(Signal::KILL);
    }

    /// Passes a signal on.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self
            .pid()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw)
        {
            // The child is ours and not yet waited for, so the id can't belong to another process.
            let _gone_is_fine = kill_process(pid, signal);
        }
    }

    /// Collects an exit, starts again what is due.
    pub fn look(&mut self, now: Instant) -> Result<Fate> {
        if let Some(process) = &mut self.process
            && let Some(status) = process
                .try_wait()
                .with_context(|| format!("cannot wait for {}", self.plan.name))?
        {
            self.process = None;
            return Ok(self.ended(status, now));
        }
        if self.renewed_by.is_some_and(|by| by <= now) {
            self.signal(Signal::KILL);
        }
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.process = Some(spawn(&self.plan)?);
            self.started = now;
        }
        Ok(Fate::Alive)
    }

    fn ended(&mut self, status: ExitStatus, now: Instant) -> Fate {
        if self.stopping || status.code() == Some(EXIT_UNUSABLE) {
            return Fate::Over(status);
        }
        if self.renewed_by.take().is_some() {
            self.failures = 0;
            self.restart_at = Some(now);
            return Fate::Renewed(status);
        }
        if now.duration_since(self.started) >= Duration::from_millis(SETTLED_MS) {
            self.failures = 0;
        }
        let wait = restart_wait(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.restart_at = Some(now + wait);
        Fate::Restarts(status, wait)
    }
}

/// Doubles from `RESTART_MS_MIN` to `RESTART_MS_MAX`; the first restart is at once, because nobody may wait for it.
fn restart_wait(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => Duration::from_millis(
            RESTART_MS_MIN
                .saturating_mul(1 << (n - 1).min(16))
                .min(RESTART_MS_MAX),
        ),
    }
}

fn spawn(plan: &Plan) -> Result<Child> {
    let mut mappings = Vec::with_capacity(plan.listeners.len());
    for (child_fd, listener) in (FIRST_LISTEN_FD..).zip(&plan.listeners) {
        let parent_fd = OwnedFd::from(
            listener
                .socket
                .try_clone()
                .context("cannot duplicate a listening socket")?,
        );
        mappings.push(FdMapping {
            parent_fd,
            child_fd,
        });
    }
    let mut command = Command::new(&plan.program);
    command
        .args(&plan.arguments)
        .env("TIDEGATE_SUPERVISED", "1");
    let names: Vec<&str> = plan.listeners.iter().map(|passed| passed.name).collect();
    // No LISTEN_PID: the id is only known after the fork. Receivers take the descriptors when it is absent.
    command
        .env_remove("LISTEN_PID")
        .env("LISTEN_FDS", plan.listeners.len().to_string())
        .env("LISTEN_FDNAMES", names.join(":"));
    command
        .fd_mappings(mappings)
        .context("two listening sockets on one descriptor")?;
    command
        .spawn()
        .with_context(|| format!("cannot start {} ({})", plan.name, plan.program.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn plan(script: &str) -> Plan {
        Plan {
            name: "child".to_owned(),
            program: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            listeners: Vec::new(),
        }
    }

    /// Looks until the child has another fate than being alive.
    fn fate_of(child: &mut Supervised) -> Fate {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match child
                .look(Instant::now())
                .expect("the child can be waited for")
            {
                Fate::Alive => assert!(Instant::now() < deadline, "the child never ended"),
                fate => return fate,
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_crash_is_restarted_at_once_and_then_with_growing_waits() {
        let mut child = Supervised::start(plan("exit 3")).expect("sh starts");
        let mut waits = Vec::new();
        for _ in 0..4 {
            match fate_of(&mut child) {
                Fate::Restarts(status, wait) => {
                    assert_eq!(status.code(), Some(3));
                    waits.push(wait.as_millis());
                }
                other => panic!("expected a restart, found {other:?}"),
            }
        }
        assert_eq!(waits, [0, 100, 200, 400]);
        assert_eq!(restart_wait(60).as_millis(), u128::from(RESTART_MS_MAX));
    }

    #[test]
    fn an_unusable_process_is_not_started_again_and_its_code_is_kept() {
        let mut child = Supervised::start(plan("exit 78")).expect("sh starts");
        assert!(
            matches!(fate_of(&mut child), Fate::Over(status) if status.code() == Some(EXIT_UNUSABLE))
        );
    }

    #[test]
    fn a_stopped_process_gets_sigterm_and_stays_down() {
        let mut child = Supervised::start(plan("exec sleep 100")).expect("sh starts");
        child.stop();
        assert!(matches!(fate_of(&mut child), Fate::Over(_)));
        assert_eq!(child.deadline(), None);
    }

    #[test]
    fn a_renewed_process_is_followed_at_once_by_what_lies_at_its_path_then() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("program");
        let put = |version: &str, script: &str| {
            let path = directory.path().join(version);
            std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
                .expect("a mode");
            std::fs::rename(path, &program).expect("a name");
        };
        put("old", "exec sleep 100");
        let mut old = plan("");
        old.program.clone_from(&program);
        let mut child = Supervised::start(old).expect("sh starts");
        put("new", "exit 78");
        child.renew(Instant::now() + Duration::from_secs(20));
        assert!(matches!(fate_of(&mut child), Fate::Renewed(_)));
        assert!(matches!(fate_of(&mut child), Fate::Over(status) if status.code() == Some(78)));
    }

    #[test]
    fn a_process_that_does_not_end_for_its_successor_is_killed() {
        let mut child = Supervised::start(plan("trap '' TERM; while :; do sleep 0.01; done"))
            .expect("sh starts");
        child.renew(Instant::now());
        assert!(matches!(fate_of(&mut child), Fate::Renewed(status) if !status.success()));
        child.kill();
    }

    #[test]
    fn listening_sockets_arrive_by_name_from_descriptor_three_on() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback binds");
        let mut wanted = plan(
            "test \"$LISTEN_FDS $LISTEN_FDNAMES\" = '1 mine' && test -S /proc/self/fd/3 && exit 78; exit 1",
        );
        wanted.listeners.push(Passed {
            socket: Arc::new(listener),
            name: "mine",
        });
        let mut child = Supervised::start(wanted).expect("sh starts");
        assert!(matches!(fate_of(&mut child), Fate::Over(status) if status.code() == Some(78)));
    }
}
