//! Choices that follow from a seed alone (SplitMix64): what a power cut keeps is found again by its seed.

/// A row of choices.
#[derive(Debug, Clone)]
pub struct Choices(u64);

impl Choices {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// One of `0..ways`; 0 where there is nothing to choose.
    pub fn below(&mut self, ways: u64) -> u64 {
        self.bits().checked_rem(ways).unwrap_or(0)
    }
}

/// Spreads every bit over all others.
pub const fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
