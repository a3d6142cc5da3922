//! A running Tidegate in a directory, its parts started and ended one by one.
//!
//! As under `tidegate up`, the listening sockets are held here and inherited by the processes: their backlog outlives
//! any of them. `up` itself waits ever longer before it restarts what dies often; trials that kill hundreds of times
//! start the parts themselves ([`System::start`]), those about a whole life use `up` ([`System::start_up`]).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::process::{Pid, kill_process};
use serde_json::{Value, json};
use tidegate_bench::rest::{self, Metrics};
use tidegate_protocol::token::{self, Claims, Key};
use tidegate_protocol::{Id, fb};

pub use rustix::process::Signal;

const READY_S_MAX: u64 = 30;
const ENDED_S_MAX: u64 = 20;
const LOOK_EVERY_MS: u64 = 5;
/// An agent is made and logged in by then, also while the store fails and the backend is started again for it.
const AGENT_MAX: Duration = Duration::from_secs(20);
const LOGIN_EVERY: Duration = Duration::from_millis(100);
const BACKLOG_CONNECTIONS: i32 = 8_192;
const TOKEN_TTL_S: u64 = 24 * 3600;
/// The first descriptor that a process inherits, by the systemd socket-activation protocol.
const FIRST_LISTEN_FD: i32 = 3;
/// Visitors of a trial have ids of their own; any will do that is no agent's.
const VISITOR_IDS: u128 = 0x0717_0000 << 64;

/// A part of a running Tidegate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The one that decides.
    Backend,
    /// The i-th of those that hold the connections.
    Gateway(usize),
}

/// How a system is to be.
#[derive(Clone, Debug)]
pub struct Setup {
    /// `tidegate`.
    pub binary: PathBuf,
    /// Where it lives; the data are in `data`, what the processes print in `log`.
    pub directory: PathBuf,
    /// Gateway processes that share the port.
    pub gateways: usize,
    /// Cores of each gateway.
    pub shards: usize,
    /// Settings as environment variables without their prefix: `BACKEND__SYNCHRONOUS` = `full`.
    pub settings: Vec<(String, String)>,
}

impl Setup {
    /// One gateway with one shard, and nobody's rate limited.
    #[must_use]
    pub fn new(binary: &Path, directory: &Path) -> Self {
        let no_limit = ["SENDS_PER_S_MAX", "SENDS_BURST_MAX"];
        let setting = |name: &str| (format!("BACKEND__{name}"), "1000000".to_owned());
        Self {
            binary: binary.to_owned(),
            directory: directory.to_owned(),
            gateways: 1,
            shards: 1,
            settings: no_limit.map(setting).into(),
        }
    }

    /// With one more setting.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// With so many cores of each gateway.
    #[must_use]
    pub const fn with_shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// With so many gateways.
    #[must_use]
    pub const fn with_gateways(mut self, gateways: usize) -> Self {
        self.gateways = gateways;
        self
    }
}

/// An agent's account.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Who.
    pub id: Id,
    /// For the connection and for REST.
    pub token: String,
}

/// Who looks after the processes.
#[derive(Debug)]
enum Processes {
    Parts(BTreeMap<Role, Child>),
    Up(Child),
}

/// A running Tidegate. Dropped, it is gone: processes and bus; its directory stays.
#[derive(Debug)]
pub struct System {
    setup: Setup,
    bus: PathBuf,
    ws: SocketAddr,
    http: SocketAddr,
    admin: Vec<SocketAddr>,
    ws_listeners: Vec<TcpListener>,
    http_listener: Option<TcpListener>,
    key: Option<Key>,
    processes: Processes,
}

impl System {
    /// Starts a backend and the gateways as processes of ours, and waits until they are ready.
    ///
    /// # Errors
    /// One of them can't start; its log stands in `log`.
    pub fn start(setup: &Setup) -> anyhow::Result<Self> {
        let mut system = Self::prepare(setup, Processes::Parts(BTreeMap::new()))?;
        system.begin(Role::Backend, None)?;
        system.await_ready(Role::Backend)?;
        system.read_key()?;
        for gateway in 0..setup.gateways {
            system.begin(Role::Gateway(gateway), None)?;
        }
        for gateway in 0..setup.gateways {
            system.await_ready(Role::Gateway(gateway))?;
        }
        Ok(system)
    }

    /// Starts `tidegate up`, as people do.
    ///
    /// # Errors
    /// It can't start; its log stands in `log`.
    pub fn start_up(setup: &Setup) -> anyhow::Result<Self> {
        let ended = Command::new("true").spawn()?; // takes the place until the sockets' addresses are known
        let mut system = Self::prepare(setup, Processes::Up(ended))?;
        system.ws_listeners.clear();
        system.http_listener = None;
        system.begin_up()?;
        Ok(system)
    }

    /// Starts `up` again after its end, where it was.
    ///
    /// # Errors
    /// It can't start; its log stands in `log`.
    pub fn begin_up(&mut self) -> anyhow::Result<()> {
        let mut command = self.command(&["up"], "up")?;
        for (flag, address) in [
            ("--listen", self.ws),
            ("--http-listen", self.http),
            ("--admin-listen", self.admin[0]),
        ] {
            command.args([flag, &address.to_string()]);
        }
        command.args(["--gateways", &self.setup.gateways.to_string()]);
        self.reap();
        self.processes = Processes::Up(command.spawn()?);
        self.await_ready(Role::Backend)?;
        self.await_ready(Role::Gateway(0))?;
        self.read_key()
    }

    fn prepare(setup: &Setup, processes: Processes) -> anyhow::Result<Self> {
        let directory = |name: &str| setup.directory.join(name);
        for name in ["data", "data/run", "log"] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory(name))?;
        }
        // Its name is that of the directory, which nobody else has.
        let name = setup.directory.to_string_lossy().replace('/', "-");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let first = listen(any)?;
        let ws = first.local_addr()?;
        let mut ws_listeners = vec![first];
        for _ in 1..setup.shards * setup.gateways {
            ws_listeners.push(listen(ws)?);
        }
        let http_listener = listen(any)?;
        let mut admin = Vec::new();
        for _ in 0..setup.gateways {
            admin.push(TcpListener::bind(any)?.local_addr()?);
        }
        Ok(Self {
            setup: setup.clone(),
            bus: PathBuf::from(format!("/dev/shm/tidegate-trial{name}")),
            ws,
            http: http_listener.local_addr()?,
            admin,
            ws_listeners,
            http_listener: Some(http_listener),
            key: None,
            processes,
        })
    }

    // --- where it is -------------------------------------------------------------------------------------------

    /// Where clients connect.
    #[must_use]
    pub const fn ws(&self) -> SocketAddr {
        self.ws
    }

    /// Where REST is served.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.setup.directory.join("data")
    }

    /// The database's file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.data().join("tidegate.db")
    }

    /// The bus's directory.
    #[must_use]
    pub fn bus(&self) -> &Path {
        &self.bus
    }

    /// What a part has printed so far: `backend`, `gateway-0`, `up`.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        let path = self.setup.directory.join("log").join(name);
        fs::read_to_string(path).unwrap_or_default()
    }

    // --- processes ---------------------------------------------------------------------------------------------

    /// Starts a part that does not run. `fault`: `TIDEGATE_FAULT` for this life of it.
    ///
    /// # Errors
    /// It runs, or `up` looks after it, or the binary can't be started.
    pub fn begin(&mut self, role: Role, fault: Option<&str>) -> anyhow::Result<()> {
        let (name, listeners) = match role {
            Role::Backend => ("backend".to_owned(), self.http_listener.as_slice()),
            Role::Gateway(i) => (format!("gateway-{i}"), &self.ws_listeners[..]),
        };
        // Each gateway has sockets of its own, one for each shard, and helps at the others'.
        let is_sibling = |index: usize| match role {
            Role::Backend => false,
            Role::Gateway(i) => index / self.setup.shards != i,
        };
        let names: Vec<&str> = (0..listeners.len())
            .map(|index| if is_sibling(index) { "sibling" } else { "own" })
            .collect();
        let mut command = self.command(
            &[if role == Role::Backend {
                "backend"
            } else {
                "gateway"
            }],
            &name,
        )?;
        if let Role::Gateway(i) = role {
            command.args(["--admin-listen", &self.admin[i].to_string()]);
        }
        if let Some(fault) = fault {
            command.env("TIDEGATE_FAULT", fault);
        }
        let mut mappings = Vec::new();
        for (child_fd, listener) in (FIRST_LISTEN_FD..).zip(listeners) {
            let parent_fd = OwnedFd::from(listener.try_clone()?);
            mappings.push(FdMapping {
                parent_fd,
                child_fd,
            });
        }
        command
            .env("LISTEN_FDS", mappings.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"));
        command
            .fd_mappings(mappings)
            .context("two sockets on one descriptor")?;
        let Processes::Parts(parts) = &mut self.processes else {
            bail!("`up` starts {role:?}; a trial that does it itself begins with System::start");
        };
        ensure!(!parts.contains_key(&role), "{role:?} runs already");
        parts.insert(role, command.spawn()?);
        Ok(())
    }

    fn command(&self, arguments: &[&str], name: &str) -> anyhow::Result<Command> {
        let path = self.setup.directory.join("log").join(name);
        let log = File::options().create(true).append(true).open(path)?;
        let mut command = Command::new(std::path::absolute(&self.setup.binary)?);
        command
            .args(arguments)
            .current_dir(&self.setup.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .env_remove("TIDEGATE_FAULT")
            .env_remove("TIDEGATE_CONFIG")
            .env_remove("LISTEN_PID")
            // What a trial leaves running ends with the trial, however that ends.
            .env("TIDEGATE_SUPERVISED", "1")
            .env("TIDEGATE_LOG__LEVEL", "info")
            .env("TIDEGATE_DATA_DIR", self.data())
            .env("TIDEGATE_BUS_DIR", &self.bus)
            .env("TIDEGATE_BACKEND__HTTP_LISTEN", self.http.to_string())
            .env("TIDEGATE_GATEWAY__LISTEN", self.ws.to_string())
            .env("TIDEGATE_GATEWAY__SHARDS", self.setup.shards.to_string());
        for (name, value) in &self.setup.settings {
            command.env(format!("TIDEGATE_{name}"), value);
        }
        Ok(command)
    }

    /// The process of a part, if it runs.
    #[must_use]
    pub fn pid(&self, role: Role) -> Option<Pid> {
        let raw = match &self.processes {
            Processes::Parts(parts) => parts.get(&role)?.id(),
            Processes::Up(up) => child_of(up.id(), role)?,
        };
        to_pid(raw)
    }

    /// The supervisor's process, if there is one.
    #[must_use]
    pub fn up(&self) -> Option<Pid> {
        match &self.processes {
            Processes::Parts(_) => None,
            Processes::Up(up) => to_pid(up.id()),
        }
    }

    /// Sends a signal to a part.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&self, role: Role, signal: Signal) -> anyhow::Result<()> {
        let pid = self
            .pid(role)
            .with_context(|| format!("{role:?} does not run"))?;
        kill_process(pid, signal).with_context(|| format!("{role:?} is gone"))
    }

    /// kill -9, and waits until it is gone.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self, role: Role) -> anyhow::Result<()> {
        self.signal(role, Signal::KILL)?;
        self.await_end(role).map(drop)
    }

    /// Whether a part of ours has ended, and how; then it can be begun again.
    ///
    /// # Errors
    /// It was not begun by us.
    pub fn ended(&mut self, role: Role) -> anyhow::Result<Option<ExitStatus>> {
        let Processes::Parts(parts) = &mut self.processes else {
            bail!("{role:?} is `up`'s to wait for");
        };
        let part = parts
            .get_mut(&role)
            .with_context(|| format!("{role:?} does not run"))?;
        let status = part.try_wait()?;
        if status.is_some() {
            parts.remove(&role);
        }
        Ok(status)
    }

    /// Waits until a part of ours has ended.
    ///
    /// # Errors
    /// It does not end.
    pub fn await_end(&mut self, role: Role) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + Duration::from_secs(ENDED_S_MAX);
        loop {
            if let Some(status) = self.ended(role)? {
                return Ok(status);
            }
            ensure!(
                Instant::now() < deadline,
                "{role:?} did not end within {ENDED_S_MAX} s"
            );
            std::thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
        }
    }

    /// Whether `up` has ended, and how.
    ///
    /// # Errors
    /// There is no `up`.
    pub fn up_ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match &mut self.processes {
            Processes::Parts(_) => bail!("there is no `up`"),
            Processes::Up(up) => Ok(up.try_wait()?),
        }
    }

    /// Whether a part says that it is ready.
    #[must_use]
    pub fn is_ready(&self, role: Role) -> bool {
        let (address, path) = match (role, &self.processes) {
            (Role::Backend, _) => (self.http, "/readyz"),
            (Role::Gateway(i), Processes::Parts(_)) => (self.admin[i], "/healthz"),
            (Role::Gateway(_), Processes::Up(_)) => (self.ws, "/healthz"),
        };
        rest::call(address, "GET", path, None, None).is_ok_and(|(status, _)| status == 200)
    }

    /// Waits until a part says that it is ready.
    ///
    /// # Errors
    /// It ends, or is not ready in time.
    pub fn await_ready(&mut self, role: Role) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(READY_S_MAX);
        while !self.is_ready(role) {
            let ended = match self.processes {
                Processes::Parts(_) => self.ended(role)?,
                Processes::Up(_) => self.up_ended()?,
            };
            if let Some(status) = ended {
                bail!(
                    "{role:?} ended ({status}) before it was ready:\n{}",
                    self.log_of(role)
                );
            }
            ensure!(
                Instant::now() < deadline,
                "{role:?} was not ready after {READY_S_MAX} s:\n{}",
                self.log_of(role)
            );
            std::thread::sleep(Duration::from_millis(LOOK_EVERY_MS));
        }
        Ok(())
    }

    fn log_of(&self, role: Role) -> String {
        match (&self.processes, role) {
            (Processes::Up(_), _) => self.log("up"),
            (_, Role::Backend) => self.log("backend"),
            (_, Role::Gateway(i)) => self.log(&format!("gateway-{i}")),
        }
    }

    // --- people and figures ------------------------------------------------------------------------------------

    fn read_key(&mut self) -> anyhow::Result<()> {
        let path = self.data().join("secrets/token.key");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        self.key = Key::from_hex(&text);
        Ok(())
    }

    /// A token of the n-th visitor.
    ///
    /// # Panics
    /// Never: a system that has started has a key.
    #[must_use]
    pub fn visitor_token(&self, n: u64) -> String {
        let key = self.key.as_ref().expect("invariant: read at the start");
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let claims = Claims {
            sub: Id(VISITOR_IDS + u128::from(n)),
            role: fb::Role::Visitor,
            wid: 1,
            name: String::new(),
            sid: 1,
            iat: now.as_secs(),
            exp: now.as_secs() + TOKEN_TTL_S,
        };
        token::mint(&claims, key)
    }

    /// Makes an agent, and logs in. While the store cannot commit, the backend says to try again, or ends in the middle of
    /// its answer: then it is asked again. What it could not answer in time it may have done all the same; then the agent is
    /// there already, and gets another password.
    ///
    /// # Errors
    /// The backend refuses, or cannot take it for so long as [`AGENT_MAX`].
    pub fn add_agent(&self, user: &str, capacity: u32) -> anyhow::Result<Agent> {
        let capacity = capacity.to_string();
        let deadline = Instant::now() + AGENT_MAX;
        let mut asked = vec!["agent", "add", user, "--capacity", &capacity];
        let password = loop {
            let made = self
                .command(&asked, "agent")?
                .stdout(Stdio::piped())
                .output()?;
            let said = String::from_utf8_lossy(&made.stdout);
            let password = said
                .split_once("password ")
                .and_then(|(_, rest)| rest.split_whitespace().next());
            if let Some(password) = password {
                break password.to_owned();
            }
            let log = self.log("agent");
            let answer = log.lines().next_back().unwrap_or_default();
            let is_there = answer.contains("there is an agent ");
            if is_there {
                asked = vec!["agent", "passwd", user];
            }
            let is_for_now = is_there
                || answer.contains("try again")
                || answer.contains("answered something unexpected");
            anyhow::ensure!(
                is_for_now && Instant::now() < deadline,
                "no password in {said:?}: {log}"
            );
        };
        let body = json!({"user": user, "password": password});
        let answer = loop {
            match self.rest("POST", "/api/agent/login", None, Some(&body)) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(LOGIN_EVERY),
                done => break done?,
            }
        };
        let text = |pointer: &str| {
            let found = answer.pointer(pointer).and_then(Value::as_str);
            found.with_context(|| format!("no {pointer} in {answer}"))
        };
        let id = text("/agent/id")?.parse::<Id>();
        Ok(Agent {
            id: id.map_err(|_| anyhow::anyhow!("no id in {answer}"))?,
            token: text("/token")?.to_owned(),
        })
    }

    /// One REST call; the answer's JSON.
    ///
    /// # Errors
    /// Any status but 2xx.
    pub fn rest(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        rest::ask(self.http, method, path, token, body)
    }

    /// What a part serves at `/metrics`.
    ///
    /// # Errors
    /// It does not answer.
    pub fn metrics(&self, role: Role) -> anyhow::Result<Metrics> {
        let address = match role {
            Role::Backend => self.http,
            Role::Gateway(i) => self.admin[i],
        };
        Metrics::of(address)
    }

    /// Runs `tidegate` with these arguments on this system's settings; what it printed, if it succeeded.
    ///
    /// # Errors
    /// It failed.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self
            .command(arguments, "command")?
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "tidegate {}: {}, {said} {complained}",
            arguments.join(" "),
            output.status
        );
        Ok(said)
    }

    fn reap(&mut self) {
        match &mut self.processes {
            Processes::Parts(parts) => {
                for part in parts.values_mut() {
                    let _gone_already = part.kill();
                    let _reaped = part.wait();
                }
            }
            Processes::Up(up) => {
                // Those it has stopped with SIGSTOP can't end by themselves.
                for role in [Role::Backend].into_iter().chain((0..8).map(Role::Gateway)) {
                    if let Some(pid) = child_of(up.id(), role).and_then(to_pid) {
                        let _gone_already = kill_process(pid, Signal::CONT);
                    }
                }
                if let Some(pid) = to_pid(up.id())
                    && matches!(up.try_wait(), Ok(None))
                {
                    let _gone_already = kill_process(pid, Signal::TERM);
                }
                let _reaped = up.wait();
            }
        }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.reap();
        match fs::remove_dir_all(&self.bus) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                eprintln!("{} stays behind: {error}", self.bus.display());
            }
            _ => {}
        }
    }
}

fn to_pid(raw: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(raw).ok()?)
}

/// The child of `up` that plays this part. Gateways are counted by age.
fn child_of(up: u32, role: Role) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{up}/task/{up}/children")).ok()?;
    let wanted = match role {
        Role::Backend => "backend",
        Role::Gateway(_) => "gateway",
    };
    let plays = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|word| word == wanted.as_bytes())
    };
    let mut playing: Vec<u32> = children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .filter(plays)
        .collect();
    playing.sort_unstable();
    let place = match role {
        Role::Backend => 0,
        Role::Gateway(i) => i,
    };
    playing.get(place).copied()
}

/// A listening socket that others may share.
fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, BACKLOG_CONNECTIONS)?;
    Ok(TcpListener::from(socket))
}
