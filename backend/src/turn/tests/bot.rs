//! A bot answers visitors while nobody else does, and only then.

use tidegate_protocol::{Id, fb, message};

use super::double::{AboutText, Double as Played};
use super::stage::{Client, Stage, actor, close_command, id, number, outcome};
use crate::app::command::{HttpAnswer, HttpCommand};
use crate::engine::kinds::AgentStatus;
use crate::engine::{BOT_PRINCIPAL, Rules};
use crate::turn::bot::Bot;
use crate::turn::tally::WorkerTally;
use crate::workers::bot::{BotAnswer, BotQuestion};

const ANSWER_MS_MAX: u64 = 5_000;
const ASKED_MAX: usize = 4;

impl AboutText for BotQuestion {
    fn text(&self) -> &str {
        &self.text
    }
}

pub(super) type Double = Played<BotQuestion, BotAnswer>;

pub(super) fn set_bot(stage: &mut Stage) -> Double {
    let double = Double::default();
    let worker = Box::new(double.clone());
    let bot = Bot::new(worker, ANSWER_MS_MAX * 1_000, ASKED_MAX);
    stage.turn().set_bot(bot);
    double
}

/// A visitor, a bot, and no agent.
fn asked() -> (Stage, Double, Client) {
    let mut stage = Stage::new();
    let bot = set_bot(&mut stage);
    let visitor = stage.visitor(1, 11);
    stage.enter(&visitor);
    (stage, bot, visitor)
}

fn say(text: &str) -> BotAnswer {
    BotAnswer::Say(text.into())
}

/// Sends a text, and says to which conversation it went.
fn send(stage: &mut Stage, of: &Client, n: u64, text: &str) -> Id {
    stage.send(of, n, Id::ABSENT, text);
    stage.settle();
    let result = stage.take(of, "send_result").pop().expect("a result");
    assert_eq!(outcome(&result), "accepted");
    id(&result, "conversation")
}

/// Texts with the role of who wrote them; system messages are passed over.
fn heard(stage: &mut Stage, by: &Client) -> Vec<(String, String)> {
    stage.settle();
    let messages = stage.take(by, "message");
    let word = |message: &serde_json::Value, field: &str| {
        let default = if field == "sender_role" {
            "visitor"
        } else {
            ""
        };
        message[field].as_str().unwrap_or(default).to_owned()
    };
    let texts = messages
        .iter()
        .filter(|message| message["content"].as_str() != Some("system"));
    texts
        .map(|message| (word(message, "sender_role"), word(message, "text")))
        .collect()
}

fn tally(stage: &mut Stage) -> WorkerTally {
    stage.turn().workers()[0].tally
}

#[test]
fn a_waiting_visitor_hears_the_bot_and_waits_on() {
    let (mut stage, bot, visitor) = asked();
    let conversation = send(&mut stage, &visitor, 1, "when do you open?");
    let question = bot.newest();
    assert_eq!(
        (question.conversation, question.visitor),
        (conversation, visitor.principal)
    );
    assert!(!question.agents_online, "nobody is there");
    let find = HttpCommand::FindOpen {
        by: actor(&visitor),
    };
    let HttpAnswer::Conversation(before) = stage.ask(find.clone()).unwrap() else {
        panic!("a conversation");
    };
    assert_eq!(question.seq, before.seq);

    stage.now_us += 1_000_000;
    bot.answer("when do you open?", say("at nine"));
    stage.settle();
    let messages = stage.take(&visitor, "message");
    let said = messages.last().expect("a message");
    assert_eq!(
        (said["text"].as_str(), said["sender_role"].as_str()),
        (Some("at nine"), Some("bot"))
    );
    assert_eq!(id(said, "sender"), BOT_PRINCIPAL);
    assert_eq!(number(said, "seq"), before.seq + 1);

    let HttpAnswer::Conversation(after) = stage.ask(find).unwrap() else {
        panic!("a conversation");
    };
    assert_eq!(
        (after.status, after.position, after.unanswered_since_us),
        (before.status, before.position, before.unanswered_since_us),
        "it still waits, in its place, for an answer"
    );
    assert!(after.unanswered_since_us > 0);
    assert_eq!(after.last_text, "at nine");
    let figures = WorkerTally {
        asked: 1,
        answered: 1,
        ..WorkerTally::default()
    };
    assert_eq!(tally(&mut stage), figures);
    assert_eq!(stage.turn().engine().tally().bot_said, 1);
    let live = stage.handle.as_ref().unwrap().live();
    assert_eq!(live.answer_ms, 0, "it is no agent's answer");
}

#[test]
fn a_bots_text_is_in_the_ledger_until_the_visitor_has_it() {
    let (mut stage, bot, visitor) = asked();
    let conversation = send(&mut stage, &visitor, 1, "hello");
    bot.answer("hello", say("I am a bot"));
    let ledger = stage.ledger();
    assert_eq!(
        (ledger.to_agent.accepted, ledger.to_visitor.accepted),
        (1, 1)
    );
    assert_eq!(ledger.to_visitor.pending, 1);
    // 1 queued, 2 hello, 3 the bot's.
    stage.ack(&visitor, conversation, 3, 3);
    assert_eq!(stage.ledger().to_visitor.delivered, 1);
    stage.restart();
    let ledger = stage.ledger();
    assert_eq!(
        (ledger.to_visitor.delivered, ledger.to_agent.pending),
        (1, 1)
    );
}

#[test]
fn a_visitor_who_comes_back_is_sent_what_the_bot_said_meanwhile() {
    let (mut stage, bot, visitor) = asked();
    send(&mut stage, &visitor, 1, "hello");
    stage.close(&visitor);
    stage.settle();
    bot.answer("hello", say("I am a bot"));
    stage.settle();
    let again = stage.visitor(1, 12);
    stage.enter(&again);
    let heard = heard(&mut stage, &again);
    assert!(
        heard.contains(&("bot".into(), "I am a bot".into())),
        "{heard:?}"
    );
}

#[test]
fn the_agent_who_takes_the_chat_sees_what_was_said_and_the_bot_is_asked_no_more() {
    let (mut stage, bot, visitor) = asked();
    let conversation = send(&mut stage, &visitor, 1, "hello");
    bot.answer("hello", say("I am a bot"));
    stage.settle();
    let agent = stage.agent(1);
    stage.enter(&agent);
    let expected = [
        ("visitor".to_owned(), "hello".to_owned()),
        ("bot".to_owned(), "I am a bot".to_owned()),
    ];
    assert_eq!(heard(&mut stage, &agent), expected);
    send(&mut stage, &visitor, 2, "are you one?");
    assert_eq!(bot.asked(), 1, "an agent has it");

    // Its agent is gone: it waits again, and is asked about again.
    let back = message::Command {
        op: fb::CommandOp::Transfer,
        conversation,
        ..message::Command::default()
    };
    let away = HttpCommand::SetStatus {
        by: actor(&agent),
        agent: agent.principal,
        status: AgentStatus::Away,
    };
    stage.ask(away).unwrap();
    stage.command(&agent, back);
    stage.settle();
    send(&mut stage, &visitor, 3, "where are you?");
    assert_eq!(bot.newest().text, "where are you?");
}

#[test]
fn what_the_bot_says_when_an_agent_has_the_chat_or_it_is_over_is_dropped_and_counted() {
    let (mut stage, bot, visitor) = asked();
    let conversation = send(&mut stage, &visitor, 1, "hello");
    let agent = stage.agent(1);
    stage.enter(&agent);
    bot.answer("hello", say("I am a bot"));
    stage.settle();
    let tally = stage.turn().engine().tally().clone();
    assert_eq!((tally.bot_said, tally.bot_dropped), (0, 1));

    let other = stage.visitor(2, 12);
    let away = HttpCommand::SetStatus {
        by: actor(&agent),
        agent: agent.principal,
        status: AgentStatus::Away,
    };
    stage.ask(away).unwrap();
    stage.enter(&other);
    let closed = send(&mut stage, &other, 1, "is anybody there?");
    stage.command(&other, close_command(closed));
    stage.settle();
    bot.answer("is anybody there?", say("only me"));
    stage.settle();
    assert_eq!(stage.turn().engine().tally().bot_dropped, 2);
    assert_eq!(stage.ledger().to_visitor.accepted, 0);
    let live = stage.handle.as_ref().unwrap().live();
    assert_eq!(live.counters.bot_texts_dropped, 2);
    let heard = heard(&mut stage, &visitor);
    assert!(heard.iter().all(|(role, _)| role != "bot"), "{heard:?}");
    assert_ne!(conversation, closed);
}

#[test]
fn with_nothing_to_say_or_too_late_nothing_is_said() {
    let (mut stage, bot, visitor) = asked();
    send(&mut stage, &visitor, 1, "first");
    bot.answer("first", BotAnswer::Nothing);
    send(&mut stage, &visitor, 2, "second");
    stage.pass(ANSWER_MS_MAX);
    bot.answer("second", say("sorry, I was busy"));
    // Answered twice: once is enough.
    send(&mut stage, &visitor, 3, "third");
    bot.answer("third", say("once"));
    bot.answer("third", say("twice"));
    stage.settle();
    let heard = heard(&mut stage, &visitor);
    let by_bot: Vec<_> = heard.iter().filter(|(role, _)| role == "bot").collect();
    assert_eq!(by_bot, [&("bot".to_owned(), "once".to_owned())]);
    let figures = WorkerTally {
        asked: 3,
        answered: 2,
        defaulted: 1,
        late: 2,
    };
    assert_eq!(tally(&mut stage), figures);
}

#[test]
fn a_bot_that_is_gone_or_has_too_much_to_do_is_not_asked() {
    let (mut stage, bot, visitor) = asked();
    bot.set_gone(true);
    send(&mut stage, &visitor, 1, "is anybody there?");
    bot.set_gone(false);
    for n in 2..=7 {
        send(&mut stage, &visitor, n, "hello?");
    }
    assert_eq!(bot.asked(), ASKED_MAX);
    assert_eq!(tally(&mut stage).defaulted, 3);
    stage.pass(ANSWER_MS_MAX);
    send(&mut stage, &visitor, 8, "and now?");
    assert_eq!(bot.newest().text, "and now?", "the others were given up");
}

#[test]
fn a_text_over_http_asks_the_bot_as_well_and_is_told_whether_agents_are_there() {
    let (mut stage, bot, visitor) = asked();
    // Online, with as many chats as she takes.
    let agent = stage.agent(1);
    stage.enter(&agent);
    for n in 2..=4 {
        let other = stage.visitor(n, 20);
        stage.enter(&other);
        send(&mut stage, &other, 1, "hello");
    }
    assert_eq!(bot.asked(), 0, "an agent has each of them");
    let command = HttpCommand::Send {
        by: actor(&visitor),
        conversation: None,
        text: "by REST".into(),
        key_hash: None,
        page: String::new(),
    };
    stage.ask(command).unwrap();
    assert!(bot.newest().agents_online);
    bot.answer("by REST", say("one moment"));
    let heard = heard(&mut stage, &visitor);
    assert!(
        heard.contains(&("bot".into(), "one moment".into())),
        "{heard:?}"
    );
}

#[test]
fn who_waits_since_when_is_the_same_after_a_restart() {
    let (mut stage, bot, visitor) = asked();
    send(&mut stage, &visitor, 1, "hello");
    bot.answer("hello", say("I am a bot"));
    stage.settle();
    let find = HttpCommand::FindOpen {
        by: actor(&visitor),
    };
    let HttpAnswer::Conversation(before) = stage.ask(find.clone()).unwrap() else {
        panic!("a conversation");
    };
    stage.restart();
    let HttpAnswer::Conversation(after) = stage.ask(find).unwrap() else {
        panic!("a conversation");
    };
    assert!(before.unanswered_since_us > 0);
    assert_eq!(
        (before.unanswered_since_us, before.last_text, before.seq),
        (after.unanswered_since_us, after.last_text, after.seq)
    );
}

#[test]
fn nothing_is_asked_about_a_text_whose_commit_failed_until_it_is_committed() {
    let (mut stage, bot, visitor) = asked();
    let fault = crate::store::CommitError::Busy("planted".into());
    stage.faults.borrow_mut().push_back(Some(fault));
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    assert_eq!(bot.asked(), 0);
    stage.pass(500);
    assert_eq!(bot.asked(), 1);
}

#[test]
fn a_bots_text_that_its_visitor_never_had_expires_like_any_other() {
    const HOUR_US: u64 = 3_600_000_000;
    let mut stage = Stage::with(Rules {
        window_bytes_max: 256 << 10,
        messages_kept_us: 24 * HOUR_US,
        ..Rules::default()
    });
    let bot = set_bot(&mut stage);
    let visitor = stage.visitor(1, 11);
    stage.enter(&visitor);
    send(&mut stage, &visitor, 1, "hello");
    bot.answer("hello", say("I am a bot"));
    stage.settle();
    stage.now_us += 25 * HOUR_US;
    for _ in 0..100 {
        stage.pass(20);
    }
    let ledger = stage.ledger();
    assert_eq!((ledger.to_visitor.expired, ledger.to_agent.expired), (1, 1));
}
