//! A gateway that is told to go: goodbye to all within its time, and the port to its successor.

mod support;

use std::os::fd::OwnedFd;
use std::time::Duration;

use support::{Client, Gateway, Heard, request, small};
use tidegate_gateway::listener::bind;
use tidegate_gateway::{ExitReason, Handle, Inherited, StartError, run_echo};
use tidegate_protocol::close::{CloseCode, retry_ms};

#[test]
fn everybody_is_told_to_come_back_and_the_process_ends() {
    let gateway = Gateway::start(small());
    let mut clients: Vec<Client> = (0..50).map(|_| gateway.client()).collect();
    let mut half = Client::raw(gateway.address);
    half.write(b"GET /ws");
    for client in &mut clients {
        client.round_trip("before");
    }
    gateway.handle.drain();
    for client in &mut clients {
        match client.hear() {
            Heard::Close(code, reason) => {
                assert_eq!(code, Some(CloseCode::DRAIN));
                assert!(retry_ms(&reason).is_some(), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        client.write(&support::frame(
            true,
            tidegate_protocol::ws::Opcode::Close,
            &4005_u16.to_be_bytes(),
        ));
        assert_eq!(client.hear(), Heard::End);
    }
    assert_eq!(half.hear(), Heard::End);
    assert_eq!(gateway.stop(), ExitReason::Drained);
}

#[test]
fn peers_that_do_not_answer_do_not_hold_the_process_up() {
    let gateway = Gateway::start(small());
    let _mute: Vec<Client> = (0..20).map(|_| gateway.client()).collect();
    assert_eq!(gateway.stop(), ExitReason::Drained);
}

#[test]
fn a_successor_inherits_the_listener_with_its_backlog() {
    let listener = bind("127.0.0.1:0".parse().expect("an address"), 4096, true).expect("a port");
    let copy = |listener: &OwnedFd| Inherited {
        own: vec![listener.try_clone().expect("descriptors")],
        siblings: Vec::new(),
    };
    let first = Gateway::start_with(small(), copy(&listener));
    let address = first.address;
    Client::connect(address).round_trip("the first");
    first.stop();
    // Nobody accepts now, and nobody is refused: the connection waits in the backlog.
    let mut waiting = Client::raw(address);
    waiting.write(&request(""));
    let second = Gateway::start_with(small(), copy(&listener));
    assert_eq!(second.address, address);
    waiting.upgraded();
    waiting.round_trip("the second");
}

#[test]
fn a_port_in_use_is_one_sentence() {
    let gateway = Gateway::start(small());
    let mut config = small();
    config.listen = gateway.address;
    let error = run_echo(
        config,
        Inherited::default(),
        &Handle::new().expect("descriptors"),
    )
    .expect_err("the port is taken");
    assert!(matches!(error, StartError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("is in use"), "{error}");
}

#[test]
fn connections_under_way_are_served_until_their_turn_comes() {
    let mut config = small();
    config.base.drain_ms = 2_000;
    let gateway = Gateway::start(config);
    let mut clients: Vec<Client> = (0..30).map(|_| gateway.client()).collect();
    gateway.handle.drain();
    std::thread::sleep(Duration::from_millis(50));
    let mut echoed = 0;
    for client in &mut clients {
        client.text("still here");
        match client.hear() {
            Heard::Text(_) => echoed += 1,
            Heard::Close(code, _) => assert_eq!(code, Some(CloseCode::DRAIN)),
            other => panic!("{other:?}"),
        }
    }
    assert!(echoed > 0, "jitter spreads the closes over the drain time");
}
