//! From a configuration to running shards and back: placement, start-up, the handle by which the process is told to
//! drain, and the end.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use protocol::ws::handshake::Policy;

use crate::admin::{self, Admin};
use crate::config::Config;
use crate::counters::Published;
use crate::driver::drive::{Asked, Clock, Surroundings, drive};
use crate::driver::uring::{self, RingSizes, UringDriver};
use crate::id::SLOTS_MAX;
use crate::listener::{self, Inherited, ShardListeners};
use crate::service::Service;
use crate::shard::{Shard, ShardOptions};
use crate::start::{self, StartError};
use crate::trusted::TrustedProxies;

/// glommio's own rings serve the control plane only: small ones.
const CONTROL_RING_DEPTH: usize = 16;
/// The least that glommio takes for its storage buffers, which nothing here uses.
const CONTROL_IO_MEMORY_BYTES: usize = 64 << 10;
/// glommio's preemption timer, long enough never to ring. Its executor goes to sleep for ever, tasks ready, if the timer
/// rings after its look at the rings and before the first task (0.9.0, `LocalExecutor::run_task_queues`): it takes that for
/// nothing to do. By default the timer has 100 ms, and a thread that shares its core is put aside for longer: of 60
/// gateways on one core, one hung within a minute. There is nothing to preempt here: a shard is one task, and the admin's
/// are short.
const PREEMPT_TIMER: Duration = Duration::from_secs(24 * 3_600);
/// Appends a service's own metrics.
pub type Metrics = Arc<dyn Fn(&mut String) + Send + Sync>;

/// What is to run.
pub struct Plan {
    /// Addresses, limits, bounds.
    pub config: Config,
    /// Inherited listeners; empty: they are bound.
    pub listeners: Inherited,
    /// Who may upgrade, to what.
    pub policy: Policy,
    /// The service's own metrics, appended to the shards'.
    pub metrics: Option<Metrics>,
}

/// A shard's place among the others.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// This shard's number.
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
    /// Slots of this shard are below it.
    pub connections_max: u32,
    /// The clock of all of them.
    pub clock: Clock,
}

/// How a run ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// [`Handle::drain`] was called and all connections were closed.
    Drained,
}

/// Where the gateway listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The WebSocket port.
    pub listen: SocketAddr,
    /// Metrics and health.
    pub admin: Option<SocketAddr>,
}

/// The process's hold on a running gateway. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    asked: Arc<Asked>,
    /// Wakes the admin executor.
    wake: OwnedFd,
    woken: Mutex<Option<OwnedFd>>,
    /// Wake the shards.
    bells: Mutex<Vec<Arc<OwnedFd>>>,
    bound: Mutex<Option<Bound>>,
    bound_changed: Condvar,
}

impl Handle {
    /// A handle for one run.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> Result<Self, StartError> {
        let (wake, woken) =
            std::os::unix::net::UnixStream::pair().map_err(|error| StartError::Descriptors {
                detail: error.to_string(),
            })?;
        Ok(Self(Arc::new(Shared {
            asked: Arc::default(),
            wake: wake.into(),
            woken: Mutex::new(Some(woken.into())),
            bells: Mutex::default(),
            bound: Mutex::new(None),
            bound_changed: Condvar::new(),
        })))
    }

    /// Tells every shard to say goodbye and end. Any thread may call it, any number of times.
    pub fn drain(&self) {
        self.0.asked.drain.store(true, Ordering::Release);
        let _ = rustix::io::write(&self.0.wake, &[1]);
        let bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in &*bells {
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
    }

    /// Whether [`Self::drain`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.asked.drain.load(Ordering::Acquire)
    }

    /// Waits until the gateway listens.
    #[must_use]
    pub fn wait_bound(&self, timeout: Duration) -> Option<Bound> {
        let bound = self.0.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .bound_changed
            .wait_timeout_while(bound, timeout, |bound| bound.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn set_bound(&self, bound: Bound) {
        *self.0.bound.lock().unwrap_or_else(PoisonError::into_inner) = Some(bound);
        self.0.bound_changed.notify_all();
    }

    /// A shard's bell, to be rung with each [`Self::drain`].
    fn hang(&self, bell: Arc<OwnedFd>) {
        let mut bells = self.0.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.push(bell);
    }

    /// The end that becomes readable with each [`Self::drain`].
    fn take_woken(&self) -> Option<OwnedFd> {
        let mut woken = self.0.woken.lock().unwrap_or_else(PoisonError::into_inner);
        woken.take()
    }
}

/// Runs one shard per core with the service that `make` builds on its thread, until `handle` drains it or a shard
/// fails.
///
/// # Errors
/// What keeps it from starting, or what made a shard stop.
pub fn run_shards<S, M>(plan: Plan, handle: &Handle, make: M) -> Result<ExitReason, StartError>
where
    S: Service + 'static,
    M: FnOnce(Seat) -> Result<S, StartError> + Clone + Send + 'static,
{
    let Plan {
        config,
        listeners,
        policy,
        metrics,
    } = plan;
    check(&config)?;
    let descriptors = start::probe(listeners.len())?;
    let cores = cores();
    let shards = match config.shards {
        0 => u16::try_from(cores.len()).unwrap_or(u16::MAX),
        shards => shards,
    };
    let connections = config.connections_max.min(descriptors);
    start::grow_descriptor_table(connections);
    let options = shard_options(&config, policy, connections, shards)?;
    let (per_shard, listen) = listener::for_shards(&config, listeners, shards)?;
    let admin_listener = match config.admin_listen {
        Some(address) => Some(
            // Shared: the successor of a gateway that drains serves its figures on the same address.
            listener::bind(address, 128, true)
                .map_err(|error| StartError::bind(address, &error))?,
        ),
        None => None,
    };
    let admin_address = admin_listener.as_ref().and_then(listener::local_address);
    let clock = Clock::start();
    let sizes = RingSizes {
        buffers: config.receive_buffers,
        buffer_bytes: config.receive_buffer_bytes,
        ..RingSizes::default()
    };

    let mut all_published = Vec::new();
    let mut threads = Vec::new();
    for (shard, listeners) in (0..shards).zip(per_shard) {
        let bell = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::NONBLOCK | rustix::event::EventfdFlags::CLOEXEC,
        )
        .map_err(|error| StartError::Descriptors {
            detail: error.to_string(),
        })?;
        let (bell, published) = (Arc::new(bell), Arc::new(Published::default()));
        let start = ShardStart {
            options: ShardOptions {
                shard,
                ..options.clone()
            },
            seat: Seat {
                shard,
                shards,
                connections_max: options.connections_max,
                clock,
            },
            sizes,
            listeners,
            asked: Arc::clone(&handle.0.asked),
            bell: Arc::clone(&bell),
            published: Arc::clone(&published),
        };
        handle.hang(bell);
        all_published.push(published);
        let placement = if config.pin_cores {
            Placement::Fixed(cores[usize::from(shard) % cores.len()])
        } else {
            Placement::Unbound
        };
        let make = make.clone();
        let ended = DrainsAtItsEnd(handle.clone());
        let thread = executor(placement, &format!("shard-{shard}"))
            .spawn(move || async move {
                let _ended = ended;
                run_shard(start, make).await
            })
            .map_err(|error| glommio_error(&error))?;
        threads.push(thread);
    }
    let woken = handle.take_woken().ok_or_else(|| {
        StartError::Service("a gateway's handle serves one run: make a new one".to_owned())
    })?;
    let admin = Admin {
        listener: admin_listener,
        woken,
        published: all_published,
        metrics,
        handle: handle.clone(),
    };
    let control = executor(Placement::Unbound, "admin")
        .spawn(move || admin::serve(admin))
        .map_err(|error| glommio_error(&error))?;
    handle.set_bound(Bound {
        listen,
        admin: admin_address,
    });
    tracing::info!(%listen, admin = ?admin_address, shards, "gateway listens");

    let mut result = Ok(ExitReason::Drained);
    for (shard, thread) in (0..).zip(threads) {
        let ended = thread.join().unwrap_or_else(|error| {
            Err(StartError::Shard {
                shard,
                detail: error.to_string(),
            })
        });
        if let Err(error) = ended {
            result = Err(error);
        }
    }
    handle.drain();
    let _ = control.join();
    result
}

/// One shard's end, also by a panic, is the process's: the others' connections go to a successor.
struct DrainsAtItsEnd(Handle);

impl Drop for DrainsAtItsEnd {
    fn drop(&mut self) {
        self.0.drain();
    }
}

struct ShardStart {
    options: ShardOptions,
    seat: Seat,
    sizes: RingSizes,
    listeners: ShardListeners,
    asked: Arc<Asked>,
    bell: Arc<OwnedFd>,
    published: Arc<Published>,
}

/// A shard with its driver. At its end, also by a panic, the ring goes first: sends under way read the shard's memory
/// until then. Then the sockets are closed.
struct Running<S: Service> {
    shard: Shard<S>,
    driver: Option<UringDriver>,
}

impl<S: Service> Drop for Running<S> {
    fn drop(&mut self) {
        self.driver = None;
        self.shard.sockets().into_iter().for_each(uring::close);
    }
}

async fn run_shard<S: Service>(
    start: ShardStart,
    make: impl FnOnce(Seat) -> Result<S, StartError>,
) -> Result<(), StartError> {
    let shard = start.seat.shard;
    let service = make(start.seat)?;
    let clock = start.seat.clock;
    let now = clock.now();
    let mut running = Running {
        shard: Shard::new(start.options, service, now, now.us() ^ u64::from(shard)),
        driver: None,
    };
    let driver = running.driver.insert(
        UringDriver::new(start.sizes, start.listeners).map_err(|error| StartError::ring(&error))?,
    );
    let around = Surroundings {
        clock,
        bell: &start.bell,
        asked: &start.asked,
        published: &start.published,
    };
    let result = drive(&mut running.shard, driver, around).await;
    result.map_err(|error| StartError::Shard {
        shard,
        detail: error.to_string(),
    })
}

fn executor(placement: Placement, name: &str) -> LocalExecutorBuilder {
    LocalExecutorBuilder::new(placement)
        .name(name)
        .io_memory(CONTROL_IO_MEMORY_BYTES)
        .ring_depth(CONTROL_RING_DEPTH)
        .preempt_timer(PREEMPT_TIMER)
}

fn glommio_error<T: std::fmt::Debug>(error: &glommio::GlommioError<T>) -> StartError {
    StartError::Ring {
        detail: error.to_string(),
    }
}

/// The cores that this process may use.
fn cores() -> Vec<usize> {
    let allowed = rustix::thread::sched_getaffinity(None).ok();
    let cores: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|&core| allowed.as_ref().is_some_and(|set| set.is_set(core)))
        .collect();
    if cores.is_empty() { vec![0] } else { cores }
}

fn shard_options(
    config: &Config,
    policy: Policy,
    connections: u32,
    shards: u16,
) -> Result<ShardOptions, StartError> {
    let trusted =
        TrustedProxies::parse(&config.trusted_proxies).map_err(|found| StartError::Setting {
            key: "trusted_proxies",
            found,
            expected: "expected an address (10.1.2.3) or a network (10.0.0.0/8)",
        })?;
    // The kernel spreads connections by hash, not evenly: a shard may hold an eighth more than its share. What
    // exceeds the descriptor limit by that pauses accepting.
    let share = connections.div_ceil(u32::from(shards));
    let share = if shards > 1 { share + share / 8 } else { share };
    let share = share.min(SLOTS_MAX - 1);
    Ok(ShardOptions::of(config, share, policy, trusted))
}

/// Whether a gateway could run on these settings.
///
/// # Errors
/// [`StartError::Setting`]: the first key whose value makes no sense.
pub fn check(config: &Config) -> Result<(), StartError> {
    let setting = |key, found: u64, expected| {
        Err(StartError::Setting {
            key,
            found: found.to_string(),
            expected,
        })
    };
    if !config.receive_buffers.is_power_of_two()
        || !(16..=1 << 14).contains(&config.receive_buffers)
    {
        let found = u64::from(config.receive_buffers);
        return setting(
            "receive_buffers",
            found,
            "expected a power of two from 16 to 16384",
        );
    }
    if !(1 << 10..=1 << 20).contains(&config.receive_buffer_bytes) {
        let found = u64::from(config.receive_buffer_bytes);
        return setting("receive_buffer_bytes", found, "expected 1024 to 1048576");
    }
    if !(1..=16 << 20).contains(&config.max_message_bytes) {
        let found = u64::from(config.max_message_bytes);
        return setting("max_message_bytes", found, "expected 1 to 16777216");
    }
    if !(500..=60_000).contains(&config.drain_ms) {
        let found = u64::from(config.drain_ms);
        return setting("drain_ms", found, "expected 500 to 60000");
    }
    if config.connections_max == 0 {
        return setting("connections_max", 0, "expected at least 1");
    }
    Ok(())
}
