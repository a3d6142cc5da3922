//! What the ledger and old repeats cost: a commit with and without the ledger's row, a recount, a search.
//!
//! `cargo run --profile fast -p tidegate-backend --example ledger_cost -- [MESSAGES]` (1,000,000 by default)

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement says what it found, or stops"
)]

use std::path::Path;
use std::time::Instant;

use tidegate_backend::config::Synchronous;
use tidegate_backend::engine::kinds::{CloseReason, Content, Role, Status, SystemEvent};
use tidegate_backend::engine::ledger::{Account, Ledger};
use tidegate_backend::engine::rows::{
    ConversationRow, LedgerRow, MessageRow, RingCursorRow, SessionLastRow,
};
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::load::LoadBounds;
use tidegate_backend::store::open::Place;
use tidegate_backend::store::read::Reader;
use tidegate_backend::store::{SqliteStore, Store, StoreOptions, recount_at};
use tidegate_protocol::Id;

const TEXT: &str = "我的包裹到哪里了？订单号 20261111-4711，谢谢。 Where is my parcel, please?";
/// Conversations that are written to in turn.
const CONVERSATIONS: u64 = 1_000;

fn options(path: &Path) -> StoreOptions {
    StoreOptions {
        place: Place {
            path: path.to_owned(),
            vfs: None,
            busy_ms_max: 1_000,
            cache_bytes: 64 << 20,
            mmap_bytes: 0,
        },
        synchronous: Synchronous::Normal,
        wal_bytes_max: 128 << 20,
        checkpoint_every_ms: 500,
        bounds: LoadBounds {
            window_bytes_max: 1 << 20,
            sessions_max: 1_000,
        },
        outbox_rows_max: 1_000,
        site_id: 1,
        now_us: 1,
        random: 1,
        boot_id: "x".into(),
    }
}

/// Appends one visitor's text to a turn.
fn say(set: &mut WriteSet, conversation: u64, seq: u64) {
    let (principal, session) = (
        Id(u128::from(conversation) + 1_000_000_000),
        conversation + 1,
    );
    let text = set.push_text(TEXT);
    let sender_name = set.push_text("");
    set.messages.push(MessageRow {
        site_id: 1,
        conversation: Id(u128::from(conversation) + 1),
        seq,
        at_us: seq,
        sender_role: Role::Visitor,
        sender: Some(principal),
        sender_name,
        session,
        n: seq,
        body_hash: seq,
        content: Content::Text,
        text,
        system: SystemEvent::None,
        close_reason: CloseReason::None,
    });
    set.sessions.push(SessionLastRow {
        site_id: 1,
        principal,
        session,
        last_n: seq,
        last_hash: seq,
        last_conversation: Id(u128::from(conversation) + 1),
        last_seq: seq,
        last_at_us: seq,
    });
}

fn begin(conversations: u64) -> WriteSet {
    let mut set = WriteSet::default();
    for n in 0..conversations {
        set.conversations.push(ConversationRow {
            site_id: 1,
            id: Id(u128::from(n) + 1),
            widget: 1,
            visitor: Id(u128::from(n) + 1_000_000_000),
            status: Status::Waiting,
            close_reason: CloseReason::None,
            agent: None,
            opened_at_us: 1,
            assigned_at_us: 0,
            first_assigned_at_us: 0,
            closed_at_us: 0,
            queue_order: 1,
            page: String::new(),
            synthetic: false,
        });
    }
    set
}

/// µs of a commit of a turn with so many messages, as the engine writes them; the ledger's row with it, or not.
fn commit_us(
    store: &mut SqliteStore,
    messages: u64,
    turns: u64,
    ledger: bool,
    at: &mut u64,
) -> f64 {
    let mut spent_us = 0.0;
    for _ in 0..turns {
        let mut set = WriteSet::default();
        for _ in 0..messages {
            say(&mut set, *at % CONVERSATIONS, *at / CONVERSATIONS + 1);
            *at += 1;
        }
        set.ring_cursors.push(RingCursorRow {
            gateway: 1,
            shard: 0,
            position: *at,
        });
        set.ledger = ledger.then(|| LedgerRow {
            site_id: 1,
            at_us: *at,
            ledger: Ledger {
                to_agent: Account {
                    accepted: *at,
                    delivered: 0,
                    pending: *at,
                    expired: 0,
                },
                ..Ledger::default()
            },
        });
        let began = Instant::now();
        store.submit(&set).unwrap();
        spent_us += began.elapsed().as_secs_f64() * 1e6;
    }
    spent_us / turns as f64
}

fn main() {
    let messages: u64 = std::env::args()
        .nth(1)
        .map_or(1_000_000, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tidegate.db");
    let mut store = SqliteStore::open(&options(&path)).unwrap();
    store.submit(&begin(CONVERSATIONS)).unwrap();
    let mut at = 0;
    commit_us(&mut store, 1, 2_000, true, &mut at);
    for size in [1, 16, 256] {
        let turns = 4_096 / size;
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..9 {
            without.push(commit_us(&mut store, size, turns, false, &mut at));
            with.push(commit_us(&mut store, size, turns, true, &mut at));
        }
        let median = |found: &mut Vec<f64>| {
            found.sort_by(f64::total_cmp);
            found[found.len() / 2]
        };
        println!(
            "commit of {size:>3} messages: {:>7.1} µs without the ledger's row, {:>7.1} µs with it",
            median(&mut without),
            median(&mut with)
        );
    }
    while at < messages {
        commit_us(&mut store, 4_096, 1, true, &mut at);
    }
    // One long conversation, whose visitor wrote every other text at first and nothing in its second half.
    let long = CONVERSATIONS + 1;
    let mut set = begin(0);
    for seq in 1..=100_000 {
        say(
            &mut set,
            if seq % 2 == 0 || seq > 50_000 {
                long + 1
            } else {
                long
            },
            seq,
        );
        let place = set.messages.len() - 1;
        set.messages[place].conversation = Id(u128::from(long) + 1);
        set.sessions.clear();
    }
    store.submit(&set).unwrap();
    store.checkpoint().unwrap();
    for _ in 0..2 {
        let began = Instant::now();
        let found = recount_at(&path).unwrap();
        println!(
            "recount of {} texts: {:.2} s",
            found.ledger.total().accepted,
            began.elapsed().as_secs_f64()
        );
    }
    let reader = Reader::new(options(&path).place.open_reader().unwrap(), 1);
    let (who, session) = (Id(u128::from(long) + 1_000_000_000), long + 1);
    for n in [1, 25_001, 49_999] {
        let began = Instant::now();
        let found = reader
            .sent(who, session, n, Some(Id(u128::from(long) + 1)))
            .unwrap();
        println!(
            "search for n = {n} in 100,000 messages: seq {:?}, {:.0} µs",
            found.map(|sent| sent.seq),
            began.elapsed().as_secs_f64() * 1e6
        );
    }
    store.close().unwrap();
}
