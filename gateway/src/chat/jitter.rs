//! Spreads what would come back all at once. Seeded from outside: the same seed gives the same run.

/// xorshift64*: good enough to spread clients, far too weak for secrets.
pub struct Jitter(u64);

impl Jitter {
    /// From any seed.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed | 1)
    }

    /// A number from `least_ms` up to and without twice that.
    pub fn retry_ms(&mut self, least_ms: u32) -> u32 {
        least_ms.saturating_add(self.below(least_ms))
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        let scaled = (mixed * u64::from(bound)) >> 32;
        u32::try_from(scaled).expect("invariant: below a u32 bound")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_spread_over_their_whole_range() {
        let mut jitter = Jitter::new(7);
        let drawn: Vec<u32> = (0..10_000).map(|_| jitter.retry_ms(1_000)).collect();
        assert!(drawn.iter().all(|ms| (1_000..2_000).contains(ms)));
        assert!(drawn.iter().any(|&ms| ms < 1_050) && drawn.iter().any(|&ms| ms > 1_950));
        assert_eq!(Jitter::new(7).retry_ms(0), 0);
    }
}
