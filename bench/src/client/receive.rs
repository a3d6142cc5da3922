//! What the server says, taken to the part that it concerns.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tidegate_protocol::close;
use tidegate_protocol::envelope::BatchReader;
use tidegate_protocol::queue::place_of;
use tidegate_protocol::ws::client::ClientError;
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::ws::{CloseFrame, Incoming, MessageReader, Opcode, Peer};
use tidegate_protocol::{Envelope, Id, Kind, View, fb, verify};

use super::limits::RETRY_US_MAX;
use super::wire::{BOUNDS, Wire};
use super::{ABNORMAL, Client, Event, Exchange, Message, Phase, State};

impl Client {
    /// Bytes came from the socket; they are unmasked and lent in place, so the buffer is scratch afterwards.
    pub fn received(&mut self, bytes: &mut [u8], now_us: u64, exchange: &mut Exchange) {
        if matches!(self.wire, Wire::None) {
            return;
        }
        self.link.received(now_us);
        let mut bytes = bytes;
        if matches!(self.wire, Wire::Upgrading(_)) {
            match self.wire.answer(&self.settings, bytes) {
                Ok(None) => return,
                Ok(Some(rest)) => bytes = &mut bytes[rest..],
                Err(error) => {
                    let status = match error {
                        ClientError::Refused { status } => status,
                        ClientError::NotHttp | ClientError::WrongAccept => 0,
                    };
                    exchange.events.push(Event::UpgradeRefused { status });
                    self.gone(ABNORMAL, 0, now_us, exchange);
                    return;
                }
            }
            self.link.enter(Phase::Greeting, now_us);
            self.say_hello(now_us, exchange);
        }
        self.frames(bytes, now_us, exchange);
        self.flush_acks(now_us, exchange);
    }

    fn frames(&mut self, bytes: &mut [u8], now_us: u64, exchange: &mut Exchange) {
        let number = self.link.number;
        let Wire::Open(reader) = &mut self.wire else {
            return;
        };
        // What is lent from the reader outlives calls of `self`: it stands aside meanwhile.
        let mut reader = core::mem::replace(reader, MessageReader::new(Peer::Server));
        let mut at = 0;
        loop {
            match reader.next(bytes, &mut at, &BOUNDS) {
                Ok(None) => break,
                Ok(Some(Incoming::Text(text))) => {
                    let text = core::str::from_utf8(text).unwrap_or_default();
                    self.text(text, now_us, exchange);
                }
                Ok(Some(Incoming::Binary(message))) => self.binary(message, now_us, exchange),
                Ok(Some(Incoming::Ping(payload))) => {
                    let mask = self.random.u32(..).to_le_bytes();
                    append_client_frame(&mut exchange.output, true, Opcode::Pong, payload, mask);
                }
                Ok(Some(Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Close(frame))) => {
                    self.closed(frame, now_us, exchange);
                    return;
                }
                Err(_) => {
                    exchange.events.push(Event::Malformed);
                    self.gone(ABNORMAL, 0, now_us, exchange);
                    return;
                }
            }
            if !self.is_on(number) {
                return;
            }
        }
        self.wire = Wire::Open(reader);
    }

    /// Whether that connection is still the present one.
    fn is_on(&self, number: u32) -> bool {
        self.link.number == number && matches!(self.wire, Wire::Open(_))
    }

    fn closed(&mut self, frame: CloseFrame<'_>, now_us: u64, exchange: &mut Exchange) {
        let code = frame.code.map_or(ABNORMAL, |code| code.0);
        let retry_ms = close::retry_ms(frame.reason).unwrap_or(0);
        self.gone(code, retry_ms, now_us, exchange);
    }

    fn text(&mut self, text: &str, now_us: u64, exchange: &mut Exchange) {
        let number = self.link.number;
        let mut decoder = core::mem::take(&mut exchange.decoder);
        let mut batch = decoder.decode(text);
        while let Some(next) = batch.next() {
            match next {
                Ok(envelope) => self.envelope(&envelope, now_us, exchange),
                Err(_) => exchange.events.push(Event::Malformed),
            }
            if !self.is_on(number) {
                break;
            }
        }
        exchange.decoder = decoder;
    }

    fn binary(&mut self, message: &[u8], now_us: u64, exchange: &mut Exchange) {
        let number = self.link.number;
        for next in BatchReader::new(message) {
            match next {
                Ok(envelope) => self.envelope(&envelope, now_us, exchange),
                Err(_) => exchange.events.push(Event::Malformed),
            }
            if !self.is_on(number) {
                break;
            }
        }
    }

    fn envelope(&mut self, envelope: &Envelope<'_>, now_us: u64, exchange: &mut Exchange) {
        let Some(kind) = Kind::from_u8(envelope.kind) else {
            return; // the schema only grows
        };
        match verify(kind, envelope.payload) {
            Ok(view) => self.view(&view, envelope.timestamp_us, now_us, exchange),
            Err(_) => exchange.events.push(Event::Malformed),
        }
        if self.streams.wants_resume {
            self.restart(now_us, exchange);
        }
    }

    fn view(&mut self, view: &View<'_>, told_us: u64, now_us: u64, exchange: &mut Exchange) {
        let events = &mut exchange.events;
        match view {
            View::Welcome(welcome) => self.welcomed(welcome, told_us, now_us, exchange),
            View::Wait(wait) => {
                self.ticket = wait.ticket().unwrap_or_default().into();
                self.link.waiting();
                events.push(Event::Waiting {
                    place: wait.place(),
                    rate_per_s: wait.rate_per_s(),
                    ticket: ticket_number(&self.ticket),
                });
            }
            View::Admitted(admitted) => {
                self.ticket = admitted.ticket().unwrap_or_default().into();
            }
            View::SendResult(result) => {
                let settled = self
                    .outbox
                    .answered(result, now_us, &mut self.random, events);
                if let Some(settled) = settled {
                    let (conversation, seq) = (settled.conversation, settled.seq);
                    self.streams.own_message(conversation, seq, now_us, events);
                }
                self.pump(now_us, exchange);
            }
            View::Message(message) => {
                let settled = self.outbox.replayed(message, events);
                let message = Box::new(self.message_of(message));
                self.streams.message(message, now_us, events);
                if settled {
                    self.pump(now_us, exchange);
                }
            }
            View::ConversationState(state) => self.state(state, now_us, exchange),
            View::Receipt(receipt) => events.push(Event::Receipt {
                conversation: receipt.conversation().into(),
                side: receipt.side(),
                delivered: receipt.delivered(),
                read: receipt.read(),
            }),
            View::QueueUpdate(queue) => {
                let marks = queue.marks().into_iter().flatten();
                let marks = marks.map(|mark| (mark.place(), mark.ticket()));
                if let Some((conversation, ticket)) = self.queued
                    && let Some(position) = place_of(ticket, marks)
                {
                    events.push(Event::Queue {
                        conversation,
                        position,
                        waiting: queue.waiting(),
                        told_us,
                    });
                }
            }
            View::Presence(presence) => {
                events.push(Event::Presence {
                    agent: presence.agent().into(),
                    status: presence.status(),
                });
                self.done(presence.request(), exchange);
            }
            View::Error(error) => {
                let (request, reason) = (error.request(), error.reason());
                if self.answered_command(request) {
                    let reason = Some(reason);
                    events.push(Event::NotDone { request, reason });
                } else {
                    let detail = error.detail().unwrap_or_default().into();
                    events.push(Event::Error { reason, detail });
                }
            }
            View::Pong(pong) => {
                let since = self.link.pinged_at_us;
                if since != super::NEVER && pong.request() == self.link.pinged {
                    self.link.pinged_at_us = super::NEVER;
                    let round_trip_us = now_us.saturating_sub(since);
                    events.push(Event::Pong { round_trip_us });
                }
            }
            View::Goaway(goaway) => {
                let retry_ms = goaway.retry_ms();
                if self.link.goaway_us == super::NEVER {
                    let wait_us = (u64::from(retry_ms) * 1000).min(RETRY_US_MAX);
                    self.link.goaway_us = now_us + wait_us;
                }
                events.push(Event::Goaway { retry_ms });
            }
            // Typing notices pass; kinds that lead to the server are skipped like unknown ones.
            _ => {}
        }
    }

    fn welcomed(
        &mut self,
        welcome: &fb::Welcome<'_>,
        told_us: u64,
        now_us: u64,
        exchange: &mut Exchange,
    ) {
        let events = &mut exchange.events;
        self.principal = welcome.principal().into();
        let role = welcome.role();
        events.push(Event::Welcomed {
            principal: self.principal,
            role,
            last_n: welcome.last_n(),
            told_us,
        });
        let number = self.link.number;
        if self
            .outbox
            .welcomed(number, welcome.last_n(), &mut self.random, events)
        {
            self.restart(now_us, exchange);
            return;
        }
        let again = self.link.phase == Phase::Open;
        self.link
            .welcomed(now_us, welcome.heartbeat_ms(), &mut self.random);
        let side = if role == fb::Role::Visitor {
            fb::Side::Visitor
        } else {
            fb::Side::Agent
        };
        self.streams.welcomed(side, again);
        for resumed in welcome.conversations().into_iter().flatten() {
            if let Some(state) = resumed.state() {
                let told = state_of(&state);
                self.note_queued(&told, state.queue_ticket());
                events.push(Event::State(Box::new(told)));
                self.streams.resumed(&state, resumed.recovered(), events);
            }
        }
        self.send_commands(now_us, exchange);
        self.pump(now_us, exchange);
    }

    fn state(&mut self, state: &fb::ConversationState<'_>, now_us: u64, exchange: &mut Exchange) {
        let told = state_of(state);
        let takes_part =
            told.mine && (told.visitor == self.principal || told.agent == self.principal);
        self.note_queued(&told, state.queue_ticket());
        exchange.events.push(Event::State(Box::new(told)));
        self.streams
            .state(state, takes_part, now_us, &mut exchange.events);
        self.done(state.request(), exchange);
    }

    /// Keeps the ticket by which the queue's marks tell the place.
    fn note_queued(&mut self, told: &State, queue_ticket: u64) {
        if told.visitor == self.principal && queue_ticket > 0 {
            self.queued = Some((told.conversation, queue_ticket));
        } else if self.queued.is_some_and(|(id, _)| id == told.conversation) {
            self.queued = None;
        }
    }

    fn done(&mut self, request: u64, exchange: &mut Exchange) {
        if request != 0 && self.answered_command(request) {
            exchange.events.push(Event::Done { request });
        }
    }

    fn message_of(&self, message: &fb::Message<'_>) -> Message {
        let sender: Id = message.sender().into();
        Message {
            conversation: message.conversation().into(),
            seq: message.seq(),
            sender,
            role: message.sender_role(),
            session: message.session(),
            n: message.n(),
            text: message.text().unwrap_or_default().into(),
            system: message.system(),
            own: !sender.is_absent() && sender == self.principal,
        }
    }
}

fn state_of(state: &fb::ConversationState<'_>) -> State {
    State {
        conversation: state.conversation().into(),
        incarnation: state.incarnation(),
        status: state.status(),
        seq: state.seq(),
        visitor: state.visitor().into(),
        agent: state.agent().into(),
        mine: state.mine(),
        position: state.position(),
    }
}

/// The number in a ticket, which is signed and not secret.
fn ticket_number(ticket: &str) -> Option<u64> {
    let bytes = URL_SAFE_NO_PAD.decode(ticket).ok()?;
    Some(u64::from_le_bytes(*bytes.first_chunk()?))
}
