//! How each fault strikes the world, and how all of them are put right.

use tidegate_backend::store::vfs::{self as disk, Failure, Operation};

use super::business::Business;
use super::faults::Fault;
use super::network::LineId;
use super::plan::START_US;
use super::trace::note;
use super::world::{Actor, World};

/// A process that is told to die does so at one of so many points that it passes next.
const POINTS_MAX: u64 = 60;
/// A process stands still for at most so long, µs.
const STALL_US_MAX: u64 = 5_000_000;
/// A client reads nothing for at most so long, µs.
const DEAF_US_MAX: u64 = 10_000_000;
/// A disk that fails is mended after at most so long, µs.
const MEND_US_MAX: u64 = 5_000_000;
/// The wall clock is stepped by at most so much, either way, s.
const STEP_S_MAX: u64 = 3_600;
/// Everything is quiet after so long without faults, or never will be, µs.
const SETTLE_US_MAX: u64 = 240_000_000;
/// The first sweep of retention is through after so long, µs.
const RETENTION_US: u64 = 70_000_000;
/// Between two looks whether it is, µs.
const LOOK_US: u64 = 500_000;

impl World {
    pub(super) fn fault_strikes(&mut self) {
        if self.settling {
            return;
        }
        if let Some(fault) = self.plan.menu.choose(&mut self.dice) {
            note!(self, "{fault:?}");
            self.figures.faults += 1;
            self.strike(fault);
        }
        if let Some(pause_us) = self.plan.menu.pause_us(&mut self.dice) {
            self.plan_next(self.now_us + pause_us, Actor::Fault);
        }
    }

    /// Where backends die, now and then one dies while a command is under way.
    pub(super) fn strike_soon(&mut self) {
        let dies = self
            .plan
            .menu
            .kinds()
            .any(|kind| kind == Fault::BackendDies);
        if dies && !self.settling && self.dice.permille(300) {
            note!(self, "a command is under way");
            self.backend_armed = self.dice.scale(1, POINTS_MAX);
        }
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::BackendDies => {
                if self.dice.permille(100) {
                    self.kill_backend("between two steps");
                } else {
                    self.backend_armed = self.dice.scale(1, POINTS_MAX);
                }
            }
            Fault::GatewayDies => {
                let post = self.dice.index(self.posts.len());
                if self.dice.permille(300) {
                    self.kill_gateway(post, "between two rounds");
                } else {
                    self.posts[post].armed = self.dice.scale(1, POINTS_MAX);
                }
            }
            Fault::BackendStalls => {
                self.backend_stalled_until_us = self.now_us + self.dice.scale(1_000, STALL_US_MAX);
            }
            Fault::ShardStalls => {
                let post = self.dice.index(self.posts.len());
                let until_us = self.now_us + self.dice.scale(1_000, STALL_US_MAX);
                self.posts[post].stalled_until_us = until_us;
            }
            Fault::LineCut => {
                if let Some(line) = self.any_line() {
                    self.network.cut(line, self.now_us);
                }
            }
            Fault::LineDead => {
                if let Some(line) = self.any_line() {
                    self.network.deaden(line);
                }
            }
            Fault::ReaderSlow => {
                let client = self.dice.index(self.seats.len());
                let until_us = self.now_us + self.dice.scale(1_000, DEAF_US_MAX);
                if let Some(seat) = self.seats.get_mut(client) {
                    seat.deaf_until_us = until_us;
                    self.wake(until_us, Actor::Client(client));
                }
            }
            Fault::Storm => {
                for line in self.network.living() {
                    self.network.cut(line, self.now_us);
                }
                // All come back at once, to a backend that has much to do.
                if self.dice.permille(500) {
                    self.backend_stalled_until_us =
                        self.now_us + self.dice.scale(10_000, STALL_US_MAX);
                }
            }
            Fault::ClockStepped => {
                let step_us = self.dice.below(2 * STEP_S_MAX * 1_000_000);
                let most_us = (STEP_S_MAX * 1_000_000).cast_signed();
                self.wall_offset_us = step_us.cast_signed() - most_us;
            }
            Fault::DiskFails => self.fail_disk(),
            Fault::SyncFails => {
                self.may_break = true;
                let nth = self.dice.scale(1, 20);
                let fault = disk::Fault::once(Operation::Sync, nth, Failure::Io);
                self.disk.fail(fault);
            }
            Fault::PowerLost => {
                self.lose_power();
            }
            Fault::Checkpoint => {
                if let Some(backend) = &mut self.backend {
                    // Readers may be in its way; then another time.
                    let _ = backend.turn.store_mut().checkpoint();
                }
            }
        }
    }

    fn fail_disk(&mut self) {
        let failures = [
            (Operation::Write, Failure::Full),
            (Operation::Write, Failure::Io),
            (Operation::Lock, Failure::Busy),
        ];
        let &(operation, failure) = self.dice.pick(&failures);
        let times = match self.dice.below(3) {
            0 => 1,
            1 => self.dice.scale(2, 50),
            _ => u64::MAX,
        };
        self.disk.fail(disk::Fault {
            operation,
            failure,
            nth: self.dice.scale(1, 30),
            times,
        });
        let mended_us = self.now_us + self.dice.scale(10_000, MEND_US_MAX);
        self.plan_next(mended_us, Actor::Disk);
    }

    fn any_line(&mut self) -> Option<LineId> {
        let living = self.network.living();
        (!living.is_empty()).then(|| living[self.dice.index(living.len())])
    }

    /// Puts everything right, and waits until all is quiet.
    pub(super) fn settle(&mut self) {
        note!(self, "all is put right");
        self.settling = true;
        self.disk.heal();
        self.backend_armed = 0;
        self.backend_stalled_until_us = 0;
        self.wake(self.now_us, Actor::Backend);
        self.wake(self.now_us, Actor::Business);
        for post in 0..self.posts.len() {
            self.posts[post].armed = 0;
            self.posts[post].stalled_until_us = 0;
            for shard in 0..usize::from(self.plan.gateway.shards) {
                self.wake(self.now_us, Actor::Shard(post, shard));
            }
        }
        self.network.revive(self.now_us);
        for client in 0..self.seats.len() {
            self.seats[client].deaf_until_us = 0;
            self.seats[client].speaker.settle(self.now_us);
            self.wake(self.now_us, Actor::Client(client));
        }
        self.quieten();
        if self.plan.backend.rules.messages_kept_us > 0 {
            note!(self, "time for retention");
            self.run_until(self.now_us + RETENTION_US, |_| false);
            self.quieten();
        }
        // A connection that nobody tells anything any more looks quiet as well.
        for client in 0..self.seats.len() {
            self.seats[client].speaker.say_last_words();
            self.wake(self.now_us, Actor::Client(client));
        }
        self.quieten();
        debug_assert!(self.now_us > START_US);
    }

    /// Runs until nobody has anything left to do, and what may be written a moment later is written.
    fn quieten(&mut self) {
        let mut look_at_us = self.now_us + LOOK_US;
        let until_us = self.now_us + SETTLE_US_MAX;
        self.run_until(until_us, |world| {
            if world.now_us < look_at_us {
                return false;
            }
            look_at_us = world.now_us + LOOK_US;
            world.unfinished().is_none()
        });
        if self.is_over() {
            return;
        }
        match self.unfinished() {
            // Marks are written a moment later.
            None => {
                note!(self, "all is quiet");
                self.run_until(self.now_us + LOOK_US, |_| false);
            }
            Some(what) => self.oracle.fail(format!(
                "{} s after all was put right there is still something to do: {what}",
                SETTLE_US_MAX / 1_000_000
            )),
        }
    }

    /// What is left to do, if anything.
    fn unfinished(&mut self) -> Option<String> {
        let backend = self.backend.as_ref().filter(|backend| backend.asleep);
        let Some(backend) = backend else {
            return Some("the backend is away or at work".to_owned());
        };
        let engine = backend.turn.engine();
        if self.posts.iter().any(|post| post.gateway.is_none()) {
            return Some("a gateway is away".to_owned());
        }
        if self.business.as_ref().is_some_and(Business::is_waiting) {
            return Some("a text over HTTP is unanswered".to_owned());
        }
        let seats = self.seats.iter();
        seats
            .map(|seat| (seat.speaker.name(), seat.speaker.unfinished(engine)))
            .find_map(|(name, what)| what.map(|what| format!("{name}: {what}")))
    }
}
