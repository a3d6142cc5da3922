//! The locks of one file: SQLite's five levels over the database, and the eight locks of the log's index.

use std::collections::BTreeMap;
use std::ffi::c_int;

use rusqlite::ffi;

/// Who asks: one open handle of a file.
pub type Holder = u64;

/// Locks of the index.
const INDEX_LOCKS: usize = 8;

/// Levels over the database file (`SQLITE_LOCK_…`), by holder; none is not listed.
#[derive(Debug, Default)]
pub struct FileLocks(BTreeMap<Holder, c_int>);

impl FileLocks {
    /// Raises a holder's level; `false`: somebody else stands in the way.
    pub fn raise(&mut self, holder: Holder, to: c_int) -> bool {
        let level = self.level(holder);
        if level >= to {
            return true;
        }
        let others = self.0.iter().filter(|(other, _)| **other != holder);
        let highest = others
            .map(|(_, level)| *level)
            .max()
            .unwrap_or(ffi::SQLITE_LOCK_NONE);
        let free = match to {
            ffi::SQLITE_LOCK_SHARED => highest < ffi::SQLITE_LOCK_PENDING,
            ffi::SQLITE_LOCK_RESERVED => highest < ffi::SQLITE_LOCK_RESERVED,
            _ => highest == ffi::SQLITE_LOCK_NONE,
        };
        if free {
            self.0.insert(holder, to);
        } else if to == ffi::SQLITE_LOCK_EXCLUSIVE && highest < ffi::SQLITE_LOCK_RESERVED {
            // Waits for the readers, and keeps new ones out meanwhile.
            self.0.insert(holder, ffi::SQLITE_LOCK_PENDING);
        }
        free
    }

    pub fn lower(&mut self, holder: Holder, to: c_int) {
        if to == ffi::SQLITE_LOCK_NONE {
            self.0.remove(&holder);
        } else if self.level(holder) > to {
            self.0.insert(holder, to);
        }
    }

    pub fn is_reserved(&self) -> bool {
        self.0
            .values()
            .any(|level| *level >= ffi::SQLITE_LOCK_RESERVED)
    }

    fn level(&self, holder: Holder) -> c_int {
        self.0
            .get(&holder)
            .copied()
            .unwrap_or(ffi::SQLITE_LOCK_NONE)
    }
}

/// Who holds the index's locks, each shared by some or held by one.
#[derive(Debug, Default)]
pub struct IndexLocks([IndexLock; INDEX_LOCKS]);

#[derive(Debug, Default)]
struct IndexLock {
    shared: Vec<Holder>,
    exclusive: Option<Holder>,
}

impl IndexLocks {
    /// Takes all locks of the range or none. `None`: the range is no range of the index.
    pub fn take(&mut self, holder: Holder, range: Range, exclusive: bool) -> Option<bool> {
        let locks = self.0.get_mut(range.first..range.first + range.count)?;
        let in_the_way = |lock: &IndexLock| {
            lock.exclusive.is_some_and(|other| other != holder)
                || (exclusive && lock.shared.iter().any(|other| *other != holder))
        };
        if locks.iter().any(in_the_way) {
            return Some(false);
        }
        for lock in locks {
            if exclusive {
                lock.exclusive = Some(holder);
            } else if !lock.shared.contains(&holder) {
                lock.shared.push(holder);
            }
        }
        Some(true)
    }

    pub fn release(&mut self, holder: Holder, range: Range) {
        for lock in self.0.iter_mut().skip(range.first).take(range.count) {
            lock.shared.retain(|other| *other != holder);
            lock.exclusive = lock.exclusive.filter(|other| *other != holder);
        }
    }

    pub fn release_all(&mut self, holder: Holder) {
        self.release(
            holder,
            Range {
                first: 0,
                count: INDEX_LOCKS,
            },
        );
    }
}

/// Some neighbours among the index's locks.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    pub first: usize,
    pub count: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_waits_for_readers_and_keeps_new_ones_out() {
        let mut locks = FileLocks::default();
        assert!(locks.raise(1, ffi::SQLITE_LOCK_SHARED));
        assert!(locks.raise(2, ffi::SQLITE_LOCK_SHARED));
        assert!(locks.raise(1, ffi::SQLITE_LOCK_RESERVED));
        assert!(!locks.raise(2, ffi::SQLITE_LOCK_RESERVED));
        assert!(!locks.raise(1, ffi::SQLITE_LOCK_EXCLUSIVE));
        assert!(!locks.raise(3, ffi::SQLITE_LOCK_SHARED));
        locks.lower(2, ffi::SQLITE_LOCK_NONE);
        assert!(locks.raise(1, ffi::SQLITE_LOCK_EXCLUSIVE));
        locks.lower(1, ffi::SQLITE_LOCK_NONE);
        assert!(!locks.is_reserved());
    }

    #[test]
    fn an_index_lock_is_shared_by_many_or_held_by_one() {
        let mut locks = IndexLocks::default();
        let one = Range { first: 3, count: 1 };
        assert_eq!(locks.take(1, one, false), Some(true));
        assert_eq!(locks.take(2, one, false), Some(true));
        assert_eq!(
            locks.take(1, Range { first: 2, count: 3 }, true),
            Some(false)
        );
        assert_eq!(
            locks.take(1, Range { first: 4, count: 2 }, true),
            Some(true)
        );
        locks.release(2, one);
        assert_eq!(locks.take(1, one, true), Some(true));
        assert_eq!(locks.take(2, one, false), Some(false));
        locks.release_all(1);
        assert_eq!(locks.take(2, one, true), Some(true));
        assert_eq!(locks.take(2, Range { first: 7, count: 2 }, true), None);
    }
}
