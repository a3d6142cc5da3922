//! What happens when `to_backend` is full: who is parked, who is refused, what is never lost.

use super::super::counters::Tally;
use super::stage::*;
use crate::service::{CloseCause, Codec, Taken, Told};
use tidegate_protocol::bus::{CLOSED, ENVELOPE, OPENED};
use tidegate_protocol::{Id, Kind, View, fb, message, verify};

const RING_BYTES: usize = 8 << 10;

fn stage() -> Stage {
    let mut stage = Stage::without_backend(RING_BYTES);
    stage.start_backend();
    stage.turn();
    stage
}

#[test]
fn only_the_connection_that_holds_a_message_is_parked_and_pings_are_answered() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.greet(id(1, 1), AGENT, fb::Role::Agent);
    stage.fill_ring(id(0, 1));
    assert!(stage.is_parked(id(0, 1)));
    assert_eq!(stage.say(id(1, 1), &ping_of(5)), Taken::Yes);
    assert!(stage.heard(id(1, 1))[0].contains("pong"));
    assert!(stage.heard(id(0, 1)).is_empty(), "nothing is refused yet");
}

#[test]
fn a_parked_message_goes_on_in_order_when_there_is_room() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.fill_ring(id(0, 1));
    let before = stage.take_all().len() as u64 - 1;
    stage.turn();
    assert!(!stage.is_parked(id(0, 1)));
    stage.say(id(0, 1), &send_of(before + 2, "next"));
    let taken = stage.take_all();
    let numbers: Vec<u64> = taken.iter().map(|taking| n_of(&taking.payload)).collect();
    assert_eq!(numbers, [before + 1, before + 2]);
}

#[test]
fn a_batch_goes_on_where_it_stopped_and_nothing_is_placed_twice() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    let mut batch = Vec::new();
    for n in 1..=200 {
        batch.extend(send_of(n, "some words that take room"));
    }
    assert!(matches!(stage.say(id(0, 1), &batch), Taken::Park { .. }));
    expect_sends_in_order(&mut stage, 200);
}

#[test]
fn a_json_batch_goes_on_where_it_stopped_too() {
    let mut stage = stage();
    stage.upgrade(id(0, 1), Codec::Json);
    let token = token_of(VISITOR, fb::Role::Visitor, "");
    stage.say_json(
        id(0, 1),
        &format!(r#"{{"kind":"hello","token":"{token}","session":"0000000000000007"}}"#),
    );
    let objects: Vec<String> = (1..=200)
        .map(|n| format!(r#"{{"kind":"send","n":{n},"text":"words"}}"#))
        .collect();
    assert!(matches!(
        stage.say_json(id(0, 1), &format!("[{}]", objects.join(","))),
        Taken::Park { .. }
    ));
    expect_sends_in_order(&mut stage, 200);
}

#[test]
fn after_its_time_a_parked_send_is_refused_busy_and_its_connection_reads_on() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.fill_ring(id(0, 1));
    stage.live_ms(1_900);
    assert!(stage.is_parked(id(0, 1)));
    stage.live_ms(200);
    assert!(!stage.is_parked(id(0, 1)));
    let heard = stage.heard(id(0, 1));
    assert!(
        heard[0].contains(r#""outcome":"busy""#) && heard[0].contains("retry_ms"),
        "{heard:?}"
    );
    assert_eq!(stage.say(id(0, 1), &ping_of(1)), Taken::Yes);
    assert!(stage.io.closes.is_empty());
}

#[test]
fn a_command_is_refused_with_its_request() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.greet(id(1, 1), AGENT, fb::Role::Agent);
    stage.fill_ring(id(0, 1));
    let command = message::Command {
        request: 77,
        op: fb::CommandOp::SetStatus,
        ..Default::default()
    };
    let command = envelope(Kind::Command, |builder| command.encode(builder).to_vec());
    assert!(matches!(stage.say(id(1, 1), &command), Taken::Park { .. }));
    stage.live_ms(2_100);
    let heard = stage.heard(id(1, 1));
    assert!(
        heard[0].contains(r#""request":77,"reason":"busy""#),
        "{heard:?}"
    );
}

#[test]
fn acknowledgements_are_merged_and_typing_is_dropped_and_neither_parks() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.greet(id(1, 1), AGENT, fb::Role::Agent);
    stage.fill_ring(id(0, 1));
    for seq in 1..=50 {
        assert_eq!(stage.say(id(1, 1), &ack_of(Id(9), seq)), Taken::Yes);
    }
    let typing = message::Typing {
        conversation: Id(9),
        active: true,
    };
    assert_eq!(
        stage.say(
            id(1, 1),
            &envelope(Kind::Typing, |b| typing.encode(b).to_vec())
        ),
        Taken::Yes
    );
    stage.take_all();
    stage.turn();
    let acks: Vec<u64> = stage
        .take_all()
        .iter()
        .filter_map(|t| ack_seq(&t.payload, t.header.flags))
        .collect();
    assert_eq!(acks, [50]);
    assert_eq!(stage.chat.counted(Tally::TypingDropped), 1);
}

#[test]
fn acknowledgements_without_pause_are_merged_until_the_end_of_the_round() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.after_ms(1_000);
    stage.turn();
    stage.take_all();
    for seq in 1..=1_000 {
        assert_eq!(stage.say(id(0, 1), &ack_of(Id(9), seq)), Taken::Yes);
    }
    stage.turn();
    let acks: Vec<u64> = stage
        .take_all()
        .iter()
        .filter_map(|t| ack_seq(&t.payload, t.header.flags))
        .collect();
    assert_eq!(acks, [1, 1_000]);
}

#[test]
fn of_typing_without_pause_the_ring_gets_ten_a_second() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.take_all();
    let typing = message::Typing {
        conversation: Id(9),
        active: true,
    };
    let typing = envelope(Kind::Typing, |b| typing.encode(b).to_vec());
    for _ in 0..1_000 {
        assert_eq!(stage.say(id(0, 1), &typing), Taken::Yes);
        stage.after_ms(1);
    }
    assert_eq!(stage.take_all().len(), 10);
    assert_eq!(stage.chat.counted(Tally::TypingDropped), 990);
}

#[test]
fn opened_and_closed_are_never_lost_however_full_the_ring_is() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.greet(id(1, 1), AGENT, fb::Role::Agent);
    stage.fill_ring(id(0, 1));
    // One more wants in, one goes: neither can be told now.
    stage.greet(id(2, 1), VISITOR, fb::Role::Visitor);
    assert_eq!(stage.close(id(1, 1), CloseCause::Gone), Told::Later);
    stage.turn();
    assert!(
        stage.io.released.is_empty(),
        "the slot is kept until its end was told"
    );
    stage.take_all();
    stage.turn();
    assert_eq!(stage.io.released, [id(1, 1)]);
    let taken = stage.take_all();
    assert!(
        taken[0].is(OPENED, id(2, 1)) && taken[1].is(CLOSED, id(1, 1)),
        "{taken:?}"
    );
    assert_eq!(stage.chat.counted(Tally::UntoldQueued), 2);
}

#[test]
fn a_connection_that_came_and_went_while_the_ring_was_full_is_never_told() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.fill_ring(id(0, 1));
    stage.greet(id(2, 1), VISITOR, fb::Role::Visitor);
    assert_eq!(stage.close(id(2, 1), CloseCause::Gone), Told::Now);
    stage.greet(id(2, 2), AGENT, fb::Role::Agent);
    stage.take_all();
    stage.turn();
    let told: Vec<_> = stage
        .take_all()
        .into_iter()
        .filter(|t| t.header.slot == 2)
        .collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].is(OPENED, id(2, 2)));
}

#[test]
fn what_is_said_behind_a_held_hello_waits_for_it() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.fill_ring(id(0, 1));
    stage.greet(id(2, 1), AGENT, fb::Role::Agent);
    assert!(matches!(
        stage.say(id(2, 1), &send_of(1, "hi")),
        Taken::Park { .. }
    ));
    stage.take_all();
    stage.turn();
    stage.turn();
    let kinds: Vec<u16> = stage
        .take_all()
        .iter()
        .filter(|taking| taking.header.slot == 2)
        .map(|taking| taking.header.kind)
        .collect();
    assert_eq!(kinds, [OPENED, ENVELOPE]);
}

#[test]
fn what_comes_from_the_backend_is_delivered_while_the_ring_towards_it_is_full() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.fill_ring(id(0, 1));
    let payload = message::Receipt {
        delivered: 3,
        ..Default::default()
    };
    let payload = payload
        .encode(&mut flatbuffers::FlatBufferBuilder::new())
        .to_vec();
    stage.place_envelope(id(0, 1), Kind::Receipt, &payload);
    stage.turn();
    assert!(stage.heard(id(0, 1))[0].contains(r#""delivered":3"#));
}

#[test]
fn held_hellos_are_bounded() {
    let mut stage = stage();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.fill_ring(id(0, 1));
    let page = "p".repeat(2_000);
    let token = token_of(VISITOR, fb::Role::Visitor, "");
    let mut slot = 1;
    while stage.io.closes.is_empty() {
        stage.upgrade(id(slot, 1), Codec::Flat);
        let hello = message::Hello {
            token: &token,
            session: 7,
            page: &page,
            ..Default::default()
        };
        stage.say(
            id(slot, 1),
            &envelope(Kind::Hello, |builder| hello.encode(builder).to_vec()),
        );
        slot += 1;
        assert!(slot < 1_000, "1 MiB of Hellos is reached");
    }
    let (closed, code, reason) = stage.io.closes[0].clone();
    assert_eq!(code, 4006);
    assert!(reason.starts_with("retry_ms="));
    assert_eq!(stage.close(closed, CloseCause::Service { code }), Told::Now);
}

/// A parked batch goes on as the backend takes: its Sends come once each and in order.
fn expect_sends_in_order(stage: &mut Stage, count: u64) {
    let expected: Vec<u64> = (1..=count).collect();
    let mut numbers = Vec::new();
    while numbers.len() < expected.len() {
        let taken = stage.take_all();
        assert!(!taken.is_empty(), "the batch goes on");
        numbers.extend(
            taken
                .iter()
                .filter(|taking| taking.header.kind == ENVELOPE)
                .map(|t| n_of(&t.payload)),
        );
        stage.turn();
    }
    assert_eq!(numbers, expected);
}

fn n_of(payload: &[u8]) -> u64 {
    let Ok(View::Send(send)) = verify(Kind::Send, payload) else {
        panic!("a verified Send")
    };
    send.n()
}

fn ack_seq(payload: &[u8], flags: u16) -> Option<u64> {
    if flags != Kind::Ack as u16 {
        return None;
    }
    let Ok(View::Ack(ack)) = verify(Kind::Ack, payload) else {
        return None;
    };
    Some(ack.delivered())
}
