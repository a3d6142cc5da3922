//! A gateway asks, a backend answers, and the two are killed in turn: each time the one that stayed goes on with the
//! one that comes.

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::time::Duration;

use shm_bus::{AttachedGateway, BackendSeat, BusDirectory, GatewaySegment, RecordCopy};
use stage::{Actor, Stage, part, receive, say, send, small};

/// So many answers are one word to the test.
const ANSWERS: u64 = 200;

/// The other process. Without a part to play it is a test that does nothing.
#[test]
fn actor() {
    let Some((part, bus)) = part() else { return };
    match part.as_str() {
        "gateway" => ask_for_ever(&bus),
        "backend" => answer_for_ever(&bus),
        other => panic!("no such part: {other}"),
    }
}

fn ask_for_ever(bus: &BusDirectory) {
    let mut segment = GatewaySegment::create(bus, &small()).unwrap();
    let mut end = segment.take_shard(1).unwrap();
    let mut copy = RecordCopy::default();
    for number in 0.. {
        assert!(send(&mut end.to_backend, number));
        end.to_backend.ring();
        loop {
            match receive(&mut end.to_gateway, &mut copy) {
                Some(answer) if answer == number => break,
                // Answered by one that died before it released the question: the next one answered it again.
                Some(answer) => assert_eq!(answer + 1, number),
                None => {
                    end.sleeper.prepare();
                    if end.to_gateway.is_empty() {
                        end.sleeper.sleep(Duration::from_millis(100));
                    }
                    end.sleeper.awake();
                }
            }
            end.to_gateway.release_to(end.to_gateway.position());
        }
        end.to_gateway.release_to(end.to_gateway.position());
        if (number + 1) % ANSWERS == 0 {
            say(number);
        }
    }
}

fn answer_for_ever(bus: &BusDirectory) {
    let mut seat = BackendSeat::take(bus).unwrap();
    let (mut gateways, mut copy) = (Vec::<AttachedGateway>::new(), RecordCopy::default());
    loop {
        for instance in seat.discover().unwrap() {
            gateways.push(seat.attach(instance).unwrap());
        }
        let dead: Vec<bool> = gateways.iter().map(|gateway| !gateway.is_alive()).collect();
        for ports in gateways.iter_mut().flat_map(|gateway| &mut gateway.shards) {
            while let Some(number) = receive(&mut ports.to_backend, &mut copy) {
                assert!(send(&mut ports.to_gateway, number));
            }
            ports.to_gateway.ring();
            ports.to_backend.release_to(ports.to_backend.position());
        }
        let mut was_dead = dead.into_iter();
        for gateway in gateways.extract_if(.., |_| was_dead.next() == Some(true)) {
            gateway.unlink().unwrap();
        }
        seat.bell().prepare();
        let mut ports = gateways.iter_mut().flat_map(|gateway| &mut gateway.shards);
        if ports.all(|ports| ports.to_backend.is_empty()) {
            seat.bell().sleep(Duration::from_millis(100));
        }
        seat.bell().awake();
    }
}

#[test]
fn each_goes_on_with_the_others_successor() {
    let stage = Stage::new();
    let mut gateway = stage.start("gateway");
    let mut backend = stage.start("backend");
    let served = |gateway: &Actor| (0..2).for_each(|_| drop(gateway.hear()));
    for _ in 0..4 {
        served(&gateway);
        backend.kill();
        backend = stage.start("backend");
        served(&gateway);
        gateway.kill();
        gateway = stage.start("gateway");
    }
    served(&gateway);
    // Both at once.
    gateway.kill();
    backend.kill();
    gateway = stage.start("gateway");
    backend = stage.start("backend");
    served(&gateway);
    backend.kill();
    let living = stage.bus_entries("gateway-");
    assert_eq!(
        living.len(),
        1,
        "the dead ones' segments are gone: {living:?}"
    );
}
