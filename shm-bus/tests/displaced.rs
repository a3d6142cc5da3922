//! Files and directories of the bus that a person removes, replaces, cuts short or opens while processes hold them: the
//! holders notice, and those who start next need no hand.

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
    path::{Path, PathBuf},
};

use shm_bus::{
    AttachError, BackendSeat, BusDirectory, GatewaySegment, Place, SegmentError, SegmentOptions,
};
use stage::{Stage, receive, send, small};

const CONTROL_FILES: [&str; 4] = [
    "control.gateways.mem",
    "control.backend.mem",
    "backend.lock",
    "backend.bell",
];
const SEGMENT_FILES: [&str; 4] = ["lock", "gateway.mem", "backend.mem", "shard-1.bell"];

/// A gateway and a backend on a bus, and where they look.
struct Scene {
    stage: Stage,
    gateway: (GatewaySegment, Place),
    seat: BackendSeat,
}

impl Scene {
    fn new() -> Self {
        let stage = Stage::new();
        let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
        let place = segment.take_shard(1).unwrap().place;
        let seat = BackendSeat::take(&stage.bus).unwrap();
        Self {
            stage,
            gateway: (segment, place),
            seat,
        }
    }

    fn segment(&self) -> PathBuf {
        let name = format!("gateway-{}", self.gateway.0.instance());
        self.stage.bus.path().join(name)
    }

    fn control(&self, file: &str) -> PathBuf {
        self.stage.bus.path().join(file)
    }

    /// What the gateway and the backend find; empty: all is where it was.
    fn found(&self) -> [String; 2] {
        [&self.gateway.1, self.seat.place()].map(|place| {
            place
                .look()
                .map_or_else(|found| found.to_string(), |()| String::new())
        })
    }

    /// Both must find this, or the gateway alone if it is its own.
    fn expect(&self, path: &Path, found: &str) {
        let sentence = format!("{}: found {found}, expected ", path.display());
        let [gateway, backend] = self.found();
        assert!(gateway.starts_with(&sentence), "{gateway:?}");
        if path.starts_with(self.segment()) {
            assert_eq!(backend, "", "the backend asks whether the gateway lives");
        } else {
            assert!(backend.starts_with(&sentence), "{backend:?}");
        }
    }
}

fn each_file(mut harm: impl FnMut(&Scene, &Path)) {
    for file in CONTROL_FILES {
        let scene = Scene::new();
        assert_eq!(scene.found(), ["", ""]);
        harm(&scene, &scene.control(file));
    }
    for file in SEGMENT_FILES {
        let scene = Scene::new();
        harm(&scene, &scene.segment().join(file));
    }
}

#[test]
fn a_removed_file_is_noticed() {
    each_file(|scene, path| {
        fs::remove_file(path).unwrap();
        scene.expect(path, "nothing");
    });
}

#[test]
fn a_replaced_file_is_noticed_even_if_it_holds_the_same_bytes() {
    each_file(|scene, path| {
        let aside = path.with_extension("aside");
        fs::rename(path, &aside).unwrap();
        if path
            .extension()
            .is_some_and(|extension| extension == "bell")
        {
            fs::write(path, "").unwrap();
        } else {
            fs::copy(&aside, path).unwrap();
        }
        scene.expect(path, "another one");
    });
}

#[test]
fn a_file_opened_to_others_is_noticed() {
    each_file(|scene, path| {
        fs::set_permissions(path, Permissions::from_mode(0o666)).unwrap();
        let owner = rustix::process::geteuid().as_raw();
        scene.expect(path, &format!("owner uid {owner}, mode 666"));
    });
}

#[test]
fn memory_cut_short_is_noticed_before_anybody_touches_it() {
    each_file(|scene, path| {
        if path.extension().is_some_and(|extension| extension == "mem") {
            let file = File::options().write(true).open(path).unwrap();
            file.set_len(100).unwrap();
            scene.expect(path, "100 bytes");
            file.set_len(1 << 20).unwrap();
            scene.expect(path, "1048576 bytes");
        }
    });
}

#[test]
fn a_removed_or_replaced_directory_is_noticed() {
    let scene = Scene::new();
    let (segment, bus) = (scene.segment(), scene.stage.bus.path().to_owned());
    fs::rename(&segment, segment.with_extension("aside")).unwrap();
    scene.expect(&segment, "nothing");
    fs::create_dir(&segment).unwrap();
    scene.expect(&segment, "another one");
    fs::remove_dir(&segment).unwrap();
    fs::rename(segment.with_extension("aside"), &segment).unwrap();
    assert_eq!(scene.found(), ["", ""], "and all is well again");
    fs::rename(&bus, bus.with_extension("aside")).unwrap();
    scene.expect(&bus, "nothing");
    let _another = BusDirectory::open_or_create(&bus).unwrap();
    scene.expect(&bus, "another one");
}

#[test]
fn a_damaged_control_page_is_made_anew_where_nobody_lives_and_what_was_sent_is_kept() {
    for file in ["control.gateways.mem", "control.backend.mem"] {
        for harm in [
            |file: &File| file.set_len(0),
            |file: &File| file.set_len(8192),
            |file: &File| file.write_all_at(b"NOTABUS!", 0),
            |file: &File| file.write_all_at(&[0; 8], 8),
            |file: &File| file.write_all_at(&9u32.to_le_bytes(), 12),
            |file: &File| file.set_permissions(Permissions::from_mode(0o644)),
        ] {
            let stage = Stage::new();
            let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
            let mut end = segment.take_shard(0).unwrap();
            assert!(send(&mut end.to_backend, 7));
            let name = segment.instance();
            drop((end, segment));
            let path = stage.bus.path().join(file);
            harm(&File::options().write(true).open(path).unwrap()).unwrap();

            let bus = BusDirectory::open_or_create(stage.bus.path()).unwrap();
            let mut seat = BackendSeat::take(&bus).unwrap();
            assert_eq!(seat.discover().unwrap(), [name]);
            let mut gateway = seat.attach(name).unwrap();
            let mut copy = shm_bus::RecordCopy::default();
            let record = receive(&mut gateway.shards[0].to_backend, &mut copy);
            assert_eq!(record, Some(7));
        }
    }
}

#[test]
fn a_damaged_control_page_is_left_to_those_who_live_on_it() {
    for lives in ["gateway", "backend"] {
        let stage = Stage::new();
        let segment = (lives == "gateway").then(|| GatewaySegment::create(&stage.bus, &small()));
        let seat = (lives == "backend").then(|| BackendSeat::take(&stage.bus));
        let path = stage.bus.path().join("control.gateways.mem");
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&9u32.to_le_bytes(), 12).unwrap();
        let refusal = BusDirectory::open_or_create(stage.bus.path()).unwrap_err();
        let refusal = refusal.to_string();
        assert!(
            refusal.contains("control.gateways.mem: found layout version 9 (made by "),
            "{refusal}"
        );
        // Cut short: whoever comes waits until those who live on it have ended.
        file.write_all_at(&1u32.to_le_bytes(), 12).unwrap();
        file.set_len(17).unwrap();
        let refusal = BusDirectory::open_or_create(stage.bus.path()).unwrap_err();
        assert!(refusal.to_string().contains("found 17 bytes"), "{refusal}");
        let path = stage.bus.path().to_owned();
        std::thread::scope(|scope| {
            let comer = scope.spawn(|| BusDirectory::open_or_create(&path).map(drop));
            drop((segment, seat));
            comer.join().unwrap().unwrap();
        });
    }
}

#[test]
fn a_gateway_of_another_protocol_is_refused_by_name_and_told_so() {
    let stage = Stage::new();
    let options = SegmentOptions {
        protocol: 2,
        build: "tidegate gateway 9.9".into(),
        ..small()
    };
    let mut segment = GatewaySegment::create(&stage.bus, &options).unwrap();
    let end = segment.take_shard(0).unwrap();
    let mut seat = BackendSeat::take_for(&stage.bus, 3).unwrap();
    let name = segment.instance();
    let refusal = seat.attach(name).unwrap_err();
    let pid = std::process::id();
    let expected = format!(
        "gateway {name} (made by \"tidegate gateway 9.9\", pid {pid}): speaks bus protocol 2, this backend speaks 3; \
         run gateway and backend of one release; then start both anew"
    );
    assert_eq!(refusal.to_string(), expected);
    assert_eq!(end.backend.refused_by(), Some(seat.instance()));
    assert_eq!(end.backend.instance(), None, "never attached");
    assert_eq!(seat.bury_refused(), [], "its gateway lives");
    drop((segment, end));
    assert_eq!(seat.bury_refused(), [name]);
    assert_eq!(stage.bus_entries("gateway-"), [""; 0]);
}

#[test]
fn a_gateway_does_not_start_beside_a_backend_of_another_protocol() {
    let stage = Stage::new();
    let seat = BackendSeat::take_for(&stage.bus, 3).unwrap();
    let create = |protocol| {
        let options = SegmentOptions {
            protocol,
            ..small()
        };
        GatewaySegment::create(&stage.bus, &options)
    };
    let refusal = create(2).unwrap_err();
    assert!(matches!(
        refusal,
        SegmentError::Protocol {
            theirs: 3,
            ours: 2,
            ..
        }
    ));
    let pid = std::process::id();
    let sentence = format!("the backend on this bus (pid {pid}) speaks bus protocol 3");
    assert!(refusal.to_string().contains(&sentence), "{refusal}");
    create(3).unwrap();
    drop(seat);
    create(2).expect("nobody is there who would mind");
}

#[test]
fn a_refusal_is_taken_back_by_the_next_backend_that_attaches() {
    let stage = Stage::new();
    let mut segment = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let end = segment.take_shard(0).unwrap();
    let mut strange = BackendSeat::take_for(&stage.bus, 9).unwrap();
    strange.attach(segment.instance()).unwrap_err();
    let by = strange.instance();
    drop(strange);
    assert_eq!(end.backend.refused_by(), Some(by));
    let mut seat = BackendSeat::take(&stage.bus).unwrap();
    let gateway = seat.attach(segment.instance()).unwrap();
    assert_eq!(end.backend.refused_by(), None);
    seat.refuse(gateway);
    assert_eq!(end.backend.refused_by(), Some(seat.instance()));
    assert_eq!(seat.bury_refused(), []);
}

#[test]
fn a_segment_without_its_lock_is_nobodys_and_goes() {
    let mut scene = Scene::new();
    fs::remove_file(scene.segment().join("lock")).unwrap();
    let name = scene.gateway.0.instance();
    assert!(matches!(scene.seat.attach(name), Err(AttachError::Gone(_))));
    assert_eq!(scene.seat.bury_refused(), [name]);
}
