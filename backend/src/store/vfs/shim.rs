//! Faults for real processes: a VFS that passes every call on to the platform's own and fails those that the
//! environment names.
//!
//! `TIDEGATE_STORE_FAULT=write:17:ENOSPC` fails the 17th write of this process to the database's files, once;
//! `sync:3:EIO`, `lock:5:BUSY`; several ordinals `write:4,9,14:EIO`, several faults with `;` between. With
//! `TIDEGATE_STORE_FAULT_ONCE=DIRECTORY` each leaves a file (`write-17`) there when it strikes, and strikes no more in
//! whatever process finds that file: a supervised backend starts again without it.
//!
//! *The contract* in the SAFETY comments is the one of `calls.rs`: what SQLite promises its VFS.
#![expect(unsafe_code, reason = "SQLite's VFS is a C interface")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::fs::OpenOptions;
use std::path::PathBuf;
use std::ptr;
use std::sync::{Mutex, OnceLock, PoisonError};

use rusqlite::ffi;

use super::fault::{Failure, Fault, Faults, Operation};

/// Names what fails.
const FAULT: &str = "TIDEGATE_STORE_FAULT";
/// Names a directory where each fault notes that it has struck.
const ONCE: &str = "TIDEGATE_STORE_FAULT_ONCE";
const VFS_NAME: &CStr = c"tidegate-faults";
/// The files that count: what commits and checkpoints write.
const COUNTED: c_int =
    ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL;
/// Which of the index's locks the writer holds.
const WRITER_LOCK: c_int = 0;

struct Shim {
    platform: Platform,
    faults: Mutex<Faults>,
    once: Option<PathBuf>,
}

/// The platform's VFS; lives for ever.
struct Platform(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite shares its VFS between threads itself; the pointer is only read and passed back to it.
unsafe impl Send for Platform {}
// SAFETY: as above.
unsafe impl Sync for Platform {}

static SHIM: OnceLock<Shim> = OnceLock::new();

/// Puts the shim in front of the platform's VFS, for every connection of this process, if the environment names
/// faults.
///
/// # Errors
/// A sentence, if what it names makes no sense.
pub fn install_from_environment() -> Result<(), String> {
    let Some(text) = std::env::var_os(FAULT) else {
        return Ok(());
    };
    let mut faults = Faults::default();
    for fault in parse(&text.to_string_lossy())? {
        faults.plant(fault);
    }
    if SHIM.get().is_some() {
        return Ok(());
    }
    // SAFETY: asks for the default VFS; sqlite3_vfs_find initialises SQLite itself.
    let platform = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    if platform.is_null() {
        return Err("SQLite has no VFS on this platform".to_owned());
    }
    let shim = SHIM.get_or_init(|| Shim {
        platform: Platform(platform),
        faults: Mutex::new(faults),
        once: std::env::var_os(ONCE).map(PathBuf::from),
    });
    let vfs = Box::leak(Box::new(vfs(shim)));
    // SAFETY: the structure is complete, lives for ever, and its name is a C string.
    match unsafe { ffi::sqlite3_vfs_register(vfs, 1) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(format!("SQLite takes no other VFS (code {code})")),
    }
}

/// `write:4,9:EIO;sync:1:EIO` as faults.
fn parse(text: &str) -> Result<Vec<Fault>, String> {
    let wrong = |found: &str| {
        format!(
            "{FAULT} has \"{found}\"; write something like write:17:ENOSPC, sync:3:EIO or lock:5,6:BUSY"
        )
    };
    let mut faults = Vec::new();
    for one in text.split(';') {
        let mut parts = one.split(':');
        let operation = match parts.next() {
            Some("write") => Operation::Write,
            Some("sync") => Operation::Sync,
            Some("lock") => Operation::Lock,
            _ => return Err(wrong(one)),
        };
        let ordinals = parts.next().ok_or_else(|| wrong(one))?;
        let failure = match parts.next() {
            Some("ENOSPC") => Failure::Full,
            Some("EIO") => Failure::Io,
            Some("BUSY") => Failure::Busy,
            _ => return Err(wrong(one)),
        };
        for ordinal in ordinals.split(',') {
            let nth = ordinal.parse().map_err(|_| wrong(one))?;
            faults.push(Fault::once(operation, nth, failure));
        }
    }
    Ok(faults)
}

impl Shim {
    /// Counts one operation; the code with which it fails, if it does.
    fn fails(&self, operation: Operation) -> Option<c_int> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = faults.next(operation)?;
        let counts = faults.counts();
        let (name, ordinal) = match operation {
            Operation::Write => ("write", counts.writes),
            Operation::Sync => ("sync", counts.syncs),
            Operation::Lock => ("lock", counts.locks),
        };
        if let Some(directory) = &self.once {
            let note = directory.join(format!("{name}-{ordinal}"));
            // Whoever makes the note strikes.
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(note)
                .ok()?;
        }
        tracing::warn!("planted: {name} {ordinal} of the store fails with {failure:?}");
        Some(failure.code(operation))
    }
}

fn shim() -> &'static Shim {
    SHIM.get()
        .expect("invariant: SQLite calls a VFS that was registered after SHIM was set")
}

/// What SQLite keeps per open file; the platform's own part follows right behind.
#[repr(C, align(8))]
struct OpenFile {
    base: ffi::sqlite3_file,
    /// Writes and syncs of it count.
    counted: bool,
}

fn vfs(shim: &Shim) -> ffi::sqlite3_vfs {
    // SAFETY: the platform's VFS lives for ever and nobody writes these two fields after its registration.
    let (file_bytes, path_bytes) = unsafe {
        let platform = &*shim.platform.0;
        (platform.szOsFile, platform.mxPathname)
    };
    ffi::sqlite3_vfs {
        iVersion: 2,
        szOsFile: c_int::try_from(size_of::<OpenFile>()).unwrap_or(0) + file_bytes,
        mxPathname: path_bytes,
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
        xGetLastError: Some(get_last_error),
        xCurrentTimeInt64: Some(current_time_int64),
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
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

/// A call of the platform's VFS with the same arguments.
macro_rules! platform {
    ($method:ident($($argument:expr),*)) => {{
        let platform = shim().platform.0;
        // SAFETY: the platform's VFS is complete and lives for ever; the arguments are SQLite's own, passed on
        // unchanged, so what the contract says of them holds for it as well.
        unsafe { (*platform).$method.map(|call| call(platform, $($argument),*)) }
    }};
}

/// A call of the platform's method on its part of an open file, with the same arguments.
macro_rules! behind {
    ($file:ident.$method:ident($($argument:expr),*) else $otherwise:expr) => {{
        let file = platform_file($file);
        // SAFETY: `file` was opened by the platform's xOpen (`open` lets no other out), so its methods are set; the
        // arguments are SQLite's own, passed on unchanged.
        unsafe { (*(*file).pMethods).$method.map_or($otherwise, |call| call(file, $($argument),*)) }
    }};
}

/// The platform's part of an open file: right behind ours, 8-byte aligned like ours.
const fn platform_file(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    file.wrapping_byte_add(size_of::<OpenFile>())
}

/// # Safety
/// `file` was filled by [`open`] and not closed yet.
unsafe fn is_counted(file: *mut ffi::sqlite3_file) -> bool {
    // SAFETY: by the caller an OpenFile.
    unsafe { (*file.cast::<OpenFile>()).counted }
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let ours = OpenFile {
        base: ffi::sqlite3_file {
            pMethods: ptr::null(),
        },
        counted: flags & COUNTED != 0,
    };
    // SAFETY: the contract: szOsFile bytes at `file`, 8-byte aligned, of which ours come first.
    unsafe { ptr::write(file.cast::<OpenFile>(), ours) };
    let theirs = platform_file(file);
    let code = platform!(xOpen(name, theirs, flags, flags_out)).unwrap_or(ffi::SQLITE_CANTOPEN);
    // SAFETY: the platform's xOpen has set its pMethods, to null if nothing is to be closed; `file` is ours.
    unsafe {
        if !(*theirs).pMethods.is_null() {
            (*file).pMethods = &METHODS;
        }
    }
    code
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    platform!(xDelete(name, sync)).unwrap_or(ffi::SQLITE_IOERR_DELETE)
}

unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    found: *mut c_int,
) -> c_int {
    platform!(xAccess(name, flags, found)).unwrap_or(ffi::SQLITE_IOERR_ACCESS)
}

unsafe extern "C" fn full_pathname(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    out_bytes: c_int,
    out: *mut c_char,
) -> c_int {
    platform!(xFullPathname(name, out_bytes, out)).unwrap_or(ffi::SQLITE_CANTOPEN)
}

unsafe extern "C" fn randomness(_: *mut ffi::sqlite3_vfs, bytes: c_int, out: *mut c_char) -> c_int {
    platform!(xRandomness(bytes, out)).unwrap_or(0)
}

unsafe extern "C" fn sleep(_: *mut ffi::sqlite3_vfs, microseconds: c_int) -> c_int {
    platform!(xSleep(microseconds)).unwrap_or(0)
}

unsafe extern "C" fn current_time(_: *mut ffi::sqlite3_vfs, out: *mut f64) -> c_int {
    platform!(xCurrentTime(out)).unwrap_or(ffi::SQLITE_ERROR)
}

unsafe extern "C" fn current_time_int64(
    _: *mut ffi::sqlite3_vfs,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    platform!(xCurrentTimeInt64(out)).unwrap_or(ffi::SQLITE_ERROR)
}

unsafe extern "C" fn get_last_error(
    _: *mut ffi::sqlite3_vfs,
    bytes: c_int,
    out: *mut c_char,
) -> c_int {
    platform!(xGetLastError(bytes, out)).unwrap_or(0)
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    behind!(file.xClose() else ffi::SQLITE_OK)
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    into: *mut c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    behind!(file.xRead(into, bytes, offset) else ffi::SQLITE_IOERR_READ)
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    bytes: c_int,
    offset: ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: the contract: an open file.
    if unsafe { is_counted(file) }
        && let Some(code) = shim().fails(Operation::Write)
    {
        return code;
    }
    behind!(file.xWrite(from, bytes, offset) else ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, bytes: ffi::sqlite3_int64) -> c_int {
    behind!(file.xTruncate(bytes) else ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the contract: an open file.
    if unsafe { is_counted(file) }
        && let Some(code) = shim().fails(Operation::Sync)
    {
        return code;
    }
    behind!(file.xSync(flags) else ffi::SQLITE_IOERR_FSYNC)
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    behind!(file.xFileSize(out) else ffi::SQLITE_IOERR_FSTAT)
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    behind!(file.xLock(level) else ffi::SQLITE_IOERR_LOCK)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    behind!(file.xUnlock(level) else ffi::SQLITE_IOERR_UNLOCK)
}

unsafe extern "C" fn check_reserved_lock(
    file: *mut ffi::sqlite3_file,
    reserved: *mut c_int,
) -> c_int {
    behind!(file.xCheckReservedLock(reserved) else ffi::SQLITE_IOERR_CHECKRESERVEDLOCK)
}

unsafe extern "C" fn file_control(
    file: *mut ffi::sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    behind!(file.xFileControl(operation, argument) else ffi::SQLITE_NOTFOUND)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    behind!(file.xSectorSize() else 4096)
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    behind!(file.xDeviceCharacteristics() else 0)
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    region_bytes: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    behind!(file.xShmMap(region, region_bytes, extend, out) else ffi::SQLITE_IOERR_SHMMAP)
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    let writes = ffi::SQLITE_SHM_LOCK | ffi::SQLITE_SHM_EXCLUSIVE;
    if first == WRITER_LOCK
        && flags == writes
        && let Some(code) = shim().fails(Operation::Lock)
    {
        return code;
    }
    behind!(file.xShmLock(first, count, flags) else ffi::SQLITE_IOERR_SHMLOCK)
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    let () = behind!(file.xShmBarrier() else ());
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    behind!(file.xShmUnmap(delete) else ffi::SQLITE_OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_from_a_line_of_text() {
        let found = parse("write:4,9:ENOSPC;sync:1:EIO;lock:2:BUSY").unwrap();
        assert_eq!(
            found,
            [
                Fault::once(Operation::Write, 4, Failure::Full),
                Fault::once(Operation::Write, 9, Failure::Full),
                Fault::once(Operation::Sync, 1, Failure::Io),
                Fault::once(Operation::Lock, 2, Failure::Busy),
            ]
        );
        for wrong in ["", "write", "write:x:EIO", "write:1:EPERM", "read:1:EIO"] {
            assert!(
                parse(wrong).unwrap_err().contains("write:17:ENOSPC"),
                "{wrong}"
            );
        }
    }
}
