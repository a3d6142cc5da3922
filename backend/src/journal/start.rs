//! What a process began with: beside the inputs, all that decides what a turn does.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::base::copy_masked;
use super::frame::{Frames, Next, STARTED};
use super::{Mask, base_of, files};
use crate::config::Synchronous;
use crate::engine::Rules;
use crate::engine::ledger::Ledger;
use crate::engine::loaded::Loaded;
use crate::engine::rows::{MetaRow, RingCursorRow};
use crate::store::backup;
use crate::store::data_dir::make_private_dir;
use crate::store::dump::hexadecimal;
use crate::store::migrate::MIGRATIONS;
use crate::store::open::Place;
use crate::store::sqlite::{Standing, standing};
use crate::store::{StoreError, StoreOptions};

/// Where a start's database comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Base {
    /// It was made by this start.
    Fresh,
    /// The start before this one left it.
    Continues,
    /// It was there; a copy lies beside the journal.
    Copy {
        /// It was a restored backup already, which this start noticed.
        restored: bool,
    },
}

/// A start, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    /// The schema that this program knows: another one's journal is not for it.
    pub(super) schema_version: u32,
    /// Where its database comes from.
    pub(super) base: Base,
    /// What people wrote is masked.
    pub(super) masked: bool,
    /// See [`StoreOptions`].
    pub(super) opened_us: u64,
    pub(super) random: u64,
    pub(super) boot_id: String,
    pub(super) synchronous: Synchronous,
    pub(super) window_bytes_max: usize,
    pub(super) sessions_max: usize,
    pub(super) outbox_rows_max: u64,
    /// What the rules go by.
    pub(super) rules: Rules,
    /// The time that the engine was made with.
    pub(super) started_us: u64,
    /// The newest turn of a journal that was found committed.
    pub(super) committed: u64,
    /// What was loaded.
    pub(super) found: Found,
}

/// What a start found in its database, in short: a replay has to find the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) owner_epoch: u64,
    incarnation: u64,
    clock_floor_us: u64,
    meta: Vec<MetaRow>,
    ring_cursors: Vec<RingCursorRow>,
    ledger: Ledger,
    /// Over ids and seqs of what is alive.
    rows: String,
}

impl Found {
    /// Of what was loaded.
    pub(super) fn of(loaded: &Loaded) -> Self {
        let mut rows = Sha256::new();
        for one in loaded.conversations.iter().chain(&loaded.lately_closed) {
            rows.update(one.row.id.0.to_le_bytes());
            for number in [one.seq, one.erased, one.last_at_us] {
                rows.update(number.to_le_bytes());
            }
        }
        for id in loaded.agents.iter().map(|agent| agent.id) {
            rows.update(id.0.to_le_bytes());
        }
        for session in &loaded.sessions {
            rows.update(session.session.to_le_bytes());
            rows.update(session.last_n.to_le_bytes());
        }
        for count in [
            loaded.widgets.len(),
            loaded.visitors.len(),
            loaded.canned_replies.len(),
            loaded.messages.len(),
        ] {
            rows.update(count.to_le_bytes());
        }
        Self {
            owner_epoch: loaded.owner_epoch,
            incarnation: loaded.incarnation,
            clock_floor_us: loaded.clock_floor_us,
            meta: loaded.meta.clone(),
            ring_cursors: loaded.ring_cursors.clone(),
            ledger: loaded.ledger,
            rows: hexadecimal(&rows.finalize()),
        }
    }
}

impl Start {
    /// Of a process that opened its store so and loaded that.
    pub(super) fn of(
        beginning: &Beginning,
        options: &StoreOptions,
        rules: &Rules,
        loaded: &Loaded,
        started_us: u64,
    ) -> Self {
        Self {
            schema_version: newest_schema(),
            base: beginning.base,
            masked: beginning.masked,
            opened_us: options.now_us,
            random: options.random,
            boot_id: options.boot_id.clone(),
            synchronous: options.synchronous,
            window_bytes_max: options.bounds.window_bytes_max,
            sessions_max: options.bounds.sessions_max,
            outbox_rows_max: options.outbox_rows_max,
            rules: rules.clone(),
            started_us,
            committed: beginning.committed,
            found: Found::of(loaded),
        }
    }
}

/// The newest version of the schema that this program knows.
pub(super) fn newest_schema() -> u32 {
    MIGRATIONS.last().map_or(0, |migration| migration.version)
}

/// How a journal goes on, or begins. Made before the store is opened, which changes it.
#[derive(Debug)]
pub struct Beginning {
    pub(super) path: PathBuf,
    pub(super) base: Base,
    pub(super) masked: bool,
    /// The next file.
    pub(super) number: u32,
    /// The chapter's first file.
    pub(super) chapter: u32,
    pub(super) committed: u64,
}

impl Beginning {
    /// Where the database comes from.
    #[must_use]
    pub const fn base(&self) -> Base {
        self.base
    }

    /// Looks at the journal and at the database; copies that, if it is not as the journal left it. With a mask, what people
    /// wrote is masked, in the copy as in the inputs.
    ///
    /// # Errors
    /// A sentence: the journal's directory or the database cannot be read, or the copy not be made.
    pub fn look(
        path: &Path,
        place: &Place,
        boot_id: &str,
        mask: Option<&mut Mask>,
    ) -> Result<Self, StoreError> {
        let masked = mask.is_some();
        let cannot_read = |error: io::Error| {
            StoreError::Refused(format!(
                "the journal {} cannot be read: {error}",
                path.display()
            ))
        };
        if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
            make_private_dir(directory)?;
        }
        let there = files(path).map_err(cannot_read)?;
        let number = there.last().map_or(0, |&(number, _)| number + 1);
        let mut beginning = Self {
            path: path.to_owned(),
            base: Base::Fresh,
            masked,
            number,
            chapter: number,
            committed: 0,
        };
        let Some(found) = standing(place)? else {
            return Ok(beginning);
        };
        beginning.committed = found.journal_turn;
        let last = last_start(&there).map_err(cannot_read)?;
        match last {
            Some((chapter, start)) if goes_on(&start, &found, boot_id, masked) => {
                beginning.base = Base::Continues;
                beginning.chapter = chapter;
            }
            _ => {
                let copy = base_of(path, number);
                // What a kill left of an earlier try would be in the way.
                let _ = std::fs::remove_file(backup::unfinished(&copy));
                let _ = std::fs::remove_file(&copy);
                match mask {
                    Some(mask) => backup::backup_by(place, &copy, |source, target| {
                        copy_masked(source, target, mask)
                    })?,
                    None => backup::backup_of(place, &copy, &mut |_| {})?,
                };
                beginning.base = Base::Copy {
                    restored: found.restored,
                };
            }
        }
        Ok(beginning)
    }
}

/// Does a start on this database go on where the journal's last one ended?
fn goes_on(start: &Start, found: &Standing, boot_id: &str, masked: bool) -> bool {
    let power_kept = found.clean || found.boot_id.as_deref() == Some(boot_id);
    start.found.owner_epoch == found.owner_epoch
        && start.masked == masked
        && found.journal_turn > 0
        && power_kept
        && !found.restored
}

/// The newest start, and the first file of its chapter.
fn last_start(files: &[(u32, PathBuf)]) -> io::Result<Option<(u32, Start)>> {
    let mut newest = None;
    for (number, path) in files.iter().rev() {
        let Some(start) = start_of(path)? else {
            continue;
        };
        let begins = start.base != Base::Continues;
        let newest = newest.get_or_insert(start);
        if begins {
            return Ok(Some((*number, newest.clone())));
        }
    }
    Ok(None)
}

/// The start that a file begins with.
pub(super) fn start_of(path: &Path) -> io::Result<Option<Start>> {
    let Some(mut frames) = Frames::open(path)? else {
        return Ok(None);
    };
    Ok(match frames.next()? {
        Next::Frame(STARTED, body) => serde_json::from_slice(&body).ok(),
        _ => None,
    })
}
