//! Visitors who are welcomed and then say nothing: a Hello behind the upgrade, and whatever the server says is read as
//! frames and envelopes, of which only the Welcome and the pongs count.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tidegate_protocol::envelope::{BatchReader, append_envelope};
use tidegate_protocol::limits::WS_MESSAGE_BYTES_MAX;
use tidegate_protocol::token::{self, Claims, Key};
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::ws::{Bounds, Incoming, MessageReader, Opcode, Peer};
use tidegate_protocol::{Id, Kind, fb, message};

use super::answers::{Came, Wrong};

/// Tokens of a run outlive it.
const TOKEN_TTL_S: u64 = 24 * 3_600;
/// The widget and the site that every database has.
const WIDGET: u32 = 1;
const SITE: u32 = 1;

const BOUNDS: Bounds = Bounds {
    message_bytes_max: {
        assert!(WS_MESSAGE_BYTES_MAX <= u32::MAX as usize);
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        {
            WS_MESSAGE_BYTES_MAX as u32
        }
    },
};

/// Who visits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Visitors {
    /// What signs their tokens, in hex. It comes over a pipe: command lines are seen by everybody.
    pub key: String,
    /// A number of this run: other runs' visitors are others.
    pub run: u32,
}

/// The visitors of one process of the load.
pub(super) struct Visiting {
    key: Key,
    run: u32,
    builder: flatbuffers::FlatBufferBuilder<'static>,
    frame: Vec<u8>,
}

impl Visiting {
    pub(super) fn new(visitors: &Visitors) -> anyhow::Result<Self> {
        let key = Key::from_hex(&visitors.key);
        Ok(Self {
            key: key.ok_or_else(|| anyhow::anyhow!("expected a key of 64 hex digits"))?,
            run: visitors.run,
            builder: flatbuffers::FlatBufferBuilder::new(),
            frame: Vec::new(),
        })
    }

    /// The Hello of the n-th visitor of the whole load, as a frame.
    pub(super) fn hello(&mut self, number: u64) -> &[u8] {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let claims = Claims {
            sub: Id::synthetic(u128::from(self.run) << 64 | u128::from(number)),
            role: fb::Role::Visitor,
            wid: WIDGET,
            name: String::new(),
            sid: SITE,
            iat: now.as_secs(),
            exp: now.as_secs() + TOKEN_TTL_S,
        };
        let hello = message::Hello {
            request: 1,
            token: &token::mint(&claims, &self.key),
            session: u64::from(self.run) << 32 | (number + 1),
            ..Default::default()
        };
        let mut envelope = Vec::new();
        let now_us = u64::try_from(now.as_micros()).unwrap_or(0);
        let payload = hello.encode(&mut self.builder);
        append_envelope(&mut envelope, Kind::Hello, now_us, payload);
        self.frame.clear();
        let mask = fastrand::u32(..).to_ne_bytes();
        append_client_frame(&mut self.frame, true, Opcode::Binary, &envelope, mask);
        &self.frame
    }
}

/// One visitor's input.
#[derive(Debug)]
pub(super) struct Heard {
    reader: MessageReader,
    welcomed: bool,
}

impl Heard {
    pub(super) const fn nothing() -> Self {
        Self {
            reader: MessageReader::new(Peer::Server),
            welcomed: false,
        }
    }

    /// Whether the Welcome has come.
    pub(super) const fn is_welcomed(&self) -> bool {
        self.welcomed
    }

    /// Takes bytes that came.
    pub(super) fn take(&mut self, bytes: &mut [u8]) -> Result<Came, Wrong> {
        let mut came = Came::default();
        let mut at = 0;
        loop {
            let incoming = self.reader.next(bytes, &mut at, &BOUNDS);
            match incoming.map_err(|error| error.to_string())? {
                None => return Ok(came),
                Some(Incoming::Binary(batch)) => {
                    for envelope in BatchReader::new(batch) {
                        let envelope = envelope.map_err(|error| error.to_string())?;
                        self.welcomed |= envelope.kind == Kind::Welcome as u8;
                    }
                }
                Some(Incoming::Ping(payload)) => came.ping = Some(payload.to_vec()),
                Some(Incoming::Pong(_)) => came.answers += 1,
                Some(Incoming::Text(_)) => {
                    return Err("the server answered in another codec".to_owned());
                }
                Some(Incoming::Close(close)) => {
                    return Err(format!(
                        "closed with {:?} {}",
                        close.code.map(|code| code.0),
                        close.reason
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_protocol::ws::encoder::append_frame;

    use super::*;

    fn visitors() -> Visitors {
        Visitors {
            key: "07".repeat(32),
            run: 9,
        }
    }

    #[test]
    fn every_visitor_is_somebody_else_with_a_token_that_holds() {
        let mut visiting = Visiting::new(&visitors()).unwrap();
        let key = Key::from_hex(&visitors().key).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..10 {
            let mut frame = visiting.hello(number).to_vec();
            let mut reader = MessageReader::new(Peer::Client);
            let Some(Incoming::Binary(batch)) = reader.next(&mut frame, &mut 0, &BOUNDS).unwrap()
            else {
                panic!("a Hello is one binary message")
            };
            let envelope = BatchReader::new(batch).next().unwrap().unwrap();
            let view = tidegate_protocol::verify(Kind::Hello, envelope.payload).unwrap();
            let tidegate_protocol::View::Hello(hello) = view else {
                panic!("a Hello")
            };
            let claims = token::verify(hello.token().unwrap(), &key, 1).unwrap();
            assert!(claims.sub.is_synthetic());
            assert!(seen.insert((claims.sub, hello.session())));
        }
    }

    #[test]
    fn the_welcome_is_found_among_other_envelopes_however_they_are_cut() {
        let mut batch = Vec::new();
        append_envelope(&mut batch, Kind::Wait, 1, b"anything");
        append_envelope(&mut batch, Kind::Welcome, 2, b"anything");
        let mut stream = Vec::new();
        append_frame(&mut stream, Opcode::Ping, b"beat");
        append_frame(&mut stream, Opcode::Binary, &batch);
        append_frame(&mut stream, Opcode::Pong, b"tidegate");
        for piece in 1..=stream.len() {
            let mut heard = Heard::nothing();
            let (mut answers, mut ping) = (0, None);
            for bytes in stream.clone().chunks_mut(piece) {
                let came = heard.take(bytes).unwrap();
                answers += came.answers;
                ping = came.ping.or(ping);
            }
            assert!(heard.is_welcomed(), "in pieces of {piece}");
            assert_eq!((answers, ping.as_deref()), (1, Some(&b"beat"[..])));
        }
    }
}
