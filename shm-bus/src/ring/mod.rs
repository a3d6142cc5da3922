//! A single-producer single-consumer ring of records.
//!
//! # Who may touch what, when
//!
//! ```text
//!      released            read (consumer's own)      published            claimed
//!         │                      │                        │                   │
//!  ───────┼──────────────────────┼────────────────────────┼───────────────────┼──────────▶ bytes since birth
//!   free  │ read, not given back │ committed, not read    │ being written     │ free
//!         └─ the consumer copies out of these two ────────┘ └─ the producer ──┘
//!         └──────────────── never more than ring_bytes ───────────────────────┘
//! ```
//!
//! * `published` and `claimed` stand in the producer's file, `released` in the consumer's. Each has one writer.
//! * The producer writes only in [published, claimed), and claims only up to `released + ring_bytes`.
//! * The consumer reads only in [released, published). It copies each record to memory of its own and looks at
//!   nothing but the copy.
//!
//! # Orderings
//!
//! * `SYNC(record-complete)`: the producer's release store of `published` happens after its writes of the record;
//!   the consumer's acquire load of `published` happens before its reads of it.
//! * `SYNC(space-free)`: the consumer's release store of `released` happens after its reads; the producer's acquire
//!   load happens before it writes there again.
//! * `SYNC(lapped)`: the producer stores `claimed`, then a release fence, before it writes; a tap reads the record,
//!   then an acquire fence, then `claimed`. What it read is whole if `claimed ≤ position + ring_bytes`.
//!
//! # What a crash leaves
//!
//! | who dies | where | what is left |
//! | --- | --- | --- |
//! | producer | between claim and commit | nothing: `published` did not move (`claimed` stays where it was, and only taps look at it) |
//! | producer | between publish and doorbell | the record; the sleeper finds it within `SLEEP_MS_MAX` |
//! | consumer | before release | the record is read again by the next consumer, from `released` |
//! | consumer | after release | nothing |

mod claim;
mod commit;
mod consume;
#[cfg(all(test, loom))]
mod models;
mod tap;

pub use claim::{Claimed, Producer};
pub use commit::Claim;
pub use consume::{Bad, Consumer, Read};
pub use tap::{Tap, Tapped};

use crate::{
    error::SegmentError,
    layout,
    limits::{RECORD_HEADER_BYTES, RING_BYTES_MAX, RING_BYTES_MIN, RING_PER_RECORD_MIN},
    memory::Memory,
    sync::Arc,
};

/// Sizes of one ring, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingShape {
    pub(crate) ring_bytes: u64,
    pub(crate) record_bytes_max: u32,
}

impl RingShape {
    /// # Errors
    /// `ring_bytes` is no power of two within its bounds; `record_bytes_max` is more than a quarter of it, or has no
    /// room for a payload.
    pub(crate) fn new(ring_bytes: usize, record_bytes_max: usize) -> Result<Self, SegmentError> {
        if !ring_bytes.is_power_of_two() || !(RING_BYTES_MIN..=RING_BYTES_MAX).contains(&ring_bytes)
        {
            return Err(SegmentError::Option {
                option: "ring_bytes",
                found: ring_bytes,
                expected: format!("a power of two from {RING_BYTES_MIN} to {RING_BYTES_MAX}"),
            });
        }
        let most = ring_bytes / RING_PER_RECORD_MIN;
        match u32::try_from(record_bytes_max) {
            Ok(max)
                if record_bytes_max > RECORD_HEADER_BYTES
                    && record_bytes_max <= most
                    && max.is_multiple_of(8) =>
            {
                Ok(Self {
                    ring_bytes: ring_bytes as u64,
                    record_bytes_max: max,
                })
            }
            _ => Err(SegmentError::Option {
                option: "record_bytes_max",
                found: record_bytes_max,
                expected: format!(
                    "a multiple of 8 above {RECORD_HEADER_BYTES} and at most {most} (a quarter of ring_bytes)"
                ),
            }),
        }
    }

    /// Which word of the ring a position is.
    #[inline]
    pub(crate) const fn word_index(self, position: u64) -> usize {
        ((position & (self.ring_bytes - 1)) / 8) as usize
    }

    /// Bytes from a position to the end of the ring.
    #[inline]
    pub(crate) const fn to_end_bytes(self, position: u64) -> u64 {
        self.ring_bytes - (position & (self.ring_bytes - 1))
    }
}

/// What a ring of one process lies on; see [`ring_pair`].
#[derive(Debug)]
#[non_exhaustive]
pub enum RingBacking {
    /// Two boxes.
    Heap,
    /// Two anonymous files, the peer's mapped read-only.
    #[cfg(not(loom))]
    Memfd,
    /// Two files in this directory, the peer's mapped read-only.
    #[cfg(not(loom))]
    File(std::path::PathBuf),
}

/// A ring whose two ends stay in one process: for tests, simulators and benches. It is the same code as between
/// processes, over two files' worth of memory, without locks and doorbells ([`Producer::ring`] does nothing).
///
/// # Errors
/// Sizes out of bounds, or no memory.
///
/// ```
/// use shm_bus::{Claimed, Read, RecordCopy, RecordHeader, RingBacking, ring_pair};
/// let (mut producer, mut consumer) = ring_pair(4096, 1024, &RingBacking::Heap)?;
/// if let Claimed::Claimed(mut claim) = producer.claim(5)? {
///     claim.payload_mut().copy_from_slice(b"hello");
///     claim.commit(RecordHeader { kind: 1, ..RecordHeader::default() });
/// }
/// let mut copy = RecordCopy::default();
/// assert!(matches!(consumer.next(&mut copy), Read::Record(header) if header.kind == 1));
/// assert_eq!(copy.payload(), b"hello");
/// consumer.release_to(consumer.position());
/// assert_eq!(consumer.next(&mut copy), Read::Empty);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn ring_pair(
    ring_bytes: usize,
    record_bytes_max: usize,
    backing: &RingBacking,
) -> Result<(Producer, Consumer), SegmentError> {
    let shape = RingShape::new(ring_bytes, record_bytes_max)?;
    let bytes = layout::file_bytes(1, ring_bytes);
    let [producers, consumers] = match backing {
        RingBacking::Heap => {
            [Memory::heap(bytes), Memory::heap(layout::file_bytes(1, 0))].map(|memory| {
                let peer = Arc::clone(&memory);
                (memory, peer)
            })
        }
        #[cfg(not(loom))]
        RingBacking::Memfd => [
            crate::memory::memfd_twice("ring", bytes)?,
            crate::memory::memfd_twice("cursors", layout::PAGE_BYTES * 2)?,
        ],
        #[cfg(not(loom))]
        RingBacking::File(directory) => [
            crate::memory::file_twice(&directory.join("producer.mem"), bytes)?,
            crate::memory::file_twice(&directory.join("consumer.mem"), layout::PAGE_BYTES * 2)?,
        ],
    };
    let (port, ring) = (layout::PAGE_BYTES, layout::rings_offset(1));
    let producer = Producer::over(shape, &producers.0, &consumers.1, port, ring)
        .map_err(|damage| damage_of(&damage))?;
    let consumer = Consumer::over(shape, &consumers.0, &producers.1, port, ring)
        .map_err(|damage| damage_of(&damage))?;
    Ok((producer, consumer))
}

/// Fresh memory has fresh cursors; a file that somebody wrote meanwhile has not.
fn damage_of(damage: &crate::error::Damage) -> SegmentError {
    SegmentError::Bus(crate::error::BusError::Unfit {
        path: "ring".into(),
        found: damage.to_string(),
        expected: "cursors that agree".into(),
        remedy: "remove it and start again".into(),
    })
}
