//! Between the committed inputs of a fuzz target and the folder of files that libFuzzer works on; `scripts/fuzz` calls it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use tidegate_fuzz::packed::{self, Input};
use tidegate_fuzz::{bodies, corpus};

/// Unpacks and packs the inputs of a fuzz target.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Names the targets
    List,
    /// Writes the committed inputs and the golden vectors into a folder, a file each
    Unpack {
        /// The target
        target: String,
        /// The folder; made if it is not there
        folder: PathBuf,
    },
    /// Commits the files of a folder instead of the inputs without a name
    Pack {
        /// The target
        target: String,
        /// The folder, minimised
        folder: PathBuf,
    },
    /// Commits one file under the name of the bug that it found
    Keep {
        /// The target
        target: String,
        /// The bug, in words joined by hyphens
        name: String,
        /// The file
        file: PathBuf,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::List => {
            for (name, _) in bodies() {
                println!("{name}");
            }
            Ok(())
        }
        Command::Unpack { target, folder } => unpack(&target, &folder),
        Command::Pack { target, folder } => {
            let mut inputs = committed(&target)?;
            inputs.retain(|input| !input.name.is_empty());
            for file in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let bytes = fs::read(file?.path())?;
                let name = String::new();
                inputs.push(Input { name, bytes });
            }
            Ok(packed::write(&target, inputs)?)
        }
        Command::Keep { target, name, file } => {
            let mut inputs = committed(&target)?;
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            inputs.push(Input { name, bytes });
            Ok(packed::write(&target, inputs)?)
        }
    }
}

fn committed(target: &str) -> Result<Vec<Input>> {
    if !bodies().any(|(name, _)| name == target) {
        bail!("there is no fuzz target {target}; type: scripts/fuzz --list");
    }
    Ok(packed::read(target)?)
}

fn unpack(target: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    let inputs = committed(target)?.into_iter().map(|input| input.bytes);
    for (number, bytes) in inputs.chain(corpus::seeds()).enumerate() {
        fs::write(folder.join(format!("committed-{number}")), bytes)?;
    }
    Ok(())
}
