//! The side that wakes: producers in other processes, and other threads of the sleeper's own.

use crate::{
    doorbell::Pipe,
    memory::Word,
    sync::{Arc, AtomicU64, Ordering, fence},
};

/// Wakes one sleeper. Clones may be used from any thread: an HTTP thread that queued something for the turn rings
/// like a producer does.
#[derive(Clone)]
pub struct Ringer {
    word: Word,
    pipe: Arc<Pipe>,
    /// The sleep in which a clone of this rang last; 0 (even) is none.
    rung: Arc<AtomicU64>,
}

impl Ringer {
    pub(crate) fn new(word: Word, pipe: Arc<Pipe>) -> Self {
        Self {
            word,
            pipe,
            rung: Arc::new(AtomicU64::new(0)),
        }
    }

    /// A ringer of the same doorbell that keeps its own account of sleeps: shards do not share a contended word.
    #[cfg(not(loom))]
    pub(crate) fn for_one_producer(&self) -> Self {
        Self {
            rung: Arc::new(AtomicU64::new(0)),
            ..self.clone()
        }
    }

    /// Wakes the sleeper if it sleeps; tells whether a byte was written. Call it after what it shall find is
    /// published: the fence is in here.
    ///
    /// Costs a fence and a load of a shared word while the sleeper is awake; a system call once in each sleep.
    #[inline]
    pub fn ring(&self) -> bool {
        // SYNC(asleep)
        fence(Ordering::SeqCst);
        let sleep = self.word.load(Ordering::Relaxed);
        if sleep.is_multiple_of(2) || sleep == self.rung.load(Ordering::Relaxed) {
            return false;
        }
        // The byte first: another clone that finds `rung` set can rely on the byte being there.
        self.pipe.ring();
        self.rung.store(sleep, Ordering::Relaxed);
        true
    }

    /// Whether the sleeper's word says that it sleeps. A glance, for statistics.
    #[must_use]
    pub fn sleeps(&self) -> bool {
        !self.word.load(Ordering::Relaxed).is_multiple_of(2)
    }
}

impl std::fmt::Debug for Ringer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ringer")
            .field("sleeps", &self.sleeps())
            .finish_non_exhaustive()
    }
}
