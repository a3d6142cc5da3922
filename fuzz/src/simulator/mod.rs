//! The whole system in one process and one thread, in virtual time, from one seed: clients, gateways, the bus, the
//! backend with its store.
//!
//! ```text
//!   Person (bench::client)  Wild  Hostile            speaker, crowd        what clients do and learn
//!        │ bytes                                     network               cut, late, dead, reset
//!   SimulatedDriver ── Shard<Chat>                   driver, gateway       the kernel's part of a shard
//!        │ shm-bus, in a directory of its own
//!   Seat ── Turn ── SqliteStore                      backend
//!        │ vfs
//!   SimulatedDisk                                    backend::store::vfs   fails, loses power
//! ```
//!
//! | shipped code | simulated |
//! | --- | --- |
//! | `gateway::shard`, `gateway::chat` | the driver: buffers, completions, sockets |
//! | `shm-bus`: segments, rings, locks, doorbells, in files | which process runs when; instance ids come from the seed |
//! | `backend::turn`, engine, bus, `SqliteStore` with SQLite | the disk; the checkpointer's and the readers' threads |
//! | `bench::client`, with the SDK's delivery contract | TCP, and the people |
//!
//! **Time and order.** Whoever acts is an event with a time ([`world`]); a shard's round, a step of the turn, a client's
//! look at its socket. A process sleeps as the real one does, and is woken by its deadline, by its sockets, or by its doorbell:
//! a wake-up that gets lost is a stall that shows. All chance is [`dice`] from the seed; the clocks of processes are set
//! from a wall clock that may be stepped.
//!
//! **Death.** A process dies at the named points of `shm_bus::fault`, which unwind here ([`processes`]); then its disk is
//! cut off, what it held is dropped, its sockets are closed as the kernel does it, and the supervisor starts it again. All
//! points of the turn and of the rings are met, on either side.
//!
//! **What goes wrong** is listed in [`faults`]: each kind is on in half of the runs. Beside it there are clients that
//! speak as they like ([`wild`]) and clients that mean harm ([`hostile`]); a business system that speaks over HTTP
//! ([`business`]); people with two devices; now and then many who talk at once, and retention.
//!
//! **A power cut** takes what was not synchronised, memory, and what is on its way. With `synchronous=FULL` nothing that was
//! acknowledged is gone; with NORMAL it may be, and what the database has then is what counts from there on
//! ([`check::forget_what_was_lost`]): whoever was told more has to be told that, or shows in the end what is not stored.
//!
//! **What is checked.** While it runs: two people never read different things at one place, the first answer stands, a
//! receiver's sequence has no silent gap, nobody is shown a conversation that was never theirs, nor what was said in it after
//! it was theirs, nobody is closed for good, no agent has more than they can, memory stays within its bounds, the
//! driver's contract holds, nothing panics. At each start of a backend: the ledger's counters agree with the rows. In the
//! end everything is put right ([`strike`]) and everybody finishes: each send and each command is answered on a
//! connection that stayed. Then all speak once more, which shows who is connected and yet told nothing; and the
//! database, read anew, is compared with what everybody was told and still shows ([`check`]).
//!
//! `scripts/simulate` runs it; a failing seed prints the command that replays it aloud.

mod backend;
mod business;
mod check;
mod crowd;
mod dice;
mod driver;
mod faults;
mod gateway;
mod hostile;
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
