//! Messages that left the window, and first answers to repeats of long ago: read by reader threads, never by the turn.

use tidegate_protocol::Id;

use crate::engine::connections::{Address, ConnectionKey};
use crate::engine::conversation::ConversationKey;
use crate::engine::effect::Repeat;
use crate::engine::loaded::Sent;
use crate::engine::rows::{MessageRow, TextRange};

/// Messages in one page.
pub const COLD_PAGE_MESSAGES_MAX: u32 = 128;

/// One page that a connection needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ColdRequest {
    /// For whom.
    pub connection: ConnectionKey,
    /// The key may be another connection's when the page comes: this tells.
    pub address: Address,
    /// Of what.
    pub conversation: ConversationKey,
    /// Of what, by id.
    pub id: Id,
    /// Everything up to here is had already.
    pub after: u64,
}

/// A page, ascending and without a hole from `request.after + 1`; empty when it could not be read.
#[derive(Debug, Default)]
pub struct ColdPage {
    /// What was asked.
    pub request: Option<ColdRequest>,
    /// The messages.
    pub messages: Vec<MessageRow>,
    /// What their ranges point into.
    pub text: String,
}

impl ColdPage {
    /// A text of one of the messages.
    #[must_use]
    pub fn text(&self, range: TextRange) -> &str {
        self.text
            .get(range.start as usize..(range.start + range.bytes) as usize)
            .unwrap_or_default()
    }
}

/// What was found for it; `None`: nothing, or it could not be read.
pub type FirstAnswer = (Repeat, Option<Sent>);

/// Reads pages somewhere else.
pub trait ColdReader {
    /// Looks for a first answer. False: too many are being looked for; the client is told to come again.
    fn search(&mut self, _repeat: Repeat) -> bool {
        false
    }
    /// A first answer that is ready.
    fn take_first_answer(&mut self) -> Option<FirstAnswer> {
        None
    }
    /// Asks for a page. False: too many are being read; ask again later.
    fn request(&mut self, request: ColdRequest) -> bool;
    /// A page that is ready.
    fn take(&mut self) -> Option<ColdPage>;
    /// Whether `take` would give one.
    fn is_ready(&self) -> bool;
}

/// Over the store's reader threads: a page comes back through a bounded channel and rings the turn's bell.
pub struct ReaderPool {
    readers: crate::store::Readers,
    done: crossbeam::channel::Sender<ColdPage>,
    pages: crossbeam::channel::Receiver<ColdPage>,
    wake: crate::app::handle::Wake,
    reading: usize,
    answered: crossbeam::channel::Sender<FirstAnswer>,
    answers: crossbeam::channel::Receiver<FirstAnswer>,
    searching: usize,
}

/// Pages being read at once; connections beyond it wait as keys.
const PAGES_READING_MAX: usize = 64;
/// Repeats being looked for at once; those beyond it are answered `busy`.
const SEARCHES_MAX: usize = 64;

impl ReaderPool {
    /// Over these readers.
    #[must_use]
    pub fn new(readers: crate::store::Readers, wake: crate::app::handle::Wake) -> Self {
        let (done, pages) = crossbeam::channel::bounded(PAGES_READING_MAX);
        let (answered, answers) = crossbeam::channel::bounded(SEARCHES_MAX);
        Self {
            readers,
            done,
            pages,
            wake,
            reading: 0,
            answered,
            answers,
            searching: 0,
        }
    }
}

impl ColdReader for ReaderPool {
    fn request(&mut self, request: ColdRequest) -> bool {
        if self.reading >= PAGES_READING_MAX {
            return false;
        }
        let (done, wake) = (self.done.clone(), self.wake.clone());
        let (id, after) = (request.id, request.after);
        let asked = self.readers.ask_then(
            move |reader| reader.history(id, crate::store::read::Direction::After(after), COLD_PAGE_MESSAGES_MAX),
            move |found| {
                let page = found.unwrap_or_else(|error| {
                    tracing::warn!(%error, conversation = %id, "a page of history could not be read");
                    crate::store::read::HistoryPage::default()
                });
                // There is room: no more are being read than the channel holds.
                let _ = done.send(ColdPage { request: Some(request), messages: page.messages, text: page.text });
                wake();
            },
        );
        self.reading += usize::from(asked.is_ok());
        asked.is_ok()
    }

    fn take(&mut self) -> Option<ColdPage> {
        let page = self.pages.try_recv().ok()?;
        self.reading -= 1;
        Some(page)
    }

    fn search(&mut self, repeat: Repeat) -> bool {
        if self.searching >= SEARCHES_MAX {
            return false;
        }
        let (answered, wake) = (self.answered.clone(), self.wake.clone());
        let Repeat {
            principal,
            session,
            n,
            conversation,
            ..
        } = repeat;
        let asked = self.readers.ask_then(
            move |reader| reader.sent(principal, session, n, conversation),
            move |found| {
                let found = found.unwrap_or_else(|error| {
                    tracing::warn!(%error, "the first answer to a repeat could not be looked for");
                    None
                });
                // There is room: no more are being looked for than the channel holds.
                let _ = answered.send((repeat, found));
                wake();
            },
        );
        self.searching += usize::from(asked.is_ok());
        asked.is_ok()
    }

    fn take_first_answer(&mut self) -> Option<FirstAnswer> {
        let found = self.answers.try_recv().ok()?;
        self.searching -= 1;
        Some(found)
    }

    fn is_ready(&self) -> bool {
        !self.pages.is_empty() || !self.answers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::config::Config;
    use crate::engine::kinds::{CloseReason, Content, Role, SystemEvent};
    use crate::engine::write_set::WriteSet;
    use crate::store::{Readers, SqliteStore, Store, StoreOptions};

    fn row(writes: &mut WriteSet, seq: u64) -> MessageRow {
        MessageRow {
            site_id: 1,
            conversation: Id(7),
            seq,
            at_us: seq,
            sender_role: Role::Visitor,
            sender: Some(Id(1)),
            sender_name: TextRange::default(),
            session: 1,
            n: seq,
            body_hash: 0,
            content: Content::Text,
            text: writes.push_text(&format!("m{seq}")),
            system: SystemEvent::None,
            close_reason: CloseReason::None,
        }
    }

    #[test]
    fn pages_come_from_reader_threads_ring_the_bell_and_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: directory.path().to_owned(),
            ..Config::default()
        };
        let mut store = SqliteStore::open(&StoreOptions::from_config(&config).unwrap()).unwrap();
        let mut writes = WriteSet::default();
        for seq in 1..=300 {
            let row = row(&mut writes, seq);
            writes.messages.push(row);
        }
        store.submit(&writes).unwrap();
        let readers = Readers::start(store.place(), 1, 2, 1_000).unwrap();
        let rung = Arc::new(AtomicU32::new(0));
        let bell = Arc::clone(&rung);
        let mut pool = ReaderPool::new(
            readers,
            Arc::new(move || {
                bell.fetch_add(1, Ordering::SeqCst);
            }),
        );
        let request = ColdRequest {
            connection: ConnectionKey(3),
            address: Address {
                gateway: 1,
                shard: 0,
                slot: 3,
                generation: 1,
            },
            conversation: ConversationKey(0),
            id: Id(7),
            after: 100,
        };
        let asked = (0..PAGES_READING_MAX + 5)
            .filter(|_| pool.request(request))
            .count();
        assert_eq!(asked, PAGES_READING_MAX, "no more at once");
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut pages = Vec::new();
        while pages.len() < asked {
            assert!(Instant::now() < deadline);
            match pool.take() {
                Some(page) => pages.push(page),
                None => std::thread::yield_now(),
            }
        }
        while rung.load(Ordering::SeqCst) as usize != asked {
            assert!(Instant::now() < deadline, "each page rings once");
            std::thread::yield_now();
        }
        let page = &pages[0];
        assert_eq!(page.request, Some(request));
        let seqs = page.messages.iter().map(|row| row.seq);
        assert!(seqs.eq(101..101 + u64::from(COLD_PAGE_MESSAGES_MAX)));
        assert_eq!(page.text(page.messages[0].text), "m101");
        assert!(pool.request(request), "room again");
    }

    #[test]
    fn first_answers_come_from_reader_threads_and_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: directory.path().to_owned(),
            ..Config::default()
        };
        let mut store = SqliteStore::open(&StoreOptions::from_config(&config).unwrap()).unwrap();
        let mut writes = WriteSet::default();
        for seq in 1..=300 {
            let row = row(&mut writes, seq);
            writes.messages.push(row);
        }
        store.submit(&writes).unwrap();
        let readers = Readers::start(store.place(), 1, 2, 1_000).unwrap();
        let mut pool = ReaderPool::new(readers, Arc::new(|| {}));
        let repeat = |n| Repeat {
            to: Address {
                gateway: 1,
                shard: 0,
                slot: 3,
                generation: 1,
            },
            principal: Id(1),
            session: 1,
            n,
            hash: 0,
            conversation: Some(Id(7)),
        };
        let asked = (1..).take_while(|&n| pool.search(repeat(n * 5))).count();
        assert_eq!(asked, SEARCHES_MAX, "no more at once");
        let deadline = Instant::now() + Duration::from_secs(30);
        let mut found = 0;
        while found < asked {
            assert!(Instant::now() < deadline);
            let Some((repeat, sent)) = pool.take_first_answer() else {
                std::thread::yield_now();
                continue;
            };
            found += 1;
            let there = (repeat.n <= 300).then_some(repeat.n);
            assert_eq!(sent.map(|sent| sent.seq), there, "{repeat:?}");
        }
        assert!(pool.search(repeat(1)), "room again");
    }
}
