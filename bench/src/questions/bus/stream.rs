//! Two byte streams of the kernel, one each way: named pipes, or a Unix socket. One system call writes one record; a
//! read takes what is there.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::link::{Link, PAYLOAD_BYTES};

const READ_BYTES: usize = 64 * 1024;
const TO_FAR: &str = "to_far";
const TO_NEAR: &str = "to_near";
const SOCKET: &str = "socket";

/// What is written here is read at the other end.
pub struct Stream<S> {
    from: BufReader<S>,
    to: S,
}

impl<S: Read + Write> Stream<S> {
    fn over(from: S, to: S) -> Self {
        Self {
            from: BufReader::with_capacity(READ_BYTES, from),
            to,
        }
    }
}

impl<S: Read + Write> Link for Stream<S> {
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        let mut payload = [0; PAYLOAD_BYTES];
        fill(&mut payload);
        Ok(self.to.write_all(&payload)?)
    }

    fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        let mut payload = [0; PAYLOAD_BYTES];
        self.from.read_exact(&mut payload)?;
        read(&payload)
    }
}

/// Makes both pipes, before the far end starts.
///
/// # Errors
/// When the directory has no room for them.
pub fn make_pipes(directory: &Path) -> Result<()> {
    for name in [TO_FAR, TO_NEAR] {
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, directory.join(name), FileType::Fifo, mode, 0)
            .with_context(|| format!("cannot make the pipe {name}"))?;
    }
    Ok(())
}

/// The near end of the pipes.
///
/// # Errors
/// When they can't be opened.
pub fn near_pipes(directory: &Path) -> Result<Stream<File>> {
    Ok(Stream::over(
        open(directory, TO_NEAR)?,
        open(directory, TO_FAR)?,
    ))
}

/// The far end of the pipes.
///
/// # Errors
/// When they can't be opened.
pub fn far_pipes(directory: &Path) -> Result<Stream<File>> {
    Ok(Stream::over(
        open(directory, TO_FAR)?,
        open(directory, TO_NEAR)?,
    ))
}

/// For both directions: so nobody waits for the other to open it too.
fn open(directory: &Path, name: &str) -> Result<File> {
    let mut options = File::options();
    let options = options.read(true).write(true);
    options
        .open(directory.join(name))
        .with_context(|| format!("cannot open the pipe {name}"))
}

/// Listens, before the far end starts.
///
/// # Errors
/// When the name is too long for a socket.
pub fn listen(directory: &Path) -> Result<UnixListener> {
    Ok(UnixListener::bind(directory.join(SOCKET))?)
}

/// The near end of the socket: waits for the far one.
///
/// # Errors
/// When nothing can be accepted.
pub fn near_socket(listener: &UnixListener) -> Result<Stream<UnixStream>> {
    let (socket, _) = listener.accept()?;
    Ok(Stream::over(socket.try_clone()?, socket))
}

/// The far end of the socket.
///
/// # Errors
/// When nobody listens.
pub fn far_socket(directory: &Path) -> Result<Stream<UnixStream>> {
    let socket = UnixStream::connect(directory.join(SOCKET))?;
    Ok(Stream::over(socket.try_clone()?, socket))
}
