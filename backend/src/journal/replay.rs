//! Replaying: a journal's newest chapter into a database of its own. Effects go nowhere.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::frame::{BROKE, COMMITTED, Frames, Next, STARTED, STOPPED, TURN, Tear};
use super::start::{Base, Found, Start, newest_schema, start_of};
use super::{base_of, files};
use crate::engine::Engine;
use crate::engine::effect::Output;
use crate::engine::input::Input;
use crate::engine::rows::{MetaRow, RingCursorRow, meta};
use crate::store::load::LoadBounds;
use crate::store::open::Place;
use crate::store::{SqliteStore, Store, StoreError, StoreOptions, backup};
use crate::turn::look_up;

const WAL_BYTES_MAX: u64 = 128 << 20;
const CHECKPOINT_EVERY_MS: u64 = 500;
const CACHE_BYTES: u64 = 64 << 20;
/// Nobody else should have the replay's database; who looks into it is waited for.
const BUSY_MS_MAX: u64 = 10_000;
/// Between two words on how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Why a journal could not be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// Reading it failed.
    #[error("{} cannot be read: {error}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A sentence: there is none, or it is of another version.
    #[error("{0}")]
    Refused(String),
    /// The database came out otherwise than it was found then.
    #[error(
        "the replay came to another database than {} found: {what}. Something that is not in the journal changed it, or \
         this program is not the one that wrote it", path.display()
    )]
    Diverged {
        /// Which start.
        path: PathBuf,
        /// What differs.
        what: String,
    },
    /// The store refused.
    #[error("the store refused: {0}")]
    Store(#[from] StoreError),
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Processes that began.
    pub starts: u64,
    /// Turns applied.
    pub turns: u64,
    /// Inputs applied.
    pub inputs: u64,
    /// Turns that were written down and never committed, because the process ended between the two: left out.
    pub uncommitted: u64,
    /// The last turn was applied, and whether it was committed then the journal does not say.
    pub unconfirmed: bool,
    /// Turns in which the process broke: left out.
    pub broke: u64,
    /// The server's time of the first turn and of the newest one, µs since the Unix epoch.
    pub from_us: u64,
    /// See `from_us`.
    pub to_us: u64,
    /// What people wrote is masked.
    pub masked: bool,
    /// The journal could be read no further.
    pub tear: Option<Tear>,
}

/// How to replay.
pub struct Replay<'a> {
    /// The journal's name, without a number.
    pub journal: &'a Path,
    /// The database to be made.
    pub database: &'a Path,
    /// Told before each turn is applied when it was recorded, µs since the Unix epoch: who replays at a pace waits there.
    pub wait_until_due: &'a mut dyn FnMut(u64),
    /// Told how far it is, each second.
    pub tell: &'a mut dyn FnMut(&Replayed),
}

impl Replay<'_> {
    /// Replays. A torn journal is replayed up to the tear ([`Replayed::tear`]).
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn run(self) -> Result<Replayed, ReplayError> {
        let unreadable = |error| ReplayError::Io {
            path: self.journal.to_owned(),
            error,
        };
        let there = files(self.journal).map_err(unreadable)?;
        let chapter = chapter_of(&there).map_err(unreadable)?.ok_or_else(|| {
            ReplayError::Refused(format!(
                "no file {}.NNNNNNNN begins a journal of this version: name the journal without the number",
                self.journal.display()
            ))
        })?;
        if self.database.exists() {
            return Err(ReplayError::Refused(format!(
                "{} is there: a journal is replayed into a database of its own",
                self.database.display()
            )));
        }
        let mut running = Running {
            journal: self.journal,
            database: self.database,
            wait_until_due: self.wait_until_due,
            tell: self.tell,
            told: Instant::now(),
            process: None,
            held: None,
            applied: 0,
            stored: 0,
            done: Replayed::default(),
        };
        let files = &there[chapter..];
        for (index, (number, path)) in files.iter().enumerate() {
            let next = files.get(index + 1);
            if !running.file(*number, path, next)? {
                break;
            }
        }
        running.end()
    }
}

/// Where in the list of files the newest chapter begins.
fn chapter_of(files: &[(u32, PathBuf)]) -> io::Result<Option<usize>> {
    for (index, (_, path)) in files.iter().enumerate().rev() {
        if start_of(path)?.is_some_and(|start| start.base != Base::Continues) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

/// A process that is lived through again.
struct Process {
    store: SqliteStore,
    engine: Engine,
    out: Output,
}

/// A turn that was written down and of which it is not known yet whether it was committed.
struct Held {
    number: u64,
    body: Vec<u8>,
    /// Its file and place.
    at: (PathBuf, u64),
}

struct Running<'a> {
    journal: &'a Path,
    database: &'a Path,
    wait_until_due: &'a mut dyn FnMut(u64),
    tell: &'a mut dyn FnMut(&Replayed),
    told: Instant,
    process: Option<Process>,
    held: Option<Held>,
    /// Number of the newest turn that was applied.
    applied: u64,
    /// Of the newest one that changed a row: only that the database can know of.
    stored: u64,
    done: Replayed,
}

impl Running<'_> {
    /// Replays a file; false: it is torn, and nothing that follows is to be used.
    fn file(
        &mut self,
        number: u32,
        path: &Path,
        next: Option<&(u32, PathBuf)>,
    ) -> Result<bool, ReplayError> {
        let unreadable = |error| ReplayError::Io {
            path: path.to_owned(),
            error,
        };
        let Some(mut frames) = Frames::open(path).map_err(unreadable)? else {
            return self.torn(path, 0, "it does not begin as a journal of this version");
        };
        loop {
            let at = frames.at;
            let (tag, body) = match frames.next().map_err(unreadable)? {
                Next::Frame(tag, body) => (tag, body),
                Next::Damaged(why) => return self.torn(path, at, why),
                Next::CutOff => {
                    // Its writer was killed, and what it was writing was not committed, if another start follows.
                    let killed = match next {
                        Some((_, next)) => start_of(next).map_err(unreadable)?.is_some(),
                        None => false,
                    };
                    return if killed {
                        Ok(true)
                    } else {
                        self.torn(path, at, "it ends in the middle of a frame")
                    };
                }
                Next::End => break,
            };
            if !self.frame(number, path, at, tag, body)? {
                return Ok(false);
            }
        }
        match next {
            Some((following, _)) if *following != number + 1 => {
                self.torn(path, frames.at, "the file that follows is not there")
            }
            _ => Ok(true),
        }
    }

    fn torn(&mut self, path: &Path, at: u64, why: &'static str) -> Result<bool, ReplayError> {
        self.done.tear = Some(Tear {
            path: path.to_owned(),
            at,
            why,
        });
        Ok(false)
    }

    /// Lives through a frame; false: it makes no sense here.
    fn frame(
        &mut self,
        number: u32,
        path: &Path,
        at: u64,
        tag: u8,
        body: Vec<u8>,
    ) -> Result<bool, ReplayError> {
        let first_word = body
            .first_chunk()
            .map_or(0, |word| u64::from_le_bytes(*word));
        match tag {
            STARTED => match serde_json::from_slice(&body) {
                Ok(start) => return self.start(number, path, &start),
                Err(_) => return self.torn(path, at, "its start is of another version"),
            },
            _ if self.process.is_none() => {
                return self.torn(path, at, "nothing has started before it");
            }
            // Who writes the next turn down has committed the one before.
            TURN | BROKE => {
                if !self.apply_held()? {
                    return Ok(false);
                }
                if first_word != self.applied + 1 {
                    return self.torn(path, at, "turns are missing before it");
                }
                if tag == BROKE {
                    self.done.broke += 1;
                } else {
                    self.held = Some(Held {
                        number: first_word,
                        body,
                        at: (path.to_owned(), at),
                    });
                }
            }
            COMMITTED => {
                if self
                    .held
                    .as_ref()
                    .is_some_and(|held| held.number != first_word)
                {
                    return self.torn(path, at, "it confirms another turn");
                }
                return self.apply_held();
            }
            STOPPED => {
                self.drop_held();
                if let Some(process) = self.process.take() {
                    process.store.close()?;
                }
            }
            _ => return self.torn(path, at, "its kind is of another version"),
        }
        Ok(true)
    }

    /// A process begins. The one before it was killed, if it did not stop.
    fn start(&mut self, number: u32, path: &Path, start: &Start) -> Result<bool, ReplayError> {
        if start.schema_version != newest_schema() {
            return Err(ReplayError::Refused(format!(
                "{} was written with version {} of the schema and this tidegate has {}: replay it with the program that \
                 wrote it",
                path.display(),
                start.schema_version,
                newest_schema()
            )));
        }
        match &self.held {
            Some(held) if held.number <= start.committed => {
                if !self.apply_held()? {
                    return Ok(false);
                }
            }
            _ => self.drop_held(),
        }
        let diverged = |what| ReplayError::Diverged {
            path: path.to_owned(),
            what,
        };
        if start.base == Base::Continues && self.stored > start.committed {
            let (stored, committed) = (self.stored, start.committed);
            return Err(diverged(format!(
                "turn {stored} was committed, and the newest there was {committed}"
            )));
        }
        self.process = None;
        if let Base::Copy { restored } = start.base {
            self.take_base(&base_of(self.journal, number), restored)?;
        }
        let mut store = SqliteStore::open(&self.options(start))?;
        let loaded = store.load()?;
        let found = Found::of(&loaded);
        if found != start.found {
            return Err(diverged(format!("{:?}, and here {found:?}", start.found)));
        }
        self.applied = start.committed;
        self.stored = start.committed;
        self.process = Some(Process {
            store,
            engine: Engine::new(start.rules.clone(), loaded, start.started_us),
            out: Output::default(),
        });
        self.done.starts += 1;
        self.done.masked = start.masked;
        Ok(true)
    }

    fn take_base(&self, base: &Path, restored: bool) -> Result<(), ReplayError> {
        let unreadable = |error| ReplayError::Io {
            path: base.to_owned(),
            error,
        };
        let mut from = File::open(base).map_err(unreadable)?;
        crate::store::data_dir::make_private_file(self.database)?;
        let to = fs::OpenOptions::new().write(true).open(self.database);
        io::copy(&mut from, &mut to.map_err(unreadable)?).map_err(unreadable)?;
        if !restored {
            backup::unmark(self.database)?;
        }
        Ok(())
    }

    fn options(&self, start: &Start) -> StoreOptions {
        StoreOptions {
            place: Place {
                path: self.database.to_owned(),
                vfs: None,
                busy_ms_max: BUSY_MS_MAX,
                cache_bytes: CACHE_BYTES,
                mmap_bytes: 0,
            },
            synchronous: start.synchronous,
            wal_bytes_max: WAL_BYTES_MAX,
            checkpoint_every_ms: CHECKPOINT_EVERY_MS,
            bounds: LoadBounds {
                window_bytes_max: start.window_bytes_max,
                sessions_max: start.sessions_max,
            },
            outbox_rows_max: start.outbox_rows_max,
            site_id: start.rules.site_id,
            now_us: start.opened_us,
            random: start.random,
            boot_id: start.boot_id.clone(),
        }
    }

    fn drop_held(&mut self) {
        if self.held.take().is_some() {
            self.done.uncommitted += 1;
        }
    }

    /// Applies the turn that was held back; false: it is of another version.
    fn apply_held(&mut self) -> Result<bool, ReplayError> {
        let Some(held) = self.held.take() else {
            return Ok(true);
        };
        let Some(turn) = Recorded::read(&held.body) else {
            return self.torn(&held.at.0, held.at.1, "its turn is of another version");
        };
        if self.done.from_us == 0 {
            self.done.from_us = turn.now_us;
        }
        self.done.to_us = turn.now_us;
        (self.wait_until_due)(turn.now_us);
        if let Some(process) = &mut self.process {
            self.done.inputs += turn.inputs.len() as u64;
            if process.apply(&turn)? {
                self.stored = held.number;
            }
        }
        self.applied = held.number;
        self.done.turns += 1;
        if self.told.elapsed() >= TELL_EVERY {
            self.told = Instant::now();
            (self.tell)(&self.done);
        }
        Ok(true)
    }

    /// The last turn of a journal without an end in order may not have been committed; it is applied all the same: what
    /// it leads to is there to be seen.
    fn end(mut self) -> Result<Replayed, ReplayError> {
        if self.held.is_some() {
            self.done.unconfirmed = true;
            self.apply_held()?;
        }
        // A process that was killed did not close its store. What it left reads the same.
        self.process = None;
        Ok(self.done)
    }
}

/// A turn, as it stands in the journal.
struct Recorded<'a> {
    number: u64,
    now_us: u64,
    seed: u64,
    inputs: Vec<Input<'a>>,
    cursors: Vec<RingCursorRow>,
}

impl<'a> Recorded<'a> {
    fn read(mut rest: &'a [u8]) -> Option<Self> {
        let mut word = || {
            let (word, behind) = rest.split_first_chunk()?;
            rest = behind;
            Some(u64::from_le_bytes(*word))
        };
        let (number, now_us, seed) = (word()?, word()?, word()?);
        let mut inputs = Vec::new();
        loop {
            let (length, behind) = rest.split_first_chunk()?;
            let length = u32::from_le_bytes(*length) as usize;
            let (input, behind) = behind.split_at_checked(length)?;
            rest = behind;
            if length == 0 {
                break;
            }
            inputs.push(Input::read(input).ok()?);
        }
        let (cursors, tail) = rest.as_chunks::<18>();
        let cursors = cursors.iter().filter_map(|cursor| {
            Some(RingCursorRow {
                gateway: u64::from_le_bytes(*cursor.first_chunk()?),
                shard: u16::from_le_bytes([cursor[8], cursor[9]]),
                position: u64::from_le_bytes(*cursor.last_chunk()?),
            })
        });
        tail.is_empty().then_some(Self {
            number,
            now_us,
            seed,
            inputs,
            cursors: cursors.collect(),
        })
    }
}

impl Process {
    /// Applies a turn; whether it changed a row.
    fn apply(&mut self, turn: &Recorded<'_>) -> Result<bool, ReplayError> {
        let Self { store, engine, out } = self;
        out.clear();
        engine.begin_turn(turn.now_us, turn.seed, out);
        out.writes.at_us = engine.now_us();
        for input in &turn.inputs {
            while let Err(need) = engine.apply(input, out) {
                let found = look_up(store, need)?;
                engine.provide(need, found);
            }
        }
        engine.end_turn(out);
        if out.writes.is_empty() {
            return Ok(false);
        }
        out.writes.ring_cursors.extend_from_slice(&turn.cursors);
        out.writes.meta.push(MetaRow {
            key: meta::JOURNAL_TURN.to_owned(),
            value: turn.number,
        });
        let submitted = store.submit(&out.writes);
        submitted.map_err(|error| StoreError::Failed(error.to_string()))?;
        Ok(true)
    }
}
