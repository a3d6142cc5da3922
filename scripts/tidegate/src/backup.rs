//! `tidegate backup` and `tidegate restore`: a copy of the database, while everything runs or not, and back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tidegate_backend::store::backup::{self, Progress, Snapshot};

use crate::settings::Settings;

/// Between two lines of progress.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// SQLite's page size.
const PAGE_BYTES: u64 = 4_096;

/// `tidegate backup`
#[derive(Debug, clap::Args)]
pub struct BackupArguments {
    /// The file to make; it must not exist
    file: PathBuf,
    /// One JSON object instead of sentences
    #[arg(long)]
    json: bool,
}

/// `tidegate restore`
#[derive(Debug, clap::Args)]
pub struct RestoreArguments {
    /// A file that `tidegate backup` made
    file: PathBuf,
    /// The token key that belongs to it, so that tokens stay valid: a copy of secrets/token.key
    #[arg(long, value_name = "FILE")]
    token_key: Option<PathBuf>,
    /// One JSON object instead of sentences
    #[arg(long)]
    json: bool,
}

/// Makes the copy; says how far it is on standard error.
pub fn backup(settings: &Settings, arguments: &BackupArguments) -> Result<()> {
    let began = Instant::now();
    let mut told = began;
    let snapshot = backup::backup(&settings.backend, &arguments.file, &mut |progress| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            tell(progress);
        }
    })?;
    let key = settings.backend.token_key_path();
    if arguments.json {
        println!("{}", as_json(&snapshot, began.elapsed(), &key));
        return Ok(());
    }
    println!("{}", sentence(&snapshot, began.elapsed()));
    println!(
        "The key that signs tokens is not in it: keep a copy of {} elsewhere, once.",
        key.display()
    );
    Ok(())
}

/// Puts a copy into an empty data directory.
pub fn restore(settings: &Settings, arguments: &RestoreArguments) -> Result<()> {
    let began = Instant::now();
    let key = arguments.token_key.as_deref();
    let snapshot = backup::restore(&settings.backend, &arguments.file, key)?;
    let kept = settings.backend.token_key_path();
    if arguments.json {
        println!("{}", as_json(&snapshot, began.elapsed(), &kept));
        return Ok(());
    }
    println!("{}", sentence(&snapshot, began.elapsed()));
    if !kept.exists() {
        println!(
            "There is no {}: the next start makes a new one, and all tokens from before are void. To keep them, put \
             the old one there first.",
            kept.display()
        );
    }
    println!(
        "The next start gives all histories a new incarnation, so that every client reads them anew."
    );
    Ok(())
}

fn tell(progress: Progress) {
    let share = progress.pages * 100 / progress.pages_all.max(1);
    let mib = |pages: u64| pages * PAGE_BYTES / (1 << 20);
    eprintln!(
        "{share:>3} %  {} of {} MiB",
        mib(progress.pages),
        mib(progress.pages_all)
    );
}

fn sentence(snapshot: &Snapshot, took: Duration) -> String {
    let counted = match &snapshot.counted {
        Some(counted) => {
            let total = counted.ledger.total();
            let closed = match counted.check() {
                Ok(()) => "the ledger is closed".to_owned(),
                Err(wrong) => format!("the ledger is OPEN: {wrong}"),
            };
            format!(
                "{} messages accepted = {} delivered + {} pending + {} expired, {closed}",
                total.accepted, total.delivered, total.pending, total.expired
            )
        }
        None => format!("schema version {}", snapshot.schema_version),
    };
    format!(
        "{}: {:.1} MiB, checked, in {:.1} s; {counted}.",
        snapshot.file.display(),
        bytes_as_mib(snapshot.bytes),
        took.as_secs_f64()
    )
}

#[expect(clippy::cast_precision_loss, reason = "a size for a person to read")]
fn bytes_as_mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn as_json(snapshot: &Snapshot, took: Duration, token_key: &Path) -> serde_json::Value {
    let ledger = snapshot.counted.map(|counted| {
        let total = counted.ledger.total();
        json!({
            "accepted": total.accepted, "delivered": total.delivered, "pending": total.pending,
            "expired": total.expired, "closed": counted.check().is_ok(),
        })
    });
    json!({
        "file": snapshot.file, "bytes": snapshot.bytes, "seconds": took.as_secs_f64(),
        "schema_version": snapshot.schema_version, "incarnation": snapshot.incarnation,
        "ledger": ledger, "token_key": token_key,
    })
}
