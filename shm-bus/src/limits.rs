//! Every maximum of the bus, its unit in its name, and the relations between them proven at compile time.

/// The smallest ring. Below this a quarter of the ring no longer holds a useful record.
pub const RING_BYTES_MIN: usize = 4 * 1024;
/// The largest ring: positions stay far from overflow and a segment stays a plausible size.
pub const RING_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// The ring a segment gets when nobody says otherwise.
pub const RING_BYTES_DEFAULT: usize = 4 * 1024 * 1024;
/// Shards of one gateway process.
pub const SHARDS_MAX: usize = 1024;
/// Header of a record. The payload follows it, 8-byte aligned.
pub const RECORD_HEADER_BYTES: usize = 48;
/// A record (header and payload, rounded up to 8) is at most this part of its ring, so that a record and the
/// padding before it always fit an empty ring twice over.
pub const RING_PER_RECORD_MIN: usize = 4;
/// The largest record when nobody says otherwise: a 64 KiB message, its header, and a multicast's list beside it.
pub const RECORD_BYTES_MAX_DEFAULT: usize = 256 * 1024;
/// The farthest position an end takes over from an earlier life: 146 years at a gigabyte a second. Beyond it a cursor
/// is damage, and arithmetic on positions never overflows.
pub const POSITION_MAX: u64 = 1 << 62;
/// A sleeper looks at its rings again after this long even if nobody rang: a producer may die between publish and
/// ring.
pub const SLEEP_MS_MAX: u64 = 100;

const _: () = {
    assert!(RING_BYTES_MIN.is_power_of_two() && RING_BYTES_MAX.is_power_of_two());
    assert!(RING_BYTES_DEFAULT.is_power_of_two());
    assert!(RECORD_BYTES_MAX_DEFAULT <= RING_BYTES_DEFAULT / RING_PER_RECORD_MIN);
    assert!(RECORD_HEADER_BYTES.is_multiple_of(8));
    // A length is a u32 on the wire of the ring.
    assert!(RING_BYTES_MAX / RING_PER_RECORD_MIN <= u32::MAX as usize);
    // The smallest ring still holds four records with a payload.
    assert!(RING_BYTES_MIN / RING_PER_RECORD_MIN > RECORD_HEADER_BYTES);
};
