//! The shard's time: microseconds since the Unix epoch that never step back. It is passed in from the driver;
//! nothing above the driver reads a clock.

use core::ops::{Add, Sub};

/// A moment: the wall clock at the start of the process plus the monotonic time since, in µs.
///
/// It is what stands in envelopes and what deadlines are made of. A stepped wall clock does not move it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

/// A length of time in µs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Time {
    /// The moment so many µs after the Unix epoch.
    #[must_use]
    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// µs since the Unix epoch: what an envelope's timestamp holds.
    #[must_use]
    pub const fn us(self) -> u64 {
        self.0
    }

    /// Whole ms since the Unix epoch.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole seconds since the Unix epoch: what a token's `exp` is compared with.
    #[must_use]
    pub const fn s(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long ago `earlier` was; zero if it is still to come.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Span {
    /// So many µs.
    #[must_use]
    pub const fn from_us(us: u64) -> Self {
        Self(us)
    }

    /// So many ms.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms * 1_000)
    }

    /// In µs.
    #[must_use]
    pub const fn us(self) -> u64 {
        self.0
    }

    /// In whole ms.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 / 1_000
    }
}

impl Add<Span> for Time {
    type Output = Self;
    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

impl Sub for Time {
    type Output = Span;
    fn sub(self, earlier: Self) -> Span {
        self.since(earlier)
    }
}
