//! Reads beside the turn: bounded, consistent, and none of them can hurt another.

mod support;

use std::sync::mpsc;

use support::{Chat, open};
use tidegate_backend::engine::kinds::{Role, Status};
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::read::{Direction, Filter, ListQuery, PAGE_BYTES_MAX, PAGE_ROWS_MAX};
use tidegate_backend::store::{Readers, Store, StoreError};

#[test]
fn the_one_too_many_is_told_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let readers = Readers::start(store.place(), 1, 1, 2).unwrap();
    let (go, gate) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let first = readers.ask(move |_| {
        entered.send(()).unwrap();
        gate.recv().unwrap();
        Ok(1)
    });
    inside.recv().unwrap();
    // The thread is held; two may wait, the third may not.
    let waiting: Vec<_> = (2..4)
        .map(|n| readers.ask(move |_| Ok(n)).unwrap())
        .collect();
    assert!(matches!(readers.ask(|_| Ok(())), Err(StoreError::Busy(_))));
    go.send(()).unwrap();
    assert_eq!(first.unwrap().wait().unwrap(), 1);
    let rest: Vec<i32> = waiting
        .into_iter()
        .map(|reading| reading.wait().unwrap())
        .collect();
    assert_eq!(rest, [2, 3]);
    readers.ask(|_| Ok(())).unwrap().wait().unwrap();
}

#[test]
fn a_read_that_panics_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let readers = Readers::start(store.place(), 1, 1, 8).unwrap();
    let broken = readers
        .ask(|_| -> Result<(), StoreError> { panic!("planted") })
        .unwrap();
    assert!(matches!(broken.wait(), Err(StoreError::Failed(_))));
    assert_eq!(
        readers
            .ask(|reader| reader.widgets())
            .unwrap()
            .wait()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn one_read_sees_one_commit_and_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    let mut set = chat.begin();
    chat.say(&mut set, "first");
    store.submit(&set).unwrap();
    let readers = Readers::start(store.place(), 1, 1, 8).unwrap();
    let (looked, has_looked) = mpsc::channel();
    let (go, gate) = mpsc::channel::<()>();
    let conversation = chat.conversation;
    let reading = readers
        .ask(move |reader| {
            let before = reader.conversation(conversation)?.unwrap().state.seq;
            looked.send(()).unwrap();
            gate.recv().unwrap();
            Ok((
                before,
                reader
                    .history(conversation, Direction::After(0), 10)?
                    .messages
                    .len(),
            ))
        })
        .unwrap();
    has_looked.recv().unwrap();
    let mut more = WriteSet::default();
    chat.say(&mut more, "second");
    store.submit(&more).unwrap();
    go.send(()).unwrap();
    assert_eq!(reading.wait().unwrap(), (1, 1));
    let connection = store.place().open_reader().unwrap();
    assert!(connection.execute("DELETE FROM message", []).is_err());
}

#[test]
fn a_page_of_history_is_bounded_by_rows_and_by_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    let mut set = chat.begin();
    for _ in 0..600 {
        chat.say(&mut set, "x");
    }
    for _ in 0..100 {
        chat.say(&mut set, &"y".repeat(16_000));
    }
    store.submit(&set).unwrap();
    let readers = Readers::start(store.place(), 1, 1, 8).unwrap();
    let conversation = chat.conversation;
    let page = |direction| {
        readers
            .ask(move |reader| reader.history(conversation, direction, u32::MAX))
            .unwrap()
            .wait()
            .unwrap()
    };
    let oldest = page(Direction::After(0));
    assert_eq!(oldest.messages.len(), PAGE_ROWS_MAX as usize);
    for newest in [
        page(Direction::Before(u64::MAX)),
        page(Direction::After(600)),
    ] {
        assert!(newest.text.len() >= PAGE_BYTES_MAX && newest.text.len() < PAGE_BYTES_MAX + 20_000);
        assert!(
            newest
                .messages
                .windows(2)
                .all(|pair| pair[0].seq + 1 == pair[1].seq)
        );
    }
    assert_eq!(
        page(Direction::Before(u64::MAX))
            .messages
            .last()
            .unwrap()
            .seq,
        700
    );
    assert!(page(Direction::After(u64::MAX)).messages.is_empty());
}

#[test]
fn lists_page_by_key_in_their_own_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    for n in 0..25 {
        let chat = Chat::new(n);
        let mut set = chat.begin();
        // The later ones stand nearer to the head, as after a transfer back to it.
        set.conversations[0].queue_order = -i64::try_from(n).unwrap();
        if n % 5 == 0 {
            set.conversations[0] = chat.row(Status::Closed);
        }
        store.submit(&set).unwrap();
    }
    let readers = Readers::start(store.place(), 1, 2, 8).unwrap();
    let all = |filter| {
        let mut ids = Vec::new();
        let mut cursor = None;
        loop {
            let query = ListQuery {
                filter,
                search: String::new(),
                cursor,
                limit: 3,
            };
            let page = readers
                .ask(move |reader| reader.conversations(&query))
                .unwrap()
                .wait()
                .unwrap();
            ids.extend(page.conversations.iter().map(|listed| listed.state.row.id));
            cursor = page.next;
            if cursor.is_none() {
                return ids;
            }
        }
    };
    let expected = |closed: Option<bool>| -> Vec<_> {
        (0..25_u128)
            .rev()
            .filter(|n| closed.is_none_or(|closed| (n % 5 == 0) == closed))
            .map(support::id)
            .collect()
    };
    assert_eq!(all(Filter::Waiting), expected(Some(false)));
    assert_eq!(all(Filter::Closed(None)), expected(Some(true)));
    assert_eq!(all(Filter::All(None)), expected(None));
    assert_eq!(all(Filter::Mine(support::id(1))), []);
}

#[test]
fn an_agent_reads_a_visitors_earlier_chats_only_while_serving_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let (lin, wu) = (support::id(900), support::id(901));
    let old = Chat::new(1);
    let mut set = old.begin();
    set.conversations[0] = old.row(Status::Closed);
    set.conversations[0].agent = Some(wu);
    let mut now = Chat {
        conversation: support::id(2),
        ..old.clone()
    }
    .row(Status::Chatting);
    now.agent = Some(lin);
    set.conversations.push(now.clone());
    store.submit(&set).unwrap();
    let readers = Readers::start(store.place(), 1, 1, 8).unwrap();
    let id = old.conversation;
    let may = |who, role| {
        readers
            .ask(move |reader| {
                let row = reader.conversation_row(id)?.unwrap();
                reader.may_read(who, role, &row)
            })
            .unwrap()
            .wait()
            .unwrap()
    };
    assert!(may(lin, Role::Agent) && may(wu, Role::Agent));
    assert!(!may(support::id(902), Role::Agent));
    assert!(may(support::id(902), Role::Supervisor));
    assert!(may(old.visitor, Role::Visitor) && !may(lin, Role::Visitor));
    now.status = Status::Closed;
    store
        .submit(&WriteSet {
            conversations: vec![now],
            ..WriteSet::default()
        })
        .unwrap();
    assert!(!may(lin, Role::Agent));
}
