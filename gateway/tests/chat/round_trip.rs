//! The ordinary day: hello, welcome, messages there and back, and the several ways of leaving.

use tidegate_gateway::{ExitReason, Inherited};
use tidegate_protocol::bus::{CLOSED, OPENED};
use tidegate_protocol::close::CloseCode;

use crate::room::{Backend, Gateway, Order};
use crate::support::{Heard, http, wait_for};

#[test]
fn two_people_chat_in_json() {
    let gateway = Gateway::start(|_| {});
    let _backend = Backend::start(&gateway.bus_dir);
    let mut ann = gateway.welcomed(1, 11);
    let mut bob = gateway.welcomed(2, 22);
    ann.send(1, "你好 Bob");
    ann.expect_sent(1, 1);
    bob.expect_message(1, "你好 Bob");
    bob.send(1, "hi");
    bob.expect_sent(1, 2);
    ann.expect_message(2, "hi");
    ann.ping(7);
}

#[test]
fn hello_and_what_is_pipelined_behind_it_may_come_in_one_segment() {
    let gateway = Gateway::start(|_| {});
    let _backend = Backend::start(&gateway.bus_dir);
    let mut ann = gateway.person();
    let token = crate::room::token_for(1);
    ann.say(&format!(
        r#"[{{"kind":"hello","token":"{token}","session":"000000000000000b"}},{{"kind":"send","n":1,"text":"a"}},{{"kind":"send","n":2,"text":"b"}}]"#
    ));
    ann.expect("welcome");
    ann.expect_sent(1, 1);
    ann.expect_sent(2, 2);
}

#[test]
fn a_bad_token_is_refused_and_closed_for_good() {
    let gateway = Gateway::start(|_| {});
    let backend = Backend::start(&gateway.bus_dir);
    let mut eve = gateway.person();
    eve.say(r#"{"kind":"hello","token":"forged","session":"0000000000000001"}"#);
    assert!(eve.expect("error").contains("bad_token"));
    eve.client.expect_close(CloseCode::BAD_TOKEN);
    gateway.welcomed(1, 11);
    assert_eq!(backend.count(|took| took.header.kind == OPENED), 1);
}

#[test]
fn a_superseded_connection_is_closed_for_good_and_the_newer_one_stays() {
    let gateway = Gateway::start(|_| {});
    let backend = Backend::start(&gateway.bus_dir);
    let mut older = gateway.welcomed(1, 11);
    let opened = backend.last_opened();
    let mut newer = gateway.welcomed(1, 11);
    backend.order(Order::Close {
        slot: opened.slot,
        generation: opened.generation,
        code: 4501,
    });
    older.client.expect_close(CloseCode::SUPERSEDED);
    wait_for("the end is told", || {
        backend.count(|took| took.header.kind == CLOSED) == 1
    });
    newer.ping(1);
}

#[test]
fn what_was_meant_for_an_earlier_connection_never_reaches_the_next_one_in_its_slot() {
    let gateway = Gateway::start(|_| {});
    let backend = Backend::start(&gateway.bus_dir);
    let ann = gateway.welcomed(1, 11);
    let earlier = backend.last_opened();
    drop(ann);
    wait_for("the end is told", || {
        backend.count(|took| took.header.kind == CLOSED) == 1
    });
    let mut bob = gateway.welcomed(2, 22);
    let later = backend.last_opened();
    assert_eq!(later.slot, earlier.slot, "the slot is used again");
    assert_ne!(later.generation, earlier.generation);
    backend.order(Order::Receipt {
        slot: earlier.slot,
        generation: earlier.generation,
        delivered: 1,
    });
    backend.order(Order::Receipt {
        slot: later.slot,
        generation: later.generation,
        delivered: 2,
    });
    assert!(bob.hear().contains(r#""delivered":2"#));
}

#[test]
fn repeated_junk_ends_its_connection_and_nobody_elses() {
    let gateway = Gateway::start(|_| {});
    let _backend = Backend::start(&gateway.bus_dir);
    let mut ann = gateway.welcomed(1, 11);
    let mut eve = gateway.welcomed(2, 22);
    for _ in 0..8 {
        eve.say("junk");
        assert!(eve.expect("error").contains("malformed_envelope"));
    }
    eve.client.expect_close(CloseCode::PROTOCOL_ABUSE);
    ann.ping(1);
}

#[test]
fn a_drain_says_goaway_closes_everybody_and_ends() {
    let mut gateway = Gateway::start(|_| {});
    let backend = Backend::start(&gateway.bus_dir);
    let mut people: Vec<_> = (1..=20).map(|n| gateway.welcomed(n, 11)).collect();
    gateway.handle.drain();
    for person in &mut people {
        assert!(person.expect("goaway").contains("retry_ms"));
        loop {
            match person.client.hear() {
                Heard::Close(code, _) => break assert_eq!(code, Some(CloseCode::DRAIN)),
                Heard::Text(_) | Heard::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(gateway.join(), ExitReason::Drained);
    wait_for("all ends are told", || {
        backend.count(|took| took.header.kind == CLOSED) == 20
    });
}

#[test]
fn the_metrics_page_counts_the_chat() {
    let gateway = Gateway::start(|_| {});
    let _backend = Backend::start(&gateway.bus_dir);
    let mut ann = gateway.welcomed(1, 11);
    ann.send(1, "hi");
    ann.expect("send_result");
    wait_for("the page shows it", || {
        let page = http(gateway.admin, "GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n");
        page.contains("tidegate_gateway_chat_hellos_total{shard=\"0\"} 1")
            && page.contains("tidegate_gateway_chat_envelopes_up_total{shard=\"0\"} 1")
            && page.contains("tidegate_gateway_chat_open{shard=\"0\"} 1")
    });
}

#[test]
fn without_its_key_the_gateway_says_what_to_do() {
    let config = tidegate_gateway::Config {
        token_key_file: "/nonexistent/token.key".into(),
        ..tidegate_gateway::Config::default()
    };
    let handle = tidegate_gateway::Handle::new().unwrap();
    let sentence = tidegate_gateway::run(config, Inherited::default(), &handle)
        .unwrap_err()
        .to_string();
    assert!(
        sentence.contains("/nonexistent/token.key") && sentence.contains("tidegate up"),
        "{sentence}"
    );
}
