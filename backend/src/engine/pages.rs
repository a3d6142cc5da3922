//! A table that grows a page at a time. A `Vec` and a hash map double: with 57,344 visitors that was 27 MB at once, copied in
//! the middle of a turn. Here nothing moves, and an index beside it ([`IdIndex`]) has five bytes an entry.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use tidegate_protocol::Id;

/// Entries of a page.
const PAGE: usize = 256;

/// The table. Numbers count up from 0; what is there stays.
#[derive(Debug)]
pub struct Pages<T> {
    pages: Vec<Vec<T>>,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<T> Pages<T> {
    /// Entries.
    #[must_use]
    pub fn len(&self) -> usize {
        let last = self.pages.last().map_or(0, Vec::len);
        self.pages.len().saturating_sub(1) * PAGE + last
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<&T> {
        self.pages.get(number / PAGE)?.get(number % PAGE)
    }

    /// One of them, to change.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.pages.get_mut(number / PAGE)?.get_mut(number % PAGE)
    }

    /// One more, at the end; its number.
    pub fn push(&mut self, entry: T) -> usize {
        let number = self.len();
        match self.pages.last_mut() {
            Some(last) if last.len() < PAGE => last.push(entry),
            _ => {
                let mut page = Vec::with_capacity(PAGE);
                page.push(entry);
                self.pages.push(page);
            }
        }
        number
    }
}

/// By the id, the number of its entry in a table. Ids stand in the table alone: each call is told how to find the one of a
/// number that is in the index.
#[derive(Debug, Default)]
pub struct IdIndex {
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl IdIndex {
    /// The number of an id.
    pub fn find(&self, id: Id, id_of: impl Fn(u32) -> Option<Id>) -> Option<u32> {
        let is = |number: &u32| id_of(*number) == Some(id);
        self.numbers.find(self.hasher.hash_one(id), is).copied()
    }

    /// An id has this number from now on.
    pub fn set(&mut self, id: Id, number: u32, id_of: impl Fn(u32) -> Option<Id>) {
        let hash = self.hasher.hash_one(id);
        let is = |number: &u32| id_of(*number) == Some(id);
        let rehash = |number: &u32| self.hasher.hash_one(id_of(*number).unwrap_or(Id::ABSENT));
        match self.numbers.entry(hash, is, rehash) {
            Entry::Occupied(mut known) => *known.get_mut() = number,
            Entry::Vacant(none) => {
                none.insert(number);
            }
        }
    }

    /// An id has none any more; the one that it had.
    pub fn remove(&mut self, id: Id, id_of: impl Fn(u32) -> Option<Id>) -> Option<u32> {
        let is = |number: &u32| id_of(*number) == Some(id);
        let known = self.numbers.find_entry(self.hasher.hash_one(id), is).ok()?;
        Some(known.remove().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_up_over_pages_and_nothing_moves() {
        let mut table = Pages::default();
        assert_eq!((table.len(), table.get(0)), (0, None));
        assert_eq!(table.push(0), 0);
        let first: *const usize = &raw const *table.get(0).unwrap();
        for number in 1..3 * PAGE + 1 {
            assert_eq!(table.push(number), number);
        }
        assert_eq!(table.len(), 3 * PAGE + 1);
        assert_eq!(&raw const *table.get(0).unwrap(), first);
        *table.get_mut(PAGE).unwrap() += 7;
        assert_eq!(table.get(PAGE), Some(&(PAGE + 7)));
        assert_eq!(table.get(3 * PAGE), Some(&(3 * PAGE)));
        assert_eq!(table.get(3 * PAGE + 1), None);
    }
}
