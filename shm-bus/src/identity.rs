//! Names of incarnations, and positions in a ring.

use std::{fmt, num::ParseIntError, str::FromStr};

/// One incarnation of a gateway or of a backend: random, never 0, never used twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(u64);

impl InstanceId {
    /// A new random id.
    ///
    /// # Errors
    /// The kernel has no randomness to give (`getrandom(2)` failed).
    pub fn fresh() -> std::io::Result<Self> {
        #[cfg(feature = "simulation")]
        if let Some(id) = seeded::next() {
            return Ok(Self(id));
        }
        loop {
            let mut bytes = [0u8; 8];
            let filled =
                rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
            let id = u64::from_le_bytes(bytes);
            if filled == bytes.len() && id != 0 {
                return Ok(Self(id));
            }
        }
    }

    /// From the number that stands in a page or in a database. 0 means "nobody" and gives `None`.
    #[must_use]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        if raw == 0 { None } else { Some(Self(raw)) }
    }

    /// The number, never 0.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

#[cfg(feature = "simulation")]
pub use seeded::seed_instance_ids;

#[cfg(feature = "simulation")]
mod seeded {
    use std::cell::Cell;

    thread_local! {
        /// Where this thread's ids come from; `None`: from the kernel.
        static STATE: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// From here on the ids that this thread draws follow from the seed; `None`: from the kernel again.
    pub fn seed_instance_ids(seed: Option<u64>) {
        STATE.set(seed);
    }

    /// SplitMix64, without 0.
    pub(super) fn next() -> Option<u64> {
        let state = STATE.get()?.wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(Some(state));
        let mut id = state;
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some((id ^ (id >> 31)).max(1))
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceId({self})")
    }
}

impl FromStr for InstanceId {
    type Err = ParseIntError;

    /// Exactly the 16 lower-case hex digits that [`Display`](fmt::Display) writes; `0` is refused.
    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        // The error of an empty string stands for every other mistake: callers only ask whether it is an id.
        let refusal = || u64::from_str_radix("", 16).expect_err("an empty string is no number");
        let raw = u64::from_str_radix(text, 16)?;
        match Self::from_raw(raw) {
            Some(id) if id.to_string() == text => Ok(id),
            _ => Err(refusal()),
        }
    }
}

/// A place in a ring: bytes since the ring was made. It only grows; where it lies in memory is its remainder by
/// the ring's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// From a stored number (a turn stores its positions in its transaction).
    #[must_use]
    pub const fn from_raw(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Bytes since the ring was made.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}
