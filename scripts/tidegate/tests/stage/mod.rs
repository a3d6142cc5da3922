//! A whole Tidegate in a directory of its own, and plain clients for it that share no code with it: an
//! independent reading of the RFC and of the README is what makes them worth something.
#![allow(dead_code, reason = "each test binary uses a part of the stage")]

pub mod http;
pub mod people;
pub mod python;
pub mod socket;
pub mod workers;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// No step of a test waits longer.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Where everything that the processes of a stage say goes; printed when a test fails.
const SAID: &str = "said";

/// A running `tidegate up`.
pub struct Stage {
    up: Child,
    pub directory: TempDir,
    pub http: SocketAddr,
    pub password: Option<String>,
    pub ws: SocketAddr,
}

/// Makes the directory, so that several stages can follow each other in it.
pub fn directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("tidegate-stage-")
        .tempdir()
        .expect("a temporary directory")
}

/// `tidegate` on this directory, with its noise kept for the failure.
pub fn command(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .current_dir(directory)
        .env_remove("TIDEGATE_CONFIG")
        .stdin(Stdio::null());
    command
}

/// Waits until `probe` gives something.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Stage {
    /// Starts in a fresh directory.
    pub fn start() -> Self {
        Self::start_in(directory(), &[], &[])
    }

    /// Starts in a directory that may have been used before.
    pub fn start_in(directory: TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let up = command(directory.path());
        Self::start_as(up, directory, arguments, environment)
    }

    /// Starts a copy of the program.
    pub fn start_program(program: &Path, directory: TempDir) -> Self {
        let mut up = Command::new(program);
        up.current_dir(directory.path())
            .env_remove("TIDEGATE_CONFIG")
            .stdin(Stdio::null());
        Self::start_as(up, directory, &[], &[])
    }

    fn start_as(
        mut up: Command,
        directory: TempDir,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut up = up
            .args([
                "up",
                "--http-listen",
                "127.0.0.1:0",
                "--listen",
                "127.0.0.1:0",
                "--admin-listen",
                "127.0.0.1:0",
            ])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(
                File::options()
                    .append(true)
                    .create(true)
                    .open(directory.path().join(SAID))
                    .expect("the directory is ours"),
            )
            .spawn()
            .expect("the binary starts");
        let (sender, lines) = channel();
        let stdout = up.stdout.take().expect("stdout is a pipe");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _test_is_over = sender.send(line);
            }
        });
        let mut stage = Self {
            up,
            directory,
            http: SocketAddr::from(([127, 0, 0, 1], 0)),
            ws: SocketAddr::from(([127, 0, 0, 1], 0)),
            password: None,
        };
        stage.read_banner(&lines);
        stage
    }

    fn read_banner(&mut self, lines: &Receiver<String>) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            let line = lines
                .recv_timeout(wait)
                .expect("the banner was printed in time");
            if let Some((_, rest)) = line.split_once("visitor page") {
                let address = rest
                    .trim()
                    .trim_start_matches("http://")
                    .trim_end_matches('/');
                self.http = address.parse().expect("the visitor page's address");
            }
            if let Some((_, rest)) = line.split_once("password ")
                && line.contains("shown this once")
            {
                self.password = rest.split_whitespace().next().map(str::to_owned);
            }
            if line.contains("begin afresh") {
                break;
            }
        }
        let config = http::get(self.http, "/api/widget/config?widget=default", None);
        let url = config.json()["ws_url"]
            .as_str()
            .expect("a ws_url")
            .to_owned();
        let host = url
            .trim_start_matches("ws://")
            .trim_end_matches("/ws")
            .to_owned();
        self.ws = host
            .parse()
            .unwrap_or_else(|_| panic!("unexpected ws_url {url}"));
    }

    /// All that its processes said so far.
    pub fn said(&self) -> String {
        let said = std::fs::read(self.directory.path().join(SAID));
        String::from_utf8_lossy(&said.unwrap_or_default()).into_owned()
    }

    /// Where its bus is.
    pub fn bus(&self) -> PathBuf {
        let settings = self
            .directory
            .path()
            .join("tidegate-data/run/settings.toml");
        let settings = std::fs::read_to_string(settings).expect("written at the start");
        let settings: toml::Table = settings.parse().expect("TOML");
        PathBuf::from(settings["bus_dir"].as_str().expect("a path"))
    }

    /// Process ids of the children that run the command `name` (`backend`, `gateway`).
    pub fn pids(&self, name: &str) -> Vec<u32> {
        let parent = self.up.id().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("procfs").flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|text| text.parse::<u32>().ok())
            else {
                continue;
            };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let after_name = stat
                .rsplit_once(')')
                .map(|(_, rest)| rest)
                .unwrap_or_default();
            let mut fields = after_name.split_whitespace();
            let (state, its_parent) = (
                fields.next().unwrap_or("Z"),
                fields.next().unwrap_or_default(),
            );
            let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            if its_parent == parent
                && state != "Z"
                && line.split('\0').any(|argument| argument == name)
            {
                found.push(pid);
            }
        }
        found
    }

    /// Every accepted text is delivered, pending or expired, and the counters are what the rows say. Nothing expires
    /// where no retention is set.
    pub fn check_ledger(&self) {
        let output = command(self.directory.path())
            .args(["ledger", "--recount", "--json"])
            .output()
            .expect("the binary starts");
        let (figures, error) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{error}\n{figures}");
        let figures: serde_json::Value = serde_json::from_str(&figures).expect("JSON");
        for to in ["to_agent", "to_visitor"] {
            assert_eq!(figures["recount"][to]["expired"], 0, "{figures}");
        }
    }

    /// kill -9 of the only child of that name; returns once another one runs.
    pub fn kill_and_await_successor(&self, name: &str) {
        let before = self.pids(name);
        for pid in &before {
            signal(*pid, "KILL");
        }
        eventually("a successor", || {
            let now = self.pids(name);
            (!now.is_empty() && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
        self.check_ledger();
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, name: &str) {
        signal(self.up.id(), name);
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> (Option<i32>, TempDir) {
        signal(self.up.id(), "TERM");
        let status = eventually("the exit", || self.up.try_wait().expect("waits"));
        self.check_ledger();
        let directory = std::mem::replace(&mut self.directory, directory());
        (status.code(), directory)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // `stop` gave the directory away.
        if !std::thread::panicking() && self.directory.path().join("tidegate-data").exists() {
            self.check_ledger();
        }
        if std::thread::panicking() {
            eprint!("{}", self.said());
        }
        if self.up.try_wait().is_ok_and(|status| status.is_none()) {
            signal(self.up.id(), "TERM");
            let deadline = Instant::now() + Duration::from_secs(15);
            while self.up.try_wait().is_ok_and(|status| status.is_none())
                && Instant::now() < deadline
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ended_already = self.up.kill();
            let _reaped = self.up.wait();
        }
    }
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status();
    assert!(status.is_ok(), "kill is installed");
}
