//! The frame header (RFC 6455 5.2), refused at the first byte that is wrong.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-------+-+-------------+-------------------------------+
//! |F|R|R|R| opcode|M| length      | length, 16 bits if 126,       |
//! |I|S|S|S|  (4)  |A|     (7)     |         64 bits if 127        |
//! |N|V|V|V|       |S|             |                               |
//! | |1|2|3|       |K|             |                               |
//! +-+-+-+-+-------+-+-------------+ - - - - - - - - - - - - - - - +
//! | masking key, 32 bits, if MASK | payload …
//! ```

use super::error::ProtocolError;
use crate::limits::WS_CONTROL_BYTES_MAX;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASK: u8 = 0x80;

/// Bytes of the masking key.
pub const MASK_BYTES: usize = 4;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// The next fragment of a message.
    Continuation = 0,
    /// A message of UTF-8, or its first fragment.
    Text = 1,
    /// A message of bytes, or its first fragment.
    Binary = 2,
    /// The end of the connection.
    Close = 8,
    /// To be answered by a Pong with the same payload.
    Ping = 9,
    /// The answer to a Ping, or a sign of life.
    Pong = 10,
}

impl Opcode {
    /// The opcode of four bits; `None` is reserved.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Continuation),
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            8 => Some(Self::Close),
            9 => Some(Self::Ping),
            10 => Some(Self::Pong),
            _ => None,
        }
    }

    /// Close, Ping and Pong: never fragmented, at most 125 bytes, allowed between fragments.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self as u8 >= 8
    }
}

/// Whose frames are read: clients mask theirs, servers must not (RFC 6455 5.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peer {
    /// This side is the server.
    #[default]
    Client,
    /// This side is the client.
    Server,
}

/// What a header says, known as soon as its length is; the masking key may still be on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The last fragment of its message.
    pub fin: bool,
    /// What the frame is.
    pub opcode: Opcode,
    /// Bytes of payload that follow.
    pub payload_bytes: u64,
    /// Bytes of the whole header, with the masking key if there is one: 2–14.
    pub header_bytes: usize,
}

impl FrameHeader {
    /// Reads a header. `None`: more bytes are needed.
    ///
    /// # Errors
    /// At the first byte that RFC 6455 5.2 or 5.5 does not allow, however few bytes are there.
    #[inline]
    pub fn parse(bytes: &[u8], peer: Peer) -> Result<Option<Self>, ProtocolError> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        if first & RESERVED != 0 {
            return Err(ProtocolError::ReservedBits);
        }
        let opcode =
            Opcode::from_u8(first & 0x0f).ok_or(ProtocolError::ReservedOpcode(first & 0x0f))?;
        let fin = first & FIN != 0;
        if opcode.is_control() && !fin {
            return Err(ProtocolError::FragmentedControl);
        }
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        let masked = second & MASK != 0;
        match peer {
            Peer::Client if !masked => return Err(ProtocolError::Unmasked),
            Peer::Server if masked => return Err(ProtocolError::Masked),
            Peer::Client | Peer::Server => {}
        }
        let short = second & !MASK;
        if opcode.is_control() && usize::from(short) > WS_CONTROL_BYTES_MAX {
            return Err(ProtocolError::ControlTooLong);
        }
        let (payload_bytes, length_end) = match short {
            126 => match bytes.get(2..4) {
                Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
                _ => return Ok(None),
            },
            127 => match (
                bytes.get(2),
                bytes.get(2..10).and_then(|b| <[u8; 8]>::try_from(b).ok()),
            ) {
                (Some(&top), _) if top >= 0x80 => return Err(ProtocolError::LengthTopBit),
                (_, Some(length)) => (u64::from_be_bytes(length), 10),
                _ => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        let minimal = match length_end {
            4 => payload_bytes > 125,
            10 => payload_bytes > 0xffff,
            _ => true,
        };
        if !minimal {
            return Err(ProtocolError::LengthNotMinimal);
        }
        let header_bytes = length_end + if masked { MASK_BYTES } else { 0 };
        Ok(Some(Self {
            fin,
            opcode,
            payload_bytes,
            header_bytes,
        }))
    }
}

/// The bytes of a header that is sent.
#[derive(Clone, Copy, Debug)]
pub struct HeaderBytes {
    bytes: [u8; crate::limits::WS_FRAME_HEADER_BYTES_MAX],
    len: u8,
}

impl HeaderBytes {
    /// A header with the shortest length; `mask` only for what a client sends.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "each arm's range fits")]
    pub fn new(
        fin: bool,
        opcode: Opcode,
        payload_bytes: usize,
        mask: Option<[u8; MASK_BYTES]>,
    ) -> Self {
        let mut bytes = [0; crate::limits::WS_FRAME_HEADER_BYTES_MAX];
        bytes[0] = if fin { FIN } else { 0 } | opcode as u8;
        let mut len = match payload_bytes {
            0..=125 => {
                bytes[1] = payload_bytes as u8;
                2
            }
            126..=0xffff => {
                bytes[1] = 126;
                bytes[2..4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
                4
            }
            _ => {
                bytes[1] = 127;
                bytes[2..10].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
                10
            }
        };
        if let Some(mask) = mask {
            bytes[1] |= MASK;
            bytes[len..len + MASK_BYTES].copy_from_slice(&mask);
            len += MASK_BYTES;
        }
        Self {
            bytes,
            len: len as u8,
        }
    }
}

impl core::ops::Deref for HeaderBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<Option<FrameHeader>, ProtocolError> {
        FrameHeader::parse(bytes, Peer::Client)
    }

    #[test]
    fn rfc_6455_5_2_every_header_that_is_written_is_read_again_and_no_prefix_of_it_is_enough() {
        for payload_bytes in [0, 1, 125, 126, 127, 0xffff, 0x1_0000, 0x1_0001, 1 << 40] {
            let header = HeaderBytes::new(true, Opcode::Binary, payload_bytes, Some([1, 2, 3, 4]));
            let read = parse(&header).expect("valid").expect("whole");
            assert_eq!(read.payload_bytes, payload_bytes as u64);
            assert_eq!(read.header_bytes, header.len());
            for cut in 0..header.len() - MASK_BYTES {
                assert_eq!(
                    parse(&header[..cut]),
                    Ok(None),
                    "{payload_bytes} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn rfc_6455_5_2_a_length_that_is_not_minimal_is_refused() {
        assert_eq!(
            parse(&[0x82, 0xfe, 0, 125]),
            Err(ProtocolError::LengthNotMinimal)
        );
        assert_eq!(
            parse(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
            Err(ProtocolError::LengthNotMinimal)
        );
    }

    #[test]
    fn rfc_6455_5_2_a_64_bit_length_with_the_top_bit_is_refused_on_its_first_byte() {
        assert_eq!(parse(&[0x82, 0xff, 0x80]), Err(ProtocolError::LengthTopBit));
    }

    #[test]
    fn rfc_6455_5_2_reserved_bits_and_opcodes_are_refused_on_the_first_byte() {
        for bit in [0x40, 0x20, 0x10] {
            assert_eq!(parse(&[0x81 | bit]), Err(ProtocolError::ReservedBits));
        }
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            assert_eq!(
                parse(&[0x80 | opcode]),
                Err(ProtocolError::ReservedOpcode(opcode))
            );
        }
    }

    #[test]
    fn rfc_6455_5_1_masks_are_for_clients_and_only_for_them() {
        assert_eq!(parse(&[0x81, 0x05]), Err(ProtocolError::Unmasked));
        assert_eq!(
            FrameHeader::parse(&[0x81, 0x85], Peer::Server),
            Err(ProtocolError::Masked)
        );
    }

    #[test]
    fn rfc_6455_5_5_control_frames_are_whole_and_short() {
        for opcode in [8, 9, 10] {
            assert_eq!(parse(&[opcode]), Err(ProtocolError::FragmentedControl));
            assert_eq!(
                parse(&[0x80 | opcode, 0x80 | 126]),
                Err(ProtocolError::ControlTooLong)
            );
            assert_eq!(
                parse(&[0x80 | opcode, 0x80 | 127]),
                Err(ProtocolError::ControlTooLong)
            );
        }
    }
}
