//! Files of the bus: made in full, opened with suspicion. Owner, mode, size, magic, version: each refusal says what
//! was found, what was expected and what to do.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, Stat},
    io::{Errno, retry_on_intr},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{
    access::{Access, Thing},
    error::BusError,
    layout::{self, FileHeader, FileRole, LAYOUT_MAJOR, LAYOUT_VERSION, MAGIC},
    memory::Memory,
    ring::RingShape,
    sync::Arc,
};

const LOCK_MODE: u32 = 0o600;

/// A directory, open, with its path for sentences. All names are looked up relative to the descriptor.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    pub(crate) access: Access,
    fd: OwnedFd,
}

impl Directory {
    /// Opens the bus directory, which has to be this process's user's, and open to nobody but who may look.
    pub(crate) fn open_bus(path: &Path) -> Result<Self, BusError> {
        let (fd, stat) = Self::open_at(rustix::fs::CWD, path, path)?;
        let access = Access::of_bus(&stat, rustix::process::geteuid().as_raw());
        access.check(path, &stat, Thing::Directory)?;
        Ok(Self::held(path, fd, access))
    }

    /// Opens somebody's bus directory to look on: whatever the kernel lets this process read.
    pub(crate) fn observe_bus(path: &Path) -> Result<Self, BusError> {
        let (fd, stat) = Self::open_at(rustix::fs::CWD, path, path)?;
        let access = Access::of_bus(&stat, stat.st_uid);
        access.check(path, &stat, Thing::Directory)?;
        Ok(Self::held(path, fd, access))
    }

    /// One that is open already.
    pub(crate) fn held(path: &Path, fd: OwnedFd, access: Access) -> Self {
        let path = path.to_owned();
        Self { path, access, fd }
    }

    fn open_at(
        parent: BorrowedFd<'_>,
        name: &Path,
        path: &Path,
    ) -> Result<(OwnedFd, Stat), BusError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = rustix::fs::openat(parent, name, flags, Mode::empty())
            .map_err(|e| failed("open", path, e))?;
        let stat = rustix::fs::fstat(&fd).map_err(|e| failed("stat", path, e))?;
        Ok((fd, stat))
    }

    /// Opens a directory inside this one.
    pub(crate) fn open_inside(&self, name: &str) -> Result<Self, BusError> {
        let path = self.path.join(name);
        let (fd, stat) = Self::open_at(self.fd(), Path::new(name), &path)?;
        self.access.check(&path, &stat, Thing::Directory)?;
        Ok(Self::held(&path, fd, self.access))
    }

    pub(crate) fn make_inside(&self, name: &str) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(self.access.mode(Thing::Directory));
        rustix::fs::mkdirat(&self.fd, name, mode)?;
        if self.access.is_tapped() {
            // The group comes from the directory around it; the process's umask has a say in the mode.
            rustix::fs::chmodat(&self.fd, name, mode, AtFlags::empty())?;
        }
        Ok(())
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(crate) fn failed(
        &self,
        what: &'static str,
        name: &str,
        source: impl Into<io::Error>,
    ) -> BusError {
        failed(what, &self.path.join(name), source)
    }

    /// Names in it, without `.` and `..`; names that are not UTF-8 are none of ours.
    pub(crate) fn names(&self) -> Result<Vec<String>, BusError> {
        let entries =
            rustix::fs::Dir::read_from(&self.fd).map_err(|e| failed("list", &self.path, e))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", &self.path, e))?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// Makes a named pipe, or finds it made.
    pub(crate) fn make_pipe(&self, name: &str) -> Result<(), BusError> {
        match rustix::fs::mknodat(
            &self.fd,
            name,
            FileType::Fifo,
            Mode::from_raw_mode(self.access.mode(Thing::Private)),
            0,
        ) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(self.failed("make the pipe", name, e)),
        }
        self.check_pipe(name)
    }

    /// A pipe that is ours alone.
    pub(crate) fn check_pipe(&self, name: &str) -> Result<(), BusError> {
        let path = self.path.join(name);
        let stat = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| failed("stat", &path, e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
            return Err(unfit(&path, "no named pipe", "a named pipe", "remove it"));
        }
        self.access.check(&path, &stat, Thing::Private)
    }

    /// Empties and removes a directory inside this one. `last` is removed last.
    pub(crate) fn remove_inside(&self, name: &str, last: &str) -> Result<(), BusError> {
        let inside = match self.open_inside(name) {
            Ok(inside) => inside,
            Err(BusError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut names = inside.names()?;
        names.sort_by_key(|name| name == last);
        for name in names {
            ignore_missing(rustix::fs::unlinkat(&inside.fd, &*name, AtFlags::empty()))
                .map_err(|e| inside.failed("remove", &name, e))?;
        }
        ignore_missing(rustix::fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR))
            .map_err(|e| self.failed("remove", name, e))
    }
}

fn ignore_missing(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// A small file without a header (a lock), made if need be.
pub(crate) fn open_or_make_plain(directory: BorrowedFd<'_>, name: &str) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(rustix::fs::openat(
        directory,
        name,
        flags,
        Mode::from_raw_mode(LOCK_MODE),
    )?))
}

/// A file that is there.
pub(crate) fn open_plain(
    directory: BorrowedFd<'_>,
    name: &str,
    writable: bool,
) -> io::Result<File> {
    let access = if writable {
        OFlags::RDWR
    } else {
        OFlags::RDONLY
    };
    let flags = access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(File::from(rustix::fs::openat(
        directory,
        name,
        flags,
        Mode::empty(),
    )?))
}

/// A header for a file of this role, without its version.
pub(crate) fn header(role: FileRole, file_bytes: usize, build: &str) -> FileHeader {
    let mut header = FileHeader::new_zeroed();
    header.magic = MAGIC;
    header.role = role as u32;
    header.file_bytes = file_bytes as u64;
    header.pid = std::process::id();
    header.uid = rustix::process::geteuid().as_raw();
    let since_epoch = crate::fault::wall_clock()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    header.created_at_us = u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX);
    let mut end = build.len().min(header.build.len());
    while !build.is_char_boundary(end) {
        end -= 1;
    }
    header.build[..end].copy_from_slice(&build.as_bytes()[..end]);
    header
}

/// The program that made a file, as it wrote itself down.
pub(crate) fn build_of(header: &FileHeader) -> String {
    String::from_utf8_lossy(&header.build)
        .trim_end_matches('\0')
        .to_owned()
}

/// Makes a file under a name that is not taken: allocated in full, its header written, its version last.
pub(crate) fn make(
    directory: &Directory,
    name: &str,
    header: &FileHeader,
) -> Result<File, BusError> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(directory.access.mode(Thing::Memory));
    let fd = rustix::fs::openat(directory.fd(), name, flags, mode)
        .map_err(|e| directory.failed("make", name, e))?;
    if directory.access.is_tapped() {
        // As in `make_inside`.
        rustix::fs::fchmod(&fd, mode).map_err(|e| directory.failed("make", name, e))?;
    }
    let file = File::from(fd);
    allocate(directory, name, &file, header.file_bytes)?;
    let write = |bytes: &[u8], at| {
        file.write_all_at(bytes, at)
            .map_err(|e| directory.failed("write", name, e))
    };
    write(header.as_bytes(), 0)?;
    crate::fault::point("segment.before_version");
    write(
        LAYOUT_VERSION.as_bytes(),
        std::mem::offset_of!(FileHeader, layout_version) as u64,
    )?;
    Ok(file)
}

/// Gives the file all its memory now: a full file system is an error here, and no SIGBUS later.
fn allocate(
    directory: &Directory,
    name: &str,
    file: &File,
    wanted_bytes: u64,
) -> Result<(), BusError> {
    let allocated =
        retry_on_intr(|| rustix::fs::fallocate(file, FallocateFlags::empty(), 0, wanted_bytes));
    let allocated = match allocated {
        // A file system without fallocate: write it all.
        Err(Errno::OPNOTSUPP) => write_zeros(file, wanted_bytes),
        other => other.map_err(io::Error::from),
    };
    allocated.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::NOSPC | Errno::NOMEM | Errno::DQUOT) => {
            let free =
                rustix::fs::fstatvfs(file).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
            BusError::NoRoom {
                path: directory.path.join(name),
                wanted_bytes,
                free_bytes: free,
            }
        }
        _ => directory.failed("allocate", name, error),
    })
}

fn write_zeros(file: &File, wanted_bytes: u64) -> io::Result<()> {
    let zeros = [0u8; layout::PAGE_BYTES];
    let mut at = 0;
    while at < wanted_bytes {
        let part = usize::try_from(wanted_bytes - at)
            .unwrap_or(usize::MAX)
            .min(zeros.len());
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

/// Opens a file of the bus and checks all that can be checked: then maps it.
pub(crate) fn open_checked(
    directory: &Directory,
    name: &str,
    role: FileRole,
    writable: bool,
) -> Result<(FileHeader, Arc<Memory>), BusError> {
    let path = directory.path.join(name);
    let file = open_plain(directory.fd(), name, writable).map_err(|e| failed("open", &path, e))?;
    let stat = rustix::fs::fstat(&file).map_err(|e| failed("stat", &path, e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(unfit(
            &path,
            "no regular file",
            "a regular file",
            "remove it",
        ));
    }
    directory.access.check(&path, &stat, Thing::Memory)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let header = read_header(&path, &file, role, size)?;
    check_header(&path, &header, role, size, directory.access.owner)?;
    let bytes = usize::try_from(header.file_bytes).expect("checked against the file's size");
    let memory = Memory::map(&file, bytes, writable).map_err(|e| failed("map", &path, e))?;
    Ok((header, memory))
}

const REMAKE: &str =
    "stop all gateways and the backend of this bus: once nobody lives on it, it is made anew";
const RESTART: &str = "stop that gateway (its pid stands in the lock file) and start it again";

/// What to do about a file that is not what it should be.
const fn remedy(role: FileRole) -> &'static str {
    match role {
        FileRole::Gateway | FileRole::Backend => RESTART,
        FileRole::ControlGateways | FileRole::ControlBackend => REMAKE,
    }
}

fn read_header(
    path: &Path,
    file: &File,
    role: FileRole,
    size: u64,
) -> Result<FileHeader, BusError> {
    let mut bytes = [0u8; size_of::<FileHeader>()];
    if size < bytes.len() as u64 {
        return Err(unfit(
            path,
            &format!("{size} bytes"),
            "a header of 256 bytes",
            remedy(role),
        ));
    }
    file.read_exact_at(&mut bytes, 0)
        .map_err(|e| failed("read", path, e))?;
    Ok(FileHeader::read_from_bytes(&bytes).expect("256 bytes make a header of 256 bytes"))
}

fn check_header(
    path: &Path,
    header: &FileHeader,
    role: FileRole,
    size: u64,
    uid: u32,
) -> Result<(), BusError> {
    let refuse =
        |found: String, expected: String| Err(unfit(path, &found, &expected, remedy(role)));
    if header.magic != MAGIC {
        return refuse(
            format!("magic {:#018x}", header.magic),
            format!("{MAGIC:#018x} (TIDEGBUS)"),
        );
    }
    if header.layout_version == 0 {
        return refuse(
            "an unfinished file (layout version 0)".into(),
            format!("layout version {LAYOUT_MAJOR}"),
        );
    }
    let major = header.layout_version >> 32;
    if major != u64::from(LAYOUT_MAJOR) {
        return Err(BusError::OtherLayout {
            path: path.to_owned(),
            found: major,
            build: build_of(header),
            pid: header.pid,
            expected: LAYOUT_MAJOR,
        });
    }
    if header.role != role as u32 {
        return refuse(
            format!("role {}", header.role),
            format!("{} ({role:?})", role as u32),
        );
    }
    if header.file_bytes != size {
        return refuse(
            format!("{size} bytes"),
            format!("{} bytes, by its header", header.file_bytes),
        );
    }
    if header.uid != uid {
        return refuse(format!("maker uid {}", header.uid), format!("uid {uid}"));
    }
    match role {
        FileRole::ControlGateways | FileRole::ControlBackend => {
            if size != layout::PAGE_BYTES as u64 {
                return refuse(
                    format!("{size} bytes"),
                    format!("{} bytes", layout::PAGE_BYTES),
                );
            }
        }
        FileRole::Gateway | FileRole::Backend => {
            shape_in(path, header)?;
        }
    }
    Ok(())
}

/// The sizes in a segment's header, if they agree with each other and with the layout.
pub(crate) fn shape_in(path: &Path, header: &FileHeader) -> Result<RingShape, BusError> {
    let refuse = |found: String, expected: String| Err(unfit(path, &found, &expected, RESTART));
    let shards = header.shards as usize;
    if shards == 0 || shards > crate::SHARDS_MAX {
        return refuse(
            format!("{shards} shards"),
            format!("1 to {} shards", crate::SHARDS_MAX),
        );
    }
    let sizes = (
        usize::try_from(header.ring_bytes),
        usize::try_from(header.record_bytes_max),
    );
    let (Ok(ring_bytes), Ok(record_bytes_max)) = sizes else {
        return refuse(
            "sizes beyond this machine".into(),
            "sizes below 2^63".into(),
        );
    };
    let shape = match RingShape::new(ring_bytes, record_bytes_max) {
        Ok(shape) => shape,
        Err(error) => return refuse(error.to_string(), "sizes within the limits".into()),
    };
    let expected = [
        (
            "ports_offset",
            header.ports_offset,
            layout::PAGE_BYTES as u64,
        ),
        (
            "port_stride_bytes",
            header.port_stride_bytes,
            layout::PAGE_BYTES as u64,
        ),
        (
            "rings_offset",
            header.rings_offset,
            layout::rings_offset(shards) as u64,
        ),
        (
            "file_bytes",
            header.file_bytes,
            layout::file_bytes(shards, ring_bytes) as u64,
        ),
    ];
    for (field, found, wanted) in expected {
        if found != wanted {
            return refuse(format!("{field} {found}"), format!("{wanted}"));
        }
    }
    Ok(shape)
}

/// Nothing stands at that name.
pub(crate) fn is_missing(error: &BusError) -> bool {
    matches!(error, BusError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// It is there, and this process may not open it.
pub(crate) fn is_closed(error: &BusError) -> bool {
    matches!(error, BusError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied)
}

pub(crate) fn failed(what: &'static str, path: &Path, source: impl Into<io::Error>) -> BusError {
    BusError::Io {
        what,
        path: path.to_owned(),
        source: source.into(),
    }
}

pub(crate) fn unfit(path: &Path, found: &str, expected: &str, remedy: &str) -> BusError {
    BusError::Unfit {
        path: path.to_owned(),
        found: found.into(),
        expected: expected.into(),
        remedy: remedy.into(),
    }
}
