//! Hostile peers: one list of what a client may do to a gateway, and how each of it has to end.
//!
//! An [`Attack`] is data: where it begins, what is sent, and the ending that the service owes. [`attacker`] performs
//! one over a plain socket and says what came of it. `fuzz/tests/hostile_peers.rs` runs the quick ones against gateways
//! in the test's own process; the trial `hostile-peers` runs all of them against the shipped binary, with a healthy
//! [`pair`] beside them.

pub mod attacker;
pub mod envelopes;
mod floods;
mod frames;
mod handshakes;
pub mod pair;
pub mod replay;
mod silence;
pub mod target;
mod tokens;

use std::time::Duration;

use protocol::ws::Opcode;
use protocol::ws::encoder::append_client_frame;
use tidegate_protocol as protocol;

pub use tokens::{Tokens, hello};

/// What stands above the sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `gateway --echo`
    Echo,
    /// `gateway --echo=bus`
    BusEcho,
    /// The real protocol.
    Chat,
}

/// Every service.
pub const SERVICES: [Service; 3] = [Service::Echo, Service::BusEcho, Service::Chat];

/// Where an attack begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begins {
    /// TCP connects; nothing was said.
    Connected,
    /// Upgraded, with this subprotocol if any.
    Upgraded(Option<&'static str>),
    /// In JSON, after this Hello was answered by Welcome.
    Welcomed(String),
}

/// What is done.
#[derive(Clone, Debug)]
pub enum Act {
    /// The bytes, in one write; then it listens.
    Write(Vec<u8>),
    /// The bytes one by one, each in a segment of its own; then it listens.
    ByteByByte(Vec<u8>),
    /// A beginning, then the bytes one by one at this pace, from the first again after the last.
    Drip(Vec<u8>, Vec<u8>, Duration),
    /// A beginning, then the bytes again and again as fast as they are taken, reading all that comes.
    Flood(Vec<u8>, Vec<u8>),
    /// The bytes again and again as fast as they are taken, reading nothing.
    FloodUnread(Vec<u8>),
}

/// How it has to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// An HTTP answer of this status, then the end of the stream.
    Status(u16),
    /// A close frame of this code, then the end of the stream.
    Close(u16),
    /// The end of the stream without a word.
    Cut,
    /// The end, however it is told: the peer reads nothing.
    Gone,
    /// It is served: a frame of this payload comes, after whatever else.
    Hears(Vec<u8>),
    /// It may go on as long as it wants, within bounds.
    Lasts,
}

/// One attack.
#[derive(Clone, Debug)]
pub struct Attack {
    /// What it is, with the RFC's section where there is one.
    pub name: String,
    /// How many do it at a time.
    pub peers: usize,
    /// Where each begins.
    pub begins: Begins,
    /// What each does.
    pub act: Act,
    /// How each has to end.
    pub ending: Ending,
    /// How soon.
    pub within: Duration,
}

/// A violation has to be answered so soon. The bound for a bad length is 0.1 s; a busy machine may be slower by its
/// own doing, so attackers report the time and the trial judges it.
pub const AT_ONCE: Duration = Duration::from_secs(5);
/// A handshake that was begun is whole by then, or cut.
pub const HALF_HANDSHAKE: Duration = Duration::from_secs(15);
/// A frame that was begun gets on by then, or is closed.
pub const STALLED_FRAME: Duration = Duration::from_secs(60);

impl Attack {
    fn new(name: impl Into<String>, begins: Begins, act: Act, ending: Ending) -> Self {
        Self {
            name: name.into(),
            peers: 1,
            begins,
            act,
            ending,
            within: AT_ONCE,
        }
    }

    fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    fn by(mut self, peers: usize) -> Self {
        self.peers = peers;
        self
    }

    /// Whether it is about a length that is refused on its header.
    #[must_use]
    pub fn is_bad_length(&self) -> bool {
        ["a length of", "in 16 bits", "in 64 bits", "bytes announced"]
            .iter()
            .any(|words| self.name.contains(words))
    }

    /// Whether it is about as much as the socket takes.
    #[must_use]
    pub const fn is_flood(&self) -> bool {
        matches!(self.act, Act::Flood(..))
            || matches!(
                (&self.act, &self.ending),
                (Act::FloodUnread(_), Ending::Lasts)
            )
    }

    /// Whether it takes no longer than an answer does.
    #[must_use]
    pub fn is_quick(&self) -> bool {
        self.within == AT_ONCE && self.ending != Ending::Lasts && !self.is_flood()
    }
}

/// Every attack on a service whose longest message is `message_bytes_max`. Tokens are for the chat.
#[must_use]
pub fn attacks(service: Service, message_bytes_max: u64, tokens: Option<&Tokens>) -> Vec<Attack> {
    let mut all = handshakes::attacks(service);
    all.extend(frames::attacks(service, message_bytes_max));
    all.extend(silence::attacks(service, message_bytes_max));
    all.extend(floods::attacks(service));
    if let Some(tokens) = tokens {
        all.extend(tokens.attacks());
        all.extend(envelopes::attacks(tokens));
        all.extend(silence::once_welcomed(tokens));
    }
    all
}

/// A client's frame, masked and right in itself.
#[must_use]
pub fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_client_frame(&mut bytes, fin, opcode, payload, [0x1f, 0x2e, 0x3d, 0x4c]);
    bytes
}

/// A client's upgrade request, with these lines added.
#[must_use]
pub fn upgrade(subprotocol: Option<&str>, lines: &str) -> Vec<u8> {
    let wish = subprotocol.map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    format!(
        "GET /ws HTTP/1.1\r\nHost: hostile\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{}{lines}\r\n",
        wish.unwrap_or_default()
    )
    .into_bytes()
}
