//! The whole system in one process and one thread, in virtual time, from one seed: clients, gateways, the bus, the
//! backend with its store. All of it is the shipped code; simulated are the network, the kernel's part of a shard
//! (`gateway::driver::Driver`), clocks, chance, and the moment at which a process dies.

mod backend;
mod check;
mod crowd;
mod dice;
mod driver;
mod faults;
mod gateway;
mod network;
mod oracle;
mod person;
mod plan;
mod processes;
mod speaker;
mod strike;
mod trace;
mod wild;
mod world;

pub use check::Sums;
pub use world::Figures;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use world::World;

/// What came of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub seed: u64,
    /// The same run, the same number.
    pub trace_hash: u64,
    /// How long it was, µs of virtual time.
    pub simulated_us: u64,
    /// What happened how often.
    pub figures: Figures,
    /// The ledger, counted from the database.
    pub ledger: Sums,
    /// The promise that was broken, if one was.
    pub failure: Option<String>,
}

/// Runs the world of a seed, with a bug planted in it ([`shm_bus::mutant`]) or none.
pub fn simulate(seed: u64, mutant: Option<&str>) -> Outcome {
    run(seed, mutant, false)
}

/// Runs it and prints every event.
pub fn simulate_aloud(seed: u64, mutant: Option<&str>) -> Outcome {
    run(seed, mutant, true)
}

fn run(seed: u64, mutant: Option<&str>, printing: bool) -> Outcome {
    let _planting = mutant.map(shm_bus::mutant::plant);
    // What panics outside the turn has no supervisor here: it is the run's failure.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, printing);
        world.run();
        world.outcome(seed)
    }));
    ended.unwrap_or_else(|panic| Outcome {
        seed,
        trace_hash: 0,
        simulated_us: 0,
        figures: Figures::default(),
        ledger: Sums::default(),
        failure: Some(format!("a panic: {}", words(&*panic))),
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without words")
}
