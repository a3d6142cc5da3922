//! The ring of provided buffers: memory that the kernel picks from when bytes have come, so that an idle connection
//! owns none.
//!
//! A buffer is at any time in exactly one place: in the ring (the kernel's), or out (whoever holds its
//! [`BufferId`]). `out` remembers which, so that giving back twice is caught where it happens.
//!
//! Starts are spread over cache sets: with a stride of a power of two the headers of all buffers would share a
//! handful of them.
#![expect(
    unsafe_code,
    reason = "memory that the kernel reads and writes, registered by address"
)]

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use io_uring::{IoUring, cqueue, squeue};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use super::BufferId;

/// The only group of buffers that a shard has.
pub const BUFFER_GROUP: u16 = 0;

/// Bytes between the ends and the starts of neighbours.
const SPREAD_BYTES: usize = 192;

/// The buffers of one shard and the ring through which the kernel gets them.
pub struct BufferRing {
    entries: NonNull<BufRingEntry>,
    entries_bytes: usize,
    memory: NonNull<u8>,
    memory_bytes: usize,
    buffer_bytes: u32,
    count: u16,
    tail: u16,
    published: u16,
    free: u16,
    out: Box<[bool]>,
}

impl BufferRing {
    /// Maps `count` (a power of two) buffers and registers them with `ring`.
    ///
    /// # Errors
    /// What mmap or the registration says.
    pub fn register<S: squeue::EntryMarker, C: cqueue::EntryMarker>(
        ring: &IoUring<S, C>,
        count: u16,
        buffer_bytes: u32,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two() && count <= 1 << 15);
        let entries_bytes = usize::from(count) * size_of::<BufRingEntry>();
        let memory_bytes = usize::from(count) * (buffer_bytes as usize + SPREAD_BYTES);
        let entries = map(entries_bytes)?.cast::<BufRingEntry>();
        let memory = map(memory_bytes)?;
        let mut this = Self {
            entries,
            entries_bytes,
            memory,
            memory_bytes,
            buffer_bytes,
            count,
            tail: 0,
            published: 0,
            free: 0,
            out: vec![true; usize::from(count)].into(),
        };
        // SAFETY: the mapping holds `count` entries and lives until `Drop`, which the driver runs after it closed
        // its ring.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.as_ptr() as u64,
                count,
                BUFFER_GROUP,
                0,
            )?;
        }
        for id in 0..count {
            this.give_back(BufferId(id));
        }
        this.publish();
        Ok(this)
    }

    fn start(&self, id: BufferId) -> usize {
        usize::from(id.0) * (self.buffer_bytes as usize + SPREAD_BYTES)
    }

    /// The memory of a buffer that is out.
    pub fn buffer(&mut self, id: BufferId) -> &mut [u8] {
        assert!(self.out[usize::from(id.0)], "invariant: the buffer is out");
        // SAFETY: inside the mapping, as `id` indexed `out`. The buffer is out, so the kernel does not write it; it
        // may read it for a send, as the returned borrow may. `&mut self` keeps other borrows away.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.memory.as_ptr().add(self.start(id)),
                self.buffer_bytes as usize,
            )
        }
    }

    /// A completion named this buffer: it is out of the ring.
    pub fn take_out(&mut self, id: BufferId) {
        let out = &mut self.out[usize::from(id.0)];
        assert!(!*out, "invariant: the kernel had the buffer");
        *out = true;
        self.free -= 1;
    }

    /// Puts the buffer back, visible to the kernel after the next [`Self::publish`].
    pub fn give_back(&mut self, id: BufferId) {
        let out = &mut self.out[usize::from(id.0)];
        assert!(*out, "invariant: a buffer is given back once");
        *out = false;
        self.free += 1;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: inside the mapping. The kernel reads entries only below the published tail, and no more than
        // `count` buffers exist, so this one is ours to write.
        let entry = unsafe { &mut *self.entries.as_ptr().add(index) };
        entry.set_addr(self.memory.as_ptr() as u64 + self.start(id) as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id.0);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was given back.
    pub fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        self.published = self.tail;
        // SAFETY: the entries start at a page; the tail lies in the first entry's reserved field and both sides
        // access it atomically.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        // Release: the entries before the tail. The kernel acquires.
        tail.store(self.tail, Ordering::Release);
    }

    /// Bytes of each buffer.
    pub fn buffer_bytes(&self) -> usize {
        self.buffer_bytes as usize
    }

    /// Buffers in the ring, of how many.
    pub fn free(&self) -> (u32, u32) {
        (u32::from(self.free), u32::from(self.count))
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        // SAFETY: both were mapped by `map` with these lengths; the kernel's ring is gone by now.
        unsafe {
            let _ = munmap(self.memory.as_ptr().cast(), self.memory_bytes);
            let _ = munmap(self.entries.as_ptr().cast(), self.entries_bytes);
        }
    }
}

fn map(bytes: usize) -> io::Result<NonNull<u8>> {
    // SAFETY: a fresh anonymous mapping; nothing is replaced.
    let address = unsafe {
        mmap_anonymous(
            std::ptr::null_mut(),
            bytes,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE,
        )
    }?;
    Ok(NonNull::new(address.cast()).expect("invariant: mmap never returns null"))
}
