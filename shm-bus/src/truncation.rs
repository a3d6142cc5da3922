//! A mapped file cut short: an exit with a sentence, and not a bare SIGBUS.
//!
//! Files of the bus are allocated in full, so a mapping only ever lacks memory because somebody truncated its file (or
//! the machine lost a page). Nothing can be done then but to say so: whoever reads the word has no value to go on with.

use std::{io, mem::MaybeUninit, ptr, sync::OnceLock};

use crate::sync::{AtomicU64, Ordering};

/// What a process exits with that lost the memory of the bus under its feet (`EX_IOERR`).
pub const EXIT_CODE_TRUNCATED: i32 = 74;

const SENTENCE: &[u8] = b"shm-bus: the memory of the bus was cut short under this process: a file in the bus directory \
was truncated. It ends; started again, it makes what it needs anew.\n";

/// Mappings that are watched; those beyond die of a bare SIGBUS. A backend has two a gateway and two of its own.
const WATCHED_MAX: usize = 1024;

struct Mapping {
    /// 0: free.
    start: AtomicU64,
    bytes: AtomicU64,
}

static MAPPINGS: [Mapping; WATCHED_MAX] = [const {
    Mapping {
        start: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
    }
}; WATCHED_MAX];

/// What stood there before this handler: SIGBUS elsewhere is still its affair.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// From here on, a SIGBUS in memory of the bus writes a sentence to the standard error and exits with
/// [`EXIT_CODE_TRUNCATED`]; any other goes to whoever handled it before. For a process's main function, once.
///
/// # Errors
/// The handler cannot be installed.
pub fn exit_on_truncation() -> io::Result<()> {
    if BEFORE.get().is_some() {
        return Ok(());
    }
    let mut before = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: an all-zero sigaction is a valid one: no flags, no mask, default action.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_sigbus;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: both point to a sigaction of this frame; the handler does only what a signal handler may.
    if unsafe { libc::sigaction(libc::SIGBUS, &raw const action, before.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and wrote it. Should two threads race here, the later finds the former's handler: both
    // are this one.
    let _ = BEFORE.set(unsafe { before.assume_init() });
    Ok(())
}

/// Async-signal-safe: atomic loads, write(2), _exit(2), sigaction(2).
extern "C" fn on_sigbus(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel hands a SA_SIGINFO handler a valid siginfo; for SIGBUS si_addr is the faulting address.
    let address = unsafe { (*info).si_addr() }.addr() as u64;
    let ours = MAPPINGS.iter().any(|mapping| {
        let start = mapping.start.load(Ordering::Acquire);
        start != 0 && address.wrapping_sub(start) < mapping.bytes.load(Ordering::Relaxed)
    });
    if ours {
        // SAFETY: writes a static; then the process ends without running anything else of it.
        unsafe {
            libc::write(
                libc::STDERR_FILENO,
                SENTENCE.as_ptr().cast(),
                SENTENCE.len(),
            );
            libc::_exit(EXIT_CODE_TRUNCATED);
        }
    }
    let Some(before) = BEFORE.get() else { return };
    // SAFETY: puts back what was there. The faulting instruction runs again, and its SIGBUS goes there.
    unsafe { libc::sigaction(libc::SIGBUS, before, ptr::null_mut()) };
}

pub(crate) fn watch(start: usize, bytes: usize) {
    for mapping in &MAPPINGS {
        let free = mapping
            .start
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        if free.is_ok() {
            mapping.bytes.store(bytes as u64, Ordering::Relaxed);
            mapping.start.store(start as u64, Ordering::Release);
            return;
        }
    }
}

pub(crate) fn forget(start: usize) {
    for mapping in &MAPPINGS {
        if mapping.start.load(Ordering::Relaxed) == start as u64 {
            mapping.start.store(0, Ordering::Release);
            return;
        }
    }
}
