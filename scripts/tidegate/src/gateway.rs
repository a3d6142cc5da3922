//! `tidegate gateway`: one gateway process for the chat, or the diagnostic echo on the same data plane.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use listenfd::ListenFd;
use tidegate_gateway::chat::bus_echo;
use tidegate_gateway::{EchoConfig, Handle, Inherited, StartError, run_bus_echo, run_echo};

use crate::settings::Settings;
use crate::{bus, data_dir, process};

/// The name (systemd's FileDescriptorName) of a listening socket that another gateway accepts from.
pub const SIBLING: &str = "sibling";

/// How long the gateway may take until it listens.
const BOUND_MS_MAX: u64 = 30_000;

/// `tidegate gateway`
#[derive(Debug, clap::Args)]
pub struct GatewayArguments {
    /// Reflect every WebSocket message instead of chatting; `--echo=bus` sends it through the rings and back
    #[arg(long, value_name = "WAY", num_args = 0..=1, require_equals = true, default_missing_value = "direct")]
    echo: Option<EchoWay>,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Cores to use, one shard each; 0: all
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// The longest message that the echo takes, at most 16 MiB
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    max_message_bytes: u32,
    /// An origin that browsers may connect from [default: any, for the echo]
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<String>,
    /// Where to serve figures
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
    /// Be the other process of `--echo=bus` on this bus
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    bus_echo_consumer: Option<PathBuf>,
    /// Keep looking into the rings instead of sleeping (`--echo=bus` on cores of its own)
    #[arg(long)]
    spin: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum EchoWay {
    /// From the gateway itself
    Direct,
    /// Through the shared-memory rings and a consumer process
    Bus,
}

/// Begins this process once more, without transparent huge pages, unless it has none already. The allocator asks for
/// them, and then the first byte of a table costs 2 MiB, where reserved slots are to cost nothing until somebody sits there;
/// and it has touched 6 MiB of them before `main`. The program's new image keeps its id and its descriptors.
pub fn begin_without_huge_pages() {
    let disabled = rustix::thread::transparent_huge_pages_are_disabled();
    if disabled != Ok(false) || rustix::thread::disable_transparent_huge_pages(true).is_err() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_default();
    // It returns only where it failed, as when the file was replaced meanwhile: then this image goes on as it is.
    let _error = Command::new(program).arg0(name).args(arguments).exec();
}

/// Runs until told to stop.
pub fn run(mut settings: Settings, arguments: &GatewayArguments) -> Result<ExitCode> {
    let handle = Handle::new()?;
    let consumer_stop = Arc::new(AtomicBool::new(false));
    let (drain, stop) = (handle.clone(), Arc::clone(&consumer_stop));
    process::begin(&settings, move || {
        stop.store(true, Ordering::Relaxed);
        drain.drain();
    })?;
    if let Some(bus) = &arguments.bus_echo_consumer {
        bus_echo::consumer_main(bus, arguments.spin, &consumer_stop)?;
        return Ok(ExitCode::SUCCESS);
    }

    let listeners = inherited()?;
    if let Some(address) = arguments.admin_listen {
        settings.gateway.admin_listen = Some(address);
    }
    if let Some(address) = arguments.listen {
        settings.gateway.listen = address;
    }
    if let Some(shards) = arguments.shards {
        settings.gateway.shards = shards;
    }
    match arguments.echo {
        Some(way) => echo(&settings, arguments, way, listeners, &handle),
        None => chat(settings, listeners, &handle),
    }
}

fn chat(settings: Settings, listeners: Inherited, handle: &Handle) -> Result<ExitCode> {
    bus::open_to_taps(&settings)?;
    if settings.gateway.ring_huge_pages {
        // For the rings; what else is allocated from here on may get some, too.
        let _ = rustix::thread::disable_transparent_huge_pages(false);
    }
    let bound = handle.clone();
    let data_dir = settings.data_dir.clone();
    // The mark goes when the run is over: dropped with what this scope returns.
    let mark = std::thread::Builder::new()
        .name("ready".to_owned())
        .spawn(move || {
            bound.wait_bound(Duration::from_millis(BOUND_MS_MAX))?;
            data_dir::ReadyMark::leave(&data_dir)
                .inspect_err(|error| tracing::warn!("{error:#}"))
                .ok()
        })
        .context("cannot start a thread")?;
    let ended = tidegate_gateway::run(settings.gateway, listeners, handle);
    if ended.is_ok() {
        drop(mark.join());
    }
    conclude(ended.map(drop))
}

fn echo(
    settings: &Settings,
    arguments: &GatewayArguments,
    way: EchoWay,
    listeners: Inherited,
    handle: &Handle,
) -> Result<ExitCode> {
    let mut base = settings.gateway.clone();
    base.admin_listen = arguments.admin_listen;
    let scratch = scratch_bus(way)?;
    if let Some(bus) = &scratch {
        base.bus_dir.clone_from(bus);
    }
    let config = EchoConfig {
        listen: settings.gateway.listen,
        shards: settings.gateway.shards,
        max_message_bytes: arguments.max_message_bytes,
        allowed_origins: arguments.allowed_origin.clone(),
        base,
    };
    let announced = handle.clone();
    std::thread::Builder::new()
        .name("bound".to_owned())
        .spawn(move || {
            if let Some(bound) = announced.wait_bound(Duration::from_millis(BOUND_MS_MAX)) {
                println!("echo on ws://{}/", bound.listen);
            }
        })
        .context("cannot start a thread")?;
    let Some(bus) = scratch else {
        return conclude(run_echo(config, listeners, handle).map(drop));
    };
    let mut consumer =
        Command::new(std::env::current_exe().context("cannot find my own program file")?);
    consumer
        .arg("gateway")
        .arg("--bus-echo-consumer")
        .arg(&bus)
        .env("TIDEGATE_SUPERVISED", "1");
    if arguments.spin {
        consumer.arg("--spin");
    }
    let mut consumer = consumer
        .spawn()
        .context("cannot start the consumer process")?;
    let ended = run_bus_echo(config, listeners, handle);
    let _ended_already = consumer.kill();
    let _reaped = consumer.wait();
    let _left_for_the_next_boot = std::fs::remove_dir_all(&bus);
    conclude(ended.map(drop))
}

/// A bus of this process's own for `--echo=bus`.
fn scratch_bus(way: EchoWay) -> Result<Option<PathBuf>> {
    if way == EchoWay::Direct {
        return Ok(None);
    }
    let bus = Path::new("/dev/shm").join(format!("tidegate-echo-{}", std::process::id()));
    if bus.exists() {
        bail!(
            "{} is left from a process that had this id; remove it",
            bus.display()
        );
    }
    Ok(Some(bus))
}

/// The sockets that the supervisor or systemd passed: those named [`SIBLING`] are other gateways', all others its own.
pub fn inherited() -> Result<Inherited> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut passed = ListenFd::from_env();
    let mut inherited = Inherited::default();
    for index in 0..passed.len() {
        let socket = passed
            .take_tcp_listener(index)
            .context("an inherited descriptor is no listening socket")?;
        let kind = if names.get(index) == Some(&SIBLING) {
            &mut inherited.siblings
        } else {
            &mut inherited.own
        };
        kind.extend(socket.map(OwnedFd::from));
    }
    Ok(inherited)
}

/// What can't start is told in one sentence, with the exit code that says that another start won't help; what broke
/// later is started again.
fn conclude(ended: Result<(), StartError>) -> Result<ExitCode> {
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error @ StartError::Shard { .. }) => {
            tracing::error!("{error}");
            Ok(ExitCode::FAILURE)
        }
        Err(error) => Err(error.into()),
    }
}
