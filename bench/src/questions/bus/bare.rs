//! The floor: two counters and a ring of fixed cells in shared memory, without headers, checks, sleep, taps or trust. What
//! the machine itself takes to move 512 bytes from one core to another, wherever the two happen to lie today.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use memmap2::MmapRaw;

use super::link::{Link, PAYLOAD_BYTES};

const CELL_BYTES: usize = 512;
const CELLS: u64 = 8_192; // 4 MiB, as the rings that it stands beside
const RELEASE_CELLS: u64 = 128;
const PUBLISHED_OFFSET: usize = 0;
const RELEASED_OFFSET: usize = 128;
const CELLS_OFFSET: usize = 4_096;
const FILE_BYTES: u64 = CELLS_OFFSET as u64 + CELLS * CELL_BYTES as u64;
const TO_FAR: &str = "bare_to_far";
const TO_NEAR: &str = "bare_to_near";

/// Makes both rings, before the far end starts.
///
/// # Errors
/// When there is no room for them.
pub fn make(directory: &Path) -> Result<()> {
    for name in [TO_FAR, TO_NEAR] {
        let file = File::create_new(directory.join(name))?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, FILE_BYTES)
            .context("no room for a ring of 4 MiB")?;
    }
    Ok(())
}

/// One end of both rings.
pub struct Bare {
    to: Half,
    from: Half,
}

/// One end of one ring.
struct Half {
    memory: MmapRaw,
    /// Cells written, or read, by this end.
    own: u64,
    /// The other end's cursor as seen last.
    other: u64,
}

impl Half {
    fn open(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path)?;
        Ok(Self {
            memory: MmapRaw::map_raw(&file)?,
            own: 0,
            other: 0,
        })
    }

    #[expect(unsafe_code, reason = "shared memory")]
    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: both offsets lie in the first page of the mapping, 8-aligned, and are only ever used as atomics.
        unsafe { AtomicU64::from_ptr(self.memory.as_mut_ptr().add(offset).cast()) }
    }

    #[inline]
    fn cell(&self) -> *mut u8 {
        let offset = CELLS_OFFSET + (self.own % CELLS) as usize * CELL_BYTES;
        self.memory.as_mut_ptr().wrapping_add(offset)
    }
}

impl Bare {
    /// The near end.
    ///
    /// # Errors
    /// When the rings were not made.
    pub fn near(directory: &Path) -> Result<Self> {
        Ok(Self {
            to: Half::open(&directory.join(TO_FAR))?,
            from: Half::open(&directory.join(TO_NEAR))?,
        })
    }

    /// The far end.
    ///
    /// # Errors
    /// When the rings were not made.
    pub fn far(directory: &Path) -> Result<Self> {
        Ok(Self {
            to: Half::open(&directory.join(TO_NEAR))?,
            from: Half::open(&directory.join(TO_FAR))?,
        })
    }
}

impl Link for Bare {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let half = &mut self.to;
        while half.own - half.other == CELLS {
            half.other = half.word(RELEASED_OFFSET).load(Ordering::Acquire);
            std::hint::spin_loop();
        }
        #[expect(unsafe_code, reason = "shared memory")]
        // SAFETY: the cell lies in the mapping, and the other end has given it back and reads it only once `published`
        // is past it.
        fill(unsafe { std::slice::from_raw_parts_mut(half.cell(), PAYLOAD_BYTES) });
        half.own += 1;
        half.word(PUBLISHED_OFFSET)
            .store(half.own, Ordering::Release);
        Ok(())
    }

    #[inline]
    fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let half = &mut self.from;
        while half.own == half.other {
            half.other = half.word(PUBLISHED_OFFSET).load(Ordering::Acquire);
            std::hint::spin_loop();
        }
        let mut copy = [0_u8; PAYLOAD_BYTES];
        #[expect(unsafe_code, reason = "shared memory")]
        // SAFETY: the cell lies in the mapping, `published` is past it, and the other end writes it again only once
        // `released` is.
        unsafe {
            std::ptr::copy_nonoverlapping(half.cell(), copy.as_mut_ptr(), PAYLOAD_BYTES);
        }
        half.own += 1;
        if half.own.is_multiple_of(RELEASE_CELLS) {
            half.word(RELEASED_OFFSET)
                .store(half.own, Ordering::Release);
        }
        read(&copy)
    }
}
