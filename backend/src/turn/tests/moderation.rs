//! Visitors' texts wait for a moderator, and for nobody longer than they may.

use serde_json::Value;
use tidegate_protocol::Id;

use super::stage::{Client, Stage, actor, close_command, id, outcome};
use crate::app::command::{HttpAnswer, HttpCommand};
use crate::config::ModerationDefault;
use crate::engine::kinds::{Outcome, Reason};
use crate::turn::stages::Stage as TextStage;
use crate::workers::{TextQuestion, Verdict};

pub(super) const ANSWER_MS_MAX: u64 = 300;

/// A moderator, or a translator, of the test's.
pub(super) type Double = super::double::Double<TextQuestion, Verdict>;

/// The stage at which that double moderates.
pub(super) fn moderation(double: &Double, default: ModerationDefault) -> TextStage {
    TextStage {
        name: "moderation",
        worker: Box::new(double.clone()),
        looks_at_agents: false,
        default: default.verdict(),
        answer_us_max: ANSWER_MS_MAX * 1_000,
        held_max: 4,
    }
}

pub(super) fn moderate(stage: &mut Stage, default: ModerationDefault) -> Double {
    let double = Double::default();
    stage.turn().set_stages(vec![moderation(&double, default)]);
    double
}

fn moderated(default: ModerationDefault) -> (Stage, Double, Client) {
    let mut stage = Stage::new();
    let double = moderate(&mut stage, default);
    let visitor = stage.visitor(1, 11);
    stage.enter(&visitor);
    (stage, double, visitor)
}

pub(super) fn result(stage: &mut Stage, of: &Client) -> Value {
    stage.settle();
    let mut results = stage.take(of, "send_result");
    assert_eq!(results.len(), 1, "{results:?}");
    results.remove(0)
}

pub(super) fn waits(stage: &mut Stage, client: &Client) {
    stage.settle();
    assert_eq!(
        stage.take(client, "send_result"),
        [] as [Value; 0],
        "nobody has looked at it"
    );
}

#[test]
fn an_allowed_text_is_accepted_when_it_is_allowed_and_not_before() {
    let (mut stage, double, visitor) = moderated(ModerationDefault::Refuse);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    waits(&mut stage, &visitor);
    assert_eq!(
        stage.ledger().total().accepted,
        0,
        "the ledger knows nothing of it"
    );
    double.answer("hello", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &visitor)), "accepted");
    assert_eq!(stage.ledger().total().accepted, 1);
}

#[test]
fn a_refused_text_is_refused_with_the_reason_and_leaves_its_number_free() {
    let (mut stage, double, visitor) = moderated(ModerationDefault::Allow);
    stage.send(&visitor, 1, Id::ABSENT, "rude");
    waits(&mut stage, &visitor);
    double.answer("rude", Verdict::Refuse("be polite".into()));
    let refused = result(&mut stage, &visitor);
    assert_eq!(outcome(&refused), "refused");
    assert_eq!(refused["detail"], "be polite");
    assert_eq!(stage.ledger().total().accepted, 0);
    stage.send(&visitor, 1, Id::ABSENT, "polite");
    stage.settle();
    double.answer("polite", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &visitor)), "accepted");
}

#[test]
fn a_replaced_text_is_sent_instead_and_the_original_is_known_again() {
    let (mut stage, double, visitor) = moderated(ModerationDefault::Allow);
    let agent = stage.agent(1);
    stage.enter(&agent);
    stage.send(&visitor, 1, Id::ABSENT, "my card is 1234");
    stage.settle();
    double.answer(
        "my card is 1234",
        Verdict::Replace("my card is ****".into()),
    );
    assert_eq!(outcome(&result(&mut stage, &visitor)), "accepted");
    let heard = stage.take(&agent, "message");
    let texts: Vec<&str> = heard
        .iter()
        .filter_map(|message| message["text"].as_str())
        .collect();
    assert!(
        texts.contains(&"my card is ****") && !texts.contains(&"my card is 1234"),
        "{heard:?}"
    );
    stage.send(&visitor, 1, Id::ABSENT, "my card is 1234");
    stage.settle();
    double.answer(
        "my card is 1234",
        Verdict::Replace("my card is ****".into()),
    );
    assert_eq!(outcome(&result(&mut stage, &visitor)), "duplicate");
}

#[test]
fn a_late_answer_finds_that_the_default_was_given() {
    for (default, expected) in [
        (ModerationDefault::Allow, "accepted"),
        (ModerationDefault::Refuse, "refused"),
    ] {
        let (mut stage, double, visitor) = moderated(default);
        stage.send(&visitor, 1, Id::ABSENT, "hello");
        stage.pass(ANSWER_MS_MAX - 1);
        assert_eq!(
            stage.take(&visitor, "send_result").len(),
            0,
            "it may still be answered"
        );
        stage.pass(1);
        assert_eq!(outcome(&result(&mut stage, &visitor)), expected);
        double.answer("hello", Verdict::Refuse("too late".into()));
        waits(&mut stage, &visitor);
    }
}

#[test]
fn without_a_worker_a_text_gets_the_default_at_once() {
    let (mut stage, double, visitor) = moderated(ModerationDefault::Refuse);
    double.set_gone(true);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    let refused = result(&mut stage, &visitor);
    assert_eq!(outcome(&refused), "refused");
    assert!(
        refused["detail"]
            .as_str()
            .unwrap()
            .contains("could not be checked"),
        "{refused}"
    );
    double.set_gone(false);
    stage.send(&visitor, 1, Id::ABSENT, "again");
    waits(&mut stage, &visitor);
    double.answer("again", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &visitor)), "accepted");
}

#[test]
fn a_connection_keeps_its_order_and_holds_up_nobody_else() {
    let (mut stage, double, visitor) = moderated(ModerationDefault::Allow);
    stage.send(&visitor, 1, Id::ABSENT, "first");
    stage.settle();
    double.answer("first", Verdict::Allow);
    let conversation = id(&result(&mut stage, &visitor), "conversation");
    stage.send(&visitor, 2, conversation, "second");
    stage.send(&visitor, 3, conversation, "third");
    stage.command(&visitor, close_command(conversation));
    stage.close(&visitor);
    stage.settle();
    double.answer("third", Verdict::Allow);
    stage.settle();
    assert_eq!(
        stage.turn().engine().tally().accepted,
        1,
        "the second is not through"
    );

    let other = stage.visitor(2, 12);
    stage.enter(&other);
    stage.send(&other, 1, Id::ABSENT, "me, too");
    stage.settle();
    double.answer("me, too", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &other)), "accepted");

    double.answer("second", Verdict::Allow);
    stage.settle();
    assert_eq!(stage.turn().engine().tally().accepted, 4);
    let closed = stage.turn().engine().tally().closed.iter().sum::<u64>();
    assert_eq!(closed, 1, "the close came behind both");
    assert_eq!(stage.ledger().total().accepted, 4);
}

#[test]
fn beyond_the_bound_a_text_gets_the_default_at_once() {
    let (mut stage, double, _) = moderated(ModerationDefault::Allow);
    let visitors: Vec<Client> = (2..8).map(|n| stage.visitor(n, 20)).collect();
    for visitor in &visitors {
        stage.enter(visitor);
        stage.send(visitor, 1, Id::ABSENT, "hello");
        stage.settle();
    }
    assert_eq!(double.asked(), 4, "so many are held");
    assert_eq!(
        stage.turn().engine().tally().accepted,
        2,
        "the others went through"
    );
    stage.pass(ANSWER_MS_MAX);
    assert_eq!(stage.turn().engine().tally().accepted, 6);
}

#[test]
fn a_backend_that_dies_with_a_held_text_has_its_sender_come_back() {
    let (mut stage, double, visitor) = moderated(ModerationDefault::Allow);
    let other = stage.visitor(2, 12);
    stage.enter(&other);
    stage.send(&visitor, 1, Id::ABSENT, "held");
    stage.send(&other, 1, Id::ABSENT, "let through");
    stage.settle();
    double.answer("let through", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &other)), "accepted");
    dies_and_has_the_sender_come_back(&mut stage, &visitor);
}

/// The backend is killed while a text of the first visitor is held, and one of somebody else was let through.
pub(super) fn dies_and_has_the_sender_come_back(stage: &mut Stage, visitor: &Client) {
    stage.restart();
    stage.settle();
    assert!(
        stage.closes.contains(&(visitor.slot, 4_000)),
        "{:?}",
        stage.closes
    );
    let again = stage.visitor(1, 11);
    stage.enter(&again);
    stage.send(&again, 1, Id::ABSENT, "held");
    assert_eq!(outcome(&result(stage, &again)), "accepted");
    assert_eq!(stage.ledger().total().accepted, 2, "each once");
}

#[test]
fn what_was_held_gets_the_default_when_the_backend_stops() {
    let (mut stage, _double, visitor) = moderated(ModerationDefault::Allow);
    stage.send(&visitor, 1, Id::ABSENT, "the last word");
    waits(&mut stage, &visitor);
    let (now_us, seed) = (stage.now_us, stage.seed);
    stage.turn.take().unwrap().stop(now_us, seed).unwrap();
    stage.start();
    assert_eq!(stage.ledger().total().accepted, 1);
}

#[test]
fn what_was_held_gets_the_default_when_its_gateway_ends() {
    let (mut stage, _double, visitor) = moderated(ModerationDefault::Allow);
    stage.send(&visitor, 1, Id::ABSENT, "the last word");
    waits(&mut stage, &visitor);
    stage.gateways[0].kill();
    stage.pass(ANSWER_MS_MAX / 2);
    assert_eq!(stage.turn().engine().tally().accepted, 1);
    assert_eq!(stage.ledger().total().accepted, 1);
}

#[test]
fn a_text_over_http_is_held_like_any_other() {
    let (mut stage, double, visitor) = moderated(ModerationDefault::Allow);
    let send = |text: &str| HttpCommand::Send {
        by: actor(&visitor),
        conversation: None,
        text: text.into(),
        key_hash: None,
        page: String::new(),
    };
    let mut allowed = stage.ask_later(send("hello"));
    let mut refused = stage.ask_later(send("rude"));
    stage.settle();
    assert!(allowed.try_recv().is_err(), "it is held");
    double.answer("hello", Verdict::Allow);
    double.answer("rude", Verdict::Refuse("be polite".into()));
    stage.settle();
    allowed.try_recv().unwrap().unwrap();
    let refusal = refused.try_recv().unwrap().unwrap_err();
    assert_eq!(
        (refusal.reason, &*refusal.detail),
        (Reason::Forbidden, "be polite")
    );
    let mut defaulted = stage.ask_later(send("nobody looks"));
    stage.pass(ANSWER_MS_MAX);
    defaulted.try_recv().unwrap().unwrap();
    assert_eq!(stage.ledger().total().accepted, 2);
}

#[test]
fn a_text_over_http_that_was_replaced_is_known_again_whatever_the_worker_says_then() {
    let (mut stage, double, visitor) = moderated(ModerationDefault::Allow);
    let send = |text: &str| HttpCommand::Send {
        by: actor(&visitor),
        conversation: None,
        text: text.into(),
        key_hash: Some(7),
        page: String::new(),
    };
    let mut first = stage.ask_later(send("my card is 1234"));
    stage.settle();
    let instead = Verdict::Replace("my card is ****".into());
    double.answer("my card is 1234", instead);
    stage.settle();
    let HttpAnswer::Sent(first) = first.try_recv().unwrap().unwrap() else {
        panic!("it was sent");
    };
    double.set_gone(true);
    let HttpAnswer::Sent(again) = stage.ask(send("my card is 1234")).unwrap() else {
        panic!("it was sent");
    };
    assert_eq!((again.outcome, again.seq), (Outcome::Duplicate, first.seq));
}
