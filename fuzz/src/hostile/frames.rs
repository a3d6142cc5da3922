//! Frames that RFC 6455 does not allow, and lengths that nobody means.

use protocol::ws::Opcode;
use tidegate_protocol as protocol;

use super::{Act, Attack, Begins, Ending, Service, frame};

const PROTOCOL_ERROR: u16 = 1002;
const INVALID_PAYLOAD: u16 = 1007;
const TOO_BIG: u16 = 1009;
/// Codes that no close frame may carry (RFC 6455 7.4).
const UNSENDABLE: [u16; 10] = [0, 999, 1004, 1005, 1006, 1015, 1016, 2_999, 5_000, 65_535];
/// Each is invalid, and none before its last bytes.
const NOT_UTF8: [(&str, &[u8]); 6] = [
    ("a surrogate", b"\xce\xba\xed\xa0\x80x"),
    ("an overlong slash", b"ab\xe0\x80\xafx"),
    ("past U+10FFFF", b"\xf4\x90\x80\x80x"),
    ("a lone continuation", b"abc\x80x"),
    ("a lead without its rest", b"ab\xf0\x9f\x98x"),
    ("cut at the end", b"abcd\xf0\x9f\x98"),
];

pub(super) fn attacks(service: Service, message_bytes_max: u64) -> Vec<Attack> {
    let upgraded = |name: String, bytes: Vec<u8>, code: u16| {
        Attack::new(
            name,
            Begins::Upgraded(None),
            Act::Write(bytes),
            Ending::Close(code),
        )
    };
    let mut all: Vec<Attack> = violations()
        .into_iter()
        .map(|(name, bytes)| upgraded(name.to_owned(), bytes, PROTOCOL_ERROR))
        .collect();
    all.extend(UNSENDABLE.map(|code| {
        let bytes = frame(true, Opcode::Close, &code.to_be_bytes());
        upgraded(format!("close code {code} (7.4)"), bytes, PROTOCOL_ERROR)
    }));
    for (what, text) in NOT_UTF8 {
        all.extend(at_every_split(what, text));
    }
    all.push(upgraded(
        "a close reason that is not UTF-8 (5.5.1)".into(),
        frame(true, Opcode::Close, b"\x03\xe8\xff"),
        INVALID_PAYLOAD,
    ));
    all.extend(
        lengths(message_bytes_max)
            .into_iter()
            .map(|(name, bytes)| upgraded(name, bytes, TOO_BIG)),
    );
    if service == Service::Chat {
        all.push(upgraded(
            "a binary message under JSON".into(),
            frame(true, Opcode::Binary, b"{}"),
            1003,
        ));
        let mut text = upgraded(
            "a text message under FlatBuffers".into(),
            frame(true, Opcode::Text, b"{}"),
            1003,
        );
        text.begins = Begins::Upgraded(Some("tidegate.v1.fb"));
        all.push(text);
    }
    all
}

/// A header with this first byte and these length bytes, masked with zeros.
fn header(first: u8, length: &[u8]) -> Vec<u8> {
    [&[first][..], length, &[0; 4]].concat()
}

fn violations() -> Vec<(&'static str, Vec<u8>)> {
    let wide = |length: u64| [&[0xff][..], &length.to_be_bytes()].concat();
    vec![
        ("an unmasked text (5.1)", b"\x81\x02hi".to_vec()),
        ("an unmasked ping (5.1)", b"\x89\x00".to_vec()),
        ("RSV1 (5.2)", header(0xc1, &[0x80])),
        ("RSV2 (5.2)", header(0xa1, &[0x80])),
        ("RSV3 (5.2)", header(0x91, &[0x80])),
        ("RSV1 on a ping (5.2)", header(0xc9, &[0x80])),
        ("opcode 3 (5.2)", header(0x83, &[0x80])),
        ("opcode 7 (5.2)", header(0x87, &[0x80])),
        ("opcode 11 (5.2)", header(0x8b, &[0x80])),
        ("opcode 15 (5.2)", header(0x8f, &[0x80])),
        ("a length of 2^63 (5.2)", header(0x82, &wide(1 << 63))),
        ("a length of 2^64 - 1 (5.2)", header(0x82, &wide(u64::MAX))),
        ("2 in 16 bits (5.2)", header(0x82, &[0xfe, 0, 2])),
        ("125 in 16 bits (5.2)", header(0x82, &[0xfe, 0, 125])),
        ("126 in 64 bits (5.2)", header(0x82, &wide(126))),
        ("65,535 in 64 bits (5.2)", header(0x82, &wide(65_535))),
        ("a ping of 126 bytes (5.5)", header(0x89, &[0xfe, 0, 126])),
        ("a ping of 2^32 bytes (5.5)", header(0x89, &wide(1 << 32))),
        ("a close of 126 bytes (5.5)", header(0x88, &[0xfe, 0, 126])),
        ("a fragmented ping (5.5)", header(0x09, &[0x80])),
        ("a fragmented pong (5.5)", header(0x0a, &[0x80])),
        ("a fragmented close (5.5)", header(0x08, &[0x80])),
        (
            "half a close code (5.5.1)",
            frame(true, Opcode::Close, &[3]),
        ),
        (
            "a continuation of nothing (5.4)",
            frame(true, Opcode::Continuation, b"x"),
        ),
        (
            "a message within a message (5.4)",
            [
                frame(false, Opcode::Text, b"a"),
                frame(true, Opcode::Text, b"b"),
            ]
            .concat(),
        ),
        (
            "half a close code amid a message (5.5.1)",
            [
                frame(false, Opcode::Binary, b""),
                frame(true, Opcode::Close, &[3]),
            ]
            .concat(),
        ),
    ]
}

/// RFC 6455 8.1: in fragments that part at every byte, and in segments that do.
fn at_every_split(what: &str, text: &[u8]) -> Vec<Attack> {
    let attack = |name: String, act: Act| {
        Attack::new(
            name,
            Begins::Upgraded(None),
            act,
            Ending::Close(INVALID_PAYLOAD),
        )
    };
    let mut all: Vec<Attack> = (0..=text.len())
        .map(|split| {
            let bytes = [
                frame(false, Opcode::Text, &text[..split]),
                frame(true, Opcode::Continuation, &text[split..]),
            ]
            .concat();
            attack(
                format!("{what}, in fragments that part at {split} (8.1)"),
                Act::Write(bytes),
            )
        })
        .collect();
    let whole = frame(true, Opcode::Text, text);
    all.push(attack(
        format!("{what}, byte by byte (8.1)"),
        Act::ByteByByte(whole.clone()),
    ));
    all.push(attack(format!("{what}, whole (8.1)"), Act::Write(whole)));
    all
}

/// Lengths over the limit, of which not one byte follows; and a message that passes it in its second fragment.
fn lengths(message_bytes_max: u64) -> Vec<(String, Vec<u8>)> {
    let announced = |length: u64| {
        let length = if length > 65_535 {
            [&[0xff][..], &length.to_be_bytes()].concat()
        } else {
            [
                &[0xfe][..],
                &u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes(),
            ]
            .concat()
        };
        header(0x82, &length)
    };
    let half = usize::try_from(message_bytes_max / 2).unwrap_or(0);
    let rest = header(
        0x80,
        &[&[0xff][..], &(half as u64 + 2).max(65_536).to_be_bytes()].concat(),
    );
    vec![
        (
            format!("{} bytes announced", message_bytes_max + 1),
            announced(message_bytes_max + 1),
        ),
        ("2^63 - 1 bytes announced".into(), announced((1 << 63) - 1)),
        ("2^40 bytes announced".into(), announced(1 << 40)),
        (
            "a message that passes the limit in its second fragment's header".into(),
            [frame(false, Opcode::Binary, &vec![1; half]), rest].concat(),
        ),
    ]
}
