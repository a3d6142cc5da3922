//! Effects become records, in the order of cause, after the commit.
//!
//! **Order.** Before a connection is told that its own message became seq 7, it is sent everything up to 6; then its
//! cursor stands at 7 and nobody sends it its own message again. If it can't be sent everything up to 6 (it is
//! *behind*), the SendResult goes out all the same (its room was reserved) and its own message comes as a Message
//! later, when it is pulled: the client knows it by (session, n).

use shm_bus::RecordHeader;
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::{Id, Kind, bus, fb, limits, message};
use zerocopy::IntoBytes;

use super::Bus;
use super::cold::ColdReader;
use super::decode::STATE_BYTES_MAX;
use super::delivery::{Follow, receipt_bit};
use super::link::{Gateways, Link};
use super::port::Sent;
use crate::engine::Engine;
use crate::engine::command::Refusal;
use crate::engine::connections::{Address, ConnectionKey};
use crate::engine::conversation::ConversationKey;
use crate::engine::effect::{About, Detail, Effect, Repeat, Resume};
use crate::engine::kinds::{Outcome, Side};
use crate::engine::loaded::Sent as FirstSent;

/// Bytes of conversations in one Welcome; the rest follow as ConversationState.
const WELCOME_BYTES_MAX: usize = limits::ENVELOPE_PAYLOAD_BYTES_MAX - STATE_BYTES_MAX;

/// When a repeat may come again for which there was no room to look.
const SEARCH_RETRY_MS: u32 = 1_000;

/// How long a receipt waits for something else to go to its connection. A gateway makes one send of what one turn says to
/// a connection, and sends are what a message costs: nobody sees a tick come this much later.
const RECEIPT_WAIT_US_MAX: u64 = 50_000;

/// Connections that are pulled in one turn; the rest in the next.
const PULLS_PER_TURN_MAX: usize = 256;

impl<G: Gateways, C: ColdReader> Bus<G, C> {
    /// Publishes one effect. `Http` effects are the turn's own.
    pub fn publish(&mut self, engine: &Engine, effect: &Effect, resumes: &[Resume]) {
        match effect {
            Effect::Welcome {
                connection,
                request,
                last_n,
                resumes: range,
                heartbeat_ms,
                announced,
            } => {
                let resumes = &resumes[range.start as usize..range.end as usize];
                let welcome = message::Welcome {
                    request: *request,
                    last_n: *last_n,
                    heartbeat_ms: *heartbeat_ms,
                    ..message::Welcome::default()
                };
                self.welcome(engine, *connection, welcome, resumes, *announced);
            }
            Effect::Gone { connection } => self.deliveries.remove(*connection),
            Effect::Close {
                address,
                code,
                retry_ms,
            } => {
                let record = bus::CloseRecord {
                    code: *code,
                    reserved: 0,
                    retry_ms: *retry_ms,
                };
                self.answer_record(*address, bus::CLOSE, 0, engine.view_us(), record.as_bytes());
            }
            Effect::SendResult {
                to,
                key,
                seq,
                outcome,
                ..
            } => {
                if *outcome == Outcome::Accepted
                    && let (Some(connection), Some(conversation)) =
                        (engine.connections().at(*to), *key)
                {
                    self.pay(connection);
                    self.pull(engine, connection, conversation, seq - 1);
                    if let Some(follow) = self.follow_mut(connection, conversation)
                        && follow.cursor + 1 == *seq
                    {
                        follow.cursor = *seq;
                    }
                }
                self.send_result(engine, effect);
            }
            Effect::Refused {
                to,
                request,
                field,
                refusal,
            } => self.refused(engine, *to, *request, field, refusal),
            Effect::Answer { to, request, about } => {
                self.answer_about(engine, *to, *request, *about)
            }
            Effect::Search(repeat) => {
                if !self.cold.search(*repeat) {
                    self.refuse_search(engine, repeat);
                }
            }
            Effect::Erased {
                conversation,
                up_to,
            } => self.end_those_who(engine, *conversation, |follow| follow.cursor < *up_to),
            Effect::Appended { conversation, seq } => {
                for index in 0..self.deliveries.follower_count(*conversation) {
                    if let Some(connection) = self.deliveries.follower(*conversation, index) {
                        self.pull(engine, connection, *conversation, *seq);
                    }
                }
            }
            Effect::Changed { conversation } => {
                self.mark(*conversation, |follow| follow.state = true)
            }
            Effect::Receipt {
                conversation,
                side,
                except,
            } => {
                self.owe_receipt(*conversation, *side, *except, engine.view_us());
            }
            Effect::Acked {
                connection,
                conversation,
                delivered,
            } => {
                self.acked(engine, *connection, *conversation, *delivered);
            }
            Effect::Joined {
                conversation,
                principal,
                cursor,
                seq,
            } => {
                let connections: Vec<_> = engine.connections().of(*principal).collect();
                for connection in connections {
                    self.join(
                        engine,
                        connection,
                        Follow::new(*conversation, *cursor),
                        *seq,
                    );
                }
            }
            Effect::Left { .. } if shm_bus::mutant::is_planted("deliver_after_transfer") => {}
            Effect::Left {
                conversation,
                principal,
            } => {
                let connections: Vec<_> = engine.connections().of(*principal).collect();
                for connection in connections {
                    if let Some(follow) = self.follow_mut(connection, *conversation) {
                        follow.leaving = true;
                        follow.state = true;
                        self.flush(engine, connection);
                    }
                }
            }
            Effect::Typing {
                conversation,
                side,
                active,
            } => self.typing(engine, *conversation, *side, *active),
            Effect::Forgotten { conversation, seq } => {
                let lacks = |follow: &Follow| follow.cursor < *seq || follow.state;
                self.end_those_who(engine, *conversation, lacks);
                self.deliveries.forget(*conversation);
            }
            Effect::Http { .. } => {}
        }
    }

    /// A connection follows a conversation from now on: the state first, then what it lacks.
    fn join(&mut self, engine: &Engine, connection: ConnectionKey, follow: Follow, seq: u64) {
        let conversation = follow.conversation;
        let news = self.deliveries.follow(connection, follow);
        let Some(follow) = self.follow_mut(connection, conversation) else {
            return;
        };
        if !news && !std::mem::take(&mut follow.leaving) {
            return;
        }
        follow.state = true;
        self.flush(engine, connection);
        self.pull(engine, connection, conversation, seq);
    }

    /// A client has what it was sent: it may be sent more; of a conversation that is over it needs no more.
    fn acked(
        &mut self,
        engine: &Engine,
        connection: ConnectionKey,
        conversation: ConversationKey,
        delivered: u64,
    ) {
        let Some(follow) = self.follow_mut(connection, conversation) else {
            return;
        };
        let Some(waited) = follow.acknowledged(delivered, engine.view_us()) else {
            return;
        };
        let told = !follow.state && follow.receipts == 0;
        let over = engine
            .conversations()
            .get(conversation)
            .is_none_or(|found| !found.is_open() && delivered >= found.seq);
        if over && told {
            self.deliveries.unfollow(connection, conversation);
        } else if waited {
            self.catch_up(engine, connection);
        }
    }

    /// Ends the publishing of a turn: states and receipts that changed go out once, reservations end. Receipts wait for
    /// the next record to their connection, or [`RECEIPT_WAIT_US_MAX`], if `many` came in this turn.
    pub fn end_publish(&mut self, engine: &Engine, many: bool) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for connection in dirty.drain(..) {
            if let Some(delivery) = self.deliveries.get_mut(connection) {
                delivery.dirty = false;
                self.flush(engine, connection);
            }
        }
        self.dirty = dirty;
        while let Some((due_us, connection)) = self.owed.front().copied()
            && (!many || due_us <= engine.view_us())
        {
            self.owed.pop_front();
            if let Some(delivery) = self.deliveries.get_mut(connection) {
                delivery.owed = false;
                self.flush(engine, connection);
            }
        }
        for gateway in self.attached.values_mut() {
            for port in &mut gateway.ports {
                port.reserved_bytes = 0;
            }
        }
    }

    /// Those who follow a conversation are to learn of a side's marks, `except` whoever set them.
    fn owe_receipt(
        &mut self,
        conversation: ConversationKey,
        side: Side,
        except: Option<ConnectionKey>,
        now_us: u64,
    ) {
        for index in 0..self.deliveries.follower_count(conversation) {
            let Some(connection) = self
                .deliveries
                .follower(conversation, index)
                .filter(|&connection| Some(connection) != except)
            else {
                continue;
            };
            let Some(delivery) = self.deliveries.get_mut(connection) else {
                continue;
            };
            if let Some(follow) = delivery.follow_mut(conversation) {
                follow.receipts |= receipt_bit(side);
            }
            if !std::mem::replace(&mut delivery.owed, true) {
                self.owed
                    .push_back((now_us + RECEIPT_WAIT_US_MAX, connection));
            }
        }
    }

    /// Something goes to a connection now: what is owed to it goes with it.
    pub(super) fn pay(&mut self, connection: ConnectionKey) {
        if let Some(delivery) = self.deliveries.get_mut(connection)
            && delivery.owed
            && !std::mem::replace(&mut delivery.dirty, true)
        {
            self.dirty.push(connection);
        }
    }

    /// Serves those who are behind, and asks for and hands out pages of history, as far as there is room.
    pub fn serve_waiting(&mut self, engine: &Engine) -> bool {
        let mut pulls = 0;
        let instances: Vec<u64> = self.attached.keys().copied().collect();
        for instance in instances {
            let shards = self
                .attached
                .get(&instance)
                .map_or(0, |gateway| gateway.ports.len());
            for shard in 0..shards {
                if let Some((port, producer)) = self.port_of(instance, shard) {
                    port.flush_waiting(producer);
                }
                while pulls < PULLS_PER_TURN_MAX
                    && let Some(connection) = self.next_behind(instance, shard)
                {
                    pulls += 1;
                    if self.catch_up(engine, connection) == Sent::NoRoom {
                        break;
                    }
                }
            }
        }
        while let Some(page) = self.cold.take() {
            pulls += 1;
            self.hand_out(engine, &page);
        }
        while let Some((repeat, found)) = self.cold.take_first_answer() {
            self.answer_repeat(engine, &repeat, found);
        }
        for _ in 0..self.cold_waiting.len() {
            let Some(connection) = self.cold_waiting.pop_front() else {
                break;
            };
            if let Some(delivery) = self.deliveries.get_mut(connection)
                && std::mem::take(&mut delivery.waits_for_reader)
            {
                // Without room it is behind now, and is pulled from there.
                self.catch_up(engine, connection);
            }
        }
        pulls > 0
    }

    /// Rings the doorbells of gateways that were written to: once a turn.
    pub fn ring(&mut self) {
        for gateway in self.attached.values_mut() {
            for (shard, port) in (0..).zip(&mut gateway.ports) {
                if std::mem::take(&mut port.written) {
                    gateway.link.to_gateway(shard).ring();
                }
            }
        }
    }

    fn next_behind(&mut self, instance: u64, shard: usize) -> Option<ConnectionKey> {
        let port = self.attached.get_mut(&instance)?.ports.get_mut(shard)?;
        if !port.waiting.is_empty() {
            return None;
        }
        while let Some(connection) = port.behind.pop_front() {
            // The key may be another connection's by now.
            if let Some(delivery) = self.deliveries.get_mut(connection)
                && delivery.address.gateway == instance
                && usize::from(delivery.address.shard) == shard
                && std::mem::take(&mut delivery.behind)
            {
                return Some(connection);
            }
        }
        None
    }

    fn welcome(
        &mut self,
        engine: &Engine,
        connection: ConnectionKey,
        welcome: message::Welcome<'_>,
        resumes: &[Resume],
        announced: bool,
    ) {
        // Opened and closed within one turn: nobody is there to be welcomed.
        let Some(found) = engine.connections().get(connection) else {
            return;
        };
        let (address, principal, role) = (found.address, found.principal, found.role);
        self.deliveries.insert(connection, address, principal, role);
        // An announced connection was welcomed by an earlier process. An agent is welcomed again: what that process took
        // from them, and died before it said so, is not named any more, and leaves their page.
        let is_silent = announced && role.side() == Side::Visitor;
        let mut states = Vec::new();
        let mut bytes = 0;
        for resume in resumes {
            let state = engine.state_of(resume.conversation, 0, true);
            let state_bytes = 400
                + state.visitor_name.len()
                + state.agent_name.len()
                + state.last_text.len()
                + state.page.len();
            let fits = bytes + state_bytes <= WELCOME_BYTES_MAX
                && states.len() < limits::CONVERSATIONS_PER_WELCOME_MAX;
            self.deliveries
                .follow(connection, Follow::new(resume.conversation, resume.cursor));
            if fits && !is_silent {
                bytes += state_bytes;
                states.push(message::Resumed {
                    state,
                    recovered: resume.recovered,
                });
            } else {
                self.mark_one(connection, resume.conversation, |follow| {
                    follow.state = true
                });
            }
        }
        if !is_silent {
            let agent = engine
                .agents()
                .get(principal)
                .filter(|_| role.side() == Side::Agent);
            let name = agent.map_or_else(
                || engine.name_of_visitor(principal),
                |agent| agent.row.name.as_str(),
            );
            let welcome = message::Welcome {
                principal,
                role: fb::Role(role.code()),
                name,
                conversations: &states,
                agents_online: engine.agents().online(),
                status: fb::AgentStatus(agent.map_or(0, |agent| agent.chosen.value.code())),
                capacity: agent.map_or(0, |agent| agent.row.capacity),
                ..welcome
            };
            let mut builder = std::mem::take(&mut self.builder);
            let payload = welcome.encode(&mut builder);
            let flags = u16::from(Kind::Welcome as u8) | queue_flags(engine, address);
            self.answer_record(
                address,
                bus::ENVELOPE_DOWN,
                flags,
                engine.view_us(),
                payload,
            );
            self.builder = builder;
        }
        for resume in resumes {
            let seq = engine
                .conversations()
                .get(resume.conversation)
                .map_or(0, |conversation| conversation.seq);
            self.pull(engine, connection, resume.conversation, seq);
            let reached = self
                .follow_mut(connection, resume.conversation)
                .map_or(0, |follow| follow.cursor);
            self.tally.replayed_warm += reached.saturating_sub(resume.cursor);
        }
    }

    /// Connections that lack what can't be pulled for them any more end. When they come back, their Hello has it looked
    /// up; what retention removed is said not to be recovered, and where to read.
    fn end_those_who(
        &mut self,
        engine: &Engine,
        conversation: ConversationKey,
        lack: impl Fn(&Follow) -> bool,
    ) {
        let followers: Vec<_> = (0..self.deliveries.follower_count(conversation))
            .filter_map(|index| self.deliveries.follower(conversation, index))
            .collect();
        for connection in followers {
            let lacks = self
                .follow_mut(connection, conversation)
                .is_some_and(|follow| lack(follow));
            let Some(delivery) = self.deliveries.get(connection).filter(|_| lacks) else {
                continue;
            };
            let address = delivery.address;
            self.deliveries.unfollow(connection, conversation);
            let record = bus::CloseRecord {
                code: CloseCode::HALF_OPEN.0,
                reserved: 0,
                retry_ms: 0,
            };
            self.answer_record(address, bus::CLOSE, 0, engine.view_us(), record.as_bytes());
        }
    }

    /// What was found for a repeat: its first answer; or that this is another body; or, if retention removed it, only
    /// that it is a repeat.
    fn answer_repeat(&mut self, engine: &Engine, repeat: &Repeat, found: Option<FirstSent>) {
        let conflict = found.is_some_and(|sent| sent.body_hash != repeat.hash);
        self.tally.repeats_found += u64::from(found.is_some());
        self.tally.repeats_conflicting += u64::from(conflict);
        let mut result = result_of(repeat);
        if let Some(sent) = found.filter(|_| !conflict) {
            result.conversation = sent.conversation;
            result.seq = sent.seq;
            result.at_us = sent.at_us;
        }
        result.outcome = if conflict {
            fb::SendOutcome::IdConflict
        } else {
            fb::SendOutcome::Duplicate
        };
        self.say_result(engine, repeat.to, &result);
    }

    /// Too many are being looked for.
    fn refuse_search(&mut self, engine: &Engine, repeat: &Repeat) {
        let result = message::SendResult {
            outcome: fb::SendOutcome::Busy,
            reason: fb::Reason::Busy,
            retry_ms: SEARCH_RETRY_MS,
            ..result_of(repeat)
        };
        self.tally.repeats_refused += 1;
        self.say_result(engine, repeat.to, &result);
    }

    fn say_result(&mut self, engine: &Engine, to: Address, result: &message::SendResult<'_>) {
        let mut builder = std::mem::take(&mut self.builder);
        let payload = result.encode(&mut builder);
        self.answer(to, Kind::SendResult, engine.view_us(), payload);
        self.builder = builder;
    }

    fn send_result(&mut self, engine: &Engine, effect: &Effect) {
        let Effect::SendResult {
            to,
            n,
            outcome,
            conversation,
            seq,
            at_us,
            expected_n,
            retry_ms,
            reason,
            detail,
            ..
        } = effect
        else {
            return;
        };
        shm_bus::fault::point("turn.before_ack");
        let reference;
        let detail: &str = match detail {
            Detail::Text(text) => text,
            Detail::Said(said) => said,
            Detail::Reference(id) => {
                reference = format!("reference {id}");
                reference.as_str()
            }
        };
        let result = message::SendResult {
            n: *n,
            outcome: fb::SendOutcome(outcome.code()),
            conversation: *conversation,
            seq: *seq,
            at_us: *at_us,
            expected_n: *expected_n,
            retry_ms: *retry_ms,
            reason: fb::Reason(reason.code()),
            detail,
        };
        self.say_result(engine, *to, &result);
    }

    fn refused(
        &mut self,
        engine: &Engine,
        to: Address,
        request: u64,
        field: &str,
        refusal: &Refusal,
    ) {
        let error = message::Error {
            request,
            reason: fb::Reason(refusal.reason.code()),
            field,
            detail: &refusal.detail,
            retry_ms: refusal.retry_ms,
        };
        let mut builder = std::mem::take(&mut self.builder);
        let payload = error.encode(&mut builder);
        self.answer(to, Kind::Error, engine.view_us(), payload);
        self.builder = builder;
    }

    fn answer_about(&mut self, engine: &Engine, to: Address, request: u64, about: About) {
        let mut builder = std::mem::take(&mut self.builder);
        match about {
            About::Conversation(key) => {
                let asks = engine
                    .connections()
                    .at(to)
                    .and_then(|key| engine.connections().get(key));
                let conversation = engine.conversations().at(key);
                let mine = asks.is_none_or(|asks| conversation.side_of(asks.principal).is_some());
                let payload = engine.state_of(key, request, mine).encode(&mut builder);
                let flags = u16::from(Kind::ConversationState as u8) | queue_flags(engine, to);
                self.answer_record(to, bus::ENVELOPE_DOWN, flags, engine.view_us(), payload);
            }
            About::Agent(id) => {
                if let Some(presence) = engine.presence_of(id, request) {
                    let payload = presence.encode(&mut builder);
                    self.answer(to, Kind::Presence, engine.view_us(), payload);
                }
            }
        }
        self.builder = builder;
    }

    fn typing(&mut self, engine: &Engine, conversation: ConversationKey, side: Side, active: bool) {
        let Some(found) = engine.conversations().get(conversation) else {
            return;
        };
        let name = match side {
            Side::Visitor => &*found.visitor_name,
            Side::Agent => found
                .row
                .agent
                .and_then(|id| engine.agents().get(id))
                .map_or("", |agent| agent.row.name.as_str()),
        };
        let notice = message::TypingNotice {
            conversation: found.row.id,
            side: fb::Side(side.code()),
            name,
            active,
        };
        let mut builder = std::mem::take(&mut self.builder);
        let payload = notice.encode(&mut builder);
        for index in 0..self.deliveries.follower_count(conversation) {
            let Some(connection) = self.deliveries.follower(conversation, index) else {
                continue;
            };
            let Some(delivery) = self.deliveries.get(connection) else {
                continue;
            };
            if delivery.role.side() == side {
                continue;
            }
            let address = delivery.address;
            if self.offer(address, Kind::TypingNotice, engine.view_us(), payload) == Sent::NoRoom {
                self.tally.transient_dropped += 1;
            }
        }
        self.builder = builder;
    }

    /// The port of a shard; `None` once its gateway is gone: nothing is written for it any more.
    pub(super) fn port_of(
        &mut self,
        instance: u64,
        shard: usize,
    ) -> Option<(&mut super::Port, &mut shm_bus::Producer)> {
        let gateway = self
            .attached
            .get_mut(&instance)
            .filter(|gateway| !gateway.dead)?;
        let port = gateway.ports.get_mut(shard)?;
        Some((port, gateway.link.to_gateway(u16::try_from(shard).ok()?)))
    }

    fn answer(&mut self, to: Address, kind: Kind, at_us: u64, payload: &[u8]) {
        self.answer_record(
            to,
            bus::ENVELOPE_DOWN,
            u16::from(kind as u8),
            at_us,
            payload,
        );
    }

    fn answer_record(&mut self, to: Address, record: u16, flags: u16, at_us: u64, payload: &[u8]) {
        let header = header(to, record, flags, at_us);
        if let Some((port, producer)) = self.port_of(to.gateway, usize::from(to.shard)) {
            port.answer(producer, header, payload);
            self.tally.records_out += 1;
        }
    }

    /// Writes an envelope if there is room for it. A gateway that is gone takes everything.
    pub(super) fn offer(&mut self, to: Address, kind: Kind, at_us: u64, payload: &[u8]) -> Sent {
        self.offer_flagged(to, u16::from(kind as u8), at_us, payload)
    }

    /// The same, with flags beside the kind.
    pub(super) fn offer_flagged(
        &mut self,
        to: Address,
        flags: u16,
        at_us: u64,
        payload: &[u8],
    ) -> Sent {
        let header = header(to, bus::ENVELOPE_DOWN, flags, at_us);
        let Some((port, producer)) = self.port_of(to.gateway, usize::from(to.shard)) else {
            return Sent::Yes;
        };
        let sent = port.offer(producer, header, payload);
        self.tally.records_out += u64::from(sent == Sent::Yes);
        sent
    }

    /// Offers one record to every shard of every gateway (a broadcast).
    pub(crate) fn offer_everywhere(&mut self, kind: Kind, at_us: u64, payload: &[u8]) {
        let flags = u16::from(kind as u8);
        for gateway in self.attached.values_mut().filter(|gateway| !gateway.dead) {
            for (shard, port) in (0..).zip(&mut gateway.ports) {
                let to = Address {
                    gateway: 0,
                    shard,
                    slot: 0,
                    generation: 0,
                };
                let header = header(to, bus::BROADCAST, flags, at_us);
                match port.offer(gateway.link.to_gateway(shard), header, payload) {
                    Sent::Yes => self.tally.records_out += 1,
                    Sent::NoRoom => self.tally.transient_dropped += 1,
                }
            }
        }
    }
}

/// What the gateway has to know of a visitor beside a state or a Welcome: whether the queue's numbers are for them.
pub(super) fn queue_flags(engine: &Engine, to: Address) -> u16 {
    let connections = engine.connections();
    let Some(found) = connections.at(to).and_then(|key| connections.get(key)) else {
        return 0;
    };
    match found.role.side() {
        Side::Agent => 0,
        Side::Visitor if engine.waits_in_queue(found.principal, found.widget) => bus::JOINS_QUEUE,
        Side::Visitor => bus::LEAVES_QUEUE,
    }
}

fn header(to: Address, kind: u16, flags: u16, at_us: u64) -> RecordHeader {
    RecordHeader {
        kind,
        flags,
        partition: 0,
        shard: to.shard,
        slot: to.slot,
        generation: to.generation,
        principal: Id::ABSENT.0,
        trace: at_us,
    }
}

/// The answer to a repeat, without what became of it.
fn result_of(repeat: &Repeat) -> message::SendResult<'static> {
    message::SendResult {
        n: repeat.n,
        ..message::SendResult::default()
    }
}
