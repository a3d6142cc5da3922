//! The queue for an agent: first in, first out, with everybody's position in O(log n) and an estimate of the wait.
//!
//! Two parts. `head`: conversations that had an agent and lost them, the one opened first in front. `tail`: all
//! others, in the order in which they came. A place in the tail is a number that never changes; a Fenwick tree counts
//! the places still taken in front of it, so that one leaving costs O(log n) however long the queue is.
//!
//! Nobody is told of each step of the others. Everybody who waits knows their ticket ([`ticket_of`]), which never changes
//! while they wait and is not given twice; and everybody hears the same few *marks*, which ticket stands at which
//! place ([`Queue::marks`]): the first [`MARKED_ONE_BY_ONE`] places, then each power of two, then the last. Whose ticket
//! is a mark's stands exactly there. Anybody else stands between two marks and takes the share of their distance that
//! their ticket has of it, which is wrong by fewer places than lie between the marks, and by no more than as many as
//! left between them. So the place is exact for those who are almost there and for whoever no one around has left,
//! and rough only far behind.

use std::collections::{BTreeSet, VecDeque};

/// Where a conversation stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the head part, by this order.
    Head(i64),
    /// In the tail part, under this number.
    Tail(u64),
}

/// Orders of those who lost their agent are below all others: this, and when their conversation began.
pub const HEAD_ORDER_BASE: i64 = -(1 << 60);

/// What a conversation's visitor finds their place by: grows along the queue, survives a restart, is never 0. Orders of the
/// tail are times, µs; those of the head are made of times, too, and halved, which puts them before the tail.
#[must_use]
pub const fn ticket_of(order: i64) -> u64 {
    if order < 0 {
        (order - HEAD_ORDER_BASE).unsigned_abs() / 2
    } else {
        order.unsigned_abs()
    }
}

/// Places from the front that have a mark each.
pub const MARKED_ONE_BY_ONE: u32 = 4;

/// Keys of waiting conversations.
#[derive(Debug, Default)]
pub struct Queue {
    head: BTreeSet<(i64, u32)>,
    tail: VecDeque<Option<u32>>,
    /// Number of `tail[0]`.
    base: u64,
    /// Fenwick tree over `number mod tree.len()`; `tree.len()` is a power of two, at least `tail.len()`.
    tree: Vec<u32>,
    tail_taken: u32,
}

const TREE_MIN: usize = 64;

impl Queue {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.tail_taken + u32::try_from(self.head.len()).unwrap_or(u32::MAX)
    }

    /// Nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Behind everybody.
    pub fn push_back(&mut self, key: u32) -> Place {
        if self.tail.len() == self.tree.len() {
            self.grow();
        }
        let number = self.base + self.tail.len() as u64;
        self.tail.push_back(Some(key));
        self.tail_taken += 1;
        self.add(number, 1);
        Place::Tail(number)
    }

    /// Before the tail; among those, the smaller order first.
    pub fn push_head(&mut self, order: i64, key: u32) -> Place {
        self.head.insert((order, key));
        Place::Head(order)
    }

    /// Leaves, from anywhere.
    pub fn remove(&mut self, place: Place, key: u32) {
        match place {
            Place::Head(order) => {
                self.head.remove(&(order, key));
            }
            Place::Tail(number) => {
                let index = number
                    .checked_sub(self.base)
                    .and_then(|index| usize::try_from(index).ok());
                let Some(slot) = index.and_then(|index| self.tail.get_mut(index)) else {
                    return;
                };
                if slot.take().is_none() {
                    return;
                }
                self.tail_taken -= 1;
                self.add(number, u32::MAX);
                while let Some(None) = self.tail.front() {
                    self.tail.pop_front();
                    self.base += 1;
                }
            }
        }
    }

    /// 1 = next.
    #[must_use]
    pub fn position(&self, place: Place, key: u32) -> u32 {
        let head = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        match place {
            Place::Head(order) => head(self.head.range(..=(order, key)).count()),
            Place::Tail(number) => head(self.head.len()) + self.taken_up_to(number),
        }
    }

    /// Places and who stands there, for [`message::QueueMark`](tidegate_protocol::message::QueueMark): O(log n) of them.
    pub fn marks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let len = self.len();
        let powers = (0..u32::BITS).map(|bit| 1_u32 << bit);
        let marked =
            (1..MARKED_ONE_BY_ONE).chain(powers.filter(|&place| place >= MARKED_ONE_BY_ONE));
        marked
            .take_while(move |&place| place < len)
            .chain((len > 0).then_some(len))
            .filter_map(|place| Some((place, self.at(place)?)))
    }

    /// Who stands at this place; 1 = next.
    #[must_use]
    pub fn at(&self, place: u32) -> Option<u32> {
        let head = u32::try_from(self.head.len()).unwrap_or(u32::MAX);
        let Some(in_tail) = place.checked_sub(head).filter(|&in_tail| in_tail > 0) else {
            let index = usize::try_from(place.checked_sub(1)?).ok()?;
            return self.head.iter().nth(index).map(|&(_, key)| key);
        };
        if in_tail > self.tail_taken {
            return None;
        }
        // The first number up to which so many places are taken.
        let (mut low, mut high) = (self.base, self.base + self.tail.len() as u64 - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.taken_up_to(middle) < in_tail {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let index = usize::try_from(low - self.base).ok()?;
        self.tail.get(index).copied().flatten()
    }

    /// Who is next.
    #[must_use]
    pub fn front(&self) -> Option<u32> {
        self.iter().next()
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.head
            .iter()
            .map(|&(_, key)| key)
            .chain(self.tail.iter().filter_map(|slot| *slot))
    }

    fn mask(&self) -> u64 {
        self.tree.len() as u64 - 1
    }

    /// Adds to the count at a number; `u32::MAX` takes one away (arithmetic is modulo 2^32).
    #[expect(
        clippy::cast_possible_truncation,
        reason = "masked by the tree's length"
    )]
    fn add(&mut self, number: u64, delta: u32) {
        let mut at = (number & self.mask()) as usize + 1;
        while at <= self.tree.len() {
            self.tree[at - 1] = self.tree[at - 1].wrapping_add(delta);
            at += at & at.wrapping_neg();
        }
    }

    fn sum_below(&self, end: usize) -> u32 {
        let (mut at, mut sum) = (end, 0_u32);
        while at > 0 {
            sum = sum.wrapping_add(self.tree[at - 1]);
            at &= at - 1;
        }
        sum
    }

    /// Places taken in the tail from its first up to and including `number`. Numbers wrap in the tree once.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "masked by the tree's length"
    )]
    fn taken_up_to(&self, number: u64) -> u32 {
        let first = (self.base & self.mask()) as usize;
        let last = (number & self.mask()) as usize;
        if last >= first {
            self.sum_below(last + 1).wrapping_sub(self.sum_below(first))
        } else {
            self.tail_taken - (self.sum_below(first).wrapping_sub(self.sum_below(last + 1)))
        }
    }

    fn grow(&mut self) {
        let size = (self.tail.len() + 1).next_power_of_two().max(TREE_MIN);
        self.tree.clear();
        self.tree.resize(size, 0);
        let taken: Vec<u64> = (self.base..)
            .zip(&self.tail)
            .filter(|(_, slot)| slot.is_some())
            .map(|(number, _)| number)
            .collect();
        for number in taken {
            self.add(number, 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Op {
        Back,
        Head(i64),
        Remove(prop::sample::Index),
        TakeFront,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => Just(Op::Back),
            1 => (-50_i64..50).prop_map(Op::Head),
            2 => any::<prop::sample::Index>().prop_map(Op::Remove),
            3 => Just(Op::TakeFront),
        ]
    }

    proptest! {
        #[test]
        fn positions_agree_with_a_sorted_list(ops in prop::collection::vec(op(), 1..400)) {
            let mut queue = Queue::default();
            let mut naive: Vec<(Place, u32)> = Vec::new();
            for (key, op) in (0_u32..).zip(ops) {
                match op {
                    Op::Back => naive.push((queue.push_back(key), key)),
                    Op::Head(order) => {
                        naive.push((queue.push_head(order, key), key));
                        naive.sort();
                    }
                    Op::Remove(index) if !naive.is_empty() => {
                        let (place, key) = naive.remove(index.index(naive.len()));
                        queue.remove(place, key);
                        queue.remove(place, key); // leaving twice is leaving once
                    }
                    Op::TakeFront if !naive.is_empty() => {
                        let (place, key) = naive.remove(0);
                        prop_assert_eq!(queue.front(), Some(key));
                        queue.remove(place, key);
                    }
                    Op::Remove(_) | Op::TakeFront => prop_assert!(queue.is_empty()),
                }
                prop_assert_eq!(queue.iter().collect::<Vec<_>>(), naive.iter().map(|&(_, key)| key).collect::<Vec<_>>());
                for (index, &(place, key)) in (1_u32..).zip(&naive) {
                    prop_assert_eq!(queue.position(place, key), index);
                    prop_assert_eq!(queue.at(index), Some(key));
                }
                prop_assert_eq!(queue.at(queue.len() + 1), None);
                prop_assert_eq!(queue.at(0), None);
            }
        }
    }

    #[test]
    fn marks_name_the_first_places_the_powers_of_two_and_the_last() {
        let mut queue = Queue::default();
        assert_eq!(queue.marks().count(), 0);
        let places: Vec<Place> = (0..100).map(|key| queue.push_back(key)).collect();
        let marks: Vec<_> = queue.marks().collect();
        assert_eq!(
            marks,
            [
                (1, 0),
                (2, 1),
                (3, 2),
                (4, 3),
                (8, 7),
                (16, 15),
                (32, 31),
                (64, 63),
                (100, 99)
            ]
        );
        queue.remove(places[0], 0);
        queue.push_head(7, 500);
        queue.remove(places[9], 9);
        let marks: Vec<_> = queue.marks().collect();
        assert_eq!(marks[..5], [(1, 500), (2, 1), (3, 2), (4, 3), (8, 7)]);
        assert_eq!(marks[5..], [(16, 16), (32, 32), (64, 64), (99, 99)]);
    }

    #[test]
    fn tickets_grow_along_the_queue_also_from_its_head_to_its_tail() {
        let opened = [1_700_000_000_000_000_i64, 1_700_000_000_900_000];
        let orders = [
            HEAD_ORDER_BASE + opened[0],
            HEAD_ORDER_BASE + opened[1],
            opened[0] + 5,
            opened[1] + 5,
        ];
        let tickets = orders.map(ticket_of);
        assert!(tickets.is_sorted() && tickets[0] > 0, "{tickets:?}");
        assert!(tickets[3] < 1 << 53, "JavaScript counts so far");
    }
}
