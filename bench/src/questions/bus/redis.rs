//! Redis: published by one process, passed on by a server, received by another that subscribed. As fast as Redis goes: a
//! Unix socket, nothing stored, publications gathered into large writes and not answered.

use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::link::{Link, PAYLOAD_BYTES};
use crate::process::Process;

/// Debian's package of the same name has it.
pub const PROGRAM: &str = "redis-server";
const SOCKET: &str = "redis.sock";
const START_MS_MAX: u128 = 5_000;
const BUFFER_BYTES: usize = 64 * 1024;

/// Starts a server of our own, on any core: it is a third process.
///
/// # Errors
/// When it does not listen in time.
pub fn start(directory: &Path) -> Result<Process> {
    let socket = directory.join(SOCKET);
    let mut command = Command::new(PROGRAM);
    command.args(["--port", "0", "--save", "", "--appendonly", "no"]);
    // A subscriber that is behind within a burst keeps its place.
    command.args(["--client-output-buffer-limit", "pubsub 0 0 0"]);
    command.arg("--unixsocket").arg(&socket);
    command.arg("--dir").arg(directory);
    // It writes a few lines at its start, and none later that could fill the pipe.
    command.args(["--loglevel", "warning"]);
    let server = Process::start(&mut command, None)?;
    let began = Instant::now();
    while UnixStream::connect(&socket).is_err() {
        ensure!(
            began.elapsed().as_millis() < START_MS_MAX,
            "{PROGRAM} does not listen on {}",
            socket.display()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(server)
}

/// Whether the program is installed.
#[must_use]
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory: PathBuf| directory.join(PROGRAM).is_file())
}

/// One end: a connection that publishes, and one that has subscribed.
pub struct Channels {
    to: BufWriter<UnixStream>,
    from: BufReader<UnixStream>,
    /// What stands before each payload, in the command and in what a subscriber gets.
    command: Vec<u8>,
    announcement: Vec<u8>,
    received: Vec<u8>,
}

impl Channels {
    /// Subscribes to one channel, to publish on the other.
    ///
    /// # Errors
    /// When the server can't be reached or does not speak Redis.
    pub fn open(directory: &Path, to: &str, from: &str) -> Result<Self> {
        let connect =
            || UnixStream::connect(directory.join(SOCKET)).context("cannot reach the Redis server");
        let (mut publisher, mut subscriber) = (connect()?, connect()?);
        publisher.write_all(b"CLIENT REPLY OFF\r\n")?;
        subscriber.write_all(format!("SUBSCRIBE {from}\r\n").as_bytes())?;
        let mut subscriber = BufReader::with_capacity(BUFFER_BYTES, subscriber);
        // *3 · $9 subscribe · $n channel · :1
        let mut line = String::new();
        for expected in ["*3", "$9", "subscribe", "$", from, ":1"] {
            line.clear();
            subscriber.read_line(&mut line)?;
            ensure!(
                line.starts_with(expected),
                "the Redis server said {line:?}, expected {expected}"
            );
        }
        let (to_bytes, from_bytes) = (to.len(), from.len());
        let command = format!("*3\r\n$7\r\nPUBLISH\r\n${to_bytes}\r\n{to}\r\n${PAYLOAD_BYTES}\r\n");
        let announcement =
            format!("*3\r\n$7\r\nmessage\r\n${from_bytes}\r\n{from}\r\n${PAYLOAD_BYTES}\r\n");
        Ok(Self {
            to: BufWriter::with_capacity(BUFFER_BYTES, publisher),
            from: subscriber,
            received: vec![0; announcement.len() + PAYLOAD_BYTES + 2],
            command: command.into(),
            announcement: announcement.into(),
        })
    }
}

impl Link for Channels {
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut payload = [0; PAYLOAD_BYTES];
        fill(&mut payload);
        self.to.write_all(&self.command)?;
        self.to.write_all(&payload)?;
        Ok(self.to.write_all(b"\r\n")?)
    }

    fn flush(&mut self) -> Result<()> {
        Ok(self.to.flush()?)
    }

    fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        self.from.read_exact(&mut self.received)?;
        match self.received.strip_prefix(self.announcement.as_slice()) {
            Some(rest) => read(&rest[..PAYLOAD_BYTES]),
            None => bail!(
                "the Redis server said {:?}, expected a message",
                String::from_utf8_lossy(&self.received)
            ),
        }
    }
}
