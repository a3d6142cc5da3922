//! Numbers that anybody may read: the words behind each shard's cursors, each with one writer.

use crate::{
    layout::{PORT_COUNTERS, PORT_COUNTERS_OFFSET},
    memory::{Memory, Words},
    sync::Arc,
};

/// The counters whose meaning is the bus's. The words from [`Counter::USER_FIRST`] on are the owner's to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[non_exhaustive]
pub enum Counter {
    /// Records committed to the ring in this file.
    RecordsOut = 0,
    /// Claims that found the ring in this file full.
    RingFull = 1,
    /// Records read from the ring in the other file.
    RecordsIn = 2,
    /// Records of the other file's ring that were no records.
    BadRecords = 3,
    /// Times the peer's doorbell was rung.
    DoorbellsRung = 4,
    /// Times this side went to sleep.
    Sleeps = 5,
}

impl Counter {
    /// Index of the first counter that the bus does not use.
    pub const USER_FIRST: usize = 16;
}

/// The counters of one port page. Each counter has one writer, so adding is a plain load and store.
#[derive(Clone)]
pub struct Counters {
    words: Words,
}

impl Counters {
    /// Counters that the owner may name.
    pub const USER_COUNTERS: usize = PORT_COUNTERS - Counter::USER_FIRST;

    pub(crate) fn at(memory: &Arc<Memory>, port_offset: usize) -> Self {
        Self {
            words: Words::at(
                memory,
                port_offset + PORT_COUNTERS_OFFSET,
                PORT_COUNTERS * 8,
            ),
        }
    }

    /// One of the bus's own counters.
    #[must_use]
    #[inline]
    pub fn get(&self, counter: Counter) -> u64 {
        self.words.load(counter as usize)
    }

    #[inline]
    pub(crate) fn set(&self, counter: Counter, value: u64) {
        self.words.store(counter as usize, value);
    }

    #[inline]
    pub(crate) fn add(&self, counter: Counter, by: u64) {
        self.set(counter, self.get(counter).wrapping_add(by));
    }

    /// Adds to the owner's counter `index` (below [`Self::USER_COUNTERS`]). For that counter's one writer.
    ///
    /// # Panics
    /// `index` is out of bounds.
    #[inline]
    pub fn add_user(&self, index: usize, by: u64) {
        self.set_user(index, self.user(index).wrapping_add(by));
    }

    /// Sets the owner's counter `index`: for gauges.
    ///
    /// # Panics
    /// `index` is out of bounds.
    #[inline]
    pub fn set_user(&self, index: usize, value: u64) {
        self.words.store(Counter::USER_FIRST + index, value);
    }

    /// The owner's counter `index`.
    ///
    /// # Panics
    /// `index` is out of bounds.
    #[must_use]
    #[inline]
    pub fn user(&self, index: usize) -> u64 {
        self.words.load(Counter::USER_FIRST + index)
    }
}

impl std::fmt::Debug for Counters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counters").finish_non_exhaustive()
    }
}
