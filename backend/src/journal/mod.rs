//! The journal of inputs: everything that enters the turn, with its time and its seed, so that it can be applied again.
//! The same journal gives the same database, byte for byte of every table's dump ([`crate::store::dump`]).
//!
//! A journal is a series of files, `NAME.00000000`, `NAME.00000001`, …. Each start of the process begins a file, and
//! one that is full is followed by the next. Starts that follow each other on one database make a *chapter*. It begins
//! with a database that was made then, or with a copy of the one that was there, `NAME.00000002.db`: a chapter is all
//! that a replay needs ([`replay`]). A start that finds the database otherwise than the journal left it (somebody opened
//! it meanwhile, or power was lost) begins a new chapter.
//!
//! ```text
//! file:   "tidegate journal 4\n", then frames
//! frame:  length u32 │ check u64 │ tag u8 │ body        (little-endian; length counts tag and body)
//! tags:   1 started: what the process began with, JSON ([`start`])
//!         2 turn: number u64, now_us u64, seed u64,
//!           inputs: length u32, written form ([`crate::engine::input`]); a length of 0 ends them
//!           cursors: gateway u64, shard u16, position u64
//!         3 committed: number u64           4 stopped
//!         5 broke: as a turn, cut off behind the input that was being applied
//! ```
//!
//! **Order.** A turn is written in one piece before its commit and confirmed after it. Whether the last turn of a
//! process that was killed was committed says the database: its `meta` row `journal_turn` is written in the transaction
//! of the turn, and the next start notes what it found there. A turn whose commit was tried again stands once.
//!
//! **What it costs.** Off: a comparison an input. On: a copy of each input, and one write of the turn to the page cache
//! before its commit; nothing is synchronised. Measured (`turn_cost`, ext4, 2 shared cores, two runs): outside the commit
//! 3 to 7 µs a message without, 4 to 9 with, 6 to 12 masked; the commit's own scatter (7 to 43 µs) hides its row. A journal that cannot be written, or would outgrow its bound, ends with a
//! line in the log and the row `journal_turn` at 0; the chat goes on.
//!
//! It holds what people wrote, with mode 0600, and only on request. [`mask`] takes that out.

mod base;
mod frame;
pub mod mask;
pub mod replay;
pub mod start;
#[cfg(test)]
pub(crate) mod tamper;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::{ffi::OsStr, fs};

#[cfg(test)]
pub(crate) use base::copy_masked;
pub use frame::Tear;
pub use mask::Mask;
pub use replay::{Replay, ReplayError, Replayed};
pub use start::{Base, Beginning};
pub use write::{Journal, JournalBounds};

/// The file of that number.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:08}"));
    PathBuf::from(name)
}

/// The copy of the database that the chapter begins with whose first file has that number.
fn base_of(path: &Path, number: u32) -> PathBuf {
    let mut name = numbered(path, number).into_os_string();
    name.push(".db");
    PathBuf::from(name)
}

/// The files of a journal, in order. None, if there is no such directory.
///
/// # Errors
/// If the directory cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let stem = path.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
    let stem = stem.into_owned() + ".";
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(number) = name.strip_prefix(&stem).and_then(|rest| rest.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}
