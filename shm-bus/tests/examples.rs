//! The examples run, and say what they should.

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use shm_bus::GatewaySegment;
use stage::{Stage, send, small};

/// Where cargo put the example when it built this test.
fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples")
        .join(name);
    assert!(
        path.exists(),
        "{}: cargo test builds examples unless told not to",
        path.display()
    );
    path
}

#[test]
fn the_consumer_prints_what_a_gateway_sends_and_that_it_went() {
    let stage = Stage::new();
    let mut consumer = Command::new(example("consumer"))
        .arg(stage.bus.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(consumer.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.next().unwrap().ends_with("waits for gateways"));
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let name = segment.instance();
    let pid = std::process::id();
    assert_eq!(lines.next().unwrap(), format!("gateway {name}: pid {pid}"));
    let mut end = segment.take_shard(1).unwrap();
    assert!(send(&mut end.to_backend, 2));
    end.to_backend.ring();
    assert_eq!(lines.next().unwrap(), "shard 1: kind 1, 24 bytes");
    drop((segment, end));
    assert_eq!(lines.next().unwrap(), format!("gateway {name}: gone"));
    consumer.kill().unwrap();
    consumer.wait().unwrap();
    assert_eq!(stage.bus_entries("gateway-"), [""; 0]);
}
