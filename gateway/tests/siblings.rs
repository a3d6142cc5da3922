//! Several gateways on one port: the kernel gives a newcomer to one of their sockets by hash, and whoever was given to a
//! gateway that does not come for it is let in by another.

mod support;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use support::{Client, Gateway, request, small};
use tidegate_gateway::Inherited;
use tidegate_gateway::listener::{bind, local_address};

/// Enough that no socket of two is left out by chance (once in 2^39).
const CROWD: usize = 40;

/// Two sockets of one port.
fn port() -> (SocketAddr, [OwnedFd; 2]) {
    let first = bind("127.0.0.1:0".parse().expect("an address"), 4_096, true).expect("a port");
    let address = local_address(&first).expect("bound");
    let second = bind(address, 4_096, true).expect("the same port");
    (address, [first, second])
}

fn copies(own: &OwnedFd, sibling: &OwnedFd) -> Inherited {
    let copy = |fd: &OwnedFd| vec![fd.try_clone().expect("descriptors")];
    Inherited {
        own: copy(own),
        siblings: copy(sibling),
    }
}

fn crowd(address: SocketAddr) -> Vec<Client> {
    (0..CROWD)
        .map(|_| {
            let mut client = Client::raw(address);
            client.write(&request(""));
            client
        })
        .collect()
}

#[test]
fn whoever_the_kernel_gave_to_a_gateway_that_is_gone_is_let_in_by_another() {
    let (address, [here, nobodys]) = port();
    let gateway = Gateway::start_with(small(), copies(&here, &nobodys));
    for client in &mut crowd(address) {
        client.upgraded();
        client.round_trip("let in");
    }
    gateway.expect_counter("accepted_total", CROWD as u64);
    let helped = gateway.counter("helped_total");
    assert!(
        helped > 0 && helped < CROWD as u64,
        "the kernel gives some to each socket; {helped} came by the other"
    );
}

#[test]
fn a_gateway_that_is_full_leaves_the_rest_to_one_with_room() {
    const PLACES: u32 = 3;
    let (address, [here, there]) = port();
    let roomy = Gateway::start_with(small(), copies(&here, &there));
    let mut config = small();
    config.base.connections_max = PLACES;
    let full = Gateway::start_with(config, copies(&there, &here));
    let mut crowd = crowd(address);
    for client in &mut crowd {
        client.upgraded();
        client.round_trip("let in");
    }
    full.expect_counter("connections", u64::from(PLACES));
    roomy.expect_counter("connections", CROWD as u64 - u64::from(PLACES));
}

#[test]
fn where_everybody_comes_for_their_own_nobody_helps() {
    let (address, [here, there]) = port();
    let one = Gateway::start_with(small(), copies(&here, &there));
    let other = Gateway::start_with(small(), copies(&there, &here));
    for _ in 0..CROWD {
        // One after the other: each queue is empty between two looks.
        Client::connect(address).round_trip("let in");
    }
    let both = |name| [one.counter(name), other.counter(name)];
    support::wait_for("all to be counted", || {
        both("accepted_total").iter().sum::<u64>() == CROWD as u64
    });
    assert!(both("accepted_total").iter().all(|&accepted| accepted > 0));
    assert_eq!(both("helped_total"), [0, 0]);
}
