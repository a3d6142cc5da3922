//! How HTTP behaves whatever the route: problem details, limits, headers for browsers, pages, bad input.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;
use support::backend::Backend;

#[test]
fn bad_input_is_refused_by_the_name_of_its_field() {
    let backend = Backend::start();
    let (visitor, _) = backend.visitor();
    let send = |body: &str| {
        visitor.request(
            "POST",
            "/api/visitor/send-message",
            &[],
            Some(body.as_bytes()),
        )
    };
    for (body, status, reason, field) in [
        ("{", 400, "malformed_envelope", None),
        ("[]", 400, "malformed_envelope", None),
        ("\u{1}", 400, "malformed_envelope", None),
        ("{}", 422, "unknown_field", Some("text")),
        ("", 422, "unknown_field", Some("text")),
        (r#"{"text": 5}"#, 422, "unknown_field", Some("text")),
        (
            r#"{"text": "x", "conversation": "xyz"}"#,
            422,
            "unknown_field",
            Some("conversation"),
        ),
        (r#"{"text": ""}"#, 422, "empty_message", None),
    ] {
        let answer = send(body);
        assert_eq!(answer.problem(status), reason, "{body}");
        assert_eq!(answer.json()["field"].as_str(), field, "{body}");
    }
    // Unknown members are skipped, as on the socket.
    send(r#"{"text": "x", "colour": "blue"}"#).expect(201);
}

#[test]
fn what_is_too_long_is_refused_as_too_long() {
    let backend = Backend::start();
    let (visitor, _) = backend.visitor();
    let text = json!({ "text": "长".repeat(6_000) });
    assert_eq!(
        visitor
            .post("/api/visitor/send-message", &text)
            .problem(413),
        "message_too_long"
    );
    let body = vec![b' '; 1 << 20];
    let answer = visitor.request("POST", "/api/visitor/send-message", &[], Some(&body));
    assert_eq!(answer.problem(413), "message_too_long");
    let mut head = String::from("GET / HTTP/1.1\r\nHost: x\r\n");
    for n in 0..2_000 {
        head.push_str(&format!("X-{n}: {}\r\n", "y".repeat(40)));
    }
    head.push_str("\r\n");
    assert_eq!(backend.client.raw(head.as_bytes()).status, 431);
}

#[test]
fn unknown_addresses_and_methods_are_problems_too() {
    let backend = Backend::start();
    backend.client.get("/api/nothing").problem(404);
    backend.client.get("/nothing").problem(404);
    backend.client.get("/../../etc/passwd").problem(404);
    let answer = backend.client.get("/api/visitor/send-message");
    answer.problem(405);
    assert_eq!(answer.headers["allow"], "POST");
    assert_eq!(backend.client.get("/healthz").text(), "ok\n");
}

#[test]
fn pages_carry_a_strict_policy_and_an_etag() {
    let web = tempfile::tempdir().unwrap();
    for dir in ["", "widget", "agent"] {
        let dir = web.path().join(dir);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("index.html"), "<!doctype html>").unwrap();
    }
    std::fs::write(web.path().join("widget.js"), "//").unwrap();
    let backend = Backend::start_with(|config| {
        config.web_dir = web.path().to_owned();
        config.allowed_origins = vec!["https://shop.example".to_owned()];
    });
    let page = backend.client.get("/");
    assert_eq!(
        (page.status, page.headers["content-type"].as_str()),
        (200, "text/html; charset=utf-8")
    );
    let policy = |path: &str| backend.client.get(path).headers["content-security-policy"].clone();
    for directive in [
        "default-src 'none'",
        "script-src 'self';",
        "style-src 'self';",
        "base-uri 'none'",
        "frame-ancestors 'self'",
    ] {
        assert!(
            policy("/").contains(directive),
            "{directive} in {}",
            policy("/")
        );
    }
    assert!(policy("/").contains("connect-src 'self' ws://127.0.0.1:8601"));
    assert!(!policy("/").contains("unsafe"));
    assert!(policy("/widget/").contains("frame-ancestors 'self' https://shop.example"));
    assert!(policy("/agent/").ends_with("frame-ancestors 'self'"));
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert_eq!(
        backend.client.get("/widget.js").headers["cross-origin-resource-policy"],
        "cross-origin"
    );
    assert_eq!(page.headers["cross-origin-resource-policy"], "same-origin");

    let etag = page.headers["etag"].clone();
    let again = backend
        .client
        .request("GET", "/", &[("If-None-Match", &etag)], None);
    assert_eq!((again.status, again.body.len()), (304, 0));
    let moved = backend.client.get("/agent?x=1");
    assert_eq!(
        (moved.status, moved.headers["location"].as_str()),
        (308, "/agent/?x=1")
    );
    std::fs::write(web.path().join("index.html"), "<!doctype html>new").unwrap();
    assert_eq!(
        backend
            .client
            .request("GET", "/", &[("If-None-Match", &etag)], None)
            .status,
        200
    );
}

#[test]
fn the_binary_carries_the_sdk() {
    let backend = Backend::start();
    let sdk = backend.client.get("/sdk/tidegate.js");
    assert_eq!(
        (sdk.status, sdk.headers["content-type"].as_str()),
        (200, "text/javascript; charset=utf-8")
    );
    assert!(sdk.headers.contains_key("etag"));
    assert_eq!(backend.client.get("/sdk/package.json").status, 404);
    assert_eq!(backend.client.get("/sdk/test/support/page.js").status, 404);
}

#[test]
fn only_allowed_origins_and_only_the_visitors_api_cross_origins() {
    let backend = Backend::start_with(|config| {
        config.allowed_origins = vec!["https://shop.example".to_owned()]
    });
    let preflight = |path: &str, origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
        ];
        backend.client.request("OPTIONS", path, &headers, None)
    };
    let good = preflight("/api/visitor/token", "https://shop.example");
    assert_eq!(
        (
            good.status,
            good.headers["access-control-allow-origin"].as_str()
        ),
        (204, "https://shop.example")
    );
    assert!(good.headers["access-control-allow-headers"].contains("Idempotency-Key"));
    for (path, origin) in [
        ("/api/visitor/token", "https://evil.example"),
        ("/api/visitor/token", "null"),
        ("/api/agent/login", "https://shop.example"),
        ("/api/admin/agents", "https://shop.example"),
    ] {
        let refused = preflight(path, origin);
        assert!(
            !refused.headers.contains_key("access-control-allow-origin"),
            "{path} {origin}"
        );
    }
    let answer = backend.client.request(
        "POST",
        "/api/visitor/token",
        &[("Origin", "https://shop.example")],
        Some(b"{}"),
    );
    assert_eq!(
        answer.headers["access-control-allow-origin"],
        "https://shop.example"
    );
    assert_eq!(answer.headers["vary"], "Origin");
}

#[test]
fn new_visitors_are_limited_by_address_and_proxies_are_believed_only_if_trusted() {
    let backend = Backend::start_with(|config| config.visitor_tokens_per_address_per_min_max = 3);
    let token = |from: &str| {
        backend.client.request(
            "POST",
            "/api/visitor/token",
            &[("X-Forwarded-For", from)],
            Some(b"{}"),
        )
    };
    for n in 0..3 {
        token(&format!("1.1.1.{n}")).expect(200);
    }
    assert_eq!(token("1.1.1.9").problem(429), "rate_limited");
    let trusting = Backend::start_with(|config| {
        config.visitor_tokens_per_address_per_min_max = 3;
        config.trusted_proxies = vec!["127.0.0.1".parse().unwrap()];
    });
    for n in 0..9 {
        let from = format!("1.1.1.{n}");
        trusting
            .client
            .request(
                "POST",
                "/api/visitor/token",
                &[("X-Forwarded-For", &from)],
                Some(b"{}"),
            )
            .expect(200);
    }
}

#[test]
fn a_client_that_dribbles_its_headers_is_cut_off_and_harms_nobody() {
    let backend = Backend::start_with(|config| config.http_connections_max = 40);
    let mut slow: Vec<TcpStream> = (0..30)
        .map(|_| {
            let mut stream = TcpStream::connect(backend.client.address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost:").unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            stream
        })
        .collect();
    assert_eq!(backend.client.get("/healthz").status, 200);
    let began = Instant::now();
    let mut rest = Vec::new();
    // Closed with or without a 408, but closed.
    let _ = slow[0].read_to_end(&mut rest);
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[test]
fn long_poll_time_is_given_and_no_more() {
    let backend = Backend::start_with(|config| config.long_poll_s_max = 1);
    let (visitor, _) = backend.visitor();
    backend.say(&visitor, "x");
    let seq = visitor.get("/api/visitor/messages").expect(200)["state"]["seq"]
        .as_u64()
        .unwrap();
    let began = Instant::now();
    visitor
        .get(&format!("/api/visitor/messages?after={seq}&wait=3600"))
        .expect(200);
    assert!(began.elapsed() < Duration::from_secs(5));
}
