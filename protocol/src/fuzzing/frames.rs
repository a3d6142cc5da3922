//! Bodies around frames: the fast ways against the naive ones, and reads of any size against one.

use crate::close::{CloseReason, retry_ms};
use crate::limits::CLOSE_REASON_BYTES_MAX;
use crate::ws::mask::{unmask, unmask_naive};
use crate::ws::utf8::Utf8;
use crate::ws::{Bounds, CloseFrame, Incoming, MessageReader, Peer, ProtocolError};

/// Small, so that short inputs reach it.
const BOUNDS: Bounds = Bounds {
    message_bytes_max: 1000,
};

/// What a connection saw, without borrows.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(ProtocolError),
}

fn read_all<'r>(reads: impl Iterator<Item = &'r [u8]>, peer: Peer) -> Vec<Seen> {
    let mut reader = MessageReader::new(peer);
    let mut seen = Vec::new();
    for read in reads {
        let mut input = read.to_vec();
        let mut at = 0;
        loop {
            let before = at;
            seen.push(match reader.next(&mut input, &mut at, &BOUNDS) {
                Ok(None) => break,
                Ok(Some(Incoming::Text(bytes))) => {
                    assert!(
                        core::str::from_utf8(bytes).is_ok(),
                        "text that was lent is UTF-8"
                    );
                    Seen::Text(bytes.to_vec())
                }
                Ok(Some(Incoming::Binary(bytes))) => Seen::Binary(bytes.to_vec()),
                Ok(Some(Incoming::Ping(bytes))) => Seen::Ping(bytes.to_vec()),
                Ok(Some(Incoming::Pong(bytes))) => Seen::Pong(bytes.to_vec()),
                Ok(Some(Incoming::Close(close))) => {
                    Seen::Close(close.code.map(|code| code.0), close.reason.to_owned())
                }
                Err(error) => {
                    seen.push(Seen::Error(error));
                    assert!(reader.is_closed());
                    return seen;
                }
            });
            assert!(
                before < at && at <= read.len(),
                "an event takes bytes of the input"
            );
            assert!(
                reader.held_bytes() <= 2 * BOUNDS.message_bytes_max as usize,
                "{}",
                reader.held_bytes()
            );
        }
        assert_eq!(at, read.len(), "without an event everything was taken");
    }
    seen
}

/// The same bytes in reads whose sizes the first bytes pick, byte by byte, and at once, are the same messages.
pub fn frames_in_reads(input: &[u8]) {
    let Some((&[peer, a, b], bytes)) = input.split_first_chunk() else {
        return;
    };
    let peer = if peer % 4 == 0 {
        Peer::Server
    } else {
        Peer::Client
    };
    let whole = read_all(core::iter::once(bytes), peer);
    assert_eq!(read_all(bytes.chunks(1), peer), whole, "byte by byte");
    let mut rest = bytes;
    let mut sizes = [usize::from(a), usize::from(b), 1, usize::from(a ^ b)]
        .into_iter()
        .cycle();
    let reads = core::iter::from_fn(|| {
        let size = sizes.next()?.clamp(1, rest.len().max(1));
        let read = rest.get(..size).filter(|_| !rest.is_empty())?;
        rest = &rest[size..];
        Some(read)
    });
    assert_eq!(read_all(reads, peer), whole, "in reads of {a}, {b}, …");
}

/// [`unmask`] agrees with the naive one, whole and in two pieces.
pub fn mask(input: &[u8]) {
    let Some((&[a, b, c, d, cut], bytes)) = input.split_first_chunk() else {
        return;
    };
    let (key, cut) = ([a, b, c, d], usize::from(cut).min(bytes.len()));
    let (mut naive, mut whole, mut pieces) = (bytes.to_vec(), bytes.to_vec(), bytes.to_vec());
    let next = unmask_naive(&mut naive, key);
    assert_eq!(unmask(&mut whole, key), next);
    assert_eq!(whole, naive);
    let handed_on = unmask(&mut pieces[..cut], key);
    assert_eq!(unmask(&mut pieces[cut..], handed_on), next);
    assert_eq!(pieces, naive);
}

/// [`Utf8`] over pieces agrees with std over the whole.
pub fn utf8(input: &[u8]) {
    let Some((&size, bytes)) = input.split_first() else {
        return;
    };
    for size in [usize::from(size).max(1), 1] {
        let mut utf8 = Utf8::default();
        let valid =
            bytes.chunks(size).all(|piece| utf8.feed(piece).is_ok()) && utf8.finish().is_ok();
        assert_eq!(
            valid,
            core::str::from_utf8(bytes).is_ok(),
            "in pieces of {size}"
        );
    }
}

/// What is accepted as a close frame could be sent back.
pub fn close_frame(input: &[u8]) {
    if let Ok(close) = CloseFrame::parse(input) {
        let mut out = Vec::new();
        crate::ws::encoder::append_close(&mut out, close.code, close.reason);
        if input.len() <= crate::limits::WS_CONTROL_BYTES_MAX {
            assert_eq!(&out[2..], input);
        }
        let _ = retry_ms(close.reason);
    }
}

/// A reason that is made of a number and any words fits into a control frame, gives the number back, and holds as
/// many of the words as fit.
pub fn close_reason(input: &[u8]) {
    let Some((number, words)) = input.split_first_chunk() else {
        return;
    };
    let (number, words) = (u32::from_le_bytes(*number), String::from_utf8_lossy(words));
    let with_number = CloseReason::with_retry_ms(number, &words);
    assert!(with_number.as_str().len() <= CLOSE_REASON_BYTES_MAX);
    assert_eq!(retry_ms(with_number.as_str()), Some(number));
    let alone = CloseReason::new(&words);
    assert!(words.starts_with(alone.as_str()));
    let lacking = words.len() - alone.as_str().len();
    assert!(
        lacking == 0 || alone.as_str().len() + 4 > CLOSE_REASON_BYTES_MAX,
        "only what has no room is cut"
    );
    // What a peer may write into a frame of its own.
    let mut frame = vec![3, 232];
    frame.extend_from_slice(alone.as_str().as_bytes());
    let parsed = CloseFrame::parse(&frame).expect("a code that may be sent, and UTF-8");
    assert_eq!(parsed.reason, alone.as_str());
}
