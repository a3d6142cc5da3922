//! Silence, deaths, and peers that do not hear.

use super::super::liveness::HALF_OPEN_MS;
use super::stage::*;
use crate::service::{CloseCause, Service as _};
use tidegate_protocol::bus::{self, ClosedCause, ClosedRecord};
use tidegate_protocol::{Id, Kind, fb, message};

fn message_payload(seq: u64) -> Vec<u8> {
    message::Message {
        seq,
        text: "hi",
        ..Default::default()
    }
    .encode(&mut flatbuffers::FlatBufferBuilder::new())
    .to_vec()
}

#[test]
fn only_the_silent_are_pinged() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.greet(id(1, 1), VISITOR, fb::Role::Visitor);
    for _ in 0..20 {
        stage.live_ms(5_000);
        stage.say(id(0, 1), &ping_of(1));
        if stage.io.pings.contains(&id(1, 1)) {
            stage.chat.on_traffic(&mut stage.io, id(1, 1));
        }
    }
    assert!(!stage.io.pings.contains(&id(0, 1)));
    assert!(stage.io.pings.contains(&id(1, 1)));
}

#[test]
fn a_connection_that_answers_nothing_is_closed_and_told_as_timed_out() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.take_all();
    stage.live_ms(30_200);
    assert_eq!(stage.io.pings, [id(0, 1)]);
    stage.live_ms(10_000);
    assert_eq!(stage.io.closes[0].1, 4003);
    stage.close(id(0, 1), CloseCause::Service { code: 4003 });
    let taken = stage.take_all();
    let (record, _) = bus::read_fixed::<ClosedRecord>(&taken[0].payload).unwrap();
    assert_eq!(ClosedCause::from_u8(record.cause), ClosedCause::TimedOut);
}

#[test]
fn a_death_shortens_the_interval_of_the_next_connection_from_there() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.live_ms(40_500);
    stage.close(id(0, 1), CloseCause::Service { code: 4003 });
    stage.take_all();
    stage.greet(id(1, 1), VISITOR, fb::Role::Visitor);
    assert_eq!(opened(&stage.take_all()[0]).record.heartbeat_ms, 15_000);
    stage.live_ms(15_200);
    assert_eq!(stage.io.pings, [id(0, 1), id(1, 1)]);
}

#[test]
fn a_reset_while_a_ping_is_unanswered_teaches_the_same() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.live_ms(31_000);
    stage.close(id(0, 1), CloseCause::Gone);
    stage.take_all();
    stage.greet(id(1, 1), VISITOR, fb::Role::Visitor);
    assert!(opened(&stage.take_all()[0]).record.heartbeat_ms < 20_000);
}

#[test]
fn a_peer_that_sends_but_never_acknowledges_is_half_open() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.greet(id(1, 1), AGENT, fb::Role::Agent);
    for slot in [0, 1] {
        stage.place_envelope(id(slot, 1), Kind::Message, &message_payload(1));
    }
    stage.turn();
    stage.after_ms(u64::from(HALF_OPEN_MS) / 2);
    for slot in [0, 1] {
        stage.say(id(slot, 1), &ping_of(1));
    }
    assert!(stage.io.closes.is_empty());
    stage.say(id(1, 1), &ack_of(Id(9), 1));
    stage.after_ms(u64::from(HALF_OPEN_MS) / 2);
    for slot in [0, 1] {
        stage.say(id(slot, 1), &ping_of(2));
    }
    assert_eq!(
        stage
            .io
            .closes
            .iter()
            .map(|(id, code, _)| (*id, *code))
            .collect::<Vec<_>>(),
        [(id(0, 1), 4003)]
    );
}

#[test]
fn a_late_acknowledgement_is_not_punished() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.place_envelope(id(0, 1), Kind::Message, &message_payload(1));
    stage.turn();
    stage.after_ms(u64::from(HALF_OPEN_MS) * 2);
    stage.say(id(0, 1), &ack_of(Id(9), 1));
    stage.say(id(0, 1), &ping_of(1));
    assert!(stage.io.closes.is_empty());
}

#[test]
fn an_expired_token_ends_its_connection() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.after_ms(86_400_000 - 10_000);
    stage.chat.on_traffic(&mut stage.io, id(0, 1));
    stage.live_ms(9_000);
    assert!(stage.io.closes.is_empty());
    stage.live_ms(2_000);
    assert_eq!(stage.io.closes[0].1, 4504);
}

#[test]
fn strikes_are_forgiven_with_time() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    for _ in 0..20 {
        for _ in 0..3 {
            stage.say(id(0, 1), b"junk");
        }
        stage.live_ms(31_000);
        stage.chat.on_traffic(&mut stage.io, id(0, 1));
    }
    assert!(stage.io.closes.is_empty());
}
