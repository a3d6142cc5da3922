//! What the engine is given: everything at start ([`Loaded`]), and single facts on demand ([`Need`] → [`Found`]).
//!
//! The engine keeps what is alive in memory and forgets the rest. Before an input is applied the turn asks
//! `Engine::needs(&input)`, looks each need up by one indexed point read on its own connection (bounded per turn
//! by `lookups_per_turn_max`; the turn ends early at the bound) and hands the answers in. So the engine stays
//! pure, and a replay over the same database finds the same facts.

use serde::{Deserialize, Serialize};
use tidegate_protocol::Id;

use super::rows::{
    AgentRow, AgentStatusRow, ConversationRow, IdempotencyKeyRow, MarksRow, MessageRow,
    RingCursorRow, SessionLastRow, VisitorRow, WidgetRow,
};

/// How many of a conversation's newest messages are loaded at start at most (only those that one side lacks).
pub const RECENT_MESSAGES_PER_CONVERSATION_MAX: usize = 64;

/// Everything the engine needs to stand where it stood.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Loaded {
    /// Incarnation of this database's history, never 0.
    pub incarnation: u64,
    /// Ceiling of the hybrid logical clock; 0 on a new database.
    pub hlc_ceiling: u64,
    /// The newest time that any row carries: server time goes on above it.
    pub newest_at_us: u64,
    /// All widgets; `default` is among them.
    pub widgets: Vec<WidgetRow>,
    /// All agents, disabled ones too.
    pub agents: Vec<AgentRow>,
    /// Their statuses.
    pub agent_statuses: Vec<AgentStatusRow>,
    /// Every conversation that is not closed.
    pub conversations: Vec<LoadedConversation>,
    /// Cursors of all gateways known.
    pub ring_cursors: Vec<RingCursorRow>,
    /// The loss ledger over *all* conversations, closed ones too, counted from the rows.
    pub ledger: LedgerCounts,
    /// What `LoadedConversation::recent`'s ranges point into.
    pub text: String,
}

/// Text messages (not system messages) by what became of them, per message and recipient side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LedgerCounts {
    /// Accepted from visitors: the agent's side is the recipient.
    pub accepted_to_agent: u64,
    /// Of these, at or below the agent side's delivered mark.
    pub delivered_to_agent: u64,
    /// Accepted from agents.
    pub accepted_to_visitor: u64,
    /// Of these, at or below the visitor side's delivered mark.
    pub delivered_to_visitor: u64,
    /// Removed unacknowledged by retention or erasure.
    pub expired: u64,
}

/// One conversation with what the engine keeps beside its row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadedConversation {
    /// The row.
    pub row: ConversationRow,
    /// `max(message.seq)`; 0 = none.
    pub seq: u64,
    /// The marks; zeros when there is no row.
    pub marks: MarksRow,
    /// Who.
    pub visitor: VisitorRow,
    /// Newest text message: its first bytes (at most 120, cut at a character).
    pub last_text: String,
    /// When the newest text message came; 0 = none.
    pub last_at_us: u64,
    /// First visitor text that no agent text followed; 0 = none.
    pub unanswered_since_us: u64,
    /// Text messages above the visitor side's delivered mark that an agent wrote.
    pub pending_to_visitor: u64,
    /// Text messages above the agent side's delivered mark that the visitor wrote.
    pub pending_to_agent: u64,
    /// The newest messages above `min(visitor_delivered, agent_delivered)`, ascending, without a hole up to
    /// `seq`, at most [`RECENT_MESSAGES_PER_CONVERSATION_MAX`]. At start their texts are in `Loaded::text`;
    /// from a lookup in `Found::Conversation`'s.
    pub recent: Vec<MessageRow>,
}

/// One point read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Need {
    /// The last of a session that is not in memory.
    Session {
        /// Whose.
        principal: Id,
        /// Which.
        session: u64,
    },
    /// The first answer to an older number of a session.
    Sent {
        /// Whose.
        principal: Id,
        /// Which.
        session: u64,
        /// Number.
        n: u64,
    },
    /// A visitor's row.
    Visitor {
        /// Which.
        id: Id,
    },
    /// A conversation that is not in memory (it is closed, or does not exist).
    Conversation {
        /// Which.
        id: Id,
    },
    /// An Idempotency-Key.
    IdempotencyKey {
        /// Whose.
        principal: Id,
        /// Hash.
        key_hash: u128,
    },
    /// How many text messages each side is sent above a seq (a partial acknowledgement of an old backlog).
    PendingAbove {
        /// Where.
        conversation: Id,
        /// Above which seq.
        above: u64,
        /// Not above this one: what came later is in memory.
        up_to: u64,
    },
}

/// The answer to a [`Need`], of the same kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Found {
    /// `None`: this session never sent.
    Session(Option<SessionLastRow>),
    /// `None`: no such message.
    Sent(Option<SentBefore>),
    /// `None`: not stored yet.
    Visitor(Option<VisitorRow>),
    /// `None`: no such conversation. The text is what `recent` points into.
    Conversation(Option<Box<LoadedConversation>>, String),
    /// `None`: never used.
    IdempotencyKey(Option<IdempotencyKeyRow>),
    /// Texts by agents and by the visitor in `above < seq <= up_to`.
    PendingAbove {
        /// Written by the agent's side.
        to_visitor: u64,
        /// Written by the visitor.
        to_agent: u64,
    },
}

/// What a number was answered with first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentBefore {
    /// Where it went.
    pub conversation: Id,
    /// Its seq.
    pub seq: u64,
    /// When.
    pub at_us: u64,
    /// Hash of its body.
    pub body_hash: u64,
}
