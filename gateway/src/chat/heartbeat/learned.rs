//! What dead connections taught about a network: how long a silence it bears.
//!
//! Keyed by client family and network prefix (/24 of IPv4, /48 of IPv6). A death halves the ceiling for the
//! next connections from there; silences that are survived let it climb again, but never closer than four fifths to
//! the silence that killed, until the lesson is an hour old: then it is forgotten, because networks change and
//! because a laptop whose lid was closed looks like one. The cost of a wrong lesson is a few pings.
//!
//! The table has a fixed number of cells and each key has one; of two keys that fall into one cell the newer lesson
//! stays. So a hostile network can make others forget, which costs them a death, and nothing more.

use super::{Bounds, Moment};
use tidegate_protocol::fb::Family;

/// Cells of the table. 16 bytes each: 64 KiB a shard, resident only where touched.
pub const NETWORKS_MAX: usize = 4_096;
/// A lesson is forgotten after this.
pub const LESSON_MS_MAX: u32 = 3_600_000;

/// A client family in a network: 56 bits of prefix and the family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkKey(u64);

impl NetworkKey {
    /// The key of the first six bytes of an IPv6 address, or three of an IPv4 address mapped into one.
    pub fn new(family: Family, address: [u8; 16]) -> NetworkKey {
        const V4_MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];
        let prefix = if address[..12] == V4_MAPPED {
            u64::from_be_bytes([0, 0, 0xff, 0xff, address[12], address[13], address[14], 0])
        } else {
            u64::from_be_bytes([
                0, address[0], address[1], address[2], address[3], address[4], address[5], 0,
            ])
        };
        // The lowest byte is free: the family, plus one so that no key is 0 (an empty cell).
        NetworkKey(prefix << 8 | u64::from(family.0) + 1)
    }

    fn cell(self) -> usize {
        // Fibonacci hashing: the high bits of the product are the well-mixed ones.
        let mixed = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - NETWORKS_MAX.ilog2());
        usize::try_from(mixed).expect("invariant: 12 bits fit")
    }
}

#[derive(Clone, Copy, Default)]
struct Lesson {
    key: u64,
    /// Connections from there may be silent for this long.
    ceiling_ms: u32,
    /// The shortest silence that is known to have killed.
    killed_ms: u32,
    learned: Moment,
}

/// The lessons of one shard.
pub struct Learned {
    cells: Vec<Lesson>,
}

impl Default for Learned {
    fn default() -> Self {
        Learned {
            cells: vec![Lesson::default(); NETWORKS_MAX],
        }
    }
}

impl Learned {
    /// The longest silence for a connection from there.
    pub fn ceiling_ms(&self, key: NetworkKey, bounds: &Bounds, now: Moment) -> u32 {
        match self.lesson(key, now) {
            Some(lesson) => lesson
                .ceiling_ms
                .clamp(bounds.interval_ms_min, bounds.interval_ms_max),
            None => bounds.interval_ms_max,
        }
    }

    /// Where a new connection from there begins.
    pub fn interval_ms_first(&self, key: NetworkKey, bounds: &Bounds, now: Moment) -> u32 {
        self.ceiling_ms(key, bounds, now)
            .min(bounds.interval_ms_first())
    }

    /// A connection from there died after this silence.
    pub fn died(&mut self, key: NetworkKey, bounds: &Bounds, silence_ms: u32, now: Moment) {
        let killed_ms = match self.lesson(key, now) {
            Some(lesson) => lesson.killed_ms.min(silence_ms),
            None => silence_ms,
        };
        let ceiling_ms = (silence_ms / 2).max(bounds.interval_ms_min);
        self.cells[key.cell()] = Lesson {
            key: key.0,
            ceiling_ms,
            killed_ms,
            learned: now,
        };
    }

    /// A connection from there survived this silence.
    pub fn survived(&mut self, key: NetworkKey, silence_ms: u32, now: Moment) {
        if self.lesson(key, now).is_none() {
            return;
        }
        let lesson = &mut self.cells[key.cell()];
        if silence_ms >= lesson.ceiling_ms / 4 * 3 {
            let higher_ms = lesson.ceiling_ms.saturating_add(lesson.ceiling_ms / 16);
            lesson.ceiling_ms = higher_ms
                .min(lesson.killed_ms / 5 * 4)
                .max(lesson.ceiling_ms);
        }
    }

    fn lesson(&self, key: NetworkKey, now: Moment) -> Option<&Lesson> {
        let lesson = &self.cells[key.cell()];
        (lesson.key == key.0 && now.since_ms(lesson.learned) < LESSON_MS_MAX).then_some(lesson)
    }
}
