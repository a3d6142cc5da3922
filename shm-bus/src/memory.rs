//! Memory of whole 64-bit words that a peer may be reading or writing: on the heap, in a memfd, in a file.
//!
//! No reference to plain bytes is ever made over it. Control words are reached as atomics; a record is copied out
//! word by word with relaxed atomic loads; only a producer, and only for its own uncommitted claim, gets a byte
//! slice ([`Words::claim_bytes`]).

use std::ptr::NonNull;

use crate::sync::{Arc, AtomicU64, Ordering};

/// Memory that stays where it is until the last reference goes.
pub(crate) struct Memory {
    backing: Backing,
    words: usize,
    writable: bool,
}

enum Backing {
    Heap(Box<[AtomicU64]>),
    #[cfg(not(loom))]
    Mapped(crate::mapping::Mapping),
}

impl Memory {
    /// Zeroed heap memory; `bytes` is rounded up to whole words.
    pub(crate) fn heap(bytes: usize) -> Arc<Self> {
        let words: Box<[AtomicU64]> = (0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self {
            words: words.len(),
            backing: Backing::Heap(words),
            writable: true,
        })
    }

    /// Maps the first `bytes` of a file, shared.
    #[cfg(not(loom))]
    pub(crate) fn map(
        file: &std::fs::File,
        bytes: usize,
        writable: bool,
    ) -> std::io::Result<Arc<Self>> {
        let mapping = crate::mapping::Mapping::of(file, bytes, writable)?;
        crate::truncation::watch(mapping.start().addr().get(), bytes);
        Ok(Arc::new(Self {
            words: bytes / 8,
            backing: Backing::Mapped(mapping),
            writable,
        }))
    }

    /// Places it as `placed` wishes, which says what came of it. Memory on the heap stays where it is.
    #[cfg(not(loom))]
    pub(crate) fn place(&self, placed: &mut crate::placement::Placed) {
        if let Backing::Mapped(mapping) = &self.backing {
            placed.add(mapping);
        }
    }

    fn base(&self) -> NonNull<AtomicU64> {
        match &self.backing {
            Backing::Heap(words) => NonNull::from(&**words).cast(),
            #[cfg(not(loom))]
            Backing::Mapped(mapping) => mapping.start().cast(),
        }
    }
}

#[cfg(not(loom))]
impl Drop for Memory {
    fn drop(&mut self) {
        if let Backing::Mapped(mapping) = &self.backing {
            crate::truncation::forget(mapping.start().addr().get());
        }
    }
}

/// One control word, alive as long as its memory.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    at: NonNull<AtomicU64>,
    memory: Arc<Memory>,
}

impl Word {
    /// The word at a byte offset.
    ///
    /// # Panics
    /// Outside the memory or not 8-aligned: offsets come from [`crate::layout`] and sizes were checked at attach.
    pub(crate) fn at(memory: &Arc<Memory>, offset_bytes: usize) -> Self {
        assert!(
            offset_bytes.is_multiple_of(8) && offset_bytes / 8 < memory.words,
            "a word inside the memory"
        );
        // SAFETY: the index was just checked against the number of words at `base`.
        let at = unsafe { memory.base().add(offset_bytes / 8) };
        Self {
            at,
            memory: Arc::clone(memory),
        }
    }

    #[inline]
    fn get(&self) -> &AtomicU64 {
        // SAFETY: `at` points to a word of `memory`, which `self` keeps alive; it is 8-aligned, and all access to
        // it, in this process and in others, is atomic.
        unsafe { self.at.as_ref() }
    }

    #[inline]
    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.get().load(order)
    }

    /// Only on memory mapped writable; the callers' types see to that.
    #[inline]
    pub(crate) fn store(&self, value: u64, order: Ordering) {
        debug_assert!(self.memory.writable);
        self.get().store(value, order);
    }

    #[cfg(not(loom))]
    #[inline]
    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        debug_assert!(self.memory.writable);
        self.get().fetch_add(value, order)
    }
}

// SAFETY: a pointer to an atomic, with the memory that it points into; atomics may be used from any thread.
unsafe impl Send for Word {}
// SAFETY: as above.
unsafe impl Sync for Word {}

/// A run of words: a ring, or counters.
#[derive(Clone)]
pub(crate) struct Words {
    first: NonNull<AtomicU64>,
    count: usize,
    memory: Arc<Memory>,
}

// SAFETY: as for `Word`. The one door to plain bytes, `claim_bytes`, is unsafe and says what its caller must hold.
unsafe impl Send for Words {}
// SAFETY: as above: every safe method is an atomic access.
unsafe impl Sync for Words {}

impl Words {
    /// # Panics
    /// Outside the memory or not 8-aligned, as for [`Word::at`].
    pub(crate) fn at(memory: &Arc<Memory>, offset_bytes: usize, bytes: usize) -> Self {
        assert!(
            offset_bytes.is_multiple_of(8) && bytes.is_multiple_of(8),
            "whole words"
        );
        let (from, count) = (offset_bytes / 8, bytes / 8);
        assert!(
            from.checked_add(count)
                .is_some_and(|end| end <= memory.words),
            "words inside the memory"
        );
        // SAFETY: `from` is at most the number of words at `base`.
        let first = unsafe { memory.base().add(from) };
        Self {
            first,
            count,
            memory: Arc::clone(memory),
        }
    }

    #[inline]
    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.count, "inside the ring");
        // SAFETY: in bounds by the line above; alive and atomic as for `Word::get`.
        unsafe { self.first.add(index).as_ref() }
    }

    #[inline]
    pub(crate) fn load(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn store(&self, index: usize, value: u64) {
        debug_assert!(self.memory.writable);
        self.word(index).store(value, Ordering::Relaxed);
    }

    /// Copies out, each word read once.
    #[inline]
    pub(crate) fn copy_out(&self, index: usize, into: &mut [u64]) {
        assert!(
            index <= self.count && into.len() <= self.count - index,
            "inside the ring"
        );
        // SAFETY: index + into.len() <= count by the line above, so all of the source is words of `memory`, alive and
        // 8-aligned; `into` is this process's own memory and does not overlap it.
        unsafe { copy_words(self.first.add(index), into) }
    }

    /// The bytes of a claim, to be written before they are published.
    ///
    /// # Safety
    /// Until the slice is gone nobody else in this process may touch these words, and no peer may write them: the
    /// caller is the ring's one producer, its memory is its own, and the words lie outside [released, published).
    #[cfg(not(loom))]
    #[inline]
    pub(crate) unsafe fn claim_bytes(&mut self, index: usize, bytes: usize) -> &mut [u8] {
        assert!(self.memory.writable);
        assert!(
            index <= self.count && bytes <= (self.count - index) * 8,
            "inside the ring"
        );
        // SAFETY: in bounds by the line above, and every byte of it is initialised memory of `memory`, which `self`
        // keeps alive; that nobody else touches it is the caller's to hold.
        unsafe {
            std::slice::from_raw_parts_mut(self.first.add(index).cast::<u8>().as_ptr(), bytes)
        }
    }
}

/// Reads words that a peer may be writing, each at least once and none outside `from .. from + into.len()`.
///
/// # Safety
/// `from` points to `into.len()` live words, which no thread of this process writes other than atomically.
#[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
unsafe fn copy_words(from: NonNull<AtomicU64>, into: &mut [u64]) {
    for (offset, word) in into.iter_mut().enumerate() {
        // SAFETY: offset < into.len(), so this is one of the words that the caller vouches for.
        *word = unsafe { from.add(offset).as_ref() }.load(Ordering::Relaxed);
    }
}

/// The same in 64-byte steps. The compiler keeps relaxed loads apart, 8 bytes each: 30 ns for 512 bytes; this takes
/// 9 ns (`tidegate bench bus`). Assembly, because to the compiler a plain copy of memory that others write would
/// be undefined; what the instructions do is what a loop of relaxed byte loads may do.
///
/// # Safety
/// `from` points to `into.len()` live words, which no thread of this process writes other than atomically.
#[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
#[inline]
unsafe fn copy_words(from: NonNull<AtomicU64>, into: &mut [u64]) {
    const STEP_WORDS: usize = 8;
    let steps = into.len() / STEP_WORDS;
    if steps > 0 {
        // SAFETY: reads `steps` × 64 bytes from `from` and writes as many to `into`, both at least that long; unaligned
        // moves; clobbers what it says; leaves the stack alone.
        unsafe {
            std::arch::asm!(
                "2:",
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + 32]",
                "movups {d}, [{from} + 48]",
                "movups [{into}], {a}",
                "movups [{into} + 16], {b}",
                "movups [{into} + 32], {c}",
                "movups [{into} + 48], {d}",
                "add {from}, 64",
                "add {into}, 64",
                "dec {steps}",
                "jnz 2b",
                from = inout(reg) from.as_ptr() => _,
                into = inout(reg) into.as_mut_ptr() => _,
                steps = inout(reg) steps => _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack),
            );
        }
    }
    for (offset, word) in into.iter_mut().enumerate().skip(steps * STEP_WORDS) {
        // SAFETY: offset < into.len(), so this is one of the words that the caller vouches for.
        *word = unsafe { from.add(offset).as_ref() }.load(Ordering::Relaxed);
    }
}

/// An anonymous file, mapped twice: by its writer, and read-only as its peer has it.
#[cfg(not(loom))]
pub(crate) fn memfd_twice(
    name: &str,
    bytes: usize,
) -> Result<(Arc<Memory>, Arc<Memory>), crate::error::BusError> {
    let failed = |what, source| crate::error::BusError::Io {
        what,
        path: name.into(),
        source,
    };
    let file = rustix::fs::memfd_create(name, rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| failed("memfd", e.into()))?;
    map_twice(&std::fs::File::from(file), bytes).map_err(|source| failed("map", source))
}

/// A new file, mapped twice: by its writer, and read-only as its peer has it.
#[cfg(not(loom))]
pub(crate) fn file_twice(
    path: &std::path::Path,
    bytes: usize,
) -> Result<(Arc<Memory>, Arc<Memory>), crate::error::BusError> {
    let failed = |what, source| crate::error::BusError::Io {
        what,
        path: path.into(),
        source,
    };
    let mut options = std::fs::File::options();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|e| failed("create", e))?;
    map_twice(&file, bytes).map_err(|source| failed("map", source))
}

#[cfg(not(loom))]
fn map_twice(file: &std::fs::File, bytes: usize) -> std::io::Result<(Arc<Memory>, Arc<Memory>)> {
    file.set_len(bytes as u64)?;
    Ok((
        Memory::map(file, bytes, true)?,
        Memory::map(file, bytes, false)?,
    ))
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory")
            .field("words", &self.words)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}
