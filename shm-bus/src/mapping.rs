//! A file mapped shared, at a multiple of 2 MiB: what lies on huge pages is then mapped by them, too.

use std::fs::File;
use std::io;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// Bytes of a huge page. Machines with longer ones (aarch64 with base pages of 64 KiB) get none.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// The longest base page of any machine.
const BASE_PAGE_BYTES_MAX: usize = 64 << 10;

/// The mapping. It ends with this value.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    /// With the addresses behind it that no other mapping gets meanwhile.
    whole_bytes: usize,
}

// SAFETY: an address and a length. What is there is reached by `Memory`, and shared with other processes anyway.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of a file.
    ///
    /// # Errors
    /// What mmap says.
    pub(crate) fn of(file: &File, bytes: usize, writable: bool) -> io::Result<Self> {
        let whole_bytes = bytes.next_multiple_of(BASE_PAGE_BYTES_MAX);
        let room_bytes = whole_bytes + HUGE_PAGE_BYTES;
        let reserve = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping, where the kernel likes, of addresses that nobody may touch.
        let room = unsafe {
            mmap_anonymous(ptr::null_mut(), room_bytes, ProtFlags::empty(), reserve)?.cast::<u8>()
        };
        let front_bytes = room.addr().next_multiple_of(HUGE_PAGE_BYTES) - room.addr();
        let place = room.wrapping_add(front_bytes);
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, writable);
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: the place and its bytes lie in the room; nothing but the room is replaced.
        let mapped = unsafe { mmap(place.cast(), bytes, protection, flags, file, 0) };
        let behind = place.wrapping_add(whole_bytes);
        match mapped {
            Ok(_) => {
                unmap(room, front_bytes);
                unmap(behind, HUGE_PAGE_BYTES - front_bytes);
            }
            Err(error) => {
                unmap(room, room_bytes);
                return Err(error.into());
            }
        }
        let start = NonNull::new(place).expect("a mapping never lies at address 0");
        Ok(Self {
            start,
            bytes,
            whole_bytes,
        })
    }

    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        unmap(self.start.as_ptr(), self.whole_bytes);
    }
}

/// Ends the mapping of whole pages that are this module's.
fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: mapped by `Mapping::of`. Nothing refers to it: it was never handed out, or what held it is gone.
        let _ = unsafe { munmap(start.cast(), bytes) };
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn every_mapping_begins_at_a_huge_page_and_shows_the_file() {
        let file = tempfile::tempfile().unwrap();
        for bytes in [4096, HUGE_PAGE_BYTES, HUGE_PAGE_BYTES + 8192] {
            file.set_len(bytes as u64).unwrap();
            file.write_all_at(b"last", bytes as u64 - 4).unwrap();
            let mapping = Mapping::of(&file, bytes, false).unwrap();
            assert!(mapping.start().addr().get().is_multiple_of(HUGE_PAGE_BYTES));
            // SAFETY: inside the mapping, of which nobody else knows.
            let last =
                unsafe { std::slice::from_raw_parts(mapping.start().as_ptr().add(bytes - 4), 4) };
            assert_eq!(last, b"last");
        }
    }

    #[test]
    fn what_cannot_be_mapped_leaves_nothing_behind() {
        let file = File::open("/proc/self/maps").unwrap();
        let mappings = || {
            std::fs::read_to_string("/proc/self/maps")
                .unwrap()
                .lines()
                .count()
        };
        let before = mappings();
        for _ in 0..100 {
            assert!(Mapping::of(&file, 4096, false).is_err());
        }
        // Other tests map meanwhile, but not a hundred times.
        assert!(mappings() < before + 50);
    }
}
