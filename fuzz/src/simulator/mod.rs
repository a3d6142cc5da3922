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

/// Runs the world of a seed.
pub fn simulate(seed: u64, mutant: Option<&str>) -> Outcome {
    run(seed, mutant, false)
}

/// Runs it and prints every event.
pub fn simulate_aloud(seed: u64, mutant: Option<&str>) -> Outcome {
    run(seed, mutant, true)
}

fn run(seed: u64, _mutant: Option<&str>, printing: bool) -> Outcome {
    let mut world = World::new(seed, printing);
    world.run();
    world.outcome(seed)
}
