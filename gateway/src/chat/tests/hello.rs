//! Who is let in, and what happens to the others.

use super::stage::*;
use crate::service::{CloseCause, Codec, PeerClass, Taken, Told};
use tidegate_protocol::bus::{ENVELOPE, OPENED};
use tidegate_protocol::{Id, Kind, View, fb, message, token, verify};

#[test]
fn a_good_hello_becomes_one_opened_record_without_its_secrets() {
    let mut stage = Stage::new();
    stage.upgrade(id(3, 9), Codec::Flat);
    assert_eq!(
        stage.say(
            id(3, 9),
            &hello_of(&token_of(VISITOR, fb::Role::Visitor, "访客 8812"), 7)
        ),
        Taken::Yes
    );
    let taken = stage.take_all();
    assert_eq!(taken.len(), 1);
    assert!(taken[0].is(OPENED, id(3, 9)));
    assert_eq!(Id(taken[0].header.principal), VISITOR);
    let opened = opened(&taken[0]);
    assert_eq!(
        (opened.name, opened.record.session, opened.record.request),
        ("访客 8812", 7, 1)
    );
    assert_eq!(opened.record.connection, 4);
    assert_eq!(
        (
            opened.record.widget,
            opened.record.site,
            opened.record.flags
        ),
        (1, 1, 0)
    );
    assert_eq!(opened.record.heartbeat_ms, 60_000);
    assert_eq!(
        opened.record.peer_prefix[10..],
        [0xff, 0xff, 203, 0, 113, 0]
    );
    let Ok(View::Hello(hello)) = verify(Kind::Hello, opened.hello) else {
        panic!("a verified Hello")
    };
    assert_eq!(
        (hello.token(), hello.ticket(), hello.page()),
        (None, None, Some("/shop"))
    );
    assert!(
        stage.heard(id(3, 9)).is_empty(),
        "Welcome is the backend's to say"
    );
}

#[test]
fn what_is_pipelined_behind_hello_keeps_its_order() {
    let mut stage = Stage::new();
    stage.upgrade(id(0, 1), Codec::Flat);
    let mut batch = hello_of(&token_of(VISITOR, fb::Role::Visitor, ""), 7);
    for n in 1..=3 {
        batch.extend(send_of(n, "hi"));
    }
    assert_eq!(stage.say(id(0, 1), &batch), Taken::Yes);
    let kinds: Vec<u16> = stage
        .take_all()
        .iter()
        .map(|taking| taking.header.kind)
        .collect();
    assert_eq!(kinds, [OPENED, ENVELOPE, ENVELOPE, ENVELOPE]);
}

#[test]
fn an_envelope_names_its_principal_and_session_and_carries_the_payload_unchanged() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.say(id(0, 1), &send_of(1, "hi"));
    let taken = stage.take_all();
    let header = taken[1].header;
    assert_eq!(
        (Id(header.principal), header.trace, header.flags),
        (VISITOR, 7, Kind::Send as u16)
    );
    assert_eq!(taken[1].payload, send_of(1, "hi")[13..]);
}

#[test]
fn a_hello_in_json_is_the_same_hello() {
    let mut stage = Stage::new();
    stage.upgrade(id(0, 1), Codec::Json);
    let token = token_of(VISITOR, fb::Role::Visitor, "");
    let text = format!(
        r#"[{{"kind":"hello","token":"{token}","session":"0000000000000007"}},{{"kind":"send","n":1,"text":"hi"}}]"#
    );
    assert_eq!(stage.say_json(id(0, 1), &text), Taken::Yes);
    let taken = stage.take_all();
    assert_eq!(opened(&taken[0]).record.session, 7);
    let Ok(View::Send(send)) = verify(Kind::Send, &taken[1].payload) else {
        panic!("a verified Send")
    };
    assert_eq!((send.n(), send.text()), (1, Some("hi")));
}

#[test]
fn a_bad_token_gets_an_error_and_a_final_close_and_the_backend_hears_nothing() {
    let mut stage = Stage::new();
    let mut expired = token_of(VISITOR, fb::Role::Visitor, "");
    let claims = token::Claims {
        exp: START.s() - 1,
        ..token::verify(&expired, &key(), START.s()).unwrap()
    };
    expired = token::mint(&claims, &key());
    for (slot, token, reason, code) in [
        (0, "junk", "bad_token", 4500),
        (1, &*expired, "expired_token", 4504),
    ] {
        stage.upgrade(id(slot, 1), Codec::Flat);
        stage.say(id(slot, 1), &hello_of(token, 7));
        let heard = stage.heard(id(slot, 1));
        assert!(
            heard[0].contains(reason) && heard[0].contains(r#""request":1"#),
            "{heard:?}"
        );
        assert_eq!(stage.io.closes.last().map(|(_, code, _)| *code), Some(code));
        assert_eq!(
            stage.close(id(slot, 1), CloseCause::Service { code }),
            Told::Now
        );
    }
    assert!(stage.take_all().is_empty());
    for reason in [fb::Reason::BadToken, fb::Reason::ExpiredToken] {
        assert_eq!(stage.chat.counted_refused(reason), 1, "{reason:?}");
    }
}

#[test]
fn nothing_but_hello_and_ping_counts_before_hello() {
    let mut stage = Stage::new();
    stage.upgrade(id(0, 1), Codec::Flat);
    stage.say(id(0, 1), &ping_of(5));
    stage.say(id(0, 1), &send_of(1, "hi"));
    let heard = stage.heard(id(0, 1));
    assert!(
        heard[0].contains("pong") && heard[1].contains("not_welcomed"),
        "{heard:?}"
    );
    assert!(stage.take_all().is_empty());
}

#[test]
fn no_hello_within_ten_seconds_ends_the_connection() {
    let mut stage = Stage::new();
    stage.upgrade(id(0, 1), Codec::Flat);
    stage.live_ms(9_900);
    assert!(stage.io.closes.is_empty());
    stage.say(id(0, 1), &ping_of(1));
    stage.live_ms(200);
    assert_eq!(stage.io.closes[0].1, 4004, "a Ping is no Hello");
    assert_eq!(
        stage.close(id(0, 1), CloseCause::Service { code: 4004 }),
        Told::Now
    );
    assert!(stage.take_all().is_empty());
}

#[test]
fn a_second_hello_and_a_hello_without_session_are_refused() {
    let mut stage = Stage::new();
    stage.upgrade(id(0, 1), Codec::Flat);
    let token = token_of(VISITOR, fb::Role::Visitor, "");
    stage.say(id(0, 1), &hello_of(&token, 0));
    stage.say(id(0, 1), &hello_of(&token, 7));
    stage.say(id(0, 1), &hello_of(&token, 8));
    let heard = stage.heard(id(0, 1));
    assert!(
        heard[0].contains("\"field\":\"session\"") && heard[1].contains("invalid_state"),
        "{heard:?}"
    );
    assert_eq!(stage.take_all().len(), 1);
}

#[test]
fn agents_get_the_larger_out_queue() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.greet(id(1, 1), AGENT, fb::Role::Supervisor);
    assert_eq!(stage.io.classes[&id(0, 1)], PeerClass::Visitor);
    assert_eq!(stage.io.classes[&id(1, 1)], PeerClass::Agent);
}

#[test]
fn malformed_envelopes_get_errors_and_repeated_ones_a_close() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    for strike in 1..=8 {
        assert!(stage.io.closes.is_empty(), "strike {strike}");
        stage.say(id(0, 1), b"\x03 junk");
    }
    assert_eq!(stage.io.closes[0].1, 4503);
    assert_eq!(stage.heard(id(0, 1)).len(), 8);
    let counted = stage.chat.counted_refused(fb::Reason::MalformedEnvelope);
    assert_eq!(counted, 8, "refusals are counted by reason");
    assert_eq!(stage.take_all().len(), 1, "junk never reaches the backend");
}

#[test]
fn those_before_a_bad_one_in_a_batch_count_and_so_do_those_behind_it() {
    let mut stage = Stage::new();
    stage.greet(id(0, 1), VISITOR, fb::Role::Visitor);
    stage.take_all();
    let mut batch = send_of(1, "first");
    batch.extend(envelope(Kind::Send, |_| b"not a table".to_vec()));
    batch.extend(send_of(2, "second"));
    batch.extend(envelope(Kind::Pong, |builder| {
        message::Pong { request: 1 }.encode(builder).to_vec()
    }));
    batch.extend([250, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    stage.say(id(0, 1), &batch);
    assert_eq!(stage.take_all().len(), 2);
    assert_eq!(
        stage.heard(id(0, 1)).len(),
        1,
        "kinds that are unknown or lead the other way are skipped"
    );
}

#[test]
fn a_bad_member_in_json_is_named() {
    let mut stage = Stage::new();
    stage.upgrade(id(0, 1), Codec::Json);
    stage.say_json(id(0, 1), r#"{"kind":"ping","request":"seven"}"#);
    let heard = stage.heard(id(0, 1));
    assert!(
        heard[0].contains("unknown_field") && heard[0].contains(r#""field":"request""#),
        "{heard:?}"
    );
}

#[test]
fn the_other_type_of_message_ends_the_connection() {
    let mut stage = Stage::new();
    stage.upgrade(id(0, 1), Codec::Json);
    stage.say(id(0, 1), &ping_of(1));
    assert_eq!(stage.io.closes[0].1, 1003);
}
