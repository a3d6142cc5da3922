//! `frames.json`: WebSocket frames of a client, whole and broken, and what a server makes of them.

use super::{compare_or_update, hex};
use crate::close::CloseCode;
use crate::ws::encoder::{append_client_close, append_client_frame};
use crate::ws::{Bounds, Incoming, MessageReader, Opcode, Peer, ProtocolError};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const BOUNDS: Bounds = Bounds {
    message_bytes_max: 70_000,
};

fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append_client_frame(&mut out, fin, opcode, payload, MASK);
    out
}

fn close(code: Option<CloseCode>, reason: &str) -> Vec<u8> {
    let mut out = Vec::new();
    append_client_close(&mut out, code, reason, MASK);
    out
}

fn all() -> Vec<(&'static str, Vec<u8>)> {
    use Opcode::{Binary, Continuation, Ping, Pong, Text};
    let long = |len: usize| vec![b'*'; len];
    vec![
        ("5.7 a masked text message", frame(true, Text, b"Hello")),
        ("5.7 a masked ping", frame(true, Ping, b"Hello")),
        ("5.6 an empty text message", frame(true, Text, b"")),
        ("5.6 an empty binary message", frame(true, Binary, b"")),
        (
            "5.2 125 bytes have a length of 7 bits",
            frame(true, Binary, &long(125)),
        ),
        (
            "5.2 126 bytes have a length of 16 bits",
            frame(true, Binary, &long(126)),
        ),
        (
            "5.2 65535 bytes have a length of 16 bits",
            frame(true, Binary, &long(65_535)),
        ),
        (
            "5.2 65536 bytes have a length of 64 bits",
            frame(true, Binary, &long(65_536)),
        ),
        (
            "5.4 fragments with a ping between them",
            [
                frame(false, Text, b"Hel"),
                frame(true, Ping, b"?"),
                frame(true, Continuation, b"lo"),
            ]
            .concat(),
        ),
        (
            "5.4 empty fragments",
            [
                frame(false, Binary, b""),
                frame(false, Continuation, b""),
                frame(true, Continuation, b""),
            ]
            .concat(),
        ),
        (
            "8.1 a character split over fragments",
            [
                frame(false, Text, b"\xe6\xbc"),
                frame(true, Continuation, b"\xa2"),
            ]
            .concat(),
        ),
        ("5.5.3 a pong that nobody asked for", frame(true, Pong, b"")),
        ("5.5.1 a close without a code", close(None, "")),
        (
            "5.5.1 a close with a reason",
            close(Some(CloseCode::NORMAL), "bye"),
        ),
        (
            "5.5.1 what follows a close is ignored",
            [
                close(Some(CloseCode::GOING_AWAY), ""),
                frame(true, Text, b"late"),
            ]
            .concat(),
        ),
        (
            "5.5.1 a close with half a code",
            frame(true, Opcode::Close, &[3]),
        ),
        (
            "7.4 a close code that must not be sent",
            frame(true, Opcode::Close, &1005_u16.to_be_bytes()),
        ),
        (
            "5.5.1 a close reason that is not UTF-8",
            frame(true, Opcode::Close, b"\x03\xe8\xff"),
        ),
        ("5.1 a frame without a mask", vec![0x81, 0x01, b'x']),
        ("5.2 a reserved bit", vec![0xc1, 0x80]),
        ("5.2 a reserved opcode", vec![0x83, 0x80]),
        ("5.2 a reserved control opcode", vec![0x8b, 0x80]),
        (
            "5.2 a 16-bit length that is not minimal",
            vec![0x82, 0xfe, 0, 125],
        ),
        (
            "5.2 a 64-bit length that is not minimal",
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
        ),
        ("5.2 a length of 2^63", vec![0x82, 0xff, 0x80]),
        (
            "5.4 a continuation of nothing",
            frame(true, Continuation, b"x"),
        ),
        (
            "5.4 a message within a fragmented one",
            [frame(false, Text, b"a"), frame(true, Text, b"b")].concat(),
        ),
        ("5.5 a fragmented ping", vec![0x09, 0x80]),
        ("5.5 a ping of 126 bytes", vec![0x89, 0xfe]),
        ("8.1 text that is not UTF-8", frame(true, Text, b"ab\xffcd")),
        (
            "8.1 text that ends within a character",
            frame(true, Text, b"\xe6\xbc"),
        ),
        (
            "10.4 a message over the limit, refused on its header",
            vec![0x82, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x71],
        ),
        (
            "10.4 fragments over the limit, refused on the header that exceeds it",
            [
                frame(false, Binary, &long(65_536)),
                vec![0x80, 0xfe, 0x11, 0x71],
            ]
            .concat(),
        ),
    ]
}

/// A long run of one byte is written as its length: vectors are read by people too.
fn payload(bytes: &[u8]) -> String {
    if bytes.len() > 60 {
        format!("\"bytes\":{}", bytes.len())
    } else {
        format!("\"hex\":\"{}\"", hex(bytes))
    }
}

/// What comes out when the bytes arrive in reads of that size.
fn outcomes(bytes: &[u8], read_bytes: usize) -> Vec<String> {
    let mut reader = MessageReader::new(Peer::Client);
    let mut outcomes = Vec::new();
    for read in bytes.chunks(read_bytes) {
        let mut input = read.to_vec();
        let mut at = 0;
        loop {
            match reader.next(&mut input, &mut at, &BOUNDS) {
                Ok(None) => break,
                Ok(Some(event)) => outcomes.push(match event {
                    Incoming::Text(bytes) => format!("{{\"event\":\"text\",{}}}", payload(bytes)),
                    Incoming::Binary(bytes) => {
                        format!("{{\"event\":\"binary\",{}}}", payload(bytes))
                    }
                    Incoming::Ping(bytes) => format!("{{\"event\":\"ping\",{}}}", payload(bytes)),
                    Incoming::Pong(bytes) => format!("{{\"event\":\"pong\",{}}}", payload(bytes)),
                    Incoming::Close(close) => format!(
                        "{{\"event\":\"close\",\"code\":{},\"reason\":\"{}\"}}",
                        close.code.map_or("null".into(), |code| code.0.to_string()),
                        close.reason
                    ),
                }),
                Err(error) => {
                    outcomes.push(error_outcome(error));
                    return outcomes;
                }
            }
        }
    }
    outcomes
}

fn error_outcome(error: ProtocolError) -> String {
    format!(
        "{{\"event\":\"error\",\"label\":\"{}\",\"close_code\":{}}}",
        error.label(),
        error.close_code().0
    )
}

#[test]
fn what_a_server_makes_of_each_frame_is_what_the_vectors_hold() {
    let lines: Vec<_> = all()
        .iter()
        .map(|(name, bytes)| {
            let head = if bytes.len() > 200 {
                format!(
                    "\"head_hex\":\"{}\",\"bytes\":{}",
                    hex(&bytes[..14]),
                    bytes.len()
                )
            } else {
                format!("\"hex\":\"{}\"", hex(bytes))
            };
            format!(
                "{{\"name\":\"{name}\",{head},\n \"outcomes\":[{}]}}",
                outcomes(bytes, bytes.len()).join(",")
            )
        })
        .collect();
    compare_or_update("frames.json", &format!("[\n{}\n]\n", lines.join(",\n")));
}

#[test]
fn the_size_of_the_reads_changes_nothing_of_it() {
    for (name, bytes) in all() {
        let whole = outcomes(&bytes, bytes.len());
        for read_bytes in [1, 2, 3, 5, 7, 13, 64, 1000] {
            assert_eq!(
                outcomes(&bytes, read_bytes),
                whole,
                "{name} in reads of {read_bytes}"
            );
        }
    }
}
