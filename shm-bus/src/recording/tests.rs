//! What was written is read; what is damaged costs no more than its block.

use super::*;

/// What `next` gives, owned.
#[derive(Debug, PartialEq, Eq)]
struct Kept(u64, u32, u16, String);

impl From<Entry<'_>> for Kept {
    fn from(entry: Entry<'_>) -> Self {
        let event = format!("{:?}", entry.event);
        Self(entry.at_us, entry.gateway, entry.shard, event)
    }
}

fn read(file: &[u8]) -> (Vec<Kept>, u64) {
    let mut reader = RecordingReader::open(file).expect("a recording");
    let mut kept = Vec::new();
    while let Some(entry) = reader.next().expect("memory can be read") {
        kept.push(entry.into());
    }
    (kept, reader.damaged_bytes())
}

const HEAD: Head = Head {
    protocol: 7,
    began_at_us: 1_700_000_000_000_000,
    part: 3,
};

fn entries(payload: &[u8]) -> Vec<Entry<'_>> {
    let header = RecordHeader {
        kind: 17,
        flags: 0x144,
        shard: 1,
        slot: u32::MAX,
        generation: 1,
        principal: u128::MAX - 5,
        trace: u64::MAX,
        ..RecordHeader::default()
    };
    let bare = RecordHeader {
        kind: 2,
        shard: 9,
        ..RecordHeader::default()
    };
    let record = |leads, header| Event::Record {
        leads,
        header,
        payload,
    };
    let events = [
        Event::Gateway {
            instance: InstanceId::from_raw(u64::MAX).expect("not 0"),
            shards: 2,
            ring_bytes: 1 << 30,
            record_bytes_max: 1 << 28,
        },
        record(Direction::ToBackend, header),
        record(Direction::ToGateway, bare),
        Event::Missed {
            leads: Direction::ToGateway,
            bytes: u64::MAX,
        },
        Event::Gone,
    ];
    (0..)
        .zip(events)
        .map(|(n, event)| Entry {
            at_us: HEAD.began_at_us + n * n * 1_000,
            gateway: 300,
            shard: 1,
            event,
        })
        .collect()
}

/// Each entry in a block of its own.
fn in_blocks(payload: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let mut writer = RecordingWriter::begin(Vec::new(), &HEAD).expect("memory takes it");
    let mut ends = vec![];
    for entry in entries(payload) {
        ends.push(writer.file().len());
        writer.write(&entry).expect("memory takes it");
        writer.flush().expect("memory takes it");
    }
    assert_eq!(writer.written_bytes(), writer.file().len() as u64);
    (writer.end().expect("memory takes it"), ends)
}

fn wanted(payload: &[u8]) -> Vec<Kept> {
    entries(payload).into_iter().map(Kept::from).collect()
}

#[test]
fn a_recording_gives_back_what_was_written() {
    for payload_bytes in [0, 1, 5_000, BODY_BYTES, PAYLOAD_BYTES_MAX] {
        let payload = vec![0x5a; payload_bytes];
        let mut writer = RecordingWriter::begin(Vec::new(), &HEAD).expect("memory takes it");
        for entry in entries(&payload) {
            writer.write(&entry).expect("memory takes it");
        }
        let file = writer.end().expect("memory takes it");
        assert_eq!(
            RecordingReader::open(&file[..]).expect("sound").head(),
            HEAD
        );
        assert_eq!(read(&file), (wanted(&payload), 0));
    }
}

#[test]
fn cut_anywhere_it_gives_every_whole_block() {
    let (file, ends) = in_blocks(b"payload");
    let wanted = wanted(b"payload");
    for cut in 0..file.len() {
        let opened = RecordingReader::open(&file[..cut]);
        if cut < HEAD_BYTES {
            assert!(opened.is_err(), "cut at {cut}");
            continue;
        }
        let whole = ends
            .iter()
            .filter(|&&end| end <= cut)
            .count()
            .saturating_sub(1);
        let (found, damaged_bytes) = read(&file[..cut]);
        assert_eq!(found, wanted[..whole], "cut at {cut}");
        assert_eq!(damaged_bytes, (cut - ends[whole]) as u64, "cut at {cut}");
    }
}

#[test]
fn any_byte_that_was_changed_costs_its_block_and_no_other() {
    let (file, ends) = in_blocks(b"payload");
    let wanted = wanted(b"payload");
    for at in HEAD_BYTES..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        let hit = ends.iter().filter(|&&end| end <= at).count() - 1;
        let (found, damaged_bytes) = read(&damaged);
        let left = wanted.iter().enumerate().filter(|(n, _)| *n != hit);
        assert!(found.iter().eq(left.map(|(_, kept)| kept)), "byte {at}");
        assert!(damaged_bytes > 0, "byte {at}");
    }
}

#[test]
fn a_block_whose_last_entry_is_none_is_passed_over_though_its_check_fits() {
    let (file, ends) = in_blocks(b"payload");
    let body = &file[ends[1] + BLOCK_HEAD_BYTES..ends[2]];
    let wanted = wanted(b"payload");
    for cut in 0..body.len() {
        let bad = block(HEAD.began_at_us, &body[..cut]);
        let patched = [&file[..ends[1]], &bad, &file[ends[2]..]].concat();
        let (found, damaged_bytes) = read(&patched);
        assert_eq!(found.len(), wanted.len() - 1, "cut at {cut}");
        assert_eq!(
            (&found[0], &found[1]),
            (&wanted[0], &wanted[2]),
            "cut at {cut}"
        );
        assert_eq!(damaged_bytes, bad.len() as u64, "cut at {cut}");
    }
}

#[test]
fn what_is_no_recording_or_of_another_version_is_refused_with_a_sentence() {
    let (file, _) = in_blocks(b"");
    let refusal = |change: fn(&mut Vec<u8>)| {
        let mut file = file.clone();
        change(&mut file);
        RecordingReader::open(&file[..])
            .expect_err("refused")
            .to_string()
    };
    assert!(refusal(|file| file.clear()).starts_with("no recording of a bus"));
    assert!(refusal(|file| file[0] = b'X').starts_with("no recording of a bus"));
    assert!(refusal(|file| file[8] = 2).starts_with("a recording of version 2, expected 1;"));
    assert!(refusal(|file| file[13] ^= 1).starts_with("the recording's header is damaged"));
    assert!(refusal(|file| file.truncate(20)).starts_with("the recording's header is damaged"));
}

#[test]
fn a_payload_beyond_the_bound_counts_as_missed_and_time_never_goes_back() {
    let mut writer = RecordingWriter::begin(Vec::new(), &HEAD).expect("memory takes it");
    let payload = vec![0; PAYLOAD_BYTES_MAX + 1];
    let [_, large, small, ..] = &entries(&payload)[..] else {
        unreachable!("five entries")
    };
    writer.write(large).expect("memory takes it");
    let earlier = Entry {
        at_us: 5,
        event: Event::Gone,
        ..*small
    };
    writer.write(&earlier).expect("memory takes it");
    let file = writer.end().expect("memory takes it");
    let mut reader = RecordingReader::open(&file[..]).expect("sound");
    let missed = reader.next().expect("readable").expect("an entry");
    let bytes = crate::record_span_bytes(payload.len()) as u64;
    let leads = Direction::ToBackend;
    assert_eq!(missed.event, Event::Missed { leads, bytes });
    let at_us = missed.at_us;
    assert_eq!(
        reader.next().expect("readable").expect("an entry").at_us,
        at_us
    );
}

#[test]
fn the_check_is_the_one_that_everybody_means() {
    assert_eq!(number::check(&[b"1234", b"56789"]), 0xcbf4_3926);
}
