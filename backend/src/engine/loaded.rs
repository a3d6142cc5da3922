//! What the engine is given: everything at start ([`Loaded`]), and single facts on demand ([`Need`] → [`Found`]).
//!
//! The engine keeps what is alive in memory and forgets the rest. Before an input is applied the turn asks
//! `Engine::needs(&input)`, looks each need up by one indexed point read on its own connection (bounded per turn
//! by `lookups_per_turn_max`; the turn ends early at the bound) and hands the answers in. So the engine stays
//! pure, and a replay over the same database finds the same facts.

use serde::{Deserialize, Serialize};
use tidegate_protocol::Id;

use super::ledger::Ledger;
use super::rows::{
    AgentRow, AgentStatusRow, CannedReplyRow, ConversationRow, ErasureRow, IdempotencyKeyRow,
    MarksRow, MessageRow, MetaRow, RingCursorRow, SessionLastRow, VisitorRow, WidgetRow,
};

/// Who stays connected is announced to a new backend within so long: gateways do it at a bounded rate, and who does not
/// hear for longer is closed as half-open. So long the end of a conversation may not have been told.
pub const LATELY_US: u64 = 120_000_000;

/// The first answer to a message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Where it went.
    pub conversation: Id,
    /// Its seq.
    pub seq: u64,
    /// When it was accepted.
    pub at_us: u64,
    /// Hash of its body.
    pub body_hash: u64,
}

/// Text messages by whose side has to receive them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pending {
    /// Written by the agent's side.
    pub to_visitor: u64,
    /// Written by the visitor.
    pub to_agent: u64,
}

/// A conversation with what the engine keeps beside its row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedConversation {
    /// The row.
    pub row: ConversationRow,
    /// Marks; all zero if none were stored.
    pub marks: MarksRow,
    /// Highest seq; 0 = no message yet.
    pub seq: u64,
    /// Messages up to here were removed by retention; 0 = none.
    pub erased: u64,
    /// When that was accepted.
    pub last_at_us: u64,
    /// The newest text (not system message), at most 120 bytes of it.
    pub last_text: String,
    /// First visitor message that no agent's followed; 0 = none.
    pub unanswered_since_us: u64,
    /// Text messages above the receiving side's delivered mark.
    pub pending: Pending,
}

/// What the engine begins with: all settings, every conversation that is not closed, and of those the newest
/// messages within `window_bytes_max`. Everything older is looked up when somebody asks for it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Incarnation of this database's conversations: new when history may have been lost.
    pub incarnation: u64,
    /// This owner's number; checked inside every commit.
    pub owner_epoch: u64,
    /// No stored time is later: the server's clock must start above it.
    pub clock_floor_us: u64,
    /// Facts about the whole database.
    pub meta: Vec<MetaRow>,
    /// All widgets.
    pub widgets: Vec<WidgetRow>,
    /// All agents.
    pub agents: Vec<AgentRow>,
    /// The status each chose last.
    pub agent_statuses: Vec<AgentStatusRow>,
    /// All canned replies that are not deleted.
    pub canned_replies: Vec<CannedReplyRow>,
    /// Visitors of the conversations below.
    pub visitors: Vec<VisitorRow>,
    /// Every conversation that is not closed, ordered by id.
    pub conversations: Vec<LoadedConversation>,
    /// Those that ended so lately that somebody who is still connected may not have been told.
    pub lately_closed: Vec<LoadedConversation>,
    /// The newest messages of both: per conversation a gapless run up to its `seq`, ordered by (conversation, seq).
    pub messages: Vec<MessageRow>,
    /// What the messages' ranges point into.
    pub text: String,
    /// Newest sessions of the people in those conversations, at most `sessions_max`.
    pub sessions: Vec<SessionLastRow>,
    /// How far each ring was applied.
    pub ring_cursors: Vec<RingCursorRow>,
    /// The loss ledger over all conversations, closed ones too, counted from the rows.
    pub ledger: Ledger,
    /// The same as it was stored last; `None` before the first time.
    pub ledger_stored: Option<Ledger>,
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
        /// Where it says that it goes; absent: a visitor's open conversation.
        to: Id,
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
    /// A partial acknowledgement of a backlog older than memory.
    Pending {
        /// Where.
        conversation: Id,
        /// Above which seq.
        above: u64,
        /// Not above this one: what came later is in memory.
        up_to: u64,
    },
    /// Messages that are old enough to be removed.
    OldMessages {
        /// Of conversations behind this one.
        after: Id,
        /// Accepted before.
        before_us: u64,
    },
    /// Idempotency-Keys that are old enough to be removed.
    OldKeys {
        /// Behind this one.
        after: (Id, u128),
        /// Used before.
        before_us: u64,
    },
    /// Something that the load generator left.
    Synthetic,
}

/// What a step of the sweep over messages found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OldMessages {
    /// The oldest messages of each conversation, as far as they are old.
    pub runs: Vec<ErasureRow>,
    /// Where the next step goes on; `None`: this was the last.
    pub next: Option<Id>,
}

/// What a step of the sweep over Idempotency-Keys found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OldKeys {
    /// Old ones.
    pub keys: Vec<(Id, u128)>,
    /// Where the next step goes on; `None`: this was the last.
    pub next: Option<(Id, u128)>,
}

/// Something of what the load generator left: conversations first, then people, as no step holds more than its bound.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Synthetic {
    /// Of its visitors.
    pub conversations: Vec<SyntheticConversation>,
    /// Visitors who have no conversation any more.
    pub visitors: Vec<Id>,
    /// Its agents, when no visitor is left.
    pub agents: Vec<Id>,
}

/// A conversation of a synthetic visitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyntheticConversation {
    /// Its oldest messages; all of them, if they are few enough for a step.
    pub run: ErasureRow,
    /// All of them.
    pub whole: bool,
}

impl Synthetic {
    /// Nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.conversations.is_empty() && self.visitors.is_empty() && self.agents.is_empty()
    }
}

/// The answer to a [`Need`], of the same kind. `None`: the store has no such row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// This session's last.
    Session(Option<SessionLastRow>),
    /// The message under that id.
    Sent(Option<Sent>),
    /// The visitor.
    Visitor(Option<VisitorRow>),
    /// The conversation.
    Conversation(Option<Box<LoadedConversation>>),
    /// The key's first answer.
    IdempotencyKey(Option<IdempotencyKeyRow>),
    /// The counts.
    Pending(Pending),
    /// One step's.
    OldMessages(OldMessages),
    /// One step's.
    OldKeys(OldKeys),
    /// One step's.
    Synthetic(Synthetic),
}
