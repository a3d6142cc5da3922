//! Processes that a question starts and watches: pinned to a core, ended when dropped, their CPU time and memory read
//! from the kernel.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// More descriptors than a process of a load or a peer ever has.
const DESCRIPTORS_MAX: u64 = 1 << 15;

/// CPU time of a process so far, all threads that it has or had, µs.
///
/// The kernel's process clock: exact to the nanosecond and up to this moment, where `/proc/PID/stat` counts in ticks of
/// 10 ms.
///
/// # Errors
/// When there is no such process.
pub fn cpu_us(pid: u32) -> io::Result<f64> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut clock = 0;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    #[expect(
        unsafe_code,
        reason = "the clock of another process has no safe wrapper"
    )]
    // SAFETY: both calls write one value each, to locals of the right type that outlive them.
    let error = unsafe {
        match libc::clock_getcpuclockid(pid, &raw mut clock) {
            0 => match libc::clock_gettime(clock, &raw mut time) {
                0 => 0,
                _ => io::Error::last_os_error()
                    .raw_os_error()
                    .unwrap_or(libc::EIO),
            },
            error => error,
        }
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "microseconds of years are below 2^53"
    )]
    Ok(time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3)
}

/// Resident memory of a process, bytes (VmRSS).
///
/// # Errors
/// When there is no such process.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// Resident memory that is a process's own: without the bus, whose size is fixed and of which pages are touched as records
/// go by, and without pages of files.
///
/// # Errors
/// When there is no such process.
pub fn own_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "RssAnon:")
}

/// Resident memory of a bus, which all who map it have in common.
///
/// # Errors
/// When there is no such process.
pub fn shared_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "RssShmem:")
}

fn status_bytes(pid: u32, name: &str) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
        .ok_or_else(|| io::Error::other(format!("process {pid} has ended")))
}

/// Ends a process with SIGKILL.
///
/// # Errors
/// When there is no such process, or it is another user's.
pub fn kill(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("no process has that number"))?;
    Ok(kill_process(pid, Signal::KILL)?)
}

/// Descriptors that a process has open.
///
/// # Errors
/// When there is no such process, or it is another user's.
pub fn descriptors(pid: u32) -> io::Result<u64> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64)
}

/// Lets this process, and what it starts, open as many descriptors as the system allows it.
///
/// # Errors
/// When the kernel refuses.
pub fn raise_descriptor_limit() -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// Descriptors that a process of this user may open at most.
#[must_use]
pub fn descriptors_max() -> u64 {
    getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX)
}

/// Lets the table of descriptors grow to what the limit allows, at once: a process with several threads waits tens of
/// milliseconds for each doubling later. To be called before the first thread is started.
///
/// # Errors
/// When no descriptor is left.
pub fn grow_descriptor_table() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let highest = i32::try_from(limit.min(DESCRIPTORS_MAX) - 1).unwrap_or(i32::MAX);
    drop(fcntl_dupfd_cloexec(io::stdin(), highest)?);
    Ok(())
}

/// Pins the calling thread, and what it starts later, to one core.
///
/// # Errors
/// When the core does not exist or may not be used.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// A child process, killed and waited for when dropped. Its standard input is a pipe that closes when this process
/// ends, however it ends: children of ours end with it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a command on a core (any, without one). `TIDEGATE_SUPERVISED` makes a Tidegate process end with its parent.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(command: &mut Command, core: Option<usize>) -> io::Result<Self> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("TIDEGATE_SUPERVISED", "1");
        // A child inherits the affinity of the thread that starts it: all its threads are pinned from the first one on.
        let before = sched_getaffinity(None)?;
        if let Some(core) = core {
            pin(core)?;
        }
        let spawned = command.spawn();
        sched_setaffinity(None, &before)?;
        let mut child = spawned.map_err(|error| {
            io::Error::other(format!(
                "cannot start {}: {error}",
                command.get_program().display()
            ))
        })?;
        let stdout = child.stdout.take().map(BufReader::new);
        Ok(Self {
            stdout: stdout.ok_or_else(|| io::Error::other("no pipe"))?,
            child,
        })
    }

    /// Starts this program again, as a server or a helper that says nothing but what went wrong.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn again(arguments: &[&str], core: Option<usize>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments).env("TIDEGATE_LOG__LEVEL", "warn");
        Self::start(&mut command, core)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Its standard input.
    ///
    /// # Panics
    /// Never: it is a pipe.
    pub fn stdin(&mut self) -> &mut ChildStdin {
        self.child
            .stdin
            .as_mut()
            .expect("invariant: started with a pipe")
    }

    /// Its next line, without the end of line.
    ///
    /// # Errors
    /// When it ended instead.
    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stdout.read_line(&mut line)? == 0 {
            let status = self.child.wait()?;
            return Err(io::Error::other(format!(
                "process {} ended with {status}",
                self.id()
            )));
        }
        Ok(line.trim_end().to_owned())
    }

    /// What follows the mark in the first line that has it, up to the next space.
    ///
    /// # Errors
    /// When it ended without such a line.
    pub fn word_after(&mut self, mark: &str) -> io::Result<String> {
        loop {
            let line = self.line()?;
            if let Some((_, rest)) = line.split_once(mark) {
                return Ok(rest
                    .split_whitespace()
                    .next()
                    .unwrap_or_default()
                    .to_owned());
            }
        }
    }

    /// See [`cpu_us`].
    ///
    /// # Errors
    /// When it has ended.
    pub fn cpu_us(&self) -> io::Result<f64> {
        cpu_us(self.id())
    }

    /// See [`resident_bytes`].
    ///
    /// # Errors
    /// When it has ended.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        resident_bytes(self.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A helper process ends when its parent does: the parent holds the other end of its standard input. Returns at once; a
/// thread waits.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let _ended = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_runs_on_its_core_and_its_cost_is_seen() {
        let core = crate::machine::cores()[0];
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; grep Cpus_allowed_list /proc/self/status; cat";
        let mut child =
            Process::start(Command::new("sh").args(["-c", script]), Some(core)).unwrap();
        assert_eq!(
            child.word_after("Cpus_allowed_list:").unwrap(),
            core.to_string()
        );
        assert!(child.cpu_us().unwrap() > 100.0);
        assert!(child.resident_bytes().unwrap() > 100_000);
        let own = own_bytes(child.id()).unwrap();
        assert!((1..child.resident_bytes().unwrap()).contains(&own), "{own}");
        let pid = child.id();
        drop(child);
        assert!(cpu_us(pid).is_err(), "killed and reaped");
    }

    #[test]
    fn a_child_that_ends_says_so_instead_of_a_line() {
        let mut child = Process::start(Command::new("sh").args(["-c", "exit 7"]), None).unwrap();
        let error = child.line().unwrap_err().to_string();
        assert!(error.contains('7'), "{error}");
    }
}
