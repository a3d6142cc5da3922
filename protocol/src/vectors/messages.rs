//! `envelopes.json`: every field of every kind, absent fields, and text that needs care.

use flatbuffers::FlatBufferBuilder;

use super::{compare_or_update, hex};
use crate::codec::json::{self, JsonDecoder};
use crate::envelope::{BatchReader, Kind, append_envelope, verify};
use crate::fb;
use crate::fuzzing::codecs::verifiers_agree;
use crate::id::Id;
use crate::message::*;

const TS: u64 = 1_732_000_000_123_456;
const AT: u64 = 1_732_000_000_000_000;
const CONVERSATION: Id = Id(0x0193_3a5c_0e00_7abc_8def_0123_4567_89ab);
const VISITOR: Id = Id(0x0193_3a5c_0e01_7abc_8def_0123_4567_89ac);
const AGENT: Id = Id(0x0193_3a5c_0e02_7abc_8def_0123_4567_89ad);
const SESSION: u64 = 0xfedc_ba98_7654_3210;

struct Vector {
    name: String,
    kind: Kind,
    timestamp_us: u64,
    payload: Vec<u8>,
}

/// One vector for each message given, named by its kind and `variant`.
macro_rules! vectors {
    ($($variant:literal $kind:ident { $($body:tt)* })*) => {
        vec![$({
            let message = $kind { $($body)* };
            Vector {
                name: format!("{}, {}", Kind::$kind.name(), $variant),
                kind: Kind::$kind,
                timestamp_us: if $variant == "empty" { 0 } else { TS },
                payload: message.encode(&mut FlatBufferBuilder::new()).to_vec(),
            }
        }),*]
    };
}

fn full_state() -> ConversationState<'static> {
    ConversationState {
        request: 9,
        conversation: CONVERSATION,
        incarnation: 3,
        status: fb::ConversationStatus::Closed,
        close_reason: fb::CloseReason::ByAgent,
        seq: 41,
        visitor: VISITOR,
        visitor_name: "访客 8812",
        visitor_online: true,
        agent: AGENT,
        agent_name: "Ann",
        opened_at_us: AT,
        assigned_at_us: AT + 1,
        closed_at_us: AT + 2,
        visitor_delivered: 40,
        visitor_read: 39,
        agent_delivered: 38,
        agent_read: 37,
        position: 4,
        eta_ms: 90_000,
        unanswered_since_us: AT + 3,
        last_text: "thanks",
        last_at_us: AT + 4,
        page: "https://shop.example/item/7",
        mine: false,
        queue_ticket: 1_732_000_000_000_008,
    }
}

fn all() -> Vec<Vector> {
    let waiting = ConversationState {
        conversation: CONVERSATION,
        position: 1,
        ..Default::default()
    };
    vectors! {
        "empty" Hello { ..Default::default() }
        "every field" Hello {
            request: 1,
            token: "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.c2ln",
            session: SESSION,
            family: fb::Family::App,
            locale: "zh-CN",
            cursors: &[
                Cursor { conversation: CONVERSATION, incarnation: 3, seq: 41 },
                Cursor { conversation: AGENT, incarnation: 0, seq: 0 },
            ],
            ticket: "ticket",
            page: "https://shop.example/item/7?from=sale",
            connection: 9,
        }
        "a small session keeps its leading zeros" Hello { session: 5, ..Default::default() }
        "empty" Ping { request: 0 }
        "every field" Ping { request: 7 }
        "empty" Send { ..Default::default() }
        "every field" Send { n: 1, conversation: CONVERSATION, text: "hi" }
        "text that JSON escapes" Send { n: 2, text: "\"\\/\u{8}\u{c}\n\r\t\u{0}\u{1f}\u{7f}\u{2028}", ..Default::default() }
        "text of every width" Send { n: 3, text: "aé漢😀", ..Default::default() }
        "the largest number of JSON" Send { n: (1 << 53) - 1, text: "x", ..Default::default() }
        "empty" Ack { ..Default::default() }
        "every field" Ack { conversation: CONVERSATION, delivered: 41, read: 40 }
        "empty" Typing { ..Default::default() }
        "every field" Typing { conversation: CONVERSATION, active: true }
        "empty" Command { ..Default::default() }
        "every field" Command {
            request: 8,
            op: fb::CommandOp::Transfer,
            conversation: CONVERSATION,
            agent: AGENT,
            status: fb::AgentStatus::Online,
        }
        "empty" Welcome { ..Default::default() }
        "every field" Welcome {
            request: 1,
            principal: VISITOR,
            role: fb::Role::Agent,
            name: "访客 8812",
            heartbeat_ms: 60_000,
            last_n: 12,
            conversations: &[
                Resumed { state: full_state(), recovered: true },
                Resumed { state: waiting, recovered: false },
            ],
            agents_online: 20,
            status: fb::AgentStatus::Away,
            capacity: 5,
        }
        "empty" Pong { request: 0 }
        "every field" Pong { request: 7 }
        "empty" SendResult { ..Default::default() }
        "every field" SendResult {
            n: 3,
            outcome: fb::SendOutcome::Refused,
            conversation: CONVERSATION,
            seq: 42,
            at_us: AT,
            expected_n: 2,
            retry_ms: 1500,
            reason: fb::Reason::MessageTooLong,
            detail: "at most 16384 bytes",
        }
        "empty" Message { ..Default::default() }
        "every field" Message {
            conversation: CONVERSATION,
            seq: 42,
            at_us: AT,
            sender_role: fb::Role::System,
            sender: AGENT,
            sender_name: "Ann",
            session: SESSION,
            n: 3,
            content: fb::ContentType::System,
            text: "您好",
            system: fb::SystemEvent::AgentJoined,
            close_reason: fb::CloseReason::Abandoned,
        }
        "empty" ConversationState { ..Default::default() }
        "every field" ConversationState { ..full_state() }
        "empty" Receipt { ..Default::default() }
        "every field" Receipt { conversation: CONVERSATION, side: fb::Side::Agent, delivered: 41, read: 40 }
        "empty" TypingNotice { ..Default::default() }
        "every field" TypingNotice {
            conversation: CONVERSATION,
            side: fb::Side::Agent,
            name: "Ann",
            active: true,
        }
        "empty" QueueUpdate { ..Default::default() }
        "every field" QueueUpdate {
            conversation: CONVERSATION,
            position: 4,
            eta_ms: 90_000,
            waiting: 17,
            agents_online: 2,
            longest_wait_ms: u32::MAX,
            marks: &[
                QueueMark { place: 1, ticket: 1_732_000_000_000_005 },
                QueueMark { place: 17, ticket: 1_732_000_000_000_040 },
            ],
            each_ms: 22_500,
        }
        "empty" Presence { ..Default::default() }
        "every field" Presence {
            request: 8,
            agent: AGENT,
            name: "Ann",
            status: fb::AgentStatus::Online,
            open: 3,
            capacity: 5,
        }
        "empty" Error { ..Default::default() }
        "every field" Error {
            request: 8,
            reason: fb::Reason::UnknownField,
            field: "n",
            detail: "expected a whole number in its range at byte 20",
            retry_ms: 100,
        }
        "empty" Wait { ..Default::default() }
        "every field" Wait {
            place: 81_234,
            rate_per_s: 500,
            next_ms: 30_000,
            ticket: "ticket",
            eta_ms: 162_468,
        }
        "empty" Goaway { ..Default::default() }
        "every field" Goaway { retry_ms: 2500 }
        "empty" Admitted { ..Default::default() }
        "every field" Admitted { ticket: "ticket" }
    }
}

fn json_of(vector: &Vector) -> String {
    let mut text = Vec::new();
    let view = verify(vector.kind, &vector.payload).expect("our own encoding");
    json::encode(&mut text, vector.timestamp_us, &view);
    String::from_utf8(text).expect("JSON is UTF-8")
}

#[test]
fn what_rust_writes_is_what_the_vectors_hold() {
    let mut file = String::from("[\n");
    for (index, vector) in all().iter().enumerate() {
        let mut envelope = Vec::new();
        append_envelope(
            &mut envelope,
            vector.kind,
            vector.timestamp_us,
            &vector.payload,
        );
        file.push_str(if index == 0 { "" } else { ",\n" });
        file.push_str(&format!(
            "{{\"name\":\"{}\",\"kind\":{},\"ts\":{},\"json\":{},\n \"envelope_hex\":\"{}\"}}",
            vector.name,
            vector.kind as u8,
            vector.timestamp_us,
            json_of(vector),
            hex(&envelope)
        ));
    }
    file.push_str("\n]\n");
    let parsed: serde_json::Value =
        serde_json::from_str(&file).expect("the file is JSON to any other reader");
    assert_eq!(parsed.as_array().map(Vec::len), Some(all().len()));
    compare_or_update("envelopes.json", &file);
}

#[test]
fn the_json_of_every_vector_decodes_to_the_same_payload_byte_for_byte() {
    let mut decoder = JsonDecoder::default();
    for vector in all() {
        let text = json_of(&vector);
        let mut batch = decoder.decode(&text);
        let envelope = batch
            .next()
            .expect("one message")
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(envelope.payload, vector.payload, "{text}");
        assert_eq!(
            (envelope.kind, envelope.timestamp_us),
            (vector.kind as u8, vector.timestamp_us)
        );
        assert!(batch.next().is_none());
    }
}

#[test]
fn every_field_of_every_table_stands_in_a_vector() {
    let texts: Vec<_> = all()
        .iter()
        .map(|vector| (vector.kind, json_of(vector)))
        .collect();
    for &kind in Kind::ALL {
        for field in kind.table().fields {
            let member = format!("\"{}\":", field.name);
            assert!(
                texts
                    .iter()
                    .any(|(k, text)| *k == kind && text.contains(&member)),
                "{kind:?} {member}"
            );
        }
    }
}

#[test]
fn all_vectors_in_one_batch_and_in_one_array_come_back_in_order() {
    let vectors = all();
    let mut binary = Vec::new();
    for vector in &vectors {
        append_envelope(
            &mut binary,
            vector.kind,
            vector.timestamp_us,
            &vector.payload,
        );
    }
    let read: Vec<_> = BatchReader::new(&binary)
        .map(|envelope| envelope.expect("whole").kind)
        .collect();
    assert_eq!(
        read,
        vectors
            .iter()
            .map(|vector| vector.kind as u8)
            .collect::<Vec<_>>()
    );

    let text = format!(
        "[{}]",
        vectors.iter().map(json_of).collect::<Vec<_>>().join(",")
    );
    let mut decoder = JsonDecoder::default();
    let mut batch = decoder.decode(&text);
    for vector in &vectors {
        assert_eq!(
            batch.next().expect("there").expect("valid").payload,
            vector.payload
        );
    }
    assert!(batch.next().is_none());
}

#[test]
fn a_payload_is_verified_and_read_at_any_address() {
    for vector in all() {
        for offset in 0..16 {
            let mut bytes = vec![0xff; offset];
            bytes.extend_from_slice(&vector.payload);
            let view = verify(vector.kind, &bytes[offset..])
                .expect("alignment is relative to the payload");
            let mut text = Vec::new();
            json::encode(&mut text, vector.timestamp_us, &view);
            assert_eq!(text, json_of(&vector).into_bytes());
        }
    }
}

#[test]
fn the_table_driven_encoder_lays_out_bytes_as_the_generated_one() {
    let mut generated = FlatBufferBuilder::new();
    let (sender_name, text) = (
        generated.create_string("Ann"),
        generated.create_string("hi"),
    );
    let args = fb::MessageArgs {
        conversation: Some(&CONVERSATION.into()),
        seq: 42,
        at_us: AT,
        sender_role: fb::Role::Agent,
        sender: Some(&AGENT.into()),
        sender_name: Some(sender_name),
        session: SESSION,
        n: 3,
        content: fb::ContentType::System,
        text: Some(text),
        system: fb::SystemEvent::Closed,
        close_reason: fb::CloseReason::ByAgent,
    };
    let root = fb::Message::create(&mut generated, &args);
    generated.finish_minimal(root);
    let message = Message {
        conversation: CONVERSATION,
        seq: 42,
        at_us: AT,
        sender_role: fb::Role::Agent,
        sender: AGENT,
        sender_name: "Ann",
        session: SESSION,
        n: 3,
        content: fb::ContentType::System,
        text: "hi",
        system: fb::SystemEvent::Closed,
        close_reason: fb::CloseReason::ByAgent,
    };
    assert_eq!(
        message.encode(&mut FlatBufferBuilder::new()),
        generated.finished_data()
    );
}

/// Each vector with each byte changed, as its own kind and as each other one.
#[test]
fn our_verifier_takes_what_that_of_the_flatbuffers_crate_takes() {
    for vector in all() {
        for &kind in Kind::ALL {
            verifiers_agree(kind, &vector.payload);
        }
        for at in 0..vector.payload.len() {
            for value in [0, 1, 2, 4, 7, 0x10, 0x7f, 0x80, 0xff] {
                let mut changed = vector.payload.clone();
                changed[at] = value;
                verifiers_agree(vector.kind, &changed);
            }
            verifiers_agree(vector.kind, &vector.payload[..at]);
        }
    }
}
