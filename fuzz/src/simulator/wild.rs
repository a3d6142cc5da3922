//! A client that speaks the protocol as it likes: it repeats, skips and reorders numbers, changes what it said under
//! the same id, acknowledges what it never saw, and commands what is not its own. What it is told must agree all the same.

use std::collections::BTreeMap;

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::envelope::{BatchReader, append_envelope};
use tidegate_protocol::ws::client::UpgradeRequest;
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::ws::{Bounds, Incoming, MessageReader, Opcode, Peer};
use tidegate_protocol::{Codec, Id, Kind, View, fb, message, verify};

use super::dice::Dice;
use super::oracle::Said;
use super::speaker::{Speaker, Surroundings, Want};

/// What a server may send in one message.
const BOUNDS: Bounds = Bounds {
    message_bytes_max: 1 << 20,
};
/// Between two of its doings, µs.
const PAUSE_US_MAX: u64 = 200_000;
/// Messages that it has under way at most: it is wild, not endless.
const SENDS_MAX: u64 = 60;

enum Wire {
    None,
    Upgrading(Vec<u8>),
    Open(MessageReader),
}

/// See the module.
pub struct Wild {
    principal: Id,
    token: String,
    session: u64,
    wire: Wire,
    welcomed: bool,
    settled: bool,
    wake_at_us: u64,
    /// The highest n that was accepted, as far as it was told.
    last_n: u64,
    sends: u64,
    /// What it said first under each n.
    texts: BTreeMap<u64, String>,
    /// What it was told to hold.
    conversations: BTreeMap<Id, u64>,
    nonce: [u8; 16],
}

impl Wild {
    /// A visitor of that token.
    pub fn new(principal: Id, token: String, dice: &mut Dice) -> Self {
        let mut nonce = [0; 16];
        dice.fill(&mut nonce);
        Self {
            principal,
            token,
            session: dice.number() | 1,
            wire: Wire::None,
            welcomed: false,
            settled: false,
            wake_at_us: 0,
            last_n: 0,
            sends: 0,
            texts: BTreeMap::new(),
            conversations: BTreeMap::new(),
            nonce,
        }
    }

    fn request(&self) -> UpgradeRequest<'static> {
        UpgradeRequest {
            host: "tidegate",
            target: "/ws",
            nonce: self.nonce,
            subprotocols: Codec::Flat.subprotocol(),
            origin: "",
        }
    }

    fn say(
        around: &mut Surroundings<'_>,
        kind: Kind,
        encode: impl FnOnce(&mut FlatBufferBuilder<'static>) -> Vec<u8>,
    ) {
        let payload = encode(&mut FlatBufferBuilder::new());
        let mut envelope = Vec::new();
        append_envelope(&mut envelope, kind, around.now_us, &payload);
        let mut mask = [0; 4];
        around.dice.fill(&mut mask);
        // Fragments now and then, cut anywhere.
        if around.dice.permille(50) {
            let cut = around.dice.index(envelope.len());
            let (head, tail) = envelope.split_at(cut);
            append_client_frame(around.output, false, Opcode::Binary, head, mask);
            append_client_frame(around.output, true, Opcode::Continuation, tail, mask);
        } else {
            append_client_frame(around.output, true, Opcode::Binary, &envelope, mask);
        }
    }

    fn hello(&self, around: &mut Surroundings<'_>) {
        let hello = message::Hello {
            request: 1,
            token: &self.token,
            session: self.session,
            page: "/wild",
            ..Default::default()
        };
        Self::say(around, Kind::Hello, |builder| {
            hello.encode(builder).to_vec()
        });
    }

    fn send(&mut self, around: &mut Surroundings<'_>) {
        let next = self.last_n + 1;
        let n = match around.dice.below(10) {
            0 => around.dice.between(1, next + 2),
            1 => next + around.dice.below(5),
            _ => next,
        };
        let fresh = format!("wild {n} {:x}", around.dice.below(1 << 16));
        let other = around.dice.permille(50);
        let text = match self.texts.get(&n) {
            Some(text) if !other => text.clone(),
            _ => fresh,
        };
        self.texts.entry(n).or_insert_with(|| text.clone());
        self.sends += 1;
        let send = message::Send {
            n,
            text: &text,
            ..Default::default()
        };
        let copies = if around.dice.permille(100) { 2 } else { 1 };
        for _ in 0..copies {
            Self::say(around, Kind::Send, |builder| send.encode(builder).to_vec());
        }
    }

    fn acknowledge(&mut self, around: &mut Surroundings<'_>) {
        let others: Vec<Id> = around.oracle.visitor_of.keys().copied().collect();
        let foreign = !others.is_empty() && around.dice.permille(200);
        let (conversation, up_to) = if foreign {
            (*around.dice.pick(&others), around.dice.below(1_000))
        } else {
            match self.conversations.iter().next_back() {
                Some((&conversation, &seq)) => (conversation, seq),
                None => return,
            }
        };
        // Its own too high, now and then.
        let delivered = if around.dice.permille(50) {
            up_to + 1_000
        } else {
            up_to
        };
        let own = self.conversations.contains_key(&conversation);
        let delivered = if own { up_to } else { delivered };
        let ack = message::Ack {
            conversation,
            delivered,
            read: around.dice.below(delivered + 2),
        };
        Self::say(around, Kind::Ack, |builder| ack.encode(builder).to_vec());
    }

    fn command(&mut self, around: &mut Surroundings<'_>) {
        let others: Vec<Id> = around.oracle.visitor_of.keys().copied().collect();
        if others.is_empty() {
            return;
        }
        let ops = [
            fb::CommandOp::Close,
            fb::CommandOp::Transfer,
            fb::CommandOp::Take,
            fb::CommandOp::SetStatus,
        ];
        let conversation = *around.dice.pick(&others);
        let command = message::Command {
            request: around.dice.number() >> 12,
            op: *around.dice.pick(&ops),
            conversation,
            ..Default::default()
        };
        Self::say(around, Kind::Command, |builder| {
            command.encode(builder).to_vec()
        });
    }

    fn take(&mut self, bytes: &[u8], around: &mut Surroundings<'_>) {
        for envelope in BatchReader::new(bytes) {
            let Ok(envelope) = envelope else {
                return around
                    .oracle
                    .fail("the server sent half an envelope".to_owned());
            };
            let Some(kind) = Kind::from_u8(envelope.kind) else {
                continue;
            };
            match verify(kind, envelope.payload) {
                Ok(view) => self.hear(&view, around),
                Err(error) => around
                    .oracle
                    .fail(format!("the server sent a malformed {kind:?}: {error:?}")),
            }
        }
    }

    fn hear(&mut self, view: &View<'_>, around: &mut Surroundings<'_>) {
        match view {
            View::Welcome(welcome) => {
                self.welcomed = true;
                if welcome.last_n() < self.last_n {
                    around.oracle.fail(format!(
                        "a session's last fell from {} to {}",
                        self.last_n,
                        welcome.last_n()
                    ));
                }
                self.last_n = welcome.last_n();
            }
            View::SendResult(result) => self.answered(result, around),
            View::Message(message) => {
                let conversation: Id = message.conversation().into();
                let oracle = &mut around.oracle;
                oracle.shown_to_visitor(self.principal, conversation);
                let said = Said {
                    sender: message.sender().into(),
                    session: message.session(),
                    n: message.n(),
                    text: message.text().unwrap_or_default().to_owned(),
                    system: message.system().0,
                };
                oracle.shown(conversation, message.seq(), said);
                let has = self.conversations.entry(conversation).or_default();
                *has = (*has).max(message.seq());
            }
            _ => {}
        }
    }

    fn answered(&mut self, result: &fb::SendResult<'_>, around: &mut Surroundings<'_>) {
        let n = result.n();
        match result.outcome() {
            fb::SendOutcome::Accepted | fb::SendOutcome::Duplicate => {
                let conversation: Id = result.conversation().into();
                let id = (self.principal, self.session, n);
                around.oracle.accepted(id, conversation, result.seq());
                around.oracle.shown_to_visitor(self.principal, conversation);
                self.last_n = self.last_n.max(n);
            }
            fb::SendOutcome::Gap if result.expected_n() > 0 => {
                self.last_n = self.last_n.max(result.expected_n() - 1);
            }
            _ => {}
        }
    }
}

impl Speaker for Wild {
    fn name(&self) -> String {
        format!("wild {}", self.principal)
    }

    fn connected(&mut self, around: &mut Surroundings<'_>) {
        self.wire = Wire::Upgrading(Vec::new());
        self.request().append(around.output);
        // The first frame in the handshake's own segment.
        if around.dice.permille(300) {
            self.hello(around);
            self.welcomed = true;
        }
    }

    fn received(&mut self, bytes: &mut [u8], around: &mut Surroundings<'_>) {
        let mut rest = bytes.to_vec();
        if let Wire::Upgrading(answer) = &mut self.wire {
            answer.append(&mut rest);
            let answer = std::mem::take(answer);
            match self.request().parse_response(&answer) {
                Ok(Some(upgraded)) => {
                    rest = answer[upgraded.response_bytes..].to_vec();
                    self.wire = Wire::Open(MessageReader::new(Peer::Server));
                    if !self.welcomed {
                        self.hello(around);
                    }
                    self.welcomed = false;
                }
                Ok(None) => {
                    self.wire = Wire::Upgrading(answer);
                    return;
                }
                Err(error) => {
                    around
                        .oracle
                        .fail(format!("an upgrade was refused: {error}"));
                    return;
                }
            }
        }
        let Wire::Open(mut reader) = std::mem::replace(&mut self.wire, Wire::None) else {
            return;
        };
        let mut at = 0;
        loop {
            match reader.next(&mut rest, &mut at, &BOUNDS) {
                Ok(None) => break,
                Ok(Some(Incoming::Binary(bytes))) => {
                    let bytes = bytes.to_vec();
                    self.take(&bytes, around);
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    append_client_frame(around.output, true, Opcode::Pong, payload, [1, 2, 3, 4]);
                }
                Ok(Some(Incoming::Close(_))) => {
                    around.wants.push(Want::Disconnect);
                    self.welcomed = false;
                    return;
                }
                Ok(Some(_)) => {}
                Err(error) => {
                    around
                        .oracle
                        .fail(format!("the server broke RFC 6455: {error}"));
                    return;
                }
            }
        }
        self.wire = Wire::Open(reader);
    }

    fn lost(&mut self, around: &mut Surroundings<'_>) {
        self.wire = Wire::None;
        self.welcomed = false;
        self.wake_at_us = around.now_us + around.dice.between(1_000, 2_000_000);
    }

    fn tick(&mut self, around: &mut Surroundings<'_>) {
        if around.now_us < self.wake_at_us {
            return;
        }
        self.wake_at_us = around.now_us + around.dice.between(1_000, PAUSE_US_MAX);
        if self.settled {
            self.wake_at_us = u64::MAX;
            around.wants.push(Want::Disconnect);
            return;
        }
        if matches!(self.wire, Wire::None) {
            around.wants.push(Want::Connect);
            return;
        }
        if !self.welcomed {
            return;
        }
        match around.dice.below(20) {
            0..10 if self.sends < SENDS_MAX => self.send(around),
            10..16 => self.acknowledge(around),
            16..18 => self.command(around),
            18 => around.wants.push(Want::Connect),
            19 => around.wants.push(Want::Abort),
            _ => {}
        }
    }

    fn wake_at_us(&self) -> u64 {
        self.wake_at_us
    }

    fn power_was_lost(&mut self) {
        self.last_n = 0;
        self.conversations.clear();
    }

    fn settle(&mut self, _now_us: u64) {
        self.settled = true;
        self.wake_at_us = 0;
    }
}
