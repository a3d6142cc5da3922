//! `tidegate backend --replay`: a journal into a database of its own, and what came of it; `--dump`: every table.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use tidegate_backend::journal::{Replay, ReplayError, Replayed};
use tidegate_backend::store::dump::{Dump, dump};
use tidegate_backend::store::open::Place;

use crate::pace::{Pace, Speed, speed};
use crate::settings::Settings;

/// The journal was torn: what stands before the tear was replayed.
pub const EXIT_TORN: u8 = 3;
/// The replay came to another database than was found then.
pub const EXIT_DIVERGED: u8 = 4;

/// What to replay, and how.
#[derive(Debug, clap::Args)]
pub struct ReplayArguments {
    /// Instead of serving: apply a journal to a database of its own, and say what came of it. Exit code 3: the journal
    /// is torn, and was applied up to there; 4: it came to another database than was there then
    #[arg(long, value_name = "FILE", conflicts_with_all = ["journal", "journal_masked"])]
    replay: Option<PathBuf>,
    /// 1: as fast as it was recorded; 10: ten times as fast; `max`: as fast as it goes [default: max]
    #[arg(long, value_name = "TIMES", requires = "replay", value_parser = speed)]
    speed: Option<Speed>,
    /// Keep the replay's database in this directory, which must not exist [default: a temporary one]
    #[arg(long, value_name = "DIRECTORY", requires = "replay")]
    into: Option<PathBuf>,
    /// Write every table as DIRECTORY/TABLE.tsv: the replay's, or without --replay those of the data directory
    #[arg(long, value_name = "DIRECTORY", conflicts_with_all = ["journal", "journal_masked"])]
    dump: Option<PathBuf>,
}

impl ReplayArguments {
    /// Whether anything is to be done instead of serving.
    pub const fn are_given(&self) -> bool {
        self.replay.is_some() || self.dump.is_some()
    }
}

/// A directory for the replay's database; a temporary one goes with it.
struct Directory {
    path: PathBuf,
    kept: bool,
}

impl Directory {
    fn make(wish: Option<&Path>) -> Result<Self> {
        let path = wish.map_or_else(
            || std::env::temp_dir().join(format!("tidegate-replay-{}", std::process::id())),
            Path::to_owned,
        );
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.with_context(|| {
            format!(
                "cannot make {}: name a directory that does not exist",
                path.display()
            )
        })?;
        Ok(Self {
            path,
            kept: wish.is_some(),
        })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = std::fs::remove_dir_all(&self.path)
        {
            eprintln!("{} stays: {error}", self.path.display());
        }
    }
}

/// Replays, or dumps.
pub fn run(settings: &Settings, wish: &ReplayArguments) -> Result<ExitCode> {
    let Some(journal) = &wish.replay else {
        let database = tidegate_backend::store::sqlite::database_path(&settings.backend);
        ensure!(
            database.exists(),
            "there is no database at {}: name the data directory, --data-dir DIRECTORY",
            database.display()
        );
        show(&dump(&place(database), wish.dump.as_deref())?);
        return Ok(ExitCode::SUCCESS);
    };
    let directory = Directory::make(wish.into.as_deref())?;
    let database = directory.path.join("tidegate.db");
    let mut pace = Pace::begin(wish.speed.unwrap_or(Speed::Max));
    let replayed = Replay {
        journal,
        database: &database,
        wait_until_due: &mut |at_us| std::thread::sleep(pace.until(at_us)),
        tell: &mut |so_far| eprintln!("{}", sentence(so_far)),
    }
    .run();
    let replayed = match replayed {
        Ok(replayed) => replayed,
        Err(error @ ReplayError::Diverged { .. }) => {
            eprintln!("tidegate: {error}");
            return Ok(ExitCode::from(EXIT_DIVERGED));
        }
        Err(error) => return Err(error.into()),
    };
    println!(
        "{} in {:.1} s",
        sentence(&replayed),
        pace.took().as_secs_f64()
    );
    if replayed.masked {
        println!("what people wrote is masked");
    }
    if replayed.uncommitted > 0 {
        println!(
            "left out: {} turns that were never committed",
            replayed.uncommitted
        );
    }
    if replayed.broke > 0 {
        println!(
            "left out: {} turns in which the process broke",
            replayed.broke
        );
    }
    if replayed.unconfirmed {
        println!("whether the last turn was committed, the journal does not say; it was applied");
    }
    if database.exists() {
        show(&dump(&place(database), wish.dump.as_deref())?);
    }
    if let Some(tear) = &replayed.tear {
        eprintln!("tidegate: {tear}; what stands before it was replayed");
        return Ok(ExitCode::from(EXIT_TORN));
    }
    Ok(ExitCode::SUCCESS)
}

fn place(path: PathBuf) -> Place {
    Place {
        path,
        vfs: None,
        busy_ms_max: 10_000,
        cache_bytes: 16 << 20,
        mmap_bytes: 0,
    }
}

fn sentence(replayed: &Replayed) -> String {
    format!(
        "{} turns, {} inputs of {} starts and {:.1} s replayed",
        replayed.turns,
        replayed.inputs,
        replayed.starts,
        std::time::Duration::from_micros(replayed.to_us - replayed.from_us).as_secs_f64()
    )
}

fn show(dump: &Dump) {
    for table in &dump.tables {
        println!(
            "{:<20} {:>9} rows  {}",
            table.table, table.rows, table.digest
        );
    }
    println!("digest of all tables {}", dump.digest);
}
