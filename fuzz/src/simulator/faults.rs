//! What goes wrong. A seed turns each kind on or off (so that some runs have one kind only, and it is not drowned by
//! the others), and how often it strikes.

use super::dice::Dice;

/// One kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The backend dies at one of the next points that it passes, and is started again.
    BackendDies,
    /// A gateway dies likewise; its sockets are reset.
    GatewayDies,
    /// The backend stands still for a while.
    BackendStalls,
    /// A shard stands still for a while.
    ShardStalls,
    /// A connection is reset.
    LineCut,
    /// A connection goes dead without a word.
    LineDead,
    /// A client does not read for a while.
    ReaderSlow,
    /// All clients lose their connections at once.
    Storm,
    /// The wall clock is set to another time.
    ClockStepped,
    /// A write to the disk, or the writer's lock, fails: once, some times, or until it is healed.
    DiskFails,
    /// A synchronisation fails: nobody knows what is on the disk, so the backend ends.
    SyncFails,
    /// The machine loses power: every process, the bus, and what was not synchronised.
    PowerLost,
    /// The database's log is emptied.
    Checkpoint,
}

/// Every kind, with its weight.
const KINDS: &[(Fault, u64)] = &[
    (Fault::BackendDies, 6),
    (Fault::GatewayDies, 2),
    (Fault::BackendStalls, 3),
    (Fault::ShardStalls, 2),
    (Fault::LineCut, 6),
    (Fault::LineDead, 3),
    (Fault::ReaderSlow, 3),
    (Fault::Storm, 2),
    (Fault::ClockStepped, 1),
    (Fault::DiskFails, 4),
    (Fault::SyncFails, 1),
    (Fault::PowerLost, 1),
    (Fault::Checkpoint, 2),
];

/// The kinds of one run.
pub struct Menu {
    kinds: Vec<(Fault, u64)>,
    /// Between two faults on average, µs.
    every_us: u64,
}

impl Menu {
    /// Each kind is on in half of the runs; one run in eight has no faults at all.
    pub fn new(dice: &mut Dice) -> Self {
        let calm = dice.permille(125);
        let kinds = KINDS.iter().copied();
        let kinds = kinds.filter(|_| !calm && dice.permille(500)).collect();
        Self {
            kinds,
            every_us: dice.scale(100, 3_000) * 1_000,
        }
    }

    /// This kind is on in any case, unless nothing goes wrong at all.
    pub fn add(&mut self, fault: Fault) {
        let is_new = self.kinds().all(|kind| kind != fault);
        if is_new && !self.kinds.is_empty() {
            let kind = KINDS.iter().copied().find(|kind| kind.0 == fault);
            self.kinds.extend(kind);
        }
    }

    /// Until the next fault; `None`: nothing goes wrong in this run.
    pub fn pause_us(&self, dice: &mut Dice) -> Option<u64> {
        (!self.kinds.is_empty()).then(|| dice.between(1, 2 * self.every_us))
    }

    /// The next fault.
    pub fn choose(&self, dice: &mut Dice) -> Option<Fault> {
        let total = self.kinds.iter().map(|kind| kind.1).sum();
        let mut at = dice.below(total);
        for &(fault, weight) in &self.kinds {
            if at < weight {
                return Some(fault);
            }
            at -= weight;
        }
        None
    }

    /// What it is made of, for the trace.
    pub fn kinds(&self) -> impl Iterator<Item = Fault> + '_ {
        self.kinds.iter().map(|kind| kind.0)
    }
}
