//! Point reads, each by a key or a short run of one: what the turn looks up on its own connection, and what load
//! and the readers build on.

use rusqlite::{Connection, OptionalExtension, Result, params};
use tidegate_protocol::Id;

use super::rows;
use crate::engine::kinds::{Content, Role, Status};
use crate::engine::loaded::{LoadedConversation, Pending, Sent};
use crate::engine::rows::{
    ConversationRow, IdempotencyKeyRow, MarksRow, MessageRow, SessionLastRow, VisitorRow,
};
use tidegate_protocol::limits::LAST_TEXT_BYTES_MAX;

const TEXT: u8 = Content::Text.code();
const BY_VISITOR: u8 = Role::Visitor.code();
const BY_BOT: u8 = Role::Bot.code();

/// `last` of a session.
pub fn session(
    connection: &Connection,
    principal: Id,
    session: u64,
) -> Result<Option<SessionLastRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {} FROM session WHERE principal = ?1 AND session = ?2",
            rows::SESSION
        ))?
        .query_row(
            params![rows::blob(principal), session.cast_signed()],
            rows::session,
        )
        .optional()
}

/// What a key was answered.
pub fn idempotency_key(
    connection: &Connection,
    principal: Id,
    key_hash: u128,
) -> Result<Option<IdempotencyKeyRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {} FROM idempotency_key WHERE principal = ?1 AND key_hash = ?2",
            rows::IDEMPOTENCY_KEY
        ))?
        .query_row(
            params![rows::blob(principal), key_hash.to_be_bytes()],
            rows::idempotency_key,
        )
        .optional()
}

/// Messages looked at in the conversation that a session wrote to last.
const SENT_WALK_ROWS_MAX: u32 = 256;
/// Open conversations of an agent looked through, and messages in each: an agent's session writes to several. And
/// the newest ones of a visitor: a page that stays open writes to one after the other.
const SENT_WALK_CONVERSATIONS_MAX: u32 = 16;
const SENT_WALK_ROWS_EACH_MAX: u32 = 64;

/// The message under an id, walking back from the session's `last`. `None` also for one that lies too far back:
/// a client repeats only what it was not yet answered, and that is near.
pub fn sent(connection: &Connection, principal: Id, session: u64, n: u64) -> Result<Option<Sent>> {
    let Some(last) = self::session(connection, principal, session)? else {
        return Ok(None);
    };
    let lies_back = last.last_n.checked_sub(n);
    if n == 0 || lies_back.is_none_or(|texts| texts >= u64::from(SENT_WALK_ROWS_MAX)) {
        return Ok(None);
    }
    let id = (principal, session, n);
    let found = walk_back(
        connection,
        last.last_conversation,
        last.last_seq,
        id,
        SENT_WALK_ROWS_MAX,
    )?;
    if found.is_some() {
        return Ok(found);
    }
    let mut statement = connection.prepare_cached(
        "SELECT id FROM (SELECT id FROM conversation WHERE agent = ?1 AND status = 1 ORDER BY id DESC LIMIT ?2)
         UNION ALL
         SELECT id FROM (SELECT id FROM conversation WHERE visitor = ?1 ORDER BY id DESC LIMIT ?2)",
    )?;
    let open = statement.query_map(
        params![rows::blob(principal), SENT_WALK_CONVERSATIONS_MAX],
        |row| rows::id(row, 0),
    )?;
    for conversation in open {
        let found = walk_back(
            connection,
            conversation?,
            u64::MAX,
            id,
            SENT_WALK_ROWS_EACH_MAX,
        )?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn walk_back(
    connection: &Connection,
    conversation: Id,
    from: u64,
    (principal, session, n): (Id, u64, u64),
    rows_max: u32,
) -> Result<Option<Sent>> {
    connection
        .prepare_cached(
            "SELECT conversation, seq, at_us, body_hash FROM (
                 SELECT * FROM message WHERE conversation = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT ?3)
             WHERE session = ?4 AND n = ?5 AND sender = ?6",
        )?
        .query_row(
            params![
                rows::blob(conversation),
                i64::try_from(from).unwrap_or(i64::MAX),
                rows_max,
                session.cast_signed(),
                n.cast_signed(),
                rows::blob(principal)
            ],
            |row| {
                Ok(Sent {
                    conversation: rows::id(row, 0)?,
                    seq: rows::bits(row, 1)?,
                    at_us: rows::bits(row, 2)?,
                    body_hash: rows::bits(row, 3)?,
                })
            },
        )
        .optional()
}

/// The newest texts of a conversation with their ids.
pub fn newest_ids(
    connection: &Connection,
    conversation: Id,
    rows_max: u32,
    tell: &mut dyn FnMut(Id, u64, u64, Sent),
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT conversation, seq, at_us, body_hash, sender, session, n FROM message
         WHERE conversation = ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    let mut found = statement.query(params![rows::blob(conversation), rows_max])?;
    while let Some(row) = found.next()? {
        let n = rows::bits(row, 6)?;
        if n > 0 {
            let sent = Sent {
                conversation: rows::id(row, 0)?,
                seq: rows::bits(row, 1)?,
                at_us: rows::bits(row, 2)?,
                body_hash: rows::bits(row, 3)?,
            };
            tell(rows::id(row, 4)?, rows::bits(row, 5)?, n, sent);
        }
    }
    Ok(())
}

/// A visitor's row; `None`: they never began a conversation.
pub fn visitor(connection: &Connection, id: Id) -> Result<Option<VisitorRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {} FROM visitor WHERE id = ?1",
            rows::VISITOR
        ))?
        .query_row([rows::blob(id)], |row| rows::visitor(row, 0))
        .optional()
}

/// A conversation's row.
pub fn conversation(connection: &Connection, id: Id) -> Result<Option<ConversationRow>> {
    connection
        .prepare_cached(&format!(
            "SELECT {} FROM conversation WHERE id = ?1",
            rows::CONVERSATION
        ))?
        .query_row([rows::blob(id)], rows::conversation)
        .optional()
}

/// Both sides' marks; zeros when there is no row.
pub fn marks(connection: &Connection, site_id: u32, conversation: Id) -> Result<MarksRow> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {} FROM marks WHERE conversation = ?1",
            rows::MARKS
        ))?
        .query_row([rows::blob(conversation)], rows::marks)
        .optional()?;
    Ok(found.unwrap_or(MarksRow {
        site_id,
        conversation,
        visitor_delivered: 0,
        visitor_read: 0,
        agent_delivered: 0,
        agent_read: 0,
    }))
}

/// Highest seq, of a message that is there or was removed by retention; 0 = no message.
pub fn seq(connection: &Connection, conversation: Id, erased: u64) -> Result<u64> {
    connection
        .prepare_cached("SELECT coalesce(max(seq), 0) FROM message WHERE conversation = ?1")?
        .query_row([rows::blob(conversation)], |row| rows::bits(row, 0))
        .map(|seq: u64| seq.max(erased))
}

/// Messages up to here were removed by retention; 0 = none.
pub fn erased(connection: &Connection, conversation: Id) -> Result<u64> {
    connection
        .prepare_cached("SELECT seq FROM erased WHERE conversation = ?1")?
        .query_row([rows::blob(conversation)], |row| rows::bits(row, 0))
        .optional()
        .map(Option::unwrap_or_default)
}

/// Texts to the visitor above one seq and to the agent above another, none above `up_to`.
pub fn pending(
    connection: &Connection,
    conversation: Id,
    visitor_has: u64,
    agent_has: u64,
    up_to: u64,
) -> Result<Pending> {
    connection
        .prepare_cached(
            "SELECT count(*) FILTER (WHERE sender_role <> ?1 AND seq > ?4), count(*) FILTER (WHERE sender_role = ?1 AND seq > ?5)
             FROM message WHERE conversation = ?2 AND seq > ?3 AND seq <= ?6 AND content = ?7",
        )?
        .query_row(
            params![
                BY_VISITOR,
                rows::blob(conversation),
                visitor_has.min(agent_has).cast_signed(),
                visitor_has.cast_signed(),
                agent_has.cast_signed(),
                up_to.cast_signed(),
                TEXT
            ],
            |row| Ok(Pending { to_visitor: rows::bits(row, 0)?, to_agent: rows::bits(row, 1)? }),
        )
}

/// The newest text, cut at a character, and when it came.
pub fn last_text(connection: &Connection, conversation: Id) -> Result<(String, u64)> {
    let found = connection
        .prepare_cached(
            "SELECT text, at_us FROM whole_message WHERE conversation = ?1 AND content = ?2 ORDER BY seq DESC LIMIT 1",
        )?
        .query_row(params![rows::blob(conversation), TEXT], |row| {
            let text = row.get_ref(0)?.as_str()?;
            Ok((text[..text.floor_char_boundary(LAST_TEXT_BYTES_MAX)].to_owned(), rows::bits(row, 1)?))
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

/// When the first visitor text came that no agent text followed; 0 = none. A bot's is no agent's.
pub fn unanswered_since_us(connection: &Connection, conversation: Id) -> Result<u64> {
    connection
        .prepare_cached(
            "SELECT coalesce((
                 SELECT at_us FROM message
                 WHERE conversation = ?1 AND content = ?2 AND sender_role = ?3 AND seq > coalesce((
                     SELECT seq FROM message
                     WHERE conversation = ?1 AND content = ?2 AND sender_role NOT IN (?3, ?4)
                     ORDER BY seq DESC LIMIT 1), 0)
                 ORDER BY seq LIMIT 1), 0)",
        )?
        .query_row(
            params![rows::blob(conversation), TEXT, BY_VISITOR, BY_BOT],
            |row| rows::bits(row, 0),
        )
}

/// How much of a run of messages is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunBounds {
    /// Messages at most.
    pub rows_max: u32,
    /// The run ends with the message that reaches so many bytes of texts.
    pub text_bytes_max: usize,
}

/// Messages above a seq, in order; texts are appended to `text`.
pub fn messages_above(
    connection: &Connection,
    conversation: Id,
    above: u64,
    bounds: RunBounds,
    text: &mut String,
) -> Result<Vec<MessageRow>> {
    // A seq beyond the signed range is beyond every stored one.
    let above = i64::try_from(above).unwrap_or(i64::MAX);
    run(
        connection,
        "seq > ?2 ORDER BY seq",
        conversation,
        above,
        bounds,
        text,
    )
}

/// The newest messages below a seq, in order; texts are appended to `text`.
pub fn messages_below(
    connection: &Connection,
    conversation: Id,
    below: u64,
    bounds: RunBounds,
    text: &mut String,
) -> Result<Vec<MessageRow>> {
    let below = i64::try_from(below).unwrap_or(i64::MAX);
    let mut found = run(
        connection,
        "seq < ?2 ORDER BY seq DESC",
        conversation,
        below,
        bounds,
        text,
    )?;
    found.reverse();
    Ok(found)
}

fn run(
    connection: &Connection,
    condition: &str,
    conversation: Id,
    from: i64,
    bounds: RunBounds,
    text: &mut String,
) -> Result<Vec<MessageRow>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {} FROM whole_message WHERE conversation = ?1 AND {condition} LIMIT ?3",
        rows::MESSAGE
    ))?;
    let mut found = Vec::new();
    let before = text.len();
    let mut matching = statement.query(params![rows::blob(conversation), from, bounds.rows_max])?;
    while let Some(row) = matching.next()? {
        found.push(rows::message(row, text)?);
        if text.len() - before >= bounds.text_bytes_max {
            break;
        }
    }
    Ok(found)
}

/// A conversation's row with everything that the engine keeps beside it.
pub fn with_state(connection: &Connection, row: ConversationRow) -> Result<LoadedConversation> {
    let erased = self::erased(connection, row.id)?;
    let seq = self::seq(connection, row.id, erased)?;
    let marks = marks(connection, row.site_id, row.id)?;
    let (last_text, last_at_us) = last_text(connection, row.id)?;
    Ok(LoadedConversation {
        seq,
        erased,
        last_text,
        last_at_us,
        unanswered_since_us: if row.status == Status::Closed {
            0
        } else {
            unanswered_since_us(connection, row.id)?
        },
        pending: pending(
            connection,
            row.id,
            marks.visitor_delivered,
            marks.agent_delivered,
            seq,
        )?,
        marks,
        row,
    })
}
