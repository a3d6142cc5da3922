//! A backup is made while people chat, and restored elsewhere: what it has is there, who comes back is told that what
//! followed may be gone, and goes on.

mod stage;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use stage::people::{Person, conversation};
use stage::{Stage, command, directory, http};

/// Runs `tidegate` and reads the one JSON object that it prints.
fn told(directory: &Path, arguments: &[&str]) -> Value {
    let output = command(directory)
        .args(arguments)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn texts(stage: &Stage, visitor: &Person, chat: &str) -> Vec<String> {
    let path = format!("/api/visitor/messages?conversation={chat}&after=0&limit=500");
    let history = http::get(stage.http, &path, Some(&visitor.token)).json();
    let messages = history["messages"].as_array().expect("messages").iter();
    messages
        .filter_map(|message| message["text"].as_str())
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn who_comes_to_a_restored_backup_is_told_and_goes_on() {
    let elsewhere = directory();
    let backup = elsewhere.path().join("chats.backup");
    let backup_name = backup.to_str().expect("a name");
    let stage = Stage::start();
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("in the backup", None));
    let made = told(stage.directory.path(), &["backup", backup_name, "--json"]);
    let seq = visitor.say("after the backup", Some(&chat))["seq"]
        .as_u64()
        .expect("a seq");
    let ledger = &made["ledger"];
    assert_eq!(ledger["accepted"], 1, "{made}");
    assert_eq!(ledger["closed"], true, "{made}");
    let old = made["incarnation"].as_u64().expect("an incarnation");

    // Elsewhere: another directory, another port; only the key comes along.
    let key = elsewhere.path().join("token.key");
    fs::copy(
        stage
            .directory
            .path()
            .join("tidegate-data/secrets/token.key"),
        &key,
    )
    .expect("the key is there");
    drop(stage);
    let key_name = key.to_str().expect("a name");
    let restored = told(
        elsewhere.path(),
        &["restore", backup_name, "--token-key", key_name, "--json"],
    );
    assert_eq!(restored["ledger"], *ledger);
    let stage = Stage::start_in(elsewhere, &[], &[]);
    assert_eq!(stage.password, None, "the accounts came along");

    let cursors = json!([{"conversation": chat, "incarnation": old, "seq": seq}]);
    let (token, id) = (visitor.token.clone(), visitor.id.clone());
    let mut visitor = Person::connect(&stage, token, id, "00000000000000a1", &cursors, 2);
    let resumed = &visitor.welcome["conversations"][0];
    assert_eq!(resumed["state"]["conversation"], *chat, "{resumed}");
    assert_ne!(resumed["recovered"], true, "{resumed}");
    let new = resumed["state"]["incarnation"].as_u64();
    assert!(new.is_some_and(|new| new != old), "{resumed}");
    // It read in the Welcome that its second message is not there, and says it again under the number that is free.
    assert_eq!(visitor.welcome["last_n"], 1);
    let said = visitor.say("after the backup", Some(&chat));
    assert_eq!(said["outcome"], "accepted", "{said}");
    assert_eq!(
        texts(&stage, &visitor, &chat),
        ["in the backup", "after the backup"]
    );
}

#[test]
fn a_backup_says_where_the_key_is_and_overwrites_nothing() {
    let stage = Stage::start();
    let run = |arguments: &[&str]| {
        let output = command(stage.directory.path())
            .args(arguments)
            .output()
            .expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (fine, said) = run(&["backup", "chats.backup"]);
    assert!(fine && said.contains("checked"), "{said}");
    assert!(said.contains("secrets/token.key"), "{said}");
    let (fine, said) = run(&["backup", "chats.backup"]);
    assert!(!fine && said.contains("not overwritten"), "{said}");
    let (fine, said) = run(&["restore", "chats.backup"]);
    assert!(!fine && said.contains("already uses"), "{said}");
}
