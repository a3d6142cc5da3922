//! The opening handshake (RFC 6455 4.2), for a server. Bytes in, one of four outcomes out; the caller owns the
//! buffer, the deadline ([`HANDSHAKE_MS_MAX`](crate::limits::HANDSHAKE_MS_MAX)) and the socket.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use httparse::{EMPTY_HEADER, Header, Request, Status};
use sha1::{Digest as _, Sha1};

use crate::codec::Codec;
use crate::limits::{HANDSHAKE_BYTES_MAX, HANDSHAKE_FIELDS_MAX};

/// What RFC 6455 1.3 appends to the key.
const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// base64 of 20 bytes of SHA-1.
pub const ACCEPT_BYTES: usize = 28;

/// Whom a listener upgrades, and to what.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Origins whose pages may connect: `https://shop.example`, compared without case; `*` allows every one; an
    /// empty list allows pages of this machine only (`localhost`, 127.0.0.1, [::1], any port).
    /// A request without Origin comes from no browser and is not held to the list.
    pub allowed_origins: Vec<String>,
    /// Which subprotocols are spoken.
    pub subprotocols: Subprotocols,
}

impl Policy {
    /// Whether a page of that origin may connect.
    #[must_use]
    pub fn allows_origin(&self, origin: &str) -> bool {
        if self.allowed_origins.is_empty() {
            return is_loopback(origin);
        }
        self.allowed_origins
            .iter()
            .any(|allowed| allowed == "*" || allowed.eq_ignore_ascii_case(origin))
    }
}

/// Whether an origin is a page that this machine serves to itself.
fn is_loopback(origin: &str) -> bool {
    let Some(authority) = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"))
    else {
        return false;
    };
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|host| {
        authority.strip_prefix(host).is_some_and(|rest| {
            rest.is_empty()
                || rest
                    .strip_prefix(':')
                    .is_some_and(|port| port.parse::<u16>().is_ok())
        })
    })
}

/// Which subprotocols a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subprotocols {
    /// One of [`Codec::ALL`]; JSON when none is offered, refused when none of those offered is known.
    #[default]
    Codecs,
    /// None: what is offered is not looked at (`gateway --echo`).
    Ignored,
}

/// What a request came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<'r> {
    /// The end of the header is not there yet.
    Incomplete,
    /// A WebSocket begins.
    Upgrade(Upgrade<'r>),
    /// GET or HEAD of a path that is no WebSocket's, such as `/healthz`.
    Plain(Plain<'r>),
    /// Answer, and close.
    Refused(Refusal),
}

/// An accepted upgrade.
#[derive(Debug, PartialEq, Eq)]
pub struct Upgrade<'r> {
    /// How the connection speaks; [`Codec::Json`] where subprotocols are ignored.
    pub codec: Codec,
    /// Whether the answer names the codec: only if the client offered it (RFC 6455 4.2.2).
    pub names_subprotocol: bool,
    /// The page's origin, allowed by the policy.
    pub origin: Option<&'r str>,
    /// The last X-Forwarded-For field, to be believed only from a trusted proxy, which appends the address that it
    /// saw at its end.
    pub forwarded_for: Option<&'r str>,
    /// What follows the path's `?`.
    pub query: Option<&'r str>,
    /// Bytes of the request; what follows is the first frames.
    pub request_bytes: usize,
    accept: [u8; ACCEPT_BYTES],
}

/// A request that wants no WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub struct Plain<'r> {
    /// Without query.
    pub path: &'r str,
    /// HEAD: answer without a body.
    pub head: bool,
    /// Bytes of the request.
    pub request_bytes: usize,
}

/// Why a request is answered with an error, and closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{status} {detail}")]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Its label in metrics.
    pub label: &'static str,
    /// A sentence for whoever reads the answer.
    pub detail: &'static str,
}

macro_rules! refusals {
    ($($name:ident = $status:literal $label:literal $detail:literal;)*) => {
        $(const $name: Refusal = Refusal { status: $status, label: $label, detail: $detail };)*
        /// Every refusal, for metrics.
        pub const REFUSALS: &[Refusal] = &[$($name),*];
    };
}

refusals! {
    NOT_HTTP = 400 "not_http" "this is not an HTTP/1.1 request";
    BODY = 400 "body" "an upgrade has no body: leave out Content-Length and Transfer-Encoding";
    HOST = 400 "host" "expected exactly one Host field";
    KEY = 400 "key" "expected exactly one Sec-WebSocket-Key of 16 bytes in base64";
    SUBPROTOCOL = 400 "subprotocol"
        "none of the offered subprotocols is spoken here: offer tidegate.v1.fb or tidegate.v1.json, or none for JSON";
    ORIGIN = 403 "origin" "pages of this origin may not connect: add it to allowed_origins";
    PATH = 404 "path" "the WebSocket is at /ws";
    METHOD = 405 "method" "the handshake of a WebSocket is a GET";
    UPGRADE = 426 "upgrade" "this is a WebSocket: ask with Upgrade: websocket and Connection: Upgrade";
    VERSION = 426 "version" "this server speaks version 13 of the WebSocket protocol";
    TOO_LARGE = 431 "too_large" "the request has too many header fields or bytes";
    HTTP_VERSION = 505 "http_version" "a WebSocket begins in HTTP/1.1";
}

/// Reads a request. `searched` is how much of it was there at the last call, 0 at the first: the end of the header
/// is looked for from there on, so that a request which dribbles in byte by byte is parsed twice and not each time.
#[must_use]
pub fn parse<'r>(request: &'r [u8], searched: usize, policy: &Policy) -> Outcome<'r> {
    let head = &request[..request.len().min(HANDSHAKE_BYTES_MAX)];
    if searched > 0 && !has_end(&head[searched.saturating_sub(3).min(head.len())..]) {
        return if request.len() >= HANDSHAKE_BYTES_MAX {
            Outcome::Refused(TOO_LARGE)
        } else {
            Outcome::Incomplete
        };
    }
    let mut fields = [EMPTY_HEADER; HANDSHAKE_FIELDS_MAX];
    let mut parsed = Request::new(&mut fields);
    match parsed.parse(head) {
        Ok(Status::Complete(request_bytes)) => {
            decide(&parsed, request_bytes, policy).unwrap_or_else(Outcome::Refused)
        }
        Ok(Status::Partial) if request.len() >= HANDSHAKE_BYTES_MAX => Outcome::Refused(TOO_LARGE),
        Ok(Status::Partial) => Outcome::Incomplete,
        Err(httparse::Error::TooManyHeaders) => Outcome::Refused(TOO_LARGE),
        Err(_) => Outcome::Refused(NOT_HTTP),
    }
}

fn has_end(new: &[u8]) -> bool {
    new.windows(2).any(|pair| pair == b"\n\n") || new.windows(3).any(|three| three == b"\n\r\n")
}

fn decide<'r>(
    request: &Request<'_, 'r>,
    request_bytes: usize,
    policy: &Policy,
) -> Result<Outcome<'r>, Refusal> {
    let fields = &*request.headers;
    let target = resource(request.path.unwrap_or("/"));
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let is_websocket_path = matches!(path, "/" | "/ws");
    if has_body(fields) {
        return Err(BODY);
    }
    let wants_upgrade = has_token(fields, "Upgrade", "websocket");
    let method = request.method.unwrap_or("");
    if !wants_upgrade && !is_websocket_path && matches!(method, "GET" | "HEAD") {
        return Ok(Outcome::Plain(Plain {
            path,
            head: method == "HEAD",
            request_bytes,
        }));
    }
    if method != "GET" {
        return Err(METHOD);
    }
    if !is_websocket_path {
        return Err(PATH);
    }
    if !wants_upgrade || !has_token(fields, "Connection", "upgrade") {
        return Err(UPGRADE);
    }
    if request.version != Some(1) {
        return Err(HTTP_VERSION);
    }
    if only(fields, "Sec-WebSocket-Version") != Some("13") {
        return Err(VERSION);
    }
    only(fields, "Host").ok_or(HOST)?;
    let key = only(fields, "Sec-WebSocket-Key")
        .filter(|key| is_key(key))
        .ok_or(KEY)?;
    let origin = match all(fields, "Origin").count() {
        0 => None,
        _ => Some(
            only(fields, "Origin")
                .filter(|origin| policy.allows_origin(origin))
                .ok_or(ORIGIN)?,
        ),
    };
    let (codec, names_subprotocol) = match policy.subprotocols {
        Subprotocols::Ignored => (Codec::Json, false),
        Subprotocols::Codecs => choose_codec(fields)?,
    };
    Ok(Outcome::Upgrade(Upgrade {
        codec,
        names_subprotocol,
        origin,
        forwarded_for: all(fields, "X-Forwarded-For").last(),
        query,
        request_bytes,
        accept: accept(key.as_bytes()),
    }))
}

/// The path and query of a target that may be an absolute URI (RFC 6455 4.2.1 item 1).
fn resource(target: &str) -> &str {
    let authority = target
        .strip_prefix("http://")
        .or_else(|| target.strip_prefix("https://"));
    match authority.map(|rest| rest.find('/').map(|path| &rest[path..])) {
        None => target,
        Some(None) => "/",
        Some(Some(path)) => path,
    }
}

/// The first of the client's offers, which stand in its order of preference, that is spoken.
fn choose_codec(fields: &[Header<'_>]) -> Result<(Codec, bool), Refusal> {
    let mut offers = all(fields, "Sec-WebSocket-Protocol")
        .flat_map(|line| line.split(','))
        .map(str::trim)
        .peekable();
    if offers.peek().is_none() {
        return Ok((Codec::default(), false));
    }
    offers
        .find_map(Codec::from_subprotocol)
        .map(|codec| (codec, true))
        .ok_or(SUBPROTOCOL)
}

fn all<'h, 'r>(
    fields: &'h [Header<'r>],
    name: &'h str,
) -> impl DoubleEndedIterator<Item = &'r str> + 'h {
    fields
        .iter()
        .filter(move |field| field.name.eq_ignore_ascii_case(name))
        // A value that is not UTF-8 is none of those that are looked for.
        .map(|field| {
            core::str::from_utf8(field.value)
                .unwrap_or("\u{fffd}")
                .trim()
        })
}

/// The value of a field that stands there exactly once.
fn only<'r>(fields: &[Header<'r>], name: &str) -> Option<&'r str> {
    let mut values = all(fields, name);
    let first = values.next()?;
    values.next().is_none().then_some(first)
}

fn has_token(fields: &[Header<'_>], name: &str, token: &str) -> bool {
    all(fields, name).any(|line| {
        line.split(',')
            .any(|part| part.trim().eq_ignore_ascii_case(token))
    })
}

/// A body would be read as frames, and two readers that disagree on its length are how requests are smuggled.
fn has_body(fields: &[Header<'_>]) -> bool {
    all(fields, "Transfer-Encoding").next().is_some()
        || all(fields, "Content-Length").any(|length| length != "0")
}

/// 16 bytes in base64: 22 characters and two of padding, of which the last stands for four bits.
fn is_key(key: &str) -> bool {
    let mut bytes = [0; 18];
    key.len() == 24 && STANDARD.decode_slice(key, &mut bytes) == Ok(16)
}

/// Sec-WebSocket-Accept of a key (RFC 6455 4.2.2).
#[must_use]
pub fn accept(key: &[u8]) -> [u8; ACCEPT_BYTES] {
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update(ACCEPT_GUID)
        .finalize();
    let mut accept = [0; ACCEPT_BYTES];
    let written = STANDARD.encode_slice(digest, &mut accept);
    debug_assert_eq!(written, Ok(ACCEPT_BYTES));
    accept
}

impl Upgrade<'_> {
    /// Appends the answer: 101.
    pub fn append_response(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        if self.names_subprotocol {
            out.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            out.extend_from_slice(self.codec.subprotocol().as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

impl Refusal {
    /// Appends the answer; the connection closes after it.
    pub fn append_response(&self, out: &mut Vec<u8>) {
        let extra = match self.status {
            405 => "Allow: GET\r\n",
            426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            _ => "",
        };
        append_plain_response(out, self.status, extra, self.detail, false);
    }
}

/// Appends an answer in plain text, after which the connection closes. `fields` are whole lines.
pub fn append_plain_response(out: &mut Vec<u8>, status: u16, fields: &str, body: &str, head: bool) {
    use std::io::Write as _;
    // A body without a newline looks broken in curl.
    write!(
        out,
        "HTTP/1.1 {status} {}\r\n{fields}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: {}\r\nCache-Control: no-store\r\n\r\n",
        reason_phrase(status),
        body.len() + 1,
        // RFC 9110 7.8: an Upgrade field is named in Connection.
        if status == 426 { "Upgrade, close" } else { "close" },
    )
    .expect("invariant: a Vec takes every byte");
    if !head {
        out.extend_from_slice(body.as_bytes());
        out.push(b'\n');
    }
}

const fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
