//! `tidegate ledger` and `tidegate bus stat` beside a running Tidegate, after its death, and where there is none.

mod stage;

use serde_json::Value;
use stage::people::{Person, conversation};
use stage::{Stage, command, directory, eventually, http};

fn json(directory: &std::path::Path, arguments: &[&str]) -> Value {
    let output = command(directory)
        .args(arguments)
        .output()
        .expect("the binary starts");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn refusal(directory: &std::path::Path, arguments: &[&str]) -> String {
    let output = command(directory)
        .args(arguments)
        .output()
        .expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{arguments:?}: {said}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_figures_agree_on_the_bus_in_the_database_and_on_the_metrics_page() {
    let stage = Stage::start();
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("one", None));
    visitor.say("two", Some(&chat));
    let refused = visitor.say("   ", Some(&chat));
    assert_eq!(refused["reason"], "empty_message", "{refused}");

    let stat = eventually("the board of the newest commit", || {
        let stat = json(
            stage.directory.path(),
            &["bus", "stat", "--json", "--over-ms", "10"],
        );
        (stat["ledger"]["to_agent"]["accepted"] == 2).then_some(stat)
    });
    assert_eq!(stat["refused"]["empty_message"], 1, "{stat}");
    assert_eq!(stat["backend"]["alive"], true, "{stat}");
    let ring = &stat["gateways"][0]["shards"][0]["to_backend"];
    assert!(ring["ring_bytes"].as_u64() > Some(0), "{stat}");

    let ledger = json(stage.directory.path(), &["ledger", "--recount", "--json"]);
    assert_eq!(ledger["counters"], stat["ledger"], "{ledger}");
    assert_eq!(ledger["recount"]["promised"], 2, "{ledger}");
    let metrics = http::get(stage.http, "/metrics", None).body;
    for line in [
        "tidegate_ledger_messages{to=\"agent\",state=\"pending\"} 2",
        "tidegate_refused_total{reason=\"empty_message\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{metrics}");
    }

    let (_, directory) = stage.stop();
    let down = json(directory.path(), &["ledger", "--recount", "--json"]);
    assert_eq!(down["counters"], ledger["counters"], "down as well");
    let sentence = refusal(directory.path(), &["bus", "stat"]);
    assert!(sentence.contains("tidegate up"), "{sentence}");
}

#[test]
fn where_nothing_ever_ran_both_say_what_to_type() {
    let directory = directory();
    for arguments in [&["bus", "stat"][..], &["ledger"], &["ledger", "--recount"]] {
        let sentence = refusal(directory.path(), arguments);
        assert!(sentence.contains("--data-dir"), "{arguments:?}: {sentence}");
    }
}

#[test]
fn a_message_that_is_gone_is_an_exit_code_and_a_sentence() {
    let stage = Stage::start();
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("a text to be lost", None));
    let (_, directory) = stage.stop();
    let data = directory.path().join("tidegate-data");
    let database = data.join("tidegate.db");
    // A backup is one file: what the log beside the database still holds is in it.
    json(directory.path(), &["backup", "copy.db", "--json"]);
    let mut bytes = std::fs::read(directory.path().join("copy.db")).expect("the backup");
    let _there_may_be_none = std::fs::remove_file(data.join("tidegate.db-wal"));
    // Under another conversation's id nobody finds it any more.
    let id: Vec<u8> = (0..16)
        .map(|at| u8::from_str_radix(&chat[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    let text = find(&bytes, b"a text to be lost");
    let id = text - 200 + find(&bytes[text - 200..text], &id);
    // Greater than before: rows lie in the order of their keys, and SQLite reads on until one is too great.
    bytes[id] = 0xff;
    std::fs::write(&database, bytes).expect("written");
    let sentence = refusal(directory.path(), &["ledger", "--recount"]);
    assert!(
        sentence.contains("promised 1 texts and 0 are stored"),
        "{sentence}"
    );
}

fn find(bytes: &[u8], wanted: &[u8]) -> usize {
    bytes
        .windows(wanted.len())
        .rposition(|window| window == wanted)
        .expect("it is in the file")
}
