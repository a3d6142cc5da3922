//! A lazy timing wheel with one entry per slot.
//!
//! A connection has one deadline: the earliest of all that concern it. Moving a deadline later – what every
//! message does – writes one word: the entry stays in its bucket, and when that comes due, the entry is put where
//! it belongs by then. Only a deadline that moves earlier unlinks. Nothing is touched per idle connection but when its bucket
//! comes round.
//!
//! Deadlines beyond the wheel's span wait in its farthest bucket and are put again from there.

use crate::time::Time;

/// Length of a tick, µs: about 33 ms.
pub const TICK_US: u64 = 1 << TICK_US_LOG2;
const TICK_US_LOG2: u32 = 15;
/// Buckets: the span is 134 s, past the longest ordinary deadline, so that few entries are put twice.
const BUCKETS: usize = 4096;
const SPAN_TICKS: u32 = 4096;
const WORDS: usize = BUCKETS / 64;
const NONE: u32 = u32::MAX;
const UNLINKED: u16 = u16::MAX;

const _: () = assert!(BUCKETS < UNLINKED as usize && BUCKETS == SPAN_TICKS as usize);

/// A moment on the wheel: ticks since the wheel began; [`Tick::NEVER`] is no deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(u32);

impl Tick {
    /// No deadline. Later than all others.
    pub const NEVER: Self = Self(u32::MAX);
}

#[derive(Clone, Copy)]
struct Entry {
    next: u32,
    prev: u32,
    at: Tick,
    bucket: u16,
}

/// The wheel of one shard.
pub struct Wheel {
    began: Time,
    now: u32,
    heads: Box<[u32]>,
    occupied: [u64; WORDS],
    entries: Vec<Entry>,
}

impl Wheel {
    /// A wheel for slots below `slots_max`, whose memory is touched only as slots are used.
    #[must_use]
    pub fn new(began: Time, slots_max: usize) -> Self {
        Self {
            began,
            now: 0,
            heads: vec![NONE; BUCKETS].into(),
            occupied: [0; WORDS],
            entries: Vec::with_capacity(slots_max),
        }
    }

    /// The first tick that does not come before `at`.
    #[must_use]
    pub fn tick(&self, at: Time) -> Tick {
        let us = at.since(self.began).us() + (TICK_US - 1);
        // 2^32 ticks are 4.4 years; a deadline past them is as good as none.
        Tick(u32::try_from(us >> TICK_US_LOG2).unwrap_or(u32::MAX - 1))
    }

    /// The moment that a tick names.
    #[must_use]
    pub fn time(&self, tick: Tick) -> Time {
        self.began + crate::time::Span::from_us(u64::from(tick.0) << TICK_US_LOG2)
    }

    /// The tick up to which the wheel has come.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(self.now)
    }

    /// Sets the slot's deadline; [`Tick::NEVER`] takes it away.
    pub fn set(&mut self, slot: u32, at: Tick) {
        let index = slot as usize;
        if index >= self.entries.len() {
            let unset = Entry {
                next: NONE,
                prev: NONE,
                at: Tick::NEVER,
                bucket: UNLINKED,
            };
            self.entries.resize(index + 1, unset);
        }
        let entry = &mut self.entries[index];
        let earlier = at < entry.at;
        entry.at = at;
        if entry.bucket == UNLINKED {
            if at != Tick::NEVER {
                self.link(slot);
            }
        } else if earlier {
            self.unlink(slot);
            self.link(slot);
        }
    }

    /// Moves the wheel to `now` and appends each slot whose deadline has come to `due`; it has no deadline then.
    pub fn advance(&mut self, now: Time, due: &mut Vec<u32>) {
        let target = u32::try_from(now.since(self.began).us() >> TICK_US_LOG2).unwrap_or(u32::MAX);
        // More than a whole turn at once visits every bucket once.
        let mut steps = (target - self.now.min(target)).min(SPAN_TICKS);
        self.now = target - steps;
        while steps > 0 {
            steps -= 1;
            self.now += 1;
            self.expire(self.now, target, due);
        }
    }

    fn expire(&mut self, tick: u32, target: u32, due: &mut Vec<u32>) {
        let bucket = tick as usize % BUCKETS;
        let mut slot = core::mem::replace(&mut self.heads[bucket], NONE);
        self.occupied[bucket / 64] &= !(1 << (bucket % 64));
        while slot != NONE {
            let entry = &mut self.entries[slot as usize];
            let next = entry.next;
            entry.bucket = UNLINKED;
            if entry.at.0 <= target {
                entry.at = Tick::NEVER;
                due.push(slot);
            } else if entry.at != Tick::NEVER {
                self.link(slot);
            }
            slot = next;
        }
    }

    /// The tick of the next bucket that holds anything: no deadline comes before it.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        let start = (self.now as usize + 1) % BUCKETS;
        let (word, bit) = (start / 64, start % 64);
        for step in 0..=WORDS {
            let index = (word + step) % WORDS;
            let mut bits = self.occupied[index];
            if step == 0 {
                bits &= !0 << bit;
            } else if step == WORDS {
                bits &= !(!0 << bit);
            }
            if bits != 0 {
                let bucket = index * 64 + bits.trailing_zeros() as usize;
                let ahead = (bucket + BUCKETS - start) % BUCKETS;
                return Some(Tick(self.now + 1 + u32::try_from(ahead).ok()?));
            }
        }
        None
    }

    fn link(&mut self, slot: u32) {
        let at = self.entries[slot as usize].at.0;
        let at = at.clamp(self.now + 1, self.now + SPAN_TICKS - 1);
        let bucket = at as usize % BUCKETS;
        let head = self.heads[bucket];
        if head != NONE {
            self.entries[head as usize].prev = slot;
        }
        let entry = &mut self.entries[slot as usize];
        entry.next = head;
        entry.prev = NONE;
        entry.bucket = u16::try_from(bucket).expect("invariant: BUCKETS fits u16");
        self.heads[bucket] = slot;
        self.occupied[bucket / 64] |= 1 << (bucket % 64);
    }

    fn unlink(&mut self, slot: u32) {
        let Entry {
            next, prev, bucket, ..
        } = self.entries[slot as usize];
        let bucket = usize::from(bucket);
        if prev == NONE {
            self.heads[bucket] = next;
            if next == NONE {
                self.occupied[bucket / 64] &= !(1 << (bucket % 64));
            }
        } else {
            self.entries[prev as usize].next = next;
        }
        if next != NONE {
            self.entries[next as usize].prev = prev;
        }
        self.entries[slot as usize].bucket = UNLINKED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;
    use proptest::prelude::*;

    fn at(ms: u64) -> Time {
        Time::from_us(1_000_000) + Span::from_ms(ms)
    }

    fn wheel() -> Wheel {
        Wheel::new(at(0), 16)
    }

    fn due(wheel: &mut Wheel, ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(at(ms), &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn a_deadline_comes_once_and_never_early() {
        let mut wheel = wheel();
        wheel.set(3, wheel.tick(at(1_000)));
        assert_eq!(due(&mut wheel, 999), [0_u32; 0]);
        assert_eq!(due(&mut wheel, 1_100), [3]);
        assert_eq!(due(&mut wheel, 900_000), [0_u32; 0]);
    }

    #[test]
    fn a_deadline_moved_later_is_lazy_and_moved_earlier_is_not() {
        let mut wheel = wheel();
        wheel.set(1, wheel.tick(at(1_000)));
        wheel.set(1, wheel.tick(at(5_000)));
        assert_eq!(due(&mut wheel, 4_900), [0_u32; 0]);
        wheel.set(1, wheel.tick(at(50_000)));
        wheel.set(1, wheel.tick(at(6_000)));
        assert_eq!(due(&mut wheel, 6_100), [1]);
    }

    #[test]
    fn next_names_no_moment_after_the_earliest_deadline() {
        let mut wheel = wheel();
        assert_eq!(wheel.next(), None);
        wheel.set(0, wheel.tick(at(70_000)));
        wheel.set(1, wheel.tick(at(30_000)));
        let next = wheel.next().expect("two are set");
        assert_eq!(next, wheel.tick(at(30_000)));
        wheel.set(1, Tick::NEVER);
        due(&mut wheel, 31_000);
        assert_eq!(wheel.next(), Some(wheel.tick(at(70_000))));
    }

    #[test]
    fn a_jump_past_a_whole_turn_finds_all_that_is_due() {
        let mut wheel = wheel();
        for slot in 0..10 {
            wheel.set(slot, wheel.tick(at(40_000 * u64::from(slot))));
        }
        assert_eq!(due(&mut wheel, 1_000_000), (0..10).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_sorted_list(
            steps in proptest::collection::vec((0_u32..8, 0_u64..400_000, 0_u64..20_000), 1..200)
        ) {
            let mut wheel = wheel();
            let mut oracle = [None::<Tick>; 8];
            let mut now_ms = 0;
            for (slot, after_ms, step_ms) in steps {
                let tick = if after_ms % 7 == 0 { Tick::NEVER } else { wheel.tick(at(now_ms + after_ms)) };
                wheel.set(slot, tick);
                oracle[slot as usize] = (tick != Tick::NEVER).then_some(tick);
                if let (Some(next), Some(first)) = (wheel.next(), oracle.iter().flatten().min()) {
                    prop_assert!(next <= *first || first.0 <= wheel.now);
                }
                now_ms += step_ms;
                let found = due(&mut wheel, now_ms);
                let now_tick = wheel.now;
                let mut expected: Vec<u32> = Vec::new();
                for (slot, at) in oracle.iter_mut().enumerate() {
                    if at.is_some_and(|at| at.0 <= now_tick) && found.contains(&u32::try_from(slot).unwrap()) {
                        *at = None;
                        expected.push(u32::try_from(slot).unwrap());
                    }
                }
                prop_assert_eq!(&found, &expected, "nothing comes that is not due");
                // A deadline set in the past comes with the next tick at the latest.
                for at in oracle.iter().flatten() {
                    prop_assert!(at.0 >= now_tick, "overdue: {:?} at {}", at, now_tick);
                }
            }
        }
    }
}
