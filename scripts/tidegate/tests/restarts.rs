//! kill -9 in mid-chat: every message is there exactly once and in order, and nobody has to do anything.

mod stage;

use serde_json::json;
use stage::people::{Person, conversation};
use stage::{Stage, http};

/// Texts of a conversation as the visitor's REST history shows them, with their seqs.
fn history(stage: &Stage, visitor: &Person, chat: &str) -> Vec<(u64, String)> {
    let path = format!("/api/visitor/messages?conversation={chat}&after=0&limit=500");
    let answer = http::get(stage.http, &path, Some(&visitor.token));
    assert_eq!(answer.status, 200, "{}", answer.body);
    let body = answer.json();
    let messages = body["messages"].as_array().expect("messages").clone();
    messages
        .iter()
        .map(|message| {
            (
                message["seq"].as_u64().expect("seq"),
                message["text"].as_str().unwrap_or_default().to_owned(),
            )
        })
        .collect()
}

fn texts(messages: &[(u64, String)]) -> Vec<&str> {
    messages
        .iter()
        .map(|(_, text)| text.as_str())
        .filter(|text| !text.is_empty())
        .collect()
}

fn assert_gapless(messages: &[(u64, String)]) {
    let seqs: Vec<u64> = messages.iter().map(|(seq, _)| *seq).collect();
    let expected: Vec<u64> = (1..=u64::try_from(seqs.len()).expect("few")).collect();
    assert_eq!(seqs, expected);
}

#[test]
fn the_backend_dies_in_mid_chat_and_no_connection_notices() {
    let stage = Stage::start();
    let mut agent = Person::agent(&stage, "00000000000000b1");
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("before", None));
    assert_eq!(agent.hear()["text"], "before");

    for round in 0..3 {
        // In flight while it dies: each is answered once the successor has read what was left in the rings.
        let sent: Vec<String> = (0..5)
            .map(|i| format!("round {round} message {i}"))
            .collect();
        for text in &sent {
            visitor.post(text, Some(&chat));
        }
        stage.kill_and_await_successor("backend");
        for text in &sent {
            let result = visitor.socket.until("send_result");
            assert!(
                ["accepted", "duplicate"]
                    .contains(&result["outcome"].as_str().unwrap_or("accepted")),
                "{result}"
            );
            let mut heard = agent.hear();
            // An announcement resumes from the delivered mark, which we never moved: earlier ones come again.
            while heard["text"] != json!(text) {
                heard = agent.hear();
            }
        }
    }
    let all = history(&stage, &visitor, &chat);
    assert_gapless(&all);
    let mut expected = vec!["before".to_owned()];
    expected
        .extend((0..3).flat_map(|round| (0..5).map(move |i| format!("round {round} message {i}"))));
    assert_eq!(texts(&all), expected);
}

#[test]
fn the_gateway_dies_in_mid_chat_and_both_resume_without_a_gap() {
    let stage = Stage::start();
    let mut agent = Person::agent(&stage, "00000000000000b1");
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let first = visitor.say("one", None);
    let chat = conversation(&first);
    let incarnation = agent.socket.until("conversation_state")["incarnation"].clone();
    let seen = agent.hear()["seq"].as_u64().expect("seq");
    visitor.post("two", Some(&chat));
    visitor.post("three", Some(&chat));
    stage.kill_and_await_successor("gateway");

    // The visitor does not know what was accepted: it sends both again, under the same numbers.
    let (token, id) = (visitor.token.clone(), visitor.id.clone());
    let mut visitor = Person::connect(&stage, token, id, "00000000000000a1", &json!([]), 2);
    for text in ["two", "three"] {
        let result = visitor.say(text, Some(&chat));
        assert!(
            ["accepted", "duplicate"].contains(&result["outcome"].as_str().expect("an outcome")),
            "{result}"
        );
    }
    let cursors = json!([{"conversation": chat, "incarnation": incarnation, "seq": seen}]);
    let (token, id) = (agent.token.clone(), agent.id.clone());
    agent = Person::connect(&stage, token, id, "00000000000000b1", &cursors, 1);
    assert_eq!(agent.hear()["text"], "two");
    assert_eq!(agent.hear()["text"], "three");
    let all = history(&stage, &visitor, &chat);
    assert_gapless(&all);
    assert_eq!(texts(&all), ["one", "two", "three"]);
}

#[test]
fn a_stop_and_a_start_keep_everything() {
    let stage = Stage::start();
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("kept", None));
    let settings = std::fs::read_to_string(
        stage
            .directory
            .path()
            .join("tidegate-data/run/settings.toml"),
    );
    let settings: toml::Table = settings.expect("written").parse().expect("TOML");
    let bus = settings["bus_dir"].as_str().expect("a path").to_owned();
    assert!(std::path::Path::new(&bus).exists());
    let (code, directory) = stage.stop();
    assert_eq!(code, Some(0));
    assert!(
        !std::path::Path::new(&bus).exists(),
        "the bus's memory is given back"
    );
    let stage = Stage::start_in(directory, &[], &[]);
    assert_eq!(stage.password, None, "the password is shown once");
    assert_eq!(texts(&history(&stage, &visitor, &chat)), ["kept"]);
}
