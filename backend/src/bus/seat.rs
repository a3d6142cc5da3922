//! The real bus: gateways in shared memory, found in the bus directory.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use shm_bus::{AttachedGateway, BackendSeat, BusDirectory, Consumer, Producer, Ringer, SeatError};
use tidegate_protocol::bus::BUS_PROTOCOL;

use super::board::Board;
use super::link::{Gateways, Link};

/// The seat of this backend.
pub struct Seat {
    seat: BackendSeat,
    displaced: Option<String>,
}

impl Seat {
    /// Takes it.
    ///
    /// # Errors
    /// Another backend holds it (the sentence names its pid), or the bus is not what it should be.
    pub fn take(bus: &BusDirectory) -> Result<Self, SeatError> {
        Ok(Self {
            seat: BackendSeat::take_for(bus, BUS_PROTOCOL)?,
            displaced: None,
        })
    }

    /// Wakes the turn from other threads.
    pub fn ringer(&mut self) -> Ringer {
        self.seat.bell().ringer()
    }

    /// The doorbell's reading side, for one who waits for more than this bell.
    pub fn doorbell(&mut self) -> BorrowedFd<'_> {
        self.seat.bell().fd()
    }

    /// This incarnation of the backend.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.seat.instance().get()
    }
}

impl Gateways for Seat {
    type Link = AttachedGateway;

    fn discover(&mut self) -> Vec<AttachedGateway> {
        let instances = match self.seat.discover() {
            Ok(instances) => instances,
            Err(error) => {
                tracing::warn!(%error, "the bus directory cannot be read");
                return Vec::new();
            }
        };
        let mut attached = Vec::new();
        for instance in instances {
            match self.seat.attach(instance) {
                Ok(gateway) => {
                    tracing::info!(gateway = %instance, pid = gateway.pid(), build = gateway.build(), "attached");
                    attached.push(gateway);
                }
                Err(error) => tracing::warn!(gateway = %instance, %error, "a gateway was refused"),
            }
        }
        attached
    }

    fn beat(&mut self, now_us: u64) {
        let control = self.seat.control();
        control.beat(now_us);
        for instance in self.seat.bury_refused() {
            tracing::info!(gateway = %instance, "a refused gateway ended, its segment is removed");
        }
        let found = self.seat.place().look();
        self.displaced = found.err().map(|displaced| displaced.to_string());
    }

    fn tickets_and_frontier(&mut self) -> (u64, u64) {
        let control = self.seat.control();
        (control.tickets(), control.frontier())
    }

    fn let_in(&mut self, frontier: u64, per_1000_s: u64) {
        let control = self.seat.control();
        control.advance_frontier(frontier);
        control.set_admission_rate(per_1000_s);
    }

    fn refuse(&mut self, link: AttachedGateway) {
        self.seat.refuse(link);
    }

    fn displaced(&self) -> Option<&str> {
        self.displaced.as_deref()
    }

    fn show(&mut self, board: &Board) {
        self.seat.control().set_ledger(board.words());
    }

    fn prepare_sleep(&mut self) {
        self.seat.bell().prepare();
    }

    fn sleep(&mut self, most: Duration) {
        self.seat.bell().sleep(most);
    }

    fn stay_awake(&mut self) {
        self.seat.bell().wake();
    }
}

impl Link for AttachedGateway {
    fn instance(&self) -> u64 {
        Self::instance(self).get()
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("invariant: SHARDS_MAX fits u16")
    }

    fn to_backend(&mut self, shard: u16) -> &mut Consumer {
        &mut self.shards[usize::from(shard)].to_backend
    }

    fn to_gateway(&mut self, shard: u16) -> &mut Producer {
        &mut self.shards[usize::from(shard)].to_gateway
    }

    fn is_alive(&self) -> bool {
        Self::is_alive(self)
    }

    fn unlink(self) -> Result<(), String> {
        Self::unlink(self).map_err(|error| error.to_string())
    }
}
