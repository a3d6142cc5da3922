//! What goes wrong beside a running Tidegate: a tap that is too slow, a recorder whose disk is full, a file that is damaged
//! or no recording, another user, no bus, a bus that ends.

mod stage;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use stage::people::Person;
use stage::{Stage, command, directory, eventually, signal};

fn refusal(directory: &Path, arguments: &[&str]) -> String {
    let output = command(directory)
        .args(arguments)
        .output()
        .expect("the binary starts");
    assert!(!output.status.success(), "{arguments:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Rings as small as they may be: a few hundred records are a lap.
const SMALL_RINGS: [(&str, &str); 3] = [
    ("TIDEGATE_GATEWAY__RING_BYTES", "262144"),
    ("TIDEGATE_BACKEND__SENDS_PER_S_MAX", "1000000"),
    ("TIDEGATE_BACKEND__SENDS_BURST_MAX", "1000000"),
];

#[test]
fn a_tap_that_was_lapped_says_what_it_missed_and_nobody_was_slowed() {
    let stage = Stage::start_in(directory(), &[], &SMALL_RINGS);
    let path = stage.directory.path();
    let lines = path.join("lines");
    let mut tap = command(path)
        .args(["bus", "tap", "--kind", "send"])
        .stdout(std::fs::File::create(&lines).expect("ours"))
        .spawn()
        .expect("the binary starts");
    let read = || std::fs::read_to_string(&lines).expect("UTF-8");
    eventually("the gateway's line", || (!read().is_empty()).then_some(()));
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    visitor.say("seen", None);
    eventually("the send", || read().contains("\"send\"").then_some(()));
    signal(tap.id(), "STOP");
    let long = "x".repeat(8_000);
    for _ in 0..80 {
        // Each is answered while the tap sleeps.
        visitor.say(&long, None);
    }
    signal(tap.id(), "CONT");
    let missed = eventually("what it missed", || {
        let line = read();
        let line = line
            .lines()
            .find(|line| line.contains("\"missed\""))?
            .to_owned();
        serde_json::from_str::<Value>(&line).ok()
    });
    assert!(missed["missed_bytes"].as_u64() > Some(262_144), "{missed}");
    visitor.say("seen again", None);
    eventually("what comes after", || {
        let text = read();
        let after = text.split("\"missed\"").last()?.to_owned();
        after.contains("«10 characters»").then_some(())
    });
    signal(tap.id(), "INT");
    tap.wait().expect("it ends");
}

#[test]
fn a_recorder_that_cannot_write_further_says_so_and_leaves_a_whole_file() {
    let stage = Stage::start();
    let path = stage.directory.path();
    let recorder = Command::new("prlimit")
        .args([
            "--fsize=200000",
            env!("CARGO_BIN_EXE_tidegate"),
            "bus",
            "record",
            "kept.tgr",
        ])
        .current_dir(path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("prlimit of util-linux");
    eventually("the file", || path.join("kept.tgr").exists().then_some(()));
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let mut recorder = Some(recorder);
    let output = eventually("the end", || {
        for _ in 0..20 {
            visitor.say("until the file is full", None);
        }
        let ended = recorder.as_mut()?.try_wait().expect("waits").is_some();
        ended.then(|| {
            recorder
                .take()
                .expect("once")
                .wait_with_output()
                .expect("it ended")
        })
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("whole up to there") && said.contains("File too large"),
        "{said}"
    );
    let shown = command(path)
        .args(["bus", "tap", "--file", "kept.tgr"])
        .output()
        .expect("starts");
    assert!(
        shown.status.success(),
        "{}",
        String::from_utf8_lossy(&shown.stderr)
    );
    assert!(String::from_utf8_lossy(&shown.stdout).contains("\"gateway\""));
}

#[test]
fn files_rotate_and_are_never_written_over() {
    let stage = Stage::start();
    let path = stage.directory.path();
    std::fs::write(path.join("mine.tgr"), "precious").expect("ours");
    let said = refusal(path, &["bus", "record", "mine.tgr"]);
    assert!(said.contains("is never written over"), "{said}");
    std::fs::write(path.join("other.tgr.1"), "precious").expect("ours");
    let said = refusal(path, &["bus", "record", "other.tgr"]);
    assert!(said.contains("of an earlier recording"), "{said}");
    assert!(!path.join("other.tgr").exists());

    let arguments = [
        "bus",
        "record",
        "kept.tgr",
        "--rotate-mib",
        "1",
        "--keep",
        "2",
    ];
    let mut recorder = command(path)
        .args(arguments)
        .spawn()
        .expect("the binary starts");
    eventually("the file", || path.join("kept.tgr").exists().then_some(()));
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let long = "x".repeat(15_000);
    eventually("the third file", || {
        for _ in 0..10 {
            visitor.say(&long, None);
        }
        path.join("kept.tgr.2").exists().then_some(())
    });
    signal(recorder.id(), "INT");
    assert!(recorder.wait().expect("it ends").success());
    for file in ["kept.tgr", "kept.tgr.1", "kept.tgr.2"] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(path.join(file))
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
        let shown = command(path)
            .args(["bus", "tap", "--file", file])
            .output()
            .expect("starts");
        assert!(shown.status.success(), "{file}");
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.contains("\"kind\":\"gateway\""),
            "each file names its gateways: {first}"
        );
    }
    assert!(!path.join("kept.tgr.3").exists());
}

#[test]
fn a_damaged_file_is_shown_as_far_as_it_is_whole_and_a_strange_one_is_refused() {
    let rush = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shm-bus/examples/rush.tgr");
    let directory = directory();
    let path = directory.path();
    let whole = std::fs::read(rush).expect("it ships");
    let lines = |name: &str, bytes: &[u8]| {
        std::fs::write(path.join(name), bytes).expect("ours");
        let output = command(path)
            .args(["bus", "tap", "--file", name])
            .output()
            .expect("starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (
            output.status.code(),
            output.stdout.iter().filter(|byte| **byte == b'\n').count(),
            said,
        )
    };
    let (code, all, _) = lines("whole.tgr", &whole);
    assert_eq!(code, Some(0));
    let (code, some, said) = lines("cut.tgr", &whole[..whole.len() * 3 / 4]);
    assert!(
        code == Some(1) && some > 0 && some < all,
        "{code:?}: {some} of {all}"
    );
    assert!(said.contains("damaged and were passed over"), "{said}");
    let mut hit = whole.clone();
    hit[whole.len() / 2] ^= 0xff;
    let (code, some, said) = lines("hit.tgr", &hit);
    assert!(
        code == Some(1) && some > 0 && some < all,
        "{some} of {all}: {said}"
    );
    std::fs::write(path.join("strange.tgr"), "a letter to my aunt").expect("ours");
    for command in [
        &["bus", "tap", "--file", "strange.tgr"][..],
        &["bus", "replay", "strange.tgr"],
        &["bus", "replay", "strange.tgr", "--into", "bus"],
    ] {
        let said = refusal(path, command);
        assert!(
            said.contains("strange.tgr: no recording of a bus"),
            "{said}"
        );
    }
    assert!(!path.join("bus").exists(), "nothing was begun");
    let said = refusal(path, &["bus", "replay", "nowhere.tgr"]);
    assert!(said.contains("cannot open nowhere.tgr"), "{said}");
    let said = refusal(path, &["bus", "tap", "--kind", "sned"]);
    assert!(
        said.contains("--kind sned: no such kind; there are: opened,"),
        "{said}"
    );
}

#[test]
fn where_nothing_runs_each_says_what_to_type() {
    let directory = directory();
    std::fs::copy(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shm-bus/examples/rush.tgr"),
        directory.path().join("rush.tgr"),
    )
    .expect("it ships");
    for arguments in [
        &["bus", "tap"][..],
        &["bus", "stat"],
        &["bus", "record", "kept.tgr"],
        &["bus", "replay", "rush.tgr"],
    ] {
        let said = refusal(directory.path(), arguments);
        assert!(
            said.contains("tidegate up") && said.contains("--data-dir"),
            "{arguments:?}: {said}"
        );
    }
    assert!(!directory.path().join("kept.tgr").exists());
    let said = refusal(
        directory.path(),
        &["bus", "tap", "--bus", "/dev/shm/no-such-bus"],
    );
    assert!(
        said.contains("there is no bus at /dev/shm/no-such-bus"),
        "{said}"
    );
}

#[test]
fn a_tap_a_recorder_and_a_live_stat_end_with_the_bus() {
    let stage = Stage::start();
    let path = stage.directory.path().to_owned();
    let beside = |arguments: &[&str]| {
        command(&path)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts")
    };
    let tap = beside(&["bus", "tap"]);
    let record = beside(&["bus", "record", "kept.tgr"]);
    let stat = beside(&[
        "bus",
        "stat",
        "--json",
        "--samples",
        "1000",
        "--over-ms",
        "50",
    ]);
    eventually("the file", || path.join("kept.tgr").exists().then_some(()));
    std::thread::sleep(Duration::from_millis(500));
    let (_, _directory) = stage.stop();
    for (child, code, sentence) in [
        (tap, Some(0), "nobody lives on the bus any more"),
        (record, Some(0), "nobody lives on the bus any more"),
        (stat, Some(78), "Tidegate has ended"),
    ] {
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), code, "{said}");
        assert!(said.contains(sentence), "{said}");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!out.is_empty());
    }
}

#[test]
fn another_user_is_told_whose_bus_it_is_and_the_tap_group_sees_everything() {
    // Only root can play other users.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let group = [("TIDEGATE_BUS__TAP_GROUP", "54321")];
    let stage = Stage::start_in(directory(), &[], &group);
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    visitor.say("hello", None);
    let scratch = directory();
    let program = scratch.path().join("tidegate");
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).expect("a copy");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let as_another = |groups: &str, arguments: &[&str]| {
        let output = Command::new("setpriv")
            .args(["--reuid=12345", "--regid=12345", groups])
            .arg(&program)
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .output()
            .expect("setpriv of util-linux");
        let (out, error) = (output.stdout, output.stderr);
        (
            output.status.code(),
            [out, error].map(|text| String::from_utf8_lossy(&text).into_owned()),
        )
    };
    let bus = stage.bus();
    let bus = bus.to_str().expect("UTF-8");
    let look = ["bus", "stat", "--json", "--over-ms", "10", "--bus", bus];
    let (code, [_, said]) = as_another("--clear-groups", &look);
    assert_ne!(code, Some(0));
    assert!(
        said.contains("found a bus of uid 0, open to group 54321"),
        "{said}"
    );
    let (code, [out, said]) = as_another("--groups=54321", &look);
    assert_eq!(code, Some(0), "{said}");
    let stat: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (&stat["backend"]["alive"], &stat["gateways"][0]["alive"]),
        (&true.into(), &true.into())
    );
    let (code, [out, said]) = as_another(
        "--groups=54321",
        &["bus", "tap", "--seconds", "1", "--bus", bus],
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(out.contains("\"kind\":\"gateway\""), "{out}");
    let data_dir = stage.directory.path().join("tidegate-data");
    std::fs::set_permissions(
        stage.directory.path(),
        std::fs::Permissions::from_mode(0o755),
    )
    .expect("ours");
    let by_data_dir = [
        "--data-dir",
        data_dir.to_str().expect("UTF-8"),
        "bus",
        "tap",
    ];
    let (_, [_, said]) = as_another("--clear-groups", &by_data_dir);
    assert!(
        said.contains("is open to uid 0 alone, and this is uid 12345"),
        "{said}"
    );
    // A gateway that comes later is on the same bus, and open to the same group.
    stage.kill_and_await_successor("gateway");
    let (code, [_, said]) = as_another("--groups=54321", &look);
    assert_eq!(code, Some(0), "{said}");
}
