//! The ring's orderings, in every interleaving that loom can make of them (`RUSTFLAGS="--cfg loom"`).

use loom::thread;

use super::{Claimed, Consumer, Producer, Read, RingShape, Tap, Tapped, tap::Planted};
use crate::{
    layout::{PORT_COUNTERS, PORT_COUNTERS_OFFSET, PORT_PUBLISHED_OFFSET},
    memory::{Memory, Word, Words},
    record::{RecordCopy, RecordHeader},
    sync::{Arc, Ordering},
};

/// A port page and the ring behind it, in one file.
const RING_OFFSET: usize = PORT_COUNTERS_OFFSET + PORT_COUNTERS * 8;
/// Room for two records of 56 bytes and 16 bytes of padding: the third record wraps.
const SHAPE: RingShape = RingShape {
    ring_bytes: 128,
    record_bytes_max: 64,
};

struct Files {
    producer: Arc<Memory>,
    consumer: Arc<Memory>,
}

impl Files {
    fn new() -> Self {
        let producer = Memory::heap(RING_OFFSET + 128);
        Self {
            producer,
            consumer: Memory::heap(RING_OFFSET),
        }
    }

    fn producer(&self) -> Producer {
        Producer::over(SHAPE, &self.producer, &self.consumer, 0, RING_OFFSET).expect("fresh")
    }

    fn consumer(&self) -> Consumer {
        Consumer::over(SHAPE, &self.consumer, &self.producer, 0, RING_OFFSET).expect("fresh")
    }
}

/// Few switches between threads find nearly all bugs; all switches take for ever.
fn model(preemptions_max: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(body);
}

fn push(producer: &mut Producer, number: u64) -> bool {
    match producer.claim(8).expect("a sound ring") {
        Claimed::Claimed(mut claim) => {
            claim
                .payload_mut()
                .copy_from_slice(&(!number).to_le_bytes());
            claim.commit(RecordHeader {
                kind: 1,
                trace: number,
                ..RecordHeader::default()
            });
            true
        }
        Claimed::Full => false,
    }
}

fn expect_record(read: Read, copy: &RecordCopy, number: u64) -> bool {
    match read {
        Read::Record(header) => {
            assert_eq!(header.trace, number);
            assert_eq!(copy.payload(), (!number).to_le_bytes());
            true
        }
        Read::Empty => false,
        Read::Bad(bad) => panic!("{bad:?}"),
    }
}

#[test]
fn a_record_is_whole_when_it_is_seen() {
    model(3, || {
        let files = Files::new();
        let (mut producer, mut consumer) = (files.producer(), files.consumer());
        let sender = thread::spawn(move || {
            assert!(push(&mut producer, 1));
            assert!(push(&mut producer, 2));
        });
        let (mut copy, mut number) = (RecordCopy::default(), 1);
        while number <= 2 {
            if expect_record(consumer.next(&mut copy), &copy, number) {
                number += 1;
            } else {
                thread::yield_now();
            }
        }
        sender.join().expect("sent");
    });
}

#[test]
fn room_is_written_again_only_after_it_was_read() {
    model(2, || {
        let files = Files::new();
        let (mut producer, mut consumer) = (files.producer(), files.consumer());
        assert!(push(&mut producer, 1) && push(&mut producer, 2) && !push(&mut producer, 3));
        let sender = thread::spawn(move || {
            while !push(&mut producer, 3) {
                thread::yield_now();
            }
        });
        let (mut copy, mut number) = (RecordCopy::default(), 1);
        while number <= 3 {
            if expect_record(consumer.next(&mut copy), &copy, number) {
                consumer.release_to(consumer.position());
                number += 1;
            } else {
                thread::yield_now();
            }
        }
        sender.join().expect("sent");
    });
}

/// A tap reads while the producer goes on: the third record lies over the first one, the fourth over the second.
/// Whatever the tap shows is whole and in order, and what it read and what it missed add up to where it is.
fn lapped(preemptions_max: usize, further: u64, planted: Planted) {
    model(preemptions_max, move || {
        let files = Files::new();
        let (mut producer, mut consumer) = (files.producer(), files.consumer());
        let mut tap = Tap::over(SHAPE, &files.producer, 0, RING_OFFSET);
        tap.planted = planted;
        assert!(push(&mut producer, 1) && push(&mut producer, 2));
        let mut copy = RecordCopy::default();
        assert!(expect_record(consumer.next(&mut copy), &copy, 1));
        assert!(expect_record(consumer.next(&mut copy), &copy, 2));
        consumer.release_to(consumer.position());
        let sender =
            thread::spawn(move || (3..3 + further).for_each(|n| assert!(push(&mut producer, n))));
        let (mut newest, mut at) = (0, 0);
        for _ in 0..=further {
            match tap.next(&mut copy) {
                Tapped::Record(header) => {
                    assert_eq!(
                        copy.payload(),
                        (!header.trace).to_le_bytes(),
                        "half a record"
                    );
                    assert!(header.trace > newest, "an older record after {newest}");
                    newest = header.trace;
                    // Records 1 and 2 end at 56 and 112; 3 and 4 begin behind 16 bytes of padding, at 128.
                    let ends = [0, 56, 112, 184, 240];
                    at = ends[usize::try_from(newest).expect("at most 4")];
                    assert_eq!(tap.position().get(), at);
                }
                Tapped::Lapped { missed_bytes } => {
                    at += missed_bytes;
                    assert!(at >= 112, "it goes on at what was published");
                    assert_eq!(tap.position().get(), at);
                }
                Tapped::Empty => assert!(tap.position().get() >= 112, "a record was there"),
            }
        }
        assert_eq!(
            tap.bad_records(),
            0,
            "what was written over counts as missed"
        );
        sender.join().expect("sent");
    });
}

#[test]
fn a_lapped_tap_knows_it_and_never_shows_half_a_record() {
    lapped(3, 1, Planted::Nothing);
}

#[test]
fn a_tap_that_is_lapped_while_it_goes_on_counts_what_it_missed() {
    lapped(2, 2, Planted::Nothing);
}

/// The canary of the second look: without it the model must fail.
#[test]
#[should_panic(expected = "half a record")]
fn loom_sees_half_a_record_where_a_tap_does_not_look_twice() {
    lapped(3, 1, Planted::NoSecondLook);
}

/// The canary of its fence: without it the second look may see an older `claimed` than the words before it.
#[test]
#[should_panic(expected = "half a record")]
fn loom_sees_half_a_record_where_the_second_look_may_come_first() {
    lapped(3, 1, Planted::NoFence);
}

/// One record written word by word, as `commit` does, and published in this order.
fn publish_by_hand(order: Ordering) {
    model(3, move || {
        let files = Files::new();
        let ring = Words::at(&files.producer, RING_OFFSET, 128);
        let published = Word::at(&files.producer, PORT_PUBLISHED_OFFSET);
        let mut consumer = files.consumer();
        let sender = thread::spawn(move || {
            let header = RecordHeader {
                kind: 1,
                trace: 1,
                ..RecordHeader::default()
            };
            for (index, word) in header.to_words(56, 0).into_iter().chain([!1]).enumerate() {
                ring.store(index, word);
            }
            published.store(56, order);
        });
        let mut copy = RecordCopy::default();
        match consumer.next(&mut copy) {
            Read::Record(_) => assert_eq!(copy.payload(), (!1u64).to_le_bytes(), "half a record"),
            Read::Empty => {}
            Read::Bad(bad) => panic!("half a record: {bad:?}"),
        }
        sender.join().expect("sent");
    });
}

#[test]
fn a_record_published_by_hand_with_release_is_whole() {
    publish_by_hand(Ordering::Release);
}

/// The canary: it must be caught, or the models above prove nothing.
#[test]
#[should_panic(expected = "half a record")]
fn loom_sees_half_a_record_where_publishing_is_relaxed() {
    publish_by_hand(Ordering::Relaxed);
}
