//! What is not as it should be is refused, with a sentence that says what was found, what was expected and what to do;
//! and what was refused is left as it was.

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{FileExt, PermissionsExt},
    path::PathBuf,
};

use shm_bus::{AttachError, BackendSeat, BusDirectory, GatewaySegment, InstanceId, SegmentOptions};
use stage::{Stage, small};

/// A bus with one segment, not attached yet.
struct Scene {
    stage: Stage,
    segment: GatewaySegment,
    seat: BackendSeat,
}

impl Scene {
    fn new() -> Self {
        let stage = Stage::new();
        let segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
        let seat = BackendSeat::take(&stage.bus).unwrap();
        Self {
            stage,
            segment,
            seat,
        }
    }

    fn directory(&self) -> PathBuf {
        self.stage
            .bus
            .path()
            .join(format!("gateway-{}", self.segment.instance()))
    }

    fn write(&self, file: &str, at: u64, bytes: &[u8]) {
        let file = File::options()
            .write(true)
            .open(self.directory().join(file))
            .unwrap();
        file.write_all_at(bytes, at).unwrap();
    }

    /// The refusal, without the path in front of it.
    fn refusal(&mut self) -> String {
        let sentence = self
            .seat
            .attach(self.segment.instance())
            .unwrap_err()
            .to_string();
        let directory = self.directory();
        sentence
            .replace(&format!("{}/", directory.display()), "")
            .replace(&directory.display().to_string(), "segment")
    }
}

#[test]
fn another_magic_is_no_segment() {
    let mut scene = Scene::new();
    scene.write("gateway.mem", 0, b"NOTABUS!");
    let refusal = scene.refusal();
    assert!(
        refusal.starts_with("gateway.mem: found magic 0x2153554241544f4e"),
        "{refusal}"
    );
    assert!(
        refusal.contains("expected 0x5355424745444954 (TIDEGBUS)"),
        "{refusal}"
    );
}

#[test]
fn another_layout_is_refused_by_the_name_of_its_maker() {
    let mut scene = Scene::new();
    scene.write("gateway.mem", 12, &9u32.to_le_bytes());
    let refusal = scene.refusal();
    let pid = std::process::id();
    let expected = format!(
        "gateway.mem: found layout version 9 (made by \"shm-bus 0.1.0\", pid {pid}), expected layout version 1; \
         run gateway and backend of one release; then start both anew"
    );
    assert_eq!(refusal, expected);
    // A newer minor only adds where zeros were.
    scene.write("gateway.mem", 8, &(1u64 << 32 | 7).to_le_bytes());
    scene.seat.attach(scene.segment.instance()).unwrap();
}

#[test]
fn an_unfinished_file_is_refused() {
    let mut scene = Scene::new();
    scene.write("backend.mem", 8, &[0; 8]);
    let refusal = scene.refusal();
    assert!(
        refusal.starts_with("backend.mem: found an unfinished file (layout version 0), expected"),
        "{refusal}"
    );
}

#[test]
fn a_truncated_file_is_refused_by_its_size() {
    let mut scene = Scene::new();
    let path = scene.directory().join("gateway.mem");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(8192)
        .unwrap();
    assert!(
        scene
            .refusal()
            .starts_with("gateway.mem: found 8192 bytes, expected 143360 bytes, by its header; ")
    );
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(17)
        .unwrap();
    assert!(
        scene
            .refusal()
            .starts_with("gateway.mem: found 17 bytes, expected a header of 256 bytes; ")
    );
}

#[test]
fn sizes_that_do_not_agree_are_refused() {
    for (offset, value, sentence) in [
        (
            20,
            0u64,
            "gateway.mem: found 0 shards, expected 1 to 1024 shards; ",
        ),
        (
            40,
            65_537,
            "gateway.mem: found ring_bytes is 65537, expected a power of two",
        ),
        (
            40,
            131_072,
            "gateway.mem: found file_bytes 143360, expected 274432; ",
        ),
        (
            48,
            60_000,
            "gateway.mem: found record_bytes_max is 60000, expected a multiple of 8",
        ),
        (
            56,
            64,
            "gateway.mem: found ports_offset 64, expected 4096; ",
        ),
        (
            64,
            8192,
            "gateway.mem: found port_stride_bytes 8192, expected 4096; ",
        ),
        (
            72,
            4096,
            "gateway.mem: found rings_offset 4096, expected 12288; ",
        ),
        (
            24,
            77,
            "gateway.mem: found instance 000000000000004d, expected instance ",
        ),
    ] {
        let mut scene = Scene::new();
        let bytes = value.to_le_bytes();
        let width = if offset == 20 { 4 } else { 8 };
        scene.write("gateway.mem", offset, &bytes[..width]);
        let refusal = scene.refusal();
        assert!(refusal.starts_with(sentence), "{refusal}");
    }
}

#[test]
fn twins_that_differ_are_refused() {
    let mut scene = Scene::new();
    scene.write("backend.mem", 48, &8192u64.to_le_bytes());
    assert!(scene.refusal().starts_with("backend.mem: found ("));
    let mut scene = Scene::new();
    scene.write("backend.mem", 16, &1u32.to_le_bytes());
    assert!(
        scene
            .refusal()
            .starts_with("backend.mem: found role 1, expected 2 (Backend); ")
    );
}

#[test]
fn cursors_that_cannot_be_are_refused_by_shard() {
    // The producer is a whole ring and a word ahead of what was released.
    let mut scene = Scene::new();
    let second_port = 4096 * 2;
    scene.write("gateway.mem", second_port, &(65_536u64 + 8).to_le_bytes());
    assert_eq!(
        scene.refusal(),
        "segment, shard 1: peer's cursor is 65544, expected a multiple of 8 from 0 to 65536; stop that gateway \
         (its pid stands in the lock file) and start it again"
    );
}

#[test]
fn a_file_open_to_others_is_refused() {
    let mut scene = Scene::new();
    let path = scene.directory().join("backend.mem");
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    let expected = "backend.mem: found mode 666, expected mode 600; chmod 600 it, if you know why it was open to others";
    assert_eq!(scene.refusal(), expected);
}

#[test]
fn a_bell_that_is_no_pipe_is_refused() {
    let mut scene = Scene::new();
    let path = scene.directory().join("shard-1.bell");
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let expected = "shard-1.bell: found no named pipe, expected a named pipe; remove it";
    assert_eq!(scene.refusal(), expected);
}

#[test]
fn a_refused_segment_is_left_as_it_was_and_may_be_attached_once_it_is_mended() {
    let mut scene = Scene::new();
    scene.write("gateway.mem", 0, b"NOTABUS!");
    scene.refusal();
    assert_eq!(
        scene.segment.backend().instance(),
        None,
        "it never saw this backend"
    );
    scene.write("gateway.mem", 0, b"TIDEGBUS");
    let name = scene.segment.instance();
    let attached = scene.seat.attach(name).unwrap();
    assert!(matches!(
        scene.seat.attach(name),
        Err(AttachError::AlreadyAttached(_))
    ));
    drop(attached);
    scene.seat.attach(name).unwrap();
}

#[test]
fn a_segment_that_is_not_there_is_gone() {
    let mut scene = Scene::new();
    let nobody = InstanceId::from_raw(1).unwrap();
    let refusal = scene.seat.attach(nobody).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "gateway 0000000000000001: no such segment"
    );
}

#[test]
fn a_dead_gateways_refused_segment_can_be_discarded_and_a_living_ones_cannot() {
    let mut scene = Scene::new();
    scene.write("gateway.mem", 0, b"NOTABUS!");
    let name = scene.segment.instance();
    let sentence = scene.seat.discard(name).unwrap_err().to_string();
    let pid = std::process::id();
    assert_eq!(
        sentence,
        format!("gateway {name}: alive (pid {pid}); stop it first (kill {pid})")
    );
    drop(scene.segment);
    scene.seat.discard(name).unwrap();
    assert_eq!(scene.stage.bus_entries("gateway-"), [""; 0]);
}

#[test]
fn a_bus_directory_open_to_others_is_refused() {
    let stage = Stage::new();
    fs::set_permissions(stage.bus.path(), Permissions::from_mode(0o755)).unwrap();
    let sentence = BusDirectory::open_or_create(stage.bus.path())
        .unwrap_err()
        .to_string();
    assert!(sentence.ends_with(
        ": found mode 755, expected mode 700; chmod 700 it, if you know why it was open to others"
    ));
}

#[test]
fn a_bus_directory_of_another_user_is_refused() {
    // Only root can give a directory away.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let stage = Stage::new();
    std::os::unix::fs::chown(stage.bus.path(), Some(12_345), None).unwrap();
    let sentence = BusDirectory::open_or_create(stage.bus.path())
        .unwrap_err()
        .to_string();
    assert!(sentence.contains(
        ": found owner uid 12345, expected uid 0, this process's; run gateway and backend"
    ));
}

#[test]
fn a_symbolic_link_is_no_bus_directory() {
    let stage = Stage::new();
    let link = stage.bus.path().with_extension("link");
    std::os::unix::fs::symlink(stage.bus.path(), &link).unwrap();
    let sentence = BusDirectory::open_or_create(link).unwrap_err().to_string();
    assert!(
        sentence.contains("found a symbolic link, expected a directory"),
        "{sentence}"
    );
}

#[test]
fn a_control_page_of_another_layout_is_refused_by_both_sides() {
    let stage = Stage::new();
    let page = stage.bus.path().join("control.backend.mem");
    File::options()
        .write(true)
        .open(page)
        .unwrap()
        .write_all_at(&2u32.to_le_bytes(), 12)
        .unwrap();
    let backend = BackendSeat::take(&stage.bus).unwrap_err().to_string();
    let gateway = GatewaySegment::create(&stage.bus, &small())
        .unwrap_err()
        .to_string();
    for sentence in [backend, gateway] {
        assert!(
            sentence.contains("control.backend.mem: found layout version 2"),
            "{sentence}"
        );
    }
    assert_eq!(stage.bus_entries("gateway-"), [""; 0], "and no leavings");
}

#[test]
fn a_removed_bus_directory_is_noticed() {
    let stage = Stage::new();
    assert!(stage.bus.is_at_its_path());
    fs::rename(stage.bus.path(), stage.bus.path().with_extension("moved")).unwrap();
    assert!(!stage.bus.is_at_its_path());
    let another = BusDirectory::open_or_create(stage.bus.path()).unwrap();
    assert!(another.is_at_its_path() && !stage.bus.is_at_its_path());
}

#[test]
fn no_room_is_an_error_that_names_dockers_default_and_leaves_nothing() {
    let Ok(directory) = tempfile::tempdir_in("/dev/shm") else {
        return;
    };
    let bus = BusDirectory::open_or_create(directory.path().join("bus")).unwrap();
    // 1 TiB: more than any /dev/shm here has.
    let (shards, ring_bytes) = (1024, 1 << 30);
    let options = SegmentOptions {
        shards,
        ring_bytes,
        ..SegmentOptions::default()
    };
    let sentence = GatewaySegment::create(&bus, &options)
        .unwrap_err()
        .to_string();
    assert!(
        sentence.contains("gateway.mem: no room for 1099515826176 bytes ("),
        "{sentence}"
    );
    assert!(sentence.contains(
        "Docker gives /dev/shm 64 MiB by default: start the container with --shm-size=1g"
    ));
    let left = fs::read_dir(bus.path()).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .into_string()
            .unwrap()
            .starts_with("gateway-")
    });
    assert_eq!(left.count(), 0);
}

#[test]
fn options_out_of_bounds_are_refused_with_the_bounds() {
    let stage = Stage::new();
    for (options, sentence) in [
        (
            SegmentOptions {
                shards: 0,
                ..small()
            },
            "shards is 0, expected 1 to 1024",
        ),
        (
            SegmentOptions {
                shards: 1025,
                ..small()
            },
            "shards is 1025, expected 1 to 1024",
        ),
        (
            SegmentOptions {
                ring_bytes: 100_000,
                ..small()
            },
            "ring_bytes is 100000, expected a power of two from 4096 to 1073741824",
        ),
    ] {
        let refusal = GatewaySegment::create(&stage.bus, &options).unwrap_err();
        assert_eq!(refusal.to_string(), sentence);
    }
}
