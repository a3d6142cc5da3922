//! Commands, from a socket or over HTTP: who may do it, what the table says, what it led to.

use tidegate_protocol::close::CloseCode;
use tidegate_protocol::{Id, fb};

use super::agents::Attendance;
use super::command::{Actor, HttpAnswer, HttpCommand, Refusal};
use super::conversation::ConversationKey;
use super::effect::{About, Effect, Output};
use super::input::Envelope;
use super::kinds::{AgentStatus, Reason, Role, Side, Status};
use super::loaded::Need;
use super::marks::Register;
use super::rows::{AgentRow, AgentStatusRow, MetaRow, WidgetRow, meta};
use super::sending::{Said, Who};
use super::table::{Event, Step, step};
use super::{Engine, Stop, refuse};

/// Conversations in one answer to HTTP.
const CONVERSATIONS_PER_ANSWER_MAX: usize = 500;

impl Engine {
    pub(crate) fn command(
        &mut self,
        envelope: &Envelope<'_>,
        who: Who,
        command: &fb::Command<'_>,
        out: &mut Output,
    ) -> Result<(), Need> {
        let request = command.request();
        if envelope.settled {
            return self.settled_command(envelope, who, command, out);
        }
        let conversation = Id::from(command.conversation()).present();
        let agent = Id::from(command.agent()).present();
        let done = match command.op() {
            fb::CommandOp::Start => self.start(who, None, out),
            fb::CommandOp::Close => self.close_by(who, conversation, out),
            fb::CommandOp::Transfer => {
                self.transfer(who, conversation.unwrap_or_default(), agent, out)
            }
            fb::CommandOp::SetStatus => match AgentStatus::from_code(command.status().0) {
                Some(status) => self.set_status(who, agent.unwrap_or(who.id), status, out),
                None => refuse(Reason::UnknownField, "status is offline, away or online"),
            },
            fb::CommandOp::Take => self.take(who, conversation.unwrap_or_default(), out),
            _ => refuse(Reason::UnknownField, "this op is not known here"),
        };
        match done {
            Ok(about) => out.effects.push(Effect::Answer {
                to: envelope.address,
                request,
                about,
            }),
            Err(Stop::Need(need)) => return Err(need),
            Err(Stop::Refused(refusal)) => {
                self.count_refusal(refusal.reason);
                out.effects.push(Effect::Refused {
                    to: envelope.address,
                    request,
                    field: "",
                    refusal,
                });
            }
        }
        Ok(())
    }

    /// A command that was carried out before a restart is answered with what it led to, as it stands now.
    fn settled_command(
        &self,
        envelope: &Envelope<'_>,
        who: Who,
        command: &fb::Command<'_>,
        out: &mut Output,
    ) -> Result<(), Need> {
        let (to, request) = (envelope.address, command.request());
        let conversation = match Id::from(command.conversation()).present() {
            Some(id) => self.conversation_of(id)?,
            None => self.conversations.open_of(who.id, who.widget),
        };
        let about = match (command.op(), conversation) {
            (fb::CommandOp::SetStatus, _) => Some(About::Agent(
                Id::from(command.agent()).present().unwrap_or(who.id),
            )),
            (_, Some(key)) if self.may_look(who, key).is_ok() => Some(About::Conversation(key)),
            _ => None,
        };
        out.effects.push(match about {
            Some(about) => Effect::Answer { to, request, about },
            None => Effect::Refused {
                to,
                request,
                field: "",
                refusal: Refusal::new(
                    Reason::InvalidState,
                    "it was carried out before a restart; look again",
                ),
            },
        });
        Ok(())
    }

    pub(crate) fn http(
        &mut self,
        ticket: u32,
        command: &HttpCommand,
        instead: Option<&str>,
        out: &mut Output,
    ) -> Result<(), Need> {
        let answer = match self.carry_out(command, instead, out) {
            Ok(answer) => Ok(Box::new(answer)),
            Err(Stop::Need(need)) => return Err(need),
            Err(Stop::Refused(refusal)) => {
                self.count_refusal(refusal.reason);
                Err(Box::new(refusal))
            }
        };
        out.effects.push(Effect::Http { ticket, answer });
        Ok(())
    }

    /// `instead` of a Send's text another one is sent.
    fn carry_out(
        &mut self,
        command: &HttpCommand,
        instead: Option<&str>,
        out: &mut Output,
    ) -> Result<HttpAnswer, Stop> {
        match command {
            HttpCommand::Send {
                by,
                conversation,
                text,
                key_hash,
                page,
            } => {
                let said = Said { text, instead };
                self.http_send(by, *conversation, said, *key_hash, page, out)
            }
            HttpCommand::Start { by, page } => {
                let who = self.actor(by)?;
                if !by.name.is_empty() {
                    self.people.entry(who.id).name = by.name.as_str().into();
                }
                self.start(who, Some(page), out)
                    .map(|about| self.shown(about))
            }
            HttpCommand::Close { by, conversation } => {
                let who = self.actor(by)?;
                self.close_by(who, *conversation, out)
                    .map(|about| self.shown(about))
            }
            HttpCommand::Transfer {
                by,
                conversation,
                agent,
            } => {
                let who = self.actor(by)?;
                self.transfer(who, *conversation, *agent, out)
                    .map(|about| self.shown(about))
            }
            HttpCommand::Take { by, conversation } => {
                let who = self.actor(by)?;
                self.take(who, *conversation, out)
                    .map(|about| self.shown(about))
            }
            HttpCommand::Acknowledge {
                by,
                conversation,
                delivered,
                read,
            } => {
                let who = self.actor(by)?;
                let key = self.known(*conversation)?;
                if self.conversations.at(key).side_of(who.id).is_none() {
                    return refuse(Reason::Forbidden, "this conversation is not yours");
                }
                self.seen(key, who);
                self.acknowledge(key, who.id, *delivered, *read, None, out)?;
                Ok(HttpAnswer::Done)
            }
            HttpCommand::FindOpen { by } => {
                let who = self.actor(by)?;
                let Some(key) = self.conversations.open_of(who.id, who.widget) else {
                    return refuse(Reason::NoSuchConversation, "you have no open conversation");
                };
                self.seen(key, who);
                Ok(self.shown(About::Conversation(key)))
            }
            HttpCommand::Find { by, conversation } => {
                let who = self.actor(by)?;
                let key = self.known(*conversation)?;
                self.may_look(who, key)?;
                Ok(self.shown(About::Conversation(key)))
            }
            HttpCommand::FindMine { by } => {
                let who = self.actor(by)?;
                let open = self.agents.get(who.id).map(|agent| &agent.open);
                let keys = open
                    .into_iter()
                    .flatten()
                    .take(CONVERSATIONS_PER_ANSWER_MAX);
                Ok(HttpAnswer::Conversations(
                    keys.map(|&key| self.view(ConversationKey(key))).collect(),
                ))
            }
            HttpCommand::FindWaiting { by, limit } => {
                let who = self.actor(by)?;
                if who.role == Role::Visitor {
                    return refuse(Reason::Forbidden, "the queue is for agents to see");
                }
                let most = (*limit as usize).min(CONVERSATIONS_PER_ANSWER_MAX);
                let keys = self.queue.iter().take(most);
                Ok(HttpAnswer::Conversations(
                    keys.map(|key| self.view(ConversationKey(key))).collect(),
                ))
            }
            HttpCommand::SetStatus { by, agent, status } => {
                let who = self.actor(by)?;
                self.set_status(who, *agent, *status, out)
                    .map(|about| self.shown(about))
            }
            HttpCommand::PutAgent { agent } => {
                self.put_agent(agent, out);
                Ok(HttpAnswer::Done)
            }
            HttpCommand::PutWidget { widget } => {
                self.put_widget(widget, out);
                Ok(HttpAnswer::Done)
            }
            HttpCommand::CleanSynthetic => self.clean_synthetic(out),
            HttpCommand::PutCannedReplies { replies } => {
                out.writes.canned_replies.extend_from_slice(replies);
                Ok(HttpAnswer::Done)
            }
        }
    }

    /// Who a token's bearer is now: an agent's role is what the administrator says, not what the token said.
    pub(crate) fn actor(&self, by: &Actor) -> Result<Who, Stop> {
        match by.role.side() {
            Side::Visitor => Ok(Who {
                id: by.id,
                role: Role::Visitor,
                widget: by.widget,
            }),
            Side::Agent => match self.agents.get(by.id) {
                Some(agent) if !agent.row.disabled => Ok(Who {
                    id: by.id,
                    role: agent.row.role,
                    widget: 0,
                }),
                _ => refuse(
                    Reason::Forbidden,
                    "this agent does not exist or is disabled",
                ),
            },
        }
    }

    /// A visitor who uses HTTP alone is alive too.
    fn seen(&mut self, key: ConversationKey, who: Who) {
        if who.role == Role::Visitor {
            self.conversations.at_mut(key).seen_at_us = self.now_us;
        }
    }

    fn known(&self, id: Id) -> Result<ConversationKey, Stop> {
        match self.conversation_of(id)? {
            Some(key) => Ok(key),
            None => refuse(Reason::NoSuchConversation, "no conversation has this id"),
        }
    }

    fn may_look(&self, who: Who, key: ConversationKey) -> Result<(), Stop> {
        let conversation = self.conversations.at(key);
        let part = conversation.side_of(who.id).is_some();
        let queue = who.role == Role::Agent && conversation.row.status == Status::Waiting;
        if part || queue || self.is_supervisor(who.id) {
            Ok(())
        } else {
            refuse(Reason::Forbidden, "this conversation is not yours")
        }
    }

    pub(crate) fn start(
        &mut self,
        who: Who,
        page: Option<&str>,
        out: &mut Output,
    ) -> Result<About, Stop> {
        if who.role != Role::Visitor {
            return refuse(Reason::Forbidden, "conversations are begun by visitors");
        }
        let open = self.conversations.open_of(who.id, who.widget);
        let status = open.map(|key| self.conversations.at(key).row.status);
        match (step(status, Event::Begin), open) {
            (Step::Find, Some(key)) => {
                self.seen(key, who);
                Ok(About::Conversation(key))
            }
            _ => {
                self.need_visitor(who.id)?;
                self.take_token(who.id)?;
                Ok(About::Conversation(self.begin(who, page, out)))
            }
        }
    }

    fn close_by(
        &mut self,
        who: Who,
        conversation: Option<Id>,
        out: &mut Output,
    ) -> Result<About, Stop> {
        let key = match (who.role.side(), conversation) {
            (Side::Visitor, None) => match self.conversations.open_of(who.id, who.widget) {
                Some(key) => key,
                None => return refuse(Reason::NoSuchConversation, "you have no open conversation"),
            },
            (_, id) => self.known(id.unwrap_or_default())?,
        };
        let conversation = self.conversations.at(key);
        let event = match conversation.side_of(who.id) {
            Some(Side::Visitor) => Event::VisitorCloses,
            Some(Side::Agent) => Event::AgentCloses,
            None if self.is_supervisor(who.id) => Event::SupervisorCloses,
            None => return refuse(Reason::Forbidden, "this conversation is not yours"),
        };
        match step(Some(conversation.row.status), event) {
            Step::Close(reason) => self.close(key, reason, out),
            Step::Find => {}
            Step::Refuse(reason) => return refuse(reason, "its state allows no closing"),
            _ => return refuse(Reason::InvalidState, "its state allows no closing"),
        }
        Ok(About::Conversation(key))
    }

    fn transfer(
        &mut self,
        who: Who,
        id: Id,
        to: Option<Id>,
        out: &mut Output,
    ) -> Result<About, Stop> {
        let key = self.known(id)?;
        let conversation = self.conversations.at(key);
        let is_its_agent = conversation.side_of(who.id) == Some(Side::Agent);
        if !is_its_agent && !self.is_supervisor(who.id) {
            return refuse(
                Reason::Forbidden,
                "only its agent or a supervisor hands a conversation on",
            );
        }
        let event = if to.is_some() {
            Event::Transfer
        } else {
            Event::Requeue
        };
        let step = step(Some(conversation.row.status), event);
        self.step_to(key, step, to, out)
    }

    fn take(&mut self, who: Who, id: Id, out: &mut Output) -> Result<About, Stop> {
        if who.role == Role::Visitor {
            return refuse(Reason::Forbidden, "conversations are taken by agents");
        }
        let key = self.known(id)?;
        let conversation = self.conversations.at(key);
        if conversation.row.agent == Some(who.id) && conversation.is_open() {
            return Ok(About::Conversation(key));
        }
        let step = step(Some(conversation.row.status), Event::Take);
        if step == Step::HandOver && !self.is_supervisor(who.id) {
            return refuse(
                Reason::Forbidden,
                "another agent has it; a supervisor may take it",
            );
        }
        self.step_to(key, step, Some(who.id), out)
    }

    /// Takes a step that may give the conversation to a named agent.
    fn step_to(
        &mut self,
        key: ConversationKey,
        step: Step,
        to: Option<Id>,
        out: &mut Output,
    ) -> Result<About, Stop> {
        if let (Step::Assign | Step::HandOver, Some(agent)) = (step, to) {
            if self.agents.get(agent).is_none() {
                return refuse(Reason::NoSuchAgent, "no agent has this id");
            }
            let has_it = self.conversations.at(key).row.agent == Some(agent);
            if !has_it && !self.has_space(agent) {
                return refuse(
                    Reason::AgentUnavailable,
                    "this agent is offline or has no room",
                );
            }
            match step {
                _ if has_it => {}
                Step::Assign => self.assign(key, agent, out),
                _ => self.hand_over(key, agent, out),
            }
            return Ok(About::Conversation(key));
        }
        match step {
            Step::Requeue => self.requeue(key, out),
            Step::Refuse(reason) => return refuse(reason, "its state allows no such step"),
            _ => return refuse(Reason::InvalidState, "its state allows no such step"),
        }
        Ok(About::Conversation(key))
    }

    /// By name even somebody who is away may be given one; never more than the capacity.
    fn has_space(&self, agent: Id) -> bool {
        self.has_room(agent)
            || self.agents.get(agent).is_some_and(|agent| {
                agent.status() == AgentStatus::Away && agent.open_count() < agent.row.capacity
            })
    }

    fn set_status(
        &mut self,
        who: Who,
        agent: Id,
        status: AgentStatus,
        out: &mut Output,
    ) -> Result<About, Stop> {
        if who.role == Role::Visitor || (agent != who.id && !self.is_supervisor(who.id)) {
            return refuse(
                Reason::Forbidden,
                "a status is set by the agent or by a supervisor",
            );
        }
        if self.agents.get(agent).is_none() {
            return refuse(Reason::NoSuchAgent, "no agent has this id");
        }
        let (stamp, ceiling) = self.clock.stamp(self.now_us);
        let node = self.clock.node();
        if let Some(value) = ceiling {
            out.writes.meta.push(MetaRow {
                key: meta::HLC_CEILING.to_owned(),
                value,
            });
        }
        self.agents.choose(
            agent,
            Register {
                stamp,
                node,
                value: status,
            },
        );
        let site_id = self.rules.site_id;
        out.writes.agent_statuses.push(AgentStatusRow {
            site_id,
            agent,
            status,
            hlc: stamp.0,
            node,
        });
        self.presence_dirty.insert(agent);
        self.queue_dirty = true;
        if status == AgentStatus::Offline {
            self.requeue_all_of(agent, out);
        }
        Ok(About::Agent(agent))
    }

    fn put_agent(&mut self, row: &AgentRow, out: &mut Output) {
        let id = row.id;
        let valid_from_s = self
            .agents
            .get(id)
            .map_or(row.tokens_valid_from_s, |agent| {
                agent.row.tokens_valid_from_s
            });
        self.agents
            .put(row.clone(), super::restoring::new_agents_status());
        out.writes.agents.push(row.clone());
        self.presence_dirty.insert(id);
        self.queue_dirty = true;
        if row.disabled {
            self.close_all_of(id, CloseCode::FORBIDDEN, out);
            self.agents.attend(id, Attendance::Gone);
            self.requeue_all_of(id, out);
        } else if row.tokens_valid_from_s > valid_from_s {
            // A new password: whoever is here came with a token of the old one.
            self.close_all_of(id, CloseCode::BAD_TOKEN, out);
        }
    }

    fn close_all_of(&self, id: Id, code: CloseCode, out: &mut Output) {
        for key in self.connections.of(id) {
            if let Some(connection) = self.connections.get(key) {
                out.effects.push(Effect::Close {
                    address: connection.address,
                    code: code.0,
                    retry_ms: 0,
                });
            }
        }
    }

    fn put_widget(&mut self, row: &WidgetRow, out: &mut Output) {
        match self.widgets.iter_mut().find(|known| known.id == row.id) {
            Some(known) => known.clone_from(row),
            None => self.widgets.push(row.clone()),
        }
        out.writes.widgets.push(row.clone());
    }

    fn shown(&self, about: About) -> HttpAnswer {
        match about {
            About::Conversation(key) => HttpAnswer::Conversation(Box::new(self.view(key))),
            About::Agent(id) => match self.agent_view(id) {
                Some(view) => HttpAnswer::Agent(view),
                None => HttpAnswer::Done,
            },
        }
    }
}
