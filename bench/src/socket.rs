//! A blocking WebSocket client that does no more than a load needs: upgrade, masked frames up, frames down.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const READ_MS_MAX: u64 = 30_000;
const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];

/// A frame's opcode, as RFC 6455 5.2 numbers them.
pub const TEXT: u8 = 1;
/// Binary data.
pub const BINARY: u8 = 2;

/// An upgraded connection.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Connects and upgrades with a subprotocol, or without one.
    pub fn open(address: SocketAddr, subprotocol: Option<&str>) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(READ_MS_MAX)))?;
        let wish = subprotocol
            .map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"))
            .unwrap_or_default();
        write!(
            stream,
            "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n{wish}\r\n"
        )?;
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        if head.starts_with(b"HTTP/1.1 101") {
            Ok(Self { stream })
        } else {
            let text = String::from_utf8_lossy(&head);
            Err(io::Error::new(
                ErrorKind::ConnectionRefused,
                format!("no upgrade: {}", text.lines().next().unwrap_or("")),
            ))
        }
    }

    /// The stream, for raw bytes.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Sends one frame in one write.
    pub fn send(&mut self, opcode: u8, payload: &[u8]) -> io::Result<()> {
        self.stream.write_all(&frame(opcode, payload))
    }

    /// The next frame: opcode and payload.
    pub fn receive(&mut self, payload: &mut Vec<u8>) -> io::Result<u8> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head)?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut wide = [0; 2];
                self.stream.read_exact(&mut wide)?;
                usize::from(u16::from_be_bytes(wide))
            }
            127 => {
                let mut wide = [0; 8];
                self.stream.read_exact(&mut wide)?;
                usize::try_from(u64::from_be_bytes(wide)).map_err(io::Error::other)?
            }
            short => usize::from(short),
        };
        payload.resize(length, 0);
        self.stream.read_exact(payload)?;
        Ok(head[0] & 0x0f)
    }
}

/// A client's frame, masked.
#[must_use]
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length), _) if length < 126 => bytes.push(0x80 | length),
        (_, Ok(length)) => {
            bytes.push(0x80 | 126);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}
