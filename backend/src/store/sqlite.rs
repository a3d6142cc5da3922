//! The store on SQLite: one connection that writes, on the turn's thread; a checkpointer beside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};

use super::checkpoint::{self, Checkpointer};
use super::data_dir::make_private_file;
use super::load::{self, LoadBounds};
use super::open::{self, Place};
use super::recount::{Recount, recount};
use super::{CommitError, Index, Store, StoreError, find, migrate, resync, retention, write};
use crate::config::{Config, Synchronous};
use crate::engine::loaded::{
    Loaded, LoadedConversation, OldKeys, OldMessages, Pending, Sent, Synthetic,
};
use crate::engine::rows::{IdempotencyKeyRow, SessionLastRow, VisitorRow, WidgetRow, meta};
use crate::engine::write_set::WriteSet;
use tidegate_protocol::Id;

/// Names of [`meta`] that the store itself keeps.
pub(super) mod own_meta {
    /// Number of the owner that may write; grows by one at each opening and is checked inside every commit.
    pub const OWNER_EPOCH: &str = "owner_epoch";
    /// 1 = the last owner closed in order.
    pub const CLEAN: &str = "clean";
    /// 1 = the last owner's commits were synchronised one by one.
    pub const SYNCHRONOUS_FULL: &str = "synchronous_full";
    /// 1 = a copy of another database, not opened since: what its original did after the copy is not in it.
    pub const COPIED: &str = "copied";
    /// In `meta_text`: the kernel's boot id under which the last owner wrote.
    pub const BOOT_ID: &str = "boot_id";
}

/// Incarnations stay below 2^53, so that JSON numbers carry them.
const INCARNATION_BITS: u32 = 52;

const UNSYNCED_BEFORE: &str = "an earlier fsync failed";

/// How long opening waits for a lock that somebody else holds. The turn, which others wait for, is less patient.
const OPEN_BUSY_MS_MAX: u64 = 10_000;

/// How to open the store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where.
    pub place: Place,
    /// What a commit waits for.
    pub synchronous: Synchronous,
    /// See [`Config::wal_bytes_max`].
    pub wal_bytes_max: u64,
    /// See [`Config::checkpoint_every_ms`]; 0 = no thread (the simulator calls [`SqliteStore::checkpoint`]).
    pub checkpoint_every_ms: u64,
    /// How much a load keeps in memory.
    pub bounds: LoadBounds,
    /// See [`Config::outbox_rows_max`].
    pub outbox_rows_max: u64,
    /// Site of the rows that opening may have to make.
    pub site_id: u32,
    /// The server's time.
    pub now_us: u64,
    /// Randomness for a new incarnation.
    pub random: u64,
    /// This boot of the machine; another one than the last owner's, and no clean end, means that power was lost.
    pub boot_id: String,
}

impl StoreOptions {
    /// As the configuration says, on this machine, now.
    ///
    /// # Errors
    /// If the machine has no randomness.
    pub fn from_config(config: &Config) -> Result<Self, StoreError> {
        Ok(Self {
            place: place(config),
            synchronous: config.synchronous,
            wal_bytes_max: config.wal_bytes_max,
            checkpoint_every_ms: config.checkpoint_every_ms,
            bounds: LoadBounds {
                window_bytes_max: config.window_bytes_max,
                sessions_max: config.sessions_max,
            },
            outbox_rows_max: config.outbox_rows_max,
            site_id: config.site_id,
            now_us: crate::auth::now_us(),
            random: crate::auth::random::u64()
                .map_err(|error| StoreError::Failed(error.to_string()))?,
            // Where there is no such file (not Linux) every unclean start counts as another boot: the safe side.
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(
                |_| format!("unknown-{}", std::process::id()),
                |id| id.trim().to_owned(),
            ),
        })
    }
}

/// Where the configuration's database is.
#[must_use]
pub fn place(config: &Config) -> Place {
    Place {
        path: config.data_dir.join(super::data_dir::DATABASE),
        vfs: (!config.sqlite_vfs.is_empty()).then(|| config.sqlite_vfs.clone()),
        busy_ms_max: config.database_busy_ms_max,
        cache_bytes: config.writer_cache_bytes,
        mmap_bytes: config.database_mmap_bytes,
    }
}

/// The open store. The caller holds the data directory's lock ([`super::data_dir::DataDir`]).
pub struct SqliteStore {
    connection: Connection,
    checkpointer: Option<Checkpointer>,
    place: Place,
    bounds: LoadBounds,
    outbox: Outbox,
    owner_epoch: u64,
    index: Index,
    history_may_be_lost: bool,
    unsynced: bool,
}

impl SqliteStore {
    /// Opens or makes the database, brings its schema up to date, and becomes its owner.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with a sentence that says what to do.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        resync::mend(&options.place)?;
        Self::open_mended(options).inspect_err(|error| {
            if matches!(error, StoreError::Unsynced(_)) {
                resync::note(&options.place);
            }
        })
    }

    fn open_mended(options: &StoreOptions) -> Result<Self, StoreError> {
        open::check_version()?;
        if options.place.vfs.is_none() {
            make_private_file(&options.place.path)?;
        }
        // Whoever looks into the database right after a crash reads its log anew, and holds its lock meanwhile.
        let patient = Place {
            busy_ms_max: options.place.busy_ms_max.max(OPEN_BUSY_MS_MAX),
            ..options.place.clone()
        };
        let connection = patient.open_writer()?;
        open::checkpoint_on_close(&connection, false)?;
        migrate::migrate(&connection, migrate::MIGRATIONS, options.now_us)?;
        let opened = become_owner(&connection, options)?;
        open::set_synchronous(&connection, options.synchronous)?;
        connection.busy_timeout(Duration::from_millis(options.place.busy_ms_max))?;
        let outbox = Outbox {
            rows: connection.query_row("SELECT count(*) FROM outbox", [], |row| {
                super::rows::bits(row, 0)
            })?,
            rows_max: options.outbox_rows_max,
        };
        let checkpointer = match options.checkpoint_every_ms {
            0 => None,
            every_ms => Some(Checkpointer::start(
                &options.place,
                every_ms,
                options.wal_bytes_max,
            )?),
        };
        Ok(Self {
            connection,
            checkpointer,
            place: options.place.clone(),
            bounds: options.bounds,
            outbox,
            owner_epoch: opened.owner_epoch,
            index: Index(0),
            history_may_be_lost: opened.history_may_be_lost,
            unsynced: false,
        })
    }

    /// This start found that power was lost under `synchronous = normal`, or that the database was restored from a
    /// backup: the incarnation is new.
    #[must_use]
    pub const fn history_may_be_lost(&self) -> bool {
        self.history_may_be_lost
    }

    /// Where the database is, for readers.
    #[must_use]
    pub const fn place(&self) -> &Place {
        &self.place
    }

    /// The checkpointer's counters; `None` without its thread.
    #[must_use]
    pub fn checkpoint_counters(&self) -> Option<Arc<checkpoint::Counters>> {
        self.checkpointer.as_ref().map(Checkpointer::counters)
    }

    /// The loss ledger from the rows alone, as of the last commit.
    ///
    /// # Errors
    /// The database's.
    pub fn recount(&self) -> Result<Recount, StoreError> {
        Ok(recount(&self.connection)?)
    }

    /// Empties the log now, on this thread; for simulators and for closing.
    ///
    /// # Errors
    /// The database's.
    pub fn checkpoint(&mut self) -> Result<(), StoreError> {
        if self.unsynced() {
            return Err(StoreError::Unsynced(UNSYNCED_BEFORE.to_owned()));
        }
        let done = checkpoint::checkpoint(&self.connection, "TRUNCATE");
        if matches!(done, Err(StoreError::Unsynced(_))) {
            self.unsynced = true;
            resync::note(&self.place);
        }
        done.map(|_| ())
    }

    /// An fsync has failed, here or in the checkpointer: nothing may be written any more.
    fn unsynced(&self) -> bool {
        self.unsynced
            || self.checkpointer.as_ref().is_some_and(|checkpointer| {
                checkpointer.counters().unsynced.load(Ordering::Acquire)
            })
    }

    fn commit(&mut self, writes: &WriteSet) -> Result<(), CommitError> {
        let transaction =
            Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let owner_epoch = meta_value(&self.connection, own_meta::OWNER_EPOCH)?;
        if owner_epoch != Some(self.owner_epoch) {
            return Err(CommitError::Broken(format!(
                "another backend took the database over (owner epoch {owner_epoch:?}, ours {})",
                self.owner_epoch
            )));
        }
        write::write(&self.connection, self.owner_epoch, writes)?;
        let outbox = self.outbox.after(&self.connection, writes.outbox.len())?;
        transaction.commit()?;
        self.outbox = outbox;
        Ok(())
    }
}

impl Store for SqliteStore {
    fn submit(&mut self, writes: &WriteSet) -> Result<Index, CommitError> {
        if !writes.is_empty() {
            if self.unsynced() {
                return Err(CommitError::Unsynced(UNSYNCED_BEFORE.to_owned()));
            }
            let committed = self.commit(writes);
            if matches!(committed, Err(CommitError::Unsynced(_))) {
                self.unsynced = true;
                resync::note(&self.place);
            }
            committed?;
            if let Some(checkpointer) = &self.checkpointer {
                checkpointer
                    .counters()
                    .commits
                    .fetch_add(1, Ordering::Relaxed);
            }
        }
        self.index.0 += 1;
        Ok(self.index)
    }

    fn durable(&self) -> Index {
        self.index
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        load::load(&self.connection, self.owner_epoch, self.bounds)
    }

    fn session(
        &mut self,
        principal: Id,
        session: u64,
    ) -> Result<Option<SessionLastRow>, StoreError> {
        Ok(find::session(&self.connection, principal, session)?)
    }

    fn sent(&mut self, principal: Id, session: u64, n: u64) -> Result<Option<Sent>, StoreError> {
        Ok(find::sent(&self.connection, principal, session, n)?)
    }

    fn walk_back(
        &mut self,
        conversation: Id,
        rows_max: u32,
        tell: &mut dyn FnMut(Id, u64, u64, Sent),
    ) -> Result<(), StoreError> {
        Ok(find::newest_ids(
            &self.connection,
            conversation,
            rows_max,
            tell,
        )?)
    }

    fn idempotency_key(
        &mut self,
        principal: Id,
        key_hash: u128,
    ) -> Result<Option<IdempotencyKeyRow>, StoreError> {
        Ok(find::idempotency_key(
            &self.connection,
            principal,
            key_hash,
        )?)
    }

    fn conversation(&mut self, id: Id) -> Result<Option<LoadedConversation>, StoreError> {
        match find::conversation(&self.connection, id)? {
            Some(row) => Ok(Some(find::with_state(&self.connection, row)?)),
            None => Ok(None),
        }
    }

    fn visitor(&mut self, id: Id) -> Result<Option<VisitorRow>, StoreError> {
        Ok(find::visitor(&self.connection, id)?)
    }

    fn pending(&mut self, conversation: Id, above: u64, up_to: u64) -> Result<Pending, StoreError> {
        Ok(find::pending(
            &self.connection,
            conversation,
            above,
            above,
            up_to,
        )?)
    }

    fn old_messages(&mut self, after: Id, before_us: u64) -> Result<OldMessages, StoreError> {
        Ok(retention::old_messages(&self.connection, after, before_us)?)
    }

    fn old_keys(&mut self, after: (Id, u128), before_us: u64) -> Result<OldKeys, StoreError> {
        Ok(retention::old_keys(&self.connection, after, before_us)?)
    }

    fn synthetic(&mut self) -> Result<Synthetic, StoreError> {
        Ok(retention::synthetic(&self.connection)?)
    }

    fn close(mut self) -> Result<(), StoreError> {
        if let Some(checkpointer) = self.checkpointer.take() {
            let counters = checkpointer.counters();
            drop(checkpointer);
            self.unsynced |= counters.unsynced.load(Ordering::Acquire);
        }
        if self.unsynced {
            return Err(StoreError::Unsynced(UNSYNCED_BEFORE.to_owned()));
        }
        open::set_synchronous(&self.connection, Synchronous::Full)?;
        set_meta(&self.connection, own_meta::CLEAN, 1)?;
        self.checkpoint()?;
        open::checkpoint_on_close(&self.connection, true)?;
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

/// How much waits to be told to others.
///
/// **The rule at the bound.** The oldest rows leave, in the transaction of those that come: whoever has not fetched
/// them by then has to read the conversations themselves.
#[derive(Debug, Clone, Copy)]
struct Outbox {
    rows: u64,
    rows_max: u64,
}

impl Outbox {
    /// As it is with some rows more; the oldest are removed if they are too many.
    fn after(self, connection: &Connection, more: usize) -> rusqlite::Result<Self> {
        let rows = self.rows + more as u64;
        let excess = rows.saturating_sub(self.rows_max);
        if more == 0 || excess == 0 {
            return Ok(Self { rows, ..self });
        }
        let removed = connection
            .prepare_cached(
                "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox ORDER BY id LIMIT ?1)",
            )?
            .execute([excess.cast_signed()])?;
        Ok(Self {
            rows: rows - removed as u64,
            ..self
        })
    }
}

struct Opened {
    owner_epoch: u64,
    history_may_be_lost: bool,
}

/// One synchronised transaction: a power loss after it cannot make this owner's time look like a clean end.
fn become_owner(connection: &Connection, options: &StoreOptions) -> Result<Opened, StoreError> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let last_epoch = meta_value(connection, own_meta::OWNER_EPOCH)?;
    let clean = meta_value(connection, own_meta::CLEAN)? == Some(1);
    let was_full = meta_value(connection, own_meta::SYNCHRONOUS_FULL)? == Some(1);
    let last_boot = boot_id(connection)?;
    let same_boot = last_boot.as_deref() == Some(options.boot_id.as_str());
    let copied = meta_value(connection, own_meta::COPIED)? == Some(1);
    let power_lost = last_epoch.is_some() && !clean && !was_full && !same_boot;
    let last_incarnation = meta_value(connection, meta::INCARNATION)?;
    if copied || power_lost || last_incarnation.is_none() {
        let random = (options.random >> (u64::BITS - INCARNATION_BITS)).max(1);
        // Two equal ones in a row would leave the clients in the belief that nothing happened.
        let repeated = last_incarnation == Some(random);
        set_meta(connection, meta::INCARNATION, random + u64::from(repeated))?;
    }
    if copied {
        connection.execute("DELETE FROM meta WHERE key = ?1", [own_meta::COPIED])?;
        tracing::warn!(
            "the database was restored from a backup: clients are told that newer messages may be gone (new incarnation)"
        );
    } else if power_lost {
        tracing::warn!(
            "the machine stopped while synchronous = normal: the newest messages may be gone; clients are told \
             (new incarnation). synchronous = \"full\" prevents it"
        );
    }
    let owner_epoch = last_epoch.unwrap_or(0) + 1;
    set_meta(connection, own_meta::OWNER_EPOCH, owner_epoch)?;
    set_meta(connection, own_meta::CLEAN, 0)?;
    set_meta(
        connection,
        own_meta::SYNCHRONOUS_FULL,
        u64::from(options.synchronous == Synchronous::Full),
    )?;
    connection.execute(
        "INSERT OR REPLACE INTO meta_text (key, value) VALUES (?1, ?2)",
        (own_meta::BOOT_ID, &options.boot_id),
    )?;
    let widgets: i64 = connection.query_row("SELECT count(*) FROM widget", [], |row| row.get(0))?;
    if widgets == 0 {
        let set = WriteSet {
            widgets: vec![default_widget(options.site_id)],
            ..WriteSet::default()
        };
        write::write(connection, owner_epoch, &set)?;
    }
    transaction.commit()?;
    Ok(Opened {
        owner_epoch,
        history_may_be_lost: copied || power_lost,
    })
}

fn default_widget(site_id: u32) -> WidgetRow {
    WidgetRow {
        site_id,
        id: 1,
        key: "default".to_owned(),
        name: "Tidegate".to_owned(),
        greeting: String::new(),
        accent: String::new(),
        allowed_origins: Vec::new(),
        settings_json: "{}".to_owned(),
    }
}

/// How an owner left its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its number.
    pub owner_epoch: u64,
    /// It closed in order.
    pub clean: bool,
    /// The boot of the machine under which it wrote.
    pub boot_id: Option<String>,
    /// See [`meta::JOURNAL_TURN`].
    pub journal_turn: u64,
    /// It is a copy of another database, not opened since.
    pub restored: bool,
}

/// How the last owner left a database that nobody has open; `None`: there is none.
///
/// # Errors
/// If it cannot be read.
pub fn standing(place: &Place) -> Result<Option<Standing>, StoreError> {
    if place.vfs.is_none() && !place.path.exists() {
        return Ok(None);
    }
    let connection = place.open_reader()?;
    if migrate::version(&connection)? == 0 {
        return Ok(None);
    }
    let value = |key| Ok::<_, rusqlite::Error>(meta_value(&connection, key)?.unwrap_or(0));
    Ok(Some(Standing {
        owner_epoch: value(own_meta::OWNER_EPOCH)?,
        clean: value(own_meta::CLEAN)? == 1,
        boot_id: boot_id(&connection)?,
        journal_turn: value(meta::JOURNAL_TURN)?,
        restored: value(own_meta::COPIED)? == 1,
    }))
}

/// The boot of the machine under which the last owner wrote.
fn boot_id(connection: &Connection) -> rusqlite::Result<Option<String>> {
    connection
        .query_row(
            "SELECT value FROM meta_text WHERE key = ?1",
            [own_meta::BOOT_ID],
            |row| row.get(0),
        )
        .optional()
}

/// One fact about the whole database.
pub fn meta_value(connection: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT value FROM meta WHERE key = ?1")?
        .query_row([key], |row| row.get::<_, i64>(0).map(i64::cast_unsigned))
        .optional()
}

fn set_meta(connection: &Connection, key: &str, value: u64) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)")?
        .execute((key, value.cast_signed()))
        .map(|_| ())
}

/// Where the database of a data directory is, for commands that work on it while no backend runs.
#[must_use]
pub fn database_path(config: &Config) -> PathBuf {
    place(config).path
}
