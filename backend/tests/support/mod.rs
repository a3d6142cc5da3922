//! Fixtures: rows as the engine would write them, and a store in a directory of its own.
#![expect(dead_code, reason = "each test file uses its part")]
#![expect(clippy::unwrap_used, reason = "a fixture that breaks fails its test")]

pub mod backend;
pub mod client;
pub mod worker;

use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_backend::config::{Config, Synchronous};
use tidegate_backend::engine::kinds::{CloseReason, Content, Role, Status, SystemEvent};
use tidegate_backend::engine::rows::{ConversationRow, MessageRow, SessionLastRow, VisitorRow};
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::load::LoadBounds;
use tidegate_backend::store::open::Place;
use tidegate_backend::store::{SqliteStore, StoreOptions};
use tidegate_protocol::Id;

/// Any time that is not 0.
pub const NOW_US: u64 = 1_795_264_496_000_000;

/// Waits until something is so; fails the test if it never is.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(
            Instant::now() < deadline,
            "waited 20 s in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn place(dir: &Path) -> Place {
    Place {
        path: dir.join("tidegate.db"),
        vfs: None,
        busy_ms_max: 20,
        cache_bytes: 1 << 20,
        mmap_bytes: 0,
    }
}

pub fn options(dir: &Path) -> StoreOptions {
    StoreOptions {
        place: place(dir),
        synchronous: Synchronous::Normal,
        wal_bytes_max: 64 << 20,
        checkpoint_every_ms: 0,
        bounds: LoadBounds {
            window_bytes_max: 1 << 20,
            sessions_max: 1_000,
        },
        outbox_rows_max: 1_000,
        site_id: 1,
        now_us: NOW_US,
        random: 0x1234_5678_9abc_def0,
        boot_id: "boot-a".to_owned(),
    }
}

pub fn config(dir: &TempDir) -> Config {
    Config {
        data_dir: dir.path().to_owned(),
        ..Config::default()
    }
}

pub fn open(dir: &TempDir) -> SqliteStore {
    SqliteStore::open(&options(dir.path())).expect("the store opens")
}

pub const fn id(n: u128) -> Id {
    // Made at a time of 2026, so that ranges by time find them.
    Id((1_795_264_496_000 << 80) + n)
}

/// What the first message of a visitor writes, and what every further one does.
#[derive(Debug, Clone)]
pub struct Chat {
    pub conversation: Id,
    pub visitor: Id,
    pub seq: u64,
}

impl Chat {
    pub fn new(n: u128) -> Self {
        Self {
            conversation: id(n),
            visitor: id(1_000_000 + n),
            seq: 0,
        }
    }

    pub fn row(&self, status: Status) -> ConversationRow {
        ConversationRow {
            site_id: 1,
            id: self.conversation,
            widget: 1,
            visitor: self.visitor,
            status,
            close_reason: if status == Status::Closed {
                CloseReason::ByVisitor
            } else {
                CloseReason::None
            },
            agent: None,
            opened_at_us: NOW_US,
            assigned_at_us: 0,
            first_assigned_at_us: 0,
            closed_at_us: if status == Status::Closed {
                NOW_US + 1
            } else {
                0
            },
            queue_order: 1,
            page: "https://shop.example/".to_owned(),
            synthetic: false,
        }
    }

    pub fn begin(&self) -> WriteSet {
        WriteSet {
            at_us: NOW_US,
            visitors: vec![VisitorRow {
                site_id: 1,
                id: self.visitor,
                widget: 1,
                name: "王小明".to_owned(),
                created_at_us: NOW_US,
                locale: "zh-CN".to_owned(),
                family: 0,
            }],
            conversations: vec![self.row(Status::Waiting)],
            ..WriteSet::default()
        }
    }

    /// One more text by the visitor; its n is its seq.
    pub fn say(&mut self, set: &mut WriteSet, text: &str) {
        self.seq += 1;
        let sender_name = set.push_text("王小明");
        let range = set.push_text(text);
        set.messages.push(MessageRow {
            site_id: 1,
            conversation: self.conversation,
            seq: self.seq,
            at_us: NOW_US + self.seq,
            sender_role: Role::Visitor,
            sender: Some(self.visitor),
            sender_name,
            session: u64::MAX - 5,
            n: self.seq,
            body_hash: u64::MAX,
            content: Content::Text,
            text: range,
            system: SystemEvent::None,
            close_reason: CloseReason::None,
        });
        set.sessions = vec![SessionLastRow {
            site_id: 1,
            principal: self.visitor,
            session: u64::MAX - 5,
            last_n: self.seq,
            last_hash: u64::MAX,
            last_conversation: self.conversation,
            last_seq: self.seq,
            last_at_us: NOW_US + self.seq,
        }];
    }
}
