//! 128-bit, time-ordered ids in the layout of a UUIDv7: 48 bits of milliseconds, then randomness.

use crate::fb;

/// An id of a conversation, a person, a widget. Zero is "absent". Sorts by time of making.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(pub u128);

/// The upper 16 bits of synthetic ids.
const SYNTHETIC: u16 = 0xffff;

impl Id {
    /// No id.
    pub const ABSENT: Self = Self(0);

    /// A new id from a time (ms since the Unix epoch) and 74 bits of `random`; both come from the caller.
    #[must_use]
    pub const fn new(now_ms: u64, random: u128) -> Self {
        let time = ((now_ms & 0xffff_ffff_ffff) as u128) << 80;
        let version = 7_u128 << 76;
        let rand_a = (random >> 64 & 0xfff) << 64;
        let variant = 2_u128 << 62;
        let rand_b = random & 0x3fff_ffff_ffff_ffff;
        Self(time | version | rand_a | variant | rand_b)
    }

    /// The id of a person whom the load generator plays. Its time lies beyond the year 10,000, so no clock makes one
    /// by chance, and all of them together are the last run of every table that is sorted by person.
    #[must_use]
    pub const fn synthetic(number: u128) -> Self {
        Self((SYNTHETIC as u128) << 112 | number & (u128::MAX >> 16))
    }

    /// Whether the load generator plays that person: kept out of statistics, and removed when a load is cleaned up.
    #[must_use]
    pub const fn is_synthetic(self) -> bool {
        self.0 >> 112 == SYNTHETIC as u128
    }

    /// From the two halves of the schema's struct.
    #[must_use]
    pub const fn from_halves(hi: u64, lo: u64) -> Self {
        Self((hi as u128) << 64 | lo as u128)
    }

    /// The upper half, which sorts first.
    #[must_use]
    pub const fn hi(self) -> u64 {
        (self.0 >> 64) as u64
    }

    /// The lower half.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half is what is asked for"
    )]
    pub const fn lo(self) -> u64 {
        self.0 as u64
    }

    /// Whether this is no id.
    #[must_use]
    pub const fn is_absent(self) -> bool {
        self.0 == 0
    }

    /// The id if it is one.
    #[must_use]
    pub const fn present(self) -> Option<Self> {
        if self.is_absent() { None } else { Some(self) }
    }

    /// Milliseconds since the Unix epoch at which it was made, for ids made by [`Id::new`].
    #[must_use]
    pub const fn made_at_ms(self) -> u64 {
        self.hi() >> 16
    }

    /// Its 32 hex digits, without allocating.
    #[must_use]
    pub fn to_hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (i, byte) in self.0.to_be_bytes().iter().enumerate() {
            hex[2 * i] = DIGITS[usize::from(byte >> 4)];
            hex[2 * i + 1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

impl core::fmt::Display for Id {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl core::fmt::Debug for Id {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Not 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is 32 hex digits")]
pub struct IdError;

impl core::str::FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(IdError);
        }
        u128::from_str_radix(text, 16)
            .map(Self)
            .map_err(|_| IdError)
    }
}

impl From<Id> for fb::Id {
    fn from(id: Id) -> Self {
        Self::new(id.hi(), id.lo())
    }
}

impl From<&fb::Id> for Id {
    fn from(id: &fb::Id) -> Self {
        Self::from_halves(id.hi(), id.lo())
    }
}

/// What an accessor of a view returns: absent is zero.
impl From<Option<&fb::Id>> for Id {
    fn from(id: Option<&fb::Id>) -> Self {
        id.map_or(Self::ABSENT, Self::from)
    }
}

impl serde::Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_u128(self.0)
        }
    }
}

impl<'de> serde::Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexVisitor;
        impl serde::de::Visitor<'_> for HexVisitor {
            type Value = Id;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("an id of 32 hex digits")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Id, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Id, E> {
                Ok(Id(value))
            }
        }
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(HexVisitor)
        } else {
            deserializer.deserialize_u128(HexVisitor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_the_time_of_their_making_whatever_the_randomness() {
        assert!(Id::new(1, u128::MAX) < Id::new(2, 0));
        assert_eq!(
            Id::new(1_732_000_000_000, 5).made_at_ms(),
            1_732_000_000_000
        );
    }

    #[test]
    fn rfc_9562_5_7_version_and_variant_stand_where_uuid_readers_look() {
        let hex = Id::new(1_732_000_000_000, u128::MAX).to_string();
        assert_eq!(&hex[12..13], "7");
        assert_eq!(&hex[16..17], "b");
    }

    #[test]
    fn text_and_halves_give_the_id_back() {
        let id = Id::new(1_732_000_000_000, 0x1234_5678_9abc_def0_1122_3344);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_hex(), id.to_string().as_bytes());
        assert_eq!(Id::from(&fb::Id::from(id)), id);
    }

    #[test]
    fn synthetic_ids_sort_behind_every_id_that_a_clock_makes() {
        let synthetic = Id::synthetic(u128::MAX << 100 | 7);
        assert!(synthetic.is_synthetic() && synthetic.0 & 0xff == 7);
        let year_9999_ms = 253_402_300_799_000;
        let clocks = Id::new(year_9999_ms, u128::MAX);
        assert!(!clocks.is_synthetic() && clocks < Id::synthetic(0));
    }

    #[test]
    fn what_is_not_32_hex_digits_is_no_id() {
        for text in [
            "",
            "0",
            "+0000000000000000000000000000000",
            &"g".repeat(32),
            &"0".repeat(33),
        ] {
            assert_eq!(text.parse::<Id>(), Err(IdError), "{text}");
        }
    }
}
