//! Files of the bus are truncated, removed, replaced, overwritten or opened to others under a running system: each
//! process that holds them ends with a sentence within a second, the supervisor starts it again, and nobody has to do
//! anything. What was acknowledged before is there afterwards.

mod stage;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use stage::people::{Person, conversation};
use stage::{Stage, eventually, http};

/// What is done, to the bus directory or to the segment in it; who ends by it; what one of them says.
struct Harm {
    what: &'static str,
    to: fn(&Path, &Path),
    ends: &'static [&'static str],
    said: &'static str,
}

const BOTH: &[&str] = &["backend", "gateway"];
const GATEWAY: &[&str] = &["gateway"];
/// What a process says whose mapped memory is gone when it touches it; exit code 74.
const CUT_SHORT: &str = "shm-bus: the memory of the bus was cut short under this process";

fn cut(path: &Path, bytes: u64) {
    let file = File::options().write(true).open(path);
    file.and_then(|file| file.set_len(bytes))
        .expect("it is there");
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path);
    file.and_then(|file| file.write_all_at(bytes, at))
        .expect("it is there");
}

fn replace(path: &Path) {
    let aside = path.with_extension("aside");
    fs::rename(path, &aside)
        .and_then(|()| fs::copy(&aside, path))
        .expect("it is there");
    fs::remove_file(aside).expect("just made");
}

/// The only segment on the bus.
fn segment(bus: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(bus).ok()?;
    let mut segments = entries.flatten().map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("gateway-") && !name.contains('.')
    });
    let segment = segments.next()?;
    segments.next().is_none().then_some(segment)
}

/// Does one harm after the other to one running system. (Few: the supervisor waits longer with each death.)
fn goes_on_after(harms: &[Harm]) {
    let stage = Stage::start();
    let bus = stage.bus();
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("before", None));
    let mut expected = vec!["before".to_owned()];
    for (n, harm) in (2..).zip(harms) {
        let others: Vec<&str> = BOTH
            .iter()
            .copied()
            .filter(|role| !harm.ends.contains(role))
            .collect();
        let pids = |roles: &[&str]| -> Vec<u32> {
            roles.iter().flat_map(|role| stage.pids(role)).collect()
        };
        let (ending, staying) = (pids(harm.ends), pids(&others));
        let segment_before = eventually("the segment", || segment(&bus));
        (harm.to)(&bus, &segment_before);
        let done = Instant::now();
        eventually(harm.what, || {
            let there = pids(BOTH);
            ending.iter().all(|pid| !there.contains(pid)).then_some(())
        });
        // Noticed within 200 ms; the rest is this machine's.
        let noticed = done.elapsed();
        assert!(
            noticed < Duration::from_secs(5),
            "{}: {noticed:?}",
            harm.what
        );
        eventually("the successors, and nothing of their predecessors", || {
            let after = segment(&bus)?;
            let ready = http::get(stage.http, "/readyz", None).status == 200;
            (pids(BOTH).len() == 2 && after != segment_before && ready).then_some(())
        });
        assert_eq!(pids(&others), staying, "{}: the others go on", harm.what);
        let said = stage.said();
        assert!(
            said.contains(harm.said),
            "{}: {:?} was not said",
            harm.what,
            harm.said
        );

        // The supervisor kept the port: the same visitor comes back and goes on.
        let (token, id) = (visitor.token.clone(), visitor.id.clone());
        visitor = Person::connect(&stage, token, id, "00000000000000a1", &json!([]), n);
        let result = visitor.say(harm.what, Some(&chat));
        assert_eq!(result["outcome"], "accepted", "{}: {result}", harm.what);
        expected.push(harm.what.to_owned());
        stage.check_ledger();
    }
    let path = format!("/api/visitor/messages?conversation={chat}&after=0&limit=500");
    let history = http::get(stage.http, &path, Some(&visitor.token)).json();
    let texts = history["messages"].as_array().expect("messages").iter();
    let texts: Vec<&str> = texts
        .filter_map(|message| message["text"].as_str())
        .filter(|text| !text.is_empty())
        .collect();
    assert_eq!(texts, expected);
    let (code, _directory) = stage.stop();
    assert_eq!(code, Some(0));
    assert!(!bus.exists(), "and nothing is left to clean");
}

#[test]
fn memory_truncated_while_it_is_mapped() {
    goes_on_after(&[
        Harm {
            what: "a ring's file loses all but its header",
            to: |_, segment| cut(&segment.join("gateway.mem"), 4096),
            ends: BOTH,
            said: CUT_SHORT,
        },
        Harm {
            what: "the backend's control page loses everything",
            to: |bus, _| cut(&bus.join("control.backend.mem"), 0),
            ends: BOTH,
            said: CUT_SHORT,
        },
    ]);
}

#[test]
fn what_the_backend_writes_truncated_while_it_is_mapped() {
    goes_on_after(&[
        Harm {
            what: "the twin loses everything",
            // The backend does not look at it while there is nothing to say.
            to: |_, segment| cut(&segment.join("backend.mem"), 0),
            ends: GATEWAY,
            said: CUT_SHORT,
        },
        Harm {
            what: "the gateways' control page is cut in half",
            to: |bus, _| cut(&bus.join("control.gateways.mem"), 2048),
            ends: BOTH,
            said: "control.gateways.mem: found 2048 bytes, expected 4096 bytes",
        },
    ]);
}

#[test]
fn files_and_directories_removed() {
    goes_on_after(&[
        Harm {
            what: "the bus directory is removed",
            to: |bus, _| fs::remove_dir_all(bus).expect("it is there"),
            ends: BOTH,
            said: "found nothing, expected the one that this process holds",
        },
        Harm {
            what: "the segment is removed",
            to: |_, segment| fs::remove_dir_all(segment).expect("it is there"),
            ends: GATEWAY,
            said: "found nothing, expected the one that this process holds",
        },
        Harm {
            what: "the backend's lock is removed",
            to: |bus, _| fs::remove_file(bus.join("backend.lock")).expect("it is there"),
            ends: BOTH,
            said: "backend.lock: found nothing, expected the one that this process holds",
        },
    ]);
}

#[test]
fn files_and_directories_replaced_or_opened_to_others() {
    goes_on_after(&[
        Harm {
            what: "the bus directory is replaced",
            to: |bus, _| {
                let aside = bus.with_extension("aside");
                fs::rename(bus, &aside).expect("it is there");
                fs::create_dir(bus).expect("nothing is there");
                fs::set_permissions(bus, Permissions::from_mode(0o700)).expect("it is ours");
                fs::remove_dir_all(aside).expect("it is there");
            },
            ends: BOTH,
            said: "found another one, expected the one that this process holds",
        },
        Harm {
            what: "a ring's file is replaced by its copy",
            to: |_, segment| replace(&segment.join("gateway.mem")),
            ends: GATEWAY,
            said: "gateway.mem: found another one, expected the one that this process holds",
        },
        Harm {
            what: "a ring's file is opened to others",
            to: |_, segment| {
                let file = segment.join("backend.mem");
                fs::set_permissions(file, Permissions::from_mode(0o644)).expect("it is ours");
            },
            ends: GATEWAY,
            said: "mode 644, expected a file of this process's user, mode 600",
        },
    ]);
}

#[test]
fn memory_overwritten() {
    goes_on_after(&[
        Harm {
            what: "the gateway's cursor jumps",
            // The port page is the second; `published` is its first word.
            to: |_, segment| overwrite(&segment.join("gateway.mem"), 4096, &[0xfe; 8]),
            ends: GATEWAY,
            said: "a ring is beyond reading: its gateway counts as dead",
        },
        Harm {
            what: "the backend's cursor jumps",
            to: |_, segment| overwrite(&segment.join("backend.mem"), 4096, &[0xfe; 8]),
            ends: GATEWAY,
            said: "the bus segment is damaged (peer's cursor is ",
        },
    ]);
}
