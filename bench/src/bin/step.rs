//! Runs one step so often: for whoever counts its instructions (`scripts/instructions`). `step` alone lists the names.

use std::process::ExitCode;

use tidegate_bench::steps;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut all = steps::all();
    match arguments.as_slice() {
        [] => {
            for step in all {
                println!("{}", step.name);
            }
            ExitCode::SUCCESS
        }
        [name, times] => {
            let found = all.iter_mut().find(|step| step.name == name);
            match (found, times.parse::<u32>()) {
                (Some(step), Ok(times)) => {
                    (0..times).for_each(|_| step.run());
                    ExitCode::SUCCESS
                }
                _ => {
                    eprintln!(
                        "no step {name}, or no number: {times}; `step` alone lists the names"
                    );
                    ExitCode::from(2)
                }
            }
        }
        _ => {
            eprintln!("usage: step [NAME TIMES]");
            ExitCode::from(2)
        }
    }
}
