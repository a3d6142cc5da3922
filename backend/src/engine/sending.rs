//! Sends: deduplicated by (session, n), checked, appended, answered.

use tidegate_protocol::close::CloseCode;
use tidegate_protocol::{Id, Kind, View, fb, limits, message, verify};

use super::answer::Answer;
use super::command::{Actor, HttpAnswer, Refusal, SentAnswer};
use super::connections::Address;
use super::conversation::ConversationKey;
use super::effect::{Effect, Output, Repeat};
use super::input::{Envelope, Ruling};
use super::kinds::{CloseReason, Content, Outcome, Reason, Role, Side, SystemEvent};
use super::loaded::{Found, Need};
use super::rows::{IdempotencyKeyRow, MessageRow, SessionLastRow, TextRange, VisitorRow};
use super::table::{Event, Step, step};
use super::{Engine, Stop, refuse};

/// First answers to a new visitor's question that the usual answer time is the median of.
const ANSWER_SAMPLES_MAX: usize = 64;

/// A text that makes the engine panic, so that tests can see what becomes of a poison input.
#[cfg(any(test, feature = "fault-points"))]
pub const POISON_TEXT: &str = "\u{1}poison\u{1}";

/// Somebody who sends, as the engine knows them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who {
    /// Id.
    pub(crate) id: Id,
    /// Visitor, agent or supervisor.
    pub(crate) role: Role,
    /// Visitors: their widget.
    pub(crate) widget: u32,
}

/// A text over HTTP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    /// As it came: a repeat of it is one, whatever was sent.
    pub(crate) text: &'a str,
    /// What is sent instead.
    pub(crate) instead: Option<&'a str>,
}

/// A message's id and the check of its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MessageId {
    session: u64,
    n: u64,
    hash: u64,
}

impl MessageId {
    /// Of a message that no session sent.
    pub(crate) const fn of_none(hash: u64) -> Self {
        Self {
            session: 0,
            n: 0,
            hash,
        }
    }
}

/// Whether a text can be a message: something that shows, and no more than one holds.
#[must_use]
pub fn is_text(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= limits::MESSAGE_TEXT_BYTES_MAX
}

/// A stable 64-bit hash of a body. It need not withstand an attacker: who finds a collision fools only himself.
#[must_use]
pub fn body_hash(conversation: Id, text: &str) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the two halves of a product are folded"
    )]
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word).wrapping_mul(u128::from(K) << 1 | 1);
        (product >> 64) as u64 ^ product as u64 ^ word.rotate_left(29)
    };
    let mut hash = fold(fold(K, conversation.hi()), conversation.lo());
    let mut chunks = text.as_bytes().chunks_exact(8);
    for chunk in &mut chunks {
        hash = fold(
            hash,
            u64::from_le_bytes(chunk.try_into().expect("invariant: chunks of eight")),
        );
    }
    let mut tail = [0; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    fold(fold(hash, u64::from_le_bytes(tail)), text.len() as u64)
}

impl Engine {
    /// An envelope of a connection, and how the workers ruled on its text, if they did.
    pub(crate) fn envelope(
        &mut self,
        envelope: &Envelope<'_>,
        ruling: Option<Ruling<'_>>,
        out: &mut Output,
    ) -> Result<(), Need> {
        let Some(kind) = Kind::from_u8(envelope.kind) else {
            return Ok(());
        };
        let Ok(view) = verify(kind, envelope.payload) else {
            let refusal = Refusal::new(Reason::MalformedEnvelope, "this envelope does not verify");
            self.count_refusal(refusal.reason);
            out.effects.push(Effect::Refused {
                to: envelope.address,
                request: 0,
                field: "",
                refusal,
            });
            return Ok(());
        };
        let who = self.who(envelope.address, envelope.principal);
        let applied = match &view {
            View::Send(send) => self.send(envelope, who, send, ruling, out),
            View::Ack(ack) => self.ack(envelope, who, ack, out),
            View::Typing(_) if envelope.settled => Ok(()),
            View::Typing(typing) => {
                self.typing(who, typing, out);
                Ok(())
            }
            View::Command(command) => self.command(envelope, who, command, out),
            // Hello comes as Opened and Ping is answered by the gateway; the other kinds lead the other way.
            _ => Ok(()),
        };
        match applied {
            Err(Need::Sent { .. } | Need::Conversation { .. }) if !envelope.settled => {
                match self
                    .people
                    .entry(who.id)
                    .bucket
                    .take(self.rules.sends, self.now_us)
                {
                    Ok(()) => applied,
                    Err(retry_ms) => {
                        self.too_many_look_ups(envelope, &view, retry_ms, out);
                        Ok(())
                    }
                }
            }
            applied => applied,
        }
    }

    /// A look-up costs the turn a read of the store. Old repeats and ids out of memory are rare; who comes with many
    /// of them waits like one who sends too much. An Ack needs no answer: its client acknowledges again.
    fn too_many_look_ups(
        &mut self,
        envelope: &Envelope<'_>,
        view: &View<'_>,
        retry_ms: u32,
        out: &mut Output,
    ) {
        let detail = "too many repeats or unknown ids in too short a time".into();
        let refusal = Refusal {
            reason: Reason::RateLimited,
            detail,
            retry_ms,
        };
        self.count_refusal(refusal.reason);
        match view {
            View::Send(send) => {
                let mut result = Answer::new(envelope.address, send.n());
                result.refused(&refusal);
                out.effects.push(result.into_effect());
            }
            View::Command(command) => {
                let (to, request) = (envelope.address, command.request());
                out.effects.push(Effect::Refused {
                    to,
                    request,
                    field: "",
                    refusal,
                });
            }
            _ => {}
        }
    }

    /// Who a record's principal is: by its connection, or, for what was left in a ring by connections that were not
    /// announced yet, by what is known of the principal.
    fn who(&self, address: Address, principal: Id) -> Who {
        let connection = self
            .connections
            .at(address)
            .and_then(|key| self.connections.get(key));
        if let Some(role) = self.agents.role_of(principal) {
            return Who {
                id: principal,
                role,
                widget: 0,
            };
        }
        let widget = match connection {
            Some(connection) => connection.widget,
            None => self.people.get(principal).map_or(0, |person| person.widget),
        };
        Who {
            id: principal,
            role: Role::Visitor,
            widget,
        }
    }

    fn send(
        &mut self,
        envelope: &Envelope<'_>,
        who: Who,
        send: &fb::Send<'_>,
        ruling: Option<Ruling<'_>>,
        out: &mut Output,
    ) -> Result<(), Need> {
        let (principal, session, n) = (envelope.principal, envelope.session, send.n());
        let text = send.text().unwrap_or_default();
        let conversation = Id::from(send.conversation());
        let hash = body_hash(conversation, text);
        let Some(last) = self.sessions.get_mut(principal, session).copied() else {
            return Err(Need::Session { principal, session });
        };
        let mut result = Answer::new(envelope.address, n);
        if envelope.settled && n > last.n {
            // It was not accepted then, and must not be now: the client may use this number for something else.
            self.ask_to_come_back(envelope.address, out);
            return Ok(());
        } else if n == 0 || (n > last.n + 1 && !shm_bus::mutant::is_planted("accept_a_gap")) {
            self.tally.gap += 1;
            result.outcome = Outcome::Gap;
            result.expected_n = last.n + 1;
        } else if n <= last.n {
            let repeat = Repeat {
                to: envelope.address,
                principal,
                session,
                n,
                hash,
                conversation: conversation.present(),
            };
            return self.repeat(&repeat, last, envelope.settled, out);
        } else {
            let id = MessageId { session, n, hash };
            let accepted = match ruling {
                None => self.accept(who, conversation.present(), text, id, None, out),
                // The id goes by what was sent: a repeat of that is one, whatever became of it.
                Some(Ruling::Replace(text)) => {
                    self.accept(who, conversation.present(), text, id, None, out)
                }
                Some(Ruling::Refuse(reason)) => self.refuse_by(who, reason),
            };
            match accepted {
                Ok((key, seq)) => {
                    result.accepted(self.conversations.at(key), key, seq, self.now_us);
                    self.remember_last(principal, id, key, seq, out);
                }
                Err(Stop::Need(need)) => return Err(need),
                Err(Stop::Refused(refusal)) => {
                    self.count_refusal(refusal.reason);
                    result.refused(&refusal);
                }
            }
        }
        // Who is told `busy` keeps the number for the same text: nothing can be mistaken, and nobody has to reconnect.
        if envelope.left_over && matches!(result.outcome, Outcome::Gap | Outcome::Refused) {
            self.ask_to_come_back(envelope.address, out);
            return Ok(());
        }
        let appended = (result.outcome == Outcome::Accepted).then_some((result.key, result.seq));
        out.effects.push(result.into_effect());
        if let Some((Some(conversation), seq)) = appended {
            out.effects.push(Effect::Appended { conversation, seq });
        }
        Ok(())
    }

    /// An earlier process may have answered this Send already, and the client used its number for something else: any
    /// second answer but an acceptance would be taken for that one's. On a new connection nothing old is mistaken; what
    /// is asked again there is answered for good.
    fn ask_to_come_back(&mut self, address: Address, out: &mut Output) {
        self.closed(address, out);
        out.effects.push(Effect::Close {
            address,
            code: CloseCode::TRY_AGAIN.0,
            retry_ms: 0,
        });
    }

    /// Checks a new text and appends it. Nothing changes unless it is accepted.
    fn accept(
        &mut self,
        who: Who,
        to: Option<Id>,
        text: &str,
        id: MessageId,
        page: Option<&str>,
        out: &mut Output,
    ) -> Result<(ConversationKey, u64), Stop> {
        #[cfg(any(test, feature = "fault-points"))]
        assert_ne!(text, POISON_TEXT, "planted");
        if text.trim().is_empty() {
            return refuse(
                Reason::EmptyMessage,
                "a message has at least one character that shows",
            );
        }
        if text.len() > limits::MESSAGE_TEXT_BYTES_MAX {
            return refuse(
                Reason::MessageTooLong,
                "a text has at most 16384 bytes of UTF-8; send it in parts",
            );
        }
        let who = self.with_widget(who, to)?;
        let key = match (who.role.side(), to) {
            (Side::Visitor, None) => self.conversations.open_of(who.id, who.widget),
            (Side::Agent, None) => {
                return refuse(
                    Reason::NoSuchConversation,
                    "an agent says to which conversation",
                );
            }
            (side, Some(id)) => {
                let Some(key) = self.conversation_of(id)? else {
                    return refuse(Reason::NoSuchConversation, "no conversation has this id");
                };
                if self.conversations.at(key).side_of(who.id) != Some(side) {
                    return refuse(Reason::Forbidden, "this conversation is not yours");
                }
                Some(key)
            }
        };
        let event = match who.role.side() {
            Side::Visitor => Event::VisitorText,
            Side::Agent => Event::AgentText,
        };
        let begin = match step(key.map(|key| self.conversations.at(key).row.status), event) {
            Step::Append => false,
            Step::Begin => true,
            Step::Refuse(reason) => return refuse(reason, "its state allows no text"),
            _ => return refuse(Reason::InvalidState, "its state allows no text"),
        };
        if begin {
            self.need_visitor(who.id)?;
        }
        self.take_token(who.id)?;
        let key = match key {
            Some(key) if !begin => key,
            _ => self.begin(who, page, out),
        };
        let seq = self.append_text(key, who, text, id, out);
        Ok((key, seq))
    }

    /// A moderator refuses; it costs its sender as much as what is accepted.
    fn refuse_by<T>(&mut self, who: Who, reason: &str) -> Result<T, Stop> {
        self.take_token(who.id)?;
        Err(Stop::Refused(Refusal {
            reason: Reason::Forbidden,
            detail: reason.to_owned().into(),
            retry_ms: 0,
        }))
    }

    /// Whoever writes to the store, or begins something, does so at a bounded rate; but one agent of a load answers as
    /// many visitors as a whole shop does.
    pub(crate) fn take_token(&mut self, id: Id) -> Result<(), Stop> {
        if id.is_synthetic() && self.agents.get(id).is_some() {
            return Ok(());
        }
        let (limit, now_us) = (self.rules.sends, self.now_us);
        let taken = self.people.entry(id).bucket.take(limit, now_us);
        taken.map_err(|retry_ms| {
            let detail = "too many messages in too short a time".into();
            Stop::Refused(Refusal {
                reason: Reason::RateLimited,
                detail,
                retry_ms,
            })
        })
    }

    /// What was left in a ring by a visitor whose connection is not announced yet says nothing of their widget. It
    /// is that of their row; without one they have to try again, when the connection is known.
    fn with_widget(&mut self, who: Who, to: Option<Id>) -> Result<Who, Stop> {
        if who.role != Role::Visitor || who.widget != 0 || to.is_some() {
            return Ok(who);
        }
        self.need_visitor(who.id)?;
        match self.people.get(who.id).map_or(0, |person| person.widget) {
            0 => Err(Stop::Refused(Refusal::busy(1_000))),
            widget => Ok(Who { widget, ..who }),
        }
    }

    /// A visitor whose name is not in memory (a leftover of a ring, or REST alone) is looked up before they begin.
    pub(crate) fn need_visitor(&mut self, id: Id) -> Result<(), Need> {
        if self.people.get(id).is_some() {
            return Ok(());
        }
        if let Found::Visitor(Some(row)) = self.fact(Need::Visitor { id })? {
            let (name, locale, widget) = (row.name.clone(), row.locale.clone(), row.widget);
            let person = self.people.entry(id);
            person.name = name.into();
            person.widget = widget;
            self.people.set_locale(id, &locale);
        }
        Ok(())
    }

    pub(crate) fn append_text(
        &mut self,
        key: ConversationKey,
        who: Who,
        text: &str,
        id: MessageId,
        out: &mut Output,
    ) -> u64 {
        let name = self.name_of(who);
        let row = self.message_row(key, who.role, Some(who.id), id, Content::Text);
        let seq = self.append(key, row, &name, text, out);
        let now_us = self.now_us;
        let conversation = self.conversations.at_mut(key);
        conversation.last_text.clear();
        let cut = text.floor_char_boundary(text.len().min(limits::LAST_TEXT_BYTES_MAX));
        conversation.last_text.push_str(&text[..cut]);
        conversation.last_at_us = now_us;
        match who.role {
            Role::Visitor => {
                conversation.pending.to_agent += 1;
                conversation.seen_at_us = now_us;
                if conversation.unanswered_since_us == 0 {
                    conversation.unanswered_since_us = now_us;
                }
            }
            // The visitor still waits for somebody.
            Role::Bot => conversation.pending.to_visitor += 1,
            Role::Agent | Role::Supervisor | Role::System => {
                conversation.pending.to_visitor += 1;
                let asked_at_us = std::mem::take(&mut conversation.unanswered_since_us);
                if asked_at_us > 0 {
                    self.sample_answer(now_us - asked_at_us);
                }
            }
        }
        self.ledger.accept(who.role.side().other());
        self.tally.accepted += 1;
        seq
    }

    fn sample_answer(&mut self, took_us: u64) {
        if self.answer_samples_ms.len() == ANSWER_SAMPLES_MAX {
            self.answer_samples_ms.pop_front();
        }
        self.answer_samples_ms
            .push_back(u32::try_from(took_us / 1_000).unwrap_or(u32::MAX));
    }

    pub(crate) fn name_of(&self, who: Who) -> Box<str> {
        match who.role.side() {
            Side::Visitor => self
                .people
                .get(who.id)
                .map_or_else(Box::default, |person| person.name.clone()),
            Side::Agent => self
                .agents
                .get(who.id)
                .map_or_else(Box::default, |agent| agent.row.name.as_str().into()),
        }
    }

    fn message_row(
        &self,
        key: ConversationKey,
        sender_role: Role,
        sender: Option<Id>,
        id: MessageId,
        content: Content,
    ) -> MessageRow {
        let conversation = self.conversations.at(key);
        MessageRow {
            site_id: self.rules.site_id,
            conversation: conversation.row.id,
            seq: conversation.seq + 1,
            at_us: self.now_us,
            sender_role,
            sender,
            sender_name: TextRange::default(),
            session: id.session,
            n: id.n,
            body_hash: id.hash,
            content,
            text: TextRange::default(),
            system: SystemEvent::None,
            close_reason: CloseReason::None,
        }
    }

    /// Appends a row that `message_row` made: seq, window, WriteSet.
    fn append(
        &mut self,
        key: ConversationKey,
        mut row: MessageRow,
        sender_name: &str,
        text: &str,
        out: &mut Output,
    ) -> u64 {
        self.conversations.at_mut(key).seq = row.seq;
        self.keep_in_window(key, &row, sender_name, text);
        row.sender_name = out.writes.push_text(sender_name);
        row.text = out.writes.push_text(text);
        out.writes.messages.push(row);
        row.seq
    }

    /// Tells both sides of a change of state.
    pub(crate) fn append_system(
        &mut self,
        key: ConversationKey,
        event: SystemEvent,
        name: &str,
        close_reason: CloseReason,
        out: &mut Output,
    ) {
        let id = MessageId::of_none(0);
        let mut row = self.message_row(key, Role::System, None, id, Content::System);
        row.system = event;
        row.close_reason = close_reason;
        let seq = self.append(key, row, name, "", out);
        out.effects.push(Effect::Appended {
            conversation: key,
            seq,
        });
    }

    /// Encodes a message once, as every receiver gets it, and keeps it. What leaves the window for it is told to
    /// the conversation that it belonged to.
    pub(crate) fn keep_in_window(
        &mut self,
        key: ConversationKey,
        row: &MessageRow,
        sender_name: &str,
        text: &str,
    ) {
        let payload = encode_message(&mut self.builder, row, sender_name, text);
        let to = match row.content {
            Content::Text => Some(row.sender_role.side().other()),
            Content::System => None,
        };
        let conversations = &mut self.conversations;
        let position = self.window.push(key.0, to, row.at_us, payload, |left| {
            if let Some(owner) = conversations.get_mut(ConversationKey(left.owner))
                && owner.window.front() == Some(&left.position)
            {
                owner.window.pop_front();
            }
        });
        self.conversations.at_mut(key).window.push_back(position);
    }

    fn remember_last(
        &mut self,
        principal: Id,
        id: MessageId,
        key: ConversationKey,
        seq: u64,
        out: &mut Output,
    ) {
        let (turn, now_us, site_id) = (self.turn, self.now_us, self.rules.site_id);
        let conversation = self.conversations.at(key).row.id;
        let Some(last) = self.sessions.get_mut(principal, id.session) else {
            return;
        };
        let row = SessionLastRow {
            site_id,
            principal,
            session: id.session,
            last_n: id.n,
            last_hash: id.hash,
            last_conversation: conversation,
            last_seq: seq,
            last_at_us: now_us,
        };
        (last.n, last.hash, last.seq, last.at_us, last.conversation) =
            (id.n, id.hash, seq, now_us, conversation);
        if last.row_turn == turn {
            out.writes.sessions[last.row_index as usize] = row;
        } else {
            last.row_turn = turn;
            last.row_index = u32::try_from(out.writes.sessions.len())
                .expect("invariant: a turn's rows are bounded by its inputs");
            out.writes.sessions.push(row);
        }
    }

    /// A text over HTTP. The Idempotency-Key plays the session's part.
    pub(crate) fn http_send(
        &mut self,
        by: &Actor,
        to: Option<Id>,
        said: Said<'_>,
        key_hash: Option<u128>,
        page: &str,
        out: &mut Output,
    ) -> Result<HttpAnswer, Stop> {
        let who = self.actor(by)?;
        let hash = body_hash(to.unwrap_or_default(), said.text);
        if let Some(key_hash) = key_hash
            && let Some(first) = self.used_key(who.id, key_hash)?
        {
            let same = first.body_hash == hash;
            *(if same {
                &mut self.tally.duplicate
            } else {
                &mut self.tally.id_conflict
            }) += 1;
            let outcome = if same {
                Outcome::Duplicate
            } else {
                Outcome::IdConflict
            };
            let (conversation, seq, at_us) = (first.conversation, first.seq, first.at_us);
            return Ok(HttpAnswer::Sent(SentAnswer {
                outcome,
                conversation,
                seq,
                at_us,
            }));
        }
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash is a hash")]
        let id = MessageId {
            session: key_hash.unwrap_or(0) as u64,
            n: 0,
            hash,
        };
        if who.role == Role::Visitor && !by.name.is_empty() {
            self.people.entry(who.id).name = by.name.as_str().into();
        }
        let text = said.instead.unwrap_or(said.text);
        let (key, seq) = match self.accept(who, to, text, id, Some(page), out) {
            Ok(accepted) => accepted,
            Err(stop) => {
                self.forget_if_idle(who);
                return Err(stop);
            }
        };
        let (conversation, at_us) = (self.conversations.at(key).row.id, self.now_us);
        if let Some(key_hash) = key_hash {
            let site_id = self.rules.site_id;
            let row = IdempotencyKeyRow {
                site_id,
                principal: who.id,
                key_hash,
                body_hash: hash,
                conversation,
                seq,
                at_us,
            };
            self.new_keys.push(row);
            out.writes.idempotency_keys.push(row);
        }
        out.effects.push(Effect::Appended {
            conversation: key,
            seq,
        });
        Ok(HttpAnswer::Sent(SentAnswer {
            outcome: Outcome::Accepted,
            conversation,
            seq,
            at_us,
        }))
    }

    /// Nothing grows with people who only tried.
    fn forget_if_idle(&mut self, who: Who) {
        let idle = who.role == Role::Visitor
            && !self.connections.is_connected(who.id)
            && self.conversations.open_of(who.id, who.widget).is_none();
        if idle {
            self.people.forget(who.id);
        }
    }

    fn used_key(&self, principal: Id, key_hash: u128) -> Result<Option<IdempotencyKeyRow>, Need> {
        let of_this_turn = self
            .new_keys
            .iter()
            .find(|row| row.principal == principal && row.key_hash == key_hash);
        if let Some(row) = of_this_turn {
            return Ok(Some(*row));
        }
        match self.fact(Need::IdempotencyKey {
            principal,
            key_hash,
        })? {
            Found::IdempotencyKey(row) => Ok(*row),
            _ => Ok(None),
        }
    }

    /// The visitor's row, with their conversation.
    pub(crate) fn write_visitor(&self, who: Who, out: &mut Output) {
        let person = self.people.get(who.id);
        out.writes.visitors.push(VisitorRow {
            site_id: self.rules.site_id,
            id: who.id,
            widget: who.widget,
            name: person.map_or_else(String::new, |person| person.name.to_string()),
            created_at_us: self.now_us,
            locale: self.people.locale_of(who.id).to_owned(),
            family: person
                .and_then(|person| person.family)
                .map_or(0, super::kinds::Family::code),
        });
    }
}

/// A message as it goes out.
pub fn encode_message<'a>(
    builder: &'a mut flatbuffers::FlatBufferBuilder<'static>,
    row: &MessageRow,
    sender_name: &str,
    text: &str,
) -> &'a [u8] {
    message::Message {
        conversation: row.conversation,
        seq: row.seq,
        at_us: row.at_us,
        sender_role: fb::Role(row.sender_role.code()),
        sender: row.sender.unwrap_or_default(),
        sender_name,
        session: row.session,
        n: row.n,
        content: fb::ContentType(row.content.code()),
        text,
        system: fb::SystemEvent(row.system.code()),
        close_reason: fb::CloseReason(row.close_reason.code()),
    }
    .encode(builder)
}
