//! The two control pages, shared by every process on the bus: tickets (gateways add), frontier, heartbeat and ledger
//! (the backend writes). Each side maps the other's page read-only.

use std::ops::Deref;

use crate::{
    directory::{BusDirectory, CONTROL_BACKEND, CONTROL_GATEWAYS},
    error::BusError,
    identity::InstanceId,
    layout,
    memory::{Memory, Word, Words},
    sync::{Arc, Ordering, fence},
};

/// How often a reader looks again while the backend writes the ledger.
const LEDGER_TRIES_MAX: usize = 1_000;

/// What every process may read.
#[derive(Clone)]
pub struct Control {
    tickets: Word,
    roster: Word,
    frontier: Word,
    admission_rate: Word,
    backend_instance: Word,
    backend_pid: Word,
    heartbeat_us: Word,
    ledger_version: Word,
    backend_protocol: Word,
    ledger: Words,
    pub(crate) backend_memory: Arc<Memory>,
}

impl Control {
    fn over(gateways: &Arc<Memory>, backend: &Arc<Memory>) -> Self {
        Self {
            tickets: Word::at(gateways, layout::TICKETS_OFFSET),
            roster: Word::at(gateways, layout::ROSTER_OFFSET),
            frontier: Word::at(backend, layout::FRONTIER_OFFSET),
            admission_rate: Word::at(backend, layout::ADMISSION_RATE_OFFSET),
            backend_instance: Word::at(backend, layout::BACKEND_INSTANCE_OFFSET),
            backend_pid: Word::at(backend, layout::BACKEND_PID_OFFSET),
            heartbeat_us: Word::at(backend, layout::BACKEND_HEARTBEAT_OFFSET),
            ledger_version: Word::at(backend, layout::LEDGER_VERSION_OFFSET),
            backend_protocol: Word::at(backend, layout::BACKEND_PROTOCOL_OFFSET),
            ledger: Words::at(backend, layout::LEDGER_OFFSET, layout::LEDGER_COUNTERS * 8),
            backend_memory: Arc::clone(backend),
        }
    }

    /// For an observer: both pages read-only.
    ///
    /// # Errors
    /// A page is missing, or not what it should be.
    pub fn observe(bus: &BusDirectory) -> Result<Self, BusError> {
        Ok(Self::over(
            &bus.control_page(&CONTROL_GATEWAYS, false)?,
            &bus.control_page(&CONTROL_BACKEND, false)?,
        ))
    }

    /// How many tickets were given out: the newest ticket's number plus one.
    #[must_use]
    pub fn tickets(&self) -> u64 {
        self.tickets.load(Ordering::Relaxed)
    }

    /// Tickets below this number are admitted; 0 while nobody controls admission.
    #[must_use]
    pub fn frontier(&self) -> u64 {
        self.frontier.load(Ordering::Relaxed)
    }

    /// How fast the frontier moves, in thousandths of a ticket a second; 0 = unknown.
    #[must_use]
    pub fn admission_rate(&self) -> u64 {
        self.admission_rate.load(Ordering::Relaxed)
    }

    /// The backend that holds the seat, or held it last. `None` before the first.
    #[must_use]
    pub fn backend_instance(&self) -> Option<InstanceId> {
        InstanceId::from_raw(self.backend_instance.load(Ordering::Acquire))
    }

    /// Its process id; 0 before the first.
    #[must_use]
    pub fn backend_pid(&self) -> u32 {
        u32::try_from(self.backend_pid.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// What that backend takes records to mean; 0 if it says nothing.
    #[must_use]
    pub fn backend_protocol(&self) -> u32 {
        u32::try_from(self.backend_protocol.load(Ordering::Relaxed)).unwrap_or(u32::MAX)
    }

    /// When the backend last said that it lives, µs since the Unix epoch.
    #[must_use]
    pub fn backend_heartbeat_us(&self) -> u64 {
        self.heartbeat_us.load(Ordering::Relaxed)
    }

    /// How many segments were ever made here.
    #[must_use]
    pub fn roster(&self) -> u64 {
        self.roster.load(Ordering::Acquire)
    }

    /// The ledger's counters of one moment, by the backend's own table. `None`: the backend was writing each time that
    /// it was tried; try again, or it died while writing.
    ///
    /// # Panics
    /// `into` is longer than [`layout::LEDGER_COUNTERS`].
    #[must_use]
    pub fn ledger(&self, into: &mut [u64]) -> Option<()> {
        for _ in 0..LEDGER_TRIES_MAX {
            // SYNC(ledger-whole): what was written before the version was made even is seen.
            let before = self.ledger_version.load(Ordering::Acquire);
            self.ledger.copy_out(0, into);
            // SYNC(ledger-torn): if any word of a later writing was seen, so is that writing's odd version.
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.ledger_version.load(Ordering::Relaxed) == before {
                return Some(());
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// The gateways' side: may take tickets.
#[derive(Clone)]
pub struct GatewayControl(Control);

impl GatewayControl {
    pub(crate) fn open(bus: &BusDirectory) -> Result<Self, BusError> {
        Ok(Self(Control::over(
            &bus.control_page(&CONTROL_GATEWAYS, true)?,
            &bus.control_page(&CONTROL_BACKEND, false)?,
        )))
    }

    /// Takes `count` tickets; the first one's number. One order over all gateways. A ticket is admitted once
    /// [`Control::frontier`] is beyond it.
    pub fn take_tickets(&self, count: u64) -> u64 {
        self.0.tickets.fetch_add(count, Ordering::Relaxed)
    }

    pub(crate) fn enter_roster(&self) {
        self.0.roster.fetch_add(1, Ordering::Release);
    }
}

impl Deref for GatewayControl {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.0
    }
}

/// The backend's side: moves the frontier, beats, keeps the ledger's counters.
#[derive(Clone)]
pub struct BackendControl(Control);

impl BackendControl {
    pub(crate) fn open(bus: &BusDirectory) -> Result<Self, BusError> {
        Ok(Self(Control::over(
            &bus.control_page(&CONTROL_GATEWAYS, false)?,
            &bus.control_page(&CONTROL_BACKEND, true)?,
        )))
    }

    /// Admits all tickets below `frontier`. Never moves back; a smaller number changes nothing.
    pub fn advance_frontier(&self, frontier: u64) {
        if frontier > self.0.frontier() {
            self.0.frontier.store(frontier, Ordering::Relaxed);
        }
    }

    /// Says how fast the frontier moves, in thousandths of a ticket a second. For those who tell people how long.
    pub fn set_admission_rate(&self, per_1000_s: u64) {
        self.0.admission_rate.store(per_1000_s, Ordering::Relaxed);
    }

    /// Says that this backend lives: `now_us` is µs since the Unix epoch.
    pub fn beat(&self, now_us: u64) {
        self.0.heartbeat_us.store(now_us, Ordering::Relaxed);
    }

    /// Sets the ledger's counters, by the backend's own table, so that readers see all of them or none. For the one
    /// thread that holds the seat.
    ///
    /// # Panics
    /// `values` is longer than [`layout::LEDGER_COUNTERS`].
    pub fn set_ledger(&self, values: &[u64]) {
        let version = &self.0.ledger_version;
        // A backend that died while writing left it odd: that writing is ended by this one.
        let writing = version.load(Ordering::Relaxed) | 1;
        version.store(writing, Ordering::Relaxed);
        // SYNC(ledger-torn): the odd version is seen by whoever sees a word written below.
        fence(Ordering::Release);
        for (index, &value) in values.iter().enumerate() {
            self.0.ledger.store(index, value);
        }
        // SYNC(ledger-whole): the words come before the even version.
        version.store(writing.wrapping_add(1), Ordering::Release);
    }

    pub(crate) fn announce(&self, instance: InstanceId, pid: u32, protocol: u32) {
        self.0.backend_pid.store(u64::from(pid), Ordering::Relaxed);
        let protocol = u64::from(protocol);
        self.0.backend_protocol.store(protocol, Ordering::Relaxed);
        self.0
            .backend_instance
            .store(instance.get(), Ordering::Release);
    }
}

impl Deref for BackendControl {
    type Target = Control;

    fn deref(&self) -> &Control {
        &self.0
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control")
            .field("tickets", &self.tickets())
            .field("frontier", &self.frontier())
            .field("backend_instance", &self.backend_instance())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for GatewayControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Debug for BackendControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
