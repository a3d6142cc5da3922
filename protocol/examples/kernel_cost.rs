//! What do the steps of a message cost in this crate, one by one? Prints nanoseconds, the best of several rounds.
//!
//! `taskset -c 0 cargo run --profile fast -p tidegate-protocol --example kernel_cost`

#![expect(
    clippy::disallowed_methods,
    reason = "the crate has no clock; what measures it has one"
)]

use std::hint::black_box;
use std::time::Instant;

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::codec::json::{self, JsonDecoder};
use tidegate_protocol::envelope::{BatchReader, append_envelope};
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::ws::handshake::{Outcome, Policy, parse};
use tidegate_protocol::ws::mask::unmask;
use tidegate_protocol::ws::{Bounds, Decoder, Opcode, Peer};
use tidegate_protocol::{Id, Kind, View, fb, message, token, verify};

const ROUNDS: u32 = 9;
const ROUND_MS: u128 = 20;

fn measure(what: &str, mut step: impl FnMut()) {
    let mut best_ns = f64::INFINITY;
    for _ in 0..ROUNDS {
        let (start, mut steps) = (Instant::now(), 0_u32);
        while start.elapsed().as_millis() < ROUND_MS {
            (0..100).for_each(|_| step());
            steps += 100;
        }
        best_ns = best_ns.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(steps));
    }
    println!("{what:56} {best_ns:8.1} ns");
}

fn main() {
    frames();
    messages();
    connections();
}

fn frames() {
    let bounds = Bounds {
        message_bytes_max: 1 << 20,
    };
    for bytes in [128, 1024, 16_384] {
        let mut payload = vec![b'x'; bytes];
        measure(&format!("unmask {bytes} B in place"), || {
            black_box(unmask(black_box(&mut payload), [1, 2, 3, 4]));
        });
        for opcode in [Opcode::Binary, Opcode::Text] {
            let mut wire = Vec::new();
            append_client_frame(&mut wire, true, opcode, &payload, [1, 2, 3, 4]);
            let (mut input, mut decoder) = (wire.clone(), Decoder::new(Peer::Client));
            measure(
                &format!("copy a {opcode:?} frame of {bytes} B and decode it"),
                || {
                    input.copy_from_slice(&wire);
                    black_box(decoder.decode(&mut input, &bounds).expect("valid"));
                },
            );
        }
    }
}

fn messages() {
    let text = "x".repeat(200);
    let mut builder = FlatBufferBuilder::new();
    let said = message::Message {
        conversation: Id(5),
        seq: 4,
        at_us: 9,
        sender: Id(8),
        sender_name: "Ann",
        session: 7,
        n: 3,
        text: &text,
        ..Default::default()
    };
    measure("encode a Message of 200 B of text", || {
        black_box(said.encode(&mut builder));
    });
    let (mut message_envelope, mut send_envelope) = (Vec::new(), Vec::new());
    append_envelope(
        &mut message_envelope,
        Kind::Message,
        1,
        said.encode(&mut builder),
    );
    let send = message::Send {
        n: 3,
        conversation: Id(7),
        text: &text,
    };
    append_envelope(&mut send_envelope, Kind::Send, 1, send.encode(&mut builder));
    measure("header, verification and fields of the Message", || {
        let envelope = BatchReader::new(black_box(&message_envelope))
            .next()
            .expect("one")
            .expect("whole");
        let Ok(View::Message(said)) = verify(Kind::Message, envelope.payload) else {
            unreachable!()
        };
        black_box((
            said.seq(),
            said.n(),
            said.session(),
            said.text(),
            said.conversation(),
        ));
    });
    measure("header, verification and fields of a Send", || {
        let envelope = BatchReader::new(black_box(&send_envelope))
            .next()
            .expect("one")
            .expect("whole");
        let Ok(View::Send(send)) = verify(Kind::Send, envelope.payload) else {
            unreachable!()
        };
        black_box((send.n(), send.text(), send.conversation()));
    });
    let (mut out, mut decoder) = (Vec::new(), JsonDecoder::default());
    let payload = said.encode(&mut builder).to_vec();
    let view = verify(Kind::Message, &payload).expect("our own encoding");
    measure("write the Message as JSON", || {
        out.clear();
        json::encode(&mut out, 1, black_box(&view));
    });
    let typed =
        r#"{"kind":"send","ts":1732000000000000,"n":1,"text":"hi there, where is my parcel?"}"#;
    measure("read a Send from JSON to FlatBuffers", || {
        black_box(
            decoder
                .decode(black_box(typed))
                .next()
                .expect("one")
                .expect("valid"),
        );
    });
}

fn connections() {
    let request = b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:8601\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Origin: https://shop.example\r\nSec-WebSocket-Protocol: tidegate.v1.fb\r\n\
        Accept-Language: zh-CN,zh;q=0.9\r\nCache-Control: no-cache\r\n\r\n";
    let policy = Policy {
        allowed_origins: vec!["https://shop.example".into()],
        ..Policy::default()
    };
    let mut answer = Vec::new();
    measure("read a handshake and write its answer", || {
        answer.clear();
        let Outcome::Upgrade(upgrade) = parse(black_box(request), 0, &policy) else {
            unreachable!()
        };
        upgrade.append_response(&mut answer);
    });
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
    measure("verify a token", || {
        black_box(token::verify(black_box(&minted), &key, 5).expect("valid"));
    });
}
