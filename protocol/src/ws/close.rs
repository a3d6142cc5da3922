//! The payload of a close frame (RFC 6455 5.5.1, 7.4).

use super::error::ProtocolError;
use crate::close::CloseCode;

/// What a peer said when it closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// Its code; `None` when the frame was empty.
    pub code: Option<CloseCode>,
    /// Its reason, for logs.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the payload of a close frame.
    ///
    /// # Errors
    /// Half a code, a code that must not be sent, or a reason that is not UTF-8.
    pub fn parse(payload: &'a [u8]) -> Result<Self, ProtocolError> {
        match payload {
            [] => Ok(Self {
                code: None,
                reason: "",
            }),
            [_] => Err(ProtocolError::CloseTruncated),
            [hi, lo, reason @ ..] => {
                let code = CloseCode(u16::from_be_bytes([*hi, *lo]));
                if !code.may_be_sent() {
                    return Err(ProtocolError::CloseCodeInvalid(code.0));
                }
                let reason =
                    core::str::from_utf8(reason).map_err(|_| ProtocolError::InvalidUtf8)?;
                Ok(Self {
                    code: Some(code),
                    reason,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6455_5_5_1_an_empty_close_frame_has_no_code() {
        assert_eq!(
            CloseFrame::parse(b""),
            Ok(CloseFrame {
                code: None,
                reason: ""
            })
        );
    }

    #[test]
    fn rfc_6455_5_5_1_half_a_code_is_refused() {
        assert_eq!(CloseFrame::parse(&[3]), Err(ProtocolError::CloseTruncated));
    }

    #[test]
    fn rfc_6455_7_4_only_codes_that_may_be_sent_are_accepted() {
        for code in 0..=u16::MAX {
            let parsed = CloseFrame::parse(&code.to_be_bytes()).is_ok();
            assert_eq!(parsed, CloseCode(code).may_be_sent(), "{code}");
        }
    }

    #[test]
    fn rfc_6455_5_5_1_the_reason_is_utf8() {
        assert_eq!(
            CloseFrame::parse(b"\x03\xe8bye").map(|close| close.reason),
            Ok("bye")
        );
        assert_eq!(
            CloseFrame::parse(b"\x03\xe8\xff"),
            Err(ProtocolError::InvalidUtf8)
        );
    }
}
