//! `to_backend` is full because the backend stands still.

use std::collections::HashSet;

use tidegate_protocol::bus::{CLOSED, ENVELOPE, OPENED};

use crate::room::{Backend, Gateway, Person};
use crate::support::wait_for;

const SMALL_RING_BYTES: u32 = 16 << 10;

/// Sends until the ring must be full; returns how many.
fn fill(person: &mut Person) -> u64 {
    let text = "x".repeat(400);
    let count = u64::from(SMALL_RING_BYTES) / 400 + 10;
    for n in 1..=count {
        person.send(n, &text);
    }
    count
}

#[test]
fn a_parked_send_is_refused_busy_and_other_peoples_pings_are_answered_meanwhile() {
    let gateway = Gateway::start(|config| {
        config.ring_bytes = SMALL_RING_BYTES;
        config.park_ms_max = 300;
    });
    let backend = Backend::start(&gateway.bus_dir);
    let mut ann = gateway.welcomed(1, 11);
    let mut bob = gateway.welcomed(2, 22);
    backend.pause();
    let count = fill(&mut ann);
    for request in 1..=20 {
        bob.ping(request);
    }
    let refused = ann.expect("send_result");
    assert!(
        refused.contains(r#""outcome":"busy""#) && refused.contains("retry_ms"),
        "{refused}"
    );
    backend.resume();
    // Each of the others gets an answer: accepted, or busy.
    let mut answered = 1;
    while answered < count {
        ann.expect("send_result");
        answered += 1;
    }
    ann.ping(1);
}

#[test]
fn nothing_is_lost_or_doubled_when_the_ring_has_room_again_in_time() {
    let gateway = Gateway::start(|config| {
        config.ring_bytes = SMALL_RING_BYTES;
        config.park_ms_max = 20_000;
    });
    let backend = Backend::start(&gateway.bus_dir);
    let mut people: Vec<_> = (1..=5).map(|n| gateway.welcomed(n, 11)).collect();
    backend.pause();
    let counts: Vec<u64> = people.iter_mut().map(fill).collect();
    backend.resume();
    let sum: u64 = counts.iter().sum();
    for (person, count) in people.iter_mut().zip(&counts) {
        let mut next = 1;
        for _ in 0..sum {
            let heard = person.hear();
            if heard.contains("send_result") {
                assert!(
                    heard.starts_with(&format!(r#"{{"kind":"send_result","n":{next},"#)),
                    "{heard}"
                );
                next += 1;
            }
        }
        assert_eq!(next, count + 1);
    }
    assert_eq!(
        backend.count(|took| took.header.kind == ENVELOPE) as u64,
        sum
    );
}

#[test]
fn no_end_and_no_beginning_is_lost_however_long_the_ring_is_full() {
    let gateway = Gateway::start(|config| config.ring_bytes = SMALL_RING_BYTES);
    let backend = Backend::start(&gateway.bus_dir);
    let mut ann = gateway.welcomed(1, 11);
    let leaving: Vec<_> = (2..=60).map(|n| gateway.welcomed(n, 11)).collect();
    backend.pause();
    fill(&mut ann);
    drop(leaving);
    let mut arriving: Vec<_> = (100..=130).map(|n| gateway.greeted(n, 11)).collect();
    for person in &mut arriving {
        person.ping(1);
    }
    backend.resume();
    wait_for("all ends are told", || {
        backend.count(|took| took.header.kind == CLOSED) == 59
    });
    for person in &mut arriving {
        while !person.hear().contains(r#""kind":"welcome""#) {}
    }
    // Each slot: opened, closed, opened … and never two tenants at once.
    let mut tenants = HashSet::new();
    for took in backend.took.lock().unwrap().iter() {
        match took.header.kind {
            OPENED => assert!(tenants.insert(took.header.slot), "{took:?}"),
            CLOSED => assert!(tenants.remove(&took.header.slot), "{took:?}"),
            _ => {}
        }
    }
    assert_eq!(tenants.len(), 32);
}
