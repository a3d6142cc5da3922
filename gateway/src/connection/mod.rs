//! The state of one connection, as small as it can be while it idles.
//!
//! ```text
//!              ┌────────────┐ upgraded  ┌──────┐ close by either side ┌─────────┐ flushed, answered ┌───────┐
//!  accepted ─▶ │ Handshake  │ ────────▶ │ Open │ ───────────────────▶ │ Closing │ ────────────────▶ │ Dying │
//!              └────────────┘           └──────┘                      └─────────┘  or out of time   └───────┘
//!                    │ refused, healthz   │ gone                          ▲            operations under │
//!                    ▼                    └────────────▶ Dying            │            way are told     ▼
//!              ┌────────────┐ flushed                                     │       Free, or Kept until the
//!              │ Answering  │ ────────────────────────────────────────────┘       service released it
//!              └────────────┘
//! ```
//!
//! Everything that only a busy connection needs – an unfinished handshake, a partial message, what is held while
//! parked – is in one box that an idle connection does not have.

pub mod outbox;
pub mod proxy;

use std::net::SocketAddr;

use protocol::ws::{Decoder, Peer};

use crate::driver::Socket;
use crate::service::{CloseCause, MessageKind};
use crate::wheel::Tick;
use outbox::OutQueue;

/// Where a connection is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The slot is unused.
    Free,
    /// Waiting for the whole upgrade request.
    Handshake,
    /// Upgraded.
    Open,
    /// An HTTP answer that is no upgrade is being sent; then the write side is shut.
    Answering,
    /// A close frame was sent or queued; data is discarded.
    Closing,
    /// Operations are being cancelled; then the descriptor is closed.
    Dying,
    /// The descriptor is closed; the service still needs the id.
    Kept,
}

/// One-bit facts of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(u32);

macro_rules! flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal;)*) => {
        impl Flags {
            $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)*
        }
    };
}

flags! {
    /// A receive is under way.
    RECEIVING = 0;
    /// Its cancellation was asked for.
    RECEIVE_CANCELLED = 1;
    /// A send is under way.
    SENDING = 2;
    /// Its cancellation was asked for.
    SEND_CANCELLED = 3;
    /// In the list of connections that need a flush.
    DIRTY = 4;
    /// The service knows of this connection: it is told of the end.
    UPGRADED = 5;
    /// The service was told of the end.
    TOLD = 6;
    /// The service asked to keep the slot.
    KEPT = 7;
    /// A message is held that the service did not take.
    PARKED = 8;
    /// The service asked for the parked message to be offered again.
    UNPARK = 9;
    /// What was reflected is not being read: nothing is received until it is.
    PAUSED = 10;
    /// The peer's stream ended.
    END_OF_STREAM = 11;
    /// The peer's close frame came.
    PEER_CLOSED = 12;
    /// What comes can't be parsed any more: discard it.
    DEAF = 13;
    /// The write side was shut.
    SHUT = 14;
    /// Receives are single ones: over its rate.
    SINGLE = 15;
    /// Waits for buffers.
    STARVED = 16;
    /// An agent's bound, not a visitor's.
    AGENT = 17;
    /// More than half of the bound was queued: `on_writable` is due when it is empty.
    FILLED = 18;
    /// The own deadline is the drain's.
    DRAIN = 19;
    /// The send is cancelled only to copy what it reads out of a received buffer.
    UNPIN = 20;
    /// The handshake has not begun: a PROXY header may come first.
    MAYBE_PROXY = 21;
}

impl Flags {
    /// Whether any of `flags` is set.
    pub const fn any(self, flags: Self) -> bool {
        self.0 & flags.0 != 0
    }
    /// Sets all of `flags`.
    pub const fn set(&mut self, flags: Self) {
        self.0 |= flags.0;
    }
    /// Clears all of `flags`.
    pub const fn clear(&mut self, flags: Self) {
        self.0 &= !flags.0;
    }
    /// Clears all of `flags` and says whether any was set.
    pub const fn take(&mut self, flags: Self) -> bool {
        let was = self.any(flags);
        self.clear(flags);
        was
    }
}

impl core::ops::BitOr for Flags {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One slot.
pub struct Connection {
    /// Counts the uses of the slot.
    pub generation: u32,
    /// While free: the next free slot. Else the driver's socket.
    pub socket: Socket,
    /// One-bit facts.
    pub flags: Flags,
    /// Where it is in its life.
    pub state: State,
    /// Buffers received in the round `burst_round`.
    pub burst: u8,
    /// The low bits of the round of the last received buffer.
    pub burst_round: u8,
    /// Why it ends, from `Closing` on.
    pub cause: CloseCause,
    /// What waits to be sent.
    pub out: OutQueue,
    /// The shard's deadline for this state; the service's timer.
    pub own_deadline: Tick,
    /// The service's timer.
    pub service_deadline: Tick,
    /// Frame state between two buffers.
    pub decoder: Decoder,
    /// What only a busy connection needs.
    pub extra: Option<Box<Extra>>,
}

/// What only a busy connection needs.
#[derive(Default)]
pub struct Extra {
    /// The bytes of an unfinished handshake.
    pub handshake: Vec<u8>,
    /// What a trusted proxy's PROXY header said.
    pub proxied: Option<SocketAddr>,
    /// The message so far: room for a frame header, then payload.
    pub collect: Vec<u8>,
    /// A control frame that was cut by the end of a buffer, so far: at most 125 bytes.
    pub control: Vec<u8>,
    /// A whole message that the service did not take.
    pub parked: Option<Parked>,
    /// Bytes that came behind a parked message, or while paused: not decoded yet.
    pub behind: Vec<u8>,
    /// When `collect` reaches this length, the stalled-frame deadline moves on.
    pub progress_at: usize,
}

impl Extra {
    /// Bytes that count against `parked_bytes_max`.
    pub fn held_bytes(&self) -> u64 {
        let parked = self
            .parked
            .as_ref()
            .map_or(0, |parked| parked.payload.len());
        (parked + self.behind.len()) as u64
    }

    /// True if nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.handshake.is_empty()
            && self.proxied.is_none()
            && self.collect.is_empty()
            && self.control.is_empty()
            && self.parked.is_none()
            && self.behind.is_empty()
    }
}

/// A whole message that the service did not take.
pub struct Parked {
    /// Text or binary.
    pub kind: MessageKind,
    /// The service's own mark.
    pub skip: u32,
    /// All of it.
    pub payload: Vec<u8>,
}

impl Connection {
    /// A slot that was never used.
    pub const fn unused() -> Self {
        Self {
            generation: 0,
            socket: Socket(0),
            flags: Flags(0),
            state: State::Free,
            burst: 0,
            burst_round: 0,
            cause: CloseCause::Gone,
            out: OutQueue::EMPTY,
            own_deadline: Tick::NEVER,
            service_deadline: Tick::NEVER,
            decoder: Decoder::new(Peer::Client),
            extra: None,
        }
    }

    /// The box for what only a busy connection needs.
    pub fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }

    /// True while frames are decoded: not held back, not past a close frame.
    pub fn takes_frames(&self) -> bool {
        matches!(self.state, State::Open | State::Closing)
            && !self.flags.any(Flags::PARKED | Flags::PAUSED | Flags::DEAF)
    }

    /// True if the deadline of the present state (a stall, a pause) is running.
    pub fn state_deadline_set(&self) -> bool {
        self.own_deadline != Tick::NEVER && !self.flags.any(Flags::DRAIN)
    }

    /// True where the connection wants bytes from its peer.
    pub fn wants_bytes(&self) -> bool {
        let holds = Flags::PARKED | Flags::PAUSED | Flags::END_OF_STREAM | Flags::STARVED;
        matches!(
            self.state,
            State::Handshake | State::Open | State::Answering | State::Closing
        ) && !self.flags.any(holds)
    }
}

// What an idle connection costs beside its timing wheel entry (16 B) and the service's own state: the target is
// 192 B for all three.
const _: () = assert!(size_of::<Connection>() <= 96);
