//! The enumerations of the domain, as closed Rust enums so that every `match` is total.
//!
//! Their numbers are the schema's (`protocol/schema/tidegate.fbs`) and are what the store keeps; a test compares.

use serde::{Deserialize, Serialize};

/// Declares a closed enum whose discriminants are stored and sent, with the way back from a byte.
macro_rules! coded {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal / $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $code),+ }

        impl $name {
            /// Every value, in the order of its code.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The number that the wire and the store carry.
            #[must_use]
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The value of a number; `None` for a number of a newer version.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The name in JSON, in exports and in metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

coded!(
    /// Who somebody is.
    Role {
        /// A customer.
        Visitor = 0 / "visitor",
        /// Answers visitors.
        Agent = 1 / "agent",
        /// An agent who may also close, take and transfer what is not theirs.
        Supervisor = 2 / "supervisor",
        /// A program that answers.
        Bot = 3 / "bot",
        /// Tidegate itself.
        System = 4 / "system",
    }
);

coded!(
    /// The two sides of a conversation; marks belong to a side, not to a device.
    Side {
        /// The visitor.
        Visitor = 0 / "visitor",
        /// Whoever answers.
        Agent = 1 / "agent",
    }
);

coded!(
    /// Where a conversation stands.
    Status {
        /// In the queue for an agent.
        Waiting = 0 / "waiting",
        /// An agent has it.
        Chatting = 1 / "chatting",
        /// Over; never opened again.
        Closed = 2 / "closed",
    }
);

coded!(
    /// Why a conversation is over.
    CloseReason {
        /// It is not over.
        None = 0 / "none",
        /// The visitor closed it.
        ByVisitor = 1 / "by_visitor",
        /// Its agent closed it.
        ByAgent = 2 / "by_agent",
        /// A supervisor closed it.
        BySupervisor = 3 / "by_supervisor",
        /// The visitor stayed away while chatting.
        VisitorGone = 4 / "visitor_gone",
        /// The visitor left the queue.
        Abandoned = 5 / "abandoned",
    }
);

coded!(
    /// Whether an agent is given conversations.
    AgentStatus {
        /// No connection, for longer than the grace.
        Offline = 0 / "offline",
        /// Connected, but is given nothing new.
        Away = 1 / "away",
        /// Connected and is given conversations.
        Online = 2 / "online",
    }
);

coded!(
    /// What a message carries.
    Content {
        /// Text that somebody wrote.
        Text = 0 / "text",
        /// A change of state, told to both sides.
        System = 1 / "system",
    }
);

coded!(
    /// What a system message says.
    SystemEvent {
        /// Not a system message.
        None = 0 / "none",
        /// The conversation began and waits.
        Queued = 1 / "queued",
        /// An agent joined.
        AgentJoined = 2 / "agent_joined",
        /// Handed to another agent.
        Transferred = 3 / "transferred",
        /// The agent left; it waits again.
        Requeued = 4 / "requeued",
        /// Closed.
        Closed = 5 / "closed",
    }
);

coded!(
    /// What became of a send.
    Outcome {
        /// Committed.
        Accepted = 0 / "accepted",
        /// Accepted before.
        Duplicate = 1 / "duplicate",
        /// Not the next number.
        Gap = 2 / "gap",
        /// The number was accepted with another body.
        IdConflict = 3 / "id_conflict",
        /// Not accepted; try again later.
        Busy = 4 / "busy",
        /// Not accepted, and will not be.
        Refused = 5 / "refused",
    }
);

coded!(
    /// Why something was refused; the schema's `Reason`.
    Reason {
        /// Nothing was refused.
        None = 0 / "none",
        /// The envelope did not verify.
        MalformedEnvelope = 1 / "malformed_envelope",
        /// A JSON member of the wrong type or range.
        UnknownField = 2 / "unknown_field",
        /// Before Welcome.
        NotWelcomed = 3 / "not_welcomed",
        /// The token does not verify.
        BadToken = 4 / "bad_token",
        /// The token was good once.
        ExpiredToken = 5 / "expired_token",
        /// Not theirs, or not for their role.
        Forbidden = 6 / "forbidden",
        /// No conversation of that id.
        NoSuchConversation = 7 / "no_such_conversation",
        /// It is over.
        ConversationClosed = 8 / "conversation_closed",
        /// No agent of that id.
        NoSuchAgent = 9 / "no_such_agent",
        /// Offline, away, disabled, or at capacity.
        AgentUnavailable = 10 / "agent_unavailable",
        /// No text.
        EmptyMessage = 11 / "empty_message",
        /// More text than a message may have.
        MessageTooLong = 12 / "message_too_long",
        /// Too many in too short a time.
        RateLimited = 13 / "rate_limited",
        /// The backend cannot take it now.
        Busy = 14 / "busy",
        /// Quarantined.
        Internal = 15 / "internal",
        /// The table of states and events has no such step.
        InvalidState = 16 / "invalid_state",
    }
);

coded!(
    /// What kind of client it is; sets heartbeat and grace.
    Family {
        /// A page in a browser.
        H5 = 0 / "h5",
        /// A WeChat mini-program.
        Wechat = 1 / "wechat",
        /// A native app.
        App = 2 / "app",
    }
);

impl Role {
    /// The side this role speaks for.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Visitor => Side::Visitor,
            Self::Agent | Self::Supervisor | Self::Bot | Self::System => Side::Agent,
        }
    }
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Visitor => Self::Agent,
            Self::Agent => Self::Visitor,
        }
    }
}
