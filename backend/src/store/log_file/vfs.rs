//! The C interface: the platform's VFS under another name, whose log files hold frames back.
//!
//! It is a copy of the platform's table with another `xOpen`; a log file gets a copy of the platform's methods in which
//! those that meet the file's bytes ask [`Held`] first. All others, locks and shared memory above all, are the
//! platform's own: they are called with the platform's own file, to which [`Held`] is only appended.
//!
//! *The contract* in the SAFETY comments (sqlite.org, "OS Interface"): a `sqlite3_file` has `szOsFile` bytes, 8-byte
//! aligned, is filled by xOpen, is passed unchanged to the methods until xClose, and is used by one thread at a time;
//! pointers to buffers and results are valid for the stated length during the call.
#![expect(
    unsafe_code,
    reason = "SQLite's VFS is a C interface, and nothing else can join its writes"
)]

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use rusqlite::ffi;

use super::{Held, Written};
use crate::store::StoreError;

const NAME: &CStr = c"tidegate-log";
/// The most that the platform is asked to write at once.
const WRITE_BYTES_MAX: usize = 64 << 10;
const _: () = assert!(WRITE_BYTES_MAX < 1 << 17);

/// The platform's VFS, and where in a file of ours the pointer to [`Held`] stands: behind the platform's part.
struct Platform {
    vfs: *mut ffi::sqlite3_vfs,
    held_offset: usize,
}

// SAFETY: SQLite shares its VFS between threads itself; the pointer is only read and passed back to it.
unsafe impl Send for Platform {}
// SAFETY: as above.
unsafe impl Sync for Platform {}

/// The platform's methods for a log file, and ours.
struct Methods {
    theirs: *const ffi::sqlite3_io_methods,
    ours: ffi::sqlite3_io_methods,
}

// SAFETY: the platform's table of methods is constant and lives for ever; ours is only read.
unsafe impl Send for Methods {}
// SAFETY: as above.
unsafe impl Sync for Methods {}

static PLATFORM: OnceLock<Result<Platform, c_int>> = OnceLock::new();
static METHODS: OnceLock<Methods> = OnceLock::new();

/// Registers the VFS if this process has not yet; its name.
///
/// It stands in front of whatever VFS is the process's default by then (tests put one there that fails).
///
/// # Errors
/// SQLite does not take it.
pub fn registered_name() -> Result<&'static str, StoreError> {
    let refused =
        |code: &c_int| StoreError::Failed(format!("SQLite takes no other VFS (code {code})"));
    PLATFORM.get_or_init(register).as_ref().map_err(refused)?;
    NAME.to_str()
        .map_err(|error| StoreError::Failed(error.to_string()))
}

fn register() -> Result<Platform, c_int> {
    // SAFETY: asks for the default VFS; sqlite3_vfs_find initialises SQLite itself.
    let platform = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    if platform.is_null() {
        return Err(ffi::SQLITE_ERROR);
    }
    // SAFETY: a registered VFS is complete, lives for ever, and only SQLite changes it, under its lock, in `pNext`.
    let mut vfs = unsafe { *platform };
    let held_offset = usize::try_from(vfs.szOsFile)
        .unwrap_or(0)
        .next_multiple_of(align_of::<*mut Held>());
    let bytes = held_offset + size_of::<*mut Held>();
    vfs.szOsFile = c_int::try_from(bytes).map_err(|_| ffi::SQLITE_TOOBIG)?;
    vfs.pNext = ptr::null_mut();
    vfs.zName = NAME.as_ptr();
    vfs.xOpen = Some(open);
    // SAFETY: the structure is complete, lives for ever (leaked), and its name is a C string.
    match unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) } {
        ffi::SQLITE_OK => Ok(Platform {
            vfs: platform,
            held_offset,
        }),
        code => Err(code),
    }
}

fn platform() -> &'static Platform {
    PLATFORM
        .get()
        .and_then(|registered| registered.as_ref().ok())
        .expect("invariant: SQLite calls a VFS after it was registered")
}

fn methods(theirs: *const ffi::sqlite3_io_methods) -> Methods {
    // SAFETY: by the caller the methods of an open file: complete, and constant for ever.
    let ours = ffi::sqlite3_io_methods {
        xClose: Some(close),
        xRead: Some(read),
        xWrite: Some(write),
        xTruncate: Some(truncate),
        xSync: Some(sync),
        xFileSize: Some(file_size),
        ..unsafe { *theirs }
    };
    Methods { theirs, ours }
}

/// A call of the platform's method on an open file, with the same arguments.
macro_rules! platform {
    ($file:ident.$method:ident($($argument:expr),*) else $otherwise:expr) => {{
        let theirs = METHODS.get().map_or(ptr::null(), |methods| methods.theirs);
        // SAFETY: METHODS was set before a file got a method of ours, from the platform's table; the file is the
        // platform's own, and the arguments keep the contract.
        unsafe { (*theirs).$method.map_or($otherwise, |call| call($file, $($argument),*)) }
    }};
}

/// Where the pointer to what is held stands.
fn held_place(file: *mut ffi::sqlite3_file) -> *mut *mut Held {
    file.wrapping_byte_add(platform().held_offset).cast()
}

/// What is held for a file.
///
/// # Safety
/// `file` is a log file that [`open`] gave our methods, and not closed; nobody else has this reference: the contract
/// lets one thread at a time use it, and no method here calls another.
unsafe fn held<'a>(file: *mut ffi::sqlite3_file) -> &'a mut Held {
    // SAFETY: by the caller; `open` put a leaked box there.
    unsafe { &mut **held_place(file) }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let platform = platform();
    // SAFETY: the platform's VFS is complete and lives for ever; the arguments are SQLite's own, and `file` has more
    // bytes than the platform asks for.
    let code = unsafe {
        (*platform.vfs).xOpen.map_or(ffi::SQLITE_CANTOPEN, |call| {
            call(platform.vfs, name, file, flags, flags_out)
        })
    };
    if code != ffi::SQLITE_OK || flags & ffi::SQLITE_OPEN_WAL == 0 {
        return code;
    }
    // SAFETY: the platform's xOpen succeeded, so the file's methods are set; they are constant.
    unsafe {
        let theirs = (*file).pMethods;
        let methods = METHODS.get_or_init(|| methods(theirs));
        // Another file system may have other methods: its files are used as they are.
        if methods.theirs == theirs {
            ptr::write(held_place(file), Box::into_raw(Box::new(Held::new())));
            (*file).pMethods = &raw const methods.ours;
        }
    }
    code
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the contract: this file's last call; `open` leaked the box. What is held is no whole commit: nobody
    // misses it.
    drop(unsafe { Box::from_raw(*held_place(file)) });
    platform!(file.xClose() else ffi::SQLITE_OK)
}

/// Writes through the platform, whose methods are made for a page: SQLite's own for Unix take 17 bits of a length.
fn write_through(file: *mut ffi::sqlite3_file, offset: u64, bytes: &[u8]) -> Written {
    let mut at = i64::try_from(offset).map_err(|_| ffi::SQLITE_IOERR_WRITE)?;
    for part in bytes.chunks(WRITE_BYTES_MAX) {
        let count = c_int::try_from(part.len()).map_err(|_| ffi::SQLITE_IOERR_WRITE)?;
        let from = part.as_ptr().cast::<c_void>();
        match platform!(file.xWrite(from, count, at) else ffi::SQLITE_IOERR_WRITE) {
            ffi::SQLITE_OK => at += i64::from(count),
            code => return Err(code),
        }
    }
    Ok(())
}

/// Has everything written that is held.
///
/// # Safety
/// As [`held`].
unsafe fn flush(file: *mut ffi::sqlite3_file) -> Written {
    // SAFETY: by the caller.
    unsafe { held(file) }.flush(|offset, bytes| write_through(file, offset, bytes))
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    let (Ok(bytes), Ok(offset)) = (usize::try_from(count), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: the contract: `count` bytes to read at `from`.
    let bytes = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), bytes) };
    // SAFETY: the contract: an open file of ours.
    let held = unsafe { held(file) };
    let written = held.write(offset, bytes, |offset, bytes| {
        write_through(file, offset, bytes)
    });
    written.err().unwrap_or(ffi::SQLITE_OK)
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    count: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the contract: an open file of ours.
    if let Err(code) = unsafe { flush(file) } {
        return code;
    }
    platform!(file.xRead(into, count, offset) else ffi::SQLITE_IOERR_READ)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: ffi::sqlite3_int64) -> c_int {
    // SAFETY: the contract: an open file of ours.
    if let Err(code) = unsafe { flush(file) } {
        return code;
    }
    platform!(file.xTruncate(bytes) else ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the contract: an open file of ours.
    if let Err(code) = unsafe { flush(file) } {
        return code;
    }
    platform!(file.xSync(flags) else ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the contract: an open file of ours.
    if let Err(code) = unsafe { flush(file) } {
        return code;
    }
    platform!(file.xFileSize(out) else ffi::SQLITE_IOERR_FSTAT)
}
