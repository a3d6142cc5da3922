//! Runs the simulator over many seeds, or over one of them aloud. `scripts/simulate` builds it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use shm_bus::mutant::MUTANTS;
use tidegate_fuzz::simulator::{self, Outcome};

/// The whole system in virtual time, with faults, from a seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints every event of `--seed`.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Goes on for so long, whatever `--seeds` says; may be a fraction.
    #[arg(long)]
    hours: Option<f64>,
    /// Stops after so long, whatever is left, s.
    #[arg(long)]
    seconds_max: Option<u64>,
    /// A planted bug to look for: then finding it is success.
    #[arg(long)]
    mutant: Option<String>,
    /// Every planted bug in turn: how many seeds each takes to be found, and by what.
    #[arg(long)]
    mutants: bool,
    /// Threads; all cores without it.
    #[arg(long)]
    jobs: Option<usize>,
    /// One JSON object at the end.
    #[arg(long)]
    json: bool,
}

/// Sums over all runs.
#[derive(Default)]
struct Totals {
    seeds: u64,
    simulated_us: u64,
    events: u64,
    faults: u64,
    backend_deaths: u64,
    gateway_deaths: u64,
    accepted: u64,
    behind: u64,
    failed: Vec<(u64, String)>,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.simulated_us += outcome.simulated_us;
        self.events += outcome.figures.events;
        self.faults += outcome.figures.faults;
        self.backend_deaths += outcome.figures.backend_deaths;
        self.gateway_deaths += outcome.figures.gateway_deaths;
        self.accepted += outcome.figures.accepted;
        self.behind += outcome.figures.behind;
        if let Some(failure) = &outcome.failure {
            self.failed.push((outcome.seed, failure.clone()));
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mutant = arguments.mutant.as_deref();
    if let Some(seed) = arguments.seed {
        let outcome = if arguments.trace {
            simulator::simulate_aloud(seed, mutant)
        } else {
            simulator::simulate(seed, mutant)
        };
        println!("{outcome:#?}");
        return ExitCode::from(u8::from(outcome.failure.is_some()));
    }
    if arguments.mutants {
        return hunt_mutants(arguments);
    }
    let began = Instant::now();
    let totals = run_all(&arguments, began);
    let found = !totals.failed.is_empty();
    report(&arguments, &totals, began.elapsed());
    ExitCode::from(u8::from(
        found == mutant.is_none() && (found || mutant.is_some()),
    ))
}

/// Success: every one is found within `--seeds`.
fn hunt_mutants(mut arguments: Arguments) -> ExitCode {
    // Planted bugs break invariants too, and each of those would print its story.
    std::panic::set_hook(Box::new(|_| {}));
    let mut survivors = 0;
    for (name, _) in MUTANTS {
        arguments.mutant = Some((*name).to_owned());
        let began = Instant::now();
        let totals = run_all(&arguments, began);
        let (seeds, seconds) = (totals.seeds, began.elapsed().as_secs_f64());
        match totals.failed.iter().min() {
            Some((seed, failure)) => {
                println!(
                    "{name:<28} caught after {seeds:>4} seeds, {seconds:>5.1} s; seed {seed}: {failure}"
                );
            }
            None => {
                survivors += 1;
                println!("{name:<28} SURVIVES {seeds:>4} seeds, {seconds:>5.1} s");
            }
        }
    }
    println!("{} planted, {survivors} not found", MUTANTS.len());
    ExitCode::from(u8::from(survivors > 0))
}

fn run_all(arguments: &Arguments, began: Instant) -> Totals {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let next = AtomicU64::new(arguments.from);
    let stop = AtomicBool::new(false);
    let totals = Mutex::new(Totals::default());
    let seconds = arguments.hours.map(|hours| hours * 3_600.0);
    let most = arguments.seconds_max.map(Duration::from_secs);
    let until = seconds.map(Duration::from_secs_f64).or(most);
    let is_over = |seed: u64| {
        let enough = arguments.hours.is_none() && seed >= arguments.from + arguments.seeds;
        enough || until.is_some_and(|until| began.elapsed() > until) || stop.load(Ordering::Relaxed)
    };
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.unwrap_or(cores) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if is_over(seed) {
                        return;
                    }
                    let mut outcome = simulator::simulate(seed, arguments.mutant.as_deref());
                    // What fails without the planted bug as well does not show that bug.
                    if arguments.mutant.is_some() && outcome.failure.is_some() {
                        let failure = outcome.failure.take();
                        let unplanted = simulator::simulate(seed, None);
                        outcome.failure = failure.filter(|_| unplanted.failure.is_none());
                    }
                    let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                    totals.add(&outcome);
                    if let Some(failure) = &outcome.failure {
                        if !arguments.mutants {
                            tell_failure(arguments, seed, failure);
                        }
                        // One is enough to prove that a planted bug is caught.
                        stop.fetch_or(arguments.mutant.is_some(), Ordering::Relaxed);
                    }
                    if totals.seeds.is_multiple_of(100) && !arguments.json && !arguments.mutants {
                        let rate = totals.seeds as f64 / began.elapsed().as_secs_f64();
                        eprintln!("{:>8} seeds, {rate:.1} a second", totals.seeds);
                    }
                }
            });
        }
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn tell_failure(arguments: &Arguments, seed: u64, failure: &str) {
    let mutant = arguments.mutant.as_deref();
    let mutant = mutant.map_or_else(String::new, |name| format!(" --mutant {name}"));
    eprintln!("seed {seed}: {failure}\n    again: scripts/simulate --seed {seed} --trace{mutant}");
}

fn report(arguments: &Arguments, totals: &Totals, took: Duration) {
    let seconds = took.as_secs_f64();
    let rows = [
        ("seeds", totals.seeds),
        ("failed", totals.failed.len() as u64),
        ("virtual time, s", totals.simulated_us / 1_000_000),
        ("events", totals.events),
        ("faults", totals.faults),
        ("backends killed", totals.backend_deaths),
        ("gateways killed", totals.gateway_deaths),
        ("messages acknowledged", totals.accepted),
        ("connections behind", totals.behind),
    ];
    if arguments.json {
        let figures: serde_json::Map<_, _> = rows
            .iter()
            .map(|&(name, value)| (name.to_owned(), json!(value)))
            .collect();
        let failed: Vec<_> = totals
            .failed
            .iter()
            .map(|(seed, failure)| json!({"seed": seed, "failure": failure}))
            .collect();
        println!(
            "{}",
            json!({"seconds": seconds, "figures": figures, "failed": failed})
        );
        return;
    }
    for (name, value) in rows {
        println!("{name:<24} {value:>14}");
    }
    println!("{:<24} {seconds:>14.1}", "real time, s");
}
