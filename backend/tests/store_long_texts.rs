//! Long texts stand apart from their rows, and nobody who reads notices.

#![expect(clippy::unwrap_used, reason = "what breaks fails its test")]

mod support;

use rusqlite::Connection;
use support::{Chat, NOW_US, open, place};
use tidegate_backend::engine::loaded::Pending;
use tidegate_backend::engine::rows::ErasureRow;
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::{Store, audit};

/// Of every length around the bound, in one-byte and three-byte characters, and some as long as texts get.
fn texts() -> Vec<String> {
    let around = (636..=644).map(|bytes| "x".repeat(bytes));
    let chinese = (210..=216).map(|characters| "茶".repeat(characters));
    around
        .chain(chinese)
        .chain([
            "".into(),
            "短".into(),
            "长".repeat(2_700),
            "y".repeat(8_192),
        ])
        .collect()
}

fn count(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[test]
fn texts_of_every_length_come_back_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    store.submit(&chat.begin()).unwrap();
    let mut set = WriteSet::default();
    for text in texts() {
        chat.say(&mut set, &text);
    }
    store.submit(&set).unwrap();
    let loaded = store.load().unwrap();
    let found = loaded.messages.iter().map(|row| {
        let start = row.text.start as usize;
        &loaded.text[start..start + row.text.bytes as usize]
    });
    assert!(found.eq(texts()));
    let last = &loaded.conversations[0].last_text;
    assert!("y".repeat(8_192).starts_with(last) && !last.is_empty());
    let connection = place(dir.path()).open_reader().unwrap();
    let seen = audit::messages(&dir.path().join("tidegate.db")).unwrap();
    let seen: Vec<&str> = seen.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(seen, texts());
    assert!(count(&connection, "SELECT count(*) FROM long_text") > 0);
    assert_eq!(
        count(
            &connection,
            "SELECT coalesce(max(length(CAST(text AS BLOB))), 0) FROM message WHERE long_text IS NULL"
        ),
        639,
        "what stands in the rows is short"
    );
}

#[test]
fn a_removed_message_takes_its_long_text_with_it_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let (mut one, mut other) = (Chat::new(1), Chat::new(2));
    for chat in [&mut one, &mut other] {
        store.submit(&chat.begin()).unwrap();
        let mut set = WriteSet::default();
        for _ in 0..3 {
            chat.say(&mut set, &"长".repeat(1_000));
        }
        store.submit(&set).unwrap();
    }
    let erasure = ErasureRow {
        site_id: 1,
        conversation: one.conversation,
        seq: 2,
        rows: 2,
        sent_by_sessions: 2,
        delivered: Pending::default(),
        expired: Pending {
            to_agent: 2,
            to_visitor: 0,
        },
    };
    let set = WriteSet {
        at_us: NOW_US,
        erasures: vec![erasure],
        ..WriteSet::default()
    };
    store.submit(&set).unwrap();
    let connection = place(dir.path()).open_reader().unwrap();
    assert_eq!(count(&connection, "SELECT count(*) FROM long_text"), 4);
    assert_eq!(
        count(
            &connection,
            "SELECT count(*) FROM message WHERE long_text NOT IN (SELECT id FROM long_text)"
        ),
        0
    );
}
