//! Between the engine's rows and SQLite's values, one function per direction and kind.

use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};
use tidegate_protocol::Id;

use crate::engine::kinds::{AgentStatus, CloseReason, Content, Role, Status, SystemEvent};
use crate::engine::rows::{
    AgentRow, AgentStatusRow, CannedReplyRow, ConversationRow, IdempotencyKeyRow, MarksRow,
    MessageRow, RingCursorRow, SessionLastRow, TextRange, VisitorRow, WidgetRow,
};

/// An id as its blob.
pub const fn blob(id: Id) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// An id from its blob.
pub fn id(row: &Row<'_>, column: usize) -> Result<Id> {
    row.get::<_, [u8; 16]>(column)
        .map(|bytes| Id(u128::from_be_bytes(bytes)))
}

/// An id from a column that may be NULL.
pub fn id_or_null(row: &Row<'_>, column: usize) -> Result<Option<Id>> {
    Ok(row
        .get::<_, Option<[u8; 16]>>(column)?
        .map(|bytes| Id(u128::from_be_bytes(bytes))))
}

/// A 64-bit number, stored as the signed number of the same bits.
pub fn bits(row: &Row<'_>, column: usize) -> Result<u64> {
    row.get::<_, i64>(column).map(i64::cast_unsigned)
}

/// A number of an enumeration; one that this version does not know is an error, not a guess.
fn kind<T>(row: &Row<'_>, column: usize, from_code: fn(u8) -> Option<T>) -> Result<T> {
    let code: u8 = row.get(column)?;
    from_code(code).ok_or_else(|| {
        Error::FromSqlConversionFailure(
            column,
            Type::Integer,
            format!("no value has the number {code}").into(),
        )
    })
}

pub const VISITOR: &str = "id, site_id, widget, name, created_at_us, locale, family";

pub fn visitor(row: &Row<'_>, at: usize) -> Result<VisitorRow> {
    Ok(VisitorRow {
        id: id(row, at)?,
        site_id: row.get(at + 1)?,
        widget: row.get(at + 2)?,
        name: row.get(at + 3)?,
        created_at_us: bits(row, at + 4)?,
        locale: row.get(at + 5)?,
        family: row.get(at + 6)?,
    })
}

pub const CONVERSATION: &str = "id, site_id, widget, visitor, status, close_reason, agent, opened_at_us, \
    assigned_at_us, first_assigned_at_us, closed_at_us, queue_order, page, synthetic";

pub fn conversation(row: &Row<'_>) -> Result<ConversationRow> {
    Ok(ConversationRow {
        id: id(row, 0)?,
        site_id: row.get(1)?,
        widget: row.get(2)?,
        visitor: id(row, 3)?,
        status: kind(row, 4, Status::from_code)?,
        close_reason: kind(row, 5, CloseReason::from_code)?,
        agent: id_or_null(row, 6)?,
        opened_at_us: bits(row, 7)?,
        assigned_at_us: bits(row, 8)?,
        first_assigned_at_us: bits(row, 9)?,
        closed_at_us: bits(row, 10)?,
        queue_order: row.get(11)?,
        page: row.get(12)?,
        synthetic: row.get(13)?,
    })
}

/// Of `whole_message`.
pub const MESSAGE: &str = "conversation, seq, site_id, at_us, sender_role, sender, session, n, body_hash, content, \
    system, close_reason, sender_name, text";

/// A message; its two texts are appended to `text`.
pub fn message(row: &Row<'_>, text: &mut String) -> Result<MessageRow> {
    let mut keep = |column: usize| -> Result<TextRange> {
        let value = row.get_ref(column)?.as_str()?;
        let start = u32::try_from(text.len());
        let bytes = u32::try_from(value.len());
        let (Ok(start), Ok(bytes)) = (start, bytes) else {
            return Err(Error::IntegralValueOutOfRange(column, i64::MAX));
        };
        text.push_str(value);
        Ok(TextRange { start, bytes })
    };
    Ok(MessageRow {
        sender_name: keep(12)?,
        text: keep(13)?,
        conversation: id(row, 0)?,
        seq: bits(row, 1)?,
        site_id: row.get(2)?,
        at_us: bits(row, 3)?,
        sender_role: kind(row, 4, Role::from_code)?,
        sender: id_or_null(row, 5)?,
        session: bits(row, 6)?,
        n: bits(row, 7)?,
        body_hash: bits(row, 8)?,
        content: kind(row, 9, Content::from_code)?,
        system: kind(row, 10, SystemEvent::from_code)?,
        close_reason: kind(row, 11, CloseReason::from_code)?,
    })
}

pub const SESSION: &str =
    "principal, session, site_id, last_n, last_hash, last_conversation, last_seq, last_at_us";

pub fn session(row: &Row<'_>) -> Result<SessionLastRow> {
    Ok(SessionLastRow {
        principal: id(row, 0)?,
        session: bits(row, 1)?,
        site_id: row.get(2)?,
        last_n: bits(row, 3)?,
        last_hash: bits(row, 4)?,
        last_conversation: id(row, 5)?,
        last_seq: bits(row, 6)?,
        last_at_us: bits(row, 7)?,
    })
}

pub const MARKS: &str =
    "conversation, site_id, visitor_delivered, visitor_read, agent_delivered, agent_read";

pub fn marks(row: &Row<'_>) -> Result<MarksRow> {
    Ok(MarksRow {
        conversation: id(row, 0)?,
        site_id: row.get(1)?,
        visitor_delivered: bits(row, 2)?,
        visitor_read: bits(row, 3)?,
        agent_delivered: bits(row, 4)?,
        agent_read: bits(row, 5)?,
    })
}

pub const AGENT: &str = "id, site_id, login, name, role, capacity, disabled, password_hash, tokens_valid_from_s, created_at_us";

pub fn agent(row: &Row<'_>) -> Result<AgentRow> {
    Ok(AgentRow {
        id: id(row, 0)?,
        site_id: row.get(1)?,
        login: row.get(2)?,
        name: row.get(3)?,
        role: kind(row, 4, Role::from_code)?,
        capacity: row.get(5)?,
        disabled: row.get(6)?,
        password_hash: row.get(7)?,
        tokens_valid_from_s: bits(row, 8)?,
        created_at_us: bits(row, 9)?,
    })
}

pub const AGENT_STATUS: &str = "agent, site_id, status, hlc, node";

pub fn agent_status(row: &Row<'_>) -> Result<AgentStatusRow> {
    Ok(AgentStatusRow {
        agent: id(row, 0)?,
        site_id: row.get(1)?,
        status: kind(row, 2, AgentStatus::from_code)?,
        hlc: bits(row, 3)?,
        node: row.get(4)?,
    })
}

pub const WIDGET: &str = "site_id, id, key, name, greeting, accent, allowed_origins, settings_json";

pub fn widget(row: &Row<'_>) -> Result<WidgetRow> {
    let origins: String = row.get(6)?;
    Ok(WidgetRow {
        site_id: row.get(0)?,
        id: row.get(1)?,
        key: row.get(2)?,
        name: row.get(3)?,
        greeting: row.get(4)?,
        accent: row.get(5)?,
        allowed_origins: serde_json::from_str(&origins)
            .map_err(|error| Error::FromSqlConversionFailure(6, Type::Text, error.into()))?,
        settings_json: row.get(7)?,
    })
}

pub const CANNED_REPLY: &str = "id, site_id, agent, shortcut, text, deleted";

pub fn canned_reply(row: &Row<'_>) -> Result<CannedReplyRow> {
    Ok(CannedReplyRow {
        id: id(row, 0)?,
        site_id: row.get(1)?,
        agent: id_or_null(row, 2)?,
        shortcut: row.get(3)?,
        text: row.get(4)?,
        deleted: row.get(5)?,
    })
}

pub const IDEMPOTENCY_KEY: &str =
    "principal, key_hash, site_id, body_hash, conversation, seq, at_us";

pub fn idempotency_key(row: &Row<'_>) -> Result<IdempotencyKeyRow> {
    Ok(IdempotencyKeyRow {
        principal: id(row, 0)?,
        key_hash: id(row, 1)?.0,
        site_id: row.get(2)?,
        body_hash: bits(row, 3)?,
        conversation: id(row, 4)?,
        seq: bits(row, 5)?,
        at_us: bits(row, 6)?,
    })
}

pub const RING_CURSOR: &str = "gateway, shard, position";

pub fn ring_cursor(row: &Row<'_>) -> Result<RingCursorRow> {
    Ok(RingCursorRow {
        gateway: bits(row, 0)?,
        shard: row.get(1)?,
        position: bits(row, 2)?,
    })
}
