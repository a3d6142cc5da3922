//! Every maximum on either wire, each with its unit in its name and the relations between them proven at
//! compile time. A limit that only one crate knows stands in that crate.

/// Text of one chat message, UTF-8 bytes. Longer: `SendResult` refused with `message_too_long`.
pub const MESSAGE_TEXT_BYTES_MAX: usize = 16 * 1024;

/// Payload of one envelope, bytes. Longer: the envelope is malformed.
pub const ENVELOPE_PAYLOAD_BYTES_MAX: usize = 32 * 1024;

/// One WebSocket message of the chat, bytes, all fragments together. Longer: close 1009, on the frame header.
pub const WS_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The same for `gateway --echo`, unless configured otherwise.
pub const WS_ECHO_MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The header of one WebSocket frame: 2, 2 or 8 more for the length, 4 for the mask.
pub const WS_FRAME_HEADER_BYTES_MAX: usize = 14;

/// The payload of one control frame (RFC 6455 5.5).
pub const WS_CONTROL_BYTES_MAX: usize = 125;

/// The reason in a close frame: what a control frame holds beside the code.
pub const CLOSE_REASON_BYTES_MAX: usize = WS_CONTROL_BYTES_MAX - 2;

/// Envelopes in one batch. The rest of a longer batch is malformed.
pub const ENVELOPES_PER_BATCH_MAX: usize = 256;

/// Conversations that one Hello may name. More: the Hello is malformed.
pub const CURSORS_PER_HELLO_MAX: usize = 64;

/// Conversations in one Welcome; the rest follow as ConversationState.
pub const CONVERSATIONS_PER_WELCOME_MAX: usize = 64;

/// A signed token as text.
pub const TOKEN_BYTES_MAX: usize = 1024;

/// The name in a token: what the other side reads above a message.
pub const NAME_BYTES_MAX: usize = 128;

/// `Hello.locale`, a BCP 47 tag.
pub const LOCALE_BYTES_MAX: usize = 64;

/// `Hello.page`.
pub const PAGE_BYTES_MAX: usize = 2048;

/// `ConversationState.last_text`.
pub const LAST_TEXT_BYTES_MAX: usize = 120;

/// Request line and header fields of an upgrade. Longer: 431.
pub const HANDSHAKE_BYTES_MAX: usize = 8 * 1024;

/// Header fields of an upgrade. More: 431.
pub const HANDSHAKE_FIELDS_MAX: usize = 64;

/// From accept to the whole upgrade request.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;

/// From the upgrade to Hello. Later: close 4004.
pub const HELLO_MS_MAX: u64 = 10_000;

/// Clients acknowledge at most this often.
pub const ACK_INTERVAL_MS_MIN: u64 = 50;

/// Numbers in JSON stay below this, so that every reader holds them exactly.
pub const JSON_NUMBER_MAX: u64 = (1 << 53) - 1;

/// Objects within objects in one JSON message: batch, message, list, conversation, state, and room to grow.
pub const JSON_DEPTH_MAX: usize = 16;

/// Tables within tables in one payload: Welcome, Resumed, ConversationState, and room to grow.
pub const TABLE_DEPTH_MAX: usize = 8;

/// Tables in one payload: two for each conversation of a full Welcome, with as many again for growth.
pub const TABLES_PER_PAYLOAD_MAX: usize = 512;

const _: () = {
    use crate::envelope::header::ENVELOPE_HEADER_BYTES;

    // The longest text fits its envelope, with the rest of a Send or Message beside it.
    assert!(MESSAGE_TEXT_BYTES_MAX + 4096 <= ENVELOPE_PAYLOAD_BYTES_MAX);
    // The longest envelope fits a message, and JSON may double it: quotes and newlines are escaped to two bytes.
    assert!(ENVELOPE_HEADER_BYTES + ENVELOPE_PAYLOAD_BYTES_MAX <= WS_MESSAGE_BYTES_MAX);
    assert!(2 * MESSAGE_TEXT_BYTES_MAX + 4096 <= WS_MESSAGE_BYTES_MAX);
    // The largest Hello fits its envelope: 64 cursors of at most 48 bytes and the strings.
    assert!(
        CURSORS_PER_HELLO_MAX * 48 + 2 * TOKEN_BYTES_MAX + LOCALE_BYTES_MAX + PAGE_BYTES_MAX + 512
            <= ENVELOPE_PAYLOAD_BYTES_MAX
    );
    assert!(2 * CONVERSATIONS_PER_WELCOME_MAX < TABLES_PER_PAYLOAD_MAX);
    assert!(CURSORS_PER_HELLO_MAX < TABLES_PER_PAYLOAD_MAX);
    // A message length is kept as u32 in the decoder's state.
    assert!(WS_MESSAGE_BYTES_MAX <= u32::MAX as usize);
    assert!(WS_ECHO_MESSAGE_BYTES_MAX <= u32::MAX as usize);
    // Control frames have a one-byte length (RFC 6455 5.5).
    assert!(WS_CONTROL_BYTES_MAX < 126);
};
