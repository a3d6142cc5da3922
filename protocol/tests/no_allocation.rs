//! "No allocation on the hot path", counted: once buffers have grown, a message passes through frames, envelope,
//! verification and both codecs without touching the heap.
#![expect(
    unsafe_code,
    reason = "a global allocator that counts can only be written with unsafe"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::codec::json::{JsonDecoder, encode};
use tidegate_protocol::envelope::{BatchReader, append_envelope};
use tidegate_protocol::ws::encoder::{append_client_frame, server_header};
use tidegate_protocol::ws::{Bounds, Incoming, MessageReader, Opcode, Peer};
use tidegate_protocol::{Id, Kind, View, message, verify};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting touches only a thread-local Cell
// without a destructor, which itself allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise about `pointer` and `layout` is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about all three is passed on.
        unsafe { System.realloc(pointer, layout, new_bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Allocations of the second run of the same work, when every buffer has its size.
fn steady_allocations(mut work: impl FnMut()) -> usize {
    work();
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn a_binary_message_is_unmasked_verified_and_read_without_allocating() {
    let mut builder = FlatBufferBuilder::new();
    let (mut envelopes, mut wire, mut input) = (Vec::new(), Vec::new(), Vec::new());
    let mut reader = MessageReader::new(Peer::Client);
    let bounds = Bounds {
        message_bytes_max: 65_536,
    };
    let allocations = steady_allocations(|| {
        envelopes.clear();
        wire.clear();
        input.clear();
        for n in 1..=3 {
            let send = message::Send {
                n,
                conversation: Id(7),
                text: "where is my parcel?",
            };
            append_envelope(&mut envelopes, Kind::Send, n, send.encode(&mut builder));
        }
        append_client_frame(&mut wire, true, Opcode::Binary, &envelopes, [1, 2, 3, 4]);
        append_client_frame(&mut wire, true, Opcode::Ping, b"?", [1, 2, 3, 4]);
        input.extend_from_slice(&wire);
        let (mut at, mut sends, mut pings) = (0, 0, 0);
        while let Some(incoming) = reader.next(&mut input, &mut at, &bounds).expect("valid") {
            let Incoming::Binary(batch) = incoming else {
                pings += 1;
                continue;
            };
            for envelope in BatchReader::new(batch) {
                let envelope = envelope.expect("whole");
                let Ok(View::Send(send)) = verify(Kind::Send, envelope.payload) else {
                    panic!("a Send")
                };
                sends += send.n();
            }
        }
        assert_eq!((sends, pings), (6, 1));
        assert_eq!(server_header(Opcode::Binary, 300).len(), 4);
    });
    assert_eq!(allocations, 0);
}

#[test]
fn a_json_message_is_decoded_and_encoded_without_allocating() {
    let text = r#"[{"kind":"send","n":1,"text":"say \"hi\""},
                   {"kind":"hello","session":"00000000000000ff","token":"t","cursors":[{"seq":1},{"seq":2}]}]"#;
    let mut decoder = JsonDecoder::default();
    let mut out = Vec::new();
    let allocations = steady_allocations(|| {
        out.clear();
        let mut batch = decoder.decode(text);
        while let Some(envelope) = batch.next() {
            let envelope = envelope.expect("valid");
            let kind = Kind::from_u8(envelope.kind).expect("known");
            encode(
                &mut out,
                envelope.timestamp_us,
                &verify(kind, envelope.payload).expect("verifies"),
            );
        }
        assert!(out.ends_with(br#""cursors":[{"seq":1},{"seq":2}]}"#));
    });
    assert_eq!(allocations, 0);
}
