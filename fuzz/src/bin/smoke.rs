//! A short hunt on stable Rust: every body gets mutated inputs for its part of the time. `--number N --body NAME`
//! replays one.

use std::panic::catch_unwind;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tidegate_fuzz::{bodies, corpus, mutate};

/// Looked at every so many inputs.
const INPUTS_PER_LOOK: u64 = 256;

/// Feeds every fuzz body with mutated golden vectors.
#[derive(Debug, Parser)]
struct Arguments {
    /// For how long, all bodies together
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// The first input's number [default: the time]
    #[arg(long)]
    number: Option<u64>,
    /// Only this body, and only that one input
    #[arg(long, requires = "number")]
    body: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = corpus::seeds();
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let first = arguments.number.unwrap_or(clock.as_secs());
    if let Some(name) = &arguments.body {
        let Some((_, body)) = bodies().find(|(known, _)| known == name) else {
            eprintln!(
                "no body {name}; there are: {}",
                bodies()
                    .map(|(name, _)| name)
                    .collect::<Vec<_>>()
                    .join(", ")
            );
            return ExitCode::FAILURE;
        };
        body(&mutate::input(&seeds, first));
        println!("{name} {first}: holds");
        return ExitCode::SUCCESS;
    }
    println!("numbers from {first} on");
    let share =
        Duration::from_secs(arguments.seconds) / u32::try_from(bodies().count()).unwrap_or(1);
    let mut failed = false;
    for (name, body) in bodies() {
        let begin = Instant::now();
        let mut number = first;
        let verdict = loop {
            if number.wrapping_sub(first).is_multiple_of(INPUTS_PER_LOOK)
                && begin.elapsed() >= share
            {
                break "holds";
            }
            let input = mutate::input(&seeds, number);
            if catch_unwind(|| body(&input)).is_err() {
                eprintln!(
                    "replay: cargo run -p tidegate-fuzz --bin smoke -- --body {name} --number {number}"
                );
                failed = true;
                break "FAILS";
            }
            number = number.wrapping_add(1);
        };
        println!(
            "{name:<36} {:>9} inputs  {verdict}",
            number.wrapping_sub(first)
        );
    }
    if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
