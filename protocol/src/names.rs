//! The snake_case names of the schema's enumerations: in JSON, in HTTP answers, in logs and metrics.

use crate::fb;

/// An enumeration of the schema with its names.
pub trait Named: Copy + Sized {
    /// The snake_case name; `None` for a value from a newer schema.
    fn name(self) -> Option<&'static str>;
    /// The value of a name.
    fn from_name(name: &[u8]) -> Option<Self>;
    /// The wire's byte.
    fn to_u8(self) -> u8;
}

macro_rules! named {
    ($($enumeration:ident { $($variant:ident $name:literal),* $(,)? })*) => {$(
        impl Named for fb::$enumeration {
            fn name(self) -> Option<&'static str> {
                match self { $(Self::$variant => Some($name),)* _ => None }
            }
            fn from_name(name: &[u8]) -> Option<Self> {
                $(if name == $name.as_bytes() { return Some(Self::$variant); })*
                None
            }
            fn to_u8(self) -> u8 { self.0 }
        }
    )*

        /// Every enumeration of the schema: its name, and the name of each value.
        pub const ENUMERATIONS: &[(&str, &[(&str, u8)])] = &[
            $((stringify!($enumeration), &[$(($name, fb::$enumeration::$variant.0)),*])),*
        ];

        #[cfg(test)]
        fn all() -> Vec<(Option<&'static str>, Option<&'static str>, bool)> {
            let mut all = Vec::new();
            $(for &value in fb::$enumeration::ENUM_VALUES {
                let found = value.name().and_then(|n| fb::$enumeration::from_name(n.as_bytes())) == Some(value);
                all.push((value.variant_name(), value.name(), found));
            })*
            all
        }
    };
}

named! {
    Family { H5 "h5", Wechat "wechat", App "app" }
    Role { Visitor "visitor", Agent "agent", Supervisor "supervisor", Bot "bot", System "system" }
    Side { Visitor "visitor", Agent "agent" }
    ConversationStatus { Waiting "waiting", Chatting "chatting", Closed "closed" }
    CloseReason {
        None "none", ByVisitor "by_visitor", ByAgent "by_agent", BySupervisor "by_supervisor",
        VisitorGone "visitor_gone", Abandoned "abandoned",
    }
    AgentStatus { Offline "offline", Away "away", Online "online" }
    ContentType { Text "text", System "system" }
    SystemEvent {
        None "none", Queued "queued", AgentJoined "agent_joined", Transferred "transferred", Requeued "requeued",
        Closed "closed",
    }
    CommandOp {
        None "none", Start "start", Close "close", Transfer "transfer", SetStatus "set_status", Take "take",
    }
    SendOutcome {
        Accepted "accepted", Duplicate "duplicate", Gap "gap", IdConflict "id_conflict", Busy "busy",
        Refused "refused",
    }
    Reason {
        None "none", MalformedEnvelope "malformed_envelope", UnknownField "unknown_field",
        NotWelcomed "not_welcomed", BadToken "bad_token", ExpiredToken "expired_token", Forbidden "forbidden",
        NoSuchConversation "no_such_conversation", ConversationClosed "conversation_closed",
        NoSuchAgent "no_such_agent", AgentUnavailable "agent_unavailable", EmptyMessage "empty_message",
        MessageTooLong "message_too_long", RateLimited "rate_limited", Busy "busy", Internal "internal",
        InvalidState "invalid_state",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_value_of_the_schema_has_its_own_name_in_snake_case() {
        for (variant, name, found) in super::all() {
            let mut snake = String::new();
            for (i, c) in variant.expect("a value of the schema").char_indices() {
                if c.is_ascii_uppercase() && i > 0 {
                    snake.push('_');
                }
                snake.push(c.to_ascii_lowercase());
            }
            assert_eq!(name, Some(snake.as_str()));
            assert!(found, "{snake}");
        }
    }
}
