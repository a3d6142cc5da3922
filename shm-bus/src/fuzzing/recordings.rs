//! Recordings: what a recorder wrote, what somebody wrote over it, and bytes that only look like one.

use crate::{
    identity::InstanceId,
    record::RecordHeader,
    recording::{
        BLOCK_MAGIC, Direction, Entry, Event, HEAD_BYTES, Head, RecordingReader, RecordingWriter,
        block,
    },
};

/// A recording whose blocks are nothing but these bytes, and one that was in order until somebody wrote these bytes
/// into it. Whatever can be read of it can be written, and is read again.
pub fn recording(data: &[u8]) {
    let head = Head::default();
    let file = RecordingWriter::begin(Vec::new(), &head).and_then(RecordingWriter::end);
    let file = file.expect("memory takes it");
    let mut damaged = [&file[..], data].concat();
    let again = written_again(&damaged);
    assert_eq!(written_again(&again), again);
    // Another header, and what follows it.
    damaged.drain(..file.len());
    if RecordingReader::open(&damaged[..]).is_ok() {
        written_again(&damaged);
    }
    // The bytes as payloads; then each pair of them changes a byte.
    let mut writer = RecordingWriter::begin(Vec::new(), &head).expect("memory takes it");
    for (number, payload) in (0..).zip(data.chunks(64)) {
        let header = RecordHeader {
            kind: 1,
            slot: number,
            ..RecordHeader::default()
        };
        let leads = Direction::ToBackend;
        let entry = Entry {
            at_us: u64::from(number),
            gateway: 0,
            shard: 0,
            event: Event::Record {
                leads,
                header,
                payload,
            },
        };
        writer.write(&entry).expect("memory takes it");
        if payload[0] & 1 == 1 {
            writer.flush().expect("memory takes it");
        }
    }
    let mut file = writer.end().expect("memory takes it");
    let sound = written_again(&file).len();
    for harm in data.chunks_exact(2) {
        let at = file.len() * usize::from(harm[0]) / 256;
        if at >= HEAD_BYTES {
            file[at] = harm[1];
        }
    }
    assert!(written_again(&file).len() <= sound);
}

/// What can be read of a recording, as one.
fn written_again(file: &[u8]) -> Vec<u8> {
    let mut reader = opened(file);
    let mut writer = RecordingWriter::begin(Vec::new(), &reader.head()).expect("memory takes it");
    let mut entries = 0;
    while let Some(entry) = reader.next().expect("memory can be read") {
        writer.write(&entry).expect("memory takes it");
        entries += 1;
    }
    assert!(entries <= file.len(), "an entry has at least a byte");
    assert!(reader.damaged_bytes() <= file.len() as u64);
    writer.end().expect("memory takes it")
}

/// The time of the block that is made of the bytes, µs since the Unix epoch.
const BLOCK_AT_US: u64 = 1_700_000_000_000_000;

/// A block whose body is nothing but these bytes, and whose check fits: so a hunt reaches what stands behind the check.
/// It is taken whole, and what was taken can be written and is read again, or nothing of it is; what follows is read.
pub fn recording_body(data: &[u8]) {
    let bad = block(BLOCK_AT_US, data);
    let file = RecordingWriter::begin(Vec::new(), &Head::default()).and_then(RecordingWriter::end);
    let mut file = file.expect("memory takes it");
    file.extend_from_slice(&bad);
    let last = Entry {
        at_us: u64::MAX,
        gateway: 7,
        shard: 9,
        event: Event::Gone,
    };
    let mut behind = RecordingWriter::begin(Vec::new(), &Head::default()).expect("memory takes it");
    behind.write(&last).expect("memory takes it");
    let behind = behind.end().expect("memory takes it");
    file.extend_from_slice(&behind[HEAD_BYTES..]);

    let mut reader = opened(&file);
    let (mut entries, mut newest_us, mut is_last) = (0, BLOCK_AT_US, false);
    while let Some(entry) = reader.next().expect("memory can be read") {
        assert!(entry.at_us >= newest_us, "time never goes back");
        (entries, newest_us, is_last) = (entries + 1, entry.at_us, entry == last);
    }
    assert!(is_last, "what is behind a block that is no use is read");
    match reader.damaged_bytes() {
        0 => assert!(entries > 1, "a block that was taken has an entry"),
        // Within a body that is refused the reader looks for another block.
        _ if holds_a_block(data) => {}
        damaged => assert_eq!((entries, damaged), (1, bad.len() as u64), "none of it"),
    }
    let again = written_again(&file);
    let (mut reader, mut again) = (opened(&file), opened(&again));
    while let Some(entry) = reader.next().expect("memory can be read") {
        assert_eq!(again.next().expect("memory can be read"), Some(entry));
    }
    assert_eq!(again.next().expect("memory can be read"), None);
    assert_eq!(again.damaged_bytes(), 0);
}

/// What a recorder does in these bytes' order: entries of every kind, a block ended early, a file that is full and followed
/// by the next. All of it is read; of the newest file, cut off where the last bytes say, every block that is whole.
pub fn recording_rotated(data: &[u8]) {
    let (script, cut) = data.split_at(data.len().saturating_sub(2));
    let noise: Vec<u8> = script
        .iter()
        .copied()
        .cycle()
        .take(NOISE_BYTES_MAX)
        .collect();
    let mut script = Script(script);
    let mut parts = vec![Part::begin(0)];
    for _ in 0..ENTRIES_MAX {
        let Some(action) = script.next() else { break };
        if action & ROTATE != 0 {
            parts.push(Part::begin(parts.len() as u64));
        }
        let newest = parts.last_mut().expect("there is always one");
        newest.write(entry(action, &mut script, &noise));
        if action & FLUSH != 0 {
            newest.flush();
        }
    }
    let mut files: Vec<_> = parts.into_iter().map(Part::end).collect();
    for (number, file) in (0..).zip(&files) {
        assert_eq!(opened(&file.bytes).head(), head(number));
        assert_eq!(file.read(), (file.entries.len(), 0));
    }
    let newest = files.last_mut().expect("there is always one");
    let cut = cut
        .iter()
        .fold(0, |cut, byte| (cut << 8) | usize::from(*byte));
    newest.bytes.truncate((newest.bytes.len() * cut) >> 16);
    if newest.bytes.len() < HEAD_BYTES {
        assert!(RecordingReader::open(&newest.bytes[..]).is_err());
    } else if !holds_a_block(&noise) {
        let is_whole = |block: &&(usize, usize)| block.0 <= newest.bytes.len();
        let whole = newest.blocks.iter().rev().find(is_whole);
        let &(end, entries) = whole.expect("the header is there");
        let damaged_bytes = (newest.bytes.len() - end) as u64;
        assert_eq!(newest.read(), (entries, damaged_bytes));
    }
}

/// Entries of a script at most: a file has some blocks then, and a hunt stays fast.
const ENTRIES_MAX: usize = 64;
/// The longest payload of a script, bytes: five of them fill a block.
const NOISE_BYTES_MAX: usize = 16 * 1024;

/// Bits of an entry's first byte; the lowest two say what it is.
const TO_GATEWAY: u8 = 4;
const FLUSH: u8 = 8;
const ROTATE: u8 = 16;
const HAS_PAYLOAD: u8 = 32;

/// What is still to be done.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number of any size from two bytes: those at which lengths turn come often.
    fn number(&mut self) -> u64 {
        let (value, shift) = (self.next().unwrap_or(0), self.next().unwrap_or(0));
        u64::from(value) << (shift & 63) | u64::from(shift >> 6)
    }

    /// The same, cut to 32 and 16 bits.
    fn number_32(&mut self) -> u32 {
        let [a, b, c, d, ..] = self.number().to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn number_16(&mut self) -> u16 {
        let [a, b, ..] = self.number().to_le_bytes();
        u16::from_le_bytes([a, b])
    }
}

fn entry<'a>(action: u8, script: &mut Script<'_>, noise: &'a [u8]) -> Entry<'a> {
    let leads = if action & TO_GATEWAY == 0 {
        Direction::ToBackend
    } else {
        Direction::ToGateway
    };
    let (at_us, gateway, shard) = (script.number(), script.number_32(), script.number_16());
    let event = match action & 3 {
        0 => Event::Record {
            leads,
            header: RecordHeader {
                kind: script.number_16(),
                flags: script.number_16(),
                partition: 0,
                shard: script.number_16(),
                slot: script.number_32(),
                generation: script.number_32(),
                principal: u128::from(script.number()) << 64 | u128::from(script.number()),
                trace: script.number(),
            },
            payload: if action & HAS_PAYLOAD == 0 {
                &[]
            } else {
                let bytes = usize::from(script.number_16());
                &noise[..bytes.min(noise.len())]
            },
        },
        1 => Event::Missed {
            leads,
            bytes: script.number(),
        },
        2 => Event::Gateway {
            instance: InstanceId::from_raw(script.number().max(1)).expect("not 0"),
            shards: script.number_16(),
            ring_bytes: script.number(),
            record_bytes_max: script.number_32(),
        },
        _ => Event::Gone,
    };
    Entry {
        at_us,
        gateway,
        shard,
        event,
    }
}

/// A file that is being written.
struct Part<'a> {
    writer: RecordingWriter<Vec<u8>>,
    /// What was written, with the times that the file has to give back: they never go back.
    entries: Vec<Entry<'a>>,
    newest_us: u64,
    /// Where a block ends, and how many entries stand before that. The header ends first.
    blocks: Vec<(usize, usize)>,
}

/// A file that was ended.
struct File<'a> {
    bytes: Vec<u8>,
    entries: Vec<Entry<'a>>,
    blocks: Vec<(usize, usize)>,
}

fn head(part: u64) -> Head {
    Head {
        protocol: 7,
        began_at_us: 1_000,
        part,
    }
}

impl<'a> Part<'a> {
    fn begin(part: u64) -> Self {
        let writer = RecordingWriter::begin(Vec::new(), &head(part)).expect("memory takes it");
        Self {
            writer,
            entries: Vec::new(),
            newest_us: head(part).began_at_us,
            blocks: vec![(HEAD_BYTES, 0)],
        }
    }

    fn write(&mut self, entry: Entry<'a>) {
        self.writer.write(&entry).expect("memory takes it");
        self.newest_us = self.newest_us.max(entry.at_us);
        self.entries.push(Entry {
            at_us: self.newest_us,
            ..entry
        });
        self.note();
    }

    fn flush(&mut self) {
        self.writer.flush().expect("memory takes it");
        self.note();
    }

    /// A block may have ended.
    fn note(&mut self) {
        let end = self.writer.file().len();
        assert_eq!(self.writer.written_bytes(), end as u64);
        if self.blocks.last().is_some_and(|&(last, _)| last < end) {
            self.blocks.push((end, self.entries.len()));
        }
    }

    fn end(mut self) -> File<'a> {
        self.flush();
        assert_eq!(
            self.blocks.last().map(|block| block.1),
            Some(self.entries.len())
        );
        File {
            bytes: self.writer.end().expect("memory takes it"),
            entries: self.entries,
            blocks: self.blocks,
        }
    }
}

impl File<'_> {
    /// How many entries are read, each of them as it was written, and how many bytes are damaged.
    fn read(&self) -> (usize, u64) {
        let (mut reader, mut count) = (opened(&self.bytes), 0);
        while let Some(entry) = reader.next().expect("memory can be read") {
            assert_eq!(Some(&entry), self.entries.get(count));
            count += 1;
        }
        (count, reader.damaged_bytes())
    }
}

fn opened(file: &[u8]) -> RecordingReader<&[u8]> {
    RecordingReader::open(file).expect("its header is whole")
}

/// Whether these bytes may hold a whole block. In the middle of a damaged one it is taken for what it looks like.
fn holds_a_block(bytes: &[u8]) -> bool {
    bytes
        .windows(BLOCK_MAGIC.len())
        .any(|window| window == BLOCK_MAGIC)
}
