//! What one turn asks the store to keep: a serialisable list of rows, never SQL. One WriteSet, one transaction.
//!
//! Rows of one kind are in the order in which they came about; a later row of the same key replaces an earlier
//! one (the engine already merges most). Order between kinds, for foreign keys: the order of the fields.
//! A WriteSet is kept and submitted again when a commit fails for a passing reason, so `submit` takes it by `&`.

use serde::{Deserialize, Serialize};
use tidegate_protocol::Id;

use super::rows::{
    AgentRow, AgentStatusRow, CannedReplyRow, ConversationRow, ErasureRow, IdempotencyKeyRow,
    LedgerRow, MarksRow, MessageRow, MetaRow, OutboxRow, QuarantineRow, RingCursorRow,
    SessionLastRow, TextRange, VisitorRow, WidgetRow,
};

/// Upserts, except `messages` and `idempotency_keys`, which are inserts: a repeat of their key is a bug and
/// fails the commit ([`CommitError`] `Fatal`).
///
/// [`CommitError`]: crate::store::CommitError
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WriteSet {
    /// The server's time of the turn.
    pub at_us: u64,
    /// Facts about the whole database.
    pub meta: Vec<MetaRow>,
    /// Settings.
    pub widgets: Vec<WidgetRow>,
    /// Settings.
    pub agents: Vec<AgentRow>,
    /// Presence.
    pub agent_statuses: Vec<AgentStatusRow>,
    /// Settings.
    pub canned_replies: Vec<CannedReplyRow>,
    /// New visitors, or new names of theirs.
    pub visitors: Vec<VisitorRow>,
    /// Conversations whose state changed.
    pub conversations: Vec<ConversationRow>,
    /// New messages.
    pub messages: Vec<MessageRow>,
    /// One per session that sent, with its newest `last`.
    pub sessions: Vec<SessionLastRow>,
    /// Messages that retention removes.
    pub erasures: Vec<ErasureRow>,
    /// Conversations whose messages are all erased, and which go as well, with their marks.
    pub conversations_gone: Vec<Id>,
    /// Visitors who go.
    pub visitors_gone: Vec<Id>,
    /// Agents who go.
    pub agents_gone: Vec<Id>,
    /// Idempotency-Keys that retention removes: (principal, key_hash).
    pub keys_gone: Vec<(Id, u128)>,
    /// New keys.
    pub idempotency_keys: Vec<IdempotencyKeyRow>,
    /// Merged with `max` per column.
    pub marks: Vec<MarksRow>,
    /// When the turn moved it.
    pub ledger: Option<LedgerRow>,
    /// For webhooks and other nodes.
    pub outbox: Vec<OutboxRow>,
    /// Inputs that failed twice.
    pub quarantine: Vec<QuarantineRow>,
    /// How far each ring was applied.
    pub ring_cursors: Vec<RingCursorRow>,
    /// Gateways that are gone: their cursors are removed.
    pub gateways_gone: Vec<u64>,
    /// What the rows' `TextRange`s point into.
    pub text: String,
}

impl WriteSet {
    /// Nothing to store (text alone counts for nothing).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Rows of all kinds.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.meta.len()
            + self.widgets.len()
            + self.agents.len()
            + self.agent_statuses.len()
            + self.canned_replies.len()
            + self.visitors.len()
            + self.conversations.len()
            + self.messages.len()
            + self.sessions.len()
            + self.idempotency_keys.len()
            + self.erasures.len()
            + self.conversations_gone.len()
            + self.visitors_gone.len()
            + self.agents_gone.len()
            + self.keys_gone.len()
            + self.marks.len()
            + usize::from(self.ledger.is_some())
            + self.outbox.len()
            + self.quarantine.len()
            + self.ring_cursors.len()
            + self.gateways_gone.len()
    }

    /// Nothing but ring cursors: worth a transaction only with other rows (inputs that changed nothing).
    #[must_use]
    pub fn is_cursors_only(&self) -> bool {
        self.rows() == self.ring_cursors.len()
    }

    /// Keeps a text and says where.
    ///
    /// # Panics
    /// Never in practice: a turn's texts are bounded far below 4 GiB by `turn_inputs_max`.
    pub fn push_text(&mut self, text: &str) -> TextRange {
        let start =
            u32::try_from(self.text.len()).expect("invariant: a turn's texts stay below 4 GiB");
        let bytes = u32::try_from(text.len()).expect("invariant: a turn's texts stay below 4 GiB");
        self.text.push_str(text);
        TextRange { start, bytes }
    }

    /// The text at a range that `push_text` gave out.
    #[must_use]
    pub fn text(&self, range: TextRange) -> &str {
        &self.text[range.start as usize..(range.start + range.bytes) as usize]
    }

    /// Empties it and keeps the capacity for the next turn.
    pub fn clear(&mut self) {
        self.at_us = 0;
        self.meta.clear();
        self.widgets.clear();
        self.agents.clear();
        self.agent_statuses.clear();
        self.canned_replies.clear();
        self.visitors.clear();
        self.conversations.clear();
        self.messages.clear();
        self.sessions.clear();
        self.idempotency_keys.clear();
        self.erasures.clear();
        self.conversations_gone.clear();
        self.visitors_gone.clear();
        self.agents_gone.clear();
        self.keys_gone.clear();
        self.marks.clear();
        self.ledger = None;
        self.outbox.clear();
        self.quarantine.clear();
        self.ring_cursors.clear();
        self.gateways_gone.clear();
        self.text.clear();
    }
}
