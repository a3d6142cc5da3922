//! From the backend's records to frames.

use super::super::counters::Tally;
use super::stage::*;
use crate::service::{CloseCause, Codec, Service as _, Told};
use shm_bus::RecordHeader;
use tidegate_protocol::bus::{
    self, BROADCAST, BroadcastFilter, CLOSE, CLOSED, CloseRecord, ClosedCause, ClosedRecord, DRAIN,
    ENVELOPE_DOWN, JOINS_QUEUE, LEAVES_QUEUE, MULTICAST, MulticastTarget, multicast_bytes,
    write_multicast,
};
use tidegate_protocol::{Kind, fb, message};
use zerocopy::IntoBytes as _;

fn receipt(delivered: u64) -> Vec<u8> {
    message::Receipt {
        delivered,
        ..Default::default()
    }
    .encode(&mut flatbuffers::FlatBufferBuilder::new())
    .to_vec()
}

fn header(kind: u16, envelope: Kind) -> RecordHeader {
    RecordHeader {
        kind,
        flags: envelope as u16,
        trace: START.us() + 5,
        ..RecordHeader::default()
    }
}

fn json_connection(stage: &mut Stage, slot: u32) {
    stage.upgrade(id(slot, 1), Codec::Json);
    let token = token_of(VISITOR, fb::Role::Visitor, "");
    stage.say_json(
        id(slot, 1),
        &format!(r#"{{"kind":"hello","token":"{token}","session":"0000000000000007"}}"#),
    );
}

#[test]
fn an_envelope_reaches_its_connection_in_its_codec_with_the_backends_time() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    json_connection(&mut stage, 1);
    stage.place_envelope(id(0, 1), Kind::Receipt, &receipt(3));
    stage.place_envelope(id(1, 1), Kind::Receipt, &receipt(4));
    stage.turn();
    let (_, is_text, bytes) = &stage.io.frames[0];
    assert!(!is_text && bytes[0] == Kind::Receipt as u8);
    assert_eq!(bytes[1..9], (START.us() + 5).to_le_bytes());
    let heard = stage.heard(id(1, 1));
    assert_eq!(
        heard,
        [format!(
            r#"{{"kind":"receipt","ts":{},"side":"visitor","delivered":4}}"#,
            START.us() + 5
        )]
    );
}

#[test]
fn a_reused_slot_is_never_hit() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.place_envelope(id(0, 1), Kind::Receipt, &receipt(3));
    assert_eq!(stage.close(id(0, 1), CloseCause::Gone), Told::Now);
    stage.greet(id(0, 2), AGENT, fb::Role::Agent);
    stage.turn();
    assert!(stage.io.frames.is_empty());
    assert_eq!(stage.chat.counted(Tally::StaleDown), 1);
}

#[test]
fn a_multicast_is_encoded_once_per_codec_and_its_bytes_are_shared() {
    let mut stage = Stage::new();
    for slot in 0..10 {
        stage.greet(id(slot, 1), VISITOR, fb::Role::Visitor);
    }
    for slot in 10..20 {
        json_connection(&mut stage, slot);
    }
    let targets: Vec<_> = (0..25)
        .map(|slot| MulticastTarget {
            slot,
            generation: 1,
        })
        .collect();
    let payload = receipt(3);
    let mut bytes = vec![0; multicast_bytes(targets.len(), payload.len())];
    write_multicast(&mut bytes, &targets, &payload);
    stage.place(header(MULTICAST, Kind::Receipt), &bytes);
    stage.turn();
    assert_eq!(stage.io.frames.len(), 20);
    let mut frames = std::mem::take(&mut stage.io.shared);
    frames.sort();
    frames.dedup();
    assert_eq!(frames.len(), 2);
    assert_eq!(stage.chat.counted(Tally::StaleDown), 5);
}

#[test]
fn a_broadcast_reaches_whom_its_filter_names_and_is_spread_over_turns() {
    let mut stage = Stage::new();
    for slot in 0..10_000 {
        let role = if slot % 100 == 0 {
            fb::Role::Agent
        } else {
            fb::Role::Visitor
        };
        stage.greet(id(slot, 1), VISITOR, role);
        if slot % 1_000 == 0 {
            stage.take_all();
        }
    }
    let broadcast = |role_mask, widget| {
        let mut bytes = BroadcastFilter {
            role_mask,
            widget,
            ..Default::default()
        }
        .as_bytes()
        .to_vec();
        bytes.extend(receipt(3));
        bytes
    };
    stage.place(
        header(BROADCAST, Kind::Receipt),
        &broadcast(1 << fb::Role::Agent.0, 0),
    );
    stage.turn();
    assert!(
        !stage.chat.before_sleep(),
        "a fan-out under way keeps the shard awake"
    );
    for _ in 0..5 {
        stage.turn();
    }
    assert_eq!(stage.io.frames.len(), 100);
    assert!(stage.chat.before_sleep());
    stage.place(header(BROADCAST, Kind::Receipt), &broadcast(0xff, 2));
    for _ in 0..5 {
        stage.turn();
    }
    assert_eq!(
        stage.io.frames.len(),
        200,
        "of another widget are all visitors, and staff has none"
    );
}

#[test]
fn the_queues_numbers_reach_those_who_wait_in_it_and_nobody_else() {
    let mut stage = Stage::new();
    for slot in 0..4 {
        stage.greet(id(slot, 1), VISITOR, fb::Role::Visitor);
    }
    let tell = |stage: &mut Stage, slot, flag| {
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let state = message::ConversationState::default().encode(&mut builder);
        let mut header = header(ENVELOPE_DOWN, Kind::ConversationState);
        (header.slot, header.generation) = (slot, 1);
        header.flags |= flag;
        stage.place(header, state);
    };
    tell(&mut stage, 1, JOINS_QUEUE);
    tell(&mut stage, 2, JOINS_QUEUE);
    tell(&mut stage, 3, 0);
    tell(&mut stage, 2, LEAVES_QUEUE);
    stage.turn();
    for slot in 0..4 {
        stage.heard(id(slot, 1));
    }
    let mut broadcast = BroadcastFilter {
        role_mask: 1 << fb::Role::Visitor.0,
        queued: 1,
        ..Default::default()
    }
    .as_bytes()
    .to_vec();
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    broadcast.extend(message::QueueUpdate::default().encode(&mut builder));
    stage.place(header(BROADCAST, Kind::QueueUpdate), &broadcast);
    stage.turn();
    stage.turn();
    let heard: Vec<usize> = (0..4).map(|slot| stage.heard(id(slot, 1)).len()).collect();
    assert_eq!(heard, [0, 1, 0, 0]);
}

#[test]
fn a_close_record_closes_with_its_code_and_the_end_is_told_as_the_backends() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.take_all();
    let close = |stage: &mut Stage, slot, code, retry_ms| {
        let record = CloseRecord {
            code,
            reserved: 0,
            retry_ms,
        };
        let header = RecordHeader {
            kind: CLOSE,
            slot,
            generation: 1,
            ..RecordHeader::default()
        };
        stage.place(header, record.as_bytes());
        stage.turn();
    };
    close(&mut stage, 0, 4501, 0);
    assert_eq!(stage.io.closes, [(id(0, 1), 4501, "superseded".to_owned())]);
    stage.close(id(0, 1), CloseCause::Service { code: 4501 });
    let taken = stage.take_all();
    assert!(taken[0].is(CLOSED, id(0, 1)));
    let (record, _) = bus::read_fixed::<ClosedRecord>(&taken[0].payload).unwrap();
    assert_eq!(
        (record.code, ClosedCause::from_u8(record.cause)),
        (4501, ClosedCause::ByBackend)
    );
    stage.greet(id(1, 1), VISITOR, fb::Role::Visitor);
    close(&mut stage, 1, 4000, 1_500);
    assert_eq!(stage.io.closes[1].2, "retry_ms=1500 try_again");
    stage.greet(id(2, 1), VISITOR, fb::Role::Visitor);
    close(&mut stage, 2, 1006, 0);
    assert_eq!(
        stage.io.closes.len(),
        2,
        "a code that may not be sent is not"
    );
    assert_eq!(stage.chat.counted(Tally::BadRecords), 1);
}

#[test]
fn a_drain_says_goaway_to_all_with_jitter_and_closes() {
    let mut stage = Stage::new();
    for slot in 0..50 {
        stage.greet(id(slot, 1), VISITOR, fb::Role::Visitor);
    }
    stage.place(
        RecordHeader {
            kind: DRAIN,
            ..RecordHeader::default()
        },
        &[],
    );
    stage.turn();
    stage.turn();
    assert_eq!(stage.io.closes.len(), 50);
    assert!(stage.io.closes.iter().all(|(_, code, _)| *code == 4005));
    let mut retries: Vec<String> = (0..50).flat_map(|slot| stage.heard(id(slot, 1))).collect();
    assert!(retries.iter().all(|text| text.contains("goaway")));
    retries.sort();
    retries.dedup();
    assert!(retries.len() > 25, "jittered");
}

#[test]
fn records_that_hold_nonsense_are_counted_and_hurt_nobody() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    json_connection(&mut stage, 1);
    stage.place_envelope(id(0, 1), Kind::Send, b"leads the other way");
    stage.place_envelope(id(1, 1), Kind::Receipt, b"not a table");
    stage.place(header(MULTICAST, Kind::Receipt), b"\xff\xff\xff\xff");
    stage.place(header(BROADCAST, Kind::Receipt), b"x");
    stage.place(header(CLOSE, Kind::Receipt), b"x");
    stage.place(
        RecordHeader {
            kind: 999,
            ..RecordHeader::default()
        },
        b"from a newer backend",
    );
    stage.place_envelope(id(0, 1), Kind::Receipt, &receipt(3));
    stage.turn();
    assert_eq!(stage.chat.counted(Tally::BadRecords), 5);
    assert_eq!(stage.heard(id(0, 1)).len(), 1);
    assert!(stage.io.closes.is_empty());
}
