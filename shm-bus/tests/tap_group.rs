//! A group that is let look on can look, and do nothing else; everybody else is told whose bus it is.

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

#[allow(dead_code, reason = "each test binary uses a part of the stage")]
mod stage;

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::Command,
};

use shm_bus::{
    BackendSeat, BusDirectory, Control, GatewaySegment, ObservedGateway, RecordCopy, Tapped,
};
use stage::{Stage, send, small};

/// The part that another user plays.
const LOOKER: &str = "SHM_BUS_TEST_LOOKER";

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

/// A group that this user is a member of. Root may give anything to any.
fn group() -> u32 {
    if rustix::process::geteuid().is_root() {
        54_321
    } else {
        rustix::process::getegid().as_raw()
    }
}

/// Every name on the bus with its mode, and whether it has the group.
fn modes(bus: &BusDirectory, group: u32) -> Vec<(String, u32, bool)> {
    let mut found = vec![];
    let mut waiting = vec![bus.path().to_owned()];
    while let Some(path) = waiting.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            waiting.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let name = name.split('-').next().unwrap().to_owned();
        found.push((name, mode(&path), stat.gid() == group));
    }
    found.sort();
    found.dedup();
    found
}

fn expected(directory: u32, memory: u32) -> Vec<(String, u32)> {
    let names = [
        ("backend.bell", 0o600),
        ("backend.lock", 0o600),
        ("backend.mem", memory),
        ("bus", directory),
        ("control.backend.mem", memory),
        ("control.gateways.mem", memory),
        ("gateway", directory),
        ("gateway.mem", memory),
        ("lock", 0o600),
        ("shard", 0o600),
    ];
    names.map(|(name, mode)| (name.to_owned(), mode)).into()
}

#[test]
fn what_a_group_may_look_at_follows_from_the_directory_and_can_be_taken_back() {
    let stage = Stage::new();
    let path = stage.bus.path().to_owned();
    let without = GatewaySegment::create(&stage.bus, &small()).unwrap();
    let _seat = BackendSeat::take(&stage.bus).unwrap();
    let look = |directory, memory, group| {
        let found = modes(&stage.bus, group);
        let mut bare: Vec<_> = found
            .iter()
            .map(|(name, mode, _)| (name.clone(), *mode))
            .collect();
        bare.dedup();
        assert_eq!(bare, expected(directory, memory));
        found
    };
    look(0o700, 0o600, 0);
    BusDirectory::set_tap_group(&path, Some(group())).unwrap();
    look(0o2750, 0o640, group());
    // What is made afterwards has it from the directory around it.
    let bus = BusDirectory::open_or_create(&path).unwrap();
    let segment = GatewaySegment::create(&bus, &small()).unwrap();
    for (name, mode, has_group) in look(0o2750, 0o640, group()) {
        assert!(has_group || mode & 0o070 == 0, "{name}");
    }
    let mut seat = BackendSeat::take(&bus);
    assert!(seat.is_err(), "the first one holds it");
    drop(_seat);
    seat = BackendSeat::take(&bus);
    seat.unwrap().attach(segment.instance()).unwrap();
    drop((without, segment));
    BusDirectory::set_tap_group(&path, None).unwrap();
    look(0o700, 0o600, 0);
    BusDirectory::open_or_create(&path).unwrap();
}

#[test]
fn more_than_looking_is_refused_and_noticed() {
    let stage = Stage::new();
    let path = stage.bus.path().to_owned();
    BusDirectory::set_tap_group(&path, Some(group())).unwrap();
    let bus = BusDirectory::open_or_create(&path).unwrap();
    let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
    let end = segment.take_shard(0).unwrap();
    end.place.look().unwrap();
    let directory = path.join(format!("gateway-{}", segment.instance()));
    for (file, wrong, right) in [
        ("gateway.mem", 0o660, 0o640),
        ("gateway.mem", 0o644, 0o640),
        ("lock", 0o640, 0o600),
        ("shard-0.bell", 0o640, 0o600),
    ] {
        let file = directory.join(file);
        fs::set_permissions(&file, Permissions::from_mode(wrong)).unwrap();
        let noticed = end.place.look().unwrap_err().to_string();
        assert!(noticed.contains(&format!("mode {wrong:o}")), "{noticed}");
        fs::set_permissions(&file, Permissions::from_mode(right)).unwrap();
        end.place.look().unwrap();
    }
    for wrong in [0o750, 0o2770, 0o2755] {
        fs::set_permissions(&path, Permissions::from_mode(wrong)).unwrap();
        let refusal = BusDirectory::open(&path).unwrap_err().to_string();
        assert!(
            refusal.contains(&format!("found mode {wrong:o}")),
            "{refusal}"
        );
        BusDirectory::observe(&path).unwrap_err();
    }
}

#[test]
fn another_user_of_the_group_sees_the_records_and_anybody_else_gets_a_sentence() {
    // Only root can play other users.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let stage = Stage::new();
    let path = stage.bus.path().to_owned();
    fs::set_permissions(path.parent().unwrap(), Permissions::from_mode(0o755)).unwrap();
    let program = path.with_file_name("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let look = |groups: &str| {
        let output = Command::new("setpriv")
            .args(["--reuid=12345", "--regid=12345", groups])
            .arg(&program)
            .args(["looks", "--exact", "--nocapture"])
            .env(LOOKER, &path)
            .output()
            .expect("setpriv of util-linux");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let said = look("--clear-groups");
    let sentence =
        "found a bus of uid 0, open to no group, expected one that uid 12345 may look at";
    assert!(said.contains(sentence), "{said}");

    BusDirectory::set_tap_group(&path, Some(group())).unwrap();
    let bus = BusDirectory::open_or_create(&path).unwrap();
    let mut segment = GatewaySegment::create(&bus, &small()).unwrap();
    let _seat = BackendSeat::take(&bus).unwrap();
    let mut end = segment.take_shard(0).unwrap();
    let said = look("--clear-groups");
    assert!(
        said.contains("found a bus of uid 0, open to group 54321"),
        "{said}"
    );
    let sends = std::thread::spawn(move || {
        // Until the ring is full: the looker comes when it comes.
        for number in 0..u64::MAX {
            if !send(&mut end.to_backend, number) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    });
    let said = look("--groups=54321");
    assert!(
        said.contains("looks: gateway alive, backend alive, a record"),
        "{said}"
    );
    assert!(said.contains("looks: cannot lock, write, ring"), "{said}");
    drop(sends);
}

/// What the other user does; nothing where no test asks for it.
#[test]
fn looks() {
    let Ok(path) = std::env::var(LOOKER) else {
        return;
    };
    let bus = match BusDirectory::observe(&path) {
        Ok(bus) => bus,
        Err(error) => return println!("looks: {error}"),
    };
    let life = |alive| if alive { "alive" } else { "dead" };
    let instance = bus.segments().unwrap()[0];
    let mut gateway = ObservedGateway::open(&bus, instance).unwrap();
    let _control = Control::observe(&bus).unwrap();
    let mut copy = RecordCopy::default();
    while gateway.shards[0].to_backend.next(&mut copy) == Tapped::Empty {
        std::thread::yield_now();
    }
    let (gateway, backend) = (life(gateway.is_alive()), life(bus.backend_is_alive()));
    println!("looks: gateway {gateway}, backend {backend}, a record");
    let segment = Path::new(&path).join(format!("gateway-{instance}"));
    let closed = [
        fs::File::open(segment.join("lock")).is_err(),
        fs::File::open(Path::new(&path).join("backend.lock")).is_err(),
        fs::File::options()
            .write(true)
            .open(segment.join("gateway.mem"))
            .is_err(),
        fs::File::options()
            .write(true)
            .open(segment.join("shard-0.bell"))
            .is_err(),
        fs::File::create(segment.join("mine")).is_err(),
    ];
    if closed == [true; 5] {
        println!("looks: cannot lock, write, ring");
    }
}
