//! A plain WebSocket client in JSON, written from RFC 6455 and the README alone.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;

use super::DEADLINE;

/// What arrives.
#[derive(Debug, PartialEq)]
pub enum Frame {
    Text(String),
    Close(u16, String),
    /// The stream ended without a close frame.
    End,
}

/// An upgraded connection.
pub struct Socket {
    stream: TcpStream,
    pub head: String,
}

impl Socket {
    /// Connects and upgrades, without a subprotocol: JSON is the default.
    pub fn open(address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).expect("connects");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("writes");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut one = [0];
            stream
                .read_exact(&mut one)
                .expect("the answer to the upgrade");
            bytes.push(one[0]);
        }
        let head = String::from_utf8(bytes).expect("an ASCII head");
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        Self { stream, head }
    }

    /// Sends one text frame.
    pub fn send(&mut self, text: &str) {
        self.send_frame(0x81, text.as_bytes());
    }

    /// Sends one text frame; false: the connection is gone.
    pub fn try_send(&mut self, text: &str) -> bool {
        self.stream.write_all(&frame(0x81, text.as_bytes())).is_ok()
    }

    /// Sends one frame with the given first byte.
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.stream
            .write_all(&frame(first, payload))
            .expect("writes");
    }

    /// The next text or close; answers pings on the way.
    pub fn next(&mut self) -> Frame {
        loop {
            let Some((first, payload)) = self.read_frame() else {
                return Frame::End;
            };
            match first & 0x0f {
                1 => {
                    return Frame::Text(String::from_utf8(payload).expect("text frames are UTF-8"));
                }
                8 if payload.len() >= 2 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    return Frame::Close(code, String::from_utf8_lossy(&payload[2..]).into_owned());
                }
                8 => return Frame::Close(1005, String::new()),
                9 => self.send_frame(0x8a, &payload),
                10 => {}
                other => panic!("opcode {other} from the server"),
            }
        }
    }

    /// The next text frame as JSON: an object, or an array of them for a batch.
    pub fn next_json(&mut self) -> Value {
        match self.next() {
            Frame::Text(text) => serde_json::from_str(&text).expect("JSON"),
            other => panic!("expected a text frame, found {other:?}"),
        }
    }

    /// Reads until an envelope of that kind; the ones before are dropped.
    pub fn until(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let value = self.next_json();
            let objects = match value {
                Value::Array(objects) => objects,
                object => vec![object],
            };
            for object in objects {
                if object["kind"] == kind {
                    return object;
                }
            }
            assert!(Instant::now() < deadline, "no {kind} came");
        }
    }

    fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        assert_eq!(head[1] & 0x80, 0, "RFC 6455 5.1: a server does not mask");
        let length = match head[1] {
            126 => {
                let mut bytes = [0; 2];
                self.stream.read_exact(&mut bytes).ok()?;
                usize::from(u16::from_be_bytes(bytes))
            }
            127 => {
                let mut bytes = [0; 8];
                self.stream.read_exact(&mut bytes).ok()?;
                usize::try_from(u64::from_be_bytes(bytes)).expect("fits")
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).ok()?;
        Some((head[0], payload))
    }
}

/// A client's frame, masked.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | u8::try_from(length).expect("below 126")),
        length => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).expect("short texts").to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(
        payload
            .iter()
            .enumerate()
            .map(|(i, byte)| byte ^ mask[i % 4]),
    );
    frame
}
