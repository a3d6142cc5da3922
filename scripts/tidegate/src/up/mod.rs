//! `tidegate up`: owns the listening sockets, starts a backend and the gateways as processes of their own, keeps
//! them running, and lets them finish when told.
//!
//! SIGTERM, SIGINT: gateways drain, then the backend stops, then this exits. SIGHUP: successors of the gateways are
//! started on the same sockets and, once all are up, the old ones drain: nobody is refused. When those have gone, the
//! backend is replaced, too: old gateways are served by the old backend to their end, whatever a newer version changed
//! between the two. Successors are made from the file that lies at this program's path by then, if it is in order; the
//! supervisor itself goes on as it was. SIGUSR1: log levels again.

mod banner;
mod child;
mod listeners;
mod program;
mod ready;

use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

pub use child::EXIT_UNUSABLE;
use child::{Fate, Passed, Plan, Supervised};
use listeners::Group;
pub use listeners::Port;

use crate::bus;
use crate::data_dir;
use crate::gateway::SIBLING;
use crate::settings::Settings;
use crate::signals::Told;

/// First start on a slow machine: migrations and key generation included.
const READY_MS_MAX: u64 = 30_000;
const READY_ASK_EVERY_MS: u64 = 20;
/// The backend finds a dead gateway and takes what it left well within this.
const RINGS_MS_MAX: u64 = 2_000;
/// SIGKILL takes effect well within this.
const KILL_MS_MAX: u64 = 5_000;
/// A process whose settings are wrong says so well within this.
const QUIET_WAIT_MS: u64 = 60_000;

/// What the command line says beyond the settings.
#[derive(Debug, clap::Args)]
pub struct UpArguments {
    /// Where pages and REST are served [default: 127.0.0.1:8600, or the next free port]
    #[arg(long, value_name = "ADDRESS")]
    http_listen: Option<SocketAddr>,
    /// Where WebSockets are accepted [default: 127.0.0.1:8601, or the next free port]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the gateways serve their figures [default: 127.0.0.1:8602, or the next free port]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Bind all interfaces, allow this machine's addresses as origins, and show a QR code for a phone
    #[arg(long)]
    lan: bool,
    /// Gateway processes on the one port
    #[arg(long, value_name = "N")]
    gateways: Option<usize>,
    /// Write every input of the backend to DIRECTORY/journal.00000000 and on, for `tidegate backend --replay`
    #[arg(long, value_name = "DIRECTORY")]
    journal: Option<PathBuf>,
    /// Mask in it what people write
    #[arg(long)]
    journal_masked: bool,
    /// Leave the bus to a backend of your own; pages and visitors' tokens are served, nothing else (shm-bus/README.md)
    #[arg(long)]
    no_backend: bool,
}

/// Runs until told to stop; the exit code is the first child's that could not go on, else 0.
pub fn run(mut settings: Settings, arguments: &UpArguments, told: &Receiver<Told>) -> Result<i32> {
    let lan = if arguments.lan {
        lan_addresses()?
    } else {
        Vec::new()
    };
    if let Some(gateways) = arguments.gateways {
        settings.up.gateways = gateways;
    }
    if let Some(directory) = &arguments.journal {
        settings.backend.journal_file = std::path::absolute(directory)?.join("journal");
    }
    settings.backend.journal_masked |= arguments.journal_masked;
    // Nobody could log in: the first start with a backend makes the agent, and shows the password.
    settings.up.demo_agent &= !arguments.no_backend;
    let sockets = Sockets::bind(&mut settings, arguments)?;
    allow_own_origins(&mut settings, &lan);

    data_dir::create(&settings.data_dir)?;
    let _one_supervisor = data_dir::lock(&settings.data_dir)?;
    let first_agent = data_dir::first_start(&settings)?;
    let resolved = data_dir::write_resolved(&settings)?;
    bus::open_to_taps(&settings)?;

    let program = program::own()?;
    let mut fleet = Fleet {
        program,
        resolved,
        sockets,
        backend: None,
        backend_command: if arguments.no_backend {
            "pages"
        } else {
            "backend"
        },
        gateways: Vec::new(),
        predecessors: Vec::new(),
        leaving: Vec::new(),
        backend_leaves: false,
        stop_max: Duration::from_millis(settings.up.stop_ms_max),
        born: 0,
    };
    fleet.start(settings.up.gateways)?;
    if let Some(code) = wait_until_ready(&mut fleet, &settings, told)? {
        return Ok(code);
    }
    print!(
        "{}",
        banner::banner(&banner::Started {
            http: settings.backend.http_listen,
            metrics: settings.gateway.admin_listen,
            lan: &lan,
            data_dir: &settings.data_dir,
            first_agent,
            agent_user: data_dir::DEMO_AGENT,
            free_bus: arguments.no_backend.then_some(&*settings.bus_dir),
            colours: std::io::stdout().is_terminal(),
        })
    );
    supervise(&mut fleet, &settings, told)
}

/// The sockets that outlive every process.
#[derive(Debug)]
struct Sockets {
    /// For each gateway, one for each of its shards, all on one port: the kernel spreads visitors over them. They are
    /// handed from a gateway to its successor, with whoever waits there.
    gateways: Vec<Vec<Arc<TcpListener>>>,
    http: Arc<TcpListener>,
    /// One address for each gateway, so that each can be asked for its figures. They bind it themselves, shared:
    /// a successor has it beside the one that drains.
    admin: Vec<SocketAddr>,
}

impl Sockets {
    fn bind(settings: &mut Settings, arguments: &UpArguments) -> Result<Self> {
        let everywhere = |mut address: SocketAddr| {
            if arguments.lan {
                address.set_ip(IpAddr::from([0, 0, 0, 0]));
            }
            address
        };
        let wish = |flag: Option<SocketAddr>, default: SocketAddr| match flag {
            Some(address) => (everywhere(address), Port::Insisted),
            None => (everywhere(default), Port::Preferred),
        };
        let (address, port) = wish(arguments.listen, settings.gateway.listen);
        let shards = usize::from(settings.gateway.shards);
        let group = |sockets| Group {
            sockets,
            backlog_connections: settings.gateway.listen_backlog,
        };
        let group_of_all = group(shards * settings.up.gateways);
        let (bound, sockets) = listeners::bind(address, group_of_all, port, "--listen")?;
        let sockets: Vec<Arc<TcpListener>> = sockets.into_iter().map(Arc::new).collect();
        settings.gateway.listen = bound;
        let (address, port) = wish(arguments.http_listen, settings.backend.http_listen);
        let (bound, mut http) = listeners::bind(address, group(1), port, "--http-listen")?;
        settings.backend.http_listen = bound;
        // Figures stay on this machine, whatever --lan opens.
        let mut admin = Vec::new();
        if let Some(mut address) = arguments.admin_listen.or(settings.gateway.admin_listen) {
            for _ in 0..settings.up.gateways {
                let insisted = arguments.admin_listen.is_some() && admin.is_empty();
                let port = if insisted {
                    Port::Insisted
                } else {
                    Port::Preferred
                };
                let (bound, _none) = listeners::bind(address, group(0), port, "--admin-listen")?;
                if admin.is_empty() {
                    settings.gateway.admin_listen = Some(bound);
                }
                address.set_port(bound.port().saturating_add(1));
                admin.push(bound);
            }
        }
        settings.backend.ws_port = settings.gateway.listen.port();
        Ok(Self {
            http: Arc::new(http.pop().context("no socket was bound")?),
            admin,
            gateways: sockets.chunks(shards).map(<[_]>::to_vec).collect(),
        })
    }

    /// What the gateway at this place gets: its own, and its siblings', where it helps.
    fn for_gateway(&self, place: usize) -> Vec<Passed> {
        let named = |sockets: &[Arc<TcpListener>], name| -> Vec<Passed> {
            let sockets = sockets.iter().cloned();
            sockets.map(|socket| Passed { socket, name }).collect()
        };
        let mut passed = named(&self.gateways[place], "gateway");
        for (other, sockets) in self.gateways.iter().enumerate() {
            if other != place {
                passed.extend(named(sockets, SIBLING));
            }
        }
        passed
    }

    fn for_backend(&self) -> Vec<Passed> {
        vec![Passed {
            socket: Arc::clone(&self.http),
            name: "http",
        }]
    }
}

/// The processes.
struct Fleet {
    program: PathBuf,
    resolved: PathBuf,
    sockets: Sockets,
    backend: Option<Supervised>,
    /// What stands in its place: `backend`, or `pages` where the bus is left to another program.
    backend_command: &'static str,
    gateways: Vec<Supervised>,
    /// Gateways whose successors are being started.
    predecessors: Vec<Supervised>,
    /// Gateways that drain for their successors.
    leaving: Vec<Supervised>,
    /// The backend is replaced when they have gone.
    backend_leaves: bool,
    /// Between SIGTERM and SIGKILL.
    stop_max: Duration,
    /// Gateways ever started, for names.
    born: usize,
}

impl Fleet {
    fn start(&mut self, gateways: usize) -> Result<()> {
        self.backend = Some(Supervised::start(self.plan(
            self.backend_command.to_owned(),
            self.backend_command,
            self.sockets.for_backend(),
        ))?);
        self.start_gateways(gateways)
    }

    fn start_gateways(&mut self, count: usize) -> Result<()> {
        for place in 0..count {
            self.born += 1;
            let mut plan = self.plan(
                format!("gateway-{}", self.born),
                "gateway",
                self.sockets.for_gateway(place),
            );
            if let Some(address) = self.sockets.admin.get(place) {
                plan.arguments
                    .extend(["--admin-listen".to_owned(), address.to_string()]);
            }
            self.gateways.push(Supervised::start(plan)?);
        }
        Ok(())
    }

    fn plan(&self, name: String, command: &str, listeners: Vec<Passed>) -> Plan {
        let arguments = vec![
            "--config".to_owned(),
            self.resolved.display().to_string(),
            command.to_owned(),
        ];
        Plan {
            name,
            program: self.program.clone(),
            arguments,
            listeners,
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Supervised> {
        self.backend
            .iter_mut()
            .chain(&mut self.gateways)
            .chain(&mut self.predecessors)
            .chain(&mut self.leaving)
    }

    /// Collects exits and restarts what died. The exit status of a process without which nothing works ends us.
    fn look(&mut self) -> Result<Option<ExitStatus>> {
        let now = Instant::now();
        for child in self.all() {
            match child.look(now)? {
                Fate::Alive => {}
                Fate::Restarts(status, wait) => {
                    tracing::warn!(process = child.name(), %status, wait_ms = wait.as_millis(), "process died, starting it again");
                }
                Fate::Renewed(status) => {
                    tracing::info!(process = child.name(), %status, "process ended for its successor");
                }
                Fate::Over(status) if status.code() == Some(EXIT_UNUSABLE) => {
                    return Ok(Some(status));
                }
                Fate::Over(status) => {
                    tracing::info!(process = child.name(), %status, "process ended")
                }
            }
        }
        self.leaving.retain(|child| child.pid().is_some());
        if self.backend_leaves && self.leaving.is_empty() {
            self.backend_leaves = false;
            if let Some(backend) = &mut self.backend {
                tracing::info!("the backend is being replaced");
                backend.renew(now + self.stop_max);
            }
        }
        Ok(None)
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        self.all().filter_map(|child| child.deadline()).min()
    }

    /// Starts as many successors as there are gateways, which serve on until those are up.
    fn start_successors(&mut self) -> Result<()> {
        self.predecessors = std::mem::take(&mut self.gateways);
        self.start_gateways(self.predecessors.len())
    }

    /// The successors are up: the old gateways drain, and then the old backend goes.
    fn let_predecessors_go(&mut self) {
        for mut old in self.predecessors.drain(..) {
            old.stop();
            self.leaving.push(old);
        }
        self.backend_leaves = true;
    }

    /// The successors did not come up: the old gateways go on.
    fn keep_predecessors(&mut self) {
        let predecessors = std::mem::take(&mut self.predecessors);
        for mut successor in std::mem::replace(&mut self.gateways, predecessors) {
            successor.stop();
            self.leaving.push(successor);
        }
    }
}

/// None: ready. Some: told to stop, or a process that can't go on, before that.
fn wait_until_ready(
    fleet: &mut Fleet,
    settings: &Settings,
    told: &Receiver<Told>,
) -> Result<Option<i32>> {
    let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
    let (http, gateway) = (
        reachable(settings.backend.http_listen),
        reachable(settings.gateway.listen),
    );
    // Without a turn there is none that could be ready.
    let sign = match fleet.backend_command {
        "pages" => "/healthz",
        _ => "/readyz",
    };
    while !(ready::is_ready(http, sign) && ready::is_ready(gateway, "/healthz")) {
        if let Some(status) = fleet.look()? {
            stop_all(fleet, settings)?;
            return Ok(Some(exit_code(status)));
        }
        match told.recv_timeout(Duration::from_millis(READY_ASK_EVERY_MS)) {
            Ok(Told::Stop(_)) => {
                stop_all(fleet, settings)?;
                return Ok(Some(0));
            }
            Ok(_) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the signal thread is gone"),
        }
        if Instant::now() >= deadline {
            stop_all(fleet, settings)?;
            bail!(
                "not ready after {} s; the lines above say why (more of them: TIDEGATE_LOG__LEVEL=debug)",
                READY_MS_MAX / 1000
            );
        }
    }
    Ok(None)
}

fn supervise(fleet: &mut Fleet, settings: &Settings, told: &Receiver<Told>) -> Result<i32> {
    loop {
        let wait = match fleet.next_deadline() {
            Some(at) => at.saturating_duration_since(Instant::now()),
            None => Duration::from_millis(QUIET_WAIT_MS),
        };
        match told.recv_timeout(wait) {
            Ok(Told::Stop(_)) => {
                stop_all(fleet, settings)?;
                return Ok(0);
            }
            Ok(Told::Replace) => replace(fleet, settings)?,
            Ok(Told::LogLevel) => fleet.all().for_each(|child| child.signal(Signal::USR1)),
            Ok(Told::ChildEnded) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the signal thread is gone"),
        }
        if let Some(status) = fleet.look()? {
            stop_all(fleet, settings)?;
            return Ok(exit_code(status));
        }
    }
}

/// Successors first, then the old ones drain. A successor that fails leaves the old ones in place.
fn replace(fleet: &mut Fleet, settings: &Settings) -> Result<()> {
    if let Err(error) = program::try_out(&fleet.program, &fleet.resolved) {
        tracing::error!("nothing is replaced, everything goes on: {error:#}");
        return Ok(());
    }
    if let Err(error) = fleet.start_successors() {
        tracing::error!("the old gateways go on: {error:#}");
        fleet.keep_predecessors();
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
    let pids: Vec<u32> = fleet.gateways.iter().filter_map(Supervised::pid).collect();
    tracing::info!(successors = ?pids, "gateways are being replaced");
    loop {
        if pids
            .iter()
            .all(|pid| data_dir::gateway_is_up(&settings.data_dir, *pid))
        {
            fleet.let_predecessors_go();
            return Ok(());
        }
        let failed = fleet.look()?.is_some();
        if failed || Instant::now() >= deadline {
            fleet.keep_predecessors();
            tracing::error!("the successors did not come up; the old gateways go on");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(READY_ASK_EVERY_MS));
    }
}

/// Gateways drain first, then the backend takes what they left in the rings, then it stops. When all of it was taken
/// the bus holds nothing any more, and its memory is given back.
fn stop_all(fleet: &mut Fleet, settings: &Settings) -> Result<()> {
    let deadline = Instant::now() + Duration::from_millis(settings.up.stop_ms_max);
    fleet
        .gateways
        .iter_mut()
        .chain(&mut fleet.leaving)
        .for_each(Supervised::stop);
    let all_ended = |children: &[Supervised]| children.iter().all(|child| child.pid().is_none());
    await_end(fleet, deadline, |fleet| {
        all_ended(&fleet.gateways) && all_ended(&fleet.leaving)
    })?;
    let drained_by = deadline.min(Instant::now() + Duration::from_millis(RINGS_MS_MAX));
    await_end(fleet, drained_by, |_| {
        data_dir::bus_is_empty(&settings.bus_dir)
    })?;
    if let Some(backend) = &mut fleet.backend {
        backend.stop();
    }
    await_end(fleet, deadline, |_| false)?;
    for child in fleet.all().filter(|child| child.pid().is_some()) {
        tracing::warn!(
            process = child.name(),
            "still running after {} ms, killed",
            settings.up.stop_ms_max
        );
        child.kill();
    }
    await_end(
        fleet,
        Instant::now() + Duration::from_millis(KILL_MS_MAX),
        |_| false,
    )?;
    data_dir::remove_empty_bus(&settings.bus_dir);
    Ok(())
}

/// Looks after the processes until all of them ended, or `done`, or the deadline.
fn await_end(fleet: &mut Fleet, deadline: Instant, done: impl Fn(&Fleet) -> bool) -> Result<()> {
    loop {
        fleet.look()?;
        let over = fleet.all().all(|child| child.pid().is_none());
        if over || done(fleet) || Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A child's code as a shell shows it: its own, or 128 + the signal that ended it.
fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The address at which this machine reaches a listener of its own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            IpAddr::from([127, 0, 0, 1])
        } else {
            IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])
        });
    }
    address
}

/// The pages that we serve ourselves may connect to our gateway.
fn allow_own_origins(settings: &mut Settings, lan: &[IpAddr]) {
    let port = settings.backend.http_listen.port();
    let mut hosts = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let bound = settings.backend.http_listen.ip();
    if !bound.is_unspecified() {
        hosts.push(
            SocketAddr::new(bound, 0)
                .to_string()
                .trim_end_matches(":0")
                .to_owned(),
        );
    }
    hosts.extend(lan.iter().map(|ip| {
        SocketAddr::new(*ip, 0)
            .to_string()
            .trim_end_matches(":0")
            .to_owned()
    }));
    for host in hosts {
        let origin = format!("http://{host}:{port}");
        for list in [
            &mut settings.gateway.allowed_origins,
            &mut settings.backend.allowed_origins,
        ] {
            if !list.contains(&origin) {
                list.push(origin.clone());
            }
        }
    }
}

fn lan_addresses() -> Result<Vec<IpAddr>> {
    let found: Vec<IpAddr> = if_addrs::get_if_addrs()
        .context("cannot list this machine's addresses")?
        .into_iter()
        .filter(|interface| !interface.is_loopback() && interface.ip().is_ipv4())
        .map(|interface| interface.ip())
        .collect();
    if found.is_empty() {
        tracing::warn!("--lan: this machine has no address but loopback; phones can't reach it");
    }
    Ok(found)
}
