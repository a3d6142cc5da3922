//! What an envelope is. Kinds up to 63 lead from client to server, from 64 on from server to client.

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $text:literal;)*) => {
        /// What an envelope is. A byte that is none of these is skipped by its reader: the schema only grows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "schema/tidegate.fbs says what each kind means")]
        pub enum Kind { $($(#[$doc])* $name = $value),* }

        impl Kind {
            /// Every kind, in order.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind of a header byte; `None` is skipped.
            #[must_use]
            pub const fn from_u8(value: u8) -> Option<Self> {
                match value { $($value => Some(Self::$name),)* _ => None }
            }

            /// The name in JSON, logs and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The kind of a name.
            #[must_use]
            pub fn from_name(name: &[u8]) -> Option<Self> {
                $(if name == $text.as_bytes() { return Some(Self::$name); })*
                None
            }
        }
    };
}

kinds! {
    Hello = 1, "hello";
    Ping = 2, "ping";
    Send = 3, "send";
    Ack = 4, "ack";
    Typing = 5, "typing";
    Command = 6, "command";
    Welcome = 65, "welcome";
    Pong = 66, "pong";
    SendResult = 67, "send_result";
    Message = 68, "message";
    ConversationState = 69, "conversation_state";
    Receipt = 70, "receipt";
    TypingNotice = 71, "typing_notice";
    QueueUpdate = 72, "queue_update";
    Presence = 73, "presence";
    Error = 74, "error";
    Wait = 75, "wait";
    Goaway = 76, "goaway";
    Admitted = 77, "admitted";
}

impl Kind {
    /// Whether clients send it. A kind that leads the other way is skipped like an unknown one.
    #[must_use]
    pub const fn leads_to_server(self) -> bool {
        (self as u8) < 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_again_by_its_byte_and_by_its_name() {
        for &kind in Kind::ALL {
            assert_eq!(Kind::from_u8(kind as u8), Some(kind));
            assert_eq!(Kind::from_name(kind.name().as_bytes()), Some(kind));
        }
        assert_eq!(Kind::from_u8(0), None);
        assert_eq!(Kind::from_u8(64), None);
        assert_eq!(Kind::from_name(b"nonsense"), None);
    }
}
