//! Connections come and go: welcome, resume, supersede; who is there and who is not.

use tidegate_protocol::close::CloseCode;
use tidegate_protocol::{Id, Kind, View, fb, limits, verify};

use super::Engine;
use super::agents::Attendance;
use super::command::Refusal;
use super::connections::{Address, ConnectionKey, NewConnection};
use super::conversation::ConversationKey;
use super::effect::{About, Effect, Output, Resume};
use super::input::Opened;
use super::kinds::{Reason, Role, Side, Status};
use super::loaded::Need;
use super::sending::Who;

/// Conversations that one Hello of a visitor may have looked up in the store: their open one is in memory, and what
/// a page still wants to see the end of is one or two closed ones.
const LOOKUPS_PER_HELLO_MAX: usize = 2;

/// Of a page's address, kept for everybody who is connected.
const PAGE_KEPT_BYTES_MAX: usize = 512;

/// The first bytes of a text, at most so many, cut at a character.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(text.len().min(bytes_max))]
}

impl Engine {
    pub(crate) fn opened(&mut self, opened: &Opened<'_>, out: &mut Output) -> Result<(), Need> {
        if opened.announced {
            self.need_lately_closed(opened.principal)?;
            if let Some(key) = self.connections.at(opened.address) {
                self.tell_lately_closed(key, out);
                return Ok(());
            }
        }
        if self.is_late(opened) {
            out.effects.push(Effect::Close {
                address: opened.address,
                code: CloseCode::SUPERSEDED.0,
                retry_ms: 0,
            });
            return Ok(());
        }
        let role = match self.role_of(opened) {
            Ok(role) => role,
            Err(code) => {
                out.effects.push(Effect::Close {
                    address: opened.address,
                    code: code.0,
                    retry_ms: 0,
                });
                return Ok(());
            }
        };
        let hello = match hello_of(opened) {
            Ok(hello) => hello,
            Err(refusal) => {
                self.count_refusal(refusal.reason);
                out.effects.push(Effect::Refused {
                    to: opened.address,
                    request: opened.request,
                    field: "",
                    refusal,
                });
                out.effects.push(Effect::Close {
                    address: opened.address,
                    code: CloseCode::PROTOCOL_ABUSE.0,
                    retry_ms: 0,
                });
                return Ok(());
            }
        };
        let (principal, session) = (opened.principal, opened.session);
        if self.sessions.get_mut(principal, session).is_none() {
            return Err(Need::Session { principal, session });
        }
        self.need_cursors(role, hello)?;

        self.make_way(opened, out);
        let connection = self.connections.insert(NewConnection {
            address: opened.address,
            principal,
            session,
            number: opened.connection,
            widget: opened.widget,
            role,
            family: opened.family,
        });
        self.learn(opened, hello);
        let start = out.resumes.len();
        match role.side() {
            Side::Visitor => self.resume_visitor(opened, hello, out),
            Side::Agent => self.resume_agent(opened, hello, out),
        }
        if opened.announced {
            let ended = self.lately_closed_of(opened.principal, role.side());
            out.resumes.extend(ended);
        }
        let no_longer_theirs = match role.side() {
            Side::Visitor => Vec::new(),
            Side::Agent => self.resume_agents_cursors(opened, hello, out),
        };
        let last_n = self
            .sessions
            .get_mut(principal, session)
            .map_or(0, |last| last.n);
        out.effects.push(Effect::Welcome {
            connection,
            request: opened.request,
            last_n,
            resumes: index(start)..index(out.resumes.len()),
            heartbeat_ms: opened.heartbeat_ms,
            announced: opened.announced,
        });
        for key in no_longer_theirs {
            let about = About::Conversation(key);
            out.effects.push(Effect::Answer {
                to: opened.address,
                request: 0,
                about,
            });
        }
        self.came(principal, opened.widget, role, out);
        Ok(())
    }

    /// An agent's role is what the administrator says now, not what the token said; somebody who is not (any more) one,
    /// or whose password is newer than the token, is turned away.
    fn role_of(&self, opened: &Opened<'_>) -> Result<Role, CloseCode> {
        if opened.role.side() == Side::Visitor {
            return Ok(Role::Visitor);
        }
        let agent = self.agents.get(opened.principal);
        let row = agent
            .map(|agent| &agent.row)
            .filter(|row| !row.disabled)
            .ok_or(CloseCode::FORBIDDEN)?;
        if opened.issued_at_s < row.tokens_valid_from_s {
            return Err(CloseCode::BAD_TOKEN);
        }
        Ok(row.role)
    }

    fn need_cursors(&self, role: Role, hello: Option<fb::Hello<'_>>) -> Result<(), Need> {
        if role != Role::Visitor {
            return Ok(());
        }
        for cursor in cursors_of(hello).take(LOOKUPS_PER_HELLO_MAX) {
            self.conversation_of(cursor.0)?;
        }
        Ok(())
    }

    /// The conversation of an id, from memory; a fact is asked for where memory does not say.
    pub(crate) fn conversation_of(&self, id: Id) -> Result<Option<ConversationKey>, Need> {
        if id.is_absent() {
            return Ok(None);
        }
        if let Some(key) = self.conversations.find(id) {
            return Ok(Some(key));
        }
        self.fact(Need::Conversation { id }).map(|_| None)
    }

    /// A Hello of a connection that its client gave up may arrive behind that of the next one: it supersedes nobody. Its
    /// own line ends; nobody reads there any more.
    fn is_late(&self, opened: &Opened<'_>) -> bool {
        let mut others = self.connections.of(opened.principal);
        opened.connection > 0
            && others.any(|key| {
                self.connections.get(key).is_some_and(|other| {
                    other.session == opened.session && other.number > opened.connection
                })
            })
    }

    /// Whoever has this slot, this session, or one connection too many, goes.
    fn make_way(&mut self, opened: &Opened<'_>, out: &mut Output) {
        if let Some(key) = self.connections.in_slot(opened.address) {
            self.disconnect(key, out);
        }
        let others: Vec<_> = self.connections.of(opened.principal).collect();
        for (count, &key) in others.iter().enumerate() {
            let Some(other) = self.connections.get(key) else {
                continue;
            };
            let same_session = other.session == opened.session;
            if same_session || count + 1 >= self.rules.connections_per_principal_max {
                let code = if same_session {
                    CloseCode::SUPERSEDED
                } else {
                    CloseCode::BUSY
                };
                out.effects.push(Effect::Close {
                    address: other.address,
                    code: code.0,
                    retry_ms: 0,
                });
                self.tally.superseded += u64::from(same_session);
                self.disconnect(key, out);
            }
        }
    }

    fn learn(&mut self, opened: &Opened<'_>, hello: Option<fb::Hello<'_>>) {
        let person = self.people.entry(opened.principal);
        if !opened.name.is_empty() && *person.name != *opened.name {
            person.name = opened.name.into();
        }
        person.family = Some(opened.family);
        person.widget = opened.widget;
        let Some(hello) = hello else { return };
        let page = cut(hello.page().unwrap_or_default(), PAGE_KEPT_BYTES_MAX);
        if *person.page != *page {
            person.page = page.into();
        }
        self.people
            .set_locale(opened.principal, hello.locale().unwrap_or_default());
    }

    fn resume_visitor(&self, opened: &Opened<'_>, hello: Option<fb::Hello<'_>>, out: &mut Output) {
        let open = self.conversations.open_of(opened.principal, opened.widget);
        if let Some(key) = open {
            let cursor =
                cursors_of(hello).find(|cursor| cursor.0 == self.conversations.at(key).row.id);
            out.resumes
                .push(self.resume(key, Side::Visitor, cursor, opened.announced));
        }
        for cursor in cursors_of(hello).take(LOOKUPS_PER_HELLO_MAX) {
            let Some(key) = self.conversations.find(cursor.0) else {
                continue;
            };
            if self.conversations.at(key).row.visitor == opened.principal && Some(key) != open {
                out.resumes
                    .push(self.resume(key, Side::Visitor, Some(cursor), false));
            }
        }
    }

    fn resume_agent(&self, opened: &Opened<'_>, hello: Option<fb::Hello<'_>>, out: &mut Output) {
        let Some(agent) = self.agents.get(opened.principal) else {
            return;
        };
        for &key in &agent.open {
            let key = ConversationKey(key);
            let id = self.conversations.at(key).row.id;
            let cursor = cursors_of(hello).find(|cursor| cursor.0 == id);
            out.resumes
                .push(self.resume(key, Side::Agent, cursor, opened.announced));
        }
    }

    /// What ended lately may have left memory since: as many look-ups as one principal's conversations that ended
    /// within [`LATELY_US`](super::loaded::LATELY_US), once for each connection that is announced.
    fn need_lately_closed(&self, principal: Id) -> Result<(), Need> {
        for &id in self.lately_closed.get(&principal).into_iter().flatten() {
            self.conversation_of(id)?;
        }
        Ok(())
    }

    /// An earlier process may have committed the end of a conversation and died before it told those who are connected.
    fn lately_closed_of(&self, principal: Id, side: Side) -> impl Iterator<Item = Resume> + '_ {
        let ids = self.lately_closed.get(&principal).into_iter().flatten();
        ids.filter_map(|&id| self.conversations.find(id))
            .filter(move |&key| self.conversations.at(key).side_of(principal) == Some(side))
            .map(move |key| self.resume(key, side, None, true))
    }

    /// Of a connection whose Hello waited in the ring for this backend, with the announcement behind it: to begin anew
    /// would take the Welcome back that is on its way. But the Hello named what the client knew when it said it, and
    /// an earlier process may have taken the same Hello and ended something since.
    fn tell_lately_closed(&self, key: ConnectionKey, out: &mut Output) {
        let Some(connection) = self.connections.get(key) else {
            return;
        };
        let principal = connection.principal;
        for resume in self.lately_closed_of(principal, connection.side()) {
            out.effects.push(Effect::Joined {
                conversation: resume.conversation,
                principal,
                cursor: resume.cursor,
                seq: self.conversations.at(resume.conversation).seq,
            });
        }
    }

    /// What an agent's page still shows: conversations that closed meanwhile end there as well, and those that were
    /// handed on are taken off it. Only what is in memory: the page's list is read over HTTP anyway.
    fn resume_agents_cursors(
        &self,
        opened: &Opened<'_>,
        hello: Option<fb::Hello<'_>>,
        out: &mut Output,
    ) -> Vec<ConversationKey> {
        let mut no_longer_theirs = Vec::new();
        for cursor in cursors_of(hello) {
            let Some(key) = self.conversations.find(cursor.0) else {
                continue;
            };
            let conversation = self.conversations.at(key);
            if conversation.row.agent != Some(opened.principal) {
                no_longer_theirs.push(key);
            } else if !conversation.is_open() {
                out.resumes
                    .push(self.resume(key, Side::Agent, Some(cursor), false));
            }
        }
        no_longer_theirs
    }

    /// From where a connection follows a conversation. An announced one: from what its side acknowledged. A client
    /// that names a cursor of this incarnation: from there, unless that is more than it should be sent at once.
    /// A client that has nothing: the whole, if it is short.
    fn resume(
        &self,
        key: ConversationKey,
        side: Side,
        cursor: Option<(Id, u64, u64)>,
        announced: bool,
    ) -> Resume {
        let conversation = self.conversations.at(key);
        let (seq, erased) = (conversation.seq, conversation.erased);
        if announced {
            // What was removed above the mark expired: it is not sent any more.
            let cursor = conversation.marks.side(side).delivered.max(erased);
            return Resume {
                conversation: key,
                cursor,
                recovered: true,
            };
        }
        let (from, most) = match cursor {
            Some((_, incarnation, from)) if incarnation == self.incarnation && from <= seq => {
                (from, self.rules.resume_messages_max)
            }
            Some(_) => {
                return Resume {
                    conversation: key,
                    cursor: seq,
                    recovered: false,
                };
            }
            None => (0, self.rules.join_messages_max),
        };
        // Retention may have removed what they lack: a part would be a gap in silence.
        let recovered = seq - from <= most && from >= erased;
        Resume {
            conversation: key,
            cursor: if recovered && !shm_bus::mutant::is_planted("resume_with_ge") {
                from
            } else if recovered {
                seq.min(from + 1)
            } else {
                seq
            },
            recovered,
        }
    }

    /// Somebody has a connection (more).
    fn came(&mut self, principal: Id, widget: u32, role: Role, out: &mut Output) {
        match role.side() {
            Side::Visitor => {
                let Some(key) = self.conversations.open_of(principal, widget) else {
                    return;
                };
                self.conversations.at_mut(key).seen_at_us = self.now_us;
                let renamed = self.rename(key, out);
                let first = self.connections.of(principal).nth(1).is_none();
                if first || renamed {
                    out.effects.push(Effect::Changed { conversation: key });
                }
            }
            Side::Agent => {
                if self.agents.attend(principal, Attendance::Connected) {
                    self.presence_dirty.insert(principal);
                    self.queue_dirty = true;
                }
            }
        }
    }

    /// A visitor who told their name meanwhile is called by it from now on.
    fn rename(&mut self, key: ConversationKey, out: &mut Output) -> bool {
        let conversation = self.conversations.at(key);
        let (id, widget) = (conversation.row.visitor, conversation.row.widget);
        let Some(name) = self.people.get(id).map(|person| person.name.clone()) else {
            return false;
        };
        if name.is_empty() || name == conversation.visitor_name {
            return false;
        }
        self.conversations.at_mut(key).visitor_name = name;
        self.write_visitor(
            Who {
                id,
                role: Role::Visitor,
                widget,
            },
            out,
        );
        true
    }

    pub(crate) fn closed(&mut self, address: Address, out: &mut Output) {
        if let Some(key) = self.connections.at(address) {
            self.disconnect(key, out);
        }
    }

    pub(crate) fn gateway_gone(&mut self, gateway: u64, out: &mut Output) {
        for key in self.connections.of_gateway(gateway) {
            self.disconnect(key, out);
        }
        self.connections.forget_gateway(gateway);
        out.writes.gateways_gone.push(gateway);
    }

    /// A connection is gone; with the last one of somebody begins their grace.
    fn disconnect(&mut self, key: ConnectionKey, out: &mut Output) {
        let Some(gone) = self.connections.remove(key) else {
            return;
        };
        out.effects.push(Effect::Gone { connection: key });
        if self.connections.is_connected(gone.principal) {
            return;
        }
        match gone.side() {
            Side::Visitor => {
                if let Some(key) = self.conversations.open_of(gone.principal, gone.widget) {
                    self.conversations.at_mut(key).seen_at_us = self.now_us;
                    self.watch_visitor(key);
                    out.effects.push(Effect::Changed { conversation: key });
                } else {
                    self.people.forget(gone.principal);
                }
            }
            Side::Agent => {
                let until_us = self.now_us + self.rules.agent_grace_us;
                if self
                    .agents
                    .attend(gone.principal, Attendance::Leaving { until_us })
                {
                    self.presence_dirty.insert(gone.principal);
                }
            }
        }
    }

    /// Looks at the visitor of an open conversation again when they may count as gone: one entry a conversation.
    pub(crate) fn watch_visitor(&mut self, key: ConversationKey) {
        let conversation = self.conversations.at_mut(key);
        let stay_us = match conversation.row.status {
            Status::Waiting => self.rules.abandoned_us,
            Status::Chatting => self.rules.visitor_gone_us,
            Status::Closed => return,
        };
        let look_us = conversation.seen_at_us + stay_us;
        if conversation.look_at_us != 0 && conversation.look_at_us <= look_us {
            return;
        }
        let before_us = std::mem::replace(&mut conversation.look_at_us, look_us);
        let id = conversation.row.id;
        self.away.remove(&(before_us, key.0, id));
        self.away.insert((look_us, key.0, id));
    }
}

fn index(length: usize) -> u32 {
    u32::try_from(length).expect("invariant: a turn's resumes are bounded by its inputs")
}

/// Hello's view; `None` when announced.
fn hello_of<'a>(opened: &Opened<'a>) -> Result<Option<fb::Hello<'a>>, Refusal> {
    if opened.announced {
        return Ok(None);
    }
    match verify(Kind::Hello, opened.hello) {
        Ok(View::Hello(hello)) => Ok(Some(hello)),
        _ => Err(Refusal::new(
            Reason::MalformedEnvelope,
            "this Hello does not verify",
        )),
    }
}

/// What a client says that it has: (conversation, incarnation, seq), at most as many as a Hello may name.
fn cursors_of(hello: Option<fb::Hello<'_>>) -> impl Iterator<Item = (Id, u64, u64)> + '_ {
    hello
        .and_then(|hello| hello.cursors())
        .into_iter()
        .flatten()
        .take(limits::CURSORS_PER_HELLO_MAX)
        .map(|cursor| {
            (
                Id::from(cursor.conversation()),
                cursor.incarnation(),
                cursor.seq(),
            )
        })
}
