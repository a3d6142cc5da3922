//! Requests that are refused for whom they come from, or when. The list of malformed ones and their statuses is
//! `fuzz/src/hostile/handshakes.rs`, run by `fuzz/tests/hostile_peers.rs`.

mod support;

use std::io::Write;

use support::{Client, Gateway, Heard, http, request, small};

fn head(gateway: &Gateway, request: &str) -> String {
    http(gateway.address, request)
}

#[test]
fn each_refusal_has_its_status_and_is_counted() {
    let mut config = small();
    config.allowed_origins = vec!["https://shop.example".to_owned()];
    let gateway = Gateway::start(config);
    let upgrade = String::from_utf8(request("")).expect("ASCII");
    let cases = [
        (upgrade.replace("Version: 13", "Version: 8"), "426"),
        (
            upgrade.replace(
                "Host: test\r\n",
                "Host: test\r\nOrigin: https://evil.example\r\n",
            ),
            "403",
        ),
        ("GET / HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), "426"),
    ];
    for (request, status) in &cases {
        let answer = head(&gateway, request);
        let found = answer.split(' ').nth(1).unwrap_or("nothing");
        assert_eq!(found, *status, "{request}\n{answer}");
    }
    let version = head(&gateway, &cases[0].0);
    assert!(
        version.contains("\r\nSec-WebSocket-Version: 13\r\n"),
        "{version}"
    );
    gateway.expect_counter("refused_total", cases.len() as u64 + 1);
    support::wait_for("all to be closed", || gateway.counter("connections") == 0);
}

#[test]
fn a_listed_origin_and_a_request_without_one_are_let_in() {
    let mut config = small();
    config.allowed_origins = vec!["https://shop.example".to_owned()];
    let gateway = Gateway::start(config);
    gateway.client().round_trip("no browser");
    let mut client = Client::raw(gateway.address);
    client.write(&request("Origin: https://shop.example\r\n"));
    client.upgraded();
    client.round_trip("the shop");
}

#[test]
fn healthz_answers_on_the_websocket_port_and_on_the_admin_port() {
    let gateway = Gateway::start(small());
    for address in [gateway.address, gateway.admin] {
        let answer = http(address, "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    }
    let answer = http(gateway.address, "HEAD /healthz HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn half_a_handshake_is_cut_after_its_time_and_so_is_silence() {
    let mut config = small();
    config.base.handshake_ms_max = 300;
    let gateway = Gateway::start(config);
    let mut silent = Client::raw(gateway.address);
    let mut half = Client::raw(gateway.address);
    half.write(b"GET /ws HTTP/1.1\r\nHost: t");
    let mut slow = Client::raw(gateway.address);
    let dribble = std::thread::spawn(move || {
        for byte in request("X-Slow: yes\r\n").iter().cycle() {
            if *byte != b'\r' && slow.stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    assert_eq!(silent.hear(), Heard::End);
    assert_eq!(half.hear(), Heard::End);
    dribble.join().expect("the dribbler was cut");
    gateway.expect_counter("handshake_timeouts_total", 3);
    gateway.client().round_trip("a fresh client is served");
}

#[test]
fn many_slow_handshakes_do_not_keep_a_fresh_client_out() {
    let gateway = Gateway::start(small());
    let mut slow: Vec<_> = (0..500).map(|_| Client::raw(gateway.address)).collect();
    for client in &mut slow {
        client.write(b"GET /ws HTTP/1.1\r\n");
    }
    gateway.client().round_trip("fresh");
}
