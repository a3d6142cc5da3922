//! Two real processes, and one of them is killed with -9: between claim and commit, between publish and doorbell,
//! before release, asleep, at any moment; and the other side goes on.

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::{collections::BTreeMap, fs, io::Write, time::Duration};

use rustix::process::Signal;
use shm_bus::{
    AttachError, AttachedGateway, BackendSeat, BusDirectory, Claimed, GatewaySegment, RecordCopy,
    SeatError, Woken,
};
use stage::{Stage, die, instance, listen, part, receive, say, send, small, wait_for};

/// The other process. Without a part to play it is a test that does nothing.
#[test]
fn actor() {
    let Some((part, bus)) = part() else { return };
    match part.as_str() {
        "gateway sends 3, then dies in a claim" => {
            let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
            let mut end = segment.take_shard(0).unwrap();
            say(segment.instance());
            (0..3).for_each(|number| assert!(send(&mut end.to_backend, number)));
            let Claimed::Claimed(mut claim) = end.to_backend.claim(500).unwrap() else {
                return;
            };
            claim.payload_mut().fill(0xdd);
            die();
        }
        "gateway publishes to a sleeper, then dies before it rings" => {
            let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
            let mut end = segment.take_shard(0).unwrap();
            say(segment.instance());
            assert_eq!(listen(), "the backend sleeps");
            assert!(send(&mut end.to_backend, 7));
            die();
        }
        "gateway sends for ever" => {
            let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
            let mut end = segment.take_shard(1).unwrap();
            say(segment.instance());
            let mut number = 0;
            loop {
                if send(&mut end.to_backend, number) {
                    number += 1;
                }
                end.to_backend.ring();
            }
        }
        "backend reads 5, releases 3, dies" => {
            let (_seat, mut gateway) = attach_to_the_one(&bus);
            let (ports, mut copy) = (&mut gateway.shards[0], RecordCopy::default());
            for number in 0..5 {
                assert_eq!(
                    wait_for("a record", || receive(&mut ports.to_backend, &mut copy)),
                    number
                );
                if number == 2 {
                    ports.to_backend.release_to(ports.to_backend.position());
                }
            }
            die();
        }
        "backend sends 2, then dies in a claim" => {
            let (_seat, mut gateway) = attach_to_the_one(&bus);
            let to_gateway = &mut gateway.shards[0].to_gateway;
            assert!(send(to_gateway, 0) && send(to_gateway, 1));
            to_gateway.ring();
            let Claimed::Claimed(mut claim) = to_gateway.claim(4000).unwrap() else {
                return;
            };
            claim.payload_mut().fill(0xdd);
            die();
        }
        "backend falls asleep" => {
            let (mut seat, _gateway) = attach_to_the_one(&bus);
            seat.bell().prepare();
            say("asleep");
            listen();
        }
        "backend writes down what it reads" => write_down_for_ever(&bus),
        "backend holds the seat" => {
            let seat = BackendSeat::take(&bus).unwrap();
            say(seat.instance());
            listen();
        }
        other => panic!("no such part: {other}"),
    }
}

fn attach_to_the_one(bus: &BusDirectory) -> (BackendSeat, AttachedGateway) {
    let mut seat = BackendSeat::take(bus).unwrap();
    let found = wait_for("a gateway", || seat.discover().unwrap().pop());
    let gateway = seat.attach(found).unwrap();
    (seat, gateway)
}

/// A backend with a store: a number is in the file before its room is given back.
fn write_down_for_ever(bus: &BusDirectory) {
    let path = bus.path().with_extension("log");
    let mut log = fs::File::options()
        .append(true)
        .create(true)
        .open(path)
        .unwrap();
    let (mut seat, mut gateway) = attach_to_the_one(bus);
    say("attached");
    let (ports, mut copy) = (&mut gateway.shards[1], RecordCopy::default());
    loop {
        let mut batch = Vec::new();
        while let Some(number) = receive(&mut ports.to_backend, &mut copy) {
            batch.extend(number.to_le_bytes());
        }
        log.write_all(&batch).unwrap();
        ports.to_backend.release_to(ports.to_backend.position());
        seat.bell().prepare();
        if ports.to_backend.is_empty() {
            seat.bell().sleep(Duration::from_millis(100));
        }
        seat.bell().awake();
    }
}

#[test]
fn a_gateway_that_dies_in_a_claim_leaves_its_commits_and_nothing_else() {
    let stage = Stage::new();
    let mut gateway = stage.start("gateway sends 3, then dies in a claim");
    let name = instance(&gateway.hear());
    assert!(gateway.wait(), "killed");
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    assert_eq!(seat.discover().unwrap(), [name]);
    let mut attached = seat.attach(name).unwrap();
    assert!(!attached.is_alive());
    let mut copy = RecordCopy::default();
    let from = &mut attached.shards[0].to_backend;
    assert_eq!(
        std::array::from_fn(|_| receive(from, &mut copy)),
        [Some(0), Some(1), Some(2), None]
    );
    attached.unlink().unwrap();
    assert!(matches!(seat.attach(name), Err(AttachError::Gone(gone)) if gone == name));
}

#[test]
fn a_record_whose_producer_died_before_it_rang_is_found_all_the_same() {
    let stage = Stage::new();
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    let mut gateway = stage.start("gateway publishes to a sleeper, then dies before it rings");
    let name = instance(&gateway.hear());
    let mut attached = seat.attach(name).unwrap();
    let (mut copy, from) = (RecordCopy::default(), &mut attached.shards[0].to_backend);
    // The making of the segment rang: that byte is taken here.
    seat.bell().prepare();
    seat.bell().wake();
    seat.bell().prepare();
    assert!(from.is_empty());
    gateway.tell("the backend sleeps");
    assert!(gateway.wait(), "killed");
    assert_eq!(
        seat.bell().sleep(Duration::from_secs(9)),
        Woken::Timeout,
        "nobody rang"
    );
    assert_eq!(receive(from, &mut copy), Some(7));
}

#[test]
fn what_a_backend_read_and_did_not_release_is_read_again_by_the_next() {
    let stage = Stage::new();
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let mut end = segment.take_shard(0).unwrap();
    (0..10).for_each(|number| assert!(send(&mut end.to_backend, number)));
    let mut first = stage.start("backend reads 5, releases 3, dies");
    assert!(first.wait(), "killed");
    let before = end.backend.instance().expect("the first attached");
    assert!(!end.backend.alive());
    let (seat, mut gateway) = attach_to_the_one(&stage.bus);
    assert_eq!(end.backend.instance(), Some(seat.instance()));
    assert_ne!(before, seat.instance());
    let mut copy = RecordCopy::default();
    for number in 3..10 {
        assert_eq!(
            receive(&mut gateway.shards[0].to_backend, &mut copy),
            Some(number)
        );
    }
    assert_eq!(receive(&mut gateway.shards[0].to_backend, &mut copy), None);
}

#[test]
fn a_backend_that_dies_in_a_claim_is_followed_by_one_that_goes_on_behind_its_commits() {
    let stage = Stage::new();
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let mut end = segment.take_shard(0).unwrap();
    assert!(
        stage.start("backend sends 2, then dies in a claim").wait(),
        "killed"
    );
    let (_seat, mut gateway) = attach_to_the_one(&stage.bus);
    assert!(send(&mut gateway.shards[0].to_gateway, 2));
    let mut copy = RecordCopy::default();
    let got = std::array::from_fn(|_| receive(&mut end.to_gateway, &mut copy));
    assert_eq!(got, [Some(0), Some(1), Some(2), None]);
}

#[test]
fn a_backend_that_died_asleep_is_followed_by_one_that_wakes() {
    let stage = Stage::new();
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let mut end = segment.take_shard(0).unwrap();
    let mut first = stage.start("backend falls asleep");
    first.expect("asleep");
    first.kill();
    // Rung in the dead one's sleep: the byte is in the pipe, and this producer rings no second time in that sleep.
    assert!(send(&mut end.to_backend, 0));
    end.to_backend.ring();
    let (mut seat, mut gateway) = attach_to_the_one(&stage.bus);
    let (mut copy, from) = (RecordCopy::default(), &mut gateway.shards[0].to_backend);
    assert_eq!(receive(from, &mut copy), Some(0));
    seat.bell().prepare();
    assert!(from.is_empty());
    assert!(send(&mut end.to_backend, 1));
    end.to_backend.ring();
    assert_eq!(seat.bell().sleep(Duration::from_secs(9)), Woken::Bell);
    assert_eq!(receive(from, &mut copy), Some(1));
}

#[test]
fn a_gateway_killed_at_any_moment_leaves_a_gapless_beginning() {
    let stage = Stage::new();
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    for round in 0..10u64 {
        let mut gateway = stage.start("gateway sends for ever");
        let name = instance(&gateway.hear());
        assert_eq!(
            wait_for("its segment", || seat.discover().unwrap().pop()),
            name
        );
        let mut attached = seat.attach(name).unwrap();
        let (mut copy, mut expected) = (RecordCopy::default(), 0);
        let mut living = true;
        while living {
            if expected > round * 3_000 && attached.is_alive() {
                gateway.kill();
            }
            // Ask first, then drain.
            living = attached.is_alive();
            let from = &mut attached.shards[1].to_backend;
            while let Some(number) = receive(from, &mut copy) {
                assert_eq!(number, expected);
                expected += 1;
            }
            from.release_to(from.position());
        }
        assert!(expected > round * 3_000);
        attached.unlink().unwrap();
    }
    assert_eq!(seat.discover().unwrap(), []);
    assert_eq!(
        stage.bus_entries("gateway-"),
        [""; 0],
        "nothing to clean by hand"
    );
}

#[test]
fn a_backend_killed_at_any_moment_loses_nothing_and_repeats_only_what_it_had_not_released() {
    let stage = Stage::new();
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let mut end = segment.take_shard(1).unwrap();
    let mut sent = 0;
    for _ in 0..10 {
        let mut backend = stage.start("backend writes down what it reads");
        backend.expect("attached");
        let until = sent + 5_000;
        wait_for("the backend to make room", || {
            while sent < until && send(&mut end.to_backend, sent) {
                sent += 1;
            }
            end.to_backend.ring();
            (sent == until).then_some(())
        });
        backend.kill();
    }
    let last = stage.start("backend writes down what it reads");
    last.expect("attached");
    wait_for("all to be released", || {
        end.to_backend.ring();
        (end.to_backend.released() == end.to_backend.position()).then_some(())
    });
    let log = fs::read(stage.bus.path().with_extension("log")).unwrap();
    let mut times = BTreeMap::new();
    let mut next = 0;
    for number in log
        .chunks(8)
        .map(|word| u64::from_le_bytes(word.try_into().unwrap()))
    {
        assert!(number <= next, "{number} came before {next}");
        next = next.max(number + 1);
        *times.entry(number).or_insert(0) += 1;
    }
    assert_eq!(next, sent, "all of it, in order");
    assert!(
        times.values().all(|times| *times <= 11),
        "once for each backend at most"
    );
}

#[test]
fn a_stopped_backend_keeps_its_seat_and_a_killed_one_frees_it() {
    let stage = Stage::new();
    let mut holder = stage.start("backend holds the seat");
    let first = instance(&holder.hear());
    holder.signal(Signal::STOP);
    for _ in 0..3 {
        match BackendSeat::take(&stage.bus) {
            Err(error @ SeatError::Taken { pid, .. }) => {
                assert_eq!(pid, holder.pid());
                assert!(
                    error
                        .to_string()
                        .contains(&format!("(pid {pid}); stop it (kill {pid})"))
                );
            }
            other => panic!("taken twice: {other:?}"),
        }
    }
    holder.kill();
    let seat = BackendSeat::take(&stage.bus).unwrap();
    assert_ne!(seat.instance(), first);
    assert_eq!(seat.control().backend_instance(), Some(seat.instance()));
    assert_eq!(seat.control().backend_pid(), std::process::id());
}

#[test]
fn gateways_that_die_without_a_backend_do_not_fill_the_memory() {
    let stage = Stage::new();
    for _ in 0..5 {
        // It dies before it has sent anything that a backend would want.
        drop(GatewaySegment::create(&stage.bus, &small()).unwrap());
    }
    let mut with_news = stage.start("gateway sends 3, then dies in a claim");
    let kept = instance(&with_news.hear());
    with_news.wait();
    let last = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let mut expected = [kept, last.instance()].map(|id| format!("gateway-{id}"));
    expected.sort();
    assert_eq!(stage.bus_entries("gateway-"), expected);
}
