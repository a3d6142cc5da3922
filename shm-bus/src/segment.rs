//! A gateway makes its segment.

use crate::{
    control::GatewayControl,
    counters::Counters,
    directory::BusDirectory,
    doorbell::Sleeper,
    error::SegmentError,
    identity::InstanceId,
    limits::{RECORD_BYTES_MAX_DEFAULT, RING_BYTES_DEFAULT},
    ring::{Consumer, Producer},
};

/// Sizes of a segment. Its memory is twice `shards × ring_bytes`, allocated in full when it is made.
#[derive(Clone, Debug)]
pub struct SegmentOptions {
    /// Shards of this gateway, 1 to [`SHARDS_MAX`](crate::SHARDS_MAX).
    pub shards: usize,
    /// Each ring, a power of two from [`RING_BYTES_MIN`](crate::RING_BYTES_MIN) to
    /// [`RING_BYTES_MAX`](crate::RING_BYTES_MAX).
    pub ring_bytes: usize,
    /// Largest record, header and payload: a multiple of 8, at most a quarter of `ring_bytes`.
    pub record_bytes_max: usize,
    /// Name and version of the program, for the sentences of those who refuse it. At most 64 bytes count.
    pub build: String,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            shards: 1,
            ring_bytes: RING_BYTES_DEFAULT,
            record_bytes_max: RECORD_BYTES_MAX_DEFAULT,
            build: concat!("shm-bus ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A gateway's own segment. It lives, for everybody, as long as this value or one of its shard ends does, and no
/// longer than the process.
#[derive(Debug)]
pub struct GatewaySegment {
    _private: (),
}

impl GatewaySegment {
    /// Makes a segment under a fresh id. Nothing half-made is ever seen: it gets its name when it is complete.
    ///
    /// # Errors
    /// An option out of bounds; no room (the sentence names Docker's default); the directory is gone.
    pub fn create(bus: &BusDirectory, options: &SegmentOptions) -> Result<Self, SegmentError> {
        let _ = (bus, options);
        todo!()
    }

    /// Its name.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        todo!()
    }

    /// The shared pages.
    #[must_use]
    pub fn control(&self) -> &GatewayControl {
        todo!()
    }

    /// The ends of one shard; `None` if there is no such shard or it was taken.
    pub fn take_shard(&mut self, shard: u16) -> Option<ShardEnd> {
        let _ = shard;
        todo!()
    }

    /// Takes the segment's name away, when its gateway ends and knows that nothing of it is still wanted. A gateway
    /// that just exits leaves this to the backend, which drains first.
    ///
    /// # Errors
    /// The files cannot be removed.
    pub fn unlink(self) -> Result<(), SegmentError> {
        todo!()
    }
}

/// Everything that one shard's thread holds of the bus.
#[derive(Debug)]
pub struct ShardEnd {
    /// Which shard.
    pub shard: u16,
    /// Writes to the backend.
    pub to_backend: Producer,
    /// Reads from the backend.
    pub to_gateway: Consumer,
    /// This shard's doorbell.
    pub sleeper: Sleeper,
    /// Which backend is attached.
    pub backend: BackendWatch,
    /// This shard's counters, in shared memory.
    pub counters: Counters,
    /// Tickets and frontier.
    pub control: GatewayControl,
}

/// What a gateway knows of the backend.
#[derive(Clone, Debug)]
pub struct BackendWatch {
    _private: (),
}

impl BackendWatch {
    /// The backend instance that attached to this segment last. One load: ask as often as you like. A change means
    /// that connections have to be announced to the new one.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        todo!()
    }

    /// Whether a living process holds the backend's seat, stopped or not. A system call.
    #[must_use]
    pub fn alive(&self) -> bool {
        todo!()
    }

    /// When the backend last beat, µs since the Unix epoch; 0 = never.
    #[must_use]
    pub fn heartbeat_us(&self) -> u64 {
        todo!()
    }
}
