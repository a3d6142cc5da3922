//! What a client tells its driver.

use tidegate_protocol::{Id, fb};

/// Something that the driver does, or wants to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Open a socket to the server, then call [`connected`](super::Client::connected), or
    /// [`lost`](super::Client::lost) when that fails.
    Connect,
    /// Write what is in the output, then close the socket. Nothing of it concerns the client any more.
    Disconnect,
    /// The connection ended.
    Closed {
        /// Of the close frame; 1006 without one.
        code: u16,
        /// What the server asked for, ms.
        retry_ms: u64,
        /// A [`Event::Connect`] follows after the pause.
        comes_back: bool,
    },
    /// The server answered the upgrade with this HTTP status; [`Event::Closed`] follows.
    UpgradeRefused {
        /// 0: what came was no HTTP.
        status: u16,
    },
    /// In the waiting room.
    Waiting {
        /// 1 = next.
        place: u64,
        /// How many are let in.
        rate_per_s: u32,
        /// The number of the ticket: the lower, the sooner. `None`: it is none of ours.
        ticket: Option<u64>,
    },
    /// The server let us in.
    Welcomed {
        /// Who we are.
        principal: Id,
        /// What we are.
        role: fb::Role,
        /// The highest n accepted of this session.
        last_n: u64,
        /// When, by the server's clock, µs since the Unix epoch.
        told_us: u64,
    },
    /// The server goes away; we come back by ourselves.
    Goaway {
        /// After so long, ms.
        retry_ms: u32,
    },
    /// The answer to [`ping`](super::Client::ping), or to a heartbeat.
    Pong {
        /// Since the Ping, µs.
        round_trip_us: u64,
    },
    /// An item goes on the wire for the first time, or under a new id: write it down before the bytes leave.
    Bound {
        /// From [`send`](super::Client::send).
        key: u64,
        /// With `n` the message's id.
        session: u64,
        /// Counts up by one.
        n: u64,
    },
    /// An item was accepted: the server has committed it.
    Accepted {
        /// From [`send`](super::Client::send).
        key: u64,
        /// With `n` the message's id.
        session: u64,
        /// Counts up by one.
        n: u64,
        /// Where it went.
        conversation: Id,
        /// Its place there.
        seq: u64,
        /// An earlier copy had been accepted.
        repeated: bool,
    },
    /// An item was refused for good and left the outbox.
    Refused {
        /// From [`send`](super::Client::send).
        key: u64,
        /// Why.
        reason: fb::Reason,
    },
    /// Not now: the item is sent again by itself.
    SetBack {
        /// From [`send`](super::Client::send).
        key: u64,
        /// Busy, Gap, IdConflict, or Refused for a rate.
        outcome: fb::SendOutcome,
        /// Why.
        reason: fb::Reason,
    },
    /// The session could not go on; what is in the outbox gets ids of this one.
    SessionRenewed {
        /// The new one.
        session: u64,
    },
    /// The next message of a conversation: everything before it was handed on, or told as a [`Event::Hole`].
    Message(Box<Message>),
    /// What follows a Welcome for a conversation that we have: the server goes on behind our cursor, or said that not.
    Resumed {
        /// Which.
        conversation: Id,
        /// Of its history.
        incarnation: u64,
        /// The highest so far.
        seq: u64,
        /// What follows our cursor comes as messages; else [`Event::Hole`] says what does not.
        recovered: bool,
    },
    /// after < seq ≤ to does not come over the socket: read it over HTTP, then call
    /// [`holds`](super::Client::holds), which a driver that does not want it may do at once.
    Hole {
        /// Which.
        conversation: Id,
        /// Of its history.
        incarnation: u64,
        /// The last that we hold.
        after: u64,
        /// The last that is missing.
        to: u64,
        /// The history is another: forget what you hold of it.
        reset: bool,
    },
    /// What follows a cursor did not come in time, though later things did: the client resumes to get it. A server
    /// that keeps its promises never lets this happen.
    Missed {
        /// Which.
        conversation: Id,
        /// The last before the gap.
        after: u64,
    },
    /// A conversation's state.
    State(Box<State>),
    /// The marks of one side.
    Receipt {
        /// Which.
        conversation: Id,
        /// Whose.
        side: fb::Side,
        /// Everything up to here.
        delivered: u64,
        /// Everything up to here.
        read: u64,
    },
    /// The visitor's place in the queue for an agent.
    Queue {
        /// Which conversation waits.
        conversation: Id,
        /// 1 = next.
        position: u32,
        /// How many wait.
        waiting: u32,
        /// The turn that told it to all who wait, µs since the Unix epoch.
        told_us: u64,
    },
    /// An agent's state.
    Presence {
        /// Who.
        agent: Id,
        /// How.
        status: fb::AgentStatus,
    },
    /// A command was done.
    Done {
        /// From [`command`](super::Client::command).
        request: u64,
    },
    /// A command was not done (`Some`), or it is not known whether it was (`None`).
    NotDone {
        /// From [`command`](super::Client::command).
        request: u64,
        /// Why.
        reason: Option<fb::Reason>,
    },
    /// The server did not like something.
    Error {
        /// Why.
        reason: fb::Reason,
        /// For a person.
        detail: Box<str>,
    },
    /// The server sent what is no message of the protocol.
    Malformed,
}

/// A message, its text and where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which conversation.
    pub conversation: Id,
    /// Its place there.
    pub seq: u64,
    /// Who wrote it; nil = the system.
    pub sender: Id,
    /// What they are.
    pub role: fb::Role,
    /// With `n` its id; 0 = it has none.
    pub session: u64,
    /// Counts up by one.
    pub n: u64,
    /// What was written.
    pub text: Box<str>,
    /// What happened, if the system wrote it.
    pub system: fb::SystemEvent,
    /// We wrote it, here or elsewhere.
    pub own: bool,
}

/// A conversation's state, as far as drivers need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Which.
    pub conversation: Id,
    /// Of its history.
    pub incarnation: u64,
    /// Waiting, chatting, closed.
    pub status: fb::ConversationStatus,
    /// The highest so far.
    pub seq: u64,
    /// Whose it is.
    pub visitor: Id,
    /// Who answers; nil while waiting.
    pub agent: Id,
    /// We take part.
    pub mine: bool,
    /// Place in the queue; 0 = not waiting.
    pub position: u32,
}
