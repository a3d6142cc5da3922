//! Texts of both sides pass a translator, visitors' after the moderator; each stage waits for its worker and no longer
//! than it may.

use tidegate_protocol::Id;

use super::moderation::{
    ANSWER_MS_MAX, Double, dies_and_has_the_sender_come_back, moderation, result, waits,
};
use super::stage::{Client, Stage, actor, id, outcome};
use crate::app::command::HttpCommand;
use crate::config::ModerationDefault;
use crate::engine::kinds::Side;
use crate::turn::stages::Stage as TextStage;
use crate::turn::tally::WorkerTally;
use crate::workers::Verdict;

/// The stage at which that double translates.
pub(super) fn translation(double: &Double) -> TextStage {
    TextStage {
        name: "translation",
        worker: Box::new(double.clone()),
        looks_at_agents: true,
        default: Verdict::Allow,
        answer_us_max: ANSWER_MS_MAX * 1_000,
        held_max: 4,
    }
}

fn replace(text: &str) -> Verdict {
    Verdict::Replace(text.into())
}

/// A visitor whose texts pass a translator.
fn translated() -> (Stage, Double, Client) {
    let mut stage = Stage::new();
    let translator = Double::default();
    let stages = vec![translation(&translator)];
    stage.turn().set_stages(stages);
    let visitor = stage.visitor(1, 11);
    stage.enter(&visitor);
    (stage, translator, visitor)
}

/// The same, behind a moderator.
fn moderated_and_translated() -> (Stage, Double, Double, Client) {
    let mut stage = Stage::new();
    let (moderator, translator) = (Double::default(), Double::default());
    let stages = vec![
        moderation(&moderator, ModerationDefault::Refuse),
        translation(&translator),
    ];
    stage.turn().set_stages(stages);
    let visitor = stage.visitor(1, 11);
    stage.enter(&visitor);
    (stage, moderator, translator, visitor)
}

fn texts(stage: &mut Stage, of: &Client) -> Vec<String> {
    stage.settle();
    let messages = stage.take(of, "message");
    let texts = messages
        .iter()
        .filter_map(|message| message["text"].as_str());
    texts.map(str::to_owned).collect()
}

#[test]
fn texts_of_both_sides_are_translated_and_the_question_says_whose_it_is() {
    let (mut stage, translator, visitor) = translated();
    let agent = stage.agent(1);
    stage.enter(&agent);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    waits(&mut stage, &visitor);
    let asked = translator.newest();
    assert_eq!((asked.by, asked.sender), (Side::Visitor, visitor.principal));
    translator.answer("hello", replace("hello\n你好"));
    let conversation = id(&result(&mut stage, &visitor), "conversation");
    assert_eq!(texts(&mut stage, &agent), ["hello\n你好"]);

    stage.send(&agent, 1, conversation, "早上好");
    waits(&mut stage, &agent);
    let asked = translator.newest();
    assert_eq!(
        (asked.by, asked.sender, asked.conversation),
        (Side::Agent, agent.principal, conversation)
    );
    translator.answer("早上好", replace("早上好\ngood morning"));
    assert_eq!(outcome(&result(&mut stage, &agent)), "accepted");
    assert_eq!(texts(&mut stage, &visitor), ["早上好\ngood morning"]);
    assert_eq!(stage.ledger().total().accepted, 2);
}

#[test]
fn what_the_moderator_leaves_of_a_text_is_what_the_translator_is_asked_about() {
    let (mut stage, moderator, translator, visitor) = moderated_and_translated();
    let agent = stage.agent(1);
    stage.enter(&agent);
    stage.send(&visitor, 1, Id::ABSENT, "my card is 1234");
    waits(&mut stage, &visitor);
    assert_eq!(translator.asked(), 0, "one after the other");
    moderator.answer("my card is 1234", replace("my card is ****"));
    waits(&mut stage, &visitor);
    translator.answer("my card is ****", replace("my card is ****\n我的卡"));
    let conversation = id(&result(&mut stage, &visitor), "conversation");
    assert_eq!(texts(&mut stage, &agent), ["my card is ****\n我的卡"]);

    stage.send(&visitor, 2, conversation, "fine");
    stage.settle();
    moderator.answer("fine", Verdict::Allow);
    stage.settle();
    translator.answer("fine", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &visitor)), "accepted");
    assert_eq!(texts(&mut stage, &agent), ["fine"]);

    stage.send(&agent, 1, conversation, "thanks");
    stage.settle();
    assert_eq!(moderator.asked(), 2, "an agent's text is not moderated");
    translator.answer("thanks", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &agent)), "accepted");
}

#[test]
fn what_the_moderator_refuses_nobody_translates() {
    let (mut stage, moderator, translator, visitor) = moderated_and_translated();
    stage.send(&visitor, 1, Id::ABSENT, "rude");
    stage.settle();
    moderator.answer("rude", Verdict::Refuse("be polite".into()));
    let refused = result(&mut stage, &visitor);
    assert_eq!(outcome(&refused), "refused");
    assert_eq!(refused["detail"], "be polite");
    // Nor what the absence of one refuses.
    moderator.set_gone(true);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    assert_eq!(outcome(&result(&mut stage, &visitor)), "refused");
    assert_eq!(translator.asked(), 0);
}

#[test]
fn each_stage_has_a_deadline_of_its_own_and_a_late_translator_leaves_what_the_moderator_made() {
    let (mut stage, moderator, translator, visitor) = moderated_and_translated();
    let agent = stage.agent(1);
    stage.enter(&agent);
    stage.send(&visitor, 1, Id::ABSENT, "my card is 1234");
    stage.pass(ANSWER_MS_MAX - 1);
    moderator.answer("my card is 1234", replace("my card is ****"));
    stage.pass(ANSWER_MS_MAX - 1);
    waits(&mut stage, &visitor);
    stage.pass(1);
    assert_eq!(outcome(&result(&mut stage, &visitor)), "accepted");
    assert_eq!(texts(&mut stage, &agent), ["my card is ****"]);
    translator.answer("my card is ****", replace("too late"));
    stage.settle();
    assert_eq!(stage.ledger().total().accepted, 1);
    let views = stage.turn().workers();
    let figures = |asked, answered, defaulted, late| WorkerTally {
        asked,
        answered,
        defaulted,
        late,
    };
    let names: Vec<_> = views.iter().map(|view| (view.name, view.present)).collect();
    assert_eq!(names, [("moderation", true), ("translation", true)]);
    assert_eq!(views[0].tally, figures(1, 1, 0, 0));
    assert_eq!(views[1].tally, figures(1, 0, 1, 1));
    let live = stage.handle.as_ref().unwrap().live();
    assert_eq!(live.workers, views, "what is shown is what was counted");
}

#[test]
fn without_a_translator_a_text_is_sent_as_it_is_at_once() {
    let (mut stage, moderator, translator, visitor) = moderated_and_translated();
    translator.set_gone(true);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    moderator.answer("hello", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &visitor)), "accepted");
    assert_eq!(stage.turn().workers()[1].tally.defaulted, 1);
}

#[test]
fn beyond_the_translators_bound_texts_are_sent_as_they_are() {
    let (mut stage, translator, _) = translated();
    for n in 2..8 {
        let visitor = stage.visitor(n, 20);
        stage.enter(&visitor);
        stage.send(&visitor, 1, Id::ABSENT, "hello");
        stage.settle();
    }
    assert_eq!(translator.asked(), 4, "so many are held");
    assert_eq!(stage.turn().engine().tally().accepted, 2);
    stage.pass(ANSWER_MS_MAX);
    assert_eq!(stage.turn().engine().tally().accepted, 6);
}

#[test]
fn a_text_at_the_second_stage_keeps_its_connections_order_and_holds_up_nobody_else() {
    let (mut stage, moderator, translator, visitor) = moderated_and_translated();
    stage.send(&visitor, 1, Id::ABSENT, "first");
    stage.send(&visitor, 2, Id::ABSENT, "second");
    stage.settle();
    for text in ["second", "first"] {
        moderator.answer(text, Verdict::Allow);
        stage.settle();
    }
    translator.answer("second", Verdict::Allow);
    waits(&mut stage, &visitor);

    let other = stage.visitor(2, 12);
    stage.enter(&other);
    stage.send(&other, 1, Id::ABSENT, "me, too");
    stage.settle();
    moderator.answer("me, too", Verdict::Allow);
    stage.settle();
    translator.answer("me, too", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &other)), "accepted");

    translator.answer("first", replace("first, translated"));
    stage.settle();
    let results = stage.take(&visitor, "send_result");
    let outcomes: Vec<_> = results
        .iter()
        .map(|result| (result["n"].as_u64(), outcome(result)))
        .collect();
    assert_eq!(outcomes, [(Some(1), "accepted"), (Some(2), "accepted")]);
    assert_eq!(stage.ledger().total().accepted, 3);
}

#[test]
fn a_backend_that_dies_with_a_text_at_the_second_stage_has_its_sender_come_back() {
    let (mut stage, moderator, translator, visitor) = moderated_and_translated();
    let other = stage.visitor(2, 12);
    stage.enter(&other);
    stage.send(&visitor, 1, Id::ABSENT, "held");
    stage.send(&other, 1, Id::ABSENT, "let through");
    stage.settle();
    for text in ["held", "let through"] {
        moderator.answer(text, Verdict::Allow);
    }
    stage.settle();
    translator.answer("let through", Verdict::Allow);
    assert_eq!(outcome(&result(&mut stage, &other)), "accepted");
    dies_and_has_the_sender_come_back(&mut stage, &visitor);
}

#[test]
fn what_is_at_the_second_stage_when_the_backend_stops_is_sent_as_the_first_left_it() {
    let (mut stage, moderator, translator, visitor) = moderated_and_translated();
    stage.send(&visitor, 1, Id::ABSENT, "my card is 1234");
    stage.send(&visitor, 2, Id::ABSENT, "nobody looked at this one");
    stage.settle();
    moderator.answer("my card is 1234", replace("my card is ****"));
    waits(&mut stage, &visitor);
    assert_eq!(translator.asked(), 1);
    let (now_us, seed) = (stage.now_us, stage.seed);
    stage.turn.take().unwrap().stop(now_us, seed).unwrap();
    stage.start();
    assert_eq!(
        stage.ledger().total().accepted,
        1,
        "the moderator's default is to refuse"
    );
    let agent = stage.agent(1);
    stage.enter(&agent);
    assert_eq!(texts(&mut stage, &agent), ["my card is ****"]);
}

#[test]
fn an_agents_text_over_http_is_translated_too() {
    let (mut stage, translator, visitor) = translated();
    let agent = stage.agent(1);
    stage.enter(&agent);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    translator.answer("hello", Verdict::Allow);
    let conversation = id(&result(&mut stage, &visitor), "conversation");
    let mut sent = stage.ask_later(HttpCommand::Send {
        by: actor(&agent),
        conversation: Some(conversation),
        text: "早上好".into(),
        key_hash: None,
        page: String::new(),
    });
    stage.settle();
    assert!(sent.try_recv().is_err(), "it is held");
    translator.answer("早上好", replace("早上好\ngood morning"));
    stage.settle();
    sent.try_recv().unwrap().unwrap();
    assert_eq!(texts(&mut stage, &visitor), ["早上好\ngood morning"]);
}
