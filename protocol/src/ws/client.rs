//! The opening handshake from the client's side (RFC 6455 4.1), for tests and the load generator.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Response, Status};

use super::handshake::accept;
use crate::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_FIELDS_MAX};

/// What a client asks for.
#[derive(Clone, Copy, Debug)]
pub struct UpgradeRequest<'a> {
    /// Host and port.
    pub host: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// 16 random bytes.
    pub nonce: [u8; 16],
    /// Offered subprotocols, comma-separated; empty for none.
    pub subprotocols: &'a str,
    /// The origin that a browser would send; empty for none.
    pub origin: &'a str,
}

impl UpgradeRequest<'_> {
    /// Appends the request.
    pub fn append(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        write!(
            out,
            "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n",
            self.target,
            self.host,
            STANDARD.encode(self.nonce)
        )
        .expect("invariant: a Vec takes every byte");
        for (name, value) in [
            ("Sec-WebSocket-Protocol", self.subprotocols),
            ("Origin", self.origin),
        ] {
            if !value.is_empty() {
                write!(out, "{name}: {value}\r\n").expect("invariant: a Vec takes every byte");
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// When the server did not upgrade, or not this request.
    pub fn parse_response<'r>(
        &self,
        response: &'r [u8],
    ) -> Result<Option<Upgraded<'r>>, ClientError> {
        let mut fields = [EMPTY_HEADER; HANDSHAKE_FIELDS_MAX];
        let mut parsed = Response::new(&mut fields);
        let response_bytes = match parsed.parse(response) {
            Ok(Status::Complete(bytes)) => bytes,
            Ok(Status::Partial) if response.len() < HANDSHAKE_BYTES_MAX => return Ok(None),
            Ok(Status::Partial) | Err(_) => return Err(ClientError::NotHttp),
        };
        let status = parsed.code.unwrap_or(0);
        if status != 101 {
            return Err(ClientError::Refused { status });
        }
        let field = |name: &str| {
            parsed
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))
                .map(|field| field.value)
        };
        if field("Sec-WebSocket-Accept")
            != Some(&accept(STANDARD.encode(self.nonce).as_bytes())[..])
        {
            return Err(ClientError::WrongAccept);
        }
        let subprotocol =
            field("Sec-WebSocket-Protocol").and_then(|value| core::str::from_utf8(value).ok());
        Ok(Some(Upgraded {
            subprotocol,
            response_bytes,
        }))
    }
}

/// The server agreed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgraded<'r> {
    /// What it chose.
    pub subprotocol: Option<&'r str>,
    /// Bytes of the answer; what follows is the first frames.
    pub response_bytes: usize,
}

/// Why there is no WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The answer is not HTTP/1.1.
    #[error("the server's answer is not HTTP/1.1")]
    NotHttp,
    /// Another status than 101.
    #[error("the server answered {status}")]
    Refused {
        /// Its status.
        status: u16,
    },
    /// Sec-WebSocket-Accept does not belong to the key.
    #[error("Sec-WebSocket-Accept does not belong to the key that was sent")]
    WrongAccept,
}
