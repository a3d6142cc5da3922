//! Ring images that somebody wrote into: seeded mutations of a dead gateway's file, read by a consumer and by a tap, and
//! compared with a reader that knows nothing but the specification. No panic, no signal, no loop, each bad record
//! counted.
//!
//! 10,000 images here; 100,000 with `TIDEGATE_TEST_FULL` in the environment (`scripts/test full`).

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "tests; the specification cuts fields out of words"
)]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use shm_bus::{
    BackendSeat, BusDirectory, Claimed, Consumer, Counter, GatewaySegment, InstanceId,
    ObservedGateway, Read, RecordCopy, RecordHeader, SegmentOptions, Tap, Tapped,
};
use stage::Stage;

const RING_BYTES: usize = 4096;
const RECORD_BYTES_MAX: usize = 1024;
/// By the README's tables: one shard, so the port page is the second page and the ring the third.
const PORT: usize = 4096;
const RING: usize = 2 * 4096;
const FILE_BYTES: usize = RING + RING_BYTES;
const CLAIMED: usize = PORT + 384;
/// Words that a consumer or an attach goes by; mutations prefer them.
const HEADER_BYTES: usize = 256;

/// xorshift: the same image from the same seed, everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 11) as usize % bound
    }
}

/// A dead gateway on a bus, and its file as it was.
struct Scene {
    stage: Stage,
    name: InstanceId,
    gateway: File,
    backend: File,
    image: Vec<u8>,
    twin: Vec<u8>,
}

impl Scene {
    /// Records of many sizes, several laps of them, some not given back.
    fn new(random: &mut Random) -> Self {
        let stage = Stage::new();
        let options = SegmentOptions {
            shards: 1,
            ring_bytes: RING_BYTES,
            record_bytes_max: RECORD_BYTES_MAX,
            ..SegmentOptions::default()
        };
        let mut segment = GatewaySegment::create(&stage.bus, &options).unwrap();
        let mut producer = segment.take_shard(0).unwrap().to_backend;
        let name = segment.instance();
        {
            let mut seat = BackendSeat::take(&stage.bus).unwrap();
            let mut attached = seat.attach(name).unwrap();
            let (consumer, mut copy) = (&mut attached.shards[0].to_backend, RecordCopy::default());
            let sent = 20 + random.below(60);
            for number in 0..sent {
                let size = random.below(400);
                loop {
                    if let Claimed::Claimed(mut claim) = producer.claim(size).unwrap() {
                        claim.payload_mut().fill(number as u8);
                        claim.commit(RecordHeader {
                            kind: 1 + (number % 9) as u16,
                            trace: number as u64,
                            ..RecordHeader::default()
                        });
                        break;
                    }
                    assert!(matches!(consumer.next(&mut copy), Read::Record(_)));
                    consumer.release_to(consumer.position());
                }
            }
        }
        drop((producer, segment));
        let open = |file: &str| {
            let path = stage.bus.path().join(format!("gateway-{name}")).join(file);
            (
                fs::read(&path).unwrap(),
                File::options().write(true).open(path).unwrap(),
            )
        };
        let ((image, gateway), (twin, backend)) = (open("gateway.mem"), open("backend.mem"));
        assert_eq!(image.len(), FILE_BYTES);
        Self {
            stage,
            name,
            gateway,
            backend,
            image,
            twin,
        }
    }

    fn released(&self) -> u64 {
        word(&self.twin, PORT + 128)
    }

    /// Puts this image, and the twin as it was, where the gateway's stood.
    fn put(&self, image: &[u8]) {
        self.gateway.write_all_at(image, 0).unwrap();
        self.backend.write_all_at(&self.twin, 0).unwrap();
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// One to eight harms: a bit, a byte, a word, a plausible length or cursor, a block of an earlier lap.
fn mutate(random: &mut Random, image: &mut [u8]) {
    for _ in 0..=random.below(8) {
        // The ring mostly; else the cursors; now and then the header, of which most harms are refused at once.
        let at = match random.below(16) {
            0 => random.below(HEADER_BYTES),
            1 | 2 => PORT + 8 * random.below(2) * 48,
            _ => RING + random.below(RING_BYTES),
        };
        let aligned = at & !7;
        match random.below(7) {
            0 => image[at] ^= 1 << random.below(8),
            1 => image[at] = random.next() as u8,
            2 => image[aligned..aligned + 8].copy_from_slice(&random.next().to_le_bytes()),
            3 => {
                // A length that might be one, with whatever kind stood there.
                let length = (random.below(140) * 8 + random.below(3)) as u32;
                image[aligned..aligned + 4].copy_from_slice(&length.to_le_bytes());
            }
            4 => {
                let near = word(image, aligned).wrapping_add(8 * random.below(64) as u64);
                image[aligned..aligned + 8].copy_from_slice(&near.to_le_bytes());
            }
            5 => image[aligned..aligned + 8].fill(0),
            _ => {
                let from = RING + 8 * random.below(RING_BYTES / 8 - 16);
                let to = RING + 8 * random.below(RING_BYTES / 8 - 16);
                image.copy_within(from..from + 128, to);
            }
        }
    }
}

/// What is in a ring from here to there, by the specification alone.
#[derive(Debug, Default, PartialEq)]
struct Contents {
    /// Kind, trace and payload of each record.
    records: Vec<(u16, u64, Vec<u8>)>,
    bad: u64,
    /// Where reading ends: at `published`, or where the ring is condemned.
    end: u64,
    condemned: bool,
}

fn by_the_specification(image: &[u8], released: u64, published: u64) -> Contents {
    let mut contents = Contents {
        end: released,
        ..Contents::default()
    };
    let condemned = |mut contents: Contents| {
        contents.bad += 1;
        contents.condemned = true;
        contents
    };
    while contents.end < published {
        let (position, in_ring) = (contents.end, contents.end as usize % RING_BYTES);
        let at = RING + in_ring;
        let (available, to_end) = (published - position, (RING_BYTES - in_ring) as u64);
        let first = word(image, at);
        let (length, kind) = (u64::from(first as u32), (first >> 32) as u16);
        let check = |length: u64, kind: u16| {
            (position >> 3) as u32
                ^ (length as u32).rotate_left(7)
                ^ (u32::from(kind) << 16)
                ^ 0x7464_6762
        };
        if kind == 0 {
            let sound = length == to_end
                && to_end <= available
                && to_end <= RECORD_BYTES_MAX as u64 - 8
                && first >> 48 == u64::from(check(length, 0) & 0xffff);
            if !sound {
                return condemned(contents);
            }
            contents.end += to_end;
            continue;
        }
        let most = (RECORD_BYTES_MAX as u64).min(available).min(to_end);
        if length < 48 || length > most {
            return condemned(contents);
        }
        if (word(image, at + 16) >> 32) as u32 != check(length, kind) {
            return condemned(contents);
        }
        contents.end += length.next_multiple_of(8);
        if word(image, at + 8) as u16 != 0 {
            contents.bad += 1;
            continue;
        }
        let payload = image[at + 48..at + length as usize].to_vec();
        contents.records.push((kind, word(image, at + 24), payload));
    }
    contents
}

/// Reads to the end or to what condemns. Each call goes forward by 8 bytes or is the last.
fn consume(consumer: &mut Consumer) -> Contents {
    let (mut contents, mut copy) = (Contents::default(), RecordCopy::default());
    for calls in 0.. {
        assert!(calls <= RING_BYTES / 8 + 1, "a loop without end");
        match consumer.next(&mut copy) {
            Read::Record(header) => {
                let payload = copy.payload().to_vec();
                contents.records.push((header.kind, header.trace, payload));
            }
            Read::Empty => break,
            Read::Bad(bad) => {
                contents.bad += 1;
                contents.condemned = bad.condemned;
                if bad.condemned {
                    assert_eq!(consumer.next(&mut copy), Read::Bad(bad), "for good");
                    break;
                }
            }
        }
        if calls % 3 == 0 {
            consumer.release_to(consumer.position());
        }
    }
    contents.end = consumer.position().get();
    contents
}

/// The same with a tap, which goes on behind what it cannot read.
fn tap_all(tap: &mut Tap) -> (Vec<(u16, u64, Vec<u8>)>, u64) {
    let (mut records, mut copy, mut missed_bytes) = (Vec::new(), RecordCopy::default(), 0);
    for calls in 0.. {
        assert!(calls <= RING_BYTES / 8 + 1, "a loop without end");
        match tap.next(&mut copy) {
            Tapped::Record(header) => {
                records.push((header.kind, header.trace, copy.payload().to_vec()));
            }
            Tapped::Lapped { missed_bytes: more } => missed_bytes += more,
            Tapped::Empty => break,
        }
    }
    assert_eq!(tap.position().get(), tap.published().get() & !7);
    (records, missed_bytes)
}

fn images() -> u64 {
    if std::env::var_os("TIDEGATE_TEST_FULL").is_some() {
        100_000
    } else {
        10_000
    }
}

/// Every so many images another gateway with other records.
const IMAGES_PER_SCENE: u64 = 500;

#[test]
fn mutated_images_are_read_as_the_specification_says_and_each_bad_record_is_counted() {
    let (mut refused, mut condemned, mut skipped, mut read) = (0, 0, 0, 0);
    for first in (0..images()).step_by(IMAGES_PER_SCENE as usize) {
        let scene = Scene::new(&mut Random::new(first + 1));
        let mut seat = BackendSeat::take(&scene.stage.bus).unwrap();
        for seed in first..first + IMAGES_PER_SCENE {
            let mut image = scene.image.clone();
            mutate(&mut Random::new(seed + 1), &mut image);
            scene.put(&image);
            let published = word(&image, PORT);
            let attached = match seat.attach(scene.name) {
                Ok(attached) => attached,
                Err(refusal) => {
                    let is_untouched = image[..HEADER_BYTES] == scene.image[..HEADER_BYTES]
                        && image[PORT..PORT + 8] == scene.image[PORT..PORT + 8];
                    assert!(!is_untouched, "seed {seed}: refused, {refusal}");
                    refused += 1;
                    continue;
                }
            };
            let expected = by_the_specification(&image, scene.released(), published);
            let ports = &mut { attached }.shards[0];
            let found = consume(&mut ports.to_backend);
            assert_eq!(found, expected, "seed {seed}");
            let counted = ports.counters.get(Counter::BadRecords);
            assert_eq!(counted, expected.bad, "seed {seed}");
            condemned += u64::from(expected.condemned);
            skipped += expected.bad - u64::from(expected.condemned);
            read += expected.records.len();
        }
    }
    println!(
        "{} images: {refused} refused, {condemned} condemned, {skipped} records skipped, {read} read",
        images()
    );
    // Or the mutations miss what they are for.
    let least = images() / 100;
    assert!(refused > least && condemned > least && skipped > 0 && read as u64 > images());
}

#[test]
fn a_tap_over_mutated_images_shows_what_is_whole_counts_what_is_bad_and_comes_to_an_end() {
    let (mut records_shown, mut records_bad) = (0, 0);
    for first in (0..images()).step_by(IMAGES_PER_SCENE as usize) {
        let scene = Scene::new(&mut Random::new(first + 1));
        let bus = BusDirectory::open(scene.stage.bus.path()).unwrap();
        for seed in first..first + IMAGES_PER_SCENE {
            let mut image = scene.image.clone();
            mutate(&mut Random::new(seed + 1), &mut image);
            // A tap begins at what is published: so it is made before anything was, in a header that is in order.
            image[..HEADER_BYTES].copy_from_slice(&scene.image[..HEADER_BYTES]);
            let (released, published) = (scene.released(), word(&image, PORT));
            image[PORT..PORT + 8].copy_from_slice(&released.to_le_bytes());
            scene.put(&image);
            let mut observed = ObservedGateway::open(&bus, scene.name).unwrap();
            let tap = &mut observed.shards[0].to_backend;
            scene
                .gateway
                .write_all_at(&published.to_le_bytes(), PORT as u64)
                .unwrap();
            let (shown, missed_bytes) = tap_all(tap);

            let published = published & !7;
            let ahead = published.wrapping_sub(released);
            let is_readable = published >= released && ahead <= RING_BYTES as u64;
            let expected = if is_readable {
                by_the_specification(&image, released, published)
            } else {
                Contents::default()
            };
            // What a producer may be overwriting just now is not shown: then there are fewer.
            let overwritten = word(&image, CLAIMED) > released + RING_BYTES as u64;
            if overwritten || !is_readable {
                assert!(expected.records.starts_with(&shown), "seed {seed}");
                assert!(tap.bad_records() <= expected.bad, "seed {seed}");
            } else {
                assert_eq!(shown, expected.records, "seed {seed}");
                assert_eq!(tap.bad_records(), expected.bad, "seed {seed}");
                let lost = if expected.condemned {
                    published - expected.end
                } else {
                    0
                };
                assert_eq!(missed_bytes, lost, "seed {seed}");
            }
            records_shown += shown.len();
            records_bad += tap.bad_records();
        }
    }
    println!(
        "{} images: {records_shown} records shown, {records_bad} bad",
        images()
    );
    assert!(records_bad > images() / 100 && records_shown as u64 > images());
}

#[test]
fn a_file_of_any_other_length_is_refused() {
    let mut random = Random::new(1);
    let scene = Scene::new(&mut random);
    let mut seat = BackendSeat::take(&scene.stage.bus).unwrap();
    let path: PathBuf = scene
        .stage
        .bus
        .path()
        .join(format!("gateway-{}", scene.name));
    for _ in 0..200 {
        let bytes = random.below(2 * FILE_BYTES) as u64;
        for (file, whole) in [("gateway.mem", &scene.image), ("backend.mem", &scene.twin)] {
            let cut = File::options().write(true).open(path.join(file)).unwrap();
            cut.set_len(bytes).unwrap();
            let attached = seat.attach(scene.name);
            assert!(
                attached.is_err() || bytes == FILE_BYTES as u64,
                "{bytes} bytes"
            );
            cut.set_len(FILE_BYTES as u64).unwrap();
            cut.write_all_at(whole, 0).unwrap();
        }
    }
    seat.attach(scene.name).expect("as it was");
}
