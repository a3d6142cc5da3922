//! Before the upgrade: requests that are none, fields that smuggle, heads without end, and good ones in odd pieces.

use protocol::ws::Opcode;
use tidegate_protocol as protocol;

use super::{Act, Attack, Begins, Ending, Service, frame, upgrade};

/// Longer than any head that is taken.
const ENDLESS_BYTES: usize = 64 << 10;

pub(super) fn attacks(service: Service) -> Vec<Attack> {
    let mut all: Vec<Attack> = requests()
        .into_iter()
        .map(|(name, request, status)| {
            Attack::new(
                name,
                Begins::Connected,
                Act::Write(request),
                Ending::Status(status),
            )
        })
        .collect();
    all.extend(odd_pieces(service));
    all
}

/// What was changed, the request, and the status that it is owed.
fn requests() -> Vec<(&'static str, Vec<u8>, u16)> {
    let good = String::from_utf8(upgrade(None, "")).expect("invariant: the request is ASCII");
    let with = |lines: &str| upgrade(None, lines);
    let instead = |from: &str, to: &str| good.replace(from, to).into_bytes();
    vec![
        (
            "a TLS greeting",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            400,
        ),
        (
            "a PROXY header from a stranger",
            [b"\r\n\r\n\0\r\nQUIT\n".as_slice(), good.as_bytes()].concat(),
            400,
        ),
        (
            "no upgrade",
            b"GET /ws HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
            426,
        ),
        ("a POST", instead("GET /ws", "POST /ws"), 405),
        ("another path", instead("/ws", "/elsewhere"), 404),
        ("HTTP/1.0", instead("HTTP/1.1", "HTTP/1.0"), 505),
        (
            "HTTP/2's preface",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            400,
        ),
        (
            "version 8 (RFC 6455 4.4)",
            instead("Version: 13", "Version: 8"),
            426,
        ),
        ("two versions", with("Sec-WebSocket-Version: 8\r\n"), 426),
        ("no key", instead("Sec-WebSocket-Key", "X-Key"), 400),
        (
            "two keys",
            with("Sec-WebSocket-Key: AQEBAQEBAQEBAQEBAQEBAQ==\r\n"),
            400,
        ),
        (
            "a key of 15 bytes",
            instead("AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAA"),
            400,
        ),
        (
            "no host (RFC 9112 3.2)",
            instead("Host: hostile\r\n", ""),
            400,
        ),
        ("two hosts (RFC 9112 3.2)", with("Host: other\r\n"), 400),
        ("Content-Length", with("Content-Length: 5\r\n"), 400),
        (
            "Content-Length twice, once 0",
            with("Content-Length: 0\r\nContent-Length: 5\r\n"),
            400,
        ),
        (
            "Content-Length of 2^64 + 0",
            with("Content-Length: 18446744073709551616\r\n"),
            400,
        ),
        ("Content-Length of +0", with("Content-Length: +0\r\n"), 400),
        (
            "Content-Length in a list",
            with("Content-Length: 0, 0\r\n"),
            400,
        ),
        (
            "Transfer-Encoding",
            with("Transfer-Encoding: chunked\r\n"),
            400,
        ),
        (
            "Transfer-Encoding: identity",
            with("Transfer-Encoding: identity\r\n"),
            400,
        ),
        (
            "Transfer-Encoding behind a tab",
            with("Transfer-Encoding:\tchunked\r\n"),
            400,
        ),
        (
            "both lengths",
            with("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        (
            "a blank before the colon (RFC 9112 5.1)",
            with("Transfer-Encoding : chunked\r\n"),
            400,
        ),
        (
            "a folded line (RFC 9112 5.2)",
            with("X: a\r\n Transfer-Encoding: chunked\r\n"),
            400,
        ),
        ("a NUL in a value", with("X: a\0b\r\n"), 400),
        (
            "a bare CR in a value (RFC 9112 2.2)",
            with("X: a\rTransfer-Encoding: chunked\r\n"),
            400,
        ),
        ("a field without a colon", with("nonsense\r\n"), 400),
        ("a field without a name", with(": x\r\n"), 400),
        ("65 fields", with(&"X: y\r\n".repeat(60)), 431),
        (
            "a field of 9,000 bytes",
            with(&format!("X: {}\r\n", "x".repeat(9_000))),
            431,
        ),
        ("a target without end", endless(b"GET /", b"a"), 431),
        (
            "a field without end",
            endless(b"GET /ws HTTP/1.1\r\nX: ", b"a"),
            431,
        ),
        (
            "fields without end",
            endless(b"GET /ws HTTP/1.1\r\n", b"X: y\r\n"),
            431,
        ),
        ("empty lines without end", endless(b"", b"\r\n"), 431),
    ]
}

fn endless(begin: &[u8], again: &[u8]) -> Vec<u8> {
    let mut bytes = begin.to_vec();
    while bytes.len() < ENDLESS_BYTES {
        bytes.extend_from_slice(again);
    }
    bytes
}

/// Whole and good, but not as a browser sends it: served.
fn odd_pieces(service: Service) -> Vec<Attack> {
    let (first, heard) = greeting(service);
    let handshake = upgrade(None, "");
    let joined = [handshake.clone(), first.clone()].concat();
    let served = |name: &str, act: Act| {
        Attack::new(name, Begins::Connected, act, Ending::Hears(heard.clone()))
    };
    let mut all = vec![
        served(
            "the first frame in the handshake's own segment",
            Act::Write(joined.clone()),
        ),
        served(
            "a handshake and its first frame byte by byte",
            Act::ByteByByte(joined.clone()),
        ),
        served(
            "an upgrade behind four empty lines",
            Act::Write([b"\r\n\r\n\r\n\r\n".to_vec(), joined].concat()),
        ),
    ];
    // A violation may ride in the handshake's segment as well.
    all.push(Attack::new(
        "an unmasked frame in the handshake's own segment",
        Begins::Connected,
        Act::Write([handshake, vec![0x81, 0x01, b'x']].concat()),
        Ending::Close(1002),
    ));
    all
}

/// A first frame, and what a service answers to it.
fn greeting(service: Service) -> (Vec<u8>, Vec<u8>) {
    if service == Service::Chat {
        // Before Hello a ping is answered all the same; the answer carries a time, so any payload counts.
        (frame(true, Opcode::Ping, b"early"), b"early".to_vec())
    } else {
        (frame(true, Opcode::Text, b"early"), b"early".to_vec())
    }
}
