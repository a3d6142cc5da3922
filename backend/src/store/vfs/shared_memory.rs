//! The log's index on the heap: regions that every handle of one file shares, as long as one of them has them mapped.
#![expect(
    unsafe_code,
    reason = "memory that SQLite's connections share by address"
)]

use std::ptr;
use std::sync::{Mutex, PoisonError};

/// Regions of one size; they stay where they are until the last owner is gone.
#[derive(Debug, Default)]
pub struct Regions(Mutex<Vec<Region>>);

#[derive(Debug)]
struct Region(*mut [u64]);

// SAFETY: a region is plain memory that nobody here reads or writes: only its address is handed out. SQLite orders
// its own accesses through the index's locks and barriers, from whatever thread.
unsafe impl Send for Region {}

impl Regions {
    /// Address of region `number`, 8-byte aligned; made as zeros with those before it if `extend`, otherwise null if
    /// it is not there.
    pub fn address(&self, number: usize, bytes: usize, extend: bool) -> *mut u8 {
        let mut regions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if extend {
            while regions.len() <= number {
                let words = vec![0_u64; bytes.div_ceil(size_of::<u64>())];
                regions.push(Region(Box::into_raw(words.into_boxed_slice())));
            }
        }
        regions
            .get(number)
            .map_or(ptr::null_mut(), |region| region.0.cast::<u8>())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the pointer came from Box::into_raw in `address` and is dropped here alone. Nobody uses the memory
        // any more: each handle that got an address owns a share of these regions until it unmaps them or is closed.
        drop(unsafe { Box::from_raw(self.0) });
    }
}
