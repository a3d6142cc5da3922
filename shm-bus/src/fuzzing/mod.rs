//! The bodies of the fuzz targets, with their assertions: a target is one line that calls one of these. Memory that a
//! peer wrote may hold anything: the consumer and the producer never panic, never loop without end, never look outside
//! the ring (slices are checked, and Miri and the address sanitiser watch), and count what was bad.

mod recordings;

pub use recordings::{recording, recording_body, recording_rotated};

use crate::{
    counters::Counter,
    error::ClaimError,
    layout::{PORT_COUNTERS, PORT_COUNTERS_OFFSET, PORT_PUBLISHED_OFFSET, PORT_RELEASED_OFFSET},
    memory::{Memory, Word, Words},
    record::{RecordCopy, RecordHeader},
    ring::{Claimed, Consumer, Producer, Read, RingShape},
    sync::{Arc, Ordering},
};

/// A body: bytes in, a panic where something does not hold.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const BODIES: &[(&str, Body)] = &[
    (
        "consumer_over_arbitrary_memory",
        consumer_over_arbitrary_memory,
    ),
    ("consumer_over_a_damaged_ring", consumer_over_a_damaged_ring),
    (
        "producer_with_an_arbitrary_consumer",
        producer_with_an_arbitrary_consumer,
    ),
    ("recording", recording),
    ("recording_body", recording_body),
    ("recording_rotated", recording_rotated),
];

const RING_BYTES: usize = 4096;
const RING_WORDS: usize = RING_BYTES / 8;
const RING_OFFSET: usize = PORT_COUNTERS_OFFSET + PORT_COUNTERS * 8;
const SHAPE: RingShape = RingShape {
    ring_bytes: RING_BYTES as u64,
    record_bytes_max: 1024,
};

/// A consumer over a ring and cursors that are nothing but these bytes: 8 of `published`, 8 of `released`, then the
/// ring. Numbers are little-endian; what is missing is zero.
pub fn consumer_over_arbitrary_memory(data: &[u8]) {
    let files = Files::new();
    let mut words = data.chunks(8).map(|bytes| {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        u64::from_le_bytes(word)
    });
    files.set_published(words.next().unwrap_or(0));
    files.set_released(words.next().unwrap_or(0));
    for (index, word) in words.take(RING_WORDS).enumerate() {
        files.ring.store(index, word);
    }
    files.consume_all();
}

/// A consumer over a ring that was in order until somebody wrote into it: the first half of the bytes says what was
/// sent, the second what was damaged.
pub fn consumer_over_a_damaged_ring(data: &[u8]) {
    let files = Files::new();
    let (sent, damaged) = data.split_at(data.len() / 2);
    let (mut producer, mut consumer) = files.ends();
    let mut copy = RecordCopy::default();
    for (number, size) in sent.iter().enumerate() {
        let size = usize::from(*size) * 4;
        while !push(&mut producer, size, number) {
            assert!(
                matches!(consumer.next(&mut copy), Read::Record(_)),
                "a ring in order"
            );
            consumer.release_to(consumer.position());
        }
    }
    drop(consumer);
    for harm in damaged.chunks_exact(4) {
        let (at, value) = (
            usize::from(harm[0]) << 8 | usize::from(harm[1]),
            u64::from(harm[3]),
        );
        // One byte of a word, in the ring or (now and then) in the producer's cursor.
        let shift = (harm[2] & 7) * 8;
        let change = |word: u64| word & !(0xff << shift) | value << shift;
        if harm[2] > 0xf8 {
            files.set_published(change(files.published.load(Ordering::Relaxed)));
        } else {
            files
                .ring
                .store(at % RING_WORDS, change(files.ring.load(at % RING_WORDS)));
        }
    }
    files.consume_all();
}

/// A producer whose consumer's cursor is nothing but these bytes, read anew before each claim.
pub fn producer_with_an_arbitrary_consumer(data: &[u8]) {
    let files = Files::new();
    let (mut producer, _) = files.ends();
    for chunk in data.chunks_exact(9) {
        let (size, cursor) = (usize::from(chunk[0]) * 4, &chunk[1..]);
        let mut released = u64::from_le_bytes(cursor.try_into().expect("8 of 9 bytes"));
        if size.is_multiple_of(8) {
            // Half of them plausible, or nothing but the first refusal would ever be seen.
            released = producer.position().get().saturating_sub(released % 4096) & !7;
        }
        files.set_released(released);
        let before = producer.position();
        match producer.claim(size) {
            Ok(Claimed::Claimed(claim)) => {
                let after = claim.commit(RecordHeader {
                    kind: 1,
                    ..RecordHeader::default()
                });
                assert!(after > before);
            }
            Ok(Claimed::Full) => assert_eq!(producer.position(), before),
            Err(ClaimError::TooLarge { .. }) => assert!(size > producer.payload_bytes_max()),
            Err(ClaimError::Condemned(damage)) => {
                assert_eq!(producer.condemned(), Some(damage));
                assert_eq!(producer.room_bytes(), 0);
                assert_eq!(producer.position(), before);
            }
        }
        let published = files.published.load(Ordering::Relaxed);
        assert_eq!(published, producer.position().get());
    }
}

/// True if there was room.
fn push(producer: &mut Producer, size: usize, number: usize) -> bool {
    let size = size.min(producer.payload_bytes_max());
    match producer.claim(size).expect("a ring in order") {
        Claimed::Claimed(mut claim) => {
            claim.payload_mut().fill(0x5a);
            let kind = u16::try_from(number % 1000).expect("below 1000") + 1;
            claim.commit(RecordHeader {
                kind,
                ..RecordHeader::default()
            });
            true
        }
        Claimed::Full => false,
    }
}

/// The memory of both sides, with the words that matter at hand.
struct Files {
    producer: Arc<Memory>,
    consumer: Arc<Memory>,
    published: Word,
    released: Word,
    ring: Words,
}

impl Files {
    fn new() -> Self {
        let (producer, consumer) = (
            Memory::heap(RING_OFFSET + RING_BYTES),
            Memory::heap(RING_OFFSET),
        );
        Self {
            published: Word::at(&producer, PORT_PUBLISHED_OFFSET),
            released: Word::at(&consumer, PORT_RELEASED_OFFSET),
            ring: Words::at(&producer, RING_OFFSET, RING_BYTES),
            producer,
            consumer,
        }
    }

    fn set_published(&self, to: u64) {
        self.published.store(to, Ordering::Relaxed);
    }

    fn set_released(&self, to: u64) {
        self.released.store(to, Ordering::Relaxed);
    }

    fn ends(&self) -> (Producer, Consumer) {
        let producer = Producer::over(SHAPE, &self.producer, &self.consumer, 0, RING_OFFSET);
        let consumer = Consumer::over(SHAPE, &self.consumer, &self.producer, 0, RING_OFFSET);
        (producer.expect("fresh"), consumer.expect("fresh"))
    }

    /// Attaches, reads to the end or to the first damage that condemns, and checks each step.
    fn consume_all(&self) {
        let Ok(mut consumer) =
            Consumer::over(SHAPE, &self.consumer, &self.producer, 0, RING_OFFSET)
        else {
            return;
        };
        let (mut copy, mut bad) = (RecordCopy::default(), 0);
        let published = self.published.load(Ordering::Relaxed);
        // Each call goes forward by 8 bytes at least, or is the last.
        for calls in 0.. {
            assert!(calls <= RING_WORDS + 1, "a loop without end");
            let before = consumer.position();
            match consumer.next(&mut copy) {
                Read::Record(header) => {
                    assert_ne!(header.kind, 0);
                    assert!(copy.payload().len() <= 1024 - 48);
                    assert!(consumer.position() > before && consumer.position().get() <= published);
                }
                Read::Empty => {
                    assert_eq!(consumer.position().get(), published);
                    assert!(consumer.is_empty() && consumer.condemned().is_none());
                    break;
                }
                Read::Bad(found) if found.condemned => {
                    bad += 1;
                    assert_eq!(consumer.condemned(), Some(found.damage));
                    assert_eq!(
                        consumer.next(&mut copy),
                        Read::Bad(found),
                        "it stays condemned"
                    );
                    assert!(consumer.is_empty(), "and nobody is kept awake by it");
                    break;
                }
                Read::Bad(_) => {
                    bad += 1;
                    assert!(consumer.position() > before);
                }
            }
            if calls % 3 == 0 {
                consumer.release_to(consumer.position());
            }
        }
        let counted = self.consumer_counter(Counter::BadRecords);
        assert_eq!(counted, bad, "each bad record is counted once");
    }

    fn consumer_counter(&self, counter: Counter) -> u64 {
        crate::counters::Counters::at(&self.consumer, 0).get(counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// xorshift: the same bytes from the same seed, everywhere.
    struct Bytes(u64);

    impl Bytes {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn take(&mut self, count: usize) -> Vec<u8> {
            (0..count.div_ceil(8))
                .flat_map(|_| self.next().to_le_bytes())
                .take(count)
                .collect()
        }
    }

    fn rounds(wanted: u64) -> u64 {
        let full = std::env::var_os("TIDEGATE_TEST_FULL").is_some();
        let wanted = if full { wanted } else { wanted.min(10_000) };
        if cfg!(miri) { wanted.min(4) } else { wanted }
    }

    #[test]
    fn damaged_rings_are_survived_and_counted() {
        for seed in 1..=rounds(100_000) {
            let mut bytes = Bytes(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let count = bytes.next() % 64;
            consumer_over_a_damaged_ring(&bytes.take(usize::try_from(count).unwrap()));
        }
    }

    #[test]
    fn recordings_of_any_content_are_survived() {
        for seed in 1..=rounds(100_000) {
            let mut bytes = Bytes(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let count = bytes.next() % 512;
            let data = bytes.take(usize::try_from(count).unwrap());
            recording(&data);
            recording_body(&data);
        }
    }

    #[test]
    fn whatever_a_recorder_writes_is_read_and_whatever_is_cut_off_costs_its_block() {
        // Megabytes of checks: a tenth of the others' rounds.
        for seed in 1..=rounds(100_000).div_ceil(10) {
            let mut bytes = Bytes(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let count = bytes.next() % 512;
            recording_rotated(&bytes.take(usize::try_from(count).unwrap()));
        }
    }

    #[test]
    fn memory_of_any_content_is_survived() {
        for seed in 1..=rounds(10_000) {
            let mut bytes = Bytes(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut data = bytes.take(256);
            // Plausible cursors, or nothing but the first refusal would ever be seen.
            data[..8].copy_from_slice(&(bytes.next() % 512 * 8).to_le_bytes());
            data[8..16].copy_from_slice(&0u64.to_le_bytes());
            consumer_over_arbitrary_memory(&data);
            consumer_over_arbitrary_memory(&bytes.take(64));
        }
        consumer_over_arbitrary_memory(&[]);
        consumer_over_arbitrary_memory(&[0xff; 5000]);
    }

    #[test]
    fn consumers_with_any_cursor_are_survived_by_their_producer() {
        for seed in 1..=rounds(10_000) {
            let mut bytes = Bytes(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            producer_with_an_arbitrary_consumer(&bytes.take(360));
        }
    }
}
