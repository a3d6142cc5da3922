//! A bus in a temporary directory, and other processes to share it with: the test binary starts itself again, and
//! plays a part that the environment names.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStderr, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use shm_bus::{
    BusDirectory, Claimed, Consumer, InstanceId, Producer, Read, RecordCopy, RecordHeader,
    SegmentOptions,
};

/// How long a test waits for anything before it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

const PART: &str = "SHM_BUS_TEST_PART";
const BUS: &str = "SHM_BUS_TEST_BUS";
const SAYS: &str = "actor: ";

/// A bus of its own. On failure its files stay, and the path is printed.
pub struct Stage {
    directory: Option<tempfile::TempDir>,
    pub bus: BusDirectory,
}

impl Stage {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let bus = BusDirectory::open_or_create(directory.path().join("bus")).expect("a bus");
        Self {
            directory: Some(directory),
            bus,
        }
    }

    /// Starts this test binary again; its test `actor` plays `part`.
    pub fn start(&self, part: &str) -> Actor {
        Actor::start(part, self.bus.path(), &[], Stdio::inherit())
    }

    pub fn start_with_fault(&self, part: &str, fault: &str) -> Actor {
        Actor::start(
            part,
            self.bus.path(),
            &[("TIDEGATE_FAULT", fault)],
            Stdio::inherit(),
        )
    }

    pub fn start_piping_errors(&self, part: &str, errors: Stdio) -> Actor {
        Actor::start(part, self.bus.path(), &[], errors)
    }

    /// Names on the bus that begin so, sorted.
    pub fn bus_entries(&self, prefix: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.bus.path()).expect("the bus can be listed");
        let names = entries
            .map_while(Result::ok)
            .map_while(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| name.starts_with(prefix)).collect();
        names.sort();
        names
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(directory) = self.directory.take()
        {
            eprintln!("the bus is kept in {}", directory.keep().display());
        }
    }
}

/// Another process.
pub struct Actor {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Actor {
    fn start(part: &str, bus: &Path, environment: &[(&str, &str)], errors: Stdio) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("a test binary has a path"))
            .args(["actor", "--exact", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .env(BUS, bus)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("a second process");
        let stdin = child.stdin.take().expect("piped");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // The test harness writes its own words before the first of these, on the same line.
                if let Some((_, said)) = line.split_once(SAYS)
                    && sender.send(said.to_owned()).is_err()
                {
                    break;
                }
            }
        });
        Self {
            child,
            stdin,
            lines,
        }
    }

    /// The next thing it says.
    pub fn hear(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("the actor says something in time")
    }

    /// The next thing it says, which must be this.
    pub fn expect(&self, what: &str) {
        assert_eq!(self.hear(), what);
    }

    /// All it said, once it has ended.
    pub fn last_words(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub fn tell(&mut self, what: &str) {
        writeln!(self.stdin, "{what}").expect("the actor listens");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our own child");
    }

    /// kill -9, and waits until it is dead.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Waits until it has ended by itself; tells whether a signal killed it.
    pub fn wait(&mut self) -> bool {
        std::os::unix::process::ExitStatusExt::signal(&self.status()).is_some()
    }

    /// Waits until it has ended by itself.
    pub fn status(&mut self) -> ExitStatus {
        wait_for("the actor's end", || {
            self.child.try_wait().expect("our own child")
        })
    }

    /// Its standard error, if it was started with a pipe for it.
    pub fn errors(&mut self) -> ChildStderr {
        self.child
            .stderr
            .take()
            .expect("piped, and not taken before")
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part this process is to play, and on which bus. `None` in the test itself.
pub fn part() -> Option<(String, BusDirectory)> {
    let part = std::env::var(PART).ok()?;
    let bus = BusDirectory::open_or_create(std::env::var_os(BUS)?).expect("the stage made it");
    Some((part, bus))
}

pub fn say(what: impl std::fmt::Display) {
    println!("{SAYS}{what}");
    std::io::stdout().flush().expect("the test listens");
}

/// Waits for a word of the test.
pub fn listen() -> String {
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("the test speaks");
    line.trim().to_owned()
}

/// Dies as by kill -9, here and now.
pub fn die() -> ! {
    let _ = kill_process(rustix::process::getpid(), Signal::KILL);
    unreachable!("SIGKILL cannot be survived")
}

/// Looks until there is something, within [`PATIENCE`].
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn small() -> SegmentOptions {
    let (ring_bytes, record_bytes_max) = (64 * 1024, 16 * 1024);
    SegmentOptions {
        shards: 2,
        ring_bytes,
        record_bytes_max,
        ..SegmentOptions::default()
    }
}

/// True if there was room.
pub fn send(to: &mut Producer, number: u64) -> bool {
    let payload = number
        .to_le_bytes()
        .repeat(usize::try_from(number % 40).expect("small") + 1);
    match to.claim(payload.len()).expect("a sound ring") {
        Claimed::Claimed(mut claim) => {
            claim.payload_mut().copy_from_slice(&payload);
            claim.commit(RecordHeader {
                kind: 1,
                trace: number,
                ..RecordHeader::default()
            });
            true
        }
        Claimed::Full => false,
    }
}

/// The number of the next record, checked against its payload.
pub fn receive(from: &mut Consumer, copy: &mut RecordCopy) -> Option<u64> {
    match from.next(copy) {
        Read::Record(header) => {
            assert_eq!(copy.payload().len() as u64, (header.trace % 40 + 1) * 8);
            assert!(
                copy.payload()
                    .chunks(8)
                    .all(|word| word == header.trace.to_le_bytes())
            );
            Some(header.trace)
        }
        Read::Empty => None,
        Read::Bad(bad) => panic!("{bad:?}"),
    }
}

pub fn instance(text: &str) -> InstanceId {
    text.parse().expect("an instance id")
}
