//! The steps of a message's way, each alone: what `tidegate bench parse` times, what criterion watches (`cargo bench
//! --package tidegate-bench`), and whose instructions `scripts/instructions` counts. One list for all three.

#[cfg(feature = "peers")]
mod protobuf;

use std::hint::black_box;

use flatbuffers::FlatBufferBuilder;
use shm_bus::{Claimed, Read, RecordCopy, RecordHeader, RingBacking, ring_pair};
use tidegate_protocol::codec::json::{self, JsonDecoder};
use tidegate_protocol::envelope::{BatchReader, append_envelope};
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::ws::handshake::{Outcome, Policy, parse};
use tidegate_protocol::ws::mask::unmask;
use tidegate_protocol::ws::utf8::Utf8;
use tidegate_protocol::ws::{Bounds, Decoder, FrameHeader, Opcode, Peer};
use tidegate_protocol::{Id, Kind, View, fb, message, token, verify};

use crate::corpus;

/// Text of the message that is read and written: Chinese, at most so many bytes.
pub const TEXT_BYTES: usize = 256;
/// The step that has a target.
pub const READ_MESSAGE: &str = "fb-read-message";

/// One step.
pub struct Step {
    /// A word that can be typed, and that the recorded counts are kept by.
    pub name: &'static str,
    /// What it does.
    pub what: String,
    /// Bytes that it goes through; 0 where that says nothing.
    pub bytes: usize,
    run: Box<dyn FnMut()>,
}

impl Step {
    fn new(
        name: &'static str,
        what: impl Into<String>,
        bytes: usize,
        run: impl FnMut() + 'static,
    ) -> Self {
        Self {
            name,
            what: what.into(),
            bytes,
            run: Box::new(run),
        }
    }

    /// Does it once.
    #[inline]
    pub fn run(&mut self) {
        (self.run)();
    }
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// All of them, in the order in which a message meets them.
#[must_use]
pub fn all() -> Vec<Step> {
    let mut steps = Vec::new();
    connections(&mut steps);
    frames(&mut steps);
    flat_messages(&mut steps);
    json_messages(&mut steps);
    #[cfg(feature = "peers")]
    protobuf::steps(&mut steps);
    rings(&mut steps);
    steps
}

/// A message from an agent, as a visitor gets it.
fn said(text: &str) -> message::Message<'_> {
    message::Message {
        conversation: Id(5 << 64),
        seq: 4,
        at_us: 1_732_000_000_000_000,
        sender: Id(8 << 64),
        sender_name: "客服小林",
        session: 7 << 32,
        n: 3,
        text,
        ..Default::default()
    }
}

/// As near to [`TEXT_BYTES`] as whole lines of the corpus come.
fn text() -> String {
    let starts = 0..corpus::lines().len();
    let texts = starts.map(|first| corpus::text_of(first, TEXT_BYTES));
    texts.max_by_key(String::len).unwrap_or_default()
}

fn connections(steps: &mut Vec<Step>) {
    let request = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:8601\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Origin: https://shop.example\r\nSec-WebSocket-Protocol: tidegate.v1.fb\r\n\
        Accept-Language: zh-CN,zh;q=0.9\r\nCache-Control: no-cache\r\n\r\n";
    let policy = Policy {
        allowed_origins: vec!["https://shop.example".into()],
        ..Policy::default()
    };
    let mut answer = Vec::new();
    let what = "read a handshake and write its answer";
    steps.push(Step::new("handshake", what, request.len(), move || {
        answer.clear();
        let Outcome::Upgrade(upgrade) = parse(black_box(request), 0, &policy) else {
            unreachable!("a sound request")
        };
        upgrade.append_response(&mut answer);
    }));
    let key = token::Key::new([7; 32]);
    let claims = token::Claims {
        sub: Id(7),
        role: fb::Role::Visitor,
        wid: 1,
        name: "Visitor".into(),
        sid: 1,
        iat: 0,
        exp: u64::MAX,
    };
    let minted = token::mint(&claims, &key);
    steps.push(Step::new(
        "token",
        "verify a token",
        minted.len(),
        move || {
            black_box(token::verify(black_box(&minted), &key, 5).expect("valid"));
        },
    ));
}

fn frames(steps: &mut Vec<Step>) {
    let mut wire = Vec::new();
    append_client_frame(&mut wire, true, Opcode::Binary, &[0; 300], [1, 2, 3, 4]);
    let what = "read a frame's header";
    steps.push(Step::new("frame-header", what, 8, move || {
        black_box(FrameHeader::parse(black_box(&wire), Peer::Client)).expect("a sound header");
    }));
    for (name, bytes) in [
        ("unmask-128", 128),
        ("unmask-1k", 1_024),
        ("unmask-16k", 16_384),
    ] {
        let mut payload = vec![b'x'; bytes];
        let what = format!("unmask {bytes} B in place");
        steps.push(Step::new(name, what, bytes, move || {
            black_box(unmask(black_box(&mut payload), [1, 2, 3, 4]));
        }));
    }
    let texts = [
        ("utf8-ascii-1k", "ASCII", "x".repeat(1_024)),
        ("utf8-chinese-1k", "Chinese", corpus::text_of(0, 1_024)),
    ];
    for (name, kind, text) in texts {
        let what = format!("check the UTF-8 of {} B of {kind}", text.len());
        steps.push(Step::new(name, what, text.len(), move || {
            let mut utf8 = Utf8::default();
            utf8.feed(black_box(text.as_bytes())).expect("valid");
            utf8.finish().expect("whole");
        }));
    }
    let bounds = Bounds {
        message_bytes_max: 1 << 20,
    };
    for (name, opcode) in [
        ("frame-binary-1k", Opcode::Binary),
        ("frame-text-1k", Opcode::Text),
    ] {
        let mut wire = Vec::new();
        append_client_frame(&mut wire, true, opcode, &[b'x'; 1_024], [1, 2, 3, 4]);
        let (mut input, mut decoder) = (wire.clone(), Decoder::new(Peer::Client));
        let what = format!("copy a {opcode:?} frame of 1,024 B and decode it");
        steps.push(Step::new(name, what, 1_024, move || {
            input.copy_from_slice(&wire);
            black_box(decoder.decode(&mut input, &bounds).expect("valid"));
        }));
    }
}

fn flat_messages(steps: &mut Vec<Step>) {
    let (text, mut builder) = (text(), FlatBufferBuilder::new());
    let mut envelope = Vec::new();
    append_envelope(
        &mut envelope,
        Kind::Message,
        1,
        said(&text).encode(&mut builder),
    );
    let what = format!(
        "FlatBuffers: header, verification and fields of a Message, {} B of text",
        text.len()
    );
    steps.push(Step::new(READ_MESSAGE, what, envelope.len(), move || {
        let envelope = BatchReader::new(black_box(&envelope));
        let envelope = envelope.into_iter().next().expect("one").expect("whole");
        let Ok(View::Message(said)) = verify(Kind::Message, envelope.payload) else {
            unreachable!("our own encoding")
        };
        black_box((
            said.seq(),
            said.n(),
            said.session(),
            said.text(),
            said.conversation(),
        ));
    }));
    let (text, mut builder, mut out) = (self::text(), FlatBufferBuilder::new(), Vec::new());
    let what = "FlatBuffers: write the same";
    steps.push(Step::new("fb-write-message", what, text.len(), move || {
        out.clear();
        append_envelope(
            &mut out,
            Kind::Message,
            1,
            black_box(said(&text)).encode(&mut builder),
        );
        black_box(&out);
    }));
    let (text, mut builder, mut envelope) = (self::text(), FlatBufferBuilder::new(), Vec::new());
    let send = message::Send {
        n: 3,
        conversation: Id(7),
        text: &text,
    };
    append_envelope(&mut envelope, Kind::Send, 1, send.encode(&mut builder));
    let what = format!(
        "FlatBuffers: header, verification and fields of a Send, {} B of text",
        text.len()
    );
    steps.push(Step::new("fb-read-send", what, envelope.len(), move || {
        let envelope = BatchReader::new(black_box(&envelope));
        let envelope = envelope.into_iter().next().expect("one").expect("whole");
        let Ok(View::Send(send)) = verify(Kind::Send, envelope.payload) else {
            unreachable!("our own encoding")
        };
        black_box((send.n(), send.text(), send.conversation()));
    }));
}

fn json_messages(steps: &mut Vec<Step>) {
    let (text, mut builder, mut typed) = (text(), FlatBufferBuilder::new(), Vec::new());
    let payload = said(&text).encode(&mut builder).to_vec();
    let view = verify(Kind::Message, &payload).expect("our own encoding");
    json::encode(&mut typed, 1, &view);
    let what = "JSON: write the same Message";
    steps.push(Step::new("json-write-message", what, typed.len(), {
        let (payload, mut out) = (payload.clone(), Vec::new());
        move || {
            out.clear();
            let view = verify(Kind::Message, black_box(&payload)).expect("our own encoding");
            json::encode(&mut out, 1, &view);
        }
    }));
    let mut sent = Vec::new();
    let send = message::Send {
        n: 3,
        conversation: Id(7),
        text: &text,
    };
    let payload = send.encode(&mut builder).to_vec();
    json::encode(
        &mut sent,
        1,
        &verify(Kind::Send, &payload).expect("our own encoding"),
    );
    for (name, kind, typed) in [
        ("json-read-message", "Message", typed),
        ("json-read-send", "Send", sent),
    ] {
        let typed = String::from_utf8(typed).expect("JSON is text");
        let mut decoder = JsonDecoder::default();
        let what = format!("JSON: read the same {kind} into FlatBuffers");
        steps.push(Step::new(name, what, typed.len(), move || {
            black_box(
                decoder
                    .decode(black_box(&typed))
                    .next()
                    .expect("one")
                    .expect("valid"),
            );
        }));
    }
}

fn rings(steps: &mut Vec<Step>) {
    const RING_BYTES: usize = 64 * 1024;
    const PAYLOAD_BYTES: usize = 464;
    let (mut producer, mut consumer) =
        ring_pair(RING_BYTES, RING_BYTES / 4, &RingBacking::Heap).expect("sizes within bounds");
    let (payload, mut copy) = ([0x5a; PAYLOAD_BYTES], RecordCopy::default());
    let what = "claim, fill and commit a record of 512 B, copy it out, release it; one thread";
    steps.push(Step::new("ring-record", what, 512, move || {
        let Ok(Claimed::Claimed(mut claim)) = producer.claim(PAYLOAD_BYTES) else {
            unreachable!("an empty ring")
        };
        claim.payload_mut().copy_from_slice(black_box(&payload));
        claim.commit(RecordHeader {
            kind: 1,
            ..RecordHeader::default()
        });
        let Read::Record(header) = consumer.next(&mut copy) else {
            unreachable!("one record")
        };
        black_box((header, copy.payload()));
        consumer.release_to(consumer.position());
    }));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_step_runs_and_has_a_name_of_its_own() {
        let mut steps = all();
        // Often enough for the ring to wrap.
        for step in &mut steps {
            (0..500).for_each(|_| step.run());
        }
        let names: BTreeSet<_> = steps.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), steps.len());
        assert!(names.contains(READ_MESSAGE));
    }
}
