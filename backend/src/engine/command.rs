//! What HTTP asks of the turn, and what it is answered. Every one is an input of the turn like any other: it is
//! journalled, applied in order, and answered after the commit of the turn that applied it.
//!
//! Whoever builds a command has checked the token. Whether the *person* may do it to *that* conversation is the
//! engine's to decide.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use tidegate_protocol::Id;

use super::kinds::{AgentStatus, CloseReason, Outcome, Reason, Role, Status};
use super::rows::{AgentRow, CannedReplyRow, WidgetRow};

/// Somebody who was identified by a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The token's `sub`.
    pub id: Id,
    /// The token's role.
    pub role: Role,
    /// The token's name; may be empty.
    pub name: String,
    /// The token's widget (visitors; 0 otherwise).
    pub widget: u32,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpCommand {
    /// Send a text. A visitor's without a conversation goes to their open one, begun if there is none.
    /// Answered `Sent`.
    Send {
        /// Who.
        by: Actor,
        /// Where; agents must say.
        conversation: Option<Id>,
        /// The text; limits are checked by the engine.
        text: String,
        /// First 128 bits of SHA-256 of the Idempotency-Key; `None`: no key, no dedupe.
        key_hash: Option<u128>,
        /// Where the visitor is.
        page: String,
    },
    /// Begin a conversation, or find the open one. Answered `Conversation`.
    Start {
        /// A visitor.
        by: Actor,
        /// Where the visitor is.
        page: String,
    },
    /// Close one; a visitor may leave the id out. Answered `Conversation`.
    Close {
        /// Who.
        by: Actor,
        /// Which.
        conversation: Option<Id>,
    },
    /// Hand over, or back to the queue's head. Answered `Conversation`.
    Transfer {
        /// Its agent or a supervisor.
        by: Actor,
        /// Which.
        conversation: Id,
        /// To whom; `None`: the queue.
        agent: Option<Id>,
    },
    /// Take a waiting one out of turn. Answered `Conversation`.
    Take {
        /// An agent.
        by: Actor,
        /// Which.
        conversation: Id,
    },
    /// Cumulative marks, as an Ack would set them. `GET messages?after=SEQ` sends it for what the client says
    /// that it has. Answered `Done`.
    Acknowledge {
        /// Who.
        by: Actor,
        /// Which.
        conversation: Id,
        /// Has everything up to here.
        delivered: u64,
        /// Saw everything up to here.
        read: u64,
    },
    /// The visitor's open conversation (status, position, ETA). Changes nothing. Answered `Conversation`, or
    /// refused `no_such_conversation`.
    FindOpen {
        /// A visitor.
        by: Actor,
    },
    /// One conversation as its participants see it. Changes nothing. Answered `Conversation`.
    Find {
        /// Participant or supervisor (an agent may look at a waiting one).
        by: Actor,
        /// Which.
        conversation: Id,
    },
    /// Every open conversation of an agent, with live marks. Changes nothing. Answered `Conversations`.
    FindMine {
        /// An agent.
        by: Actor,
    },
    /// The head of the queue, at most `limit`. Changes nothing. Answered `Conversations`.
    FindWaiting {
        /// An agent.
        by: Actor,
        /// At most this many (the engine caps it at 500).
        limit: u32,
    },
    /// Set an agent's status. Answered `Agent`.
    SetStatus {
        /// The agent, or a supervisor.
        by: Actor,
        /// Whose.
        agent: Id,
        /// To what.
        status: AgentStatus,
    },
    /// Make or change an agent (all columns). Closes their connections when disabled. Answered `Done`.
    PutAgent {
        /// The row.
        agent: AgentRow,
    },
    /// Make or change a widget. Answered `Done`.
    PutWidget {
        /// The row.
        widget: WidgetRow,
    },
    /// One step of removing what the load generator left. Answered `Cleaned`.
    CleanSynthetic,
    /// Make, change or remove canned replies. Answered `Done`.
    PutCannedReplies {
        /// The rows.
        replies: Vec<CannedReplyRow>,
    },
}

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HttpAnswer {
    /// Stored (or there was nothing to store).
    Done,
    /// What became of a send. `Busy` and `Refused` come as [`Refusal`] instead.
    Sent(SentAnswer),
    /// One conversation.
    Conversation(Box<ConversationView>),
    /// Several.
    Conversations(Vec<ConversationView>),
    /// An agent's presence.
    Agent(AgentView),
    /// A step was taken.
    Cleaned {
        /// There may be more: take another step.
        more: bool,
    },
}

/// Accepted, duplicate, or id_conflict (the key was used with another body).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAnswer {
    /// What became of it.
    pub outcome: Outcome,
    /// Where it went.
    pub conversation: Id,
    /// Its place there.
    pub seq: u64,
    /// When.
    pub at_us: u64,
}

/// A conversation as participants see it; the schema's `ConversationState`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversationView {
    /// Which.
    pub conversation: Id,
    /// Of its history.
    pub incarnation: u64,
    /// Widget.
    pub widget: u32,
    /// Waiting, chatting, closed.
    pub status: Status,
    /// Why closed.
    pub close_reason: CloseReason,
    /// Highest so far.
    pub seq: u64,
    /// The visitor.
    pub visitor: Id,
    /// Their name.
    pub visitor_name: String,
    /// Connected now.
    pub visitor_online: bool,
    /// The agent; `None` while waiting.
    pub agent: Option<Id>,
    /// Their name.
    pub agent_name: String,
    /// Begun.
    pub opened_at_us: u64,
    /// Newest assignment; 0 = none.
    pub assigned_at_us: u64,
    /// Over; 0 = open.
    pub closed_at_us: u64,
    /// Marks.
    pub visitor_delivered: u64,
    /// Marks.
    pub visitor_read: u64,
    /// Marks.
    pub agent_delivered: u64,
    /// Marks.
    pub agent_read: u64,
    /// 1 = next; 0 = not waiting.
    pub position: u32,
    /// 0 = unknown.
    pub eta_ms: u32,
    /// First visitor message without an answer; 0 = none.
    pub unanswered_since_us: u64,
    /// At most 120 bytes of the newest text.
    pub last_text: String,
    /// When it came.
    pub last_at_us: u64,
    /// Where the visitor was.
    pub page: String,
}

/// An agent as others see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Who.
    pub id: Id,
    /// Name.
    pub name: String,
    /// Agent or supervisor.
    pub role: Role,
    /// Online, away, offline.
    pub status: AgentStatus,
    /// Open conversations.
    pub open: u32,
    /// At most.
    pub capacity: u32,
    /// No login.
    pub disabled: bool,
}

/// A request that was not carried out. HTTP: 503 for `Busy`, 403 for `Forbidden`, 404 for `NoSuch…`, 409 for
/// `ConversationClosed`, `AgentUnavailable` and `InvalidState`, 413 for `MessageTooLong`, 422 for
/// `EmptyMessage`, 500 for `Internal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}: {detail}", reason.name())]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Expected, found, what to do.
    pub detail: Cow<'static, str>,
    /// With `Busy`: try again after this; else 0.
    pub retry_ms: u32,
}

impl Refusal {
    /// A refusal that will be repeated.
    #[must_use]
    pub const fn new(reason: Reason, detail: &'static str) -> Self {
        Self {
            reason,
            detail: Cow::Borrowed(detail),
            retry_ms: 0,
        }
    }

    /// Not now.
    #[must_use]
    pub const fn busy(retry_ms: u32) -> Self {
        Self {
            reason: Reason::Busy,
            detail: Cow::Borrowed("the backend cannot take it now; try again"),
            retry_ms,
        }
    }
}
