//! A newer program takes over from a running one: nobody is refused, nothing is lost, and a bad file changes nothing.

mod stage;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use stage::people::{Person, conversation};
use stage::{Stage, directory, eventually, http};

/// The program under a name of its own in the stage's directory, so that another file can be put there.
fn own_copy(directory: &Path) -> PathBuf {
    let program = directory.join("tidegate");
    fs::copy(env!("CARGO_BIN_EXE_tidegate"), &program).expect("a copy");
    program
}

/// Puts a file in the program's place as an installer does: written beside it, then renamed.
fn put(program: &Path, contents: &[u8]) {
    let beside = program.with_extension("new");
    fs::write(&beside, contents).expect("a file");
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).expect("a mode");
    fs::rename(beside, program).expect("a name");
}

fn file_of(pid: u32) -> String {
    fs::read_link(format!("/proc/{pid}/exe")).map_or_else(
        |_| String::new(),
        |path| path.to_string_lossy().into_owned(),
    )
}

#[test]
fn sighup_puts_a_newer_program_in_place_of_both_parts_and_refuses_nobody() {
    let directory = directory();
    let program = own_copy(directory.path());
    let stage = Stage::start_program(&program, directory);
    let mut agent = Person::agent(&stage, "00000000000000b1");
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("before", None));
    assert_eq!(agent.hear()["text"], "before");

    let before = [stage.pids("gateway"), stage.pids("backend")].concat();
    let newer = fs::read(&program).expect("the program");
    put(&program, &newer);
    assert!(
        before
            .iter()
            .all(|pid| file_of(*pid).ends_with("(deleted)"))
    );
    stage.signal("HUP");
    // Connect all the while: the sockets belong to the supervisor, so nobody is ever refused.
    let mut tries = 0;
    eventually("successors of both alone", || {
        tries += 1;
        drop(stage::socket::Socket::open(stage.ws));
        let now = [stage.pids("gateway"), stage.pids("backend")].concat();
        (now.len() == 2 && now.iter().all(|pid| !before.contains(pid))).then_some(now)
    })
    .into_iter()
    .for_each(|pid| assert!(!file_of(pid).ends_with("(deleted)")));
    assert!(tries > 0);

    let (token, id) = (visitor.token.clone(), visitor.id.clone());
    let mut visitor = Person::connect(
        &stage,
        token,
        id,
        "00000000000000a1",
        &serde_json::json!([]),
        2,
    );
    assert_eq!(visitor.say("after", Some(&chat))["outcome"], "accepted");
    let path = format!("/api/visitor/messages?conversation={chat}&after=0&limit=500");
    let history = http::get(stage.http, &path, Some(&visitor.token)).json();
    let texts: Vec<&str> = history["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .filter_map(|message| message["text"].as_str())
        .filter(|text| !text.is_empty())
        .collect();
    assert_eq!(texts, ["before", "after"]);
}

#[test]
fn a_newer_program_that_does_not_run_changes_nothing() {
    let directory = directory();
    let program = own_copy(directory.path());
    let stage = Stage::start_program(&program, directory);
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    assert_eq!(visitor.say("before", None)["outcome"], "accepted");
    let before = [stage.pids("gateway"), stage.pids("backend")];
    for bad in [
        &b"\x7fELF cut short"[..],
        b"#!/bin/sh\necho 'no such key: gateway.listen'; exit 1\n",
    ] {
        let refusals = || stage.said().matches("nothing is replaced").count();
        let told = refusals();
        put(&program, bad);
        stage.signal("HUP");
        eventually("the refusal", || (refusals() > told).then_some(()));
        assert_eq!([stage.pids("gateway"), stage.pids("backend")], before);
        assert_eq!(visitor.say("still here", None)["outcome"], "accepted");
    }
}
