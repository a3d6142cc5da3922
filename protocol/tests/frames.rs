//! RFC 6455 sections 5–8 as stories: what a server makes of a client's frames, in reads of any size.

use proptest::prelude::*;
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::ws::encoder::{append_client_close, append_client_frame, append_frame};
use tidegate_protocol::ws::{
    Bounds, Decoder, Event, Incoming, MessageReader, Opcode, Peer, ProtocolError,
};

const BOUNDS: Bounds = Bounds {
    message_bytes_max: 100_000,
};
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    append_client_frame(&mut out, fin, opcode, payload, MASK);
    out
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseCode>, String),
    Error(ProtocolError),
}

fn see(reader: &mut MessageReader, read: &[u8], bounds: &Bounds, seen: &mut Vec<Seen>) {
    let mut input = read.to_vec();
    let mut at = 0;
    loop {
        seen.push(match reader.next(&mut input, &mut at, bounds) {
            Ok(None) => return,
            Ok(Some(Incoming::Text(bytes))) => Seen::Text(bytes.to_vec()),
            Ok(Some(Incoming::Binary(bytes))) => Seen::Binary(bytes.to_vec()),
            Ok(Some(Incoming::Ping(bytes))) => Seen::Ping(bytes.to_vec()),
            Ok(Some(Incoming::Pong(bytes))) => Seen::Pong(bytes.to_vec()),
            Ok(Some(Incoming::Close(close))) => Seen::Close(close.code, close.reason.to_owned()),
            Err(error) => {
                seen.push(Seen::Error(error));
                return;
            }
        });
    }
}

fn in_reads(bytes: &[u8], read_bytes: usize) -> Vec<Seen> {
    let mut reader = MessageReader::new(Peer::Client);
    let mut seen = Vec::new();
    for read in bytes.chunks(read_bytes.max(1)) {
        if !reader.is_closed() {
            see(&mut reader, read, &BOUNDS, &mut seen);
        }
    }
    seen
}

fn whole(bytes: &[u8]) -> Vec<Seen> {
    in_reads(bytes, bytes.len())
}

#[test]
fn rfc_6455_5_4_control_frames_between_fragments_come_out_first() {
    let bytes = [
        frame(false, Opcode::Text, b"one "),
        frame(true, Opcode::Ping, b"1"),
        frame(false, Opcode::Continuation, b"two "),
        frame(true, Opcode::Pong, b"2"),
        frame(true, Opcode::Continuation, b"three"),
        frame(true, Opcode::Binary, b"next"),
    ]
    .concat();
    let expected = [
        Seen::Ping(b"1".to_vec()),
        Seen::Pong(b"2".to_vec()),
        Seen::Text(b"one two three".to_vec()),
        Seen::Binary(b"next".to_vec()),
    ];
    for read_bytes in 1..=bytes.len() {
        assert_eq!(
            in_reads(&bytes, read_bytes),
            expected,
            "in reads of {read_bytes}"
        );
    }
}

#[test]
fn rfc_6455_5_4_a_message_in_one_byte_fragments_is_put_together() {
    let text = "fragments of one byte, 漢字 too";
    let mut bytes = frame(false, Opcode::Text, b"");
    for byte in text.as_bytes() {
        bytes.extend(frame(false, Opcode::Continuation, &[*byte]));
    }
    bytes.extend(frame(true, Opcode::Continuation, b""));
    assert_eq!(whole(&bytes), [Seen::Text(text.as_bytes().to_vec())]);
}

#[test]
fn rfc_6455_5_5_1_after_a_close_frame_nothing_is_read() {
    let mut bytes = Vec::new();
    append_client_close(
        &mut bytes,
        Some(CloseCode::GOING_AWAY),
        "left the page",
        MASK,
    );
    bytes.extend(frame(true, Opcode::Text, b"late"));
    bytes.extend([0xff; 20]);
    let expected = [Seen::Close(
        Some(CloseCode::GOING_AWAY),
        "left the page".into(),
    )];
    assert_eq!(whole(&bytes), expected);
    assert_eq!(in_reads(&bytes, 1), expected);
}

#[test]
fn rfc_6455_8_1_bad_text_is_refused_before_its_frame_ends() {
    let bytes = frame(
        true,
        Opcode::Text,
        &[b"good until here \xf4\x90".as_slice(), &[b'x'; 5000]].concat(),
    );
    let mut reader = MessageReader::new(Peer::Client);
    let mut seen = Vec::new();
    see(&mut reader, &bytes[..40], &BOUNDS, &mut seen);
    assert_eq!(seen, [Seen::Error(ProtocolError::InvalidUtf8)]);
}

#[test]
fn rfc_6455_8_1_binary_messages_and_pings_may_hold_anything() {
    let bytes = [
        frame(true, Opcode::Binary, b"\xff\xfe"),
        frame(true, Opcode::Ping, b"\xff"),
    ]
    .concat();
    assert_eq!(
        whole(&bytes),
        [
            Seen::Binary(b"\xff\xfe".to_vec()),
            Seen::Ping(b"\xff".to_vec())
        ]
    );
}

#[test]
fn rfc_6455_10_4_oversize_is_refused_on_the_header_before_any_payload_and_mask() {
    let bounds = Bounds {
        message_bytes_max: 1000,
    };
    for header in [
        &[0x82, 0xfe, 0x03, 0xe9][..],
        &[0x82, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let mut decoder = Decoder::new(Peer::Client);
        let mut input = header.to_vec();
        let refused = decoder.decode(&mut input, &bounds);
        assert_eq!(
            refused,
            Err(ProtocolError::MessageTooBig { max_bytes: 1000 })
        );
        let mut reader = MessageReader::new(Peer::Client);
        let mut seen = Vec::new();
        for byte in header {
            see(&mut reader, &[*byte], &bounds, &mut seen);
        }
        assert_eq!(
            seen.first(),
            Some(&Seen::Error(ProtocolError::MessageTooBig {
                max_bytes: 1000
            }))
        );
        assert_eq!(reader.held_bytes(), 0);
    }
    let mut seen = Vec::new();
    see(
        &mut MessageReader::new(Peer::Client),
        &frame(true, Opcode::Binary, &[0; 1000]),
        &bounds,
        &mut seen,
    );
    assert_eq!(
        seen,
        [Seen::Binary(vec![0; 1000])],
        "the limit itself is allowed"
    );
}

#[test]
fn rfc_6455_10_4_fragments_count_together_and_pings_between_them_do_not() {
    let bounds = Bounds {
        message_bytes_max: 100,
    };
    let mut reader = MessageReader::new(Peer::Client);
    let mut seen = Vec::new();
    see(
        &mut reader,
        &frame(false, Opcode::Binary, &[0; 60]),
        &bounds,
        &mut seen,
    );
    see(
        &mut reader,
        &frame(true, Opcode::Ping, &[0; 125]),
        &bounds,
        &mut seen,
    );
    see(
        &mut reader,
        &frame(false, Opcode::Continuation, &[0; 40]),
        &bounds,
        &mut seen,
    );
    assert_eq!(seen, [Seen::Ping(vec![0; 125])]);
    see(
        &mut reader,
        &frame(true, Opcode::Continuation, &[0; 1]),
        &bounds,
        &mut seen,
    );
    assert_eq!(
        seen.last(),
        Some(&Seen::Error(ProtocolError::MessageTooBig {
            max_bytes: 100
        }))
    );
}

#[test]
fn a_declared_length_costs_memory_only_as_its_bytes_arrive() {
    let bounds = Bounds {
        message_bytes_max: 16 << 20,
    };
    let bytes = frame(true, Opcode::Binary, &vec![7; 16 << 20]);
    let mut reader = MessageReader::new(Peer::Client);
    let mut seen = Vec::new();
    see(&mut reader, &bytes[..1000], &bounds, &mut seen);
    assert!(reader.held_bytes() < 3000, "{}", reader.held_bytes());
    for read in bytes[1000..].chunks(16 * 1024) {
        see(&mut reader, read, &bounds, &mut seen);
        assert!(
            reader.held_bytes() <= (16 << 20) + 1024,
            "never beyond the limit: {}",
            reader.held_bytes()
        );
    }
    assert_eq!(seen.len(), 1);
    assert_eq!(reader.held_bytes(), 0, "what was lent is freed");
    assert!(reader.is_idle());
}

#[test]
fn a_whole_frame_is_lent_from_the_bytes_it_arrived_in() {
    let mut input = [
        frame(true, Opcode::Text, b"first"),
        frame(true, Opcode::Binary, b"second"),
    ]
    .concat();
    let range = input.as_ptr_range();
    let mut decoder = Decoder::new(Peer::Client);
    let step = decoder.decode(&mut input, &BOUNDS).expect("valid");
    let consumed = step.consumed;
    let Some(Event::Message {
        opcode: Opcode::Text,
        payload,
    }) = step.event
    else {
        panic!("{step:?}")
    };
    assert_eq!(payload, b"first");
    assert!(range.contains(&payload.as_ptr()), "no copy was made");
    assert_eq!(consumed, 6 + 5, "the payload ends where the frame does");
    let step = decoder
        .decode(&mut input[consumed..], &BOUNDS)
        .expect("valid");
    assert_eq!(
        step.event,
        Some(Event::Message {
            opcode: Opcode::Binary,
            payload: b"second"
        })
    );
}

#[test]
fn a_server_header_fits_in_front_of_the_payload_that_a_client_sent() {
    for len in [0, 1, 125, 126, 65_535, 65_536] {
        let client = frame(true, Opcode::Binary, &vec![0; len]);
        let mut server = Vec::new();
        append_frame(&mut server, Opcode::Binary, &vec![0; len]);
        assert_eq!(server.len() + 4, client.len());
    }
}

#[test]
fn a_client_reads_unmasked_frames_and_refuses_masked_ones() {
    let mut bytes = Vec::new();
    append_frame(&mut bytes, Opcode::Text, b"hello");
    let mut reader = MessageReader::new(Peer::Server);
    let mut seen = Vec::new();
    see(&mut reader, &bytes, &BOUNDS, &mut seen);
    assert_eq!(seen, [Seen::Text(b"hello".to_vec())]);
    see(
        &mut reader,
        &frame(true, Opcode::Text, b"hello"),
        &BOUNDS,
        &mut seen,
    );
    assert_eq!(seen.last(), Some(&Seen::Error(ProtocolError::Masked)));
}

/// One thing that a well-behaved client does.
#[derive(Clone, Debug)]
enum Act {
    Text(Vec<String>),
    Binary(Vec<Vec<u8>>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn act() -> impl Strategy<Value = Act> {
    let small = prop::collection::vec(any::<u8>(), 0..=125);
    prop_oneof![
        prop::collection::vec(".{0,40}", 1..5).prop_map(Act::Text),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5)
            .prop_map(Act::Binary),
        small.clone().prop_map(Act::Ping),
        small.prop_map(Act::Pong),
    ]
}

/// The frames of an act, with a ping after each fragment if `pings`, and what must be seen of it.
fn perform(act: &Act, mask: [u8; 4], pings: bool, bytes: &mut Vec<u8>, expected: &mut Vec<Seen>) {
    let (opcode, pieces): (_, Vec<&[u8]>) = match act {
        Act::Text(pieces) => (Opcode::Text, pieces.iter().map(String::as_bytes).collect()),
        Act::Binary(pieces) => (Opcode::Binary, pieces.iter().map(Vec::as_slice).collect()),
        Act::Ping(payload) => {
            append_client_frame(bytes, true, Opcode::Ping, payload, mask);
            return expected.push(Seen::Ping(payload.clone()));
        }
        Act::Pong(payload) => {
            append_client_frame(bytes, true, Opcode::Pong, payload, mask);
            return expected.push(Seen::Pong(payload.clone()));
        }
    };
    for (index, piece) in pieces.iter().enumerate() {
        let (first, last) = (index == 0, index + 1 == pieces.len());
        let opcode = if first { opcode } else { Opcode::Continuation };
        append_client_frame(bytes, last, opcode, piece, mask);
        if pings && !last {
            append_client_frame(bytes, true, Opcode::Ping, b"between", mask);
            expected.push(Seen::Ping(b"between".to_vec()));
        }
    }
    let message = pieces.concat();
    expected.push(if opcode == Opcode::Text {
        Seen::Text(message)
    } else {
        Seen::Binary(message)
    });
}

proptest! {
    #[test]
    fn what_was_sent_is_what_is_seen_however_it_is_fragmented_and_read(
        acts in prop::collection::vec(act(), 0..8), mask: [u8; 4], pings: bool, read_bytes in 1..400_usize
    ) {
        let (mut bytes, mut expected) = (Vec::new(), Vec::new());
        for act in &acts {
            perform(act, mask, pings, &mut bytes, &mut expected);
        }
        prop_assert_eq!(&whole(&bytes), &expected);
        prop_assert_eq!(&in_reads(&bytes, read_bytes), &expected);
        prop_assert_eq!(&in_reads(&bytes, 1), &expected);
    }

    #[test]
    fn text_cut_in_the_middle_of_characters_is_put_together(
        text in ".{1,60}", cuts: Vec<prop::sample::Index>, read_bytes in 1..50_usize
    ) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).count();
        let mut bytes = Vec::new();
        for (index, cut) in cuts.windows(2).enumerate() {
            let opcode = if index == 0 { Opcode::Text } else { Opcode::Continuation };
            let piece = &text.as_bytes()[cut[0]..cut[1]];
            append_client_frame(&mut bytes, index + 1 == pieces, opcode, piece, MASK);
        }
        let expected = [Seen::Text(text.into_bytes())];
        prop_assert_eq!(&whole(&bytes)[..], &expected[..]);
        prop_assert_eq!(&in_reads(&bytes, read_bytes)[..], &expected[..]);
    }
}
