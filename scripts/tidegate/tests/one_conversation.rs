//! A visitor has at most one open conversation, whatever arrives at once.

mod stage;

use std::collections::BTreeSet;
use std::sync::Barrier;

use serde_json::json;
use stage::people::{Person, conversation, visitor_token};
use stage::{Stage, http};

const STARTS_PER_WAY: usize = 10;

#[test]
fn twenty_starts_at_once_over_socket_and_rest_end_in_one() {
    let stage = Stage::start();
    let (token, id) = visitor_token(&stage);
    let gate = Barrier::new(2 * STARTS_PER_WAY);
    let found: BTreeSet<String> = std::thread::scope(|scope| {
        let (stage, token, id, gate) = (&stage, &token, &id, &gate);
        let mut threads = Vec::new();
        for i in 0..STARTS_PER_WAY {
            threads.push(scope.spawn(move || {
                let session = format!("{:016x}", 0xabc0 + i);
                let mut tab =
                    Person::connect(stage, token.clone(), id.clone(), &session, &json!([]), 1);
                gate.wait();
                conversation(&tab.say("from a tab", None))
            }));
            threads.push(scope.spawn(move || {
                gate.wait();
                let body = json!({"text": "from REST"});
                let answer =
                    http::post(stage.http, "/api/visitor/send-message", Some(token), &body);
                assert!(answer.status < 300, "{} {}", answer.status, answer.body);
                conversation(&answer.json())
            }));
        }
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no start fails"))
            .collect()
    });
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn one_visitors_token_reads_one_visitors_data() {
    let stage = Stage::start();
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("private", None));
    let (stranger, _) = visitor_token(&stage);
    let path = format!("/api/visitor/messages?conversation={chat}");
    let answer = http::get(stage.http, &path, Some(&stranger));
    assert!(
        [403, 404].contains(&answer.status),
        "{} {}",
        answer.status,
        answer.body
    );
    assert!(!answer.body.contains("private"));
    let body = json!({"text": "mine now", "conversation": chat});
    let answer = http::post(
        stage.http,
        "/api/visitor/send-message",
        Some(&stranger),
        &body,
    );
    assert!(
        [403, 404].contains(&answer.status),
        "{} {}",
        answer.status,
        answer.body
    );
    for path in [
        "/api/agent/conversations?filter=all",
        "/api/admin/realtime-stats",
        "/api/admin/export-sessions",
    ] {
        assert_eq!(
            http::get(stage.http, path, Some(&stranger)).status,
            403,
            "{path}"
        );
        assert_eq!(http::get(stage.http, path, None).status, 401, "{path}");
    }
    // Over the socket: the stranger's Ack and Send to it are refused as well.
    let mut other = Person::connect(
        &stage,
        stranger,
        String::new(),
        "00000000000000a9",
        &json!([]),
        1,
    );
    let refused = other.say("mine now", Some(&chat));
    assert_eq!(refused["outcome"], "refused", "{refused}");
}
