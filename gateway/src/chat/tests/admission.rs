//! A rush: who has to wait, in what order they come in, and what they are told meanwhile.

use super::stage::*;
use crate::service::{CloseCause, Codec, Taken, Told};
use tidegate_protocol::bus::{ENVELOPE, OPENED};
use tidegate_protocol::{Id, Kind, fb, message};

fn let_in_up_to(stage: &Stage, frontier: u64) {
    stage
        .backend
        .as_ref()
        .expect("a backend")
        .0
        .control()
        .advance_frontier(frontier);
}

fn rush(people: u32) -> Stage {
    let mut stage = Stage::new();
    let_in_up_to(&stage, 2);
    for slot in 0..people {
        stage.greet(id(slot, 1), Id(1_000 + u128::from(slot)), fb::Role::Visitor);
    }
    stage
}

fn ticket_in(wait: &str) -> String {
    wait.split(r#""ticket":""#)
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("a ticket")
        .to_owned()
}

#[test]
fn while_nobody_controls_admission_everybody_comes_in_and_no_ticket_is_drawn() {
    let mut stage = Stage::new();
    for slot in 0..100 {
        stage.greet(id(slot, 1), VISITOR, fb::Role::Visitor);
    }
    assert_eq!(stage.take_all().len(), 100);
    assert_eq!(stage.backend.as_ref().unwrap().0.control().tickets(), 0);
}

#[test]
fn those_past_the_frontier_wait_and_come_in_by_ticket() {
    let mut stage = rush(5);
    let slots = |stage: &mut Stage| {
        stage
            .take_all()
            .iter()
            .map(|t| t.header.slot)
            .collect::<Vec<_>>()
    };
    assert_eq!(slots(&mut stage), [0, 1]);
    for (slot, place) in [(2, 1), (3, 2), (4, 3)] {
        let heard = stage.heard(id(slot, 1));
        assert!(
            heard[0].contains(&format!(r#""place":{place}"#)),
            "{heard:?}"
        );
    }
    let_in_up_to(&stage, 4);
    stage.turn();
    assert_eq!(slots(&mut stage), [2, 3]);
    let_in_up_to(&stage, 100);
    stage.turn();
    assert_eq!(slots(&mut stage), [4]);
}

#[test]
fn staff_never_waits() {
    let mut stage = rush(3);
    stage.take_all();
    stage.greet(id(9, 1), AGENT, fb::Role::Agent);
    assert!(stage.take_all()[0].is(OPENED, id(9, 1)));
}

#[test]
fn a_signed_ticket_keeps_its_place_and_only_for_its_holder() {
    let mut stage = rush(5);
    let ticket = ticket_in(&stage.heard(id(3, 1))[0]);
    assert_eq!(stage.close(id(3, 1), CloseCause::Gone), Told::Now);
    for (slot, principal) in [(10, Id(1_003)), (11, Id(6_666))] {
        stage.upgrade(id(slot, 1), Codec::Flat);
        let token = token_of(principal, fb::Role::Visitor, "");
        let hello = message::Hello {
            token: &token,
            session: 8,
            ticket: &ticket,
            ..Default::default()
        };
        stage.say(
            id(slot, 1),
            &envelope(Kind::Hello, |builder| hello.encode(builder).to_vec()),
        );
    }
    assert!(stage.heard(id(10, 1))[0].contains(r#""place":2"#));
    assert!(
        stage.heard(id(11, 1))[0].contains(r#""place":4"#),
        "a stolen ticket is no ticket"
    );
}

#[test]
fn what_a_waiting_person_says_follows_their_opened_and_pings_are_answered() {
    let mut stage = rush(3);
    stage.take_all();
    assert_eq!(stage.say(id(2, 1), &ping_of(4)), Taken::Yes);
    assert!(
        stage
            .heard(id(2, 1))
            .iter()
            .any(|text| text.contains("pong"))
    );
    assert!(matches!(
        stage.say(id(2, 1), &send_of(1, "hi")),
        Taken::Park { .. }
    ));
    let_in_up_to(&stage, 10);
    stage.turn();
    let taken = stage.take_all();
    assert!(
        taken[0].is(OPENED, id(2, 1)) && taken[1].is(ENVELOPE, id(2, 1)),
        "{taken:?}"
    );
    assert_eq!(opened(&taken[0]).record.request, 1);
    assert!(!opened(&taken[0]).hello.is_empty(), "their Hello was kept");
}

#[test]
fn a_send_from_the_waiting_room_is_refused_busy_after_its_time() {
    let mut stage = rush(3);
    stage.heard(id(2, 1));
    assert!(matches!(
        stage.say(id(2, 1), &send_of(1, "hi")),
        Taken::Park { .. }
    ));
    stage.live_ms(2_100);
    assert!(
        stage
            .heard(id(2, 1))
            .iter()
            .any(|text| text.contains(r#""outcome":"busy""#))
    );
}

#[test]
fn news_comes_when_it_was_promised() {
    let mut stage = rush(3);
    assert_eq!(stage.heard(id(2, 1)).len(), 1);
    // Nobody was let in: at one a second place 1 is next, and news comes at the shortest interval.
    stage.live_ms(5_000);
    let heard = stage.heard(id(2, 1)).len();
    assert!((4..=5).contains(&heard), "{heard}");
}

#[test]
fn who_leaves_the_waiting_room_is_never_told() {
    let mut stage = rush(4);
    stage.take_all();
    assert_eq!(
        stage.close(id(2, 1), CloseCause::Peer { code: 1001 }),
        Told::Now
    );
    let_in_up_to(&stage, 100);
    stage.turn();
    let taken = stage.take_all();
    assert!(taken.len() == 1 && taken[0].is(OPENED, id(3, 1)));
}
