//! A visitor and an agent chat in JSON over plain sockets: ticks, typing, close, and what each is told.

mod stage;

use serde_json::json;
use stage::Stage;
use stage::people::{Person, conversation};

#[test]
fn a_question_is_queued_assigned_answered_ticked_and_closed() {
    let stage = Stage::start();
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    // Nobody is online: the visitor waits, and is told so before the answer to what was sent.
    visitor.post("在吗？", None);
    let state = visitor.socket.until("conversation_state");
    assert_eq!(state["status"], "waiting", "{state}");
    let asked = visitor.socket.until("send_result");
    assert_eq!(asked["outcome"], "accepted", "{asked}");
    let chat = conversation(&asked);
    let queue = visitor.socket.until("queue_update");
    assert_eq!(queue["marks"][0]["place"], 1, "{queue}");
    assert_eq!(
        queue["marks"][0]["ticket"], state["queue_ticket"],
        "{queue} {state}"
    );

    // An agent comes and gets the conversation, with the question.
    let mut agent = Person::agent(&stage, "00000000000000b1");
    let question = agent.hear();
    assert_eq!(question["text"], "在吗？");
    assert_eq!(conversation(&question), chat);
    let joined = visitor.socket.until("message");
    assert_eq!(joined["system"], "agent_joined", "{joined}");

    // Delivered, then read: the visitor's ticks.
    let seq = question["seq"].as_u64().expect("a seq");
    agent.acknowledge(&chat, seq, 0);
    let delivered = visitor.socket.until("receipt");
    assert_eq!(
        (delivered["side"].as_str(), delivered["delivered"].as_u64()),
        (Some("agent"), Some(seq)),
        "{delivered}"
    );
    agent.acknowledge(&chat, seq, seq);
    let read = visitor.socket.until("receipt");
    assert_eq!(read["read"].as_u64(), Some(seq), "{read}");

    // Typing, then the answer.
    agent
        .socket
        .send(&json!({"kind": "typing", "conversation": chat, "active": true}).to_string());
    let typing = visitor.socket.until("typing_notice");
    assert_eq!(typing["active"], true, "{typing}");
    let answer = agent.say("在的，请讲。", Some(&chat));
    assert_eq!(answer["outcome"], "accepted", "{answer}");
    let heard = visitor.hear();
    assert_eq!(heard["text"], "在的，请讲。");
    assert_eq!(heard["seq"], answer["seq"]);

    // Closed by the visitor; both are told.
    visitor.command(&json!({"op": "close", "conversation": chat}));
    let closed = agent.socket.until("conversation_state");
    assert_eq!(closed["status"], "closed", "{closed}");
    assert_eq!(closed["close_reason"], "by_visitor", "{closed}");

    // A new question opens a new conversation.
    let again = visitor.say("还有一个问题", None);
    assert_eq!(again["outcome"], "accepted", "{again}");
    assert_ne!(conversation(&again), chat);
}

#[test]
fn a_repeat_is_answered_with_the_first_answer_and_a_jump_with_what_is_expected() {
    let stage = Stage::start();
    let mut visitor = Person::visitor(&stage, "00000000000000a2");
    let first = visitor.say("one", None);
    visitor
        .socket
        .send(&json!({"kind": "send", "n": 1, "text": "one"}).to_string());
    let repeat = visitor.socket.until("send_result");
    assert_eq!(repeat["outcome"], "duplicate", "{repeat}");
    assert_eq!(repeat["seq"], first["seq"]);
    visitor
        .socket
        .send(&json!({"kind": "send", "n": 1, "text": "other"}).to_string());
    assert_eq!(
        visitor.socket.until("send_result")["outcome"],
        "id_conflict"
    );
    visitor
        .socket
        .send(&json!({"kind": "send", "n": 5, "text": "five"}).to_string());
    let gap = visitor.socket.until("send_result");
    assert_eq!(
        (gap["outcome"].as_str(), gap["expected_n"].as_u64()),
        (Some("gap"), Some(2)),
        "{gap}"
    );
}

#[test]
fn malformed_input_gets_a_reason_that_names_the_field_and_repeats_get_a_close() {
    let stage = Stage::start();
    let mut visitor = Person::visitor(&stage, "00000000000000a3");
    visitor
        .socket
        .send(r#"{"kind":"send","n":"one","text":"x"}"#);
    let error = visitor.socket.until("error");
    assert_eq!(
        (error["reason"].as_str(), error["field"].as_str()),
        (Some("unknown_field"), Some("n")),
        "{error}"
    );
    visitor.socket.send("not json");
    assert_eq!(
        visitor.socket.until("error")["reason"],
        "malformed_envelope"
    );
    // The connection lives on, until it goes too far.
    assert_eq!(visitor.say("fine", None)["outcome"], "accepted");
    for _ in 0..100 {
        visitor.socket.send("not json");
    }
    let code = loop {
        match visitor.socket.next() {
            stage::socket::Frame::Text(_) => {}
            stage::socket::Frame::Close(code, _) => break code,
            stage::socket::Frame::End => panic!("no close frame"),
        }
    };
    assert_eq!(code, 4503);
}
