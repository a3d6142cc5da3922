//! What is kept, and how. The turn hands over a [`WriteSet`] and waits for its [`Index`]; nobody else writes.
//!
//! - [`Store`]: the trait. No SQL crosses it; SQLite stands behind it ([`sqlite::SqliteStore`]), PostgreSQL may later.
//! - [`Readers`]: bounded threads with read-only connections for everything that is not the turn: history,
//!   lists, search, exports, old sessions. Reads are short transactions that page by key.
//!
//! **Who waits for what.** `submit` returns when the set is committed (SQLite: one turn in flight, so `durable()`
//! equals the newest index). Effects go out, and ring space is given back, only when `durable() >= index`.

pub mod audit;
pub mod backup;
pub mod checkpoint;
mod classify;
pub mod data_dir;
pub mod dump;
mod find;
pub mod load;
mod log_file;
pub mod migrate;
pub mod open;
pub mod read;
pub mod readers;
pub mod recount;
mod resync;
mod retention;
mod rows;
pub mod sqlite;
#[cfg(any(feature = "simulation", feature = "fault-points"))]
pub mod vfs;
mod write;

pub use readers::{Readers, Reading};
pub use recount::{Recount, recount, recount_at};
pub use sqlite::{SqliteStore, StoreOptions};

pub use crate::engine::ledger::Ledger;
pub use crate::engine::loaded::{
    Loaded, LoadedConversation, OldKeys, OldMessages, Pending, Sent, Synthetic,
};
use crate::engine::rows::{IdempotencyKeyRow, SessionLastRow, VisitorRow};
use crate::engine::write_set::WriteSet;
use tidegate_protocol::Id;

/// Which submit: 1 for the first after opening, then one more each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Index(pub u64);

/// Why a commit failed. The first three pass: nothing was stored, keep the set and submit it again (with
/// backoff, while rings push back and HTTP answers 503). The others do not: exit and rebuild from the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Somebody else holds the database's lock (another process, or the checkpointer emptying the log).
    #[error("the database is locked: {0}")]
    Busy(String),
    /// No room on the disk.
    #[error("the disk is full: {0}")]
    Full(String),
    /// A write failed, but nothing was synchronised yet.
    #[error("writing the database failed: {0}")]
    Io(String),
    /// An fsync failed: what is on disk is unknown until the log was written again. No input is to blame for it.
    #[error("synchronising the database failed: {0}")]
    Unsynced(String),
    /// The store cannot go on, whatever is submitted: damage, a read that failed, another owner. No input is to blame
    /// for it.
    #[error("the database cannot go on: {0}")]
    Broken(String),
    /// What was submitted can never be stored: a constraint, and anything that is not known better.
    #[error("this can never be stored: {0}")]
    Fatal(String),
}

impl CommitError {
    /// May the same set be submitted again?
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Full(_) | Self::Io(_))
    }
}

/// Why the store could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A sentence that says what was found and what to do.
    #[error("{0}")]
    Refused(String),
    /// The database is locked or the readers have too much to do: try again.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// No room on the disk; a sentence that says what to do.
    #[error("{0}")]
    Full(String),
    /// An fsync failed: what is on disk is unknown until the log was written again.
    #[error("synchronising the database failed: {0}")]
    Unsynced(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// May the same be tried again, because somebody else will have let go, or made room?
    #[must_use]
    pub const fn passes(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Full(_))
    }
}

/// What the turn needs of a database. Every method runs on the turn's thread.
pub trait Store {
    /// Stores the set in one transaction, all or nothing.
    ///
    /// # Errors
    /// See [`CommitError`]; after an error nothing of the set is stored.
    fn submit(&mut self, writes: &WriteSet) -> Result<Index, CommitError>;

    /// Everything up to here is stored as the configuration's `synchronous` promises.
    fn durable(&self) -> Index;

    /// Everything the engine needs to begin.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// `last` of one session, by key; for a session that the engine no longer has in memory.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn session(
        &mut self,
        principal: Id,
        session: u64,
    ) -> Result<Option<SessionLastRow>, StoreError>;

    /// What was stored under a message id, by key: the first answer to an old repeat.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn sent(&mut self, principal: Id, session: u64, n: u64) -> Result<Option<Sent>, StoreError>;

    /// Tells (sender, session, n, first answer) of the newest texts of a conversation, newest first, at most
    /// `rows_max` messages back: after a restart a whole turn of repeats is answered.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn walk_back(
        &mut self,
        conversation: Id,
        rows_max: u32,
        tell: &mut dyn FnMut(Id, u64, u64, Sent),
    ) -> Result<(), StoreError>;

    /// What an Idempotency-Key was answered, by key.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn idempotency_key(
        &mut self,
        principal: Id,
        key_hash: u128,
    ) -> Result<Option<IdempotencyKeyRow>, StoreError>;

    /// One conversation in whatever state, by key; for one that the engine no longer has in memory.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn conversation(&mut self, id: Id) -> Result<Option<LoadedConversation>, StoreError>;

    /// One visitor, by key.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn visitor(&mut self, id: Id) -> Result<Option<VisitorRow>, StoreError>;

    /// Text messages of a conversation with `above < seq <= up_to`, by whose side has to receive them; for a
    /// partial acknowledgement of an old backlog.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn pending(&mut self, conversation: Id, above: u64, up_to: u64) -> Result<Pending, StoreError>;

    /// One step of the sweep over messages that are older than a time.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn old_messages(&mut self, after: Id, before_us: u64) -> Result<OldMessages, StoreError>;

    /// One step of the sweep over Idempotency-Keys that were used before a time.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn old_keys(&mut self, after: (Id, u128), before_us: u64) -> Result<OldKeys, StoreError>;

    /// Some of what the load generator left.
    ///
    /// # Errors
    /// If the database cannot be read.
    fn synthetic(&mut self) -> Result<Synthetic, StoreError>;

    /// Closes in order: what was stored is synchronised, and the next start knows that this one ended well.
    ///
    /// # Errors
    /// If the last synchronisation failed.
    fn close(self) -> Result<(), StoreError>
    where
        Self: Sized;
}
