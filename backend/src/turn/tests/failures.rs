//! Commits that fail, inputs that break the engine.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidegate_protocol::Id;

use super::super::Stepped;
use super::stage::{Stage, actor, id, number, outcome};
use crate::app::command::HttpCommand;
use crate::engine::POISON_TEXT;
use crate::engine::kinds::Reason;
use crate::store::CommitError;

#[test]
fn nothing_is_acknowledged_while_the_store_cannot_commit_and_all_of_it_after_relief() {
    for fault in [
        CommitError::Busy("locked".into()),
        CommitError::Full("no space".into()),
        CommitError::Io("EIO".into()),
    ] {
        let mut stage = Stage::new();
        let visitor = stage.visitor(1, 1);
        stage.enter(&visitor);
        stage
            .faults
            .borrow_mut()
            .extend((0..3).map(|_| Some(fault.clone())));
        stage.send(&visitor, 1, Id::ABSENT, "hello");
        let Stepped::Idle { wake_at_us } = stage.step() else {
            panic!("{fault}")
        };
        assert!(wake_at_us > stage.now_us);
        stage.read_all();
        assert!(
            stage.take_all(&visitor).is_empty(),
            "nothing leaves before the commit"
        );
        // The ring pushes back, HTTP is refused.
        stage.send(&visitor, 2, Id::ABSENT, "more");
        let mut answer = stage.ask_later(HttpCommand::FindOpen {
            by: actor(&visitor),
        });
        stage.step();
        assert_eq!(answer.try_recv().unwrap().unwrap_err().reason, Reason::Busy);
        for _ in 0..20 {
            stage.pass(100);
        }
        let results = stage.take(&visitor, "send_result");
        assert_eq!(
            results.iter().map(|r| number(r, "n")).collect::<Vec<_>>(),
            [1, 2]
        );
        assert!(
            results.iter().all(|result| outcome(result) == "accepted"),
            "{results:?}"
        );
        assert_eq!(stage.ledger().to_agent.accepted, 2);
        assert!(stage.handle.as_ref().unwrap().live().ready);
    }
}

#[test]
fn a_commit_that_can_never_succeed_ends_the_process_and_the_next_one_goes_on() {
    let mut stage = Stage::new();
    let visitor = stage.visitor(1, 1);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "first");
    stage.settle();
    stage.take_all(&visitor);
    stage
        .faults
        .borrow_mut()
        .push_back(Some(CommitError::Fatal("constraint".into())));
    stage.send(&visitor, 2, Id::ABSENT, "hello");
    assert_eq!(stage.step(), Stepped::Broken("constraint".into()));
    stage.suspect = Some(stage.turn().careful_mut().broken("constraint"));
    stage.restart();
    assert!(stage.turn().careful().is_on());
    stage.settle();
    assert!(
        stage.turn().careful().is_on(),
        "who was told busy may ask again"
    );
    stage.pass(5_000);
    assert!(!stage.turn().careful().is_on(), "the leftovers are through");
    assert_eq!(stage.take(&visitor, "send_result").len(), 1);
    assert_eq!(stage.ledger().to_agent.accepted, 2);
}

#[test]
fn a_poison_input_is_put_aside_after_two_tries_and_all_others_go_on() {
    let mut stage = Stage::new();
    let (good, bad) = (stage.visitor(1, 1), stage.visitor(2, 2));
    stage.enter(&good);
    stage.enter(&bad);
    for visitor in [&good, &bad] {
        stage.send(visitor, 1, Id::ABSENT, "first");
    }
    stage.settle();
    stage.take_all(&good);
    stage.take_all(&bad);
    stage.send(&good, 2, Id::ABSENT, "before");
    stage.send(&bad, 2, Id::ABSENT, POISON_TEXT);
    stage.send(&good, 3, Id::ABSENT, "after");
    let mut breaks = 0;
    for _ in 0..100 {
        match catch_unwind(AssertUnwindSafe(|| stage.step())) {
            Ok(Stepped::Idle { .. }) => break,
            Ok(_) => {}
            Err(_) => {
                breaks += 1;
                stage.suspect = Some(stage.turn().careful_mut().broken("it panicked"));
                stage.restart();
            }
        }
        stage.read_all();
    }
    assert_eq!(breaks, 2);
    stage.settle();
    let refused = stage.take(&bad, "send_result").pop().unwrap();
    assert_eq!(
        (refused["outcome"].as_str(), refused["reason"].as_str()),
        (Some("refused"), Some("internal"))
    );
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .starts_with("reference ")
    );
    let accepted: std::collections::BTreeSet<_> = stage
        .take(&good, "send_result")
        .iter()
        .map(|result| number(result, "n"))
        .collect();
    assert_eq!(accepted, [2, 3].into());
    assert_eq!(stage.ledger().to_agent.accepted, 4);
    // The sender may go on with the same number.
    stage.announce(&bad);
    stage.send(&bad, 2, Id::ABSENT, "harmless");
    stage.settle();
    let result = stage.take(&bad, "send_result").pop().unwrap();
    assert_eq!(outcome(&result), "accepted");
    assert!(!id(&result, "conversation").is_absent());
}

#[test]
fn an_input_whose_rows_can_never_be_stored_is_put_aside_too() {
    let mut stage = Stage::new();
    let visitor = stage.visitor(1, 1);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "first");
    stage.settle();
    stage.take_all(&visitor);
    stage.send(&visitor, 2, Id::ABSENT, "breaks a constraint");
    for _ in 0..2 {
        stage
            .faults
            .borrow_mut()
            .push_back(Some(CommitError::Fatal("constraint".into())));
        assert_eq!(stage.step(), Stepped::Broken("constraint".into()));
        stage.suspect = Some(stage.turn().careful_mut().broken("constraint"));
        stage.restart();
    }
    stage.send(&visitor, 2, Id::ABSENT, "breaks nothing");
    stage.settle();
    let results = stage.take(&visitor, "send_result");
    assert_eq!(results[0]["reason"], "internal");
    assert_eq!(outcome(&results[1]), "accepted");
}

/// Nobody knows this visitor when the leftover is read, so they are told `busy`; the client asks again, each time
/// at another place of the ring.
#[test]
fn a_first_message_that_breaks_the_engine_is_put_aside_though_it_comes_again_elsewhere() {
    let mut stage = Stage::new();
    let visitor = stage.visitor(1, 1);
    stage.enter(&visitor);
    stage.settle();
    stage.take_all(&visitor);
    let mut breaks = 0;
    let refused = loop {
        stage.send(&visitor, 1, Id::ABSENT, "breaks a constraint");
        let fault = CommitError::Fatal("constraint".into());
        stage.faults.borrow_mut().push_back(Some(fault));
        assert_eq!(stage.step(), Stepped::Broken("constraint".into()));
        breaks += 1;
        stage.suspect = Some(stage.turn().careful_mut().broken("constraint"));
        stage.restart();
        stage.settle();
        let result = stage.take(&visitor, "send_result").pop().unwrap();
        if outcome(&result) != "busy" {
            break result;
        }
        assert!(breaks < 2, "it is put aside after two tries");
        stage.announce(&visitor);
        stage.settle();
    };
    assert_eq!((breaks, refused["reason"].as_str()), (2, Some("internal")));
    stage.announce(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "harmless");
    stage.settle();
    let result = stage.take(&visitor, "send_result").pop().unwrap();
    assert_eq!(outcome(&result), "accepted");
}
