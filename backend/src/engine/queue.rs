//! The queue for an agent: first in, first out, with everybody's position in O(log n) and an estimate of the wait.
//!
//! Two parts. `head`: conversations that had an agent and lost them, the one opened first in front. `tail`: all
//! others, in the order in which they came. A place in the tail is a number that never changes; a Fenwick tree counts
//! the places still taken in front of it, so that one leaving costs O(log n) however long the queue is.

use std::collections::{BTreeSet, VecDeque};

/// Where a conversation stands in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the head part, by this order.
    Head(i64),
    /// In the tail part, under this number.
    Tail(u64),
}

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

/// Assignments that the rate is measured over.
const SAMPLES_MAX: usize = 64;
/// Older assignments say nothing about now.
const SAMPLE_AGE_US_MAX: u64 = 15 * 60 * 1_000_000;

/// How fast the queue is served, measured.
#[derive(Debug, Default)]
pub struct ServiceRate {
    served_at_us: VecDeque<u64>,
}

impl ServiceRate {
    /// One left the queue to an agent.
    pub fn served(&mut self, now_us: u64) {
        if self.served_at_us.len() == SAMPLES_MAX {
            self.served_at_us.pop_front();
        }
        self.served_at_us.push_back(now_us);
    }

    /// What the one at this position may expect; 0 = unknown (fewer than two served in 15 minutes).
    #[must_use]
    pub fn eta_ms(&self, position: u32, now_us: u64) -> u32 {
        let fresh = now_us.saturating_sub(SAMPLE_AGE_US_MAX);
        let mut samples = self.served_at_us.iter().filter(|&&at| at >= fresh);
        let Some(&first) = samples.next() else {
            return 0;
        };
        let intervals = samples.count() as u64;
        if intervals == 0 {
            return 0;
        }
        // A standstill counts: the time since the last one is part of the measure once it is the longest.
        let until_last = self.served_at_us.back().map_or(0, |last| last - first) / intervals;
        let until_now = now_us.saturating_sub(first) / (intervals + 1);
        let each_us = until_last.max(until_now).max(1_000);
        u32::try_from(u64::from(position).saturating_mul(each_us) / 1_000).unwrap_or(u32::MAX)
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
                for (index, &(place, key)) in naive.iter().enumerate() {
                    prop_assert_eq!(queue.position(place, key) as usize, index + 1);
                }
            }
        }
    }

    #[test]
    fn the_estimate_follows_the_measured_rate_and_is_unknown_without_one() {
        let mut rate = ServiceRate::default();
        assert_eq!(rate.eta_ms(3, 0), 0);
        for second in 0..10_u64 {
            rate.served(second * 1_000_000);
        }
        assert_eq!(rate.eta_ms(3, 9_000_000), 3_000);
        assert!(
            rate.eta_ms(3, 60_000_000) > 10_000,
            "a standstill lengthens it"
        );
        assert_eq!(rate.eta_ms(3, SAMPLE_AGE_US_MAX * 2), 0);
    }
}
