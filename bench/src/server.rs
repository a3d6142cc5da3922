//! The servers under question: a `tidegate` started in a directory of its own, on ports that the kernel picks, and
//! stopped when dropped.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::rest;

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: Child,
    _directory: TempDir,
    /// Where WebSockets are accepted.
    pub ws: SocketAddr,
    /// Where REST is served (not by the echo).
    pub http: Option<SocketAddr>,
    /// The first agent's password (not the echo's).
    pub password: String,
}

impl Server {
    /// `tidegate gateway --echo` with one shard.
    pub fn echo(binary: &Path) -> io::Result<Self> {
        let arguments = [
            "gateway",
            "--echo",
            "--listen",
            "127.0.0.1:0",
            "--shards",
            "1",
        ];
        let (process, directory, lines) = start(binary, &arguments, &[], "echo on")?;
        let ws = word_after(&lines, "ws://")?
            .trim_end_matches('/')
            .parse()
            .map_err(io::Error::other)?;
        Ok(Self {
            process,
            _directory: directory,
            ws,
            http: None,
            password: String::new(),
        })
    }

    /// `tidegate up` with one shard.
    pub fn whole(binary: &Path, settings: &[(&str, &str)]) -> io::Result<Self> {
        let any = "127.0.0.1:0";
        let arguments = [
            "up",
            "--http-listen",
            any,
            "--listen",
            any,
            "--admin-listen",
            any,
        ];
        let (process, directory, lines) = start(binary, &arguments, settings, "begin afresh")?;
        let page = word_after(&lines, "visitor page")?;
        let http = page
            .trim_start_matches("http://")
            .trim_end_matches('/')
            .parse()
            .map_err(io::Error::other)?;
        let mut server = Self {
            process,
            _directory: directory,
            ws: http,
            http: Some(http),
            password: word_after(&lines, "password ")?,
        };
        let config = server.ask("GET", "/api/widget/config?widget=default", None, None)?;
        let url = config["ws_url"].as_str().unwrap_or_default();
        server.ws = url
            .trim_start_matches("ws://")
            .trim_end_matches("/ws")
            .parse()
            .map_err(io::Error::other)?;
        Ok(server)
    }

    /// One REST call; the answer's JSON.
    pub fn ask(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> io::Result<Value> {
        let address = self
            .http
            .ok_or_else(|| io::Error::other("an echo has no REST"))?;
        rest::ask(address, method, path, token, body).map_err(io::Error::other)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM, so that its own children end as well; then wait for it.
        let _gone_already = Command::new("kill")
            .arg(self.process.id().to_string())
            .status();
        let _reaped = self.process.wait();
    }
}

fn start(
    binary: &Path,
    arguments: &[&str],
    settings: &[(&str, &str)],
    last_line: &str,
) -> io::Result<(Child, TempDir, String)> {
    let directory = tempfile::tempdir()?;
    let binary = std::path::absolute(binary)?;
    let mut process = Command::new(&binary)
        .args(arguments)
        .envs(settings.iter().copied())
        .env("TIDEGATE_LOG__LEVEL", "warn")
        .env("TIDEGATE_GATEWAY__SHARDS", "1")
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::other(format!("cannot start {}: {error}", binary.display())))?;
    let mut lines = String::new();
    let stdout = process
        .stdout
        .take()
        .ok_or_else(|| io::Error::other("no pipe"))?;
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        lines.push_str(&line);
        lines.push('\n');
        if line.contains(last_line) {
            return Ok((process, directory, lines));
        }
    }
    Err(io::Error::other(format!(
        "{} ended before it was ready; it said: {lines}",
        binary.display()
    )))
}

fn word_after(text: &str, mark: &str) -> io::Result<String> {
    let rest = text.split_once(mark).map(|(_, rest)| rest);
    let word = rest.and_then(|rest| rest.split_whitespace().next());
    word.map(str::to_owned)
        .ok_or_else(|| io::Error::other(format!("no {mark:?} in: {text}")))
}
