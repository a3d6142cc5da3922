//! The steps that the table of states and events names: begin, assign, hand over, requeue, close. Each changes the
//! state, writes the row, tells both sides by a system message, and says who follows the conversation from now on.

use tidegate_protocol::{Id, limits};

use super::Engine;
use super::conversation::{Conversation, ConversationKey};
use super::effect::{Effect, Output};
use super::kinds::{CloseReason, Role, Status, SystemEvent};
use super::loaded::Pending;
use super::marks::Marks;
use super::queue::HEAD_ORDER_BASE;
use super::rows::{ConversationRow, OutboxRow};
use super::sending::Who;
use super::table::{Event, Step, step};

impl Engine {
    /// A new conversation, at the end of the queue.
    pub(crate) fn begin(
        &mut self,
        who: Who,
        page: Option<&str>,
        out: &mut Output,
    ) -> ConversationKey {
        let id = self.new_id();
        let person = self.people.entry(who.id);
        person.widget = who.widget;
        let page =
            super::opening::cut(page.unwrap_or(&person.page), limits::PAGE_BYTES_MAX).to_owned();
        let visitor_name = person.name.clone();
        let now_us = self.now_us;
        self.last_queue_order =
            (self.last_queue_order + 1).max(i64::try_from(now_us).unwrap_or(i64::MAX));
        let row = ConversationRow {
            site_id: self.rules.site_id,
            id,
            widget: who.widget,
            visitor: who.id,
            status: Status::Waiting,
            close_reason: CloseReason::None,
            agent: None,
            opened_at_us: now_us,
            assigned_at_us: 0,
            first_assigned_at_us: 0,
            closed_at_us: 0,
            queue_order: self.last_queue_order,
            page,
            synthetic: who.id.is_synthetic(),
        };
        let key = self.conversations.insert(Conversation {
            row,
            visitor_name,
            seq: 0,
            erased: 0,
            marks_turn: 0,
            marks: Marks::default(),
            marks_dirty: false,
            pending: Pending::default(),
            delivered_unwritten: Pending::default(),
            last_text: String::new(),
            last_at_us: now_us,
            unanswered_since_us: 0,
            place: None,
            seen_at_us: now_us,
            look_at_us: 0,
            window: std::collections::VecDeque::new(),
            row_turn: 0,
            row_index: 0,
        });
        let place = self.queue_of_mut(key).push_back(key.0);
        self.conversations.at_mut(key).place = Some(place);
        self.queue_dirty = true;
        self.tally.opened += 1;
        self.watch_visitor(key);
        self.write_visitor(who, out);
        self.write_row(key, out);
        self.tell(key, "conversation.opened", out);
        out.effects.push(Effect::Joined {
            conversation: key,
            principal: who.id,
            cursor: 0,
            seq: 0,
        });
        self.append_system(key, SystemEvent::Queued, "", CloseReason::None, out);
        key
    }

    /// Gives each queue's head to the agent with the fewest open conversations, as long as there are both.
    pub(crate) fn assign_waiting(&mut self, out: &mut Output) {
        while let Some(key) = self.queue.front()
            && let Some(agent) = self.agents.next(false)
        {
            self.assign_next(key, agent, out);
        }
        while let Some(key) = self.synthetic_queue.front()
            && let Some(agent) = self.agents.next(true)
        {
            self.assign_next(key, agent, out);
        }
    }

    fn assign_next(&mut self, key: u32, agent: Id, out: &mut Output) {
        let key = ConversationKey(key);
        debug_assert_eq!(
            step(Some(self.conversations.at(key).row.status), Event::Assign),
            Step::Assign
        );
        self.assign(key, agent, out);
    }

    /// Waiting → Chatting.
    pub(crate) fn assign(&mut self, key: ConversationKey, agent: Id, out: &mut Output) {
        self.leave_queue(key);
        if !self.conversations.at(key).row.synthetic {
            self.rate.assigned(self.now_us);
        }
        self.conversations
            .set_status(key, Status::Chatting, CloseReason::None);
        self.give(key, agent, SystemEvent::AgentJoined, out);
        self.tell(key, "conversation.assigned", out);
    }

    /// Chatting → Chatting with another agent.
    pub(crate) fn hand_over(&mut self, key: ConversationKey, agent: Id, out: &mut Output) {
        self.release_agent(key, out);
        self.give(key, agent, SystemEvent::Transferred, out);
        self.tell(key, "conversation.transferred", out);
    }

    fn give(&mut self, key: ConversationKey, agent: Id, event: SystemEvent, out: &mut Output) {
        let name: Box<str> = self
            .agents
            .get(agent)
            .map_or_else(Box::default, |agent| agent.row.name.as_str().into());
        self.agents.give(agent, key.0);
        self.presence_dirty.insert(agent);
        self.tally.assignments += 1;
        let now_us = self.now_us;
        let conversation = self.conversations.at_mut(key);
        conversation.row.agent = Some(agent);
        conversation.row.assigned_at_us = now_us;
        if conversation.row.first_assigned_at_us == 0 {
            conversation.row.first_assigned_at_us = now_us;
        }
        self.write_row(key, out);
        self.watch_visitor(key);
        self.append_system(key, event, &name, CloseReason::None, out);
        let seq = self.conversations.at(key).seq;
        let begins_after = self.conversations.at(key).erased;
        let cursor = seq
            .saturating_sub(self.rules.join_messages_max)
            .max(begins_after);
        out.effects.push(Effect::Joined {
            conversation: key,
            principal: agent,
            cursor,
            seq,
        });
        out.effects.push(Effect::Changed { conversation: key });
    }

    /// Chatting → Waiting, before everybody who never had an agent.
    pub(crate) fn requeue(&mut self, key: ConversationKey, out: &mut Output) {
        self.release_agent(key, out);
        self.conversations
            .set_status(key, Status::Waiting, CloseReason::None);
        let conversation = self.conversations.at_mut(key);
        conversation.row.agent = None;
        conversation.row.assigned_at_us = 0;
        let opened = i64::try_from(conversation.row.opened_at_us).unwrap_or(i64::MAX >> 2);
        conversation.row.queue_order = HEAD_ORDER_BASE + opened;
        let order = conversation.row.queue_order;
        let place = self.queue_of_mut(key).push_head(order, key.0);
        self.conversations.at_mut(key).place = Some(place);
        self.queue_dirty = true;
        self.watch_visitor(key);
        self.write_row(key, out);
        self.append_system(key, SystemEvent::Requeued, "", CloseReason::None, out);
        out.effects.push(Effect::Changed { conversation: key });
        self.tell(key, "conversation.requeued", out);
    }

    /// → Closed.
    pub(crate) fn close(&mut self, key: ConversationKey, reason: CloseReason, out: &mut Output) {
        self.leave_queue(key);
        if let Some(agent) = self.conversations.at(key).row.agent {
            self.agents.take(agent, key.0);
            self.presence_dirty.insert(agent);
            if !self.conversations.at(key).row.synthetic {
                self.rate.freed();
            }
        }
        self.conversations.set_status(key, Status::Closed, reason);
        let now_us = self.now_us;
        let conversation = self.conversations.at_mut(key);
        conversation.row.closed_at_us = now_us;
        let look_at_us = std::mem::take(&mut conversation.look_at_us);
        let id = conversation.row.id;
        conversation.unanswered_since_us = 0;
        let (visitor, agent) = (conversation.row.visitor, conversation.row.agent);
        self.away.remove(&(look_at_us, key.0, id));
        self.tally.closed[reason.code() as usize] += 1;
        self.write_row(key, out);
        self.append_system(key, SystemEvent::Closed, "", reason, out);
        out.effects.push(Effect::Changed { conversation: key });
        self.tell(key, "conversation.closed", out);
        if now_us < self.announced_by_us {
            // Also if they are connected: another device of theirs may not have been announced yet.
            for principal in [Some(visitor), agent].into_iter().flatten() {
                self.lately_closed.entry(principal).or_default().push(id);
            }
        }
        if !self.connections.is_connected(visitor) {
            self.people.forget(visitor);
        }
    }

    fn leave_queue(&mut self, key: ConversationKey) {
        if let Some(place) = self.conversations.at_mut(key).place.take() {
            self.queue_of_mut(key).remove(place, key.0);
            self.queue_dirty = true;
        }
    }

    /// Its agent no longer has it.
    fn release_agent(&mut self, key: ConversationKey, out: &mut Output) {
        if let Some(agent) = self.conversations.at_mut(key).row.agent.take() {
            self.agents.take(agent, key.0);
            self.presence_dirty.insert(agent);
            out.effects.push(Effect::Left {
                conversation: key,
                principal: agent,
            });
        }
    }

    /// Puts the row into the WriteSet, once a turn.
    pub(crate) fn write_row(&mut self, key: ConversationKey, out: &mut Output) {
        let turn = self.turn;
        let conversation = self.conversations.at_mut(key);
        if conversation.row_turn == turn {
            out.writes.conversations[conversation.row_index as usize].clone_from(&conversation.row);
        } else {
            conversation.row_turn = turn;
            conversation.row_index = u32::try_from(out.writes.conversations.len())
                .expect("invariant: a turn's rows are bounded by its inputs");
            out.writes.conversations.push(conversation.row.clone());
        }
    }

    /// For webhooks and other nodes.
    fn tell(&mut self, key: ConversationKey, kind: &str, out: &mut Output) {
        let id = self.new_id();
        let row = &self.conversations.at(key).row;
        let payload_json = serde_json::json!({
            "visitor": row.visitor,
            "agent": row.agent,
            "status": row.status,
            "close_reason": row.close_reason,
        })
        .to_string();
        out.writes.outbox.push(OutboxRow {
            site_id: self.rules.site_id,
            id,
            at_us: self.now_us,
            kind: kind.to_owned(),
            conversation: row.id,
            payload_json,
        });
    }

    /// Every conversation of an agent goes back to the queue.
    pub(crate) fn requeue_all_of(&mut self, agent: Id, out: &mut Output) {
        let open: Vec<_> = self
            .agents
            .get(agent)
            .map(|agent| agent.open.iter().copied().collect())
            .unwrap_or_default();
        for key in open {
            let key = ConversationKey(key);
            if step(
                Some(self.conversations.at(key).row.status),
                Event::AgentGone,
            ) == Step::Requeue
            {
                self.requeue(key, out);
            }
        }
    }

    /// May a conversation be given to this agent by name?
    pub(crate) fn has_room(&self, agent: Id) -> bool {
        self.agents
            .get(agent)
            .is_some_and(super::agents::Agent::has_room)
    }

    /// Is this principal a supervisor?
    pub(crate) fn is_supervisor(&self, id: Id) -> bool {
        self.agents.role_of(id) == Some(Role::Supervisor)
    }
}
