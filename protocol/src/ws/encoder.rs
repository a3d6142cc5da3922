//! What is sent: headers in front of payloads that the caller has.

use super::header::{HeaderBytes, MASK_BYTES, Opcode};
use super::mask::unmask;
use crate::close::CloseCode;
use crate::limits::{CLOSE_REASON_BYTES_MAX, WS_CONTROL_BYTES_MAX};

/// The header of a server's unfragmented frame: 2, 4 or 10 bytes. A client's header for the same payload is 4 bytes
/// longer, so this one fits in front of a payload that was received.
#[must_use]
#[inline]
pub fn server_header(opcode: Opcode, payload_bytes: usize) -> HeaderBytes {
    HeaderBytes::new(true, opcode, payload_bytes, None)
}

/// Appends a server's unfragmented frame.
pub fn append_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    debug_assert!(!opcode.is_control() || payload.len() <= WS_CONTROL_BYTES_MAX);
    let header = server_header(opcode, payload.len());
    out.reserve(header.len() + payload.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// Appends a server's close frame; `None` sends no code. The reason is cut to a control frame's room.
pub fn append_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let mut payload = [0; WS_CONTROL_BYTES_MAX];
    let len = close_payload(&mut payload, code, reason);
    append_frame(out, Opcode::Close, &payload[..len]);
}

/// Appends a client's frame. `mask` must not be guessable by whoever chose the payload (RFC 6455 10.3).
pub fn append_client_frame(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    payload: &[u8],
    mask: [u8; MASK_BYTES],
) {
    let header = HeaderBytes::new(fin, opcode, payload.len(), Some(mask));
    out.reserve(header.len() + payload.len());
    out.extend_from_slice(&header);
    let start = out.len();
    out.extend_from_slice(payload);
    unmask(&mut out[start..], mask);
}

/// Appends a client's close frame.
pub fn append_client_close(
    out: &mut Vec<u8>,
    code: Option<CloseCode>,
    reason: &str,
    mask: [u8; MASK_BYTES],
) {
    let mut payload = [0; WS_CONTROL_BYTES_MAX];
    let len = close_payload(&mut payload, code, reason);
    append_client_frame(out, true, Opcode::Close, &payload[..len], mask);
}

fn close_payload(
    payload: &mut [u8; WS_CONTROL_BYTES_MAX],
    code: Option<CloseCode>,
    reason: &str,
) -> usize {
    let Some(code) = code else { return 0 };
    let reason = &reason[..reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX)];
    payload[..2].copy_from_slice(&code.0.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
    2 + reason.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_6455_5_7_the_examples_are_written_byte_for_byte() {
        let mut out = Vec::new();
        append_frame(&mut out, Opcode::Text, b"Hello");
        assert_eq!(out, [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
        out.clear();
        append_client_frame(
            &mut out,
            true,
            Opcode::Text,
            b"Hello",
            [0x37, 0xfa, 0x21, 0x3d],
        );
        assert_eq!(
            out,
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
        assert_eq!(
            &*server_header(Opcode::Binary, 256),
            [0x82, 0x7e, 0x01, 0x00]
        );
        assert_eq!(
            &*server_header(Opcode::Binary, 65536),
            [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn rfc_6455_5_5_a_close_frame_never_exceeds_a_control_frame() {
        let mut out = Vec::new();
        append_close(&mut out, Some(CloseCode::NORMAL), &"é".repeat(200));
        assert_eq!(out.len(), 2 + 2 + 122);
        out.clear();
        append_close(&mut out, None, "not sent without a code");
        assert_eq!(out, [0x88, 0x00]);
    }
}
