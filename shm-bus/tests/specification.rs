//! README.md is the specification: its tables are read here and compared with the code, both ways. A field, a counter, a
//! limit or a file that either has and the other lacks fails, and so does one that stands elsewhere.

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    mem::offset_of,
    os::unix::fs::PermissionsExt,
    path::Path,
};

use shm_bus::{
    BackendSeat, BusDirectory, Claimed, Counter, Counters, GatewaySegment, RecordHeader,
    RingBacking, SegmentOptions,
    layout::{self, FileHeader},
    record_span_bytes, ring_pair,
};

const README: &str = include_str!("../README.md");
const LAYOUT: &str = include_str!("../src/layout.rs");

/// Rows of the tables under a heading of any depth: the cells, trimmed, code marks taken off the ends.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in README.lines() {
        if line.starts_with('#') {
            inside = line.trim_start_matches('#').trim() == heading;
        }
        if inside && let Some(row) = line.strip_prefix('|') {
            let cells = row.trim_end_matches('|').split('|');
            found.push(
                cells
                    .map(|cell| cell.trim().trim_matches('`').to_owned())
                    .collect(),
            );
        }
    }
    assert!(!found.is_empty(), "README.md has no table under {heading}");
    found
}

/// Field → (offset, bytes) under a heading.
fn fields(heading: &str) -> BTreeMap<String, (usize, usize)> {
    let mut found = BTreeMap::new();
    let mut end = 0;
    for row in rows(heading) {
        let (Ok(offset), Ok(bytes)) = (row[0].parse::<usize>(), row[1].parse::<usize>()) else {
            continue;
        };
        assert!(
            offset >= end,
            "{heading}/{}: overlaps or is out of order",
            row[2]
        );
        end = offset + bytes;
        assert!(
            found.insert(row[2].clone(), (offset, bytes)).is_none(),
            "{heading}/{}: twice",
            row[2]
        );
    }
    found
}

type Words = BTreeMap<String, (usize, usize)>;

fn words<const N: usize>(words: [(&str, usize, usize); N]) -> Words {
    let words = words.into_iter();
    words
        .map(|(name, offset, bytes)| (name.to_owned(), (offset, bytes)))
        .collect()
}

macro_rules! header_fields {
    ($($field:ident),* $(,)?) => {{
        // Names every field: one that is added and not listed does not compile.
        #[expect(unused_variables, reason = "only named")]
        fn all(header: &FileHeader) {
            let FileHeader { $($field),* } = header;
        }
        let _ = all;
        words([$((
            stringify!($field),
            offset_of!(FileHeader, $field),
            bytes_of(|header: &FileHeader| &raw const header.$field),
        )),*])
    }};
}

const fn bytes_of<T>(_field: fn(&FileHeader) -> *const T) -> usize {
    size_of::<T>()
}

#[test]
fn the_file_header_is_the_codes() {
    let code = header_fields!(
        magic,
        layout_version,
        role,
        shards,
        instance,
        file_bytes,
        ring_bytes,
        record_bytes_max,
        ports_offset,
        port_stride_bytes,
        rings_offset,
        pid,
        uid,
        created_at_us,
        protocol,
        reserved,
        build,
        reserved_tail,
    );
    assert_eq!(fields("File header"), code);
    let end = fields("File header")
        .values()
        .map(|(at, bytes)| at + bytes)
        .max();
    assert_eq!(end, Some(size_of::<FileHeader>()));
}

#[test]
fn the_words_of_every_page_are_the_codes_and_no_offset_of_the_code_is_missing() {
    use layout::*;
    let pages = [
        (
            "Segment page",
            words([
                ("attached", ATTACHED_OFFSET, 8),
                ("refused", REFUSED_OFFSET, 8),
            ]),
        ),
        (
            "Port page",
            words([
                ("published", PORT_PUBLISHED_OFFSET, 8),
                ("released", PORT_RELEASED_OFFSET, 8),
                ("sleep", PORT_SLEEP_OFFSET, 8),
                ("claimed", PORT_CLAIMED_OFFSET, 8),
                ("counters", PORT_COUNTERS_OFFSET, PORT_COUNTERS * 8),
            ]),
        ),
        (
            "control.gateways.mem",
            words([("tickets", TICKETS_OFFSET, 8), ("roster", ROSTER_OFFSET, 8)]),
        ),
        (
            "control.backend.mem",
            words([
                ("backend_instance", BACKEND_INSTANCE_OFFSET, 8),
                ("backend_pid", BACKEND_PID_OFFSET, 8),
                ("heartbeat", BACKEND_HEARTBEAT_OFFSET, 8),
                ("protocol", BACKEND_PROTOCOL_OFFSET, 8),
                ("frontier", FRONTIER_OFFSET, 8),
                ("admission_rate", ADMISSION_RATE_OFFSET, 8),
                ("sleep", BACKEND_SLEEP_OFFSET, 8),
                ("ledger_version", LEDGER_VERSION_OFFSET, 8),
                ("ledger", LEDGER_OFFSET, LEDGER_COUNTERS * 8),
            ]),
        ),
    ];
    let compared: usize = pages.iter().map(|(_, words)| words.len()).sum();
    for (page, code) in pages {
        assert_eq!(fields(page), code, "{page}");
    }
    let constants = LAYOUT.lines().filter(|line| {
        line.starts_with("pub const ") && line.split(':').next().unwrap().ends_with("_OFFSET")
    });
    assert_eq!(
        constants.count(),
        compared,
        "src/layout.rs has another number of offsets than are compared here"
    );
}

#[test]
fn the_record_header_is_what_a_commit_writes() {
    let scratch = tempfile::tempdir().unwrap();
    let backing = RingBacking::File(scratch.path().to_owned());
    let (mut producer, _consumer) = ring_pair(4096, 1024, &backing).unwrap();
    let header = RecordHeader {
        kind: 0x0102,
        flags: 0x0304,
        partition: 0,
        shard: 0x0708,
        slot: 0x090a_0b0c,
        generation: 0x0d0e_0f10,
        principal: 0x1112_1314_1516_1718_191a_1b1c_1d1e_1f20,
        trace: 0x2122_2324_2526_2728,
    };
    // Names every field, as above.
    let RecordHeader {
        kind,
        flags,
        partition,
        shard,
        slot,
        generation,
        principal,
        trace,
    } = header;
    // The second record: its position is not 0.
    let payload = [0xab; 13];
    for _ in 0..2 {
        let Claimed::Claimed(mut claim) = producer.claim(payload.len()).unwrap() else {
            panic!("an empty ring");
        };
        claim.payload_mut().copy_from_slice(&payload);
        claim.commit(header);
    }
    let (position, length) = (record_span_bytes(payload.len()), 48 + payload.len());
    let file = fs::read(scratch.path().join("producer.mem")).unwrap();
    let record = &file[layout::rings_offset(1) + position..][..record_span_bytes(payload.len())];

    // By the table's formula.
    let rotated = u32::try_from(length).unwrap().rotate_left(7);
    let check =
        (u32::try_from(position).unwrap() >> 3) ^ rotated ^ (u32::from(kind) << 16) ^ 0x7464_6762;
    assert!(README.contains(
        "`(position >> 3) ^ rotate_left(length, 7) ^ (kind << 16) ^ 0x74646762`, low 32 bits"
    ));
    let values = [
        ("length", length as u128),
        ("kind", kind.into()),
        ("flags", flags.into()),
        ("partition", partition.into()),
        ("shard", shard.into()),
        ("slot", slot.into()),
        ("generation", generation.into()),
        ("check", check.into()),
        ("trace", trace.into()),
        ("principal", principal),
    ];
    let table = fields("Record header");
    let mut bytes = [0; 48];
    for (field, value) in values {
        let (offset, width) = table[field];
        bytes[offset..offset + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    assert_eq!(table.len(), values.len());
    assert_eq!(record[..48], bytes);
    assert_eq!(record[48..61], payload);
    assert_eq!(record[61..], [0; 3], "zeros up to the next multiple of 8");
}

#[test]
fn the_counters_are_the_codes() {
    let source = include_str!("../src/counters.rs");
    let (_, variants) = source.split_once("pub enum Counter {").unwrap();
    let (variants, _) = variants.split_once("\n}").unwrap();
    let code: BTreeMap<usize, String> = variants
        .lines()
        .filter_map(|line| line.trim().trim_end_matches(',').split_once(" = "))
        .map(|(name, number)| (number.parse().unwrap(), name.to_owned()))
        .collect();
    let readme: BTreeMap<usize, String> = rows("Counters")
        .into_iter()
        .filter_map(|row| Some((row[0].parse().ok()?, row[1].clone())))
        .collect();
    assert_eq!(readme, code);
    assert!(README.contains(&format!(
        "from {} on are the owner's to name",
        Counter::USER_FIRST
    )));
    assert_eq!(
        Counters::USER_COUNTERS + Counter::USER_FIRST,
        layout::PORT_COUNTERS
    );
}

#[test]
fn versions_roles_and_limits_are_the_codes() {
    let (major, minor) = (layout::LAYOUT_MAJOR, layout::LAYOUT_MINOR);
    assert!(README.contains(&format!("now {major}.{minor}; stored last")));
    assert!(
        README.contains(&format!("({major}.1: "))
            && README.contains(&format!(" {major}.{minor}: "))
    );
    assert_eq!(&layout::MAGIC.to_le_bytes(), b"TIDEGBUS");
    use layout::FileRole::{Backend, ControlBackend, ControlGateways, Gateway};
    let roles = [
        (Gateway, "gateway.mem"),
        (Backend, "backend.mem"),
        (ControlGateways, "control.gateways.mem"),
        (ControlBackend, "control.backend.mem"),
    ];
    let roles = roles.map(|(role, name)| format!("{} {name}", role as u32));
    assert_eq!(
        rows("File header")
            .iter()
            .find(|row| row[2] == "role")
            .unwrap()[3],
        roles.join(", ")
    );

    let limits = [
        ("RING_BYTES_MIN", shm_bus::RING_BYTES_MIN as u64),
        ("RING_BYTES_MAX", shm_bus::RING_BYTES_MAX as u64),
        ("RING_BYTES_DEFAULT", shm_bus::RING_BYTES_DEFAULT as u64),
        ("RECORD_HEADER_BYTES", shm_bus::RECORD_HEADER_BYTES as u64),
        ("RING_PER_RECORD_MIN", shm_bus::RING_PER_RECORD_MIN as u64),
        (
            "RECORD_BYTES_MAX_DEFAULT",
            shm_bus::RECORD_BYTES_MAX_DEFAULT as u64,
        ),
        ("SHARDS_MAX", shm_bus::SHARDS_MAX as u64),
        ("SLEEP_MS_MAX", shm_bus::SLEEP_MS_MAX),
        ("POSITION_MAX", shm_bus::POSITION_MAX),
    ];
    let readme: BTreeMap<String, u64> = rows("Full rings")
        .into_iter()
        .filter_map(|row| Some((row[0].clone(), number(&row[1])?)))
        .collect();
    let code: BTreeMap<String, u64> = limits.map(|(name, value)| (name.to_owned(), value)).into();
    assert_eq!(readme, code);
    let source = include_str!("../src/limits.rs");
    let constants = source.lines().filter(|line| line.starts_with("pub const "));
    assert_eq!(constants.count(), code.len());
}

/// `4 KiB`, `100 ms`, `2⁶²`, `1024`.
fn number(text: &str) -> Option<u64> {
    if let Some(power) = text.strip_prefix('2').filter(|rest| rest.starts_with('⁶')) {
        return (power == "⁶²").then_some(1 << 62);
    }
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let scale = match unit {
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => 1,
    };
    Some(number.parse::<u64>().ok()? * scale)
}

/// `gateway-0123456789abcdef` → `gateway-<16 hex digits>/`, as README.md writes it.
fn as_written(name: &str, is_directory: bool) -> String {
    if let Some(id) = name.strip_prefix("gateway-") {
        assert_eq!(id.len(), 16);
        return "gateway-<16 hex digits>/".to_owned();
    }
    let shard = name
        .strip_prefix("shard-")
        .and_then(|rest| rest.strip_suffix(".bell"));
    if shard.is_some() {
        return "shard-<n>.bell".to_owned();
    }
    format!("{name}{}", if is_directory { "/" } else { "" })
}

fn entries(directory: &Path, into: &mut BTreeSet<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = entry.metadata().unwrap();
        let name = as_written(entry.file_name().to_str().unwrap(), metadata.is_dir());
        let mode = format!("{:04o}", metadata.permissions().mode() & 0o7777);
        into.insert((name, mode));
        if metadata.is_dir() {
            entries(&entry.path(), into);
        }
    }
}

#[test]
fn a_bus_in_use_holds_the_files_that_the_directory_section_names_with_their_modes() {
    let scratch = tempfile::tempdir().unwrap();
    let bus = BusDirectory::open_or_create(scratch.path().join("<bus>")).unwrap();
    let options = SegmentOptions {
        shards: 2,
        ring_bytes: 4096,
        record_bytes_max: 1024,
        ..SegmentOptions::default()
    };
    let _segment = GatewaySegment::create(&bus, &options).unwrap();
    let _seat = BackendSeat::take(&bus).unwrap();
    let mut there = BTreeSet::new();
    entries(scratch.path(), &mut there);

    let (_, section) = README.split_once("\n## Directory\n").unwrap();
    let (_, block) = section.split_once("```text\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let mut written = BTreeSet::new();
    for line in block.lines() {
        let is_mode = |word: &&str| word.len() == 4 && word.starts_with('0');
        if let Some(mode) = line.split_whitespace().find(is_mode) {
            let (name, _) = line.split_once(mode).unwrap();
            written.insert((name.trim().to_owned(), mode.to_owned()));
        }
    }
    assert_eq!(written, there);
    for role in [0, 1] {
        let name = ["control.gateways.mem", "control.backend.mem"][role];
        let bytes = fs::metadata(bus.path().join(name)).unwrap().len();
        assert_eq!(bytes, 4096);
    }
}
