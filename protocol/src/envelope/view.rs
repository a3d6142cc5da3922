//! The only door to a payload's fields: verified first, read afterwards.
//!
//! FlatBuffers aligns relative to the first byte of the payload, and the accessors read at any address, so a
//! payload needs no copy wherever it lies in a frame.

use flatbuffers::Follow;

use crate::codec::json::write::WriteMembers;
use crate::envelope::{Kind, verifier};
use crate::fb;
use crate::limits::{
    CURSORS_PER_HELLO_MAX, ENVELOPE_PAYLOAD_BYTES_MAX, LOCALE_BYTES_MAX, PAGE_BYTES_MAX,
    TOKEN_BYTES_MAX,
};

/// Why a payload was refused. Answered with Error `malformed_envelope`, and a close when it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`ENVELOPE_PAYLOAD_BYTES_MAX`].
    #[error("a payload of {0} bytes is longer than {ENVELOPE_PAYLOAD_BYTES_MAX}")]
    TooLong(usize),
    /// An offset leads out of it, a text is no UTF-8, or it is deeper or has more tables than its limits.
    #[error("not a FlatBuffers table of the envelope's kind")]
    Unverified,
    /// A field exceeds its limit.
    #[error("`{field}` exceeds {max}")]
    TooMuch {
        /// The field of the table.
        field: &'static str,
        /// Its limit: bytes of a string, elements of a vector.
        max: usize,
    },
}

impl Malformed {
    /// The field at fault, where there is one.
    #[must_use]
    pub const fn field(self) -> Option<&'static str> {
        match self {
            Self::TooMuch { field, .. } => Some(field),
            Self::TooLong(_) | Self::Unverified => None,
        }
    }
}

macro_rules! views {
    ($($kind:ident),*) => {
        /// A verified payload, by its kind.
        #[derive(Clone, Copy, Debug)]
        #[expect(missing_docs, reason = "schema/tidegate.fbs says what each kind means")]
        pub enum View<'a> { $($kind(fb::$kind<'a>)),* }

        /// Verifies a payload of that kind.
        ///
        /// # Errors
        /// See [`Malformed`].
        pub fn verify(kind: Kind, payload: &[u8]) -> Result<View<'_>, Malformed> {
            if payload.len() > ENVELOPE_PAYLOAD_BYTES_MAX {
                return Err(Malformed::TooLong(payload.len()));
            }
            if !verifier::holds(payload, kind.table()) {
                return Err(Malformed::Unverified);
            }
            let view = match kind { $(Kind::$kind => View::$kind(trusted(payload))),* };
            check_limits(&view)?;
            Ok(view)
        }

        impl View<'_> {
            /// Its kind.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),* }
            }

            pub(crate) fn write_members(&self, out: &mut Vec<u8>) {
                match self { $(Self::$kind(table) => table.write_members(out)),* }
            }
        }
    };
}

views!(
    Hello,
    Ping,
    Send,
    Ack,
    Typing,
    Command,
    Welcome,
    Pong,
    SendResult,
    Message,
    ConversationState,
    Receipt,
    TypingNotice,
    QueueUpdate,
    Presence,
    Error,
    Wait,
    Goaway,
    Admitted
);

/// Only for payloads that [`verifier::holds`] took as the table `T` of their kind.
#[expect(
    unsafe_code,
    clippy::disallowed_methods,
    reason = "the one place that reads unverified offsets, right behind their verifier"
)]
fn trusted<'a, T: Follow<'a, Inner = T> + 'a>(payload: &'a [u8]) -> T {
    // SAFETY: its only caller has verified the payload as this kind's table. flatc made `T`, and `messages!` the
    // description that was followed, from the same schema; a fuzz body holds the verifiers of both against each other.
    unsafe { flatbuffers::root_unchecked::<T>(payload) }
}

/// Hello is what a stranger sends first: its parts are bounded before anybody keeps them.
fn check_limits(view: &View<'_>) -> Result<(), Malformed> {
    let View::Hello(hello) = view else {
        return Ok(());
    };
    let bounded = [
        ("token", hello.token().map_or(0, str::len), TOKEN_BYTES_MAX),
        (
            "locale",
            hello.locale().map_or(0, str::len),
            LOCALE_BYTES_MAX,
        ),
        (
            "cursors",
            hello.cursors().map_or(0, |cursors| cursors.len()),
            CURSORS_PER_HELLO_MAX,
        ),
        (
            "ticket",
            hello.ticket().map_or(0, str::len),
            TOKEN_BYTES_MAX,
        ),
        ("page", hello.page().map_or(0, str::len), PAGE_BYTES_MAX),
    ];
    match bounded.into_iter().find(|(_, len, max)| len > max) {
        Some((field, _, max)) => Err(Malformed::TooMuch { field, max }),
        None => Ok(()),
    }
}
