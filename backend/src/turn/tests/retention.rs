//! Retention in virtual time: what is old leaves in steps, the ledger stays closed, and nobody lacks a part in silence.

use tidegate_protocol::{Id, message};

use super::stage::{Client, Stage, actor, id, number, outcome};
use crate::app::command::{HttpAnswer, HttpCommand};
use crate::engine::Rules;
use crate::engine::kinds::Outcome;
use crate::engine::rate::RateLimit;

const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 24 * HOUR_MS;

fn keeping_two_days() -> Stage {
    Stage::with(Rules {
        window_bytes_max: 64 << 10,
        sends: RateLimit {
            per_s: 1_000_000,
            burst: 1_000_000,
        },
        messages_kept_us: 2 * DAY_MS * 1_000,
        ..Rules::default()
    })
}

/// A visitor and an agent who chat; the visitor's first text is seq 2.
fn chat(stage: &mut Stage) -> (Client, Client, Id) {
    let (agent, visitor) = (stage.agent(1), stage.visitor(1, 11));
    stage.enter(&agent);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    let result = stage.take(&visitor, "send_result").pop().unwrap();
    (agent, visitor, id(&result, "conversation"))
}

fn say(stage: &mut Stage, who: &Client, to: Id, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        stage.send(who, n, to, &format!("text {n}"));
    }
    stage.settle();
}

/// Time passes until the sweep that is due is through.
fn sweep(stage: &mut Stage) -> Vec<u64> {
    let mut expired = vec![stage.ledger().total().expired];
    for _ in 0..100 {
        stage.pass(20);
        let now = stage.turn().engine().ledger().total().expired;
        if now != expired[expired.len() - 1] {
            expired.push(now);
        }
    }
    expired
}

#[test]
fn old_messages_leave_in_steps_and_those_without_an_acknowledgement_expire() {
    let mut stage = keeping_two_days();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.ack(&agent, conversation, 3, 0);
    say(&mut stage, &agent, conversation, 1..=600);
    stage.ack(&visitor, conversation, 13, 0);
    stage.settle();
    let ledger = stage.ledger();
    assert_eq!(
        (ledger.to_agent.delivered, ledger.to_visitor.delivered),
        (1, 10)
    );
    stage.pass(DAY_MS);
    say(&mut stage, &agent, conversation, 601..=605);
    assert_eq!(stage.ledger().total().expired, 0, "not old enough");
    stage.closes.clear();

    stage.now_us += (DAY_MS + HOUR_MS) * 1_000;
    let steps = sweep(&mut stage);
    assert!(
        steps.windows(2).all(|step| step[1] - step[0] <= 256),
        "a bound a turn: {steps:?}"
    );
    let ledger = stage.ledger();
    let to_visitor = ledger.to_visitor;
    assert_eq!(
        (
            to_visitor.accepted,
            to_visitor.delivered,
            to_visitor.pending,
            to_visitor.expired
        ),
        (605, 10, 5, 590)
    );
    assert_eq!(ledger.to_agent.expired, 0, "what was had does not expire");
    assert_eq!(
        stage.closes,
        [(visitor.slot, 4003)],
        "who lacks what is gone has to come back"
    );

    // What is left goes on, before and after a restart.
    for restarted in [false, true] {
        if restarted {
            stage.restart();
            stage.announce(&agent);
            stage.settle();
        }
        stage.take_all(&agent);
        let n = 606 + u64::from(restarted);
        stage.send(&agent, n, conversation, "still here");
        stage.settle();
        let result = stage.take(&agent, "send_result").pop().unwrap();
        assert_eq!(number(&result, "seq"), 3 + n, "seqs go on");
        let incarnation = stage.turn().engine().incarnation();
        for (seq, recovered) in [(13, false), (602, false), (603, true), (606, true)] {
            let again = stage.visitor(1, 500 + seq + u64::from(restarted) * 1_000);
            stage.open(
                &again,
                &[message::Cursor {
                    conversation,
                    incarnation,
                    seq,
                }],
            );
            stage.settle();
            let welcome = stage.take(&again, "welcome").pop().unwrap();
            let conversation = &welcome["conversations"][0];
            assert_eq!(conversation.get("recovered").is_some(), recovered, "{seq}");
            let want: Vec<u64> = if recovered {
                (seq + 1..=3 + n).collect()
            } else {
                Vec::new()
            };
            assert_eq!(stage.seqs(&again), want, "from {seq}");
        }
        let fresh = stage.visitor(1, 900 + u64::from(restarted));
        let welcome = stage.enter(&fresh);
        assert!(
            welcome["conversations"][0].get("recovered").is_none(),
            "who has nothing reads what is left over HTTP"
        );
        stage.ledger();
    }
}

#[test]
fn a_conversation_may_be_removed_whole_and_its_seqs_go_on() {
    let mut stage = keeping_two_days();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.ack(&agent, conversation, 3, 0);
    stage.ack(&visitor, conversation, 3, 0);
    stage.pass(3 * DAY_MS);
    sweep(&mut stage);
    let ledger = stage.ledger().total();
    assert_eq!((ledger.accepted, ledger.delivered), (1, 1));
    assert!(stage.closes.is_empty(), "they had it all");
    stage.restart();
    stage.announce(&agent);
    stage.announce(&visitor);
    stage.settle();
    stage.take_all(&visitor);
    stage.send(&agent, 1, conversation, "good morning");
    stage.settle();
    assert_eq!(stage.seqs(&visitor), [4]);
    // The answer to a repeat of what was removed is that it is one.
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    let result = stage.take(&visitor, "send_result").pop().unwrap();
    assert_eq!(outcome(&result), "duplicate");
    assert_eq!(stage.ledger().total().accepted, 2);
}

#[test]
fn marks_that_are_not_stored_yet_are_not_overtaken() {
    let mut stage = keeping_two_days();
    let (agent, visitor, conversation) = chat(&mut stage);
    say(&mut stage, &agent, conversation, 1..=5);
    stage.pass(1_000);
    stage.now_us += 3 * DAY_MS * 1_000;
    // Acknowledged in the very turn in which the sweep is due.
    stage.ack(&visitor, conversation, 8, 0);
    stage.ack(&agent, conversation, 3, 0);
    sweep(&mut stage);
    let ledger = stage.ledger().total();
    assert_eq!((ledger.delivered, ledger.expired), (6, 0));
}

#[test]
fn nothing_is_removed_where_no_number_is_set() {
    let mut stage = Stage::new();
    chat(&mut stage);
    stage.pass(4_000 * DAY_MS);
    sweep(&mut stage);
    assert_eq!(stage.ledger().total().pending, 1);
}

#[test]
fn an_idempotency_key_is_known_for_as_long_as_it_was_promised_and_then_forgotten() {
    let mut stage = Stage::new();
    let visitor = stage.visitor(1, 11);
    let send = |text: &str, key: u128| HttpCommand::Send {
        by: actor(&visitor),
        conversation: None,
        text: text.into(),
        key_hash: Some(key),
        page: "p".into(),
    };
    let mut answers = Vec::new();
    // Enough for three steps of the sweep.
    for key in 0..1_100 {
        stage.now_us += 200_000;
        stage.ask(send("hello", key)).unwrap();
    }
    for hours in [47, 3] {
        stage.pass(hours * HOUR_MS);
        sweep(&mut stage);
        let Ok(HttpAnswer::Sent(sent)) = stage.ask(send("hello", 1)) else {
            panic!("not sent");
        };
        answers.push(sent.outcome);
    }
    assert_eq!(answers, [Outcome::Duplicate, Outcome::Accepted]);
    stage.ledger();
}
