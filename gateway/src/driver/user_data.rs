//! What an operation's completion says of itself: operation (8 bits), slot (24), generation (32).

use super::Key;
use crate::id::SLOTS_MAX;

/// The operations that have completions of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// A completion that nobody waits for (cancel).
    Ignored = 0,
    /// Multishot accept; the slot is the listener's index.
    Accept = 1,
    /// Receive, multishot or once.
    Receive = 2,
    /// Send.
    Send = 3,
    /// The service's doorbell.
    Doorbell = 4,
    /// The control plane's doorbell.
    Control = 5,
}

/// Packs operation, slot and generation.
pub fn pack(operation: Operation, key: Key) -> u64 {
    debug_assert!(key.slot < SLOTS_MAX);
    (operation as u64) << 56 | u64::from(key.slot) << 32 | u64::from(key.generation)
}

/// What [`pack`] packed.
pub fn unpack(user_data: u64) -> (Operation, Key) {
    let operation = match user_data >> 56 {
        1 => Operation::Accept,
        2 => Operation::Receive,
        3 => Operation::Send,
        4 => Operation::Doorbell,
        5 => Operation::Control,
        _ => Operation::Ignored,
    };
    let slot = u32::try_from(user_data >> 32 & u64::from(SLOTS_MAX - 1))
        .expect("invariant: masked to 24 bits");
    let generation = u32::try_from(user_data & 0xFFFF_FFFF).expect("invariant: masked to 32 bits");
    (operation, Key { slot, generation })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_slot_and_generation_comes_back() {
        use Operation::{Accept, Control, Doorbell, Ignored, Receive, Send};
        for operation in [Ignored, Accept, Receive, Send, Doorbell, Control] {
            for slot in [0, 1, SLOTS_MAX - 1] {
                for generation in [0, 1, u32::MAX] {
                    let key = Key { slot, generation };
                    assert_eq!(unpack(pack(operation, key)), (operation, key));
                }
            }
        }
    }
}
