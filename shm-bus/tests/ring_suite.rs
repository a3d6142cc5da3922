//! What every ring does, whatever it lies on: heap, memfd, file.

#![expect(
    clippy::cast_possible_truncation,
    reason = "payload bytes are made from counters"
)]

use shm_bus::{
    ClaimError, Claimed, Consumer, Damage, Position, Producer, RECORD_HEADER_BYTES, Read,
    RecordCopy, RecordHeader, RingBacking, record_span_bytes, ring_pair,
};

const RING_BYTES: usize = 4096;
const RECORD_BYTES_MAX: usize = 1024;
const PAYLOAD_BYTES_MAX: usize = RECORD_BYTES_MAX - RECORD_HEADER_BYTES;

/// A ring and, for files, the directory that must outlive it.
struct Ring {
    producer: Producer,
    consumer: Consumer,
    copy: RecordCopy,
    _directory: Option<tempfile::TempDir>,
}

impl Ring {
    fn over(backing: &RingBacking, directory: Option<tempfile::TempDir>) -> Self {
        let (producer, consumer) =
            ring_pair(RING_BYTES, RECORD_BYTES_MAX, backing).expect("a ring of sound sizes");
        Self {
            producer,
            consumer,
            copy: RecordCopy::default(),
            _directory: directory,
        }
    }

    fn heap() -> Self {
        Self::over(&RingBacking::Heap, None)
    }

    #[cfg(not(miri))]
    fn memfd() -> Self {
        Self::over(&RingBacking::Memfd, None)
    }

    #[cfg(not(miri))]
    fn file() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::over(
            &RingBacking::File(directory.path().to_owned()),
            Some(directory),
        )
    }

    /// True if there was room.
    fn push(&mut self, header: RecordHeader, payload: &[u8]) -> bool {
        match self.producer.claim(payload.len()).expect("a sound ring") {
            Claimed::Claimed(mut claim) => {
                claim.payload_mut().copy_from_slice(payload);
                claim.commit(header);
                true
            }
            Claimed::Full => false,
        }
    }

    fn pop(&mut self) -> Option<(RecordHeader, Vec<u8>)> {
        match self.consumer.next(&mut self.copy) {
            Read::Record(header) => Some((header, self.copy.payload().to_vec())),
            Read::Empty => None,
            Read::Bad(bad) => panic!("{bad:?}"),
        }
    }

    fn release(&mut self) {
        self.consumer.release_to(self.consumer.position());
    }
}

fn kind(kind: u16) -> RecordHeader {
    RecordHeader {
        kind,
        ..RecordHeader::default()
    }
}

/// Every field different, every byte of every field different.
fn odd_header() -> RecordHeader {
    RecordHeader {
        kind: 0x0102,
        flags: 0x0304,
        partition: 0,
        shard: 0x0506,
        slot: 0x0708_090a,
        generation: 0x0b0c_0d0e,
        principal: 0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f,
        trace: 0x2021_2223_2425_2627,
    }
}

macro_rules! suite {
    ($($story:ident),* $(,)?) => {
        mod on_the_heap {
            $(#[test] fn $story() { super::$story(super::Ring::heap()); })*
        }
        #[cfg(not(miri))]
        mod on_a_memfd {
            $(#[test] fn $story() { super::$story(super::Ring::memfd()); })*
        }
        #[cfg(not(miri))]
        mod on_a_file {
            $(#[test] fn $story() { super::$story(super::Ring::file()); })*
        }
    };
}

suite! {
    a_record_arrives_as_it_was_sent,
    payloads_of_every_size_arrive,
    a_full_ring_says_full_and_has_room_again_after_a_release,
    an_abandoned_claim_never_was,
    what_is_read_but_not_released_takes_room,
    records_wrap_without_being_split,
    a_payload_beyond_the_limit_is_refused_and_the_largest_fits,
    room_promised_is_room_given,
    a_payload_is_8_byte_aligned_on_both_sides,
    release_is_brought_within_bounds,
    a_consumer_may_skip_to_what_is_settled,
    is_empty_agrees_with_next,
    two_threads_pass_every_record_in_order,
}

fn a_record_arrives_as_it_was_sent(mut ring: Ring) {
    assert_eq!(ring.pop(), None);
    assert!(ring.push(odd_header(), b"hello, bus"));
    assert_eq!(ring.pop(), Some((odd_header(), b"hello, bus".to_vec())));
    assert_eq!(ring.pop(), None);
    assert_eq!(ring.copy.payload(), b"");
}

fn payloads_of_every_size_arrive(mut ring: Ring) {
    let step = if cfg!(miri) { 61 } else { 1 };
    for size in (0..=PAYLOAD_BYTES_MAX).step_by(step) {
        let payload: Vec<u8> = (0..size).map(|at| (at * 7 + size) as u8).collect();
        assert!(ring.push(kind(1), &payload), "size {size}");
        assert_eq!(ring.pop(), Some((kind(1), payload)), "size {size}");
        ring.release();
    }
}

fn a_full_ring_says_full_and_has_room_again_after_a_release(mut ring: Ring) {
    let mut sent = 0u16;
    while ring.push(kind(sent + 1), &[0; 80]) {
        sent += 1;
    }
    assert_eq!(usize::from(sent), RING_BYTES / record_span_bytes(80));
    assert!(!ring.push(kind(1), &[0; 80]));
    assert_eq!(ring.pop().map(|(header, _)| header.kind), Some(1));
    assert!(!ring.push(kind(1), &[0; 80]), "read is not released");
    ring.release();
    assert!(ring.push(kind(sent + 1), &[0; 80]));
    for expected in 2..=sent + 1 {
        assert_eq!(ring.pop().map(|(header, _)| header.kind), Some(expected));
    }
    assert_eq!(ring.pop(), None);
}

fn an_abandoned_claim_never_was(mut ring: Ring) {
    for _ in 0..100 {
        let Claimed::Claimed(mut claim) = ring.producer.claim(500).expect("a sound ring") else {
            panic!("room")
        };
        claim.payload_mut().fill(0xee);
        claim.abandon();
    }
    assert_eq!(ring.producer.position(), Position::default());
    assert_eq!(ring.pop(), None);
    assert!(ring.push(kind(1), b"after"));
    assert_eq!(ring.pop(), Some((kind(1), b"after".to_vec())));
}

fn what_is_read_but_not_released_takes_room(mut ring: Ring) {
    while ring.push(kind(1), &[1; 200]) {}
    while ring.pop().is_some() {}
    assert!(!ring.push(kind(1), &[1; 200]));
    ring.release();
    assert!(ring.push(kind(1), &[1; 200]));
}

fn records_wrap_without_being_split(mut ring: Ring) {
    // 4096 is no multiple of this span: the end of the ring is padded at every lap, differently.
    for number in 0..200u16 {
        let payload = vec![number as u8; 300 + usize::from(number % 5) * 8];
        assert!(ring.push(kind(number + 1), &payload));
        assert_eq!(ring.pop(), Some((kind(number + 1), payload)));
        ring.release();
    }
    assert_eq!(ring.producer.position(), ring.consumer.released());
}

fn a_payload_beyond_the_limit_is_refused_and_the_largest_fits(mut ring: Ring) {
    let refusal = ring
        .producer
        .claim(PAYLOAD_BYTES_MAX + 1)
        .expect_err("too large");
    let (payload_bytes, payload_bytes_max) = (PAYLOAD_BYTES_MAX + 1, PAYLOAD_BYTES_MAX);
    assert_eq!(
        refusal,
        ClaimError::TooLarge {
            payload_bytes,
            payload_bytes_max
        }
    );
    assert_eq!(ring.producer.payload_bytes_max(), PAYLOAD_BYTES_MAX);
    // Wherever the ring stands, an empty one takes the largest.
    for _ in 0..20 {
        assert!(ring.push(kind(1), &[9; PAYLOAD_BYTES_MAX]));
        assert!(ring.push(kind(2), &[]));
        assert!(ring.pop().is_some() && ring.pop().is_some());
        ring.release();
    }
}

fn room_promised_is_room_given(mut ring: Ring) {
    let sizes = [0, 8, 952, 40, 976, 400, 16, 700, 976];
    for round in 0..60 {
        let mut room = ring.producer.room_bytes();
        for turn in 0.. {
            let size = sizes[(round + turn) % sizes.len()];
            if record_span_bytes(size) > room {
                break;
            }
            assert!(
                ring.push(kind(1), &vec![0; size]),
                "round {round}, turn {turn}"
            );
            room -= record_span_bytes(size);
        }
        for _ in 0..round % 4 + 1 {
            ring.pop();
        }
        ring.release();
    }
}

fn a_payload_is_8_byte_aligned_on_both_sides(mut ring: Ring) {
    for size in [0, 1, 7, 8, 9, 63, 64, 65] {
        let Claimed::Claimed(mut claim) = ring.producer.claim(size).expect("a sound ring") else {
            panic!("room")
        };
        assert!(claim.payload_mut().as_ptr().addr().is_multiple_of(8));
        claim.commit(kind(1));
        ring.pop();
        assert!(ring.copy.payload().as_ptr().addr().is_multiple_of(8));
    }
}

fn release_is_brought_within_bounds(mut ring: Ring) {
    assert!(ring.push(kind(1), b"one") && ring.push(kind(2), b"two"));
    ring.pop();
    let first = ring.consumer.position();
    ring.consumer.release_to(Position::from_raw(u64::MAX));
    assert_eq!(
        ring.consumer.released(),
        first,
        "never beyond what was read"
    );
    ring.consumer.release_to(Position::from_raw(0));
    assert_eq!(ring.consumer.released(), first, "never back");
    assert_eq!(ring.producer.released(), first);
}

fn a_consumer_may_skip_to_what_is_settled(mut ring: Ring) {
    let mut ends = Vec::new();
    for number in 1..=3 {
        assert!(ring.push(kind(number), b"x"));
        ends.push(ring.producer.position());
    }
    let beyond = Position::from_raw(ends[2].get() + 8);
    assert!(!ring.consumer.skip_to(beyond), "beyond the published");
    assert!(ring.consumer.skip_to(ends[1]));
    assert!(!ring.consumer.skip_to(ends[0]), "back");
    assert_eq!(ring.pop().map(|(header, _)| header.kind), Some(3));
}

fn is_empty_agrees_with_next(mut ring: Ring) {
    assert!(ring.consumer.is_empty());
    assert!(ring.push(kind(1), b"x"));
    assert!(!ring.consumer.is_empty());
    ring.pop();
    assert!(ring.consumer.is_empty());
}

fn two_threads_pass_every_record_in_order(ring: Ring) {
    let Ring {
        mut producer,
        mut consumer,
        mut copy,
        _directory,
    } = ring;
    let records: u64 = if cfg!(miri) { 60 } else { 200_000 };
    let sender = std::thread::spawn(move || {
        for number in 0..records {
            let size = 8 + (number as usize * 13) % 200;
            loop {
                let Claimed::Claimed(mut claim) = producer.claim(size).expect("a sound ring")
                else {
                    std::thread::yield_now();
                    continue;
                };
                claim.payload_mut().fill(number as u8);
                claim.payload_mut()[..8].copy_from_slice(&number.to_le_bytes());
                claim.commit(RecordHeader {
                    trace: number,
                    ..kind(1)
                });
                break;
            }
        }
    });
    let mut expected = 0;
    while expected < records {
        match consumer.next(&mut copy) {
            Read::Record(header) => {
                assert_eq!(header.trace, expected);
                assert_eq!(copy.payload()[..8], expected.to_le_bytes());
                assert!(
                    copy.payload()[8..]
                        .iter()
                        .all(|byte| *byte == expected as u8)
                );
                expected += 1;
                if expected % 3 == 0 {
                    consumer.release_to(consumer.position());
                }
            }
            Read::Empty => {
                consumer.release_to(consumer.position());
                std::thread::yield_now();
            }
            Read::Bad(bad) => panic!("{bad:?}"),
        }
    }
    sender.join().expect("the sender sent all");
}

#[test]
fn a_record_of_a_newer_partition_is_skipped_and_the_ring_goes_on() {
    let mut ring = Ring::heap();
    assert!(ring.push(
        RecordHeader {
            partition: 3,
            ..kind(1)
        },
        b"from the future"
    ));
    assert!(ring.push(kind(2), b"after"));
    let Read::Bad(bad) = ring.consumer.next(&mut ring.copy) else {
        panic!("read it")
    };
    assert!(!bad.condemned);
    assert_eq!(
        bad.damage,
        Damage::Reserved {
            position: 0,
            found: 3
        }
    );
    assert_eq!(ring.pop(), Some((kind(2), b"after".to_vec())));
}

#[test]
fn sizes_out_of_bounds_are_refused_with_the_bounds() {
    let power = "expected a power of two from 4096 to 1073741824";
    let quarter = "expected a multiple of 8 above 48 and at most 1024 (a quarter of ring_bytes)";
    for (ring_bytes, record_bytes_max, sentence) in [
        (5000, 1024, format!("ring_bytes is 5000, {power}")),
        (2048, 256, format!("ring_bytes is 2048, {power}")),
        (4096, 2048, format!("record_bytes_max is 2048, {quarter}")),
        (4096, 48, format!("record_bytes_max is 48, {quarter}")),
        (4096, 1001, format!("record_bytes_max is 1001, {quarter}")),
    ] {
        let refusal = ring_pair(ring_bytes, record_bytes_max, &RingBacking::Heap);
        assert_eq!(refusal.expect_err("refused").to_string(), sentence);
    }
}
