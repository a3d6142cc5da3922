//! Runs the trials of the real processes and prints what each measured. `scripts/faults` builds the binary it needs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use serde_json::{Map, Value, json};
use tidegate_fuzz::trials::{Scale, Stand, TRIALS, Trial, play_far_crowd};

/// Breaks things in a running Tidegate and measures what its users see.
#[derive(Parser)]
struct Arguments {
    /// The trials to run, by name; all without one.
    trials: Vec<String>,
    /// The full counts instead of a tenth.
    #[arg(long)]
    full: bool,
    /// Where random choices begin; printed for every trial.
    #[arg(long)]
    seed: Option<u64>,
    /// `tidegate`, built with the feature `fault-points`.
    #[arg(long, default_value = "target/fast/tidegate-fault-points")]
    binary: PathBuf,
    /// Names the trials and what each proves.
    #[arg(long)]
    list: bool,
    /// One JSON object a trial.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    if let Some(code) = play_far_crowd() {
        return code;
    }
    let arguments = Arguments::parse();
    if arguments.list {
        for trial in TRIALS {
            println!("{:<28} {}", trial.name, trial.promise);
        }
        return ExitCode::SUCCESS;
    }
    let known = |name: &String| TRIALS.iter().any(|trial| trial.name == name);
    if let Some(stranger) = arguments.trials.iter().find(|name| !known(name)) {
        eprintln!("there is no trial {stranger}; type: scripts/faults --list");
        return ExitCode::from(2);
    }
    if !arguments.binary.exists() {
        eprintln!(
            "{} is not there; type: scripts/faults",
            arguments.binary.display()
        );
        return ExitCode::from(2);
    }
    let wanted = |trial: &&Trial| {
        arguments.trials.is_empty() || arguments.trials.iter().any(|name| name == trial.name)
    };
    let failed = TRIALS
        .iter()
        .filter(wanted)
        .filter(|trial| !run(trial, &arguments))
        .count();
    ExitCode::from(u8::from(failed > 0))
}

/// Runs one; true if its promise held.
fn run(trial: &Trial, arguments: &Arguments) -> bool {
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..));
    let scale = if arguments.full {
        Scale::Full
    } else {
        Scale::Tenth
    };
    if !arguments.json {
        println!("{} · {} · seed {seed}", trial.name, trial.promise);
    }
    let started = Instant::now();
    let mut figures = Vec::new();
    let result = Stand::new(scale, seed, &arguments.binary)
        .map_err(anyhow::Error::from)
        .and_then(|mut stand| {
            let result = (trial.run)(&mut stand);
            figures = stand.figures().to_vec();
            result
        });
    let seconds = started.elapsed().as_secs_f64();
    if arguments.json {
        let figures: Map<String, Value> = figures
            .into_iter()
            .map(|(name, value)| (name, Value::String(value)))
            .collect();
        let failure = result.as_ref().err().map(|error| format!("{error:#}"));
        println!(
            "{}",
            json!({"trial": trial.name, "seed": seed, "full": arguments.full, "seconds": seconds,
                   "ok": failure.is_none(), "failure": failure, "figures": figures})
        );
    } else {
        for (name, value) in &figures {
            println!("    {name:<44} {value}");
        }
        match &result {
            Ok(()) => println!("    ok, {seconds:.1} s\n"),
            Err(error) => println!(
                "    FAILED after {seconds:.1} s: {error:#}\n    again: scripts/faults {} --seed {seed}{}\n",
                trial.name,
                if arguments.full { " --full" } else { "" }
            ),
        }
    }
    result.is_ok()
}
