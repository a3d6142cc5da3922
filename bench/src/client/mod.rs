//! A chat client with the delivery contract of the browser SDK (`protocol/README.md` § 6 to § 10), without socket,
//! clock, or randomness of its own: bytes and time in, bytes and events out. The same inputs give the same outputs.
//!
//! The simulator, the trials of the real processes and the load generator drive it. What is needed only while it
//! works stands in an [`Exchange`] that thousands of clients share; an idle one occupies about half a KiB.
//!
//! ```
//! use std::sync::Arc;
//! use tidegate_bench::client::{Client, Event, Exchange, Settings};
//! use tidegate_protocol::Codec;
//!
//! let settings = Arc::new(Settings::new("127.0.0.1:8601", Codec::Json));
//! let mut client = Client::new(settings, "a visitor's token", 0x5e1f, 7);
//! let mut exchange = Exchange::default();
//!
//! client.send("Is it in stock?", None, 0, &mut exchange)?; // waits in the outbox until it is acknowledged
//! client.start(0, &mut exchange);
//! assert_eq!(exchange.events, [Event::Connect]);
//! exchange.events.clear();
//!
//! // The driver opens a socket, and says so; then bytes go both ways.
//! client.connected(150, &mut exchange);
//! assert!(exchange.output.starts_with(b"GET /ws HTTP/1.1\r\n"));
//! exchange.output.clear();
//!
//! // Nothing comes: at its deadline the client gives the connection up, and comes back later.
//! let due_us = client.deadline_us();
//! client.tick(due_us, &mut exchange);
//! assert!(matches!(exchange.events[..], [Event::Disconnect, Event::Closed { comes_back: true, .. }]));
//! # Ok::<(), tidegate_bench::client::OutboxFull>(())
//! ```

mod event;
mod exchange;
pub mod limits;
mod link;
mod outbox;
mod receive;
mod streams;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;

use tidegate_protocol::close::{CloseClass, CloseCode};
use tidegate_protocol::{Codec, Id, Kind, fb, message};

pub use event::{Event, Message, State};
pub use exchange::Exchange;
pub use link::Phase;
pub use outbox::OutboxFull;

use limits::{COMMAND_US_MAX, COMMANDS_MAX, PONG_US_MAX, RETRY_US_MAX, SEND_ANSWER_US_MAX};
use link::Link;
use outbox::{Next, Outbox};
use streams::Streams;
use wire::Wire;

/// No deadline.
pub const NEVER: u64 = u64::MAX;

/// No close frame came: what RFC 6455 calls it.
const ABNORMAL: u16 = 1006;

/// What all clients of one kind share.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Host and port, for the upgrade.
    pub host: String,
    /// Path and query, for the upgrade.
    pub target: String,
    /// The origin that a browser would send; empty for none.
    pub origin: String,
    /// How it speaks.
    pub codec: Codec,
    /// What it says it is.
    pub family: fb::Family,
    /// The longest that it backs off between two attempts to connect, beyond what the server asks for, µs.
    pub backoff_us_max: u64,
}

impl Settings {
    /// An `h5` client without origin, at `/ws`.
    #[must_use]
    pub fn new(host: &str, codec: Codec) -> Self {
        Self {
            host: host.to_owned(),
            target: "/ws".to_owned(),
            origin: String::new(),
            codec,
            family: fb::Family::H5,
            backoff_us_max: limits::BACKOFF_US_MAX,
        }
    }
}

/// A command that waits for its answer.
#[derive(Debug)]
struct Pending {
    command: message::Command,
    sent: bool,
    due_us: u64,
}

/// One visitor's or agent's client.
#[derive(Debug)]
pub struct Client {
    settings: Arc<Settings>,
    token: Box<str>,
    ticket: Box<str>,
    /// The conversation that waits in the queue, and its ticket there.
    queued: Option<(Id, u64)>,
    random: fastrand::Rng,
    link: Link,
    wire: Wire,
    outbox: Outbox,
    streams: Streams,
    commands: Vec<Pending>,
    principal: Id,
}

const _: () = assert!(size_of::<Client>() <= 512, "memory of an idle client");

impl Client {
    /// A client that has not started. `session` is the first half of its messages' ids, never 0; `seed` decides what
    /// a real client leaves to chance (masks, jitter, a renewed session).
    #[must_use]
    pub fn new(settings: Arc<Settings>, token: &str, session: u64, seed: u64) -> Self {
        assert!(session != 0, "a session is not 0");
        Self {
            settings,
            token: token.into(),
            ticket: "".into(),
            queued: None,
            random: fastrand::Rng::with_seed(seed),
            link: Link::new(),
            wire: Wire::None,
            outbox: Outbox::new(session),
            streams: Streams::default(),
            commands: Vec::new(),
            principal: Id::ABSENT,
        }
    }

    // --- what a driver asks ------------------------------------------------------------------------------------

    /// Where it stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.link.phase
    }

    /// Its session; another after [`Event::SessionRenewed`].
    #[must_use]
    pub const fn session(&self) -> u64 {
        self.outbox.session
    }

    /// Who it is, after the first Welcome.
    #[must_use]
    pub const fn principal(&self) -> Id {
        self.principal
    }

    /// Messages that were neither acknowledged nor refused.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.outbox.len()
    }

    /// The highest seq of a conversation up to which it holds everything.
    #[must_use]
    pub fn cursor(&self, conversation: Id) -> u64 {
        self.streams.cursor(conversation)
    }

    /// When [`tick`](Self::tick) is due, µs; [`NEVER`] if nothing is.
    #[must_use]
    pub fn deadline_us(&self) -> u64 {
        let open = if self.link.phase == Phase::Open {
            let streams = self.streams.deadline_us();
            streams.min(self.outbox.deadline_us(SEND_ANSWER_US_MAX))
        } else {
            NEVER
        };
        let commands = self.commands.iter().map(|one| one.due_us).min();
        self.link
            .deadline_us()
            .min(open)
            .min(commands.unwrap_or(NEVER))
    }

    // --- what a person does ------------------------------------------------------------------------------------

    /// Connects, and stays connected.
    pub fn start(&mut self, now_us: u64, exchange: &mut Exchange) {
        if matches!(self.link.phase, Phase::Idle | Phase::Closed) {
            self.link.reset();
            self.connect(now_us, exchange);
        }
    }

    /// Leaves; [`start`](Self::start) goes on where it was.
    pub fn stop(&mut self, now_us: u64, exchange: &mut Exchange) {
        if self.link.phase == Phase::Open {
            self.flush_acks(now_us, exchange);
        }
        self.leave(CloseCode::NORMAL, now_us, exchange);
        self.link.phase = Phase::Idle;
    }

    /// Another token, for the next connection.
    pub fn set_token(&mut self, token: &str) {
        self.token = token.into();
    }

    /// Says something. `None`: in the visitor's open conversation, which is begun if there is none.
    ///
    /// # Errors
    /// The outbox is full.
    pub fn send(
        &mut self,
        text: &str,
        conversation: Option<Id>,
        now_us: u64,
        exchange: &mut Exchange,
    ) -> Result<u64, OutboxFull> {
        let key = self.outbox.add(text, conversation.unwrap_or_default())?;
        self.pump(now_us, exchange);
        Ok(key)
    }

    /// Asks for something else: `start`, `close`, `transfer`, `take`, `set_status`. Its `request` is replaced by the
    /// number that is returned, which [`Event::Done`] and [`Event::NotDone`] name. `None`: too many wait already.
    pub fn command(
        &mut self,
        command: message::Command,
        now_us: u64,
        exchange: &mut Exchange,
    ) -> Option<u64> {
        if self.commands.len() >= COMMANDS_MAX {
            return None;
        }
        self.link.requests += 1;
        let request = self.link.requests;
        self.commands.push(Pending {
            command: message::Command { request, ..command },
            sent: false,
            due_us: now_us + COMMAND_US_MAX,
        });
        self.send_commands(now_us, exchange);
        Some(request)
    }

    /// Asks whether anybody is there; [`Event::Pong`] tells of the answer to the oldest of several at once. Nothing while
    /// there is no connection.
    pub fn ping(&mut self, now_us: u64, exchange: &mut Exchange) {
        if !self.link.has_talk() {
            return;
        }
        self.link.pong_due_us = now_us + PONG_US_MAX;
        self.link.requests += 1;
        let request = self.link.requests;
        if self.link.pinged_at_us == NEVER {
            self.link.pinged_at_us = now_us;
            self.link.pinged = request;
        }
        self.put(Kind::Ping, now_us, exchange, |builder| {
            message::Ping { request }.encode(builder)
        });
    }

    /// Says that somebody types, or stopped.
    pub fn typing(&mut self, conversation: Id, active: bool, now_us: u64, exchange: &mut Exchange) {
        if self.link.phase == Phase::Open {
            let typing = message::Typing {
                conversation,
                active,
            };
            self.put(Kind::Typing, now_us, exchange, |b| typing.encode(b));
        }
    }

    /// A person saw everything up to here.
    pub fn read(&mut self, conversation: Id, seq: u64, now_us: u64, exchange: &mut Exchange) {
        self.streams.read_up_to(conversation, seq);
        self.flush_acks(now_us, exchange);
    }

    /// The driver holds everything up to here: it read the history of a [`Event::Hole`], or does without.
    pub fn holds(&mut self, conversation: Id, seq: u64, now_us: u64, exchange: &mut Exchange) {
        self.streams
            .holds(conversation, seq, now_us, &mut exchange.events);
        self.flush_acks(now_us, exchange);
    }

    // --- the socket's and the clock's part -----------------------------------------------------------------------

    /// The socket that [`Event::Connect`] asked for is connected.
    pub fn connected(&mut self, now_us: u64, exchange: &mut Exchange) {
        if self.link.phase != Phase::Connecting {
            return;
        }
        self.link.enter(Phase::Greeting, now_us);
        let nonce = self.random.u128(..).to_le_bytes();
        self.wire
            .upgrade(&self.settings, nonce, &mut exchange.output);
    }

    /// The socket could not be opened, or has ended.
    pub fn lost(&mut self, now_us: u64, exchange: &mut Exchange) {
        if self.link.has_socket() {
            self.gone(ABNORMAL, 0, now_us, exchange);
        }
    }

    /// Time has passed; to be called at [`deadline_us`](Self::deadline_us), and harmless before.
    pub fn tick(&mut self, now_us: u64, exchange: &mut Exchange) {
        self.expire_commands(now_us, exchange);
        match self.link.phase {
            Phase::Idle | Phase::Closed => return,
            Phase::Pausing => {
                if self.link.phase_is_due(now_us) {
                    self.connect(now_us, exchange);
                }
                return;
            }
            Phase::Connecting | Phase::Greeting => {
                if self.link.phase_is_due(now_us) {
                    self.gone(CloseCode::HALF_OPEN.0, 0, now_us, exchange);
                }
                return;
            }
            Phase::Admission | Phase::Open => {}
        }
        if now_us >= self.link.pong_due_us {
            self.gone(CloseCode::HALF_OPEN.0, 0, now_us, exchange);
            return;
        }
        if now_us >= self.link.goaway_us {
            self.restart(now_us, exchange);
            return;
        }
        if self.link.pong_due_us == NEVER && now_us >= self.link.ping_at_us() {
            self.ping(now_us, exchange);
        }
        if self.link.phase == Phase::Open {
            self.streams.tick(now_us, &mut exchange.events);
            if self.streams.wants_resume || self.outbox.is_overdue(now_us, SEND_ANSWER_US_MAX) {
                self.restart(now_us, exchange);
                return;
            }
            self.flush_acks(now_us, exchange);
            self.pump(now_us, exchange);
        }
    }

    // --- connections -------------------------------------------------------------------------------------------

    fn connect(&mut self, now_us: u64, exchange: &mut Exchange) {
        self.link.connect(now_us);
        exchange.events.push(Event::Connect);
    }

    /// Leaves the socket, if there is one, and forgets what belonged to it.
    fn leave(&mut self, code: CloseCode, now_us: u64, exchange: &mut Exchange) {
        if self.link.has_socket() {
            if matches!(self.wire, Wire::Open(_)) {
                let mask = self.mask();
                wire::append_close(&mut exchange.output, code, mask);
            }
            exchange.events.push(Event::Disconnect);
        }
        self.wire = Wire::None;
        self.link.drop_socket(now_us);
        self.outbox.lost();
        self.streams.lost();
        self.commands.retain(|one| {
            if one.sent {
                let request = one.command.request;
                exchange.events.push(Event::NotDone {
                    request,
                    reason: None,
                });
            }
            !one.sent
        });
    }

    /// The connection has ended, for whatever reason: pause, or stay away.
    fn gone(&mut self, code: u16, retry_ms: u32, now_us: u64, exchange: &mut Exchange) {
        let goaway_us = match self.link.goaway_us {
            NEVER => 0,
            at => at.saturating_sub(now_us),
        };
        let asked_us = (u64::from(retry_ms) * 1000)
            .min(RETRY_US_MAX)
            .max(goaway_us);
        let said = if code == CloseCode::HALF_OPEN.0 {
            CloseCode::HALF_OPEN
        } else {
            CloseCode::NORMAL
        };
        self.leave(said, now_us, exchange);
        let comes_back = CloseCode(code).class() == CloseClass::Retriable;
        if comes_back {
            let backoff_us_max = self.settings.backoff_us_max;
            self.link
                .pause(now_us, asked_us, backoff_us_max, &mut self.random);
        } else {
            self.link.phase = Phase::Closed;
        }
        exchange.events.push(Event::Closed {
            code,
            retry_ms: asked_us / 1000,
            comes_back,
        });
    }

    /// A new connection in place of this one.
    fn restart(&mut self, now_us: u64, exchange: &mut Exchange) {
        self.leave(CloseCode::NORMAL, now_us, exchange);
        let backoff_us_max = self.settings.backoff_us_max;
        self.link
            .pause_briefly(now_us, backoff_us_max, &mut self.random);
        if self.link.phase_is_due(now_us) {
            self.connect(now_us, exchange);
        }
    }

    // --- talking -----------------------------------------------------------------------------------------------

    fn mask(&mut self) -> [u8; 4] {
        self.random.u32(..).to_le_bytes()
    }

    fn put(
        &mut self,
        kind: Kind,
        now_us: u64,
        exchange: &mut Exchange,
        encode: impl for<'b> FnOnce(&'b mut flatbuffers::FlatBufferBuilder<'static>) -> &'b [u8],
    ) {
        let mask = self.mask();
        wire::append(exchange, self.settings.codec, kind, now_us, mask, encode);
    }

    fn say_hello(&mut self, now_us: u64, exchange: &mut Exchange) {
        self.link.requests += 1;
        let request = self.link.requests;
        let cursors = self.streams.cursors();
        let mask = self.mask();
        let hello = message::Hello {
            request,
            token: &self.token,
            session: self.outbox.session,
            connection: self.link.number,
            family: self.settings.family,
            cursors: &cursors,
            ticket: &self.ticket,
            ..Default::default()
        };
        let codec = self.settings.codec;
        wire::append(exchange, codec, Kind::Hello, now_us, mask, |b| {
            hello.encode(b)
        });
    }

    /// Puts on the wire what may go there.
    fn pump(&mut self, now_us: u64, exchange: &mut Exchange) {
        if self.link.phase != Phase::Open {
            return;
        }
        let next = self
            .outbox
            .take(now_us, &mut self.random, &mut exchange.events);
        let Next::Send(indices) = next else {
            self.restart(now_us, exchange);
            return;
        };
        for index in indices {
            let mask = self.mask();
            let item = self.outbox.item(index);
            let send = message::Send {
                n: item.n,
                conversation: item.conversation,
                text: &item.text,
            };
            let codec = self.settings.codec;
            wire::append(exchange, codec, Kind::Send, now_us, mask, |b| {
                send.encode(b)
            });
            self.link.wants_answer(now_us);
        }
    }

    fn flush_acks(&mut self, now_us: u64, exchange: &mut Exchange) {
        if self.link.phase != Phase::Open {
            return;
        }
        for ack in self.streams.acks(now_us) {
            self.put(Kind::Ack, now_us, exchange, |builder| ack.encode(builder));
        }
    }

    fn send_commands(&mut self, now_us: u64, exchange: &mut Exchange) {
        if self.link.phase != Phase::Open {
            return;
        }
        for index in 0..self.commands.len() {
            let one = &mut self.commands[index];
            if core::mem::replace(&mut one.sent, true) {
                continue;
            }
            let command = one.command;
            self.put(Kind::Command, now_us, exchange, |b| command.encode(b));
            self.link.wants_answer(now_us);
        }
    }

    fn answered_command(&mut self, request: u64) -> bool {
        let found = self
            .commands
            .iter()
            .position(|one| one.command.request == request);
        found
            .map(|index| self.commands.swap_remove(index))
            .is_some()
    }

    fn expire_commands(&mut self, now_us: u64, exchange: &mut Exchange) {
        self.commands.retain(|one| {
            let expired = now_us >= one.due_us;
            if expired {
                let request = one.command.request;
                exchange.events.push(Event::NotDone {
                    request,
                    reason: None,
                });
            }
            !expired
        });
    }
}
