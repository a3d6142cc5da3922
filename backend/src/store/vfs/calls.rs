//! The one VFS that SQLite sees: C functions that find the disk of a path and pass the call on to it.
//!
//! One registration serves every disk of the process; the path says which disk and which of its lives is meant
//! ([`super::simulated`] makes the paths). It is registered once and never taken back, so no connection can outlive
//! it.
//!
//! **What SQLite promises its VFS**, and what the SAFETY comments below call *the contract* (sqlite.org, "OS
//! Interface"): a `sqlite3_file` has `szOsFile` bytes of SQLite's own, is written by xOpen, is passed unchanged to
//! the methods until xClose, and is used by one thread at a time; pointers to buffers and results are valid for the
//! stated length during the call; names are NUL-terminated.
#![expect(unsafe_code, reason = "SQLite's VFS is a C interface")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rusqlite::ffi;

use super::disk::{Answer, Handle};
use super::locks::Range;
use super::shared_memory::Regions;
use super::simulated::{self, Shared};

/// The name that the store is opened with.
pub const VFS_NAME: &CStr = c"tidegate-simulated";
/// Which of the index's locks the writer holds (sqlite.org, "WAL-mode file format").
const WRITER_LOCK: usize = 0;
/// Longest path.
const PATH_BYTES_MAX: c_int = 512;
/// The time that SQLite is told, in milliseconds of the Julian day: some moment of 2026, always the same.
const JULIAN_DAY_MS: i64 = 212_661_849_600_000;

/// What SQLite keeps per open file.
#[repr(C)]
struct OpenFile {
    base: ffi::sqlite3_file,
    /// Owned by this file from xOpen to xClose; null: xOpen failed.
    open: *mut Open,
}

struct Open {
    disk: Arc<Shared>,
    handle: Handle,
    /// This handle's share of the log's index.
    index: Mutex<Option<Arc<Regions>>>,
}

/// Registers the VFS if this process has not yet.
pub fn register() {
    static REGISTERED: LazyLock<c_int> = LazyLock::new(|| {
        let vfs = Box::leak(Box::new(vfs()));
        // SAFETY: the structure is complete, lives for ever, and its name is a C string; sqlite3_vfs_register
        // initialises SQLite itself and locks its list.
        unsafe { ffi::sqlite3_vfs_register(vfs, 0) }
    });
    assert_eq!(*REGISTERED, ffi::SQLITE_OK, "SQLite takes another VFS");
}

fn vfs() -> ffi::sqlite3_vfs {
    ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: c_int::try_from(size_of::<OpenFile>()).unwrap_or(c_int::MAX),
        mxPathname: PATH_BYTES_MAX,
        pNext: ptr::null_mut(),
        zName: VFS_NAME.as_ptr(),
        pAppData: ptr::null_mut(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: None,
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // 2: with an index in shared memory, without memory-mapped reads.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

const fn code(answer: Answer<()>) -> c_int {
    match answer {
        Ok(()) => ffi::SQLITE_OK,
        Err(code) => code,
    }
}

/// An offset or a length of SQLite's; it never passes negative ones.
fn size(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

/// Runs a call on the open file behind the pointer.
///
/// # Safety
/// `file` was filled by [`open`] and not closed yet (the contract).
unsafe fn on<T>(file: *mut ffi::sqlite3_file, call: impl FnOnce(&Open) -> T) -> T {
    // SAFETY: by the caller `file` is an OpenFile whose `open` points to a living Open; nobody else has a
    // mutable reference to it: it changes through locks only, and xClose comes last and alone.
    call(unsafe { &*(*file.cast::<OpenFile>()).open })
}

/// # Safety
/// `name` is null or a NUL-terminated string that lives for the result's use.
unsafe fn text<'a>(name: *const c_char) -> Option<&'a str> {
    if name.is_null() {
        return None;
    }
    // SAFETY: not null, and NUL-terminated by the caller.
    unsafe { CStr::from_ptr(name) }.to_str().ok()
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    // SAFETY: the contract: szOsFile bytes at `file`, `name` null or NUL-terminated, `flags_out` null or writable.
    unsafe {
        ptr::write(
            file.cast::<OpenFile>(),
            OpenFile {
                base: ffi::sqlite3_file {
                    pMethods: ptr::null(),
                },
                open: ptr::null_mut(),
            },
        );
        let (disk, opened) = match text(name) {
            // A temporary file belongs to nobody's disk.
            None if name.is_null() => {
                let disk = simulated::scratch();
                let opened = disk.lock().open(None, flags);
                (disk, opened)
            }
            None => return ffi::SQLITE_CANTOPEN,
            Some(path) => match simulated::locate(path) {
                Some((disk, life, name)) => {
                    let mut locked = disk.lock();
                    let opened = match locked.life == life {
                        true => locked.open(Some(name), flags),
                        false => Err(ffi::SQLITE_CANTOPEN),
                    };
                    drop(locked);
                    (disk, opened)
                }
                None => return ffi::SQLITE_CANTOPEN,
            },
        };
        let handle = match opened {
            Ok(handle) => handle,
            Err(code) => return code,
        };
        let open = Box::new(Open {
            disk,
            handle,
            index: Mutex::new(None),
        });
        (*file.cast::<OpenFile>()).open = Box::into_raw(open);
        (*file).pMethods = &METHODS;
        if !flags_out.is_null() {
            *flags_out = flags;
        }
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: the contract: a NUL-terminated name.
    let Some((disk, life, name)) = unsafe { text(name) }.and_then(simulated::locate) else {
        return ffi::SQLITE_IOERR_DELETE;
    };
    let mut disk = disk.lock();
    if disk.life != life {
        return ffi::SQLITE_IOERR_DELETE;
    }
    code(disk.delete(name, sync != 0))
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    found: *mut c_int,
) -> c_int {
    // SAFETY: the contract: a NUL-terminated name.
    let located = unsafe { text(name) }.and_then(simulated::locate);
    let there = located.is_some_and(|(disk, life, name)| {
        let disk = disk.lock();
        disk.life == life && (flags != ffi::SQLITE_ACCESS_EXISTS || disk.exists(name))
    });
    // SAFETY: the contract: a writable result.
    unsafe { *found = c_int::from(there) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    out_bytes: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: the contract: a NUL-terminated name.
    let bytes = unsafe { CStr::from_ptr(name) }.to_bytes_with_nul();
    if bytes.len() > size(out_bytes.into()) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `out` has `out_bytes` writable bytes (the contract), which were just compared; a name and a result
    // are different memory.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len()) };
    ffi::SQLITE_OK
}

unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, bytes: c_int, out: *mut c_char) -> c_int {
    // SAFETY: the contract: `bytes` writable bytes. SQLite asks the platform's VFS, not this one; were that to
    // change, zeros would be as good a seed as any.
    unsafe { ptr::write_bytes(out, 0, size(bytes.into())) };
    bytes
}

/// Nobody sleeps in a simulation; others get their turn.
unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    std::thread::yield_now();
    microseconds
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    #[expect(clippy::cast_precision_loss, reason = "53 bits hold it")]
    let days = JULIAN_DAY_MS as f64 / 86_400_000.0;
    // SAFETY: the contract: a writable result.
    unsafe { *out = days };
    ffi::SQLITE_OK
}

unsafe extern "C" fn current_time_int64(
    _: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the contract: a writable result.
    unsafe { *out = JULIAN_DAY_MS };
    ffi::SQLITE_OK
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: the contract: filled by `open`, and closed once; so the box is owned by this call.
    let open = unsafe { Box::from_raw((*file.cast::<OpenFile>()).open) };
    open.unmap(false);
    open.disk.lock().close(open.handle);
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the contract: `bytes` writable bytes of SQLite's at `into`, which SQLite has initialised or not:
    // they are zeroed first, so that a slice may be made of them.
    let into = unsafe {
        ptr::write_bytes(into.cast::<u8>(), 0, size(bytes.into()));
        std::slice::from_raw_parts_mut(into.cast::<u8>(), size(bytes.into()))
    };
    // SAFETY: the contract: an open file.
    unsafe {
        on(file, |open| {
            let mut disk = open.disk.lock();
            match disk.file(open.handle, ffi::SQLITE_IOERR_READ) {
                Err(code) => code,
                Ok(file) if file.contents.read(size(offset), into) == into.len() => ffi::SQLITE_OK,
                Ok(_) => ffi::SQLITE_IOERR_SHORT_READ,
            }
        })
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the contract: `bytes` initialised bytes at `from` that nobody changes during the call.
    let from = unsafe { std::slice::from_raw_parts(from.cast::<u8>(), size(bytes.into())) };
    // SAFETY: the contract: an open file.
    unsafe {
        on(file, |open| {
            code(open.disk.lock().write(open.handle, size(offset), from))
        })
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: ffi::sqlite3_int64) -> c_int {
    // SAFETY: the contract: an open file.
    unsafe {
        on(file, |open| {
            code(open.disk.lock().truncate(open.handle, size(bytes)))
        })
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: the contract: an open file.
    unsafe { on(file, |open| code(open.disk.lock().sync(open.handle))) }
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the contract: an open file.
    let found = unsafe {
        on(file, |open| {
            let mut disk = open.disk.lock();
            let file = disk.file(open.handle, ffi::SQLITE_IOERR_FSTAT);
            file.map(|file| file.contents.len())
        })
    };
    match found {
        Ok(bytes) => {
            // SAFETY: the contract: a writable result.
            unsafe { *out = i64::try_from(bytes).unwrap_or(i64::MAX) };
            ffi::SQLITE_OK
        }
        Err(code) => code,
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the contract: an open file.
    let locked = unsafe { on(file, |open| open.disk.lock().lock(open.handle, level)) };
    match locked {
        Ok(true) => ffi::SQLITE_OK,
        Ok(false) => ffi::SQLITE_BUSY,
        Err(code) => code,
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: the contract: an open file.
    unsafe {
        on(file, |open| {
            let mut disk = open.disk.lock();
            let file = disk.file(open.handle, ffi::SQLITE_IOERR_UNLOCK);
            code(file.map(|file| file.locks.lower(open.handle.holder, level)))
        })
    }
}

unsafe extern "C" fn check_reserved_lock(
    file: *mut ffi::sqlite3_file,
    reserved: *mut c_int,
) -> c_int {
    // SAFETY: the contract: an open file.
    let found = unsafe {
        on(file, |open| {
            let mut disk = open.disk.lock();
            let file = disk.file(open.handle, ffi::SQLITE_IOERR_CHECKRESERVEDLOCK);
            file.map(|file| file.locks.is_reserved())
        })
    };
    match found {
        Ok(is_reserved) => {
            // SAFETY: the contract: a writable result.
            unsafe { *reserved = c_int::from(is_reserved) };
            ffi::SQLITE_OK
        }
        Err(code) => code,
    }
}

/// Nothing here needs to be told or asked.
unsafe extern "C" fn file_control(_: *mut ffi::sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut ffi::sqlite3_file) -> c_int {
    4096
}

/// The same as SQLite's own VFS claims on Linux: a power cut while some bytes are written changes no others.
unsafe extern "C" fn device_characteristics(_: *mut ffi::sqlite3_file) -> c_int {
    ffi::SQLITE_IOCAP_POWERSAFE_OVERWRITE
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    region_bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: the contract: an open file.
    let address = unsafe { on(file, Open::map) }.map(|regions| {
        regions.address(size(region.into()), size(region_bytes.into()), extend != 0)
    });
    // SAFETY: the contract: a writable result.
    unsafe { *out = address.unwrap_or(ptr::null_mut()).cast() };
    code(address.map(|_| ()))
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let range = Range {
        first: size(first.into()),
        count: size(count.into()),
    };
    // SAFETY: the contract: an open file.
    unsafe {
        on(file, |open| {
            let mut disk = open.disk.lock();
            let takes = flags & ffi::SQLITE_SHM_LOCK != 0;
            let exclusive = flags & ffi::SQLITE_SHM_EXCLUSIVE != 0;
            if takes && exclusive && range.first == WRITER_LOCK && disk.lock_fails() {
                return ffi::SQLITE_BUSY;
            }
            let file = match disk.file(open.handle, ffi::SQLITE_IOERR_SHMLOCK) {
                Ok(file) => file,
                Err(code) => return code,
            };
            if !takes {
                file.index_locks.release(open.handle.holder, range);
                return ffi::SQLITE_OK;
            }
            match file.index_locks.take(open.handle.holder, range, exclusive) {
                Some(true) => ffi::SQLITE_OK,
                Some(false) => ffi::SQLITE_BUSY,
                None => ffi::SQLITE_IOERR_SHMLOCK,
            }
        })
    }
}

unsafe extern "C" fn shm_barrier(_: *mut ffi::sqlite3_file) {
    fence(Ordering::SeqCst);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    // SAFETY: the contract: an open file.
    unsafe { on(file, |open| open.unmap(delete != 0)) };
    ffi::SQLITE_OK
}

impl Open {
    /// This handle's share of the index: what others have mapped, or a new one.
    fn map(&self) -> Answer<Arc<Regions>> {
        let mut disk = self.disk.lock();
        let file = disk.file(self.handle, ffi::SQLITE_IOERR_SHMMAP)?;
        let regions = Arc::clone(file.index.get_or_insert_default());
        let mut mine = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(mine.get_or_insert(regions)))
    }

    /// Gives the share back; the index goes with its last share.
    fn unmap(&self, delete: bool) {
        let mine = self
            .index
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let mut disk = self.disk.lock();
        let Ok(file) = disk.file(self.handle, ffi::SQLITE_IOERR_SHMMAP) else {
            return;
        };
        file.index_locks.release_all(self.handle.holder);
        let Some(mine) = mine else {
            return;
        };
        let is_last = file.index.as_ref().is_some_and(|index| {
            // One share is the file's, one is ours.
            Arc::ptr_eq(index, &mine) && Arc::strong_count(index) == 2
        });
        if is_last || delete {
            file.index = None;
        }
    }
}
