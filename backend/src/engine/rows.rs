//! What the store keeps, as plain structs: one per table. No SQL here and no text in `MessageRow` itself
//! (it borrows from [`super::write_set::WriteSet::text`], so that a turn of a thousand messages allocates nothing).
//!
//! Times are µs since the Unix epoch by the server's clock. `site_id` stands on every row (DESIGN §8, "made to
//! grow"). An absent id is `Id(0)` on the wire and `None` here.

use serde::{Deserialize, Serialize};
use tidegate_protocol::Id;

use super::kinds::{AgentStatus, CloseReason, Content, Role, Status, SystemEvent};
use super::ledger::Ledger;
use super::loaded::Pending;

/// A place in `WriteSet::text` (or `Loaded`'s): bytes `start .. start + bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TextRange {
    /// First byte.
    pub start: u32,
    /// How many bytes.
    pub bytes: u32,
}

/// A visitor, stored with their first conversation (a token writes nothing).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitorRow {
    /// Site.
    pub site_id: u32,
    /// The token's `sub`.
    pub id: Id,
    /// The widget they came through.
    pub widget: u32,
    /// What they call themselves; may be empty.
    pub name: String,
    /// First conversation.
    pub created_at_us: u64,
    /// BCP 47, as the newest Hello said.
    pub locale: String,
    /// `Family` code of the newest Hello.
    pub family: u8,
}

/// A conversation. Written when its state changes, **not** with every message: the highest seq and the newest
/// text are those of `message` (`max(seq)`), and a reader takes them from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationRow {
    /// Site.
    pub site_id: u32,
    /// Time-ordered id.
    pub id: Id,
    /// Which widget's visitor; at most one open conversation per (visitor, widget).
    pub widget: u32,
    /// The visitor.
    pub visitor: Id,
    /// Waiting, chatting, closed.
    pub status: Status,
    /// `None` unless closed.
    pub close_reason: CloseReason,
    /// The agent who has it, or had it last when it closed.
    pub agent: Option<Id>,
    /// Begun.
    pub opened_at_us: u64,
    /// Newest assignment to an agent; 0 = never.
    pub assigned_at_us: u64,
    /// First assignment; 0 = never. Waiting time = this − opened.
    pub first_assigned_at_us: u64,
    /// Closed; 0 = open.
    pub closed_at_us: u64,
    /// Order in the queue while waiting: the smaller the sooner. Signed: back to the head goes below the head.
    pub queue_order: i64,
    /// Where the visitor was when it began.
    pub page: String,
    /// Marked load (bench): kept out of statistics, removed by `--clean`.
    pub synthetic: bool,
}

/// One message. Key: (conversation, seq), gapless from 1. A text's id: (sender, session, n), unique when n > 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRow {
    /// Site.
    pub site_id: u32,
    /// Conversation.
    pub conversation: Id,
    /// 1, 2, 3 …
    pub seq: u64,
    /// Accepted.
    pub at_us: u64,
    /// Who wrote it.
    pub sender_role: Role,
    /// Their id; `None` for system messages.
    pub sender: Option<Id>,
    /// Their name at that moment (for `AgentJoined` and `Transferred`: the agent's).
    pub sender_name: TextRange,
    /// First half of the message's id; for REST the hash of the Idempotency-Key; 0 for system messages.
    pub session: u64,
    /// Second half; 0 for system messages and REST sends without a key.
    pub n: u64,
    /// Hash of the body: the same id with another hash is `id_conflict`.
    pub body_hash: u64,
    /// Text or system.
    pub content: Content,
    /// The text.
    pub text: TextRange,
    /// What a system message says.
    pub system: SystemEvent,
    /// With `SystemEvent::Closed`: why.
    pub close_reason: CloseReason,
}

/// `last` of a session: the highest n accepted and its first answer. 64 bytes, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLastRow {
    /// Site.
    pub site_id: u32,
    /// Whose session; key: (principal, session).
    pub principal: Id,
    /// Random per tab.
    pub session: u64,
    /// Highest n accepted.
    pub last_n: u64,
    /// Hash of its body.
    pub last_hash: u64,
    /// Where it went.
    pub last_conversation: Id,
    /// Its seq there.
    pub last_seq: u64,
    /// When.
    pub last_at_us: u64,
}

/// The marks of both sides: max-registers, so writing an older row after a newer one must not lower any
/// (`max(old, new)` per column). At most 100 ms behind memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarksRow {
    /// Site.
    pub site_id: u32,
    /// Conversation.
    pub conversation: Id,
    /// The visitor has everything up to here.
    pub visitor_delivered: u64,
    /// The visitor saw everything up to here.
    pub visitor_read: u64,
    /// A device of the agent's has everything up to here.
    pub agent_delivered: u64,
    /// The agent saw everything up to here.
    pub agent_read: u64,
}

/// An agent or supervisor, as an administrator made them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentRow {
    /// Site.
    pub site_id: u32,
    /// Id (the token's `sub`).
    pub id: Id,
    /// Login name, unique per site.
    pub login: String,
    /// Name that visitors see.
    pub name: String,
    /// Agent or Supervisor.
    pub role: Role,
    /// Conversations at once.
    pub capacity: u32,
    /// No login, no assignment.
    pub disabled: bool,
    /// argon2id in PHC form.
    pub password_hash: String,
    /// Tokens issued before this second are refused by HTTP (password reset).
    pub tokens_valid_from_s: u64,
    /// Made.
    pub created_at_us: u64,
}

/// The status an agent chose: last writer wins by the hybrid logical clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatusRow {
    /// Site.
    pub site_id: u32,
    /// Agent.
    pub agent: Id,
    /// Online, away, offline.
    pub status: AgentStatus,
    /// Hybrid logical clock: ms << 16 | counter.
    pub hlc: u64,
    /// Who wrote it: the tie-breaker.
    pub node: u32,
}

/// A widget: the public face of a shop's chat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WidgetRow {
    /// Site.
    pub site_id: u32,
    /// Number; in visitors' tokens as `wid`.
    pub id: u32,
    /// Name in URLs and `data-widget`, unique per site; `default` exists always.
    pub key: String,
    /// The shop's name.
    pub name: String,
    /// First line in an empty chat; may be empty.
    pub greeting: String,
    /// CSS colour; may be empty.
    pub accent: String,
    /// Origins that may embed it, beside the configuration's.
    pub allowed_origins: Vec<String>,
    /// Other public settings as a JSON object (logo, position, locale).
    pub settings_json: String,
}

/// A canned reply. `agent` absent: everybody's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CannedReplyRow {
    /// Site.
    pub site_id: u32,
    /// Id.
    pub id: Id,
    /// Whose.
    pub agent: Option<Id>,
    /// What is typed after `/`.
    pub shortcut: String,
    /// What it becomes.
    pub text: String,
    /// Removed.
    pub deleted: bool,
}

/// An Idempotency-Key that was used: a repeat is answered with the first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKeyRow {
    /// Site.
    pub site_id: u32,
    /// Whose; key: (principal, key_hash).
    pub principal: Id,
    /// First 128 bits of SHA-256 of the header.
    pub key_hash: u128,
    /// Hash of the body: another body under the same key is a conflict.
    pub body_hash: u64,
    /// The first answer.
    pub conversation: Id,
    /// The first answer.
    pub seq: u64,
    /// The first answer.
    pub at_us: u64,
}

/// How far a gateway's `to_backend` ring was applied. Stored in the transaction of what it applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingCursorRow {
    /// Instance of the gateway process.
    pub gateway: u64,
    /// Ring.
    pub shard: u16,
    /// Position behind the last record applied.
    pub position: u64,
}

/// An input that failed twice. Kept for a person to look at; never applied again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineRow {
    /// Site.
    pub site_id: u32,
    /// Id: the reference that the client was given.
    pub id: Id,
    /// When.
    pub at_us: u64,
    /// Gateway it came from; 0 = HTTP or a timer.
    pub gateway: u64,
    /// Ring.
    pub shard: u16,
    /// Where in the ring it ended.
    pub position: u64,
    /// Who sent it.
    pub principal: Id,
    /// What went wrong.
    pub error: String,
    /// The input as the journal writes it.
    pub input_json: String,
}

/// The oldest messages of a conversation, to be removed; the sums of all removals are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasureRow {
    /// Site.
    pub site_id: u32,
    /// Conversation; the key.
    pub conversation: Id,
    /// Messages up to here go.
    pub seq: u64,
    /// So many.
    pub rows: u64,
    /// Texts among them whose id was (session, n).
    pub sent_by_sessions: u64,
    /// Texts among them that their recipient had acknowledged.
    pub delivered: Pending,
    /// Texts among them that it had not.
    pub expired: Pending,
}

/// The loss ledger as of the turn that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerRow {
    /// Site; the key.
    pub site_id: u32,
    /// The turn's time.
    pub at_us: u64,
    /// The figures.
    pub ledger: Ledger,
}

/// A fact about the whole database: the incarnation's base, the clock's ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRow {
    /// Name; see [`meta`].
    pub key: String,
    /// Value.
    pub value: u64,
}

/// Names of [`MetaRow`]s that the engine writes.
pub mod meta {
    /// Ceiling of the hybrid logical clock: no stamp above it was ever given out.
    pub const HLC_CEILING: &str = "hlc_ceiling";
    /// Incarnation of every conversation of this database; the store changes it when history may be lost.
    pub const INCARNATION: &str = "incarnation";
    /// Number of the newest turn that is in the journal and committed; 0: the journal ended before this database did.
    pub const JOURNAL_TURN: &str = "journal_turn";
}

/// Something others will be told of (webhooks, other nodes); committed with the turn that caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxRow {
    /// Site.
    pub site_id: u32,
    /// Time-ordered id.
    pub id: Id,
    /// When.
    pub at_us: u64,
    /// `conversation.opened`, `conversation.assigned`, `conversation.closed`, …
    pub kind: String,
    /// About.
    pub conversation: Id,
    /// Details as JSON.
    pub payload_json: String,
}
