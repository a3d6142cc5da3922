//! A rush: who has to wait, in what order they come in, and what they are told meanwhile.

use super::stage::*;
use crate::service::{CloseCause, Codec, Taken, Told};
use tidegate_protocol::bus::{ENVELOPE, OPENED, OPENED_ON_TICKET};
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
fn somebody_inside_gets_a_pass_that_lets_them_back_in_past_all_who_wait() {
    let mut stage = rush(5);
    stage.take_all();
    stage.place_envelope(id(0, 1), Kind::Welcome, &welcome());
    stage.turn();
    let heard = stage.heard(id(0, 1));
    assert!(
        heard[0].contains("welcome") && heard[1].contains("admitted"),
        "{heard:?}"
    );
    let pass = ticket_in(&heard[1]);
    for (slot, principal) in [(10, Id(1_000)), (11, Id(6_666))] {
        say_hello(&mut stage, slot, principal, &pass);
    }
    let taken = stage.take_all();
    assert!(
        taken.len() == 1 && taken[0].is(OPENED, id(10, 1)),
        "{taken:?}"
    );
    assert_eq!(opened(&taken[0]).record.flags & OPENED_ON_TICKET, 0);
    assert!(
        stage.heard(id(11, 1))[0].contains(r#""kind":"wait""#),
        "a stolen pass is no pass"
    );
}

#[test]
fn a_pass_ends_after_a_day() {
    let pass = super::super::ticket::Ticket::pass(1_000);
    assert!(pass.is_pass(1_000) && pass.is_pass(1_000 + 24 * 3_600_000 - 1));
    assert!(!pass.is_pass(1_000 + 24 * 3_600_000));
}

#[test]
fn a_ticket_of_another_bus_draws_anew_instead_of_waiting_for_ever() {
    let mut stage = rush(5);
    let office = super::super::ticket::TicketOffice::new(key().to_hex().as_bytes());
    let foreign = super::super::ticket::Ticket {
        number: 1_000_000,
        arrived_ms: 1,
    };
    say_hello(&mut stage, 10, Id(7), &office.sign(foreign, 7));
    assert!(
        stage.heard(id(10, 1))[0].contains(r#""place":4"#),
        "behind the three who wait"
    );
}

#[test]
fn nobody_overtakes_those_who_are_about_to_come_in() {
    let mut stage = rush(3);
    stage.take_all();
    // The frontier passes the one who waits and the next to come, who arrives before the shard has looked.
    let_in_up_to(&stage, 10);
    stage.greet(id(5, 1), Id(5_000), fb::Role::Visitor);
    stage.turn();
    let slots: Vec<u32> = stage.take_all().iter().map(|t| t.header.slot).collect();
    assert_eq!(slots, [2, 5]);
}

#[test]
fn who_comes_in_on_a_ticket_is_told_from_who_comes_back() {
    let mut stage = rush(3);
    let_in_up_to(&stage, 10);
    stage.turn();
    for taken in stage.take_all() {
        assert_eq!(
            opened(&taken).record.flags & OPENED_ON_TICKET,
            OPENED_ON_TICKET
        );
    }
    stage.greet(id(9, 1), AGENT, fb::Role::Agent);
    let agent = &stage.take_all()[0];
    assert_eq!(opened(agent).record.flags & OPENED_ON_TICKET, 0);
}

fn say_hello(stage: &mut Stage, slot: u32, principal: Id, ticket: &str) {
    stage.upgrade(id(slot, 1), Codec::Flat);
    let token = token_of(principal, fb::Role::Visitor, "");
    let hello = message::Hello {
        token: &token,
        session: 8,
        ticket,
        ..Default::default()
    };
    stage.say(
        id(slot, 1),
        &envelope(Kind::Hello, |builder| hello.encode(builder).to_vec()),
    );
}

fn welcome() -> Vec<u8> {
    let mut builder = flatbuffers::FlatBufferBuilder::new();
    message::Welcome::default().encode(&mut builder).to_vec()
}

#[test]
fn a_signed_ticket_keeps_its_place_and_only_for_its_holder() {
    let mut stage = rush(5);
    let ticket = ticket_in(&stage.heard(id(3, 1))[0]);
    assert_eq!(stage.close(id(3, 1), CloseCause::Gone), Told::Now);
    for (slot, principal) in [(10, Id(1_003)), (11, Id(6_666))] {
        say_hello(&mut stage, slot, principal, &ticket);
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
