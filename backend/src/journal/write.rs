//! Writing.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::frame::{self, BROKE, COMMITTED, HEAD_BYTES, MAGIC, STARTED, STOPPED, TURN};
use super::mask::Mask;
use super::start::{Beginning, Start};
use super::{base_of, files, numbered};
use crate::engine::Rules;
use crate::engine::input::Input;
use crate::engine::loaded::Loaded;
use crate::engine::rows::{MetaRow, RingCursorRow, meta};
use crate::store::StoreOptions;

/// Memory that is kept for the next turn.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// How much a journal may take.
#[derive(Debug, Clone, Copy)]
pub struct JournalBounds {
    /// One file's size from which on the next is begun.
    pub file_bytes_max: u64,
    /// All files together. Beyond it older chapters go, and when only this one is left, it ends.
    pub bytes_max: u64,
}

/// A journal that is being written.
pub struct Journal {
    path: PathBuf,
    bounds: JournalBounds,
    mask: Option<Mask>,
    number: u32,
    chapter: u32,
    /// `None`: it ended.
    file: Option<File>,
    /// Of the open file.
    bytes: u64,
    /// What waits for the next write, and behind it the turn that runs.
    buffer: Vec<u8>,
    /// Where the running turn begins in there.
    running: Option<usize>,
    turn: u64,
}

impl Journal {
    /// Goes on, or begins, with a start: the store was opened with these options, and this was loaded.
    ///
    /// # Errors
    /// If the file cannot be made or written.
    pub fn begin(
        beginning: &Beginning,
        bounds: JournalBounds,
        mask: Option<Mask>,
        (options, rules, loaded): (&StoreOptions, &Rules, &Loaded),
        started_us: u64,
    ) -> io::Result<Self> {
        let mut journal = Self {
            path: beginning.path.clone(),
            bounds,
            mask,
            number: beginning.number,
            chapter: beginning.chapter,
            file: None,
            bytes: 0,
            buffer: Vec::new(),
            running: None,
            turn: beginning.committed,
        };
        journal.open_next()?;
        let start = Start::of(beginning, options, rules, loaded, started_us);
        let at = frame::begin(&mut journal.buffer, STARTED);
        serde_json::to_writer(&mut journal.buffer, &start)?;
        frame::seal(&mut journal.buffer, at);
        journal.write_out()?;
        Ok(journal)
    }

    fn open_next(&mut self) -> io::Result<()> {
        self.make_room()?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(numbered(&self.path, self.number))?;
        file.write_all(MAGIC)?;
        self.bytes = MAGIC.len() as u64;
        self.file = Some(file);
        self.number += 1;
        Ok(())
    }

    /// Room for one file more: a chapter that others followed goes before this one ends, and goes whole, for without
    /// its beginning it is worth nothing.
    fn make_room(&self) -> io::Result<()> {
        let mut kept = 0;
        let mut older = Vec::new();
        for (number, file) in files(&self.path)? {
            let base = base_of(&self.path, number);
            let bytes = |path| fs::metadata(path).map_or(0, |found| found.len());
            let together = bytes(&file) + bytes(&base);
            kept += together;
            if number < self.chapter {
                older.push((file, base));
            }
        }
        if kept + self.bounds.file_bytes_max <= self.bounds.bytes_max {
            return Ok(());
        }
        if older.is_empty() {
            let bound = self.bounds.bytes_max;
            return Err(io::Error::other(format!(
                "it has reached its bound, journal_bytes_max = {bound}"
            )));
        }
        for (file, base) in older {
            fs::remove_file(file)?;
            match fs::remove_file(base) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.make_room()
    }

    /// A turn began.
    pub fn begin_turn(&mut self, now_us: u64, seed: u64) {
        if let Some(at) = self.running.take() {
            self.buffer.truncate(at);
        }
        self.running = Some(frame::begin(&mut self.buffer, TURN));
        for number in [self.turn + 1, now_us, seed] {
            self.buffer.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// An input is about to be applied.
    pub fn input(&mut self, input: &Input<'_>) {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        match &mut self.mask {
            Some(mask) => mask.write(input, &mut self.buffer),
            None => input.write(&mut self.buffer),
        }
        let length = u32::try_from(self.buffer.len() - at - 4)
            .expect("invariant: an input is bounded by a record");
        self.buffer[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The turn is about to be committed. From now on it stands in the journal, if that is not broken.
    pub fn end_turn(&mut self, cursors: &[RingCursorRow]) {
        let Some(at) = self.running.take() else {
            return;
        };
        self.buffer.extend_from_slice(&[0; 4]);
        for cursor in cursors {
            self.buffer.extend_from_slice(&cursor.gateway.to_le_bytes());
            self.buffer.extend_from_slice(&cursor.shard.to_le_bytes());
            self.buffer
                .extend_from_slice(&cursor.position.to_le_bytes());
        }
        frame::seal(&mut self.buffer, at);
        self.turn += 1;
        self.flush();
    }

    /// The turn that ended was committed, or had nothing to commit.
    pub fn committed(&mut self) {
        let at = frame::begin(&mut self.buffer, COMMITTED);
        self.buffer.extend_from_slice(&self.turn.to_le_bytes());
        frame::seal(&mut self.buffer, at);
    }

    /// Whether it is still being written.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        self.file.is_some()
    }

    /// What the transaction of the turn that ended says of the journal: how far it goes, or, when it ended, that it is
    /// of no use to the next start.
    #[must_use]
    pub fn row(&self) -> MetaRow {
        MetaRow {
            key: meta::JOURNAL_TURN.to_owned(),
            value: if self.is_alive() { self.turn } else { 0 },
        }
    }

    /// Writes what waits: there is time.
    pub fn flush(&mut self) {
        if self.running.is_some() || self.buffer.is_empty() {
            return;
        }
        if let Err(error) = self.write_out() {
            tracing::error!(%error, journal = %self.path.display(), "the journal cannot be written; it ends here");
            self.file = None;
        }
    }

    /// A journal that ended takes and keeps nothing.
    fn write_out(&mut self) -> io::Result<()> {
        if self.bytes >= self.bounds.file_bytes_max && self.file.is_some() {
            self.open_next()?;
        }
        if let Some(file) = &mut self.file {
            self.bytes += self.buffer.len() as u64;
            file.write_all(&self.buffer)?;
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEPT_BYTES_MAX);
        Ok(())
    }

    /// The store was closed in order.
    pub fn close(mut self) {
        let at = frame::begin(&mut self.buffer, STOPPED);
        frame::seal(&mut self.buffer, at);
        self.flush();
    }
}

impl Drop for Journal {
    /// A turn that runs now broke, and its inputs are what somebody will want to see.
    fn drop(&mut self) {
        if let Some(at) = self.running.take() {
            self.buffer[at + HEAD_BYTES] = BROKE;
            frame::seal(&mut self.buffer, at);
        }
        self.flush();
    }
}
