//! Every message as a plain struct that borrows its strings, and the one description of the schema's tables from
//! which the structs, their FlatBuffers encoding and both directions of the JSON codec are made.
//!
//! Fields stand in the schema's order; [`Default`] means "absent", so `..Default::default()` fills the rest.
//! A payload is written into a [`FlatBufferBuilder`] that the caller keeps: nothing is allocated once it has grown.
//!
//! ```
//! use tidegate_protocol::{Kind, View, message, verify};
//!
//! let mut builder = flatbuffers::FlatBufferBuilder::new();
//! let payload = message::Send { n: 1, text: "hi", ..Default::default() }.encode(&mut builder);
//! let Ok(View::Send(send)) = verify(Kind::Send, payload) else { panic!("a Send") };
//! assert_eq!((send.n(), send.text()), (1, Some("hi")));
//! ```

#[macro_use]
mod define;
pub(crate) mod table;

use flatbuffers::FlatBufferBuilder;

use crate::codec::json::write;
use crate::fb;
use crate::id::Id;
use crate::names::Named;
use table::{Built, Class, Field, Slot, Table};

messages! {
    /// What a client holds of one conversation.
    table Cursor {
        conversation: id,
        incarnation: u64,
        seq: u64,
    }

    /// Due within 10 s of the upgrade; answered by Welcome, Wait or a close.
    kind Hello<'a> {
        request: u64,
        token: text,
        session: hex64,
        family: enumeration(Family),
        locale: text,
        cursors: tables(Cursor),
        ticket: text,
        page: text,
        connection: u32,
    }

    /// Answered by Pong.
    kind Ping {
        request: u64,
    }

    /// One chat message; its id is (Hello.session, n).
    kind Send<'a> {
        n: u64,
        conversation: id,
        text: text,
    }

    /// Cumulative: everything up to these seqs.
    kind Ack {
        conversation: id,
        delivered: u64,
        read: u64,
    }

    /// Someone types, or stopped.
    kind Typing {
        conversation: id,
        active: bool(false),
    }

    /// Something to do other than sending.
    kind Command {
        request: u64,
        op: enumeration(CommandOp),
        conversation: id,
        agent: id,
        status: enumeration(AgentStatus),
    }

    /// The whole state of a conversation; the newest one wins.
    kind ConversationState<'a> {
        request: u64,
        conversation: id,
        incarnation: u64,
        status: enumeration(ConversationStatus),
        close_reason: enumeration(CloseReason),
        seq: u64,
        visitor: id,
        visitor_name: text,
        visitor_online: bool(false),
        agent: id,
        agent_name: text,
        opened_at_us: u64,
        assigned_at_us: u64,
        closed_at_us: u64,
        visitor_delivered: u64,
        visitor_read: u64,
        agent_delivered: u64,
        agent_read: u64,
        position: u32,
        eta_ms: u32,
        unanswered_since_us: u64,
        last_text: text,
        last_at_us: u64,
        page: text,
        mine: bool(true),
        queue_ticket: u64,
    }

    /// One conversation of a Welcome.
    table Resumed<'a> {
        state: table(ConversationState<'a>),
        recovered: bool(false),
    }

    /// The answer to Hello.
    kind Welcome<'a> {
        request: u64,
        principal: id,
        role: enumeration(Role),
        name: text,
        heartbeat_ms: u32,
        last_n: u64,
        conversations: tables(Resumed<'a>),
        agents_online: u32,
        status: enumeration(AgentStatus),
        capacity: u32,
    }

    /// The answer to Ping.
    kind Pong {
        request: u64,
    }

    /// The answer to Send.
    kind SendResult<'a> {
        n: u64,
        outcome: enumeration(SendOutcome),
        conversation: id,
        seq: u64,
        at_us: u64,
        expected_n: u64,
        retry_ms: u32,
        reason: enumeration(Reason),
        detail: text,
    }

    /// A message of a conversation, gapless by seq.
    kind Message<'a> {
        conversation: id,
        seq: u64,
        at_us: u64,
        sender_role: enumeration(Role),
        sender: id,
        sender_name: text,
        session: hex64,
        n: u64,
        content: enumeration(ContentType),
        text: text,
        system: enumeration(SystemEvent),
        close_reason: enumeration(CloseReason),
    }

    /// The marks of one side, after a merge.
    kind Receipt {
        conversation: id,
        side: enumeration(Side),
        delivered: u64,
        read: u64,
    }

    /// Someone types, or stopped.
    kind TypingNotice<'a> {
        conversation: id,
        side: enumeration(Side),
        name: text,
        active: bool(false),
    }

    /// Which ticket stands at a place in the queue for an agent.
    table QueueMark {
        place: u32,
        ticket: u64,
    }

    /// Places in the queue for an agent.
    kind QueueUpdate<'a> {
        conversation: id,
        position: u32,
        eta_ms: u32,
        waiting: u32,
        agents_online: u32,
        longest_wait_ms: u32,
        marks: tables(QueueMark),
        each_ms: u32,
    }

    /// An agent's state.
    kind Presence<'a> {
        request: u64,
        agent: id,
        name: text,
        status: enumeration(AgentStatus),
        open: u32,
        capacity: u32,
    }

    /// Something was wrong with what a client sent.
    kind Error<'a> {
        request: u64,
        reason: enumeration(Reason),
        field: text,
        detail: text,
        retry_ms: u32,
    }

    /// Admission: the place among those who wait to be let in.
    kind Wait<'a> {
        place: u64,
        rate_per_s: u32,
        next_ms: u32,
        ticket: text,
        eta_ms: u32,
    }

    /// Come back after `retry_ms`.
    kind Goaway {
        retry_ms: u32,
    }

    /// What brings one who is inside back in.
    kind Admitted<'a> {
        ticket: text,
    }
}

roots! {
    Hello, Ping, Send, Ack, Typing, Command, Welcome, Pong, SendResult, Message, ConversationState, Receipt,
    TypingNotice, QueueUpdate, Presence, Error, Wait, Goaway, Admitted,
}
