//! The loss ledger derived from the rows alone: messages, marks, sessions and what retention removed. It knows
//! nothing of how the engine counts, so an agreement of both says something.
//!
//! All of it is read in one transaction, so it is one moment of a running system: the figures that the engine stored
//! ([`Recount::stored`]) belong to the same commit as the rows, and must be equal.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, OptionalExtension, Result};

use super::open::Place;
use super::{StoreError, rows};
use crate::engine::kinds::{Content, Role};
use crate::engine::ledger::{Account, Ledger};

/// How long another connection's lock is waited for.
const BUSY_MS_MAX: u64 = 5_000;

/// What the rows say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recount {
    /// Counted from messages, marks and what was removed.
    pub ledger: Ledger,
    /// As the engine stored it in the same commit; `None` before its first.
    pub stored: Option<Ledger>,
    /// Texts that sessions were told are accepted: the sum of their `last`.
    pub promised: u64,
    /// Texts with a session's id that are stored, or were removed by retention.
    pub kept: u64,
    /// The newest message's time.
    pub newest_at_us: u64,
}

impl Recount {
    /// Nothing is lost, doubled or counted wrong; otherwise a sentence for each thing that is.
    ///
    /// # Errors
    /// The sentences.
    pub fn check(&self) -> std::result::Result<(), String> {
        let mut wrong = Vec::new();
        if !self.ledger.is_closed() {
            wrong.push(format!(
                "the rows do not add up: {}",
                in_words(&self.ledger)
            ));
        }
        if let Some(stored) = self.stored
            && stored != self.ledger
        {
            wrong.push(format!(
                "the counters say {} and the rows say {}",
                in_words(&stored),
                in_words(&self.ledger)
            ));
        }
        if self.promised != self.kept {
            wrong.push(format!(
                "sessions were promised {} texts and {} are stored",
                self.promised, self.kept
            ));
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join("; "))
        }
    }
}

pub(super) fn in_words(ledger: &Ledger) -> String {
    let account = |account: &Account| {
        format!(
            "accepted {}, delivered {}, pending {}, expired {}",
            account.accepted, account.delivered, account.pending, account.expired
        )
    };
    format!(
        "to agents {}; to visitors {}",
        account(&ledger.to_agent),
        account(&ledger.to_visitor)
    )
}

/// Recounts a database that may be in use, or not.
///
/// # Errors
/// A sentence: there is no database, it is not one of ours, or it cannot be read.
pub fn recount_at(path: &Path) -> std::result::Result<Recount, StoreError> {
    Ok(recount(&open(path)?)?)
}

/// Recounts what stands at a place: for whoever speaks to the database through a VFS of their own.
///
/// # Errors
/// It cannot be opened or read.
pub fn recount_in(place: &Place) -> std::result::Result<Recount, StoreError> {
    Ok(recount(&place.open_reader()?)?)
}

/// The figures as the engine stored them last: one row, whatever the size of the database.
///
/// # Errors
/// As [`recount_at`].
pub fn stored_at(path: &Path) -> std::result::Result<Option<Ledger>, StoreError> {
    Ok(stored(&open(path)?)?)
}

fn open(path: &Path) -> std::result::Result<Connection, StoreError> {
    if !path.exists() {
        return Err(StoreError::Refused(format!(
            "there is no database at {}: start Tidegate once, or name its data directory: --data-dir DIRECTORY",
            path.display()
        )));
    }
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS_MAX))?;
    connection.pragma_update(None, "query_only", true)?;
    let newest = super::migrate::MIGRATIONS
        .last()
        .map_or(0, |migration| migration.version);
    let found = super::migrate::version(&connection)?;
    if found != newest {
        return Err(StoreError::Refused(format!(
            "the database {} has schema version {found} and this tidegate counts version {newest}: start this \
             tidegate on it once, or use the one that wrote it",
            path.display()
        )));
    }
    Ok(connection)
}

/// Counts every message, conversation by conversation, inside SQLite: 0.2 s of processor time for a million of
/// them. One read transaction, the caller's or its own.
pub fn recount(connection: &Connection) -> Result<Recount> {
    let snapshot = if connection.is_autocommit() {
        Some(connection.unchecked_transaction()?)
    } else {
        None
    };
    let mut found = figures(connection)?;
    found.promised = connection.query_row(
        // A session counts up by one and nothing is skipped: its `last` is how many of its texts were accepted.
        "SELECT coalesce(sum(last_n), 0) FROM session",
        [],
        |row| rows::bits(row, 0),
    )?;
    drop(snapshot);
    Ok(found)
}

/// The same without what sessions were promised: what a start needs, in the caller's transaction.
pub(super) fn figures(connection: &Connection) -> Result<Recount> {
    let mut found = messages(connection)?;
    removed(connection, &mut found)?;
    found.stored = stored(connection)?;
    Ok(found)
}

/// What is there: each text is delivered or pending by its recipient's mark.
fn messages(connection: &Connection) -> Result<Recount> {
    let sql = format!(
        // The conversations drive (CROSS JOIN keeps that order): each one's messages are one run of the table.
        "SELECT coalesce(sum(from_visitor), 0),                          -- accepted, to agents
             coalesce(sum(from_visitor AND seq <= agent_has), 0),        -- delivered
             coalesce(sum(from_visitor AND seq > agent_has), 0),         -- pending
             coalesce(sum(NOT from_visitor), 0),                         -- accepted, to visitors
             coalesce(sum(NOT from_visitor AND seq <= visitor_has), 0),  -- delivered
             coalesce(sum(NOT from_visitor AND seq > visitor_has), 0),   -- pending
             coalesce(sum(n > 0), 0),                                    -- of a session, not of REST
             coalesce(max(at_us), 0)
         FROM (
             SELECT seq, n, at_us, sender_role = {visitor} AS from_visitor,
                 coalesce(agent_delivered, 0) AS agent_has, coalesce(visitor_delivered, 0) AS visitor_has
             FROM conversation
                 LEFT JOIN marks ON marks.conversation = conversation.id
                 CROSS JOIN message ON message.conversation = conversation.id AND content = {text})",
        visitor = Role::Visitor.code(),
        text = Content::Text.code(),
    );
    connection.prepare_cached(&sql)?.query_row([], |row| {
        let account = |first| {
            Ok::<_, rusqlite::Error>(Account {
                accepted: rows::bits(row, first)?,
                delivered: rows::bits(row, first + 1)?,
                pending: rows::bits(row, first + 2)?,
                expired: 0,
            })
        };
        Ok(Recount {
            ledger: Ledger {
                to_agent: account(0)?,
                to_visitor: account(3)?,
            },
            kept: rows::bits(row, 6)?,
            newest_at_us: rows::bits(row, 7)?,
            ..Recount::default()
        })
    })
}

/// What retention removed was accepted too: delivered then, or expired by it.
fn removed(connection: &Connection, found: &mut Recount) -> Result<()> {
    connection.query_row(
        "SELECT coalesce(sum(delivered_to_agent), 0), coalesce(sum(expired_to_agent), 0),
             coalesce(sum(delivered_to_visitor), 0), coalesce(sum(expired_to_visitor), 0),
             coalesce(sum(sent_by_sessions), 0)
         FROM erased",
        [],
        |row| {
            let Ledger {
                to_agent,
                to_visitor,
            } = &mut found.ledger;
            for (account, first) in [(to_agent, 0), (to_visitor, 2)] {
                let (delivered, expired) = (rows::bits(row, first)?, rows::bits(row, first + 1)?);
                account.accepted += delivered + expired;
                account.delivered += delivered;
                account.expired += expired;
            }
            found.kept += rows::bits(row, 4)?;
            Ok(())
        },
    )
}

/// The row that the engine keeps.
fn stored(connection: &Connection) -> Result<Option<Ledger>> {
    connection
        .query_row(
            "SELECT accepted_to_agent, delivered_to_agent, pending_to_agent, expired_to_agent,
                 accepted_to_visitor, delivered_to_visitor, pending_to_visitor, expired_to_visitor
             FROM ledger",
            [],
            |row| {
                let account = |first| {
                    Ok::<_, rusqlite::Error>(Account {
                        accepted: rows::bits(row, first)?,
                        delivered: rows::bits(row, first + 1)?,
                        pending: rows::bits(row, first + 2)?,
                        expired: rows::bits(row, first + 3)?,
                    })
                };
                Ok(Ledger {
                    to_agent: account(0)?,
                    to_visitor: account(4)?,
                })
            },
        )
        .optional()
}
