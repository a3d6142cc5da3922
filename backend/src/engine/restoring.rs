//! How the engine comes to stand where it stood: from what the store kept.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::Id;

use super::agents::{Agents, Attendance};
use super::clock::{HybridClock, Stamp};
use super::connections::Connections;
use super::conversation::{Conversation, ConversationKey, Conversations};
use super::kinds::{AgentStatus, Status};
use super::loaded::{LATELY_US, Loaded, LoadedConversation, Pending};
use super::marks::{Marks, Register, SideMarks};
use super::people::People;
use super::queue::Queue;
use super::retention::Retention;
use super::rows::{AgentRow, AgentStatusRow, MarksRow, MessageRow, TextRange, VisitorRow, meta};
use super::service_rate::ServiceRate;
use super::sessions::{Last, Sessions};
use super::window::Window;
use super::{Engine, Rules, Tally};

impl Engine {
    /// From everything that the store keeps. `now_us` starts the graces of those who have to come back.
    #[must_use]
    pub fn new(rules: Rules, loaded: Loaded, now_us: u64) -> Self {
        let ceiling = loaded
            .meta
            .iter()
            .find(|row| row.key == meta::HLC_CEILING)
            .map_or(0, |row| row.value);
        let mut engine = Self {
            clock: HybridClock::new(rules.node, ceiling),
            now_us: now_us.max(loaded.clock_floor_us + 1),
            view_us: now_us,
            random: 0,
            turn: 1,
            incarnation: loaded.incarnation,
            widgets: loaded.widgets,
            agents: Agents::default(),
            people: People::default(),
            connections: Connections::default(),
            conversations: Conversations::default(),
            queue: Queue::default(),
            synthetic_queue: Queue::default(),
            last_queue_order: 0,
            rate: ServiceRate::default(),
            answer_samples_ms: VecDeque::new(),
            sessions: Sessions::new(rules.sessions_max),
            window: Window::new(rules.window_bytes_max),
            ledger: loaded.ledger,
            ledger_written: loaded.ledger_stored.unwrap_or_default(),
            tally: Tally::default(),
            marks_dirty: Vec::new(),
            marks_due_us: u64::MAX,
            away: BTreeSet::new(),
            presence_dirty: BTreeSet::new(),
            queue_dirty: false,
            retention: Retention::new(now_us),
            new_keys: Vec::new(),
            facts: Vec::new(),
            builder: FlatBufferBuilder::new(),
            lately_closed: BTreeMap::new(),
            announced_by_us: now_us + LATELY_US,
            rules,
        };
        engine.restore_agents(&loaded.agents, &loaded.agent_statuses);
        let forgets = shm_bus::mutant::is_planted("forget_last_on_restart");
        for session in loaded.sessions.iter().filter(|_| !forgets) {
            engine
                .sessions
                .put(session.principal, session.session, Last::of_row(session));
        }
        let names: HashMap<Id, &VisitorRow> =
            loaded.visitors.iter().map(|row| (row.id, row)).collect();
        let mut waiting = Vec::new();
        for conversation in loaded.conversations {
            let (id, visitor) = (conversation.row.id, conversation.row.visitor);
            if let Some(row) = names.get(&visitor) {
                let person = engine.people.entry(visitor);
                person.name = row.name.as_str().into();
                person.widget = conversation.row.widget;
                engine.people.set_locale(visitor, &row.locale);
            }
            let order = (conversation.row.queue_order, id);
            let status = conversation.row.status;
            let key = engine.restore(conversation);
            match status {
                Status::Waiting => waiting.push((order, key)),
                Status::Chatting => {
                    if let Some(agent) = engine.conversations.at(key).row.agent {
                        engine.agents.restore(agent, key.0);
                    }
                }
                Status::Closed => {}
            }
            engine.watch_visitor(key);
        }
        for conversation in loaded.lately_closed {
            let row = &conversation.row;
            for principal in [Some(row.visitor), row.agent].into_iter().flatten() {
                let theirs = engine.lately_closed.entry(principal).or_default();
                theirs.push(row.id);
            }
            if let Some(row) = names.get(&row.visitor) {
                engine.people.entry(row.id).name = row.name.as_str().into();
            }
            engine.restore(conversation);
        }
        waiting.sort_unstable();
        for ((order, _), key) in waiting {
            let place = if order < 0 {
                engine.queue_of_mut(key).push_head(order, key.0)
            } else {
                engine.last_queue_order = engine.last_queue_order.max(order);
                engine.queue_of_mut(key).push_back(key.0)
            };
            engine.conversations.at_mut(key).place = Some(place);
        }
        for run in loaded
            .messages
            .chunk_by(|a, b| a.conversation == b.conversation)
        {
            engine.restore_run(run, &loaded.text);
        }
        engine
    }

    fn restore_agents(&mut self, agents: &[AgentRow], statuses: &[AgentStatusRow]) {
        let until_us = self.now_us + self.rules.agent_grace_us;
        for row in agents {
            let id = row.id;
            let stored = statuses.iter().find(|status| status.agent == id);
            let chosen = stored.map_or_else(new_agents_status, |status| Register {
                stamp: Stamp(status.hlc),
                node: status.node,
                value: status.status,
            });
            self.agents.put(row.clone(), chosen);
            self.agents.attend(id, Attendance::Expected { until_us });
        }
    }

    /// Keeps a conversation that the store knows; the visitor's name is taken from `people`.
    fn restore(&mut self, loaded: LoadedConversation) -> ConversationKey {
        let visitor_name = self
            .people
            .get(loaded.row.visitor)
            .map_or_else(Box::default, |person| person.name.clone());
        self.conversations.insert(Conversation {
            visitor_name,
            seq: loaded.seq,
            erased: loaded.erased,
            marks_turn: 0,
            marks: marks_of(&loaded.marks),
            marks_dirty: false,
            pending: loaded.pending,
            delivered_unwritten: Pending::default(),
            last_text: loaded.last_text,
            last_at_us: loaded.last_at_us,
            unanswered_since_us: loaded.unanswered_since_us,
            place: None,
            seen_at_us: self.now_us,
            look_at_us: 0,
            window: VecDeque::new(),
            row_turn: 0,
            row_index: 0,
            row: loaded.row,
        })
    }

    /// A closed conversation that somebody asked for.
    pub(crate) fn restore_closed(&mut self, loaded: LoadedConversation) {
        if self.conversations.find(loaded.row.id).is_none() {
            self.restore(loaded);
        }
    }

    /// The newest messages of one conversation, into the window: only a gapless run up to the newest is of use.
    fn restore_run(&mut self, run: &[MessageRow], texts: &str) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else {
            return;
        };
        let Some(key) = self.conversations.find(first.conversation) else {
            return;
        };
        let gapless = last
            .seq
            .checked_sub(first.seq)
            .is_some_and(|span| span + 1 == run.len() as u64);
        if !gapless || last.seq != self.conversations.at(key).seq {
            return;
        }
        let text = |range: TextRange| {
            texts
                .get(range.start as usize..(range.start + range.bytes) as usize)
                .unwrap_or_default()
        };
        for row in run {
            self.keep_in_window(key, row, text(row.sender_name), text(row.text));
        }
    }
}

/// What an agent begins with.
pub(crate) const fn new_agents_status() -> Register<AgentStatus> {
    Register {
        stamp: Stamp(0),
        node: 0,
        value: AgentStatus::Online,
    }
}

const fn marks_of(row: &MarksRow) -> Marks {
    Marks {
        visitor: SideMarks {
            delivered: row.visitor_delivered,
            read: row.visitor_read,
        },
        agent: SideMarks {
            delivered: row.agent_delivered,
            read: row.agent_read,
        },
    }
}
