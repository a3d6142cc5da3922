//! A process killed at each named point of this crate (`--features fault-points`), and the bus afterwards.

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use shm_bus::{BackendSeat, GatewaySegment, RecordCopy};
use stage::{Stage, instance, listen, part, receive, say, send, small};

/// The other process. Without a part to play it is a test that does nothing.
#[test]
fn actor() {
    let Some((part, bus)) = part() else { return };
    match part.as_str() {
        "gateway" => {
            let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
            let mut end = segment.take_shard(0).unwrap();
            say(segment.instance());
            for number in 0..5 {
                assert!(send(&mut end.to_backend, number));
            }
            end.to_backend.ring();
            say("rang");
        }
        "backend" => {
            let mut seat = BackendSeat::take(&bus).unwrap();
            let found = seat.discover().unwrap().pop().unwrap();
            let mut gateway = seat.attach(found).unwrap();
            say("attached");
            let (mut copy, from) = (RecordCopy::default(), &mut gateway.shards[0].to_backend);
            while let Some(number) = receive(from, &mut copy) {
                from.release_to(from.position());
                say(number);
            }
            listen();
        }
        other => panic!("no such part: {other}"),
    }
}

/// Plays a gateway that dies at this point; tells how many of its records the backend found.
fn records_left_by(fault: &str) -> Option<u64> {
    let stage = Stage::new();
    let mut gateway = stage.start_with_fault("gateway", fault);
    assert!(gateway.wait(), "{fault} kills");
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    let name = seat.discover().unwrap().pop();
    // Whatever was left half-made is gone once the next one has started.
    GatewaySegment::create(&stage.bus, &small()).unwrap();
    let entries = stage.bus_entries("gateway-");
    assert!(
        entries
            .iter()
            .all(|name| !name.ends_with(".new") && !name.ends_with(".old"))
    );
    let mut attached = seat.attach(name?).unwrap();
    let (mut copy, from) = (RecordCopy::default(), &mut attached.shards[0].to_backend);
    let found = std::iter::from_fn(|| receive(from, &mut copy)).count();
    Some(found as u64)
}

#[test]
fn a_gateway_killed_while_it_makes_its_segment_leaves_nothing() {
    for fault in [
        "segment.before_version:1",
        "segment.before_version:2",
        "segment.before_rename",
    ] {
        assert_eq!(records_left_by(fault), None, "{fault}");
    }
}

#[test]
fn a_gateway_killed_in_the_life_of_a_record_leaves_what_it_published() {
    for (fault, published) in [
        ("claim.before_commit:1", 0),
        ("claim.before_commit:4", 3),
        ("commit.before_publish:3", 2),
        ("commit.after_publish:3", 3),
        ("ring.before_doorbell", 5),
    ] {
        assert_eq!(records_left_by(fault), Some(published), "{fault}");
    }
}

#[test]
fn a_backend_killed_at_a_point_is_followed_by_one_that_reads_from_what_was_released() {
    for (fault, first_read_again) in [
        ("attach.before_attached", 0),
        ("consume.before_release:1", 0),
        ("consume.before_release:3", 2),
        ("consume.after_release:3", 3),
    ] {
        let stage = Stage::new();
        let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
        let mut end = segment.take_shard(0).unwrap();
        (0..5).for_each(|number| assert!(send(&mut end.to_backend, number)));
        assert!(
            stage.start_with_fault("backend", fault).wait(),
            "{fault} kills"
        );
        assert_eq!(
            end.backend.instance().is_some(),
            fault != "attach.before_attached"
        );
        let second = stage.start("backend");
        second.expect("attached");
        for number in first_read_again..5 {
            second.expect(&number.to_string());
        }
    }
}

#[test]
fn without_a_fault_nobody_dies() {
    let stage = Stage::new();
    let gateway = stage.start("gateway");
    instance(&gateway.hear());
    gateway.expect("rang");
}
