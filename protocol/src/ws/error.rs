//! What a peer can do wrong in its frames: each is its fault, and has one close code and one metric label.

use crate::close::CloseCode;

/// A frame, or a sequence of frames, that RFC 6455 does not allow or a limit refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// RSV1–3 set, and no extension was negotiated (5.2).
    #[error("a reserved bit is set")]
    ReservedBits,
    /// Opcodes 3–7 and 11–15 (5.2).
    #[error("opcode {0} is reserved")]
    ReservedOpcode(u8),
    /// A client's frame without a mask (5.1).
    #[error("a client's frame is not masked")]
    Unmasked,
    /// A server's frame with a mask (5.1).
    #[error("a server's frame is masked")]
    Masked,
    /// A control frame without FIN (5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame longer than 125 bytes (5.5).
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// A continuation of nothing (5.4).
    #[error("a continuation frame continues nothing")]
    UnexpectedContinuation,
    /// A new message before the end of the one before (5.4).
    #[error("a new message began within a fragmented one")]
    InterleavedMessage,
    /// A length in more bytes than it needs (5.2).
    #[error("a length is not minimally encoded")]
    LengthNotMinimal,
    /// The top bit of a 64-bit length (5.2).
    #[error("a length of 2^63 or more")]
    LengthTopBit,
    /// More than the limit, by the header's word; nothing of it was kept.
    #[error("a message is longer than {max_bytes} bytes")]
    MessageTooBig {
        /// The limit that it exceeds.
        max_bytes: u32,
    },
    /// Text that is not UTF-8 (8.1).
    #[error("text is not UTF-8")]
    InvalidUtf8,
    /// A close frame with one byte (5.5.1).
    #[error("a close frame has half a code")]
    CloseTruncated,
    /// A close code that must not be sent (7.4).
    #[error("close code {0} must not be sent")]
    CloseCodeInvalid(u16),
}

impl ProtocolError {
    /// What to close with (7.4.1).
    #[must_use]
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::MessageTooBig { .. } => CloseCode::MESSAGE_TOO_BIG,
            Self::InvalidUtf8 => CloseCode::INVALID_PAYLOAD,
            _ => CloseCode::PROTOCOL_ERROR,
        }
    }

    /// Its label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode(_) => "reserved_opcode",
            Self::Unmasked => "unmasked",
            Self::Masked => "masked",
            Self::FragmentedControl => "fragmented_control",
            Self::ControlTooLong => "control_too_long",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::InterleavedMessage => "interleaved_message",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::LengthTopBit => "length_top_bit",
            Self::MessageTooBig { .. } => "message_too_big",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::CloseTruncated => "close_truncated",
            Self::CloseCodeInvalid(_) => "close_code_invalid",
        }
    }
}
