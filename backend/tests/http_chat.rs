//! curl alone can chat: a visitor and an agent, over HTTP only.

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::backend::Backend;

#[test]
fn a_visitor_and_an_agent_chat_over_http_alone() {
    let backend = Backend::start();
    let (boss, _) = backend.supervisor();
    let (lin, lin_id) = backend.agent(&boss, "lin");
    let (visitor, visitor_id) = backend.visitor();

    // Nothing yet.
    assert_eq!(
        visitor.get("/api/visitor/queue-position").problem(404),
        "no_such_conversation"
    );
    let empty = visitor.get("/api/visitor/messages").expect(200);
    assert_eq!(
        (&empty["conversation"], &empty["messages"]),
        (&json!(null), &json!([]))
    );

    // The first message begins the conversation; nobody is online, so it waits.
    let sent = backend.say(&visitor, "你好，有人吗？");
    assert_eq!(sent["outcome"], "accepted");
    let conversation = sent["conversation"].as_str().unwrap().to_owned();
    let queue = visitor.get("/api/visitor/queue-position").expect(200);
    assert_eq!(
        (&queue["position"], &queue["status"]),
        (&json!(1), &json!("waiting"))
    );
    let waiting = lin
        .get("/api/agent/conversations?filter=waiting")
        .expect(200);
    assert_eq!(
        waiting["conversations"][0]["conversation"],
        conversation.as_str()
    );
    assert_eq!(waiting["conversations"][0]["unread"], 1);
    assert_eq!(waiting["conversations"][0]["kind"], "conversation_state");

    // Offline, nobody can take it; online, the agent is given it, and answers.
    let refused = lin.post("/api/agent/take", &json!({ "conversation": conversation }));
    assert_eq!(refused.problem(409), "agent_unavailable");
    backend.connect(&lin_id);
    support::until("the console is connected", || {
        boss.get("/api/admin/realtime-stats").expect(200)["agents_connected"] == 1
    });
    let presence = lin
        .send("PUT", "/api/agent/status", &json!({ "status": "online" }))
        .expect(200);
    assert_eq!(
        (&presence["status"], &presence["id"]),
        (&json!("online"), &json!(lin_id))
    );
    support::until("it is assigned", || {
        lin.get("/api/agent/conversations").expect(200)["conversations"][0]["conversation"]
            == conversation.as_str()
    });
    let history = lin
        .get(&format!("/api/agent/conversations/{conversation}/messages"))
        .expect(200);
    let texts: Vec<_> = history["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m| m["text"].as_str())
        .collect();
    assert_eq!(texts, ["你好，有人吗？"]);
    lin.post(
        "/api/agent/send-message",
        &json!({ "conversation": conversation, "text": "在的" }),
    )
    .expect(201);
    let unread = lin.get("/api/agent/unread-messages").expect(200);
    assert_eq!(unread["total"], 1);
    let page = visitor
        .get("/api/visitor/messages?after=0&limit=500")
        .expect(200);
    assert_eq!(page["conversation"], conversation.as_str());
    assert!(page["incarnation"].as_u64().unwrap() > 0);
    assert_eq!(page["state"]["agent"], lin_id.as_str());
    let seqs: Vec<_> = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "gapless");
    assert!(
        page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .any(|m| m["text"] == "在的" && m["sender_role"] == "agent")
    );

    // What the visitor says that they have is delivered; what they read is read.
    let last = *seqs.last().unwrap();
    let page = visitor
        .get(&format!("/api/visitor/messages?after={last}&read={last}"))
        .expect(200);
    assert_eq!(page["messages"], json!([]));
    support::until("the marks are stored", || {
        let state = visitor.get("/api/visitor/messages").expect(200)["state"].clone();
        state["visitor_delivered"] == last && state["visitor_read"] == last
    });

    // Reading it as the agent clears the unread count.
    lin.get(&format!(
        "/api/agent/conversations/{conversation}/messages?after={last}&read={last}"
    ))
    .expect(200);
    support::until("the unread count is cleared", || {
        lin.get("/api/agent/unread-messages").expect(200)["total"] == 0
    });

    // Detail, transfer, close.
    let detail = lin
        .get(&format!("/api/agent/conversations/{conversation}"))
        .expect(200);
    assert_eq!(detail["visitor"]["id"], visitor_id.as_str());
    assert_eq!(detail["earlier"], json!([]));
    lin.post(
        "/api/agent/transfer",
        &json!({ "conversation": conversation }),
    )
    .expect(200);
    let closed = visitor.post("/api/visitor/close", &json!({})).expect(200);
    assert_eq!(
        (&closed["status"], &closed["close_reason"]),
        (&json!("closed"), &json!("by_visitor"))
    );
    let reason = visitor
        .post(
            "/api/visitor/send-message",
            &json!({ "text": "x", "conversation": conversation }),
        )
        .problem(409);
    assert_eq!(reason, "conversation_closed");
    let list = boss
        .get("/api/agent/conversations?filter=closed")
        .expect(200);
    assert_eq!(
        list["conversations"][0]["conversation"],
        conversation.as_str()
    );

    // The next message begins another, and the first is among the earlier ones.
    let second = backend.say(&visitor, "again")["conversation"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(second, conversation);
    let detail = boss
        .get(&format!("/api/agent/conversations/{second}"))
        .expect(200);
    assert_eq!(detail["earlier"][0]["conversation"], conversation.as_str());
    backend.stop();
}

#[test]
fn an_idempotency_key_makes_a_repeat_harmless_even_after_a_restart_of_the_client() {
    let backend = Backend::start();
    let (visitor, _) = backend.visitor();
    let send = |key: &str, text: &str| {
        let body = json!({ "text": text }).to_string();
        visitor.request(
            "POST",
            "/api/visitor/send-message",
            &[("Idempotency-Key", key)],
            Some(body.as_bytes()),
        )
    };
    let first = send("k-1", "one").expect(201);
    let again = send("k-1", "one").expect(200);
    assert_eq!(again["outcome"], "duplicate");
    assert_eq!(again["seq"], first["seq"]);
    assert_eq!(send("k-1", "two").problem(422), "invalid_state");
    assert_eq!(send("k-2", "two").expect(201)["outcome"], "accepted");
    assert_eq!(send(&"k".repeat(300), "x").problem(422), "unknown_field");
    let texts = visitor.get("/api/visitor/messages?after=0").expect(200);
    let texts: Vec<_> = texts["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|m| m["text"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(texts, ["one", "two"]);
}

#[test]
fn twenty_first_messages_at_once_end_in_one_conversation() {
    let backend = Backend::start();
    let (visitor, _) = backend.visitor();
    let conversations: Vec<String> = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..20)
            .map(|n| {
                let visitor = visitor.clone();
                scope.spawn(move || {
                    let sent = visitor
                        .post(
                            "/api/visitor/send-message",
                            &json!({ "text": format!("{n}") }),
                        )
                        .expect(201);
                    sent["conversation"].as_str().unwrap().to_owned()
                })
            })
            .collect();
        senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .collect()
    });
    assert!(conversations.iter().all(|id| *id == conversations[0]));
    let page = visitor
        .get("/api/visitor/messages?after=0&limit=100")
        .expect(200);
    let texts = page["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|m| m["content"] == "text")
        .count();
    assert_eq!(texts, 20);
}

#[test]
fn a_long_poll_answers_when_there_is_news_and_not_before() {
    let backend = Backend::start();
    let (visitor, _) = backend.visitor();
    backend.say(&visitor, "first");
    let seq = visitor.get("/api/visitor/messages").expect(200)["state"]["seq"]
        .as_u64()
        .unwrap();
    let waiter = {
        let visitor = visitor.clone();
        std::thread::spawn(move || {
            let began = Instant::now();
            (
                visitor
                    .get(&format!("/api/visitor/messages?after={seq}&wait=20"))
                    .expect(200),
                began.elapsed(),
            )
        })
    };
    // The poll's own acknowledgement tells that it has come in.
    support::until("the poll waits", || {
        visitor.get("/api/visitor/messages").expect(200)["state"]["visitor_delivered"] == seq
    });
    assert!(!waiter.is_finished());
    backend.say(&visitor, "second");
    let (page, took) = waiter.join().unwrap();
    assert_eq!(page["messages"][0]["text"], "second");
    assert!(took < Duration::from_secs(15));

    // Without news: an empty page after the time asked for.
    let began = Instant::now();
    let page = visitor
        .get(&format!("/api/visitor/messages?after={}&wait=1", seq + 1))
        .expect(200);
    assert_eq!(page["messages"], json!([]));
    assert!(began.elapsed() >= Duration::from_millis(900));
}

#[test]
fn a_stop_ends_long_polls_at_once() {
    let backend = Backend::start();
    let (visitor, _) = backend.visitor();
    backend.say(&visitor, "first");
    let seq = visitor.get("/api/visitor/messages").expect(200)["state"]["seq"]
        .as_u64()
        .unwrap();
    let waiter = {
        let visitor = visitor.clone();
        std::thread::spawn(move || {
            visitor
                .get(&format!("/api/visitor/messages?after={seq}&wait=30"))
                .status
        })
    };
    support::until("the poll waits", || {
        visitor.get("/api/visitor/messages").expect(200)["state"]["visitor_delivered"] == seq
    });
    let began = Instant::now();
    backend.stop();
    assert_eq!(waiter.join().unwrap(), 200);
    assert!(began.elapsed() < Duration::from_secs(6));
}

#[test]
fn pages_of_history_meet_without_gap_or_overlap() {
    let backend = Backend::start();
    let (visitor, _) = backend.visitor();
    for n in 0..12 {
        backend.say(&visitor, &format!("text {n}"));
    }
    let seqs = |query: &str| -> Vec<u64> {
        let page = visitor
            .get(&format!("/api/visitor/messages?{query}"))
            .expect(200);
        page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["seq"].as_u64().unwrap())
            .collect()
    };
    let newest = seqs("limit=5");
    let middle = seqs(&format!("limit=5&before={}", newest[0]));
    let oldest = seqs(&format!("limit=50&before={}", middle[0]));
    let all: Vec<u64> = [oldest, middle, newest].concat();
    assert_eq!(all, (1..=all.len() as u64).collect::<Vec<_>>());
    assert_eq!(seqs("after=3&limit=2"), [4, 5]);
    assert_eq!(
        visitor
            .get("/api/visitor/messages?after=1&before=5")
            .problem(422),
        "unknown_field"
    );
    assert_eq!(
        visitor.get("/api/visitor/messages?limit=many").problem(422),
        "unknown_field"
    );
}

#[test]
fn an_old_token_keeps_the_visitor_and_a_forged_one_is_refused() {
    let backend = Backend::start();
    let first = backend
        .client
        .post("/api/visitor/token", &json!({ "name": "小明" }))
        .expect(200);
    for member in [
        "token",
        "visitor_id",
        "expires_at",
        "ws_url",
        "widget",
        "agents_online",
    ] {
        assert!(!first[member].is_null(), "{member} in {first}");
    }
    assert_eq!(first["widget"]["key"], "default");
    let renewed = backend
        .client
        .post("/api/visitor/token", &json!({ "visitor": first["token"] }))
        .expect(200);
    assert_eq!(renewed["visitor_id"], first["visitor_id"]);
    // Expired a minute ago: still the same visitor.
    let expired = backend.mint(tidegate_protocol::fb::Role::Visitor, |claims| {
        claims.iat -= 1_000;
        claims.exp -= 120;
    });
    let renewed = backend
        .client
        .post("/api/visitor/token", &json!({ "visitor": expired }))
        .expect(200);
    assert_eq!(
        renewed["visitor_id"],
        tidegate_protocol::Id(77 << 80).to_string().as_str()
    );
    let mut forged = first["token"].as_str().unwrap().to_owned();
    forged.replace_range(60..61, if &forged[60..61] == "A" { "B" } else { "A" });
    assert_eq!(
        backend
            .client
            .post("/api/visitor/token", &json!({ "visitor": forged }))
            .problem(401),
        "bad_token"
    );
    let agents = backend.mint(tidegate_protocol::fb::Role::Agent, |_| {});
    assert_eq!(
        backend
            .client
            .post("/api/visitor/token", &json!({ "visitor": agents }))
            .problem(401),
        "bad_token"
    );
    assert_eq!(
        backend
            .client
            .post("/api/visitor/token", &json!({ "widget": "none" }))
            .problem(404),
        "none"
    );
}
