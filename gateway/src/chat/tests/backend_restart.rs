//! The backend goes and another one comes. No connection notices.

use super::stage::*;
use crate::service::{CloseCause, Taken, Told};
use tidegate_protocol::bus::{CLOSED, ENVELOPE, OPENED, OPENED_ANNOUNCED};
use tidegate_protocol::fb;

fn is_announcement(taking: &Taking) -> bool {
    taking.header.kind == OPENED && opened(taking).record.flags == OPENED_ANNOUNCED
}

#[test]
fn a_new_backend_is_told_of_every_live_connection_once() {
    let mut stage = Stage::new();
    for slot in 0..500 {
        stage.greet(id(slot, 1), VISITOR, fb::Role::Visitor);
    }
    stage.take_all();
    stage.kill_backend();
    stage.close(id(3, 1), CloseCause::Gone);
    stage.start_backend();
    stage.live_ms(200);
    let announced: Vec<u32> = stage
        .take_all()
        .iter()
        .filter(|t| is_announcement(t))
        .map(|t| t.header.slot)
        .collect();
    assert_eq!(
        announced,
        (0..500).filter(|&slot| slot != 3).collect::<Vec<_>>()
    );
    stage.live_ms(1_000);
    assert!(
        stage.take_all().is_empty(),
        "the same backend is not told again"
    );
}

#[test]
fn an_announcement_carries_who_it_is_and_no_hello() {
    let mut stage = Stage::new();
    stage.upgrade(id(0, 1), crate::service::Codec::Flat);
    stage.say(
        id(0, 1),
        &hello_of(&token_of(VISITOR, fb::Role::Visitor, "访客 8812"), 7),
    );
    stage.take_all();
    stage.kill_backend();
    stage.start_backend();
    stage.live_ms(100);
    let taken = stage.take_all();
    let opened = opened(&taken[0]);
    assert_eq!(
        (opened.name, opened.hello, opened.record.session),
        ("访客 8812", &[][..], 7)
    );
    assert_eq!((opened.record.connection, opened.record.site), (4, 1));
    assert_eq!(
        (taken[0].header.principal, taken[0].header.trace),
        (VISITOR.0, 7)
    );
}

#[test]
fn a_connection_is_announced_before_its_own_next_record() {
    let mut stage = Stage::new();
    for slot in 0..200 {
        stage.greet(id(slot, 1), VISITOR, fb::Role::Visitor);
    }
    stage.take_all();
    stage.kill_backend();
    stage.start_backend();
    // No turn in between: the sweep has not begun.
    assert_eq!(stage.say(id(150, 1), &send_of(1, "hi")), Taken::Yes);
    let taken = stage.take_all();
    assert!(is_announcement(&taken[0]) && taken[1].is(ENVELOPE, id(150, 1)));
    stage.live_ms(200);
    let again = stage
        .take_all()
        .iter()
        .filter(|t| t.header.slot == 150)
        .count();
    assert_eq!(again, 0, "and not once more by the sweep");
}

#[test]
fn what_was_said_while_no_backend_was_there_is_found_by_the_next_one() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.take_all();
    stage.kill_backend();
    stage.say(id(0, 1), &send_of(1, "are you there?"));
    stage.greet(id(1, 1), AGENT, fb::Role::Agent);
    stage.say(id(1, 1), &ping_of(1));
    assert!(stage.heard(id(1, 1))[0].contains("pong"));
    stage.start_backend();
    let left = stage.take_all();
    assert!(left[0].is(ENVELOPE, id(0, 1)) && left[1].is(OPENED, id(1, 1)));
    assert_eq!(
        left[0].header.trace, 7,
        "a record names its session, so that it can be applied before any announcement"
    );
}

#[test]
fn records_that_were_read_but_not_released_are_read_again_by_the_next_backend() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.take_all();
    stage.say(id(0, 1), &send_of(1, "hi"));
    let read = stage.read_all();
    stage.kill_backend();
    stage.start_backend();
    assert_eq!(stage.take_all(), read);
}

#[test]
fn a_close_during_the_absence_is_told_to_the_next_backend() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.take_all();
    stage.kill_backend();
    assert_eq!(
        stage.close(id(0, 1), CloseCause::Peer { code: 1001 }),
        Told::Now
    );
    stage.start_backend();
    stage.live_ms(100);
    let taken = stage.take_all();
    assert!(
        taken.len() == 1 && taken[0].is(CLOSED, id(0, 1)),
        "{taken:?}"
    );
}

#[test]
fn while_the_backend_is_away_a_send_that_finds_no_room_is_refused_with_a_longer_retry() {
    let mut stage = Stage::without_backend(8 << 10);
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.fill_ring(id(0, 1));
    stage.live_ms(2_100);
    let heard = stage.heard(id(0, 1));
    let retry_ms: u32 = heard[0]
        .split("\"retry_ms\":")
        .nth(1)
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap();
    assert!((2_000..4_000).contains(&retry_ms), "{heard:?}");
    assert!(stage.io.closes.is_empty(), "connections stay");
}

#[test]
fn the_sweep_leaves_half_of_the_ring_to_those_who_speak() {
    let mut stage = Stage::without_backend(64 << 10);
    stage.start_backend();
    for slot in 0..2_000 {
        stage.greet(id(slot, 1), VISITOR, fb::Role::Visitor);
        stage.take_all();
    }
    stage.kill_backend();
    stage.start_backend();
    stage.live_ms(1_000);
    assert_eq!(stage.say(id(1_999, 1), &send_of(1, "hi")), Taken::Yes);
    let taken = stage.take_all();
    assert!(taken.len() < 400, "{}", taken.len());
    assert!(taken[taken.len() - 1].is(ENVELOPE, id(1_999, 1)));
}
