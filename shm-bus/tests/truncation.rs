//! A file that is truncated while it is mapped ends its users with a sentence, and not with a bare SIGBUS.

#![cfg(not(miri))]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::{fs::File, io::Read, process::Stdio};

use shm_bus::{EXIT_CODE_TRUNCATED, GatewaySegment};
use stage::{Stage, listen, part, say, send, small};

/// The other process. Without a part to play it is a test that does nothing.
#[test]
fn actor() {
    let Some((_, bus)) = part() else { return };
    shm_bus::exit_on_truncation().unwrap();
    let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
    let mut end = segment.take_shard(1).unwrap();
    say(segment.instance());
    assert_eq!(listen(), "write");
    send(&mut end.to_backend, 1);
    say("survived");
}

#[test]
fn a_gateway_whose_ring_was_truncated_exits_with_a_sentence() {
    let stage = Stage::new();
    let mut gateway = stage.start_piping_errors("gateway", Stdio::piped());
    let name = gateway.hear();
    let file = stage.bus.path().join(format!("gateway-{name}/gateway.mem"));
    File::options()
        .write(true)
        .open(file)
        .unwrap()
        .set_len(4096)
        .unwrap();
    gateway.tell("write");
    let status = gateway.status();
    assert_eq!(status.code(), Some(EXIT_CODE_TRUNCATED), "{status}");
    let mut said = String::new();
    gateway.errors().read_to_string(&mut said).unwrap();
    assert!(
        said.contains("shm-bus: the memory of the bus was cut short under this process"),
        "{said}"
    );
}
