//! What dead connections taught about a network: how long a silence it bears.
//!
//! Keyed by client family and network prefix (/24 of IPv4, /48 of IPv6). A death halves the ceiling for the
//! next connections from there; silences that are survived let it climb again, but never closer than four fifths to
//! the silence that killed, until the lesson is an hour old: then it is forgotten, because networks change and
//! because a laptop whose lid was closed looks like one. The cost of a wrong lesson is a few pings.
//!
//! The table has a fixed number of cells and each key has one; of two keys that fall into one cell the newer lesson
//! stays. So a hostile network can make others forget, which costs them a death, and nothing more.

use std::net::IpAddr;

use super::{Bounds, Moment};
use tidegate_protocol::fb::Family;

/// Cells of the table, of 24 bytes: 96 KiB a shard.
pub const NETWORKS_MAX: usize = 4_096;
/// A lesson is forgotten after this.
pub const LESSON_MS_MAX: u32 = 3_600_000;

/// A client family in a network: six or seven bytes of prefix, then the family plus one (no key is 0: an empty cell).
///
/// IPv4 is written as `ff ff` and its /24: no connection comes from ff00::/8, which is multicast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkKey(u64);

impl NetworkKey {
    /// The key of an address.
    pub fn new(family: Family, address: IpAddr) -> NetworkKey {
        let bytes = match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                [0xff, 0xff, a, b, c, 0, 0, 0]
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, ..] = v6.octets();
                [a, b, c, d, e, f, 0, 0]
            }
        };
        NetworkKey(u64::from_be_bytes(bytes)).with_family(family)
    }

    /// The same network, another client family. One that this version does not know counts as h5.
    #[must_use]
    pub fn with_family(self, family: Family) -> NetworkKey {
        let known = if Family::ENUM_VALUES.contains(&family) {
            family
        } else {
            Family::H5
        };
        NetworkKey((self.0 & !0xff) | (u64::from(known.0) + 1))
    }

    /// The client family.
    pub fn family(self) -> Family {
        let [.., family] = self.0.to_be_bytes();
        Family(family.saturating_sub(1))
    }

    /// The prefix as the first bytes of an IPv6 address (IPv4 mapped), the rest zero.
    pub fn prefix(self) -> [u8; 16] {
        let mut prefix = [0; 16];
        match self.0.to_be_bytes() {
            [0xff, 0xff, a, b, c, ..] => prefix[10..15].copy_from_slice(&[0xff, 0xff, a, b, c]),
            [a, b, c, d, e, f, ..] => prefix[..6].copy_from_slice(&[a, b, c, d, e, f]),
        }
        prefix
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_gives_its_prefix_and_family_back() {
        let key = NetworkKey::new(Family::Wechat, "203.0.113.7".parse().unwrap());
        assert_eq!(
            key.prefix(),
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 0]
        );
        assert_eq!(key.family(), Family::Wechat);
        let key = NetworkKey::new(Family::H5, "2001:db8:1:2::3".parse().unwrap());
        assert_eq!(key.prefix()[..8], [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0]);
        assert_eq!(key.with_family(Family::App).family(), Family::App);
    }

    #[test]
    fn a_family_from_a_newer_schema_counts_as_h5() {
        let key = NetworkKey::new(Family(255), "203.0.113.7".parse().unwrap());
        assert_eq!(
            key,
            NetworkKey::new(Family::H5, "203.0.113.7".parse().unwrap())
        );
    }
}
