//! The running gateway under attack: the shipped binary, as one of the three services, with one shard, so that
//! attackers and healthy people share it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tidegate_protocol::limits::{WS_ECHO_MESSAGE_BYTES_MAX, WS_MESSAGE_BYTES_MAX};
use tidegate_protocol::token::Key;

use super::pair::Talk;
use super::{Service, Tokens};
use crate::rig::{Metrics, Role, Setup, System};

const CALL: Duration = Duration::from_secs(10);

/// A running service.
#[derive(Debug)]
pub struct Target {
    /// Which.
    pub service: Service,
    /// Where it takes connections.
    pub ws: SocketAddr,
    /// The gateway's process.
    pub gateway: Pid,
    runs: Runs,
    tokens: Option<Tokens>,
    agent: String,
}

#[derive(Debug)]
enum Runs {
    Echo { process: Child, admin: SocketAddr },
    System(Box<System>),
}

impl Target {
    /// Starts one in a directory of its own below `directory`.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(service: Service, binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        match service {
            Service::Echo => Self::echo(service, "--echo", binary, directory, None),
            Service::BusEcho => Self::echo(service, "--echo=bus", binary, directory, None),
            Service::Chat => Self::chat(binary, directory),
        }
    }

    /// Starts an echo that may open so many descriptors.
    ///
    /// # Errors
    /// It does not start.
    pub fn with_descriptors(binary: &Path, directory: &Path, limit: u64) -> anyhow::Result<Self> {
        Self::echo(Service::Echo, "--echo", binary, directory, Some(limit))
    }

    fn echo(
        service: Service,
        flag: &str,
        binary: &Path,
        directory: &Path,
        descriptors: Option<u64>,
    ) -> anyhow::Result<Self> {
        let admin = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        // The shell becomes the gateway: one process, with the limits that it set.
        let limit = descriptors.map_or_else(String::new, |limit| format!("ulimit -n {limit} && "));
        let mut process = Command::new("sh")
            .arg("-c")
            .arg(format!("{limit}exec \"$0\" \"$@\""))
            .arg(std::path::absolute(binary)?)
            .args(["gateway", flag, "--listen", "127.0.0.1:0", "--shards", "1"])
            .args(["--admin-listen", &admin.to_string()])
            .env("TIDEGATE_LOG__LEVEL", "error")
            .env("TIDEGATE_SUPERVISED", "1")
            .current_dir(directory)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        let mut line = String::new();
        if let Some(stdout) = process.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let address = line
            .split_once("ws://")
            .map(|(_, rest)| rest.trim_end().trim_end_matches('/'));
        let Some(ws) = address.and_then(|address| address.parse().ok()) else {
            let _gone_already = process.kill();
            bail!("{flag} did not say where it listens: {line:?}");
        };
        Ok(Self {
            service,
            ws,
            gateway: pid(&process)?,
            runs: Runs::Echo { process, admin },
            tokens: None,
            agent: String::new(),
        })
    }

    fn chat(binary: &Path, directory: &Path) -> anyhow::Result<Self> {
        let system = System::start(&Setup::new(binary, directory))?;
        let agent = system.add_agent("healthy", 50)?;
        let text = std::fs::read_to_string(system.data().join("secrets/token.key"))?;
        let key = Key::from_hex(&text).context("expected 64 hex digits in token.key")?;
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        Ok(Self {
            service: Service::Chat,
            ws: system.ws(),
            gateway: system.pid(Role::Gateway(0)).context("a gateway")?,
            runs: Runs::System(Box::new(system)),
            tokens: Some(Tokens::new(key, now_s)),
            agent: agent.token,
        })
    }

    /// What the chat's attackers know.
    #[must_use]
    pub const fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// How a healthy pair speaks here.
    #[must_use]
    pub fn talk(&self) -> Talk<'_> {
        self.tokens
            .as_ref()
            .map_or(Talk::Echo, |tokens| Talk::Chat {
                agent: self.agent.clone(),
                tokens,
            })
    }

    /// The longest message that it takes.
    #[must_use]
    pub const fn message_bytes_max(&self) -> u64 {
        match self.service {
            Service::Echo | Service::BusEcho => WS_ECHO_MESSAGE_BYTES_MAX as u64,
            Service::Chat => WS_MESSAGE_BYTES_MAX as u64,
        }
    }

    /// A figure of the gateway, by its name behind `tidegate_gateway_`.
    ///
    /// # Errors
    /// The gateway does not answer.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the gateway's figures are whole and not negative"
    )]
    pub fn figure(&self, name: &str) -> anyhow::Result<u64> {
        let metrics = match &self.runs {
            Runs::System(system) => system.metrics(Role::Gateway(0))?,
            Runs::Echo { admin, .. } => Metrics::parse(&get(*admin, "/metrics")?),
        };
        Ok(metrics.sum(&format!("tidegate_gateway_{name}")) as u64)
    }
}

fn pid(process: &Child) -> anyhow::Result<Pid> {
    let raw = i32::try_from(process.id())?;
    Pid::from_raw(raw).context("a process has an id")
}

fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, CALL)?;
    stream.set_read_timeout(Some(CALL))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    Ok(answer)
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Runs::Echo { process, .. } = &mut self.runs {
            // SIGTERM: it ends its consumer and removes its bus.
            let _gone_already = kill_process(self.gateway, Signal::TERM);
            let _reaped = process.wait();
        }
    }
}
