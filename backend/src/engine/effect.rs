//! What an input leads to beside rows: effects that address people and conversations. They leave after the commit.
//!
//! | class | effects | when there is no room |
//! | --- | --- | --- |
//! | answer | Welcome, SendResult, Refused, Answer, Close, Http | room was reserved when the input was taken |
//! | derivable | Appended, Changed, Receipt, Joined, Left | the connection is marked *behind* and pulled later |
//! | transient | Typing; presence and queue numbers (by [`super::Engine::take_presence`]) | coalesced or dropped, and counted |

use std::ops::Range;

use tidegate_protocol::Id;

use super::command::{HttpAnswer, Refusal};
use super::connections::{Address, ConnectionKey};
use super::conversation::ConversationKey;
use super::kinds::{Outcome, Reason, Side};
use super::write_set::WriteSet;

/// A repeat whose first answer is not near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// Who waits for the answer.
    pub to: Address,
    /// Whose.
    pub principal: Id,
    /// First half of the message's id.
    pub session: u64,
    /// Second half.
    pub n: u64,
    /// Hash of the repeat's body.
    pub hash: u64,
    /// Where it says that it goes.
    pub conversation: Option<Id>,
}

/// One effect, in the order of cause.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A connection is welcome, and follows these conversations from these cursors.
    Welcome {
        /// Which.
        connection: ConnectionKey,
        /// Echoed.
        request: u64,
        /// Highest n of its session.
        last_n: u64,
        /// In [`Output::resumes`].
        resumes: Range<u32>,
        /// How long it may be silent, as its gateway learned.
        heartbeat_ms: u32,
        /// Announced: it was welcomed by an earlier backend; no Welcome goes out.
        announced: bool,
    },
    /// A connection is gone; its key rests.
    Gone {
        /// Which.
        connection: ConnectionKey,
    },
    /// The gateway must close a connection.
    Close {
        /// Which.
        address: Address,
        /// WebSocket close code.
        code: u16,
        /// When to come back; 0 = not said.
        retry_ms: u32,
    },
    /// What became of a send.
    SendResult {
        /// Who sent.
        to: Address,
        /// Its number.
        n: u64,
        /// What became of it.
        outcome: Outcome,
        /// Where it went, if it is in memory.
        key: Option<ConversationKey>,
        /// Where it went.
        conversation: Id,
        /// Its place.
        seq: u64,
        /// When.
        at_us: u64,
        /// With `Gap`.
        expected_n: u64,
        /// With `Busy`.
        retry_ms: u32,
        /// With `Busy` and `Refused`.
        reason: Reason,
        /// For people.
        detail: Detail,
    },
    /// Something other than a send was refused.
    Refused {
        /// Who asked.
        to: Address,
        /// Echoed.
        request: u64,
        /// Which field is at fault; may be empty.
        field: &'static str,
        /// Why.
        refusal: Refusal,
    },
    /// A command was carried out; this is the state it led to.
    Answer {
        /// Who asked.
        to: Address,
        /// Echoed.
        request: u64,
        /// The state.
        about: About,
    },
    /// A conversation has one message more.
    Appended {
        /// Which.
        conversation: ConversationKey,
        /// Its seq.
        seq: u64,
    },
    /// A conversation's state changed.
    Changed {
        /// Which.
        conversation: ConversationKey,
    },
    /// A side's marks rose.
    Receipt {
        /// Where.
        conversation: ConversationKey,
        /// Whose.
        side: Side,
        /// The connection that raised them knows.
        except: Option<ConnectionKey>,
    },
    /// A connection acknowledged what it was sent, whether or not the marks rose: it may be sent more.
    Acked {
        /// Which.
        connection: ConnectionKey,
        /// In which conversation.
        conversation: ConversationKey,
        /// Up to here.
        delivered: u64,
    },
    /// Somebody's connections follow a conversation from now on.
    Joined {
        /// Which.
        conversation: ConversationKey,
        /// Who.
        principal: Id,
        /// They have everything up to here already.
        cursor: u64,
        /// The newest seq at that moment.
        seq: u64,
    },
    /// Somebody no longer takes part.
    Left {
        /// Where.
        conversation: ConversationKey,
        /// Who.
        principal: Id,
    },
    /// Somebody types, or stopped.
    Typing {
        /// Where.
        conversation: ConversationKey,
        /// Which side types.
        side: Side,
        /// Types, or stopped.
        active: bool,
    },
    /// A repeat whose first answer is not near: readers look for it, and the SendResult follows.
    Search(Repeat),
    /// Retention removed the beginning of a conversation: who does not have it can't be sent it any more.
    Erased {
        /// Which.
        conversation: ConversationKey,
        /// Messages up to here are gone.
        up_to: u64,
    },
    /// A conversation left memory; its key will be used again. Who lacks something of it can't be pulled any more.
    Forgotten {
        /// Which.
        conversation: ConversationKey,
        /// Its newest message.
        seq: u64,
    },
    /// The answer to a request over HTTP.
    Http {
        /// Whose.
        ticket: u32,
        /// What.
        answer: Result<Box<HttpAnswer>, Box<Refusal>>,
    },
}

/// What an answer shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// A conversation.
    Conversation(ConversationKey),
    /// An agent's presence.
    Agent(Id),
}

/// Words beside a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detail {
    /// A worker's.
    Said(Box<str>),
    /// Fixed words; may be empty.
    Text(&'static str),
    /// The quarantine's reference, that operators find in the log.
    Reference(Id),
}

/// One conversation that a welcomed connection follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Which.
    pub conversation: ConversationKey,
    /// The client has everything up to here; what follows is pushed.
    pub cursor: u64,
    /// The client may go on from its own cursor; false: it reads history over HTTP up to `seq`.
    pub recovered: bool,
}

/// What one turn produced.
#[derive(Debug, Default)]
pub struct Output {
    /// To commit.
    pub writes: WriteSet,
    /// To publish after the commit, in this order.
    pub effects: Vec<Effect>,
    /// What `Welcome`s point into.
    pub resumes: Vec<Resume>,
}

impl Output {
    /// Ready for the next turn; capacity is kept.
    pub fn clear(&mut self) {
        self.writes.clear();
        self.effects.clear();
        self.resumes.clear();
    }
}
