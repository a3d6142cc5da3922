//! What is submitted is there after a restart, once and in order; what must not happen fails the commit.

mod support;

use std::process::{Command, Stdio};

use support::{Chat, NOW_US, open, options};
use tidegate_backend::config::Synchronous;
use tidegate_backend::engine::kinds::{AgentStatus, Role, Status};
use tidegate_backend::engine::rows::{
    AgentRow, AgentStatusRow, CannedReplyRow, IdempotencyKeyRow, MarksRow, MetaRow, OutboxRow,
    QuarantineRow, RingCursorRow, WidgetRow,
};
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::{CommitError, Index, SqliteStore, Store, StoreOptions};

fn marks(chat: &Chat, visitor: u64, agent: u64) -> MarksRow {
    MarksRow {
        site_id: 1,
        conversation: chat.conversation,
        visitor_delivered: visitor,
        visitor_read: visitor,
        agent_delivered: agent,
        agent_read: agent,
    }
}

#[test]
fn a_chat_is_loaded_as_it_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    let mut set = chat.begin();
    chat.say(&mut set, "你好");
    chat.say(&mut set, "is anybody there?");
    set.marks.push(marks(&chat, 2, 1));
    assert_eq!(store.submit(&set).unwrap(), Index(1));
    assert_eq!(store.durable(), Index(1));
    drop(store);

    let loaded = open(&dir).load().unwrap();
    let conversation = &loaded.conversations[0];
    assert_eq!(conversation.row, chat.row(Status::Waiting));
    assert_eq!(
        (conversation.seq, conversation.last_text.as_str()),
        (2, "is anybody there?")
    );
    assert_eq!(conversation.unanswered_since_us, NOW_US + 1);
    assert_eq!(
        (
            conversation.pending.to_visitor,
            conversation.pending.to_agent
        ),
        (0, 1)
    );
    assert_eq!(conversation.marks, marks(&chat, 2, 1));
    assert_eq!(loaded.visitors, set.visitors);
    assert_eq!(loaded.sessions, set.sessions);
    let texts: Vec<_> = loaded
        .messages
        .iter()
        .map(|message| {
            (
                message.seq,
                &loaded.text[message.text.start as usize..][..message.text.bytes as usize],
            )
        })
        .collect();
    assert_eq!(texts, [(2, "is anybody there?")], "what a side lacks");
    assert_eq!(
        (loaded.messages[0].session, loaded.messages[0].body_hash),
        (u64::MAX - 5, u64::MAX)
    );
    assert_eq!(
        (
            loaded.ledger.to_agent.accepted,
            loaded.ledger.to_agent.delivered,
            loaded.ledger.to_agent.pending
        ),
        (2, 1, 1)
    );
    assert!(loaded.clock_floor_us >= NOW_US + 2);
    assert!(loaded.widgets.iter().any(|widget| widget.key == "default"));
}

#[test]
fn every_kind_of_row_goes_round() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let agent = AgentRow {
        site_id: 1,
        id: support::id(7),
        login: "lin".to_owned(),
        name: "小林".to_owned(),
        role: Role::Supervisor,
        capacity: 4,
        disabled: false,
        password_hash: "$argon2id$".to_owned(),
        tokens_valid_from_s: 9,
        created_at_us: NOW_US,
    };
    let set = WriteSet {
        meta: vec![MetaRow {
            key: "hlc_ceiling".to_owned(),
            value: u64::MAX - 1,
        }],
        widgets: vec![WidgetRow {
            site_id: 1,
            id: 2,
            key: "shop".to_owned(),
            name: "Shop".to_owned(),
            greeting: "你好".to_owned(),
            accent: "#123".to_owned(),
            allowed_origins: vec!["https://shop.example".to_owned()],
            settings_json: "{\"locale\":\"zh\"}".to_owned(),
        }],
        agents: vec![agent.clone()],
        agent_statuses: vec![AgentStatusRow {
            site_id: 1,
            agent: agent.id,
            status: AgentStatus::Away,
            hlc: 5,
            node: 1,
        }],
        canned_replies: vec![CannedReplyRow {
            site_id: 1,
            id: support::id(8),
            agent: None,
            shortcut: "hi".to_owned(),
            text: "Hello".to_owned(),
            deleted: false,
        }],
        idempotency_keys: vec![IdempotencyKeyRow {
            site_id: 1,
            principal: support::id(9),
            key_hash: u128::MAX,
            body_hash: u64::MAX,
            conversation: support::id(10),
            seq: 3,
            at_us: NOW_US,
        }],
        outbox: vec![OutboxRow {
            site_id: 1,
            id: support::id(11),
            at_us: NOW_US,
            kind: "conversation.opened".to_owned(),
            conversation: support::id(10),
            payload_json: "{}".to_owned(),
        }],
        quarantine: vec![QuarantineRow {
            site_id: 1,
            id: support::id(12),
            at_us: NOW_US,
            gateway: u64::MAX,
            shard: 3,
            position: 77,
            principal: support::id(9),
            error: "broke".to_owned(),
            input_json: "{}".to_owned(),
        }],
        ring_cursors: vec![
            RingCursorRow {
                gateway: u64::MAX - 3,
                shard: 0,
                position: 4096,
            },
            RingCursorRow {
                gateway: 5,
                shard: 1,
                position: 64,
            },
        ],
        ..WriteSet::default()
    };
    store.submit(&set).unwrap();
    store
        .submit(&WriteSet {
            gateways_gone: vec![5],
            ..WriteSet::default()
        })
        .unwrap();
    let key = store.idempotency_key(support::id(9), u128::MAX).unwrap();
    assert_eq!(key, Some(set.idempotency_keys[0]));
    drop(store);

    let loaded = open(&dir).load().unwrap();
    assert_eq!(loaded.agents, set.agents);
    assert_eq!(loaded.agent_statuses, set.agent_statuses);
    assert_eq!(loaded.canned_replies, set.canned_replies);
    assert!(loaded.widgets.contains(&set.widgets[0]));
    assert!(loaded.meta.contains(&set.meta[0]));
    assert_eq!(loaded.ring_cursors, set.ring_cursors[..1]);
}

#[test]
fn marks_and_presence_never_go_back_whatever_the_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let chat = Chat::new(1);
    let status = |status, hlc, node| AgentStatusRow {
        site_id: 1,
        agent: support::id(7),
        status,
        hlc,
        node,
    };
    let mut set = chat.begin();
    set.marks = vec![marks(&chat, 5, 7)];
    set.agent_statuses = vec![status(AgentStatus::Online, 9, 2)];
    store.submit(&set).unwrap();
    let older = WriteSet {
        marks: vec![marks(&chat, 3, 9)],
        agent_statuses: vec![
            status(AgentStatus::Offline, 9, 1),
            status(AgentStatus::Away, 8, 9),
        ],
        ..WriteSet::default()
    };
    store.submit(&older).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.conversations[0].marks, marks(&chat, 5, 9));
    assert_eq!(loaded.agent_statuses[0].status, AgentStatus::Online);
}

#[test]
fn a_message_id_or_a_seq_used_twice_fails_the_commit_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    let mut set = chat.begin();
    chat.say(&mut set, "first");
    store.submit(&set).unwrap();

    let mut again = WriteSet::default();
    chat.say(&mut again, "second");
    again.messages[0].n = 1;
    again.sessions[0].last_n = 1;
    again.meta.push(MetaRow {
        key: "traces".to_owned(),
        value: 1,
    });
    let error = store.submit(&again).unwrap_err();
    assert!(matches!(error, CommitError::Fatal(_)), "{error}");
    assert!(!error.passes());
    let loaded = store.load().unwrap();
    assert_eq!(loaded.conversations[0].seq, 1);
    assert!(
        loaded.meta.iter().all(|row| row.key != "traces"),
        "half of a refused set was stored"
    );

    // And a seq that is taken, under a new id.
    let mut seq_again = WriteSet::default();
    chat.say(&mut seq_again, "third");
    seq_again.messages[0].seq = 1;
    assert!(matches!(
        store.submit(&seq_again),
        Err(CommitError::Fatal(_))
    ));
}

#[test]
fn a_visitor_cannot_have_two_open_conversations_even_if_the_engine_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let chat = Chat::new(1);
    store.submit(&chat.begin()).unwrap();
    let other = Chat {
        conversation: support::id(2),
        ..chat.clone()
    };
    let second = WriteSet {
        conversations: vec![other.row(Status::Waiting)],
        ..WriteSet::default()
    };
    assert!(matches!(store.submit(&second), Err(CommitError::Fatal(_))));
    let closed = WriteSet {
        conversations: vec![chat.row(Status::Closed)],
        ..WriteSet::default()
    };
    store.submit(&closed).unwrap();
    store.submit(&second).unwrap();
}

#[test]
fn old_facts_are_found_by_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut chat = Chat::new(1);
    let mut set = chat.begin();
    for n in 1..=5 {
        chat.say(&mut set, &format!("text {n}"));
    }
    set.conversations = vec![chat.row(Status::Closed)];
    store.submit(&set).unwrap();
    let sent = store.sent(chat.visitor, u64::MAX - 5, 3).unwrap().unwrap();
    assert_eq!(
        (sent.conversation, sent.seq, sent.body_hash),
        (chat.conversation, 3, u64::MAX)
    );
    assert_eq!(
        store.sent(support::id(99), u64::MAX - 5, 3).unwrap(),
        None,
        "another's session of the same number"
    );
    assert_eq!(store.sent(chat.visitor, u64::MAX - 5, 6).unwrap(), None);
    assert_eq!(
        store
            .session(chat.visitor, u64::MAX - 5)
            .unwrap()
            .unwrap()
            .last_n,
        5
    );
    assert_eq!(store.session(chat.visitor, 1).unwrap(), None);
    let conversation = store.conversation(chat.conversation).unwrap().unwrap();
    assert_eq!((conversation.seq, conversation.pending.to_agent), (5, 5));
    assert_eq!(store.conversation(support::id(99)).unwrap(), None);
    assert_eq!(store.visitor(chat.visitor).unwrap().unwrap().name, "王小明");
    let pending = store.pending(chat.conversation, 1, 4).unwrap();
    assert_eq!((pending.to_visitor, pending.to_agent), (0, 3));
}

#[test]
fn an_agents_repeat_is_found_in_another_of_their_conversations_and_a_far_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let agent = support::id(500);
    let mut chats = [Chat::new(1), Chat::new(2)];
    // One session of the agent's, n counting over both conversations in turn.
    for n in 1..=600_u64 {
        let chat = &mut chats[usize::from(n % 2 == 0)];
        let mut set = if n <= 2 {
            chat.begin()
        } else {
            WriteSet::default()
        };
        chat.say(&mut set, "x");
        for row in &mut set.conversations {
            row.status = Status::Chatting;
            row.agent = Some(agent);
        }
        let message = &mut set.messages[0];
        (message.sender, message.session, message.n) = (Some(agent), 7, n);
        message.sender_role = Role::Agent;
        let last = &mut set.sessions[0];
        (last.principal, last.session, last.last_n) = (agent, 7, n);
        store.submit(&set).unwrap();
    }
    let found = |store: &mut SqliteStore, n| store.sent(agent, 7, n).unwrap();
    let other = found(&mut store, 597).unwrap();
    assert_eq!(
        (other.conversation, other.seq),
        (chats[0].conversation, 299)
    );
    let same = found(&mut store, 596).unwrap();
    assert_eq!((same.conversation, same.seq), (chats[1].conversation, 298));
    assert_eq!(found(&mut store, 1), None, "too far back to look for");
    assert_eq!(found(&mut store, 601), None);
}

#[test]
fn the_window_is_bounded_and_has_no_hole() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    for n in 1..=20 {
        let mut chat = Chat::new(n);
        let mut set = chat.begin();
        for _ in 0..100 {
            chat.say(&mut set, &"x".repeat(100));
        }
        // Each visitor has sessions of their own number space, so the ids differ by sender.
        store.submit(&set).unwrap();
    }
    drop(store);
    let small = StoreOptions {
        bounds: tidegate_backend::store::load::LoadBounds {
            window_bytes_max: 100_000,
            sessions_max: 3,
        },
        ..options(dir.path())
    };
    let loaded = SqliteStore::open(&small).unwrap().load().unwrap();
    assert!(loaded.text.len() < 100_000);
    assert_eq!(loaded.sessions.len(), 3);
    assert!(!loaded.messages.is_empty());
    for pair in loaded.messages.windows(2) {
        assert!(pair[0].conversation < pair[1].conversation || pair[0].seq + 1 == pair[1].seq);
    }
    let last = loaded.messages.last().unwrap();
    assert_eq!(
        (last.conversation, last.seq),
        (support::id(20), 100),
        "the newest conversation comes first"
    );
}

#[test]
fn a_start_loads_a_bounded_number_of_messages_and_of_those_who_spoke_last() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    let mut spoke_last = Chat::new(1);
    store.submit(&spoke_last.begin()).unwrap();
    for n in 2..=400 {
        let mut chat = Chat::new(n);
        let mut set = chat.begin();
        for _ in 0..70 {
            chat.say(&mut set, "x");
        }
        store.submit(&set).unwrap();
    }
    let mut set = WriteSet::default();
    for _ in 0..80 {
        spoke_last.say(&mut set, "y");
    }
    store.submit(&set).unwrap();
    drop(store);
    let roomy = StoreOptions {
        bounds: tidegate_backend::store::load::LoadBounds {
            window_bytes_max: 64 << 20,
            sessions_max: 1_000,
        },
        ..options(dir.path())
    };
    let loaded = SqliteStore::open(&roomy).unwrap().load().unwrap();
    assert_eq!(loaded.ledger.total().pending, 399 * 70 + 80);
    assert!(
        (16_000..=16_384).contains(&loaded.messages.len()),
        "{} messages were loaded",
        loaded.messages.len()
    );
    let first = loaded.messages.first().unwrap();
    assert_eq!(
        (first.conversation, first.seq),
        (spoke_last.conversation, 17)
    );
}

#[test]
fn the_outbox_is_bounded_and_its_oldest_events_leave_first() {
    let dir = tempfile::tempdir().unwrap();
    let bounded = StoreOptions {
        outbox_rows_max: 10,
        ..options(dir.path())
    };
    let event = |n| OutboxRow {
        site_id: 1,
        id: support::id(n),
        at_us: NOW_US,
        kind: "conversation.opened".to_owned(),
        conversation: support::id(1),
        payload_json: "{}".to_owned(),
    };
    let kept = || -> (i64, Vec<u8>) {
        let connection = rusqlite::Connection::open(dir.path().join("tidegate.db")).unwrap();
        let sql = "SELECT count(*), min(id) FROM outbox";
        let found = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
        found.unwrap()
    };
    // Also over a restart: the rows are counted, not remembered.
    for half in [0..12, 12..25] {
        let mut store = SqliteStore::open(&bounded).unwrap();
        for n in half.clone() {
            let outbox = vec![event(2 * n), event(2 * n + 1)];
            store
                .submit(&WriteSet {
                    outbox,
                    ..WriteSet::default()
                })
                .unwrap();
        }
        let oldest = support::id(2 * half.end - 10).0.to_be_bytes().to_vec();
        assert_eq!(kept(), (10, oldest));
    }
}

#[test]
fn the_database_and_its_log_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(&dir);
    store.submit(&Chat::new(1).begin()).unwrap();
    for name in ["tidegate.db", "tidegate.db-wal", "tidegate.db-shm"] {
        let mode = std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_second_owner_ends_the_first_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(&dir);
    let mut second = open(&dir);
    let error = first.submit(&Chat::new(1).begin()).unwrap_err();
    assert!(
        matches!(&error, CommitError::Broken(why) if why.contains("owner")),
        "{error}"
    );
    second.submit(&Chat::new(1).begin()).unwrap();
}

#[test]
fn the_incarnation_changes_only_when_power_may_have_been_lost_under_normal() {
    let dir = tempfile::tempdir().unwrap();
    let incarnation = |boot: &str, synchronous, random| {
        let options = StoreOptions {
            boot_id: boot.to_owned(),
            synchronous,
            random,
            ..options(dir.path())
        };
        let mut store = SqliteStore::open(&options).unwrap();
        let found = store.load().unwrap().incarnation;
        (store, found)
    };
    let (store, first) = incarnation("a", Synchronous::Normal, u64::MAX / 3);
    assert!(first > 0 && first < 1 << 53);
    drop(store);
    // A crash of the process alone.
    let (store, second) = incarnation("a", Synchronous::Normal, 7 << 40);
    assert_eq!(second, first);
    drop(store);
    // Another boot, after a crash under NORMAL.
    let (store, third) = incarnation("b", Synchronous::Full, 9 << 40);
    assert_ne!(third, first);
    assert!(store.history_may_be_lost());
    drop(store);
    // Another boot, after a crash under FULL.
    let (store, fourth) = incarnation("c", Synchronous::Normal, 11 << 40);
    assert_eq!(fourth, third);
    store.close().unwrap();
    // Another boot, after a clean end.
    let (store, fifth) = incarnation("d", Synchronous::Normal, 13 << 40);
    assert_eq!(fifth, third);
    assert!(!store.history_may_be_lost());
}

#[test]
fn the_log_is_emptied_at_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let bounded = StoreOptions {
        wal_bytes_max: 1 << 20,
        checkpoint_every_ms: 5,
        ..options(dir.path())
    };
    let mut store = SqliteStore::open(&bounded).unwrap();
    let counters = store.checkpoint_counters().unwrap();
    let mut chat = Chat::new(1);
    store.submit(&chat.begin()).unwrap();
    support::until("the log was emptied", || {
        let mut set = WriteSet::default();
        for _ in 0..200 {
            chat.say(&mut set, &"长".repeat(100));
        }
        // The checkpointer may hold the writer for a moment: that passes.
        while let Err(error) = store.submit(&set) {
            assert!(error.passes(), "{error}");
        }
        counters.emptied.load(std::sync::atomic::Ordering::Relaxed) > 0
    });
    assert_eq!(store.load().unwrap().conversations[0].seq, chat.seq);
    store.close().unwrap();
    let log = dir.path().join("tidegate.db-wal");
    assert!(std::fs::metadata(log).map_or(0, |found| found.len()) == 0);
}

#[test]
fn a_reader_that_stays_keeps_the_log_and_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let bounded = StoreOptions {
        wal_bytes_max: 1 << 20,
        checkpoint_every_ms: 5,
        ..options(dir.path())
    };
    let mut store = SqliteStore::open(&bounded).unwrap();
    let counters = store.checkpoint_counters().unwrap();
    let mut chat = Chat::new(1);
    store.submit(&chat.begin()).unwrap();
    let reader = store.place().open_reader().unwrap();
    let snapshot = reader.unchecked_transaction().unwrap();
    let messages = || -> i64 {
        snapshot
            .query_row("SELECT count(*) FROM message", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(messages(), 0);
    let count = |of: &std::sync::atomic::AtomicU64| of.load(std::sync::atomic::Ordering::Relaxed);
    let mut say = |until: &dyn Fn() -> bool| {
        support::until("the checkpointer has looked", || {
            let mut set = WriteSet::default();
            for _ in 0..2_000 {
                chat.say(&mut set, &"长".repeat(500));
            }
            while let Err(error) = store.submit(&set) {
                assert!(error.passes(), "{error}");
            }
            until()
        });
    };
    // Up to the bound of what is worth a stop it may still try in vain; beyond it the writer is left alone.
    say(&|| count(&counters.held) > 0);
    assert_eq!(count(&counters.emptied), 0);
    assert_eq!(messages(), 0);
    snapshot.finish().unwrap();
    say(&|| count(&counters.emptied) > 0);
    store.close().unwrap();
}

/// Run by the test below in a process of its own, which is then killed.
#[test]
#[ignore = "the child of the next test"]
fn child_that_submits_until_it_is_killed() {
    let Ok(dir) = std::env::var("TIDEGATE_TEST_DIR") else {
        return;
    };
    let dir = std::path::PathBuf::from(dir);
    let mut store = SqliteStore::open(&StoreOptions {
        checkpoint_every_ms: 1,
        ..options(&dir)
    })
    .unwrap();
    let mut chat = Chat::new(1);
    match store.load().unwrap().conversations.first() {
        Some(conversation) => chat.seq = conversation.seq,
        None => {
            store.submit(&chat.begin()).unwrap();
        }
    }
    loop {
        let mut set = WriteSet::default();
        chat.say(&mut set, "x");
        chat.say(&mut set, "y");
        while store.submit(&set).is_err() {}
        println!("acknowledged {}", chat.seq);
    }
}

#[test]
fn what_was_acknowledged_survives_kill_nine() {
    use std::io::{BufRead, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_submits_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("TIDEGATE_TEST_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = 0;
        while let Some(Ok(line)) = lines.next() {
            // The test runner writes its own words before the first one.
            if let Some((_, seq)) = line.split_once("acknowledged ") {
                acknowledged = seq.parse().unwrap();
                told += 1;
            }
            if told == 20 + round * 7 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let mut store = open(&dir);
        let seq = store.load().unwrap().conversations[0].seq;
        assert!(
            seq >= acknowledged,
            "acknowledged up to {acknowledged}, stored up to {seq}"
        );
        assert_eq!(seq % 2, 0, "half a turn was stored");
        drop(store);
        let check: String = rusqlite::Connection::open(dir.path().join("tidegate.db"))
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
        assert_eq!(check, "ok");
    }
}
