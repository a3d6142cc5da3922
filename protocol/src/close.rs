//! The one table of close codes. 1000–1011 are RFC 6455's. 4000–4499: come back, after `retry_ms` of the reason;
//! 4500–4999: do not come back by yourself.

use crate::limits::CLOSE_REASON_BYTES_MAX;

/// A code that stands in a close frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CloseCode(pub u16);

/// What the peer of a closed connection does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseClass {
    /// Connect again, after `retry_ms` where the reason has one, else with backoff and full jitter.
    Retriable,
    /// Stay away until a person or new credentials change something.
    Final,
}

macro_rules! close_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $class:ident, $text:literal;)*) => {
        impl CloseCode {
            $($(#[$doc])* pub const $name: Self = Self($code);)*
        }
        /// Every code that this system sends, in order: code, class, name.
        pub const CLOSE_CODES: &[(CloseCode, CloseClass, &str)] =
            &[$((CloseCode::$name, CloseClass::$class, $text)),*];
    };
}

close_codes! {
    /// Done; both sides agree.
    NORMAL = 1000, Final, "normal";
    /// The endpoint goes away: a page is left, a process ends.
    GOING_AWAY = 1001, Retriable, "going_away";
    /// A frame broke RFC 6455.
    PROTOCOL_ERROR = 1002, Final, "protocol_error";
    /// A frame of a type that the codec does not use (binary under JSON, text under FlatBuffers).
    UNSUPPORTED_DATA = 1003, Final, "unsupported_data";
    /// Text or a close reason was not UTF-8.
    INVALID_PAYLOAD = 1007, Final, "invalid_payload";
    /// Refused by policy.
    POLICY_VIOLATION = 1008, Final, "policy_violation";
    /// Longer than the limit; refused on the frame header.
    MESSAGE_TOO_BIG = 1009, Final, "message_too_big";
    /// Something failed in the server.
    INTERNAL_ERROR = 1011, Retriable, "internal_error";
    /// Come back: the server restarts.
    TRY_AGAIN = 4000, Retriable, "try_again";
    /// Come back: output piled up faster than it was read; resume repairs.
    SLOW_READER = 4002, Retriable, "slow_reader";
    /// Come back: sends arrived but acknowledgements or pongs did not.
    HALF_OPEN = 4003, Retriable, "half_open";
    /// Come back: no Hello in time.
    HELLO_TIMEOUT = 4004, Retriable, "hello_timeout";
    /// Come back: this gateway is being drained.
    DRAIN = 4005, Retriable, "drain";
    /// Come back: the system was full for too long.
    BUSY = 4006, Retriable, "busy";
    /// The token is not one of ours.
    BAD_TOKEN = 4500, Final, "bad_token";
    /// A newer connection of the same session took over.
    SUPERSEDED = 4501, Final, "superseded";
    /// Not for this principal, or banned.
    FORBIDDEN = 4502, Final, "forbidden";
    /// Malformed envelopes, again and again.
    PROTOCOL_ABUSE = 4503, Final, "protocol_abuse";
    /// The token expired: get a new one, then come back.
    EXPIRED_TOKEN = 4504, Final, "expired_token";
}

impl CloseCode {
    /// Whether a close frame may carry this code (RFC 6455 7.4): 1004–1006 and 1015 are for local use,
    /// 1012–1014 are registered later and accepted, below 1000 and 1016–2999 nothing is defined, 5000 and up never.
    #[must_use]
    pub const fn may_be_sent(self) -> bool {
        matches!(self.0, 1000..=1003 | 1007..=1014 | 3000..=4999)
    }

    /// What to do after this code, by its range.
    #[must_use]
    pub const fn class(self) -> CloseClass {
        match self.0 {
            1001 | 1005 | 1006 | 1011..=1014 | 4000..=4499 => CloseClass::Retriable,
            _ => CloseClass::Final,
        }
    }

    /// The name in [`CLOSE_CODES`], for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        CLOSE_CODES
            .iter()
            .find(|(code, ..)| *code == self)
            .map_or("other", |&(.., name)| name)
    }
}

impl core::fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} {}", self.0, self.name())
    }
}

/// The text of a close frame: `words`, and where the peer should come back `retry_ms=N` in front of them.
#[derive(Clone, Copy)]
pub struct CloseReason {
    bytes: [u8; CLOSE_REASON_BYTES_MAX],
    len: u8,
}

impl CloseReason {
    /// Words alone. What exceeds a control frame is cut at a character boundary.
    #[must_use]
    pub fn new(words: &str) -> Self {
        let mut reason = Self {
            bytes: [0; CLOSE_REASON_BYTES_MAX],
            len: 0,
        };
        reason.push(words);
        reason
    }

    /// `retry_ms=N`, then the words.
    #[must_use]
    pub fn with_retry_ms(retry_ms: u32, words: &str) -> Self {
        let mut reason = Self::new("retry_ms=");
        let (mut digits, mut at, mut rest) = ([0_u8; 10], 10, retry_ms);
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        reason.push(core::str::from_utf8(&digits[at..]).expect("invariant: digits are ASCII"));
        if !words.is_empty() {
            reason.push(" ");
            reason.push(words);
        }
        reason
    }

    /// The text as it stands in the frame.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)])
            .expect("invariant: pushed as str")
    }

    fn push(&mut self, text: &str) {
        let start = usize::from(self.len);
        let room = CLOSE_REASON_BYTES_MAX - start;
        let cut = text.floor_char_boundary(room.min(text.len()));
        self.bytes[start..start + cut].copy_from_slice(&text.as_bytes()[..cut]);
        self.len += u8::try_from(cut).expect("invariant: at most 123");
    }
}

impl core::fmt::Debug for CloseReason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// `retry_ms` of a close reason, if it names one.
#[must_use]
pub fn retry_ms(reason: &str) -> Option<u32> {
    let rest = reason.strip_prefix("retry_ms=")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_table_may_be_sent_and_its_class_follows_from_its_range() {
        for &(code, class, _) in CLOSE_CODES {
            assert!(code.may_be_sent(), "{code:?}");
            assert_eq!(code.class(), class, "{code:?}");
        }
    }

    #[test]
    fn rfc_6455_7_4_1_codes_for_local_use_are_never_sent() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!CloseCode(code).may_be_sent(), "{code}");
        }
    }

    #[test]
    fn a_reason_carries_its_retry_ms_back() {
        for ms in [0, 7, 2500, u32::MAX] {
            assert_eq!(
                retry_ms(CloseReason::with_retry_ms(ms, "restart").as_str()),
                Some(ms)
            );
            assert_eq!(
                retry_ms(CloseReason::with_retry_ms(ms, "").as_str()),
                Some(ms)
            );
        }
        assert_eq!(retry_ms("superseded"), None);
        assert_eq!(retry_ms("retry_ms=x"), None);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character_boundary() {
        let reason = CloseReason::new(&"é".repeat(100));
        assert_eq!(reason.as_str(), "é".repeat(61));
    }
}
