//! How conversations, agents and the whole look from outside. `bus` encodes the borrowed forms, HTTP takes the owned.

use tidegate_protocol::{Id, fb, message};

use super::Engine;
use super::command::{AgentView, ConversationView};
use super::conversation::{Conversation, ConversationKey};
use super::kinds::{CloseReason, Reason, Side, Status};
use super::queue::ticket_of;
use crate::app::live_view::{Counters, LiveView, Times};

impl Engine {
    fn agent_name(&self, conversation: &Conversation) -> &str {
        let agent = conversation.row.agent.and_then(|id| self.agents.get(id));
        agent.map_or("", |agent| agent.row.name.as_str())
    }

    fn position_and_eta(&self, key: ConversationKey, conversation: &Conversation) -> (u32, u32) {
        let Some(place) = conversation.place else {
            return (0, 0);
        };
        let position = self.queue_of(key).position(place, key.0);
        (position, self.eta_ms(position))
    }

    /// What the one at a position in the queue may expect; 0 = unknown, or nobody is there to answer.
    #[must_use]
    pub fn eta_ms(&self, position: u32) -> u32 {
        if self.agents.online() == 0 {
            0
        } else {
            self.rate.eta_ms(position, self.view_us)
        }
    }

    /// A conversation as it goes out to participants.
    #[must_use]
    pub fn state_of(
        &self,
        key: ConversationKey,
        request: u64,
        mine: bool,
    ) -> message::ConversationState<'_> {
        let conversation = self.conversations.at(key);
        let row = &conversation.row;
        let (position, eta_ms) = self.position_and_eta(key, conversation);
        message::ConversationState {
            request,
            conversation: row.id,
            incarnation: self.incarnation,
            status: fb::ConversationStatus(row.status.code()),
            close_reason: fb::CloseReason(row.close_reason.code()),
            seq: conversation.seq,
            visitor: row.visitor,
            visitor_name: &conversation.visitor_name,
            visitor_online: self.connections.is_connected(row.visitor),
            agent: row.agent.unwrap_or_default(),
            agent_name: self.agent_name(conversation),
            opened_at_us: row.opened_at_us,
            assigned_at_us: row.assigned_at_us,
            closed_at_us: row.closed_at_us,
            visitor_delivered: conversation.marks.visitor.delivered,
            visitor_read: conversation.marks.visitor.read,
            agent_delivered: conversation.marks.agent.delivered,
            agent_read: conversation.marks.agent.read,
            position,
            eta_ms,
            unanswered_since_us: conversation.unanswered_since_us,
            last_text: &conversation.last_text,
            last_at_us: conversation.last_at_us,
            page: &row.page,
            mine,
            queue_ticket: conversation.place.map_or(0, |_| ticket_of(row.queue_order)),
        }
    }

    /// The same, owned.
    #[must_use]
    pub fn view(&self, key: ConversationKey) -> ConversationView {
        let conversation = self.conversations.at(key);
        let row = &conversation.row;
        let (position, eta_ms) = self.position_and_eta(key, conversation);
        ConversationView {
            conversation: row.id,
            incarnation: self.incarnation,
            widget: row.widget,
            status: row.status,
            close_reason: row.close_reason,
            seq: conversation.seq,
            visitor: row.visitor,
            visitor_name: conversation.visitor_name.to_string(),
            visitor_online: self.connections.is_connected(row.visitor),
            agent: row.agent,
            agent_name: self.agent_name(conversation).to_owned(),
            opened_at_us: row.opened_at_us,
            assigned_at_us: row.assigned_at_us,
            closed_at_us: row.closed_at_us,
            visitor_delivered: conversation.marks.visitor.delivered,
            visitor_read: conversation.marks.visitor.read,
            agent_delivered: conversation.marks.agent.delivered,
            agent_read: conversation.marks.agent.read,
            position,
            eta_ms,
            unanswered_since_us: conversation.unanswered_since_us,
            last_text: conversation.last_text.clone(),
            last_at_us: conversation.last_at_us,
            page: row.page.clone(),
        }
    }

    /// The marks of one side, as they go out.
    #[must_use]
    pub fn receipt_of(&self, key: ConversationKey, side: Side) -> message::Receipt {
        let conversation = self.conversations.at(key);
        let marks = conversation.marks.side(side);
        message::Receipt {
            conversation: conversation.row.id,
            side: fb::Side(side.code()),
            delivered: marks.delivered,
            read: marks.read,
        }
    }

    /// An agent as others see them.
    #[must_use]
    pub fn presence_of(&self, id: Id, request: u64) -> Option<message::Presence<'_>> {
        let agent = self.agents.get(id)?;
        Some(message::Presence {
            request,
            agent: id,
            name: &agent.row.name,
            status: fb::AgentStatus(agent.status().code()),
            open: agent.open_count(),
            capacity: agent.row.capacity,
        })
    }

    /// The same, owned.
    #[must_use]
    pub fn agent_view(&self, id: Id) -> Option<AgentView> {
        let agent = self.agents.get(id)?;
        Some(AgentView {
            id,
            name: agent.row.name.clone(),
            role: agent.row.role,
            status: agent.status(),
            open: agent.open_count(),
            capacity: agent.row.capacity,
            disabled: agent.row.disabled,
        })
    }

    /// The queue as everybody hears of it; with `marks` for those who wait in it, without for agents.
    #[must_use]
    pub fn queue_update<'a>(&self, marks: &'a [message::QueueMark]) -> message::QueueUpdate<'a> {
        let each_ms = self.eta_ms(1);
        message::QueueUpdate {
            eta_ms: self.eta_ms(self.queue.len() + 1),
            waiting: self.queue.len(),
            agents_online: self.agents.online(),
            longest_wait_ms: u32::try_from(self.longest_wait_ms()).unwrap_or(u32::MAX),
            marks,
            each_ms,
            ..message::QueueUpdate::default()
        }
    }

    /// Which tickets stand at which places of the queue: see [`super::queue`].
    #[must_use]
    pub fn queue_marks(&self) -> Vec<message::QueueMark> {
        let mark = |(place, key)| message::QueueMark {
            place,
            ticket: ticket_of(self.conversations.at(ConversationKey(key)).row.queue_order),
        };
        self.queue.marks().map(mark).collect()
    }

    /// Whether this visitor waits in the queue, so that its numbers concern them. A load generator's visitors wait in one of
    /// their own, of which nobody is told.
    #[must_use]
    pub fn waits_in_queue(&self, visitor: Id, widget: u32) -> bool {
        if visitor.is_synthetic() {
            return false;
        }
        let open = self.conversations.open_of(visitor, widget);
        open.is_some_and(|key| self.is_waiting(key))
    }

    fn longest_wait_ms(&self) -> u64 {
        let front = self
            .queue
            .front()
            .map(|key| self.conversations.at(ConversationKey(key)));
        front.map_or(0, |conversation| {
            self.view_us.saturating_sub(conversation.row.opened_at_us) / 1_000
        })
    }

    /// Agents whose presence changed since the last call.
    pub fn take_presence(&mut self) -> std::collections::BTreeSet<Id> {
        std::mem::take(&mut self.presence_dirty)
    }

    /// Whether the queue changed since the last call.
    pub const fn take_queue_change(&mut self) -> bool {
        std::mem::replace(&mut self.queue_dirty, false)
    }

    /// The median of the newest first answers; 0 = unknown.
    fn answer_ms(&self) -> u32 {
        let mut samples: Vec<u32> = self.answer_samples_ms.iter().copied().collect();
        if samples.is_empty() {
            return 0;
        }
        let middle = samples.len() / 2;
        *samples.select_nth_unstable(middle).1
    }

    /// A snapshot for HTTP; what only the turn and the bus know is left as it is in `counters`.
    #[must_use]
    pub fn live_view(&self, ready: bool, gateways: u32, mut counters: Counters) -> LiveView {
        let mut agents: Vec<_> = self
            .agents
            .iter()
            .filter_map(|agent| self.agent_view(agent.row.id))
            .collect();
        agents.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        let tally = &self.tally;
        counters.messages_accepted = tally.accepted;
        // A search was counted as a duplicate before it was found to be a conflict.
        let conflicting = counters.messages_id_conflict;
        counters.messages_duplicate = tally.duplicate.saturating_sub(conflicting);
        counters.messages_gap = tally.gap;
        counters.messages_id_conflict = tally.id_conflict + conflicting;
        counters.conversations_opened = tally.opened;
        counters.assignments = tally.assignments;
        counters.superseded = tally.superseded;
        counters.quarantined = tally.quarantined;
        counters.bot_texts = tally.bot_said;
        counters.bot_texts_dropped = tally.bot_dropped;
        counters.refused = Reason::ALL
            .iter()
            .map(|reason| (reason.name(), tally.refused[reason.code() as usize]))
            .filter(|&(_, count)| count > 0)
            .collect();
        counters.conversations_closed = CloseReason::ALL
            .iter()
            .map(|reason| (reason.name(), tally.closed[reason.code() as usize]))
            .filter(|&(_, count)| count > 0)
            .collect();
        LiveView {
            ready,
            at_us: self.view_us,
            incarnation: self.incarnation,
            agents,
            agents_online: self.agents.online(),
            waiting: self.queue.len(),
            longest_wait_ms: self.longest_wait_ms(),
            eta_ms: self.eta_ms(self.queue.len() + 1),
            answer_ms: self.answer_ms(),
            chatting: self.conversations.chatting(),
            // The turn knows.
            admission: crate::admission::AdmissionView::default(),
            visitors_connected: self.connections.visitors(),
            agents_connected: self.connections.agents(),
            gateways,
            ledger: self.ledger,
            counters,
            times: Times::default(),
            workers: Vec::new(),
        }
    }

    /// What a visitor calls themselves.
    #[must_use]
    pub fn name_of_visitor(&self, id: Id) -> &str {
        self.people.get(id).map_or("", |person| &person.name)
    }

    /// Whether a conversation waits (its visitor is told of places).
    #[must_use]
    pub fn is_waiting(&self, key: ConversationKey) -> bool {
        self.conversations
            .get(key)
            .is_some_and(|conversation| conversation.row.status == Status::Waiting)
    }
}
