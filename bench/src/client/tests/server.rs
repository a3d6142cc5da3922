//! The other side, for stories: it reads what the client sent, and says what the story wants, in the bytes of either
//! codec and in pieces of any size.

use std::sync::Arc;

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::codec::json::{self, JsonDecoder};
use tidegate_protocol::envelope::{BatchReader, append_envelope};
use tidegate_protocol::ws::encoder::{append_close, append_frame};
use tidegate_protocol::ws::handshake::accept;
use tidegate_protocol::ws::{Incoming, MessageReader, Opcode, Peer};
use tidegate_protocol::{Codec, Id, Kind, View, close::CloseCode, fb, message, verify};

use super::super::wire::BOUNDS;
use super::super::{Client, Event, Exchange, Settings};

pub(super) const CHAT: Id = Id(0xc4a7);
pub(super) const VISITOR: Id = Id(0x0717);

/// What a client said, as far as stories look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Hello {
        session: u64,
        token: String,
        cursors: Vec<(Id, u64, u64)>,
    },
    Send {
        n: u64,
        text: String,
    },
    Ack {
        delivered: u64,
        read: u64,
    },
    Command {
        request: u64,
        op: fb::CommandOp,
    },
    Ping,
    Close(u16),
}

/// A client, its connection and the server's end of it.
pub(super) struct Story {
    pub(super) client: Client,
    pub(super) exchange: Exchange,
    pub(super) now_us: u64,
    /// Bytes of each piece in which the client gets what the server says.
    pub(super) piece_bytes: usize,
    /// All that the client ever put out.
    pub(super) sent_bytes: Vec<u8>,
    codec: Codec,
    reader: MessageReader,
}

impl Story {
    pub(super) fn new(codec: Codec) -> Self {
        let settings = Arc::new(Settings::new("chat.example", codec));
        Self {
            client: Client::new(settings, "the token", 0x5e1f, 7),
            exchange: Exchange::default(),
            now_us: 1_000_000,
            piece_bytes: usize::MAX,
            sent_bytes: Vec::new(),
            codec,
            reader: MessageReader::new(Peer::Client),
        }
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.exchange.events)
    }

    /// Opens the socket and answers the upgrade; what the client says then is its Hello.
    pub(super) fn connect(&mut self) -> Said {
        self.client.connected(self.now_us, &mut self.exchange);
        let request = String::from_utf8(core::mem::take(&mut self.exchange.output)).expect("HTTP");
        self.sent_bytes.extend_from_slice(request.as_bytes());
        let key = request
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .expect("a key");
        let accept = accept(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            core::str::from_utf8(&accept).expect("base64")
        );
        self.reader = MessageReader::new(Peer::Client);
        self.give(answer.into_bytes());
        let mut said = self.said();
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }

    /// Starts, connects, and is welcomed as a visitor with these conversations.
    pub(super) fn welcomed(codec: Codec, conversations: &[message::Resumed<'_>]) -> Self {
        let mut story = Self::new(codec);
        story.client.start(story.now_us, &mut story.exchange);
        story.connect();
        story.welcome(0, conversations);
        story.events();
        story
    }

    pub(super) fn welcome(&mut self, last_n: u64, conversations: &[message::Resumed<'_>]) {
        let welcome = message::Welcome {
            principal: VISITOR,
            heartbeat_ms: 60_000,
            last_n,
            conversations,
            ..Default::default()
        };
        self.say(Kind::Welcome, |builder| welcome.encode(builder));
    }

    /// The server says one thing.
    pub(super) fn say(
        &mut self,
        kind: Kind,
        encode: impl for<'b> FnOnce(&'b mut FlatBufferBuilder<'static>) -> &'b [u8],
    ) {
        let mut builder = FlatBufferBuilder::new();
        let payload = encode(&mut builder);
        let (mut message, mut frame) = (Vec::new(), Vec::new());
        let opcode = match self.codec {
            Codec::Flat => {
                append_envelope(&mut message, kind, 0, payload);
                Opcode::Binary
            }
            Codec::Json => {
                json::encode(&mut message, 0, &verify(kind, payload).expect("ours"));
                Opcode::Text
            }
        };
        append_frame(&mut frame, opcode, &message);
        self.give(frame);
    }

    pub(super) fn answer(&mut self, result: &message::SendResult<'_>) {
        self.say(Kind::SendResult, |builder| result.encode(builder));
    }

    pub(super) fn accept(&mut self, n: u64, seq: u64) {
        self.answer(&message::SendResult {
            n,
            outcome: fb::SendOutcome::Accepted,
            conversation: CHAT,
            seq,
            ..Default::default()
        });
    }

    pub(super) fn message(&mut self, seq: u64) {
        let message = message::Message {
            conversation: CHAT,
            seq,
            text: "hello",
            ..Default::default()
        };
        self.say(Kind::Message, |builder| message.encode(builder));
    }

    pub(super) fn close(&mut self, code: u16, reason: &str) {
        let mut frame = Vec::new();
        append_close(&mut frame, Some(CloseCode(code)), reason);
        self.give(frame);
    }

    fn give(&mut self, mut bytes: Vec<u8>) {
        for piece in bytes.chunks_mut(self.piece_bytes) {
            self.client.received(piece, self.now_us, &mut self.exchange);
        }
    }

    /// What the client has said since it was last asked.
    pub(super) fn said(&mut self) -> Vec<Said> {
        let mut output = core::mem::take(&mut self.exchange.output);
        self.sent_bytes.extend_from_slice(&output);
        let (mut at, mut said) = (0, Vec::new());
        let mut decoder = JsonDecoder::default();
        while let Some(incoming) = self
            .reader
            .next(&mut output, &mut at, &BOUNDS)
            .expect("frames")
        {
            match incoming {
                Incoming::Text(text) => {
                    let mut batch = decoder.decode(core::str::from_utf8(text).expect("text"));
                    while let Some(envelope) = batch.next() {
                        let envelope = envelope.expect("JSON of ours");
                        said.push(of(envelope.kind, envelope.payload));
                    }
                }
                Incoming::Binary(bytes) => {
                    for envelope in BatchReader::new(bytes) {
                        let envelope = envelope.expect("an envelope");
                        said.push(of(envelope.kind, envelope.payload));
                    }
                }
                Incoming::Close(frame) => said.push(Said::Close(frame.code.expect("a code").0)),
                other => panic!("{other:?}"),
            }
        }
        said
    }

    /// The texts and numbers of the Sends among that.
    pub(super) fn sends(&mut self) -> Vec<(u64, String)> {
        let send = |said| match said {
            Said::Send { n, text } => Some((n, text)),
            _ => None,
        };
        self.said().into_iter().filter_map(send).collect()
    }

    pub(super) fn send(&mut self, text: &str) -> u64 {
        let (now_us, exchange) = (self.now_us, &mut self.exchange);
        self.client
            .send(text, None, now_us, exchange)
            .expect("room")
    }

    /// Lets time pass, tick by tick.
    pub(super) fn pass(&mut self, us: u64) {
        let until = self.now_us + us;
        while self.client.deadline_us() <= until {
            self.now_us = self.now_us.max(self.client.deadline_us());
            self.client.tick(self.now_us, &mut self.exchange);
        }
        self.now_us = until;
    }

    /// The connection breaks, the client comes back; its new Hello.
    pub(super) fn reconnect(&mut self) -> Said {
        self.client.lost(self.now_us, &mut self.exchange);
        self.pass(500_000);
        assert!(self.events().contains(&Event::Connect));
        self.sent_bytes.append(&mut self.exchange.output); // lost with the connection
        self.connect()
    }
}

fn of(kind: u8, payload: &[u8]) -> Said {
    let kind = Kind::from_u8(kind).expect("a known kind");
    match verify(kind, payload).expect("verified") {
        View::Hello(hello) => Said::Hello {
            session: hello.session(),
            token: hello.token().unwrap_or_default().to_owned(),
            cursors: hello
                .cursors()
                .into_iter()
                .flatten()
                .map(|c| (c.conversation().into(), c.incarnation(), c.seq()))
                .collect(),
        },
        View::Send(send) => Said::Send {
            n: send.n(),
            text: send.text().unwrap_or_default().to_owned(),
        },
        View::Ack(ack) => Said::Ack {
            delivered: ack.delivered(),
            read: ack.read(),
        },
        View::Command(command) => Said::Command {
            request: command.request(),
            op: command.op(),
        },
        View::Ping(_) => Said::Ping,
        other => panic!("{other:?}"),
    }
}

/// One conversation of a Welcome.
pub(super) fn resumed(incarnation: u64, seq: u64, recovered: bool) -> message::Resumed<'static> {
    message::Resumed {
        state: message::ConversationState {
            conversation: CHAT,
            incarnation,
            seq,
            visitor: VISITOR,
            mine: true,
            ..Default::default()
        },
        recovered,
    }
}
