//! What is old enough to be removed, a bounded step at a time. Looked up by the turn and removed by its WriteSet:
//! each step costs the turn that takes it no more than [`MESSAGES_PER_STEP_MAX`] rows read and as many removed.

use rusqlite::{Connection, Result, params};
use tidegate_protocol::Id;

use super::rows;
use crate::engine::kinds::{Content, Role};
use crate::engine::loaded::{OldKeys, OldMessages, Pending, Synthetic, SyntheticConversation};
use crate::engine::rows::ErasureRow;

/// Conversations looked at in one step.
const CONVERSATIONS_PER_STEP_MAX: u32 = 64;
/// Messages removed in one step.
const MESSAGES_PER_STEP_MAX: u32 = 256;
/// People of the load generator removed in one step.
const PEOPLE_PER_STEP_MAX: u32 = 256;
/// Keys looked at in one step.
const KEYS_PER_STEP_MAX: u32 = 512;

/// Conversations behind `after`, in the order in which they were begun, with what they have of messages older than
/// `before_us`. One that was begun later than that has none, so the walk ends there.
pub fn old_messages(connection: &Connection, after: Id, before_us: u64) -> Result<OldMessages> {
    // Ids sort by the millisecond in which they were made.
    let below = Id::new(before_us / 1_000 + 1, 0);
    let mut conversations = connection.prepare_cached(
        "SELECT conversation.id, conversation.site_id, coalesce(visitor_delivered, 0), coalesce(agent_delivered, 0)
         FROM conversation LEFT JOIN marks ON marks.conversation = conversation.id
         WHERE conversation.id > ?1 AND conversation.id < ?2 ORDER BY conversation.id LIMIT ?3",
    )?;
    let mut found = conversations.query(params![
        rows::blob(after),
        rows::blob(below),
        CONVERSATIONS_PER_STEP_MAX
    ])?;
    let mut step = OldMessages::default();
    let (mut looked, mut rows_left) = (0, MESSAGES_PER_STEP_MAX);
    let mut before = after;
    while let Some(row) = found.next()? {
        looked += 1;
        let run = old_run(connection, row, before_us, rows_left)?;
        let rows = u32::try_from(run.rows).unwrap_or(u32::MAX);
        let conversation = run.conversation;
        if rows > 0 {
            step.runs.push(run);
        }
        rows_left = rows_left.saturating_sub(rows);
        if rows_left == 0 {
            // The last one may have more: the next step begins with it.
            step.next = Some(before);
            return Ok(step);
        }
        before = conversation;
    }
    step.next = (looked == CONVERSATIONS_PER_STEP_MAX).then_some(before);
    Ok(step)
}

/// The oldest messages of one conversation, as far as they are old; times never go back within one.
fn old_run(
    connection: &Connection,
    conversation: &rusqlite::Row<'_>,
    before_us: u64,
    rows_max: u32,
) -> Result<ErasureRow> {
    let (visitor_has, agent_has) = (rows::bits(conversation, 2)?, rows::bits(conversation, 3)?);
    let mut run = ErasureRow {
        site_id: conversation.get(1)?,
        conversation: rows::id(conversation, 0)?,
        seq: 0,
        rows: 0,
        sent_by_sessions: 0,
        delivered: Pending::default(),
        expired: Pending::default(),
    };
    let mut messages = connection.prepare_cached(
        "SELECT seq, at_us, content, sender_role, n FROM message WHERE conversation = ?1 ORDER BY seq LIMIT ?2",
    )?;
    let mut found = messages.query(params![rows::blob(run.conversation), rows_max])?;
    while let Some(row) = found.next()? {
        let seq = rows::bits(row, 0)?;
        if rows::bits(row, 1)? >= before_us {
            break;
        }
        run.seq = seq;
        run.rows += 1;
        if row.get::<_, u8>(2)? != Content::Text.code() {
            continue;
        }
        run.sent_by_sessions += u64::from(rows::bits(row, 4)? > 0);
        let from_visitor = row.get::<_, u8>(3)? == Role::Visitor.code();
        let has = if from_visitor { agent_has } else { visitor_has };
        let into = if seq <= has {
            &mut run.delivered
        } else {
            &mut run.expired
        };
        if from_visitor {
            into.to_agent += 1;
        } else {
            into.to_visitor += 1;
        }
    }
    Ok(run)
}

/// Some of what the load generator left: conversations of its visitors; when none is left, visitors; then agents. What
/// is found is removed, or changed so that it can be, and not found again: there is nothing to go on from.
pub fn synthetic(connection: &Connection) -> Result<Synthetic> {
    let first = rows::blob(Id::synthetic(0));
    let mut left = Synthetic::default();
    let mut conversations = connection.prepare_cached(
        // By visitor (conversation_by_visitor): theirs are the last run of that index.
        "SELECT conversation.id, conversation.site_id, coalesce(visitor_delivered, 0), coalesce(agent_delivered, 0)
         FROM conversation LEFT JOIN marks ON marks.conversation = conversation.id
         WHERE conversation.visitor >= ?1 ORDER BY conversation.visitor, conversation.id LIMIT ?2",
    )?;
    let mut found = conversations.query(params![first, CONVERSATIONS_PER_STEP_MAX])?;
    let mut rows_left = MESSAGES_PER_STEP_MAX;
    while let Some(row) = found.next()?
        && rows_left > 0
    {
        let run = old_run(connection, row, u64::MAX, rows_left)?;
        let rows = u32::try_from(run.rows).unwrap_or(u32::MAX);
        let whole = rows < rows_left;
        rows_left = rows_left.saturating_sub(rows);
        left.conversations
            .push(SyntheticConversation { run, whole });
    }
    if left.conversations.is_empty() {
        left.visitors = ids(
            connection,
            "SELECT id FROM visitor WHERE id >= ?1 ORDER BY id LIMIT ?2",
        )?;
    }
    if left.is_empty() {
        left.agents = ids(
            connection,
            "SELECT id FROM agent WHERE id >= ?1 ORDER BY id LIMIT ?2",
        )?;
    }
    Ok(left)
}

fn ids(connection: &Connection, sql: &str) -> Result<Vec<Id>> {
    let mut statement = connection.prepare_cached(sql)?;
    let first = rows::blob(Id::synthetic(0));
    let found = statement.query_map(params![first, PEOPLE_PER_STEP_MAX], |row| rows::id(row, 0))?;
    found.collect()
}

/// Idempotency keys behind `after` that were used before `before_us`.
pub fn old_keys(connection: &Connection, after: (Id, u128), before_us: u64) -> Result<OldKeys> {
    let mut keys = connection.prepare_cached(
        "SELECT principal, key_hash, at_us FROM idempotency_key
         WHERE (principal, key_hash) > (?1, ?2) ORDER BY principal, key_hash LIMIT ?3",
    )?;
    let mut found = keys.query(params![
        rows::blob(after.0),
        after.1.to_be_bytes(),
        KEYS_PER_STEP_MAX
    ])?;
    let mut step = OldKeys::default();
    let mut looked = 0;
    while let Some(row) = found.next()? {
        looked += 1;
        let key = (
            rows::id(row, 0)?,
            u128::from_be_bytes(row.get::<_, [u8; 16]>(1)?),
        );
        step.next = Some(key);
        if rows::bits(row, 2)? < before_us {
            step.keys.push(key);
        }
    }
    if looked < KEYS_PER_STEP_MAX {
        step.next = None;
    }
    Ok(step)
}
