//! A ring plays a long random game against a `VecDeque`.

#![expect(
    clippy::cast_possible_truncation,
    reason = "payload bytes are made from counters"
)]

use std::collections::VecDeque;

use proptest::prelude::*;
use shm_bus::{
    Claimed, Consumer, Position, Producer, RECORD_HEADER_BYTES, Read, RecordCopy, RecordHeader,
    RingBacking, record_span_bytes, ring_pair,
};

const RING_BYTES: usize = 4096;
const RECORD_BYTES_MAX: usize = 1024;
const PAYLOAD_BYTES_MAX: usize = RECORD_BYTES_MAX - RECORD_HEADER_BYTES;

/// One step of the game.
#[derive(Clone, Debug)]
enum Step {
    Push(usize),
    Abandon(usize),
    Pop,
    Release,
    /// Release to the end of an earlier record that was read.
    ReleaseSome(usize),
    Room,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (0..=PAYLOAD_BYTES_MAX).prop_map(Step::Push),
        5 => (0..100usize).prop_map(Step::Push),
        1 => (0..=PAYLOAD_BYTES_MAX).prop_map(Step::Abandon),
        8 => Just(Step::Pop),
        2 => Just(Step::Release),
        2 => (0..8usize).prop_map(Step::ReleaseSome),
        1 => Just(Step::Room),
    ];
    prop::collection::vec(step, 1..if cfg!(miri) { 60 } else { 400 })
}

/// The ring, and what it should be.
struct Game {
    producer: Producer,
    consumer: Consumer,
    copy: RecordCopy,
    queue: VecDeque<(RecordHeader, Vec<u8>)>,
    /// Ends of records that were read and not released.
    held: Vec<Position>,
    number: u64,
}

impl Game {
    fn new() -> Self {
        let (producer, consumer) =
            ring_pair(RING_BYTES, RECORD_BYTES_MAX, &RingBacking::Heap).expect("sound sizes");
        let (copy, queue, held) = (RecordCopy::default(), VecDeque::new(), Vec::new());
        Self {
            producer,
            consumer,
            copy,
            queue,
            held,
            number: 0,
        }
    }

    fn used_bytes(&mut self) -> usize {
        (self.producer.position().get() - self.producer.released().get()) as usize
    }

    fn play(&mut self, step: &Step) {
        match *step {
            Step::Push(size) => self.push(size),
            Step::Abandon(size) => {
                let claimed = self.producer.claim(size).expect("a sound ring");
                if let Claimed::Claimed(mut claim) = claimed {
                    claim.payload_mut().fill(0xaa);
                }
            }
            Step::Pop => self.pop(),
            Step::Release => {
                self.consumer.release_to(self.consumer.position());
                self.held.clear();
            }
            Step::ReleaseSome(count) => {
                let count = count.min(self.held.len());
                if let Some(last) = self.held.drain(..count).next_back() {
                    self.consumer.release_to(last);
                    assert_eq!(self.producer.released(), last);
                }
            }
            Step::Room => assert!(self.producer.room_bytes() + self.used_bytes() <= RING_BYTES),
        }
    }

    fn push(&mut self, size: usize) {
        self.number += 1;
        let number = self.number;
        let header = RecordHeader {
            kind: 1 + (number % 0xffff) as u16,
            flags: number as u16,
            shard: !number as u16,
            slot: number as u32 ^ 0x1234_5678,
            generation: !number as u32,
            principal: u128::from(number) << 70 | u128::from(number),
            trace: number,
            ..RecordHeader::default()
        };
        let payload: Vec<u8> = (0..size).map(|at| (at as u64 + number) as u8).collect();
        let (room, used) = (self.producer.room_bytes(), self.used_bytes());
        match self.producer.claim(size).expect("a sound ring") {
            Claimed::Claimed(mut claim) => {
                claim.payload_mut().copy_from_slice(&payload);
                claim.commit(header);
                self.queue.push_back((header, payload));
            }
            Claimed::Full => {
                assert!(record_span_bytes(size) > room, "room was promised");
                assert!(
                    used + 2 * record_span_bytes(size) > RING_BYTES,
                    "full for no reason"
                );
            }
        }
    }

    fn pop(&mut self) {
        assert_eq!(self.consumer.is_empty(), self.queue.is_empty());
        let popped = match self.consumer.next(&mut self.copy) {
            Read::Record(header) => Some((header, self.copy.payload().to_vec())),
            Read::Empty => None,
            Read::Bad(bad) => panic!("{bad:?}"),
        };
        if popped.is_some() {
            self.held.push(self.consumer.position());
        }
        assert_eq!(popped, self.queue.pop_front());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_ring_behaves_like_a_queue_of_bounded_size(steps in steps()) {
        let mut game = Game::new();
        for step in &steps {
            game.play(step);
        }
    }
}
