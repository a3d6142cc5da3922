//! A whole backend in one process: seat, store, turn, HTTP; started, slept, stopped.

use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shm_bus::BusDirectory;

use super::handle::{Wake, door};
use super::pace::Pace;
use crate::auth::{self, token_key};
use crate::bus::Bus;
use crate::bus::cold::{ColdReader, ReaderPool};
use crate::bus::link::Gateways;
use crate::bus::seat::Seat;
use crate::config::Config;
use crate::engine::loaded::Loaded;
use crate::engine::rate::RateLimit;
use crate::engine::{Engine, Rules};
use crate::http::{HttpServer, HttpState};
use crate::journal::{Beginning, Journal, JournalBounds, Mask};
use crate::store::data_dir::DataDir;
use crate::store::{Readers, SqliteStore, Store, StoreError, StoreOptions};
use crate::turn::bot::Bot;
use crate::turn::careful::Careful;
use crate::turn::stages::Stage;
use crate::turn::{Stepped, Turn, TurnLimits};
use crate::workers::{self, BOT, Desk, MODERATION, Records, TRANSLATION, Verdict};

/// The longest sleep: a producer may have died between publish and ring.
const SLEEP_US_MAX: u64 = shm_bus::SLEEP_MS_MAX * 1_000;
/// How often a start that lacks room, or waits for a lock, tries again: relief is noticed within it.
const START_RETRY_EVERY: Duration = Duration::from_millis(100);
/// How often it says so.
const START_SAY_EVERY: Duration = Duration::from_secs(10);
/// Who has the data directory for longer is another backend.
pub(super) const DATA_DIR_HELD_MAX: Duration = Duration::from_secs(3);
/// Beside the database: which input broke an earlier process. See [`crate::turn::careful`].
const SUSPECT_NOTE: &str = "turn.suspect";

/// A journal's file is followed by the next at this size.
const JOURNAL_FILE_BYTES_MAX: u64 = 256 << 20;

const HOUR_US: u64 = 3_600 * 1_000_000;

/// Why a backend did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration cannot work; each line names a key and says what to write.
    #[error("the configuration has mistakes:\n{0}")]
    Config(String),
    /// The address of HTTP cannot be had.
    #[error(
        "HTTP cannot listen on {address}: {error}. Stop the program that has the port, or set another http_listen"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The bus cannot be had; the sentence says what to do.
    #[error("{0}")]
    Bus(String),
    /// The store cannot be had; the sentence says what to do.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread, a file or randomness could not be had.
    #[error("{0}")]
    System(String),
    /// The turn ended because it could not go on; the next start goes on from the store.
    #[error("the backend cannot go on: {0}. Nothing that was acknowledged is lost; start it again")]
    Broken(String),
}

/// The process's hold on a running backend. Clones are the same.
#[derive(Clone, Default)]
pub struct Shutdown(Arc<Shared>);

#[derive(Default)]
struct Shared {
    asked: AtomicBool,
    wake: Mutex<Option<Wake>>,
    ready: Mutex<Option<SocketAddr>>,
    became_ready: Condvar,
}

impl std::fmt::Debug for Shutdown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shutdown")
            .field("asked", &self.is_asked())
            .finish_non_exhaustive()
    }
}

impl Shutdown {
    /// Not asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the backend to stop in order. Any thread, any number of times.
    pub fn ask(&self) {
        self.0.asked.store(true, Ordering::Release);
        if let Some(wake) = &*self.0.wake.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Waits until the backend serves; the address of its HTTP.
    #[must_use]
    pub fn wait_ready(&self, timeout: Duration) -> Option<SocketAddr> {
        let ready = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .0
            .became_ready
            .wait_timeout_while(ready, timeout, |ready| ready.is_none());
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    pub(super) fn serves(&self, wake: Wake, address: SocketAddr) {
        *self.0.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
        *self.0.ready.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
        self.0.became_ready.notify_all();
    }
}

/// The server's time: the wall clock at the start, then monotonic. It never steps back, whatever the wall does, and
/// begins above everything that the store knows.
#[derive(Debug, Clone, Copy)]
struct ServerClock {
    base_us: u64,
    since: Instant,
}

impl ServerClock {
    fn above(floor_us: u64) -> Self {
        Self {
            base_us: auth::now_us().max(floor_us + 1),
            since: Instant::now(),
        }
    }

    fn now_us(&self) -> u64 {
        self.base_us + u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX / 2)
    }
}

/// What the configuration says to the rules.
#[must_use]
pub fn rules_of(config: &Config) -> Rules {
    Rules {
        site_id: config.site_id,
        window_bytes_max: config.window_bytes_max,
        sessions_max: config.sessions_max.max(4 * config.turn_inputs_max),
        agent_grace_us: config.agent_grace_s * 1_000_000,
        visitor_gone_us: config.visitor_gone_s_max * 1_000_000,
        abandoned_us: config.abandoned_s_max * 1_000_000,
        marks_delay_us: config.marks_delay_ms_max * 1_000,
        sends: RateLimit {
            per_s: config.sends_per_s_max,
            burst: config.sends_burst_max,
        },
        messages_kept_us: u64::from(config.retention.messages_days) * 24 * HOUR_US,
        idempotency_keys_kept_us: u64::from(config.retention.idempotency_keys_hours) * HOUR_US,
        ..Rules::default()
    }
}

/// The socket that was inherited, or one bound here.
pub(super) fn listen(
    config: &Config,
    inherited: Option<TcpListener>,
) -> Result<TcpListener, StartError> {
    let address = config.http_listen;
    let listener = inherited.map_or_else(|| HttpServer::bind(address), Ok);
    listener.map_err(|error| StartError::Listen { address, error })
}

/// A configuration that nothing can be started with is refused with all its mistakes at once.
pub(super) fn refuse_mistakes(config: &Config) -> Result<(), StartError> {
    let mistakes = config.mistakes();
    if mistakes.is_empty() {
        Ok(())
    } else {
        Err(StartError::Config(mistakes.join("\n")))
    }
}

/// Runs a backend on this thread until it is asked to stop. HTTP is served on the socket that was inherited, or on
/// one bound here.
///
/// # Errors
/// See [`StartError`]: a sentence that says what was found and what to do.
pub fn run(
    config: Config,
    inherited: Option<TcpListener>,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    refuse_mistakes(&config)?;
    #[cfg(feature = "fault-points")]
    crate::store::vfs::shim::install_from_environment().map_err(StartError::Config)?;
    let listener = listen(&config, inherited)?;
    let Some(mut data_dir) = patiently(shutdown, || {
        DataDir::take_within(&config.data_dir, DATA_DIR_HELD_MAX)
    })?
    else {
        return Ok(());
    };
    let key = token_key::load_or_create(&config.token_key_path())?;
    let bus_directory = BusDirectory::open_or_create(&config.bus_dir)
        .map_err(|error| StartError::Bus(error.to_string()))?;
    let mut seat =
        Seat::take(&bus_directory).map_err(|error| StartError::Bus(error.to_string()))?;

    let began = Instant::now();
    let options = StoreOptions::from_config(&config)?;
    let beginning = begin_journal(&config, &options);
    let open = || SqliteStore::open(&options);
    let Some(mut store) = patiently(shutdown, open)? else {
        return Ok(());
    };
    let opened = began.elapsed();
    let checkpoints = store.checkpoint_counters();
    let loaded = store.load()?;
    let read = began.elapsed().saturating_sub(opened);
    let readers = Readers::start(
        store.place(),
        config.site_id,
        config.reader_threads,
        config.reads_waiting_max,
    )?;

    let ringer = seat.ringer();
    let wake: Wake = Arc::new(move || {
        ringer.ring();
    });
    let (handle, turn_door) = door(Arc::clone(&wake), config.commands_waiting_max);
    let clock = ServerClock::above(loaded.clock_floor_us);
    let (started_us, cursors) = (clock.now_us(), loaded.ring_cursors.clone());
    tracing::info!(
        backend = format!("{:016x}", seat.instance()),
        conversations = loaded.conversations.len(),
        agents = loaded.agents.len(),
        incarnation = loaded.incarnation,
        // SQLite goes through a log that a death left.
        open_ms = opened.as_millis(),
        read_ms = read.as_millis(),
        "loaded"
    );
    let rules = rules_of(&config);
    let journal = beginning.and_then(|beginning| {
        let began = (&options, &rules, &loaded);
        start_journal(&config, &beginning, began, started_us)
    });
    let engine = Engine::new(rules, loaded, started_us);
    let cold = ReaderPool::new(readers.clone(), Arc::clone(&wake));
    let limits = TurnLimits {
        inputs_max: config.turn_inputs_max,
        admission: config.admission.limits(),
        ..TurnLimits::default()
    };
    let mut turn = Turn::new(
        engine,
        Bus::new(seat, cold, &cursors),
        store,
        turn_door,
        limits,
    );
    let note = data_dir.path().join(SUSPECT_NOTE);
    let careful = Careful::from_note(&note).map_err(|error| {
        StartError::System(format!("{} cannot be read: {error}", note.display()))
    })?;
    if careful.is_on() {
        tracing::warn!("an earlier process broke; leftovers are applied one per transaction");
    }
    turn.set_careful(careful);
    if let Some(journal) = journal {
        turn.set_journal(journal);
    }
    let stages = stages_of(&config, &wake)?;
    if !stages.is_empty() {
        turn.set_stages(stages);
    }

    if config.bot.enabled {
        let wish = config.bot;
        let worker = desk::<workers::bot::Bot>(BOT, &config, &wake)?;
        let answer_us_max = wish.worker_answer_ms_max * 1_000;
        turn.set_bot(Bot::new(worker, answer_us_max, wish.asked_max));
    }

    let gather_us = config.turn_gather_us_max;
    let state = HttpState::new(config, handle, readers, key, checkpoints)?;
    let http = HttpServer::start(listener, state)
        .map_err(|error| StartError::System(error.to_string()))?;
    data_dir
        .say(Some(http.address()))
        .map_err(|error| StartError::System(error.to_string()))?;
    shutdown.serves(wake, http.address());
    tracing::info!(http = %http.address(), "serving");

    let mut pace = Pace::new(gather_us);
    let ended = drive(&mut turn, &clock, &mut pace, || shutdown.is_asked());
    match ended {
        Ok(()) => {
            // Requests that are open wait for the turn: it goes on until HTTP has ended.
            let stopping = std::thread::spawn(move || http.stop());
            drive(&mut turn, &clock, &mut pace, || stopping.is_finished())?;
            turn.stop(clock.now_us(), seed()?)
                .map_err(StartError::Broken)?;
            tracing::info!("stopped");
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, "the turn broke");
            // The process is about to end; waiting for requests that nobody can answer would only delay the next.
            std::mem::forget(http);
            Err(error)
        }
    }
}

/// Tries until the disk has room and nobody else holds the database; `None`: asked to stop before. Gateways keep their
/// connections meanwhile, and relief is noticed at once: a process that ended instead would be started again with
/// growing waits.
fn patiently<T>(
    shutdown: &Shutdown,
    mut attempt: impl FnMut() -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    let mut say_at = Instant::now();
    loop {
        let error = match attempt() {
            Err(error) if error.passes() => error,
            done => return done.map(Some),
        };
        if shutdown.is_asked() {
            return Ok(None);
        }
        if Instant::now() >= say_at {
            tracing::error!("cannot start yet: {error}. Trying again until it can");
            say_at = Instant::now() + START_SAY_EVERY;
        }
        std::thread::sleep(START_RETRY_EVERY);
    }
}

/// Opens the buses of the workers that texts wait for, in the order in which texts pass them. Who has turned one on wants
/// no text to pass without it: a start fails if it cannot be had.
fn stages_of(config: &Config, wake: &Wake) -> Result<Vec<Stage>, StartError> {
    let mut stages = Vec::new();
    if config.moderation.enabled {
        let wish = config.moderation;
        stages.push(Stage {
            name: MODERATION,
            worker: desk::<workers::Moderation>(MODERATION, config, wake)?,
            looks_at_agents: false,
            default: wish.default.verdict(),
            answer_us_max: wish.worker_answer_ms_max * 1_000,
            held_max: wish.held_max,
        });
    }
    if config.translation.enabled {
        let wish = config.translation;
        stages.push(Stage {
            name: TRANSLATION,
            worker: desk::<workers::Translation>(TRANSLATION, config, wake)?,
            looks_at_agents: true,
            default: Verdict::Allow,
            answer_us_max: wish.worker_answer_ms_max * 1_000,
            held_max: wish.held_max,
        });
    }
    Ok(stages)
}

/// A worker's desk in its directory.
fn desk<R: Records>(
    name: &'static str,
    config: &Config,
    wake: &Wake,
) -> Result<Box<Desk<R>>, StartError> {
    let desk = Desk::start(name, &config.bus_dir, Arc::clone(wake)).map_err(StartError::Bus)?;
    let directory = config.bus_dir.join(name);
    tracing::info!(directory = %directory.display(), "a {name} worker is asked when one is there");
    Ok(Box::new(desk))
}

/// Prepares the journal, if one is asked for. People who chat do not go without because it cannot be written.
fn begin_journal(config: &Config, options: &StoreOptions) -> Option<Beginning> {
    if config.journal_file.as_os_str().is_empty() {
        return None;
    }
    let (path, boot_id) = (&config.journal_file, &options.boot_id);
    mask_of(config)
        .map_err(|error| StoreError::Refused(error.to_string()))
        .and_then(|mut mask| Beginning::look(path, &options.place, boot_id, mask.as_mut()))
        .inspect_err(|error| tracing::error!("no journal is written: {error}"))
        .ok()
}

/// What masks the journal, if that is wished for. Its key follows from the token key, which is there by now.
fn mask_of(config: &Config) -> std::io::Result<Option<Mask>> {
    config
        .journal_masked
        .then(|| std::fs::read(config.token_key_path()).map(|secret| Mask::new(&secret)))
        .transpose()
}

fn start_journal(
    config: &Config,
    beginning: &Beginning,
    began: (&StoreOptions, &Rules, &Loaded),
    started_us: u64,
) -> Option<Journal> {
    let bounds = JournalBounds {
        file_bytes_max: JOURNAL_FILE_BYTES_MAX,
        bytes_max: config.journal_bytes_max,
    };
    let journal =
        mask_of(config).and_then(|mask| Journal::begin(beginning, bounds, mask, began, started_us));
    let path = config.journal_file.display();
    journal
        .inspect(|_| tracing::info!(journal = %path, base = ?beginning.base(), masked = config.journal_masked, "every input is written down"))
        .inspect_err(|error| tracing::error!(journal = %path, "no journal is written: {error}"))
        .ok()
}

fn seed() -> Result<u64, StartError> {
    auth::random::u64()
        .map_err(|error| StartError::System(format!("the system has no randomness: {error}")))
}

/// Steps until asked to stop, asleep while there is nothing to do.
fn drive<S: Store, C: ColdReader>(
    turn: &mut Turn<S, Seat, C>,
    clock: &ServerClock,
    pace: &mut Pace,
    until: impl Fn() -> bool,
) -> Result<(), StartError> {
    // One random number, then a counter: the engine spreads it (SplitMix64). Ids have to be unique, not secret.
    let mut next_seed = seed()?;
    while !until() {
        if let Some(displaced) = turn.gateways_mut().displaced() {
            return Err(StartError::Broken(displaced.to_owned()));
        }
        next_seed = next_seed.wrapping_add(0xa076_1d64_78bd_642f);
        let (began_us, inputs) = (clock.now_us(), turn.counters().inputs);
        let stepped = catch_unwind(AssertUnwindSafe(|| turn.step(began_us, next_seed)));
        match stepped {
            Ok(Stepped::Worked) => {
                let taken = turn.counters().inputs - inputs;
                let wait_us = pace.turn(began_us, clock.now_us(), taken);
                if wait_us > 0 {
                    std::thread::sleep(Duration::from_micros(wait_us));
                }
            }
            Ok(Stepped::Idle { wake_at_us }) => {
                let now_us = clock.now_us();
                turn.gateways_mut().prepare_sleep();
                if turn.has_input() || until() {
                    turn.gateways_mut().stay_awake();
                    continue;
                }
                let most_us = wake_at_us.saturating_sub(now_us).clamp(1, SLEEP_US_MAX);
                turn.gateways_mut().sleep(Duration::from_micros(most_us));
            }
            Ok(Stepped::Broken(error)) => {
                turn.careful_mut().broken(&error);
                return Err(StartError::Broken(error));
            }
            Err(panic) => {
                let said = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_else(|| "it panicked".to_owned());
                turn.careful_mut().broken(&said);
                return Err(StartError::Broken(said));
            }
        }
    }
    Ok(())
}
