//! Everything that the engine needs to stand where it stood, in one read transaction.

use std::cmp::Reverse;
use std::collections::HashSet;

use rusqlite::{Connection, Result};

use super::find::{self, RunBounds};
use super::recount::{figures, in_words};
use super::{StoreError, rows};
use crate::engine::kinds::Status;
use crate::engine::loaded::{LATELY_US, Loaded, LoadedConversation};
use crate::engine::rows::{MessageRow, MetaRow, SessionLastRow, meta};

/// How much of it is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadBounds {
    /// Bytes of texts; the conversations in which somebody spoke last come first.
    pub window_bytes_max: usize,
    /// Sessions; the newest come first.
    pub sessions_max: usize,
}

/// How many of a conversation's newest messages are loaded at most; what is colder is read when asked for.
const MESSAGES_PER_CONVERSATION_MAX: u64 = 64;
/// How many messages are loaded in all: 50 ms of a start. They serve those who were chatting when the last process
/// ended and reconnect at once; a backlog that waits for somebody who is offline is read when they come.
const MESSAGES_MAX: usize = 16_384;
/// Bytes that a message costs beside its texts.
const MESSAGE_BYTES: usize = size_of::<MessageRow>();

/// Of the newest conversations at most so many are looked at for those that ended lately.
const LATELY_CLOSED_MAX: u32 = 4_096;

/// Reads it all.
pub fn load(
    connection: &Connection,
    owner_epoch: u64,
    bounds: LoadBounds,
) -> Result<Loaded, StoreError> {
    let snapshot = connection.unchecked_transaction()?;
    let open = format!("status <> {}", Status::Closed.code());
    let mut loaded = Loaded {
        incarnation: super::sqlite::meta_value(connection, meta::INCARNATION)?.unwrap_or(1),
        owner_epoch,
        meta: all(
            connection,
            "SELECT key, value FROM meta ORDER BY key",
            |row| {
                Ok(MetaRow {
                    key: row.get(0)?,
                    value: rows::bits(row, 1)?,
                })
            },
        )?,
        widgets: all(
            connection,
            &format!("SELECT {} FROM widget ORDER BY site_id, id", rows::WIDGET),
            rows::widget,
        )?,
        agents: all(
            connection,
            &format!("SELECT {} FROM agent ORDER BY id", rows::AGENT),
            rows::agent,
        )?,
        agent_statuses: all(
            connection,
            &format!(
                "SELECT {} FROM agent_status ORDER BY agent",
                rows::AGENT_STATUS
            ),
            rows::agent_status,
        )?,
        canned_replies: all(
            connection,
            &format!(
                "SELECT {} FROM canned_reply WHERE NOT deleted ORDER BY id",
                rows::CANNED_REPLY
            ),
            rows::canned_reply,
        )?,
        visitors: all(
            connection,
            &format!(
                "SELECT {} FROM visitor WHERE id IN (SELECT visitor FROM conversation WHERE {open}) ORDER BY id",
                rows::VISITOR
            ),
            |row| rows::visitor(row, 0),
        )?,
        ring_cursors: all(
            connection,
            &format!(
                "SELECT {} FROM ring_cursor ORDER BY gateway, shard",
                rows::RING_CURSOR
            ),
            rows::ring_cursor,
        )?,
        sessions: sessions(connection, &open, bounds.sessions_max)?,
        ..Loaded::default()
    };
    let conversations = all(
        connection,
        &format!(
            "SELECT {} FROM conversation WHERE {open} ORDER BY id",
            rows::CONVERSATION
        ),
        rows::conversation,
    )?;
    for row in conversations {
        loaded
            .conversations
            .push(find::with_state(connection, row)?);
    }
    let counted = figures(connection)?;
    loaded.ledger = counted.ledger;
    if let Some(stored) = counted.stored
        && stored != counted.ledger
    {
        tracing::error!(
            counters = in_words(&stored),
            rows = in_words(&counted.ledger),
            "the ledger's counters and the rows disagree: messages are lost, or were counted wrong. The rows hold; keep \
             a copy of the database, and see `tidegate ledger --recount`"
        );
    }
    loaded.ledger_stored = counted.stored;
    let newest_conversation_at_us = connection.query_row(
        "SELECT coalesce(max(max(opened_at_us, assigned_at_us, closed_at_us)), 0) FROM conversation",
        [],
        |row| rows::bits(row, 0),
    )?;
    loaded.clock_floor_us = counted.newest_at_us.max(newest_conversation_at_us);
    lately_closed(connection, &mut loaded)?;
    messages(connection, &mut loaded, bounds.window_bytes_max)?;
    drop(snapshot);
    Ok(loaded)
}

/// Conversations that ended at most [`LATELY_US`] before the newest thing that is stored, with the names of their
/// visitors: somebody who is still connected may not have been told.
fn lately_closed(connection: &Connection, loaded: &mut Loaded) -> Result<()> {
    let since_us = loaded.clock_floor_us.saturating_sub(LATELY_US);
    let newest = all(
        connection,
        &format!(
            "SELECT {} FROM conversation WHERE status = {} ORDER BY id DESC LIMIT {LATELY_CLOSED_MAX}",
            rows::CONVERSATION,
            Status::Closed.code()
        ),
        rows::conversation,
    )?;
    let mut known: HashSet<_> = loaded.visitors.iter().map(|row| row.id).collect();
    for row in newest
        .into_iter()
        .filter(|row| row.closed_at_us >= since_us)
    {
        if known.insert(row.visitor) {
            loaded
                .visitors
                .extend(find::visitor(connection, row.visitor)?);
        }
        loaded
            .lately_closed
            .push(find::with_state(connection, row)?);
    }
    Ok(())
}

/// Newest messages of the conversations above that a side lacks, within the bounds; conversations in which somebody
/// spoke last come first.
fn messages(connection: &Connection, loaded: &mut Loaded, window_bytes_max: usize) -> Result<()> {
    let conversations = loaded.conversations.iter().chain(&loaded.lately_closed);
    let mut newest_first: Vec<&LoadedConversation> = conversations.collect();
    newest_first
        .sort_by_key(|conversation| Reverse((conversation.last_at_us, conversation.row.id)));
    for conversation in newest_first {
        // What both sides have is asked for by a fresh page at most, and read then: most of a start is saved.
        let had = conversation
            .marks
            .visitor_delivered
            .min(conversation.marks.agent_delivered);
        let above = conversation
            .seq
            .saturating_sub(MESSAGES_PER_CONVERSATION_MAX)
            .max(had);
        let before = (loaded.messages.len(), loaded.text.len());
        loaded.messages.extend(find::messages_above(
            connection,
            conversation.row.id,
            above,
            RunBounds {
                rows_max: u32::MAX,
                text_bytes_max: usize::MAX,
            },
            &mut loaded.text,
        )?);
        let bytes = loaded.messages.len() * MESSAGE_BYTES + loaded.text.len();
        if bytes > window_bytes_max || loaded.messages.len() > MESSAGES_MAX {
            // A run with a hole would be worse than none: this conversation's go again.
            loaded.messages.truncate(before.0);
            loaded.text.truncate(before.1);
            break;
        }
    }
    loaded
        .messages
        .sort_unstable_by_key(|message| (message.conversation, message.seq));
    Ok(())
}

/// Sessions of the visitors and agents of open conversations, the newest first.
fn sessions(
    connection: &Connection,
    open: &str,
    sessions_max: usize,
) -> Result<Vec<SessionLastRow>> {
    let mut found = all(
        connection,
        &format!(
            "SELECT {} FROM session WHERE principal IN (
                 SELECT visitor FROM conversation WHERE {open}
                 UNION SELECT agent FROM conversation WHERE {open} AND agent IS NOT NULL)
             ORDER BY last_at_us DESC LIMIT {sessions_max}",
            rows::SESSION
        ),
        rows::session,
    )?;
    found.reverse();
    Ok(found)
}

/// Rows of a small table.
pub fn all<T>(
    connection: &Connection,
    sql: &str,
    read: fn(&rusqlite::Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    connection
        .prepare_cached(sql)?
        .query_map([], read)?
        .collect()
}
