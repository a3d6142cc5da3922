//! The same message in Protocol Buffers, as prost reads and writes it: what one would take instead of FlatBuffers.

use std::hint::black_box;

use prost::Message as _;
use tidegate_protocol::message;

use super::{Step, said, text};

/// The fields of a Message with their types, and what our 13-byte header says. An id is 16 bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Message {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint64, tag = "2")]
    timestamp_us: u64,
    #[prost(bytes = "vec", tag = "3")]
    conversation: Vec<u8>,
    #[prost(uint64, tag = "4")]
    seq: u64,
    #[prost(uint64, tag = "5")]
    at_us: u64,
    #[prost(bytes = "vec", tag = "6")]
    sender: Vec<u8>,
    #[prost(string, tag = "7")]
    sender_name: String,
    #[prost(fixed64, tag = "8")]
    session: u64,
    #[prost(uint64, tag = "9")]
    n: u64,
    #[prost(string, tag = "10")]
    text: String,
}

impl From<message::Message<'_>> for Message {
    fn from(said: message::Message<'_>) -> Self {
        Self {
            kind: 1,
            timestamp_us: 1,
            conversation: said.conversation.0.to_be_bytes().to_vec(),
            seq: said.seq,
            at_us: said.at_us,
            sender: said.sender.0.to_be_bytes().to_vec(),
            sender_name: said.sender_name.to_owned(),
            session: said.session,
            n: said.n,
            text: said.text.to_owned(),
        }
    }
}

pub(super) fn steps(steps: &mut Vec<Step>) {
    let message = Message::from(said(&text()));
    let wire = message.encode_to_vec();
    let bytes = wire.len();
    let what = "Protocol Buffers (prost): read the same Message into a struct";
    steps.push(Step::new("protobuf-read-message", what, bytes, move || {
        black_box(Message::decode(black_box(wire.as_slice())).expect("our own encoding"));
    }));
    let mut out = Vec::new();
    let what = "Protocol Buffers (prost): write the same Message";
    steps.push(Step::new(
        "protobuf-write-message",
        what,
        bytes,
        move || {
            out.clear();
            black_box(&message)
                .encode(&mut out)
                .expect("a vector grows");
        },
    ));
}
