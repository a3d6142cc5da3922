//! The backend process: the real seat on the real bus, the real store, the real turn, stepped. What `app::run` does
//! with threads and clocks is done here with virtual time; history that left memory is read on this thread, late.

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use shm_bus::BusDirectory;
use tidegate_backend::app::handle::{TurnHandle, door};
use tidegate_backend::bus::Bus;
use tidegate_backend::bus::cold::{COLD_PAGE_MESSAGES_MAX, ColdPage, ColdReader, ColdRequest};
use tidegate_backend::bus::link::Gateways;
use tidegate_backend::bus::seat::Seat;
use tidegate_backend::engine::{Engine, Rules};
use tidegate_backend::store::read::{Direction, Reader};
use tidegate_backend::store::vfs::SimulatedDisk;
use tidegate_backend::store::{SqliteStore, Store, StoreOptions};
use tidegate_backend::turn::careful::{Careful, Suspect};
use tidegate_backend::turn::{Stepped, Turn, TurnLimits};

use super::dice::Dice;

/// The longest sleep, µs.
const SLEEP_US_MAX: u64 = shm_bus::SLEEP_MS_MAX * 1_000;
/// A reader thread takes at most so long for a page, µs.
const READ_US_MAX: u64 = 20_000;
/// Pages being read at once.
const PAGES_READING_MAX: usize = 8;
/// HTTP commands that may wait.
const COMMANDS_WAITING_MAX: usize = 64;

/// The turn as it is simulated.
pub type SimulatedTurn = Turn<SqliteStore, Seat, LateReader>;

/// Reads pages on this thread, and hands them over when virtual time has passed.
pub struct LateReader {
    reader: Reader,
    now_us: Rc<Cell<u64>>,
    /// When the next page is ready; `u64::MAX`: none is being read.
    ready_us: Rc<Cell<u64>>,
    pages: VecDeque<(u64, ColdPage)>,
    dice: Dice,
}

impl LateReader {
    fn set_ready(&self) {
        let ready_us = self.pages.front().map_or(u64::MAX, |page| page.0);
        self.ready_us.set(ready_us);
    }
}

impl ColdReader for LateReader {
    fn request(&mut self, request: ColdRequest) -> bool {
        if self.pages.len() >= PAGES_READING_MAX {
            return false;
        }
        let direction = Direction::After(request.after);
        let limit = COLD_PAGE_MESSAGES_MAX;
        let found = self.reader.history(request.id, direction, limit);
        // What cannot be read is an empty page: it is asked for again.
        let found = found.unwrap_or_default();
        let page = ColdPage {
            request: Some(request),
            messages: found.messages,
            text: found.text,
        };
        let last_us = self.pages.back().map_or(0, |page| page.0);
        let ready_us = self.now_us.get() + self.dice.below(READ_US_MAX);
        self.pages.push_back((ready_us.max(last_us), page));
        self.set_ready();
        true
    }

    fn take(&mut self) -> Option<ColdPage> {
        let is_ready = self.is_ready();
        let page = self.pages.pop_front_if(|_| is_ready);
        self.set_ready();
        page.map(|page| page.1)
    }

    fn is_ready(&self) -> bool {
        self.ready_us.get() <= self.now_us.get()
    }
}

/// How a backend is started.
#[derive(Clone)]
pub struct Start {
    /// The rules.
    pub rules: Rules,
    /// Bounds of a turn.
    pub limits: TurnLimits,
    /// The store; its time and randomness are set at each start.
    pub store: StoreOptions,
}

/// What a backend does after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Another step at once.
    Again,
    /// It sleeps until then, or until its bell rings.
    Sleeps {
        /// True time.
        until_us: u64,
    },
}

/// A process.
pub struct Backend {
    /// The turn.
    pub turn: SimulatedTurn,
    /// HTTP's end of the door.
    pub handle: TurnHandle,
    /// Its name on the bus.
    pub instance: u64,
    /// It announced its sleep.
    pub asleep: bool,
    /// Its clock minus the true time, µs.
    offset_us: i64,
    now_us: Rc<Cell<u64>>,
    page_ready_us: Rc<Cell<u64>>,
    next_seed: u64,
}

impl Backend {
    /// Starts one over what the last one left.
    ///
    /// # Errors
    /// The sentence with which the start ends; the supervisor tries again.
    pub fn start(
        start: &Start,
        bus: &BusDirectory,
        disk: &SimulatedDisk,
        suspect: Option<Suspect>,
        now_us: u64,
        wall_us: u64,
        dice: &mut Dice,
    ) -> Result<Self, String> {
        let seat = Seat::take(bus).map_err(|error| error.to_string())?;
        let options = disk.options(StoreOptions {
            now_us: wall_us,
            random: dice.number(),
            ..start.store.clone()
        });
        let mut store = SqliteStore::open(&options).map_err(|error| error.to_string())?;
        let loaded = store.load().map_err(|error| error.to_string())?;
        let reader = store.place().open_reader();
        let reader = Reader::new(reader.map_err(|error| error.to_string())?, 1);
        // As the server's clock: the wall's at the start, above all that the store knows.
        let started_us = wall_us.max(loaded.clock_floor_us + 1);
        let offset_us = started_us.cast_signed() - now_us.cast_signed();
        let cursors = loaded.ring_cursors.clone();
        let engine = Engine::new(start.rules.clone(), loaded, started_us);
        let (handle, turn_door) = door(Arc::new(|| {}), COMMANDS_WAITING_MAX);
        let now = Rc::new(Cell::new(now_us));
        let page_ready_us = Rc::new(Cell::new(u64::MAX));
        let cold = LateReader {
            reader,
            now_us: Rc::clone(&now),
            ready_us: Rc::clone(&page_ready_us),
            pages: VecDeque::new(),
            dice: dice.fork(),
        };
        let instance = seat.instance();
        let bus = Bus::new(seat, cold, &cursors);
        let mut turn = Turn::new(engine, bus, store, turn_door, start.limits.clone());
        turn.set_careful(Careful::after(suspect));
        Ok(Self {
            turn,
            handle,
            instance,
            asleep: false,
            offset_us,
            now_us: now,
            page_ready_us,
            next_seed: dice.number(),
        })
    }

    /// One step, as `app::run` does it.
    ///
    /// # Errors
    /// The sentence with which the process ends.
    pub fn step(&mut self, now_us: u64) -> Result<Next, String> {
        if std::mem::take(&mut self.asleep) {
            self.turn.gateways_mut().sleep(Duration::ZERO);
        }
        self.now_us.set(now_us);
        self.next_seed = self.next_seed.wrapping_add(0xa076_1d64_78bd_642f);
        let server_us = now_us.saturating_add_signed(self.offset_us);
        match self.turn.step(server_us, self.next_seed) {
            Stepped::Worked => Ok(Next::Again),
            Stepped::Idle { wake_at_us } => {
                self.turn.gateways_mut().prepare_sleep();
                if self.turn.has_input() {
                    self.turn.gateways_mut().stay_awake();
                    return Ok(Next::Again);
                }
                self.asleep = true;
                let most_us = wake_at_us.saturating_sub(server_us).clamp(1, SLEEP_US_MAX);
                // A reader that is done rings the bell, once: a turn that waits for the disk leaves the page where it is.
                let until_us = match self.page_ready_us.get() {
                    ready_us if ready_us > now_us => (now_us + most_us).min(ready_us),
                    _ => now_us + most_us,
                };
                Ok(Next::Sleeps { until_us })
            }
            Stepped::Broken(error) => Err(error),
        }
    }

    /// The doorbell, if it sleeps.
    pub fn doorbell(&mut self) -> Option<BorrowedFd<'_>> {
        let asleep = self.asleep;
        asleep.then(|| self.turn.gateways_mut().doorbell())
    }

    /// What the next start has to know of the end of this one.
    pub fn broken(&mut self, error: &str) -> Suspect {
        self.turn.careful_mut().broken(error)
    }
}
