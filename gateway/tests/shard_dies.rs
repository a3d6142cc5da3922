//! A shard that panics takes the process with it, in order: no half-dead gateway keeps a port.

mod support;

use std::io::Read;

use support::{frame, request};
use tidegate_gateway::run::{Plan, run_shards};
use tidegate_gateway::service::{
    CloseCause, ConnectionId, Message, Service, Sockets, Taken, Told, Upgrade,
};
use tidegate_gateway::{Config, Handle, Inherited, StartError};
use tidegate_protocol::ws::Opcode;
use tidegate_protocol::ws::handshake::{Policy, Subprotocols};

struct Panics;

impl Service for Panics {
    fn on_upgraded(&mut self, _: &mut impl Sockets, _: ConnectionId, _: &Upgrade<'_>) {}
    fn on_message(&mut self, _: &mut impl Sockets, _: ConnectionId, message: Message<'_>) -> Taken {
        assert_ne!(message.payload, b"die", "a planted panic");
        Taken::Reflect
    }
    fn on_closed(&mut self, _: &mut impl Sockets, _: ConnectionId, _: CloseCause) -> Told {
        Told::Now
    }
}

#[test]
fn a_panic_of_one_shard_drains_the_others_and_is_reported() {
    let handle = Handle::new().expect("descriptors");
    let runs = handle.clone();
    let plan = Plan {
        config: Config {
            listen: "127.0.0.1:0".parse().expect("an address"),
            admin_listen: None,
            shards: 2,
            drain_ms: 500,
            ..Config::default()
        },
        listeners: Inherited::default(),
        policy: Policy {
            allowed_origins: Vec::new(),
            subprotocols: Subprotocols::Ignored,
        },
        metrics: None,
    };
    let gateway = std::thread::spawn(move || run_shards(plan, &runs, |_| Ok(Panics)));
    let bound = handle.wait_bound(support::PATIENCE).expect("it listens");
    let mut clients: Vec<_> = (0..20)
        .map(|_| support::Client::connect(bound.listen))
        .collect();
    for client in &mut clients {
        client.round_trip("before");
    }
    let mut fatal = support::Client::raw(bound.listen);
    fatal.write(&request(""));
    fatal.upgraded();
    fatal.write(&frame(true, Opcode::Text, b"die"));
    let ended = gateway.join().expect("the caller's thread does not panic");
    assert!(matches!(ended, Err(StartError::Shard { .. })), "{ended:?}");
    for client in &mut clients {
        // Closed with 4005 by the shard that lived; cut by the one that died.
        let _ = client.stream.read_to_end(&mut Vec::new());
    }
}
