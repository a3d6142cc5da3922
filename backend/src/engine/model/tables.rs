//! A store made of maps, as naive as can be.

use std::collections::BTreeMap;

use tidegate_protocol::Id;

use crate::engine::effect::Output;
use crate::engine::kinds::{Content, Side, Status};
use crate::engine::ledger::Ledger;
use crate::engine::loaded::{
    Found, Loaded, LoadedConversation, Need, OldKeys, OldMessages, Pending, Sent, Synthetic,
};
use crate::engine::rows::{
    AgentRow, AgentStatusRow, ConversationRow, IdempotencyKeyRow, MarksRow, MessageRow, MetaRow,
    SessionLastRow, VisitorRow,
};

/// A store made of maps: upserts, and inserts that must not repeat.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) conversations: BTreeMap<Id, ConversationRow>,
    messages: BTreeMap<(Id, u64), MessageRow>,
    pub(super) sessions: BTreeMap<(Id, u64), SessionLastRow>,
    pub(super) marks: BTreeMap<Id, MarksRow>,
    visitors: BTreeMap<Id, VisitorRow>,
    keys: BTreeMap<(Id, u128), IdempotencyKeyRow>,
    agent_statuses: BTreeMap<Id, AgentStatusRow>,
    meta: BTreeMap<String, MetaRow>,
    ledger: Option<Ledger>,
}

impl Tables {
    pub(super) fn commit(&mut self, out: &Output) {
        let writes = &out.writes;
        self.conversations
            .extend(writes.conversations.iter().map(|row| (row.id, row.clone())));
        for row in &writes.messages {
            let before = self.messages.insert((row.conversation, row.seq), *row);
            assert!(before.is_none(), "a seq is given out once");
        }
        for row in &writes.idempotency_keys {
            let before = self.keys.insert((row.principal, row.key_hash), *row);
            assert!(before.is_none(), "a key is used once");
        }
        for row in &writes.visitors {
            self.visitors.insert(row.id, row.clone());
        }
        for row in &writes.agent_statuses {
            self.agent_statuses.insert(row.agent, *row);
        }
        for row in &writes.meta {
            self.meta.insert(row.key.clone(), row.clone());
        }
        self.ledger = writes.ledger.map(|row| row.ledger).or(self.ledger);
        self.sessions.extend(
            writes
                .sessions
                .iter()
                .map(|row| ((row.principal, row.session), *row)),
        );
        for row in &writes.marks {
            self.marks.insert(row.conversation, *row);
        }
    }

    /// Messages of a conversation, in order.
    pub(super) fn of(&self, id: Id) -> impl DoubleEndedIterator<Item = &MessageRow> {
        self.messages
            .range((id, 0)..=(id, u64::MAX))
            .map(|(_, row)| row)
    }

    /// Texts above a mark, for each side.
    pub(super) fn pending(&self, id: Id, above: [u64; 2], up_to: u64) -> Pending {
        let count = |side: Side, above: u64| {
            let to = |row: &&MessageRow| {
                let range = row.seq > above && row.seq <= up_to;
                range && row.content == Content::Text && row.sender_role.side() != side
            };
            self.of(id).filter(to).count() as u64
        };
        Pending {
            to_visitor: count(Side::Visitor, above[0]),
            to_agent: count(Side::Agent, above[1]),
        }
    }

    pub(super) fn find(&self, need: Need) -> Found {
        match need {
            Need::Session { principal, session } => {
                Found::Session(self.sessions.get(&(principal, session)).copied())
            }
            Need::Sent {
                principal,
                session,
                n,
                ..
            } => {
                let found = self.messages.values().find(|row| {
                    row.sender == Some(principal) && row.session == session && row.n == n
                });
                Found::Sent(found.map(|row| Sent {
                    conversation: row.conversation,
                    seq: row.seq,
                    at_us: row.at_us,
                    body_hash: row.body_hash,
                }))
            }
            Need::Visitor { id } => Found::Visitor(self.visitors.get(&id).cloned()),
            Need::Conversation { id } => Found::Conversation(self.load(id).map(Box::new)),
            Need::IdempotencyKey {
                principal,
                key_hash,
            } => Found::IdempotencyKey(self.keys.get(&(principal, key_hash)).copied()),
            Need::OldMessages { .. } => Found::OldMessages(OldMessages::default()),
            Need::OldKeys { .. } => Found::OldKeys(OldKeys::default()),
            Need::Synthetic => Found::Synthetic(Synthetic::default()),
            Need::Pending {
                conversation,
                above,
                up_to,
            } => Found::Pending(self.pending(conversation, [above; 2], up_to)),
        }
    }

    fn load(&self, id: Id) -> Option<LoadedConversation> {
        let row = self.conversations.get(&id)?.clone();
        let marks = self.marks.get(&id).copied().unwrap_or(MarksRow {
            site_id: 1,
            conversation: id,
            visitor_delivered: 0,
            visitor_read: 0,
            agent_delivered: 0,
            agent_read: 0,
        });
        let above = [marks.visitor_delivered, marks.agent_delivered];
        Some(LoadedConversation {
            row,
            marks,
            seq: self.of(id).next_back().map_or(0, |row| row.seq),
            erased: 0,
            last_at_us: 0,
            last_text: String::new(),
            unanswered_since_us: 0,
            pending: self.pending(id, above, u64::MAX),
        })
    }

    /// What an engine would find that starts now.
    pub(super) fn load_all(&self, agents: Vec<AgentRow>, clock_floor_us: u64) -> Loaded {
        let open = self.conversations.values();
        let open = open.filter(|row| row.status != Status::Closed);
        Loaded {
            incarnation: 1,
            clock_floor_us,
            meta: self.meta.values().cloned().collect(),
            agents,
            agent_statuses: self.agent_statuses.values().copied().collect(),
            visitors: self.visitors.values().cloned().collect(),
            conversations: open.filter_map(|row| self.load(row.id)).collect(),
            sessions: self.sessions.values().copied().collect(),
            ledger: self.recount(),
            ledger_stored: self.ledger,
            ..Loaded::default()
        }
    }

    /// The ledger by the rows alone.
    pub(super) fn recount(&self) -> Ledger {
        let mut ledger = Ledger::default();
        for row in self
            .messages
            .values()
            .filter(|row| row.content == Content::Text)
        {
            let side = match row.sender_role.side() {
                Side::Visitor => Side::Agent,
                Side::Agent => Side::Visitor,
            };
            let marks = self.marks.get(&row.conversation);
            let mark = marks.map_or(0, |marks| match side {
                Side::Visitor => marks.visitor_delivered,
                Side::Agent => marks.agent_delivered,
            });
            ledger.accept(side);
            if row.seq <= mark {
                let account = ledger.of_mut(side);
                account.delivered += 1;
                account.pending -= 1;
            }
        }
        ledger
    }
}
