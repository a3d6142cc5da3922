//! Names of connections: shard, slot, generation. A slot that is used again has a new generation, so a late
//! completion, record or timer can never reach the connection that came after.

use core::fmt;

/// One connection of one gateway process, for as long as that process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The shard (core) that owns the connection for its whole life.
    pub shard: u16,
    /// Index into the shard's slabs: below [`SLOTS_MAX`].
    pub slot: u32,
    /// Counts the uses of the slot; never 0 for a connection that was accepted.
    pub generation: u32,
}

/// A slot must fit the 24 bits that an io_uring `user_data` leaves for it.
pub const SLOTS_MAX: u32 = 1 << 24;

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.shard, self.slot, self.generation)
    }
}
