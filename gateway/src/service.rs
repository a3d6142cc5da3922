//! The line between the sockets and what stands above them.
//!
//! Below: the shard (slab, state machines, timers, out queues) over a driver. Above: a [`Service`] – echo, or the
//! chat over the bus. Both sides are sans-IO: no clock, no socket, no thread. A service acts only through
//! [`Sockets`], and everything it asks for happens after its callback returned, in the order in which it asked:
//! one send per connection and turn.
//!
//! A shard calls its service from one thread only. The callbacks of one connection come in this order:
//! `on_upgraded`, then any number of `on_message`, `on_traffic`, `on_pong`, `on_timer`, `on_writable`,
//! `on_goaway`, then once `on_closed`. A connection that died before its upgrade is never shown.

use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;

use protocol::ws::Opcode;
use protocol::ws::encoder::append_frame;

pub use protocol::Codec;

pub use crate::id::ConnectionId;
pub use crate::time::{Span, Time};

/// What stands above the sockets of one shard.
pub trait Service {
    /// The WebSocket handshake is done and the 101 is queued. Sends may follow at once.
    fn on_upgraded(&mut self, io: &mut impl Sockets, id: ConnectionId, upgrade: &Upgrade<'_>);

    /// One whole message: unmasked, its text valid UTF-8, within the limit.
    ///
    /// It is only called for connections that are open and not parked. The payload is lent for the call.
    fn on_message(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        message: Message<'_>,
    ) -> Taken;

    /// Bytes came (called once per received buffer, before its messages): the peer lives.
    fn on_traffic(&mut self, _io: &mut impl Sockets, _id: ConnectionId) {}

    /// A pong came, with the payload of the ping it answers (at most 125 bytes).
    fn on_pong(&mut self, _io: &mut impl Sockets, _id: ConnectionId, _payload: &[u8]) {}

    /// The moment that [`Sockets::set_timer`] named has come. The timer is unset before the call.
    fn on_timer(&mut self, _io: &mut impl Sockets, _id: ConnectionId) {}

    /// The connection's out queue, which held more than half of its bound since the last call, is empty again:
    /// the time to pull more for a connection that was left behind.
    fn on_writable(&mut self, _io: &mut impl Sockets, _id: ConnectionId) {}

    /// The shard drains: this connection will be closed with 4005 within the drain time. The place to send Goaway
    /// with `retry_ms` (jittered already).
    fn on_goaway(&mut self, _io: &mut impl Sockets, _id: ConnectionId, _retry_ms: u32) {}

    /// The connection is gone: nothing can be sent to it any more. [`Told::Later`] keeps the slot (and with it the
    /// id's meaning) until [`Sockets::release`].
    fn on_closed(&mut self, io: &mut impl Sockets, id: ConnectionId, cause: CloseCause) -> Told;

    /// Once per round of the shard's loop, after the completions of that round: drain `to_gateway`, retry the
    /// sweeps of opened and closed, announce. Also always called after a sleep.
    fn turn(&mut self, _io: &mut impl Sockets) {}

    /// A descriptor that becomes readable when the service has something to do while the shard sleeps. The driver
    /// only waits for it (POLLIN); reading it empty is the service's part, in `turn`.
    fn doorbell(&self) -> Option<RawFd> {
        None
    }

    /// Why the service can never do its work again, if so: the shard stops with this sentence, and with it the
    /// process; its clients resume with a successor. Asked a few times a second.
    fn failure(&self) -> Option<String> {
        None
    }

    /// Called last before the shard sleeps: publish the sleep word and look again. False: do not sleep, there is
    /// work.
    fn before_sleep(&mut self) -> bool {
        true
    }
}

/// What a service may do to its shard's connections. Stale ids (closed, or the slot used again) are answered
/// with the outcome that says so and change nothing.
pub trait Sockets {
    /// The time of this round of the loop.
    fn now(&self) -> Time;

    /// The shard that this is.
    fn shard(&self) -> u16;

    /// Queues one frame: the payload is copied behind a frame header.
    fn send(&mut self, id: ConnectionId, frame: Frame<'_>) -> SendOutcome;

    /// Queues a frame that many connections share; its bytes are charged to each holder.
    fn send_shared(&mut self, id: ConnectionId, frame: &SharedFrame) -> SendOutcome;

    /// Bytes queued and not yet taken by the kernel; 0 for a stale id.
    fn out_bytes(&self, id: ConnectionId) -> u32;

    /// Bytes that may still be queued before the slow-reader rule closes the connection; 0 for a stale id.
    fn room_bytes(&self, id: ConnectionId) -> u32;

    /// Sets the bound of the out queue; visitors' is the default.
    fn set_class(&mut self, id: ConnectionId, class: PeerClass);

    /// Begins the close handshake: a close frame with `code` and `reason` (cut to 123 bytes) after what is
    /// queued. Messages that arrive later are not offered.
    fn close(&mut self, id: ConnectionId, code: u16, reason: &str);

    /// Calls `on_timer` at `at` or up to 64 ms later. One timer per connection: the last call counts.
    fn set_timer(&mut self, id: ConnectionId, at: Time);

    /// Takes the timer back.
    fn clear_timer(&mut self, id: ConnectionId);

    /// Offers a parked connection's message again after this callback returned, and reads on once it was taken.
    fn unpark(&mut self, id: ConnectionId);

    /// The slot kept by [`Told::Later`] may be used again.
    fn release(&mut self, id: ConnectionId);

    /// True while frames can be queued: upgraded, no close begun by either side.
    fn is_open(&self, id: ConnectionId) -> bool;
}

/// What was agreed at the upgrade. Lent for the call.
#[derive(Debug)]
pub struct Upgrade<'a> {
    /// How messages are encoded.
    pub codec: Codec,
    /// The client: the peer of the socket, or what a trusted proxy said (PROXY protocol v2, X-Forwarded-For).
    pub client: SocketAddr,
    /// The Origin header, if one was sent; it passed the allow-list.
    pub origin: Option<&'a str>,
}

/// A whole message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Text or binary.
    pub kind: MessageKind,
    /// All of it, fragments joined.
    pub payload: &'a [u8],
    /// 0 the first time; else the number that the last [`Taken::Park`] of this message carried.
    pub skip: u32,
}

/// The two opcodes of data messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// Opcode 1: valid UTF-8.
    Text,
    /// Opcode 2.
    Binary,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Dealt with.
    Yes,
    /// No room. The shard keeps the message, stops reading from this connection, and offers the message again when
    /// [`Sockets::unpark`] is called. At `parked_bytes_max` of the shard the connection is closed with 4006.
    Park {
        /// How much of a batch was dealt with, in the service's own unit; handed back as [`Message::skip`].
        skip: u32,
    },
    /// Send the same message back: the echo's path, without a copy where the message lies whole in the buffer it
    /// was received in.
    Reflect,
}

/// A frame to send: opcode and payload.
#[derive(Clone, Copy, Debug)]
pub enum Frame<'a> {
    /// Must be valid UTF-8.
    Text(&'a [u8]),
    /// Any bytes.
    Binary(&'a [u8]),
    /// A WebSocket ping of at most 125 bytes: the answer comes as `on_pong`. Not counted by the slow-reader rule.
    Ping(&'a [u8]),
}

/// A frame with its header, encoded once for many connections.
#[derive(Clone, Debug)]
pub struct SharedFrame(pub(crate) Rc<[u8]>);

impl SharedFrame {
    /// Encodes the frame: header and a copy of the payload.
    #[must_use]
    pub fn new(kind: MessageKind, payload: &[u8]) -> Self {
        let opcode = match kind {
            MessageKind::Text => Opcode::Text,
            MessageKind::Binary => Opcode::Binary,
        };
        let mut bytes = Vec::new();
        append_frame(&mut bytes, opcode, payload);
        Self(bytes.into())
    }

    /// Header and payload.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum SendOutcome {
    /// In the connection's queue. That is no delivery.
    Queued,
    /// Not queued: the connection is closing, or the id is stale.
    NotOpen,
    /// Not queued: the queue is at its bound. The connection is being closed with 4002; `on_closed` follows.
    /// Closing is lossless: the client resumes.
    SlowReader,
}

/// Which bound a connection's out queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerClass {
    /// `visitor_out_bytes_max` (64 KiB by default).
    Visitor,
    /// `agent_out_bytes_max` (1 MiB by default): agents and supervisors.
    Agent,
}

/// Whether the service is done with a closed connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The slot may be used again.
    Now,
    /// Keep the slot until [`Sockets::release`].
    Later,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseCause {
    /// The peer sent a close frame; 1005 if it carried no code.
    Peer {
        /// Its code.
        code: u16,
    },
    /// End of stream without a close frame, a reset, or TCP_USER_TIMEOUT.
    Gone,
    /// The gateway closed: protocol error, slow reader, stalled frame, drain, no room to park.
    Gateway {
        /// The code that was sent.
        code: u16,
    },
    /// The service closed.
    Service {
        /// The code that was sent.
        code: u16,
    },
}

impl CloseCause {
    /// The close code to tell: 1006 where there was no close frame.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Peer { code } | Self::Gateway { code } | Self::Service { code } => code,
            Self::Gone => 1006,
        }
    }
}
