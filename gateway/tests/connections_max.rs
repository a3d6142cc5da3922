//! `connections_max`: those past it wait in the backlog until somebody leaves.

mod support;

use support::{Client, Gateway, request, small};

#[test]
fn the_next_in_the_backlog_gets_the_place_of_whoever_leaves() {
    let mut config = small();
    config.base.connections_max = 8;
    let gateway = Gateway::start(config);
    let mut inside: Vec<Client> = (0..8).map(|_| gateway.client()).collect();
    support::wait_for("accepting to pause", || {
        gateway.counter("accept_pauses_total") > 0
    });
    let mut outside = Client::raw(gateway.address);
    outside.write(&request(""));
    for client in &mut inside {
        client.round_trip("served");
    }
    gateway.expect_counter("connections", 8);
    drop(inside.pop());
    outside.upgraded();
    outside.round_trip("let in");
}

#[test]
fn of_a_crowd_that_comes_at_once_nobody_is_reset() {
    let mut config = small();
    config.base.connections_max = 8;
    let gateway = Gateway::start(config);
    let mut crowd: Vec<Client> = (0..100)
        .map(|_| {
            let mut client = Client::raw(gateway.address);
            client.write(&request(""));
            client
        })
        .collect();
    // Whoever came first leaves, and makes room for the next.
    for client in &mut crowd {
        client.upgraded();
        client.round_trip("in turn");
        let _ = client.stream.shutdown(std::net::Shutdown::Both);
    }
    gateway.expect_counter("accepted_total", 100);
}

#[test]
fn slots_are_used_again_without_mixing_up_their_connections() {
    let mut config = small();
    config.base.connections_max = 4;
    let gateway = Gateway::start(config);
    for n in 0..400 {
        let mut client = gateway.client();
        client.text(&format!("visitor {n}"));
        if n % 2 == 0 {
            // Gone before the answer: a late completion must not reach the next in this slot.
            continue;
        }
        client.expect_text(&format!("visitor {n}"));
    }
    support::wait_for("all to be gone", || gateway.counter("connections") == 0);
    gateway.expect_counter("accepted_total", 400);
}
