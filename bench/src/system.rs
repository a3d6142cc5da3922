//! A whole Tidegate under question: started for it in a directory of its own, or one that runs already, found by its
//! data directory. Either way it is looked at from outside: /proc, HTTP, and the bus through read-only mappings.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::{Value, json};
use shm_bus::{BusDirectory, ObservedGateway};
use tempfile::TempDir;
use tidegate_protocol::token::{self, Claims, Key, LOCAL_OPERATOR, LOCAL_OPERATOR_S_MAX};
use tidegate_protocol::{Id, fb};

use crate::process::Process;
use crate::rest::{self, Metrics};

/// Tokens of a run outlive it.
const TOKEN_TTL_S: u64 = 24 * 3_600;
/// The widget that every database has.
const WIDGET: u32 = 1;
const SITE: u32 = 1;
/// From SIGTERM to the end: gateways drain for up to 4 s.
const STOP_S_MAX: u64 = 15;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How a Tidegate is started for a question.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Gateway processes on the one port.
    pub gateways: usize,
    /// Cores of each.
    pub shards: usize,
    /// `normal` or `full`.
    pub synchronous: &'static str,
    /// All its processes run on this core; `None`: on any.
    pub core: Option<usize>,
}

impl Setup {
    /// So many gateways of one core each, on any core; no commit waits for the disk.
    ///
    /// # Errors
    /// There are no so many.
    pub fn of_gateways(gateways: u64) -> Result<Self> {
        Ok(Self {
            gateways: usize::try_from(gateways)?,
            shards: 1,
            synchronous: "normal",
            core: None,
        })
    }
}

/// The settings that `up` wrote down at its start, as far as they are needed from outside.
#[derive(Debug, Deserialize)]
struct Resolved {
    bus_dir: PathBuf,
    gateway: GatewayPart,
    backend: BackendPart,
}

#[derive(Debug, Deserialize)]
struct GatewayPart {
    listen: SocketAddr,
    connections_max: u32,
    token_key_file: PathBuf,
}

#[derive(Debug, Deserialize)]
struct BackendPart {
    http_listen: SocketAddr,
}

/// A running Tidegate. One that was started for the question is stopped when dropped, and its directory is gone.
#[derive(Debug)]
pub struct System {
    up: u32,
    settings: Resolved,
    key: Key,
    data_dir: PathBuf,
    own: Option<(Process, TempDir)>,
}

/// What became of all accepted texts, both ways together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Committed.
    pub accepted: u64,
    /// The recipient's acknowledgement reached the backend.
    pub delivered: u64,
    /// Neither.
    pub pending: u64,
    /// Removed by retention before anybody had them.
    pub expired: u64,
}

impl Ledger {
    /// accepted = delivered + pending + expired.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.accepted == self.delivered + self.pending + self.expired
    }
}

impl System {
    /// Starts one with `tidegate up`, this very program. Nobody's sends are limited: one agent of a load speaks for many.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(setup: &Setup) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("tidegate-bench-")
            .tempdir()
            .context("a directory for the server")?;
        let data_dir = directory.path().join("data");
        let any = "127.0.0.1:0";
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["up", "--http-listen", any, "--listen", any])
            .args(["--admin-listen", any, "--gateways"])
            .arg(setup.gateways.to_string())
            .current_dir(directory.path())
            .env_remove("TIDEGATE_CONFIG")
            .env("TIDEGATE_DATA_DIR", &data_dir)
            .env("TIDEGATE_LOG__LEVEL", "warn")
            .env("TIDEGATE_UP__DEMO_AGENT", "false")
            .env("TIDEGATE_GATEWAY__SHARDS", setup.shards.to_string())
            .env("TIDEGATE_BACKEND__SYNCHRONOUS", setup.synchronous)
            .env("TIDEGATE_BACKEND__SENDS_PER_S_MAX", "1000000")
            .env("TIDEGATE_BACKEND__SENDS_BURST_MAX", "1000000");
        let mut process = Process::start(&mut command, setup.core)?;
        process
            .word_after("begin afresh")
            .context("`tidegate up` did not come up")?;
        Self::of(process.id(), &data_dir, Some((process, directory)))
    }

    /// Finds the one that runs on a data directory.
    ///
    /// # Errors
    /// None does.
    pub fn find(data_dir: &Path) -> Result<Self> {
        let lock = data_dir.join("run/up.lock");
        let pid = fs::read_to_string(&lock).ok();
        let pid = pid.and_then(|text| text.trim().parse().ok());
        match pid {
            Some(pid) if Path::new(&format!("/proc/{pid}")).exists() => {
                Self::of(pid, data_dir, None)
            }
            _ => bail!(
                "no Tidegate runs on {}: start it with `tidegate up`, or name its data directory: --data-dir DIRECTORY",
                data_dir.display()
            ),
        }
    }

    fn of(up: u32, data_dir: &Path, own: Option<(Process, TempDir)>) -> Result<Self> {
        let path = data_dir.join("run/settings.toml");
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let settings: Resolved = toml::from_str(&text).with_context(|| {
            format!(
                "{} was written by another version of tidegate; use the one that runs",
                path.display()
            )
        })?;
        let key_file = &settings.gateway.token_key_file;
        let key = fs::read_to_string(key_file)
            .with_context(|| format!("cannot read {}", key_file.display()))?;
        let key = Key::from_hex(&key).context("expected 64 hex digits in the token key's file")?;
        Ok(Self {
            up,
            settings,
            key,
            data_dir: data_dir.to_owned(),
            own,
        })
    }

    // --- where it is -------------------------------------------------------------------------------------------

    /// Where clients connect; a wildcard address is this machine's.
    #[must_use]
    pub fn ws(&self) -> SocketAddr {
        local(self.settings.gateway.listen)
    }

    /// Where REST is served.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        local(self.settings.backend.http_listen)
    }

    /// Its data directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Connections that one gateway takes at most.
    #[must_use]
    pub const fn connections_per_gateway_max(&self) -> u32 {
        self.settings.gateway.connections_max
    }

    /// The backend's process, while it has one.
    #[must_use]
    pub fn backend(&self) -> Option<u32> {
        children_of(self.up, "backend").first().copied()
    }

    /// The gateways' processes, oldest first.
    #[must_use]
    pub fn gateways(&self) -> Vec<u32> {
        children_of(self.up, "gateway")
    }

    // --- people ------------------------------------------------------------------------------------------------

    /// What signs tokens, in hex: for processes of a load that mint their own.
    #[must_use]
    pub fn token_key_hex(&self) -> String {
        self.key.to_hex()
    }

    /// A visitor's token.
    #[must_use]
    pub fn visitor_token(&self, id: Id) -> String {
        self.token(id, fb::Role::Visitor, WIDGET, TOKEN_TTL_S)
    }

    /// An agent's token.
    #[must_use]
    pub fn agent_token(&self, id: Id) -> String {
        self.token(id, fb::Role::Agent, 0, TOKEN_TTL_S)
    }

    fn token(&self, sub: Id, role: fb::Role, wid: u32, ttl_s: u64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let iat = now.unwrap_or_default().as_secs();
        let claims = Claims {
            sub,
            role,
            wid,
            name: String::new(),
            sid: SITE,
            iat,
            exp: iat + ttl_s,
        };
        token::mint(&claims, &self.key)
    }

    /// Asks the backend for something as the local operator: whoever can read the token key may do anything here.
    ///
    /// # Errors
    /// As [`rest::ask`].
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let operator = self.token(
            LOCAL_OPERATOR,
            fb::Role::Supervisor,
            0,
            LOCAL_OPERATOR_S_MAX,
        );
        rest::ask(self.http(), method, path, Some(&operator), body)
    }

    /// Makes agents for the load, who have no password, and answers their ids.
    ///
    /// # Errors
    /// The backend refuses.
    pub fn add_agents(
        &self,
        names: impl Iterator<Item = String>,
        capacity: u32,
    ) -> Result<Vec<Id>> {
        let make = |name: String| {
            let body = json!({"user": name, "capacity": capacity, "synthetic": true});
            let answer = self.ask("POST", "/api/admin/agents", Some(&body))?;
            let id = answer.pointer("/agent/id").and_then(Value::as_str);
            let id = id.and_then(|text| text.parse::<Id>().ok());
            id.with_context(|| format!("expected an agent's id, found {answer}"))
        };
        names.map(make).collect()
    }

    // --- figures -----------------------------------------------------------------------------------------------

    /// What the backend serves at /metrics.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::of(self.http())
    }

    /// Bytes that wait in the rings now: those that lead to the backend, and those that lead to gateways.
    ///
    /// # Errors
    /// There is no bus.
    pub fn ring_depths_bytes(&self) -> Result<(u64, u64)> {
        let bus = BusDirectory::open(&self.settings.bus_dir)?;
        let mut depths = (0, 0);
        for instance in bus.segments()? {
            // A segment that goes while it is opened belongs to a gateway that ended just now.
            let Ok(gateway) = ObservedGateway::open(&bus, instance) else {
                continue;
            };
            if !gateway.is_alive() {
                continue;
            }
            for shard in &gateway.shards {
                depths.0 += shard.to_backend_depth_bytes();
                depths.1 += shard.to_gateway_depth_bytes();
            }
        }
        Ok(depths)
    }
}

impl From<&Metrics> for Ledger {
    fn from(metrics: &Metrics) -> Self {
        let both = |state: &str| {
            let of = |to: &str| {
                let name = format!("tidegate_ledger_messages{{to=\"{to}\",state=\"{state}\"}}");
                metrics.get(&name).unwrap_or(0.0)
            };
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "counts, far below 2^53"
            )]
            let sum = (of("agent") + of("visitor")) as u64;
            sum
        };
        Self {
            accepted: both("accepted"),
            delivered: both("delivered"),
            pending: both("pending"),
            expired: both("expired"),
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        let Some((process, _directory)) = &mut self.own else {
            return;
        };
        // SIGTERM, so that its children end in order and give the bus's memory back; what does not end is killed.
        if let Some(pid) = i32::try_from(self.up).ok().and_then(Pid::from_raw) {
            let _gone_already = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_secs(STOP_S_MAX);
        while !process.has_ended() && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// Where a client of this machine finds a listening socket.
fn local(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip([127, 0, 0, 1].into());
    }
    address
}

/// The children of a process that were started to play this part, oldest first.
fn children_of(up: u32, part: &str) -> Vec<u32> {
    let path = format!("/proc/{up}/task/{up}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let plays = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == part.as_bytes())
    };
    let pids = children.split_whitespace();
    pids.filter_map(|pid| pid.parse().ok())
        .filter(plays)
        .collect()
}

/// Waits until it is so.
///
/// # Errors
/// It is not in time, or asking fails.
pub fn until(what: &str, time_max: Duration, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + time_max;
    while !so()? {
        ensure!(Instant::now() < deadline, "not within {time_max:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_on_which_nothing_runs_is_refused_with_what_to_type() {
        let directory = tempfile::tempdir().unwrap();
        let error = System::find(directory.path()).unwrap_err().to_string();
        assert!(error.contains("tidegate up"), "{error}");
    }

    #[test]
    fn the_ledger_is_read_from_the_figures_and_closed_or_not() {
        let figures = |delivered| {
            let line = |to, state, value| {
                format!("tidegate_ledger_messages{{to=\"{to}\",state=\"{state}\"}} {value}\n")
            };
            let lines = [
                line("agent", "accepted", 5),
                line("visitor", "accepted", 4),
                line("agent", "delivered", delivered),
                line("visitor", "delivered", 4),
                line("agent", "pending", 1),
            ];
            Ledger::from(&Metrics::parse(&lines.concat()))
        };
        assert_eq!(
            figures(4),
            Ledger {
                accepted: 9,
                delivered: 8,
                pending: 1,
                expired: 0
            }
        );
        assert!(figures(4).is_closed() && !figures(3).is_closed());
    }
}
