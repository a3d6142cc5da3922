//! What comes back on one connection: first the upgrade, then answers that must be byte for byte what is expected, with
//! control frames of the server between them.

use tidegate_protocol::ws::Opcode;
use tidegate_protocol::ws::client::UpgradeRequest;
use tidegate_protocol::ws::encoder::{append_client_frame, append_frame};

use super::Message;

/// Bytes of a handshake's answer that are waited for.
const HANDSHAKE_BYTES_MAX: usize = 16 << 10;

/// What went wrong on a connection, for a person.
pub type Wrong = String;

/// What a receive brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Came {
    /// Answers that are whole now.
    pub answers: usize,
    /// The server pinged: it wants this back.
    pub ping: Option<Vec<u8>>,
}

/// One connection's input.
#[derive(Debug, Default)]
pub struct Answers {
    /// Bytes of the next answer that have come.
    matched: u32,
    /// A control frame, or the handshake's answer, of which not all has come.
    partial: Vec<u8>,
}

impl Answers {
    /// Takes bytes of the handshake's answer; `true` when the connection is upgraded.
    pub fn upgrade(&mut self, request: &UpgradeRequest<'_>, bytes: &[u8]) -> Result<bool, Wrong> {
        let taken;
        let response = if self.partial.is_empty() {
            bytes
        } else {
            self.partial.extend_from_slice(bytes);
            taken = std::mem::take(&mut self.partial);
            &taken
        };
        match request.parse_response(response) {
            Ok(Some(upgraded)) if upgraded.response_bytes == response.len() => Ok(true),
            Ok(Some(_)) => Err("the server sent a message before it was asked".to_owned()),
            Ok(None) if response.len() < HANDSHAKE_BYTES_MAX => {
                self.partial = response.to_vec();
                Ok(false)
            }
            Ok(None) => Err("the answer to the handshake is too long".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Takes bytes that came; `expected` is one answer.
    pub fn take(&mut self, mut bytes: &[u8], expected: &[u8]) -> Result<Came, Wrong> {
        let mut came = Came::default();
        while let Some(first) = bytes.first() {
            let at = self.matched as usize;
            let begins_control = at == 0 && first & 0x08 != 0 && expected.first() != Some(first);
            if begins_control || !self.partial.is_empty() {
                bytes = self.control(bytes, &mut came)?;
                continue;
            }
            let count = bytes.len().min(expected.len() - at);
            if count == 0 || bytes[..count] != expected[at..at + count] {
                return Err("something else came back than was sent".to_owned());
            }
            bytes = &bytes[count..];
            if at + count == expected.len() {
                self.matched = 0;
                came.answers += 1;
            } else {
                self.matched += u32::try_from(count).unwrap_or(u32::MAX);
            }
        }
        Ok(came)
    }

    /// Takes bytes of a control frame; what is left of them.
    fn control<'b>(&mut self, bytes: &'b [u8], came: &mut Came) -> Result<&'b [u8], Wrong> {
        for (index, byte) in bytes.iter().enumerate() {
            self.partial.push(*byte);
            let frame_bytes = self
                .partial
                .get(1)
                .map(|length| 2 + usize::from(length & 0x7F));
            if frame_bytes != Some(self.partial.len()) {
                continue;
            }
            let frame = std::mem::take(&mut self.partial);
            match frame[0] & 0x0F {
                0x8 => return Err(closed(&frame[2..])),
                0x9 => came.ping = Some(frame[2..].to_vec()),
                _ => {}
            }
            return Ok(&bytes[index + 1..]);
        }
        Ok(&[])
    }
}

fn closed(payload: &[u8]) -> Wrong {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("closed with {code} {}", String::from_utf8_lossy(reason))
        }
        _ => "closed without a code".to_owned(),
    }
}

impl Message {
    /// The frame that is sent, and the frame that is expected.
    #[must_use]
    pub fn frames(self) -> (Vec<u8>, Vec<u8>) {
        let (opcode, answer, payload) = match self {
            Self::Binary { bytes } => {
                let payload = (0..bytes).map(|_| fastrand::u8(..)).collect();
                (Opcode::Binary, Opcode::Binary, payload)
            }
            Self::Ping => (Opcode::Ping, Opcode::Pong, b"tidegate".to_vec()),
        };
        let (mut up, mut down) = (Vec::new(), Vec::new());
        append_client_frame(
            &mut up,
            true,
            opcode,
            &payload,
            fastrand::u32(..).to_ne_bytes(),
        );
        append_frame(&mut down, answer, &payload);
        (up, down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_however_they_are_cut() {
        for message in [
            Message::Binary { bytes: 3 },
            Message::Binary { bytes: 300 },
            Message::Ping,
        ] {
            let (_, expected) = message.frames();
            let mut stream = expected.repeat(2);
            stream.extend([0x89, 2, b'h', b'i']);
            stream.extend(&expected);
            for piece in 1..stream.len() {
                let mut answers = Answers::default();
                let (mut count, mut ping) = (0, None);
                for bytes in stream.chunks(piece) {
                    let came = answers.take(bytes, &expected).unwrap();
                    count += came.answers;
                    ping = ping.or(came.ping);
                }
                assert_eq!(
                    (count, ping.as_deref()),
                    (3, Some(&b"hi"[..])),
                    "in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn another_answer_is_noticed_at_its_first_wrong_byte() {
        let (_, expected) = Message::Binary { bytes: 200 }.frames();
        for wrong in 0..expected.len() {
            let mut bytes = expected.clone();
            bytes[wrong] ^= 0x40;
            assert!(
                Answers::default().take(&bytes, &expected).is_err(),
                "byte {wrong}"
            );
        }
        assert!(
            Answers::default().take(&expected, &[]).is_err(),
            "nothing was asked"
        );
    }

    #[test]
    fn a_close_tells_its_code_and_reason() {
        let mut frame = vec![0x88, 2 + 4];
        frame.extend(1009_u16.to_be_bytes());
        frame.extend(b"long");
        let wrong = Answers::default().take(&frame, &[0x82, 0]).unwrap_err();
        assert_eq!(wrong, "closed with 1009 long");
    }

    #[test]
    fn an_upgrade_may_come_in_pieces_and_must_be_one() {
        let request = UpgradeRequest {
            host: "load",
            target: "/",
            nonce: *b"0123456789abcdef",
            subprotocols: "",
            origin: "",
        };
        let accept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: BACScCJPNqyz+UBoqMH89VmURoA=\r\n\r\n";
        let mut answers = Answers::default();
        let (first, rest) = accept.as_bytes().split_at(40);
        assert_eq!(answers.upgrade(&request, first), Ok(false));
        assert_eq!(answers.upgrade(&request, rest), Ok(true));
        let refused = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
        let wrong = Answers::default().upgrade(&request, refused).unwrap_err();
        assert!(wrong.contains("503"), "{wrong}");
    }
}
