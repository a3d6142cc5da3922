//! The resume window: the newest messages, encoded as they go out, in one arena with one bound.
//!
//! ```text
//!   base (oldest kept)                              head (next write)
//!    ▼                                               ▼
//!  ──┤ header 24 B │ payload │ pad to 8 │ header │ … ┤──▶ positions never repeat; index = position mod capacity
//! ```
//!
//! An entry never wraps: the end of the arena is skipped when it is too short. When there is no room the oldest
//! entries leave, whoever they belong to; what left memory is served from the store by reader threads. A
//! conversation keeps the positions of its own entries in the order of seq, so any seq in memory is found in O(1).

use super::kinds::Side;

const HEADER_BYTES: usize = 24;

/// One message in memory.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Which side has to receive it; `None` for system messages.
    pub to: Option<Side>,
    /// The server's time of it.
    pub at_us: u64,
    /// FlatBuffers `Message`.
    pub payload: &'a [u8],
}

/// An entry that left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Conversation's key, as it was pushed.
    pub owner: u32,
    /// Its position.
    pub position: u64,
}

/// The arena.
#[derive(Debug)]
pub struct Window {
    /// Its length grows to `bytes_max` in the first round and stays; its capacity is that from the beginning.
    bytes: Vec<u8>,
    bytes_max: usize,
    base: u64,
    head: u64,
}

fn round_up(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

impl Window {
    /// An arena of `bytes` (at least room for a few of the longest messages). What was never written costs no memory:
    /// to ask the allocator for zeroes would not do, it writes them where it has used the place before.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let bytes = round_up(bytes.max(256 << 10));
        Self {
            bytes: Vec::with_capacity(bytes),
            bytes_max: bytes,
            base: 0,
            head: 0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the remainder is below a usize"
    )]
    fn index(&self, position: u64) -> usize {
        (position % self.bytes_max as u64) as usize
    }

    /// Keeps a message and says where; `left` is told of every entry that had to go. A message longer than the
    /// arena would be a broken configuration: [`Window::new`] takes no arena so small.
    pub fn push(
        &mut self,
        owner: u32,
        to: Option<Side>,
        at_us: u64,
        payload: &[u8],
        mut left: impl FnMut(Left),
    ) -> u64 {
        let need = HEADER_BYTES + round_up(payload.len());
        let to_end = self.bytes_max - self.index(self.head);
        let skipped = if to_end < need { to_end } else { 0 };
        while self.head + (skipped + need) as u64 - self.base > self.bytes_max as u64 {
            self.drop_oldest(&mut left);
        }
        if skipped > 0 {
            // A skipped end shorter than a header is recognised by its length alone.
            if skipped >= HEADER_BYTES {
                let at = self.index(self.head);
                self.reach(at + HEADER_BYTES);
                self.write_header(at, u32::MAX, 0, 0, 0);
            }
            self.head += skipped as u64;
        }
        let position = self.head;
        let at = self.index(position);
        self.reach(at + need);
        let side = to.map_or(0, |side| side.code() + 1);
        self.write_header(at, owner, payload.len(), side, at_us);
        self.bytes[at + HEADER_BYTES..at + HEADER_BYTES + payload.len()].copy_from_slice(payload);
        self.head += need as u64;
        position
    }

    /// Bytes up to here are there; never a reallocation.
    fn reach(&mut self, end: usize) {
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
    }

    fn write_header(&mut self, at: usize, owner: u32, payload_bytes: usize, side: u8, at_us: u64) {
        let length =
            u32::try_from(payload_bytes).expect("invariant: an envelope's payload fits u32");
        self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        self.bytes[at + 4..at + 8].copy_from_slice(&owner.to_le_bytes());
        self.bytes[at + 8..at + 16].copy_from_slice(&at_us.to_le_bytes());
        self.bytes[at + 16] = side;
    }

    fn word(&self, at: usize) -> u32 {
        u32::from_le_bytes(
            self.bytes[at..at + 4]
                .try_into()
                .expect("invariant: four bytes"),
        )
    }

    fn drop_oldest(&mut self, left: &mut impl FnMut(Left)) {
        let at = self.index(self.base);
        let to_end = self.bytes_max - at;
        if to_end < HEADER_BYTES || self.word(at + 4) == u32::MAX {
            self.base += to_end as u64;
            return;
        }
        left(Left {
            owner: self.word(at + 4),
            position: self.base,
        });
        self.base += (HEADER_BYTES + round_up(self.word(at) as usize)) as u64;
    }

    /// The entry at a position that `push` gave out; `None` once it left.
    #[must_use]
    pub fn get(&self, position: u64) -> Option<Entry<'_>> {
        if position < self.base || position >= self.head {
            return None;
        }
        let at = self.index(position);
        let payload = &self.bytes[at + HEADER_BYTES..at + HEADER_BYTES + self.word(at) as usize];
        let at_us = u64::from_le_bytes(
            self.bytes[at + 8..at + 16]
                .try_into()
                .expect("invariant: eight bytes"),
        );
        let to = self.bytes[at + 16].checked_sub(1).and_then(Side::from_code);
        Some(Entry { to, at_us, payload })
    }

    /// Bytes in use.
    #[must_use]
    pub const fn used_bytes(&self) -> u64 {
        self.head - self.base
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_touched_as_it_is_written_and_never_moves() {
        let mut window = Window::new(64 << 20);
        assert_eq!(window.bytes.len(), 0);
        let place = window.bytes.as_ptr();
        for _ in 0..100 {
            window.push(1, None, 7, &[7; 1_000], |_| {});
        }
        assert_eq!(window.bytes.len(), 100 * 1_024);
        assert_eq!(window.bytes.as_ptr(), place);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn what_is_kept_reads_back_and_what_left_was_the_oldest(
            sizes in prop::collection::vec(0_usize..30_000, 1..200)
        ) {
            let mut window = Window::new(0);
            let mut kept: VecDeque<(u64, u32, usize)> = VecDeque::new();
            for (owner, &size) in (0_u32..).zip(&sizes) {
                let payload = vec![owner.to_le_bytes()[0]; size];
                let mut gone = Vec::new();
                let position = window.push(owner, Some(Side::Agent), 7, &payload, |left| gone.push(left));
                for left in gone {
                    let (position, owner, _) = kept.pop_front().expect("only what was kept leaves");
                    prop_assert_eq!(left, Left { owner, position });
                    prop_assert!(window.get(position).is_none());
                }
                kept.push_back((position, owner, size));
                for &(position, owner, size) in &kept {
                    let entry = window.get(position).expect("kept");
                    prop_assert_eq!(entry.payload.len(), size);
                    prop_assert!(entry.payload.iter().all(|&b| b == owner.to_le_bytes()[0]));
                    prop_assert_eq!((entry.to, entry.at_us), (Some(Side::Agent), 7));
                }
                prop_assert!(window.used_bytes() <= 256 << 10);
            }
        }
    }
}
