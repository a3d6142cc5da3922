//! Gateways and backends meet, part and meet again, all in one process.

#![cfg(not(miri))]

use std::time::Duration;

use shm_bus::{
    BackendSeat, BusDirectory, Claimed, GatewaySegment, Producer, Read, RecordCopy, RecordHeader,
    SeatError, SegmentOptions, Woken,
};

fn bus() -> (tempfile::TempDir, BusDirectory) {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let bus = BusDirectory::open_or_create(parent.path().join("bus")).expect("a bus");
    (parent, bus)
}

fn small() -> SegmentOptions {
    SegmentOptions {
        shards: 2,
        ring_bytes: 64 * 1024,
        record_bytes_max: 16 * 1024,
        ..SegmentOptions::default()
    }
}

fn send(producer: &mut Producer, kind: u16, payload: &[u8]) {
    let Claimed::Claimed(mut claim) = producer.claim(payload.len()).expect("a sound ring") else {
        panic!("room")
    };
    claim.payload_mut().copy_from_slice(payload);
    claim.commit(RecordHeader {
        kind,
        ..RecordHeader::default()
    });
}

#[test]
fn records_go_both_ways_and_wake_the_sleeper() {
    let (_parent, bus) = bus();
    let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
    let mut end = segment.take_shard(1).unwrap();
    assert!(segment.take_shard(1).is_none() && segment.take_shard(2).is_none());
    assert_eq!(end.backend.instance(), None);
    assert!(!end.backend.alive());
    send(&mut end.to_backend, 7, b"before any backend");

    let mut seat = BackendSeat::take(&bus).unwrap();
    let found = seat.discover().unwrap();
    assert_eq!(found, [segment.instance()]);
    assert!(seat.discover().unwrap().is_empty());
    let mut gateway = seat.attach(found[0]).unwrap();
    assert!(gateway.is_alive() && gateway.pid() == std::process::id());
    assert_eq!(end.backend.instance(), Some(seat.instance()));
    assert!(end.backend.alive());

    let mut copy = RecordCopy::default();
    let ports = &mut gateway.shards[1];
    assert!(matches!(ports.to_backend.next(&mut copy), Read::Record(header) if header.kind == 7));
    assert_eq!(copy.payload(), b"before any backend");
    assert_eq!(ports.to_backend.next(&mut copy), Read::Empty);

    seat.bell().prepare();
    assert!(ports.to_backend.is_empty());
    send(&mut end.to_backend, 8, b"to a sleeper");
    end.to_backend.ring();
    assert_eq!(seat.bell().sleep(Duration::from_secs(5)), Woken::Bell);
    assert!(matches!(ports.to_backend.next(&mut copy), Read::Record(header) if header.kind == 8));

    send(&mut ports.to_gateway, 16, b"and back");
    end.sleeper.prepare();
    ports.to_gateway.ring();
    assert_eq!(end.sleeper.sleep(Duration::from_secs(5)), Woken::Bell);
    assert!(matches!(end.to_gateway.next(&mut copy), Read::Record(header) if header.kind == 16));
    assert_eq!(copy.payload(), b"and back");
}

#[test]
fn a_second_backend_is_refused_with_the_first_ones_pid() {
    let (_parent, bus) = bus();
    let seat = BackendSeat::take(&bus).unwrap();
    match BackendSeat::take(&bus) {
        Err(SeatError::Taken { pid, .. }) => assert_eq!(pid, std::process::id()),
        other => panic!("taken twice: {other:?}"),
    }
    drop(seat);
    BackendSeat::take(&bus).unwrap();
}
