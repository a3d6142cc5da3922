//! The journal of inputs: everything that entered the turn, with its time and seed, so that it can be applied again.
//! The same journal into a fresh store gives the same database.
//!
//! A journal is a series of files, `NAME.00000000`, `NAME.00000001`, …, each at most [`JOURNAL_FILE_BYTES_MAX`];
//! at most [`JOURNAL_FILES_MAX`] are kept, the oldest go first. A journal from which the beginning went can be
//! applied to a copy of the database of that time, not to an empty one.
//!
//! ```text
//! file:   "tidegate journal 1\n", then entries
//! entry:  length u32 │ tag u8 │ body            (little-endian; length counts tag and body)
//! tags:   1 began: now_us u64, seed u64   2 input: its written form   3 ended: cursors, 18 bytes each
//!         4 started: now_us u64 (the engine was made)
//! ```
//!
//! It holds what people wrote. It is written with mode 0600 and only on request.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::engine::effect::Output;
use crate::engine::input::Input;
use crate::engine::rows::RingCursorRow;
use crate::engine::{Engine, Rules};
use crate::store::Store;
use crate::turn::look_up;

/// One file's size before the next is begun.
pub const JOURNAL_FILE_BYTES_MAX: u64 = 256 << 20;
/// Files kept.
pub const JOURNAL_FILES_MAX: u32 = 64;
/// One entry: an input is bounded by a record, or by a request over HTTP.
const ENTRY_BYTES_MAX: usize = 4 << 20;

const MAGIC: &[u8] = b"tidegate journal 3\n";
const BEGAN: u8 = 1;
const INPUT: u8 = 2;
const ENDED: u8 = 3;
const STARTED: u8 = 4;

/// Writes.
pub struct Journal {
    path: PathBuf,
    number: u32,
    file: Option<BufWriter<File>>,
    file_bytes_max: u64,
    bytes: u64,
    entry: Vec<u8>,
}

impl Journal {
    /// Begins a journal behind the files that are there already. `started_us` is the time that the engine was made
    /// with.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: &Path, started_us: u64) -> io::Result<Self> {
        Self::create_bounded(path, started_us, JOURNAL_FILE_BYTES_MAX)
    }

    fn create_bounded(path: &Path, started_us: u64, file_bytes_max: u64) -> io::Result<Self> {
        let number = files(path)?.last().map_or(0, |&(number, _)| number + 1);
        let mut journal = Self {
            path: path.to_owned(),
            number,
            file: None,
            file_bytes_max,
            bytes: 0,
            entry: Vec::new(),
        };
        journal.open_next()?;
        journal.start(STARTED);
        journal.entry.extend_from_slice(&started_us.to_le_bytes());
        journal.write();
        Ok(journal)
    }

    fn open_next(&mut self) -> io::Result<()> {
        let path = numbered(&self.path, self.number);
        let mut file = BufWriter::new(
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)?,
        );
        file.write_all(MAGIC)?;
        self.bytes = MAGIC.len() as u64;
        self.file = Some(file);
        if let Some(oldest) = self.number.checked_sub(JOURNAL_FILES_MAX) {
            match fs::remove_file(numbered(&self.path, oldest)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.number += 1;
        Ok(())
    }

    fn start(&mut self, tag: u8) {
        self.entry.clear();
        self.entry.extend_from_slice(&[0, 0, 0, 0, tag]);
    }

    /// A journal that cannot be written is given up, aloud: the chat goes on.
    fn write(&mut self) {
        let length = u32::try_from(self.entry.len() - 4)
            .expect("invariant: an entry is bounded by its input");
        self.entry[..4].copy_from_slice(&length.to_le_bytes());
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.write_all(&self.entry) {
            tracing::error!(%error, path = %self.path.display(), "the journal cannot be written; it ends here");
            self.file = None;
        }
        self.bytes += self.entry.len() as u64;
    }

    /// A turn began.
    pub fn begin(&mut self, now_us: u64, seed: u64) {
        if self.bytes >= self.file_bytes_max && self.file.is_some() {
            let flushed = self.file.as_mut().map_or(Ok(()), Write::flush);
            if let Err(error) = flushed.and_then(|()| self.open_next()) {
                tracing::error!(%error, path = %self.path.display(), "the journal cannot go on; it ends here");
                self.file = None;
            }
        }
        self.start(BEGAN);
        self.entry.extend_from_slice(&now_us.to_le_bytes());
        self.entry.extend_from_slice(&seed.to_le_bytes());
        self.write();
    }

    /// An input is about to be applied.
    pub fn input(&mut self, input: &Input<'_>) {
        self.start(INPUT);
        input.write(&mut self.entry);
        self.write();
    }

    /// The turn is about to be committed.
    pub fn end(&mut self, cursors: &[RingCursorRow]) {
        self.start(ENDED);
        for cursor in cursors {
            self.entry.extend_from_slice(&cursor.gateway.to_le_bytes());
            self.entry.extend_from_slice(&cursor.shard.to_le_bytes());
            self.entry.extend_from_slice(&cursor.position.to_le_bytes());
        }
        self.write();
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            tracing::error!(%error, path = %self.path.display(), "the journal cannot be written; it ends here");
            self.file = None;
        }
    }

    /// Ends in order.
    pub fn close(mut self) {
        if let Some(file) = &mut self.file
            && let Err(error) = file.flush()
        {
            tracing::error!(%error, path = %self.path.display(), "the journal's end is lost");
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number:08}"));
    PathBuf::from(name)
}

/// The files of a journal, in order.
///
/// # Errors
/// If the directory cannot be read.
pub fn files(path: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let stem = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
        + ".";
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(number) = name.strip_prefix(&stem).and_then(|rest| rest.parse().ok()) {
            found.push((number, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Why a journal could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Reading it failed.
    #[error("the journal cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is of another version or damaged. (A cut-off last turn is no error: it was never committed.)
    #[error("{path} is no journal of this version, or is damaged at byte {at}")]
    Damaged {
        /// Which file.
        path: String,
        /// Where.
        at: u64,
    },
    /// The store refused.
    #[error("the store refused: {0}")]
    Store(String),
}

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Turns committed.
    pub turns: u64,
    /// Inputs applied.
    pub inputs: u64,
}

/// Applies a journal to a store, as fast as it goes. Effects go nowhere.
///
/// # Errors
/// See [`ReplayError`].
pub fn replay<S: Store>(
    path: &Path,
    rules: &Rules,
    store: &mut S,
) -> Result<Replayed, ReplayError> {
    let mut replay = Replay {
        rules,
        store,
        engine: None,
        out: Output::default(),
        begun: false,
        done: Replayed::default(),
    };
    for (_, file) in files(path)? {
        replay.file(&file)?;
    }
    Ok(replay.done)
}

struct Replay<'a, S> {
    rules: &'a Rules,
    store: &'a mut S,
    engine: Option<Engine>,
    out: Output,
    begun: bool,
    done: Replayed,
}

impl<S: Store> Replay<'_, S> {
    fn file(&mut self, path: &Path) -> Result<(), ReplayError> {
        let mut reader = BufReader::new(File::open(path)?);
        let damaged = |at| ReplayError::Damaged {
            path: path.display().to_string(),
            at,
        };
        let mut magic = vec![0; MAGIC.len()];
        reader.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(damaged(0));
        }
        let mut at = MAGIC.len() as u64;
        let mut entry = Vec::new();
        loop {
            let mut length = [0; 4];
            match reader.read_exact(&mut length) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            }
            let length = u32::from_le_bytes(length) as usize;
            if length == 0 || length > ENTRY_BYTES_MAX {
                return Err(damaged(at));
            }
            entry.resize(length, 0);
            match reader.read_exact(&mut entry) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                other => other?,
            }
            self.entry(entry[0], &entry[1..], || damaged(at))?;
            at += 4 + length as u64;
        }
    }

    fn entry(
        &mut self,
        tag: u8,
        body: &[u8],
        damaged: impl Fn() -> ReplayError,
    ) -> Result<(), ReplayError> {
        let refused = |error: &dyn std::fmt::Display| ReplayError::Store(error.to_string());
        let word = |at: usize| {
            let bytes = body
                .get(at..at + 8)
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(&damaged)?;
            Ok::<u64, ReplayError>(u64::from_le_bytes(bytes))
        };
        if tag == STARTED {
            let loaded = self.store.load().map_err(|error| refused(&error))?;
            self.engine = Some(Engine::new(self.rules.clone(), loaded, word(0)?));
            return Ok(());
        }
        let engine = self.engine.as_mut().ok_or_else(&damaged)?;
        match tag {
            BEGAN => {
                self.out.clear();
                engine.begin_turn(word(0)?, word(8)?, &mut self.out);
                self.out.writes.at_us = engine.now_us();
                self.begun = true;
            }
            INPUT if self.begun => {
                let input = Input::read(body).map_err(|_| damaged())?;
                while let Err(need) = engine.apply(&input, &mut self.out) {
                    let found = look_up(self.store, need).map_err(|error| refused(&error))?;
                    engine.provide(need, found);
                }
                self.done.inputs += 1;
            }
            ENDED if self.begun => {
                engine.end_turn(&mut self.out);
                for cursor in body.chunks_exact(18) {
                    let array = |range: std::ops::Range<usize>| -> [u8; 8] {
                        cursor[range].try_into().expect("invariant: eight bytes")
                    };
                    self.out.writes.ring_cursors.push(RingCursorRow {
                        gateway: u64::from_le_bytes(array(0..8)),
                        shard: u16::from_le_bytes([cursor[8], cursor[9]]),
                        position: u64::from_le_bytes(array(10..18)),
                    });
                }
                if !self.out.writes.is_empty() {
                    self.store
                        .submit(&self.out.writes)
                        .map_err(|error| refused(&error))?;
                }
                self.begun = false;
                self.done.turns += 1;
            }
            _ => return Err(damaged()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_rotates_and_keeps_only_so_many_files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = Journal::create_bounded(&path, 7, 64).unwrap();
        for turn in 0..200 {
            journal.begin(turn, turn);
            journal.input(&Input::Tick);
            journal.end(&[]);
        }
        journal.close();
        let kept = files(&path).unwrap();
        assert!(
            kept.len() <= JOURNAL_FILES_MAX as usize + 1,
            "{}",
            kept.len()
        );
        let (first, last) = (kept[0].0, kept[kept.len() - 1].0);
        assert!(first > 0 && last > JOURNAL_FILES_MAX);
        assert!(kept.iter().map(|&(number, _)| number).eq(first..=last));
        let again = Journal::create_bounded(&path, 8, 64).unwrap();
        again.close();
        assert_eq!(
            files(&path).unwrap().last().unwrap().0,
            last + 1,
            "it goes on behind what is there"
        );
    }
}
