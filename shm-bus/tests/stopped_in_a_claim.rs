//! Producers that are stopped in the middle of a claim for longer than any timer of the bus, and then go on: their locks
//! hold, a second claimer is refused by their pid, nothing of the claim is seen, and the record is whole in the end.
//!
//! 100 rounds here; 1,000 with `TIDEGATE_TEST_FULL` in the environment (`scripts/test full`).

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::time::Duration;

use rustix::process::Signal;
use shm_bus::{
    AttachError, AttachedGateway, BackendSeat, BusDirectory, Claimed, Consumer, GatewaySegment,
    Producer, Read, RecordCopy, RecordHeader, SeatError,
};
use stage::{Actor, Stage, instance, listen, part, say, small, wait_for};

/// Stopped at once.
const PRODUCERS: usize = 25;
/// Longer than a backend goes without looking into the directory (1,000 ms), than any sleep (100 ms), and than anybody
/// asks whether a peer lives (100 ms).
const STOPPED: Duration = Duration::from_millis(1_200);
const PAYLOAD_BYTES: usize = 4_096;

fn rounds() -> usize {
    let rounds = if std::env::var_os("TIDEGATE_TEST_FULL").is_some() {
        1_000
    } else {
        100
    };
    // Half of them by gateways, half by backends.
    rounds / PRODUCERS / 2
}

/// The other process. Without a part to play it is a test that does nothing.
#[test]
fn actor() {
    let Some((part, bus)) = part() else { return };
    match part.as_str() {
        "gateway" => {
            let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
            say(segment.instance());
            claim_for_ever(&mut segment.take_shard(0).unwrap().to_backend);
        }
        "backend" => {
            let mut seat = BackendSeat::take(&bus).unwrap();
            let found = wait_for("a gateway", || seat.discover().unwrap().pop());
            let mut gateway = seat.attach(found).unwrap();
            claim_for_ever(&mut gateway.shards[0].to_gateway);
        }
        other => panic!("no such part: {other}"),
    }
}

/// Half of each payload is written before the claim is told of, half when it may be committed.
fn claim_for_ever(producer: &mut Producer) {
    for round in 0u8.. {
        let Claimed::Claimed(mut claim) = producer.claim(PAYLOAD_BYTES).unwrap() else {
            panic!("no room in round {round}");
        };
        claim.payload_mut()[..PAYLOAD_BYTES / 2].fill(round);
        say("in a claim");
        if listen() != "commit" {
            return;
        }
        claim.payload_mut()[PAYLOAD_BYTES / 2..].fill(round);
        claim.commit(RecordHeader {
            kind: 1,
            trace: round.into(),
            ..RecordHeader::default()
        });
        producer.ring();
    }
}

fn stop(actors: &[Actor]) {
    for actor in actors {
        actor.expect("in a claim");
        actor.signal(Signal::STOP);
    }
}

fn go_on(actors: &mut [Actor]) {
    for actor in actors {
        actor.signal(Signal::CONT);
        actor.tell("commit");
    }
}

/// The record of this round, whole.
fn take(consumer: &mut Consumer, round: usize) {
    let mut copy = RecordCopy::default();
    let header = wait_for("the commit", || match consumer.next(&mut copy) {
        Read::Record(header) => Some(header),
        Read::Empty => None,
        Read::Bad(bad) => panic!("{bad:?}"),
    });
    assert_eq!(header.trace, round as u64);
    assert_eq!(copy.payload().len(), PAYLOAD_BYTES);
    assert!(
        copy.payload()
            .iter()
            .all(|byte| usize::from(*byte) == round)
    );
    consumer.release_to(consumer.position());
}

fn assert_nothing_to_see(consumer: &mut Consumer) {
    assert_eq!(consumer.next(&mut RecordCopy::default()), Read::Empty);
}

#[test]
fn stopped_gateways_keep_their_segments_and_commit_whole_records_when_they_go_on() {
    let stage = Stage::new();
    let mut actors: Vec<Actor> = (0..PRODUCERS).map(|_| stage.start("gateway")).collect();
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    let names = actors.iter().map(|actor| instance(&actor.hear()));
    let mut gateways: Vec<AttachedGateway> = names.map(|name| seat.attach(name).unwrap()).collect();
    for round in 0..rounds() {
        stop(&actors);
        for after in [Duration::ZERO, STOPPED] {
            std::thread::sleep(after);
            for (gateway, actor) in gateways.iter_mut().zip(&actors) {
                assert!(gateway.is_alive());
                match seat.discard(gateway.instance()) {
                    Err(AttachError::GatewayLives { pid, .. }) => assert_eq!(pid, actor.pid()),
                    other => panic!("taken from a living holder: {other:?}"),
                }
                assert_nothing_to_see(&mut gateway.shards[0].to_backend);
            }
            // A starter sweeps what the dead left, and nothing else.
            drop(GatewaySegment::create(&stage.bus, &small()).unwrap());
            assert!(seat.discover().unwrap().len() <= PRODUCERS + 2 * rounds());
        }
        go_on(&mut actors);
        for gateway in &mut gateways {
            take(&mut gateway.shards[0].to_backend, round);
        }
    }
}

#[test]
fn stopped_backends_keep_their_seats_and_a_second_claimer_is_refused_by_their_pid() {
    let stages: Vec<Stage> = (0..PRODUCERS).map(|_| Stage::new()).collect();
    let buses: Vec<BusDirectory> = stages.iter().map(|stage| stage.bus.clone()).collect();
    let mut ends: Vec<_> = buses
        .iter()
        .map(|bus| {
            let mut segment = GatewaySegment::create(bus, &small()).unwrap();
            segment.take_shard(0).unwrap()
        })
        .collect();
    let mut actors: Vec<Actor> = stages.iter().map(|stage| stage.start("backend")).collect();
    for round in 0..rounds() {
        stop(&actors);
        for after in [Duration::ZERO, STOPPED] {
            std::thread::sleep(after);
            for ((bus, end), actor) in buses.iter().zip(&mut ends).zip(&actors) {
                match BackendSeat::take(bus) {
                    Err(SeatError::Taken { pid, .. }) => assert_eq!(pid, actor.pid()),
                    other => panic!("taken from a living holder: {other:?}"),
                }
                assert!(end.backend.alive());
                assert_nothing_to_see(&mut end.to_gateway);
            }
        }
        go_on(&mut actors);
        for end in &mut ends {
            take(&mut end.to_gateway, round);
        }
    }
}
