//! A table that grows a page at a time. A `Vec` and a hash map double: with 57,344 visitors that was 27 MB at once, copied in
//! the middle of a turn. Here nothing moves, and an index beside it ([`hashbrown::HashTable`] of numbers) has five bytes an entry.

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
