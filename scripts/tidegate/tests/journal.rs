//! A journal of real processes, one of which is killed, replays to the database that they left.

mod stage;

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::json;
use stage::people::{Person, agent_token, conversation};
use stage::workers::Worker;
use stage::{Stage, command, eventually, http};

/// `tidegate backend` with these arguments in that directory.
fn backend(directory: &Path, arguments: &[&str]) -> Output {
    let ran = command(directory).arg("backend").args(arguments).output();
    ran.expect("the binary starts")
}

/// The digest of all tables, from what was printed.
fn digest(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("digest of all tables "));
    line.unwrap_or_else(|| panic!("no digest in {output:?}"))
        .to_owned()
}

fn dumps(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).expect("dumps were written");
    let mut found: Vec<_> = entries
        .map(|entry| {
            let entry = entry.expect("readable");
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, fs::read(entry.path()).expect("readable"))
        })
        .collect();
    found.sort();
    found
}

/// A visitor whom a bot answers until the demo agent comes, two more, and a second agent; texts that a translator looks
/// at, marks, a transfer, REST, an export, closes; a kill.
fn live(stage: &Stage) {
    let _workers = [
        Worker::start(stage, "translation"),
        Worker::start(stage, "bot"),
    ];
    let mut early = Person::visitor(stage, "00000000000000a0");
    early.say("hello, when do you open?", None);
    assert_eq!(early.hear()["sender_role"], "bot");
    let mut agent = Person::agent(stage, "00000000000000b1");
    let (supervisor, _) = agent_token(stage);
    let answer = http::post(
        stage.http,
        "/api/admin/agents",
        Some(&supervisor),
        &json!({"user": "second", "name": "Second", "capacity": 3}),
    );
    assert_eq!(answer.status, 201, "{}", answer.body);
    let second = answer.json();
    let login = http::post(
        stage.http,
        "/api/agent/login",
        None,
        &json!({"user": "second", "password": second["password"]}),
    );
    let token = login.json()["token"].as_str().expect("a token").to_owned();
    let id = second["agent"]["id"].as_str().expect("an id").to_owned();
    let mut other = Person::connect(stage, token, id.clone(), "00000000000000c1", &json!([]), 1);

    let mut visitor = Person::visitor(stage, "00000000000000a1");
    let chat = conversation(&visitor.say("where is my order?", None));
    for i in 0..20 {
        visitor.say(&format!("and number {i}?"), Some(&chat));
    }
    visitor.acknowledge(&chat, 3, 2);
    agent.command(&json!({"op": "transfer", "conversation": chat, "agent": id}));
    stage.kill_and_await_successor("backend");
    for i in 0..10 {
        visitor.say(&format!("after it died, {i}"), Some(&chat));
    }
    let mut guest = Person::visitor(stage, "00000000000000a2");
    let asked = conversation(&guest.say("another question", None));
    let rest = http::post(
        stage.http,
        "/api/visitor/send-message",
        Some(&guest.token),
        &json!({"text": "by REST"}),
    );
    assert_eq!(rest.status, 201, "{}", rest.body);
    let export = http::get(stage.http, "/api/admin/export-sessions", Some(&supervisor));
    assert_eq!(export.status, 200, "{}", export.body);
    guest.command(&json!({"op": "close", "conversation": asked}));
    guest.socket.until("conversation_state");
    assert!(other.survives());
}

#[test]
fn a_session_with_a_kill_replays_to_the_same_tables_byte_for_byte() {
    let settings = [
        ("TIDEGATE_BACKEND__TRANSLATION__ENABLED", "true"),
        ("TIDEGATE_BACKEND__BOT__ENABLED", "true"),
    ];
    let stage = Stage::start_in(stage::directory(), &["--journal", "journals"], &settings);
    live(&stage);
    let (code, directory) = stage.stop();
    assert_eq!(code, Some(0));
    let path = directory.path();
    let live = backend(path, &["--dump", "live"]);
    assert!(live.status.success(), "{live:?}");
    let replay = ["--replay", "journals/journal", "--dump", "replayed"];
    let replayed = backend(path, &replay);
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    assert!(
        String::from_utf8_lossy(&replayed.stdout).contains("2 starts"),
        "{replayed:?}"
    );
    assert_eq!(digest(&live), digest(&replayed));
    let (live, replayed) = (dumps(&path.join("live")), dumps(&path.join("replayed")));
    assert!(
        live.len() > 10 && live == replayed,
        "each table's dump, byte for byte"
    );
    let (_, messages) = live
        .iter()
        .find(|(name, _)| name.starts_with("message."))
        .expect("a dump of the messages");
    let messages = String::from_utf8_lossy(messages);
    for said in ["We are open from", "你好, when do you open?"] {
        assert!(messages.contains(said), "{said}: {messages}");
    }

    // A second run of the system goes on in the same journal.
    let stage = Stage::start_in(directory, &["--journal", "journals"], &[]);
    let mut visitor = Person::visitor(&stage, "00000000000000a9");
    visitor.say("a day later", None);
    let (_, directory) = stage.stop();
    let path = directory.path();
    let (live, replayed) = (
        backend(path, &["--dump", "later"]),
        backend(path, &["--replay", "journals/journal", "--into", "kept"]),
    );
    assert_eq!(digest(&live), digest(&replayed));
    assert!(path.join("kept/tidegate.db").exists());

    // Cut off in the middle of a turn: what stands before it is replayed, and the exit code says so.
    let last = path.join("journals/journal.00000002");
    let bytes = fs::read(&last).expect("each start begins a file");
    fs::write(&last, &bytes[..bytes.len() * 2 / 3]).expect("writable");
    let torn = backend(path, &["--replay", "journals/journal"]);
    assert_eq!(torn.status.code(), Some(3), "{torn:?}");
    assert!(
        String::from_utf8_lossy(&torn.stderr).contains("is torn at byte"),
        "{torn:?}"
    );
    assert_ne!(digest(&torn), digest(&live));
}

/// How long the journal took when it was recorded, from what was printed in tenths of a second: at least.
fn recorded(output: &Output) -> Duration {
    let text = String::from_utf8_lossy(&output.stdout);
    let seconds = text.split_once(" starts and ").and_then(|(_, rest)| {
        let (seconds, _) = rest.split_once(" s replayed")?;
        seconds.parse::<f64>().ok()
    });
    let seconds = seconds.unwrap_or_else(|| panic!("no time in {output:?}"));
    Duration::from_secs_f64(seconds - 0.05)
}

#[test]
fn a_replay_at_a_speed_takes_its_time_and_comes_to_the_same_tables_as_at_full_speed() {
    let stage = Stage::start_in(stage::directory(), &["--journal", "journals"], &[]);
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    visitor.say("where is my order?", None);
    let said = Instant::now();
    eventually("a second later", || {
        (said.elapsed() > Duration::from_secs(1)).then_some(())
    });
    visitor.say("and now?", None);
    let (_, directory) = stage.stop();
    let path = directory.path();
    let replay = |speed: &str| {
        let began = Instant::now();
        let arguments = ["--replay", "journals/journal", "--speed", speed];
        (backend(path, &arguments), began.elapsed())
    };
    let (full, _) = replay("max");
    assert_eq!(full.status.code(), Some(0), "{full:?}");
    assert_eq!(digest(&full), digest(&backend(path, &["--dump", "live"])));
    let recorded = recorded(&full);
    assert!(recorded > Duration::from_millis(900), "{full:?}");
    for (speed, least) in [("1", recorded), ("0.5", recorded * 2)] {
        let (paced, took) = replay(speed);
        assert_eq!(paced.status.code(), Some(0), "{paced:?}");
        assert!(
            took >= least,
            "{took:?} at speed {speed}, {least:?} at least"
        );
        assert_eq!(digest(&paced), digest(&full));
    }
    let (refused, _) = replay("0");
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("expected a number from 0.001"), "{said}");
}

#[test]
fn a_masked_journal_that_begins_with_chats_holds_nothing_of_them_and_replays() {
    let stage = Stage::start();
    Person::visitor(&stage, "00000000000000a1").say("planted before", None);
    let (_, directory) = stage.stop();
    let masked = ["--journal", "journals", "--journal-masked"];
    let stage = Stage::start_in(directory, &masked, &[]);
    Person::visitor(&stage, "00000000000000a2").say("planted after", None);
    let (_, directory) = stage.stop();
    let path = directory.path();
    let files = dumps(&path.join("journals"));
    assert!(files.iter().any(|(name, _)| name == "journal.00000000.db"));
    for (name, bytes) in &files {
        let planted = bytes.windows(7).any(|window| window == b"planted");
        assert!(!planted, "{name}");
    }
    let replay = || backend(path, &["--replay", "journals/journal"]);
    let (once, twice) = (replay(), replay());
    assert_eq!(once.status.code(), Some(0), "{once:?}");
    let said = String::from_utf8_lossy(&once.stdout);
    assert!(said.contains("what people wrote is masked"), "{said}");
    assert_eq!(digest(&once), digest(&twice));
    assert_ne!(digest(&once), digest(&backend(path, &["--dump", "live"])));
}
