//! RFC 6455 section 4 as stories: who is upgraded, and what everybody else is told.

use tidegate_protocol::codec::Codec;
use tidegate_protocol::limits::HANDSHAKE_BYTES_MAX;
use tidegate_protocol::ws::client::{ClientError, UpgradeRequest};
use tidegate_protocol::ws::handshake::{
    Outcome, Plain, Policy, Refusal, Subprotocols, Upgrade, parse,
};

const GOOD: &str = "GET /ws HTTP/1.1\r\nHost: chat.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

fn policy() -> Policy {
    Policy {
        allowed_origins: vec!["https://shop.example".into()],
        ..Policy::default()
    }
}

/// The request with one line replaced, or with lines added where `from` is the empty line.
fn with(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from));
    GOOD.replacen(from, to, 1)
}

fn with_field(field: &str) -> String {
    format!(
        "{}{field}\r\n\r\n",
        GOOD.strip_suffix("\r\n").expect("ends with an empty line")
    )
}

fn upgrade(request: &str) -> Upgrade<'_> {
    match parse(request.as_bytes(), 0, &policy()) {
        Outcome::Upgrade(upgrade) => upgrade,
        other => panic!("{request}\n{other:?}"),
    }
}

fn refusal(request: &str) -> Refusal {
    match parse(request.as_bytes(), 0, &policy()) {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{request}\n{other:?}"),
    }
}

fn refused(request: &str) -> (u16, &'static str) {
    let refusal = refusal(request);
    (refusal.status, refusal.label)
}

#[test]
fn rfc_6455_1_3_the_example_is_answered_byte_for_byte() {
    let mut answer = Vec::new();
    upgrade(GOOD).append_response(&mut answer);
    assert_eq!(
        String::from_utf8_lossy(&answer),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn rfc_6455_4_2_1_names_and_tokens_are_compared_without_case_and_within_lists() {
    upgrade(&with(
        "Connection: Upgrade",
        "connection: keep-alive, UPGRADE",
    ));
    upgrade(&with("Upgrade: websocket", "UPGRADE: WebSocket"));
    upgrade(&with(
        "Connection: Upgrade",
        "Connection: keep-alive\r\nConnection: Upgrade",
    ));
    upgrade(&with("/ws", "/"));
    assert_eq!(
        upgrade(&with("/ws", "/ws?from=sale")).query,
        Some("from=sale")
    );
}

#[test]
fn the_first_frames_in_the_requests_own_segment_are_not_lost() {
    let bytes = format!("{GOOD}frames");
    assert_eq!(upgrade(&bytes).request_bytes, GOOD.len());
}

#[test]
fn a_request_byte_by_byte_is_upgraded_at_its_last_byte() {
    let policy = policy();
    for there in 1..GOOD.len() {
        assert_eq!(
            parse(&GOOD.as_bytes()[..there], there - 1, &policy),
            Outcome::Incomplete,
            "{there}"
        );
    }
    assert!(matches!(
        parse(GOOD.as_bytes(), GOOD.len() - 1, &policy),
        Outcome::Upgrade(_)
    ));
}

#[test]
fn rfc_6455_4_2_2_another_version_is_told_which_one_is_spoken() {
    for version in ["8", "0", "14", "13, 8", ""] {
        let request = with(
            "Sec-WebSocket-Version: 13",
            &format!("Sec-WebSocket-Version: {version}"),
        );
        let refusal = refusal(&request);
        assert_eq!((refusal.status, refusal.label), (426, "version"));
        let mut answer = Vec::new();
        refusal.append_response(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.contains("\r\nSec-WebSocket-Version: 13\r\n"),
            "{answer}"
        );
        assert!(
            answer.contains("\r\nConnection: Upgrade, close\r\n"),
            "{answer}"
        );
    }
    assert_eq!(
        refused(&with("Sec-WebSocket-Version: 13\r\n", "")),
        (426, "version")
    );
}

#[test]
fn rfc_6455_4_2_1_what_is_no_upgrade_is_told_how_to_ask_for_one() {
    assert_eq!(
        refused(&with("Upgrade: websocket\r\n", "")),
        (426, "upgrade")
    );
    assert_eq!(
        refused(&with("Connection: Upgrade\r\n", "")),
        (426, "upgrade")
    );
    assert_eq!(
        refused(&with("Upgrade: websocket", "Upgrade: h2c")),
        (426, "upgrade")
    );
    assert_eq!(
        refused("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        (426, "upgrade")
    );
}

#[test]
fn rfc_6455_4_2_1_the_handshake_is_a_get_of_http_1_1() {
    for method in ["POST", "HEAD", "OPTIONS", "PUT", "CONNECT"] {
        let refusal = refusal(&with("GET", method));
        assert_eq!((refusal.status, refusal.label), (405, "method"));
    }
    let mut answer = Vec::new();
    refusal(&with("GET", "POST")).append_response(&mut answer);
    assert!(String::from_utf8_lossy(&answer).contains("\r\nAllow: GET\r\n"));
    assert_eq!(
        refused(&with("HTTP/1.1", "HTTP/1.0")),
        (505, "http_version")
    );
}

#[test]
fn rfc_6455_4_2_1_the_key_is_16_bytes_once() {
    for key in [
        "",
        "abc",
        "dGhlIHNhbXBsZSBub25jZQ",
        "dGhlIHNhbXBsZSBub25jZSE=",
        "dGhlIHNhbXBsZSBub25jZR==",
    ] {
        let request = with(
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            &format!("Sec-WebSocket-Key: {key}"),
        );
        assert_eq!(refused(&request), (400, "key"), "{key}");
    }
    assert_eq!(
        refused(&with_field("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")),
        (400, "key")
    );
    assert_eq!(
        refused(&with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "")),
        (400, "key")
    );
}

#[test]
fn rfc_9112_3_2_there_is_exactly_one_host() {
    assert_eq!(refused(&with("Host: chat.example\r\n", "")), (400, "host"));
    assert_eq!(refused(&with_field("Host: other.example")), (400, "host"));
}

#[test]
fn rfc_6455_4_2_2_the_clients_first_known_subprotocol_is_chosen_and_named() {
    let request =
        with_field("Sec-WebSocket-Protocol: tidegate.v9.xx, tidegate.v1.fb, tidegate.v1.json");
    let chosen = upgrade(&request);
    assert_eq!(chosen.codec, Codec::Flat);
    let mut answer = Vec::new();
    chosen.append_response(&mut answer);
    assert!(answer.ends_with(b"\r\nSec-WebSocket-Protocol: tidegate.v1.fb\r\n\r\n"));
    let two_lines = with_field(
        "Sec-WebSocket-Protocol: tidegate.v1.json\r\nSec-WebSocket-Protocol: tidegate.v1.fb",
    );
    assert_eq!(upgrade(&two_lines).codec, Codec::Json);
}

#[test]
fn without_an_offer_the_codec_is_json_and_an_unknown_offer_is_refused() {
    let silent = upgrade(GOOD);
    assert_eq!(
        (silent.codec, silent.names_subprotocol),
        (Codec::Json, false)
    );
    assert_eq!(
        refused(&with_field("Sec-WebSocket-Protocol: soap")),
        (400, "subprotocol")
    );
    let echo = Policy {
        subprotocols: Subprotocols::Ignored,
        ..policy()
    };
    let request = with_field("Sec-WebSocket-Protocol: soap");
    assert!(
        matches!(parse(request.as_bytes(), 0, &echo), Outcome::Upgrade(u) if !u.names_subprotocol)
    );
}

#[test]
fn rfc_6455_10_2_only_pages_of_allowed_origins_connect() {
    assert_eq!(
        upgrade(&with_field("Origin: https://SHOP.example")).origin,
        Some("https://SHOP.example")
    );
    for origin in [
        "https://evil.example",
        "null",
        "",
        "https://shop.example.evil.example",
        "http://shop.example",
    ] {
        assert_eq!(
            refused(&with_field(&format!("Origin: {origin}"))),
            (403, "origin"),
            "{origin}"
        );
    }
    assert_eq!(
        refused(&with_field(
            "Origin: https://shop.example\r\nOrigin: https://evil.example"
        )),
        (403, "origin")
    );
    let anybody = Policy {
        allowed_origins: vec!["*".into()],
        ..Policy::default()
    };
    let request = with_field("Origin: https://evil.example");
    assert!(matches!(
        parse(request.as_bytes(), 0, &anybody),
        Outcome::Upgrade(_)
    ));
}

#[test]
fn without_a_list_only_pages_of_this_machine_connect() {
    let policy = Policy::default();
    for origin in [
        "http://localhost:8600",
        "http://127.0.0.1",
        "https://[::1]:8443",
    ] {
        assert!(policy.allows_origin(origin), "{origin}");
    }
    for origin in [
        "https://shop.example",
        "http://localhost.evil.example",
        "http://127.0.0.1:80.evil.example",
        "http://127.0.0.10:80",
        "null",
        "",
    ] {
        assert!(!policy.allows_origin(origin), "{origin}");
    }
}

#[test]
fn other_paths_are_plain_requests_or_not_found() {
    let health = "GET /healthz?x=1 HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(
        parse(health.as_bytes(), 0, &policy()),
        Outcome::Plain(Plain {
            path: "/healthz",
            head: false,
            request_bytes: health.len()
        })
    );
    assert_eq!(refused(&with("/ws", "/elsewhere")), (404, "path"));
    assert_eq!(
        refused("POST /healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        (405, "method")
    );
}

#[test]
fn a_request_with_a_body_is_refused_so_that_nothing_is_smuggled() {
    assert_eq!(refused(&with_field("Content-Length: 5")), (400, "body"));
    assert_eq!(
        refused(&with_field("Transfer-Encoding: chunked")),
        (400, "body")
    );
    assert_eq!(
        refused(&with_field("Content-Length: 0\r\nContent-Length: 5")),
        (400, "body")
    );
    assert_eq!(refused(&with_field("Content-Length: +0")), (400, "body"));
    upgrade(&with_field("Content-Length: 0"));
}

#[test]
fn what_is_not_http_is_refused_at_its_first_bytes() {
    for bytes in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"\0",
        b"SSH-2.0-x\r\n",
        b"GET /ws SPDY",
    ] {
        assert!(
            matches!(
                parse(bytes, 0, &policy()),
                Outcome::Refused(Refusal { status: 400, .. })
            ),
            "{bytes:x?}"
        );
    }
    for field in ["Bad Name: x", " folded: x", "Name : x", "X: a\0b"] {
        assert_eq!(refused(&with_field(field)), (400, "not_http"), "{field}");
    }
}

#[test]
fn endless_headers_are_refused_at_the_limit() {
    let endless = format!(
        "{}X: {}",
        GOOD.strip_suffix("\r\n").expect("an empty line"),
        "a".repeat(10_000)
    );
    let bytes = endless.as_bytes();
    assert_eq!(
        parse(&bytes[..HANDSHAKE_BYTES_MAX - 1], 0, &policy()),
        Outcome::Incomplete
    );
    for searched in [0, HANDSHAKE_BYTES_MAX - 1] {
        let outcome = parse(&bytes[..HANDSHAKE_BYTES_MAX], searched, &policy());
        assert!(
            matches!(outcome, Outcome::Refused(Refusal { status: 431, .. })),
            "{outcome:?}"
        );
    }
    let many = "X: y\r\n".repeat(100);
    assert_eq!(refused(&with_field(many.trim_end())), (431, "too_large"));
}

#[test]
fn the_last_forwarded_for_is_what_the_nearest_proxy_wrote() {
    let request = with_field("X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4, 10.0.0.7");
    assert_eq!(upgrade(&request).forwarded_for, Some("1.2.3.4, 10.0.0.7"));
    assert_eq!(upgrade(GOOD).forwarded_for, None);
}

#[test]
fn our_client_is_upgraded_by_our_server_and_checks_the_answer() {
    let request = UpgradeRequest {
        host: "127.0.0.1:8601",
        target: "/ws",
        nonce: *b"the sample nonce",
        subprotocols: "tidegate.v1.fb",
        origin: "https://shop.example",
    };
    let mut bytes = Vec::new();
    request.append(&mut bytes);
    let Outcome::Upgrade(upgrade) = parse(&bytes, 0, &policy()) else {
        panic!("refused")
    };
    let mut answer = Vec::new();
    upgrade.append_response(&mut answer);
    for cut in 0..answer.len() {
        assert_eq!(request.parse_response(&answer[..cut]), Ok(None));
    }
    let upgraded = request
        .parse_response(&answer)
        .expect("agreed")
        .expect("whole");
    assert_eq!(upgraded.subprotocol, Some("tidegate.v1.fb"));
    assert_eq!(upgraded.response_bytes, answer.len());
    let other = UpgradeRequest {
        nonce: [0; 16],
        ..request
    };
    assert_eq!(other.parse_response(&answer), Err(ClientError::WrongAccept));
    let mut refusal = Vec::new();
    self::refusal(&with("GET", "POST")).append_response(&mut refusal);
    assert_eq!(
        request.parse_response(&refusal),
        Err(ClientError::Refused { status: 405 })
    );
}
