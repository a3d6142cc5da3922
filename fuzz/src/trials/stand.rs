//! What a trial stands on: its scale, its seed, a directory of its own, the binary, and the place for its figures.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// How much of a trial is run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    /// A tenth of each count: what every change must pass.
    Tenth,
    /// The counts that the promises name.
    Full,
}

impl Scale {
    /// A full count at this scale, at least one.
    #[must_use]
    pub const fn of(self, full: u64) -> u64 {
        match self {
            Self::Full => full,
            Self::Tenth => {
                let tenth = full / 10;
                if tenth == 0 { 1 } else { tenth }
            }
        }
    }
}

/// The ground of one trial.
#[derive(Debug)]
pub struct Stand {
    /// How much is run.
    pub scale: Scale,
    /// Where its random choices begin; printed when it fails.
    pub seed: u64,
    /// `tidegate`, built with the feature `fault-points`.
    pub binary: PathBuf,
    scratch: TempDir,
    figures: Vec<(String, String)>,
}

impl Stand {
    /// Fresh ground for one trial.
    ///
    /// # Errors
    /// The temporary directory could not be made.
    pub fn new(scale: Scale, seed: u64, binary: &Path) -> std::io::Result<Self> {
        let scratch = tempfile::Builder::new()
            .prefix("tidegate-trial-")
            .tempdir()?;
        Ok(Self {
            scale,
            seed,
            binary: binary.to_owned(),
            scratch,
            figures: Vec::new(),
        })
    }

    /// A directory that goes with the trial.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Leaves a figure: a number with its unit, in the order in which a person wants to read them.
    pub fn figure(&mut self, name: &str, value: impl ToString) {
        self.figures.push((name.to_owned(), value.to_string()));
    }

    /// What was left.
    #[must_use]
    pub fn figures(&self) -> &[(String, String)] {
        &self.figures
    }

    /// Holds a promised time against the run. Promises are of a machine that does nothing else, which is where `--full`
    /// is run; a tenth, which runs beside anything, says so and goes on.
    ///
    /// # Errors
    /// It was not kept, at full scale.
    pub fn in_time(&self, kept: bool, complaint: &str) -> anyhow::Result<()> {
        match self.scale {
            _ if kept => Ok(()),
            Scale::Full => Err(anyhow::anyhow!("{complaint}")),
            Scale::Tenth => {
                self.progress(&format!("{complaint}; held against --full runs only"));
                Ok(())
            }
        }
    }

    /// One line of progress, for a person who waits.
    pub fn progress(&self, line: &str) {
        eprintln!("    {line}");
    }
}
