//! A gateway dies under a crowd, and all of them come back at once on another: from memory, each to their own place.

use tidegate_protocol::{Id, message};

use super::stage::*;
use crate::engine::kinds::Role;

const PEOPLE: u64 = 400;

#[test]
fn a_crowd_that_comes_back_asks_the_database_nothing_and_keeps_its_places() {
    let mut stage = Stage::new();
    let other = stage.start_gateway(1 << 20);
    let mut crowd = Vec::new();
    for number in 1..=u128::from(PEOPLE) {
        let visitor = stage.visitor(number, 1);
        stage.enter(&visitor);
        stage.send(&visitor, 1, Id::ABSENT, "hello");
        stage.settle();
        let state = stage.take(&visitor, "conversation_state").pop().unwrap();
        crowd.push((visitor, id(&state, "conversation"), number_of(&state)));
    }
    stage.pass(1_000);
    let marks = stage.newest_marks();
    let before = stage.handle.as_ref().unwrap().live().counters.clone();

    stage.gateways[0].kill();
    stage.pass(200);
    assert_eq!(stage.turn().engine().connections().visitors(), 0);
    for (visitor, conversation, ticket) in &crowd {
        let again = stage.client(other, visitor.principal, visitor.session, Role::Visitor, "");
        let cursor = message::Cursor {
            conversation: *conversation,
            incarnation: stage.turn().engine().incarnation(),
            seq: 1,
        };
        stage.open(&again, &[cursor]);
        stage.settle();
        let welcome = stage.take(&again, "welcome").pop().unwrap();
        let resumed = &welcome["conversations"][0];
        assert_eq!(resumed["recovered"], true);
        assert_eq!(number_of(&resumed["state"]), *ticket);
        assert_eq!(number(&welcome, "last_n"), 1);
        assert_eq!(stage.seqs(&again), [2], "what it lacked, from memory");
    }
    stage.pass(6_000);
    assert_eq!(
        stage.newest_marks(),
        marks,
        "everybody stands where they stood"
    );
    let after = stage.handle.as_ref().unwrap().live().counters.clone();
    assert_eq!(after.lookups, before.lookups, "no point read on the turn");
    assert_eq!(after.replayed_cold, 0, "no page read by a reader thread");
    assert!(
        after.commits <= before.commits + 1,
        "the gateway's end is one commit, coming back writes nothing"
    );
    assert!(after.replayed_warm >= PEOPLE);
}

fn number_of(state: &serde_json::Value) -> u64 {
    let ticket = number(state, "queue_ticket");
    assert!(ticket > 0, "{state}");
    ticket
}
