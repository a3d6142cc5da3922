//! A translator and a bot in Python beside a whole Tidegate: each answers, is killed, and its successor goes on.

mod stage;

use serde_json::{Value, json};
use stage::people::{Person, agent_token, conversation};
use stage::workers::{Worker, await_figure, figure};
use stage::{Stage, eventually, http, signal};

fn text(message: &Value) -> &str {
    message["text"].as_str().unwrap_or_default()
}

#[test]
fn a_translator_translates_both_sides_is_killed_with_a_text_in_hand_and_its_successor_goes_on() {
    let settings = [
        ("TIDEGATE_BACKEND__TRANSLATION__ENABLED", "true"),
        (
            "TIDEGATE_BACKEND__TRANSLATION__WORKER_ANSWER_MS_MAX",
            "2500",
        ),
    ];
    let stage = Stage::start_in(stage::directory(), &[], &settings);
    let mut agent = Person::agent(&stage, "00000000000000b1");
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("hello", None));
    assert_eq!(text(&agent.hear()), "hello", "nobody is there to translate");

    let worker = Worker::start(&stage, "translation");
    visitor.say("Hello, where is my order?", Some(&chat));
    assert_eq!(
        text(&agent.hear()),
        "Hello, where is my order?\n你好, where is my 订单?"
    );
    agent.say("谢谢", Some(&chat));
    assert_eq!(text(&visitor.hear()), "谢谢\nthanks");
    visitor.say("no such word", Some(&chat));
    assert_eq!(text(&agent.hear()), "no such word");
    await_figure(&stage, "worker_answered_total", "translation", 3);

    // It has the text and says nothing; then it dies.
    signal(worker.pid(), "STOP");
    visitor.post("is my order lost?", Some(&chat));
    drop(worker);
    visitor.socket.until("send_result");
    assert_eq!(text(&agent.hear()), "is my order lost?", "as it is");
    await_figure(&stage, "worker_present", "translation", 0);
    visitor.say("thanks", Some(&chat));
    assert_eq!(text(&agent.hear()), "thanks");
    await_figure(&stage, "worker_defaulted_total", "translation", 3);

    let _successor = Worker::start(&stage, "translation");
    visitor.say("thanks", Some(&chat));
    assert_eq!(text(&agent.hear()), "thanks\n谢谢");
    stage.check_ledger();
    let (code, _directory) = stage.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn a_bot_answers_who_waits_is_killed_and_its_successor_goes_on_until_an_agent_takes_the_chat() {
    let settings = [("TIDEGATE_BACKEND__BOT__ENABLED", "true")];
    let stage = Stage::start_in(stage::directory(), &[], &settings);
    let worker = Worker::start(&stage, "bot");

    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("When do you open?", None));
    let said = visitor.hear();
    assert_eq!(said["sender_role"], "bot");
    assert_eq!(said["sender"], format!("{:032x}", 0x62_6f74));
    assert!(
        text(&said).contains("from 9:00") && text(&said).contains("Nobody is here"),
        "{said}"
    );
    visitor.say("something else", Some(&chat));
    let posted = http::post(
        stage.http,
        "/api/visitor/send-message",
        Some(&visitor.token),
        &json!({"text": "and my order?"}),
    );
    assert_eq!(posted.status, 201, "{}", posted.body);
    let said = eventually("the bot's answer to what came over HTTP", || {
        let said = visitor.hear();
        (said["sender_role"] == "bot").then_some(said)
    });
    assert!(text(&said).contains("number of your order"), "{said}");
    await_figure(&stage, "worker_answered_total", "bot", 3);

    drop(worker);
    await_figure(&stage, "worker_present", "bot", 0);
    visitor.say("are you still open?", Some(&chat));
    await_figure(&stage, "worker_defaulted_total", "bot", 1);

    let _successor = Worker::start(&stage, "bot");
    visitor.say("is anybody there? are you open?", Some(&chat));
    let said = visitor.hear();
    assert!(said["sender_role"] == "bot" && text(&said).contains("from 9:00"));

    let mut agent = Person::agent(&stage, "00000000000000b1");
    let mut by_bot = 0;
    while by_bot < 3 {
        let heard = agent.hear();
        assert_eq!(heard["conversation"], chat.as_str());
        by_bot += u32::from(heard["sender_role"] == "bot");
    }
    visitor.say("so you are open?", Some(&chat));
    agent.say("we are", Some(&chat));
    assert_eq!(text(&visitor.hear()), "we are", "the bot keeps quiet");
    // Six of the visitor's, three of the bot's, one of the agent's: of the six it was asked about four.
    eventually("all texts to be counted", || {
        let metrics = http::get(stage.http, "/metrics", None).body;
        let all = "tidegate_messages_accepted_total 10";
        metrics.lines().any(|line| line == all).then_some(())
    });
    assert_eq!(figure(&stage, "worker_asked_total", "bot"), 4);
    let (supervisor, _) = agent_token(&stage);
    let path = "/api/admin/export-sessions?format=jsonl";
    let export = http::get(stage.http, path, Some(&supervisor)).json();
    assert_eq!(
        (&export["visitor_messages"], &export["agent_messages"]),
        (&json!(6), &json!(1)),
        "what the bot said is nobody's answer: {export}"
    );
    stage.check_ledger();
    let (code, _directory) = stage.stop();
    assert_eq!(code, Some(0));
}
