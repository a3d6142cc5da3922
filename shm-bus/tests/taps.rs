//! Taps see all that goes by, disturb nothing, and know what they missed.

#![cfg(not(miri))]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use shm_bus::{
    BackendSeat, Control, Counter, GatewaySegment, ObservedGateway, RecordCopy, Tap, Tapped,
};
use stage::{Stage, receive, send, small};

fn numbers(tap: &mut Tap) -> Vec<u64> {
    let mut copy = RecordCopy::default();
    std::iter::from_fn(|| match tap.next(&mut copy) {
        Tapped::Record(header) => Some(header.trace),
        Tapped::Empty => None,
        Tapped::Lapped { missed_bytes } => panic!("missed {missed_bytes} bytes"),
    })
    .collect()
}

#[test]
fn two_taps_see_what_goes_both_ways_and_the_ends_do_not_notice() {
    let stage = Stage::new();
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let mut end = segment.take_shard(1).unwrap();
    assert_eq!(stage.bus.segments().unwrap(), [segment.instance()]);
    let mut first = ObservedGateway::open(&stage.bus, segment.instance()).unwrap();
    let mut second = ObservedGateway::open(&stage.bus, segment.instance()).unwrap();
    assert!(first.is_alive() && first.attached().is_none());
    (0..20).for_each(|number| assert!(send(&mut end.to_backend, number)));
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    let mut gateway = seat.attach(segment.instance()).unwrap();
    assert!(send(&mut gateway.shards[1].to_gateway, 99));
    for observed in [&mut first, &mut second] {
        let shard = &mut observed.shards[1];
        assert_eq!(numbers(&mut shard.to_backend), (0..20).collect::<Vec<_>>());
        assert_eq!(numbers(&mut shard.to_gateway), [99]);
        assert_eq!(shard.to_backend.missed_bytes(), 0);
        assert_eq!(shard.gateway_counters.get(Counter::RecordsOut), 20);
        assert_eq!(shard.to_backend_released().get(), 0);
        assert_eq!(observed.attached(), Some(seat.instance()));
    }
    let mut copy = RecordCopy::default();
    for number in 0..20 {
        assert_eq!(
            receive(&mut gateway.shards[1].to_backend, &mut copy),
            Some(number)
        );
    }
    let control = Control::observe(&stage.bus).unwrap();
    assert_eq!(control.backend_instance(), Some(seat.instance()));
    assert_eq!(control.roster(), 1);
}

#[test]
fn a_tap_that_was_lapped_says_how_much_it_missed_and_goes_on() {
    let stage = Stage::new();
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let mut end = segment.take_shard(0).unwrap();
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    let mut gateway = seat.attach(segment.instance()).unwrap();
    let from = &mut gateway.shards[0].to_backend;
    let mut observed = ObservedGateway::open(&stage.bus, segment.instance()).unwrap();
    let tap = &mut observed.shards[0].to_backend;
    let mut copy = RecordCopy::default();
    for number in 0..2_000 {
        assert!(send(&mut end.to_backend, number));
        assert_eq!(receive(from, &mut copy), Some(number));
        from.release_to(from.position());
    }
    let missed_bytes = end.to_backend.position().get();
    assert_eq!(tap.next(&mut copy), Tapped::Lapped { missed_bytes });
    assert_eq!(tap.missed_bytes(), missed_bytes);
    assert_eq!(tap.next(&mut copy), Tapped::Empty);
    assert!(send(&mut end.to_backend, 2_000));
    assert_eq!(numbers(tap), [2_000]);
}

#[test]
fn a_tap_beside_a_running_producer_shows_only_whole_records_in_order() {
    let stage = Stage::new();
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let mut end = segment.take_shard(0).unwrap();
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    let mut gateway = seat.attach(segment.instance()).unwrap();
    let mut observed = ObservedGateway::open(&stage.bus, segment.instance()).unwrap();
    let running = std::thread::spawn(move || {
        let mut copy = RecordCopy::default();
        let from = &mut gateway.shards[0].to_backend;
        for number in 0..300_000 {
            while !send(&mut end.to_backend, number) {
                while receive(from, &mut copy).is_some() {}
                from.release_to(from.position());
            }
        }
    });
    let (mut copy, mut next, mut seen) = (RecordCopy::default(), 0, 0u64);
    let tap = &mut observed.shards[0].to_backend;
    loop {
        let ended = running.is_finished();
        match tap.next(&mut copy) {
            Tapped::Record(header) => {
                assert!(header.trace >= next, "{} came after {next}", header.trace);
                assert!(
                    copy.payload()
                        .chunks(8)
                        .all(|word| word == header.trace.to_le_bytes())
                );
                (next, seen) = (header.trace + 1, seen + 1);
            }
            Tapped::Lapped { .. } => {}
            Tapped::Empty if ended => break,
            Tapped::Empty => std::thread::yield_now(),
        }
    }
    running.join().unwrap();
    assert!(seen > 0 && (tap.missed_bytes() > 0 || seen == 300_000));
}
