//! One non-blocking connection of a crowd: bytes that were not written yet wait here.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

/// What an empty buffer may keep: a crowd is mostly idle, and its sends are short.
const KEPT_BYTES_MAX: usize = 1024;

/// A socket, connected or about to be.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) stream: TcpStream,
    /// Tells it from the member's earlier sockets, whose readiness may still be on its way.
    pub(super) stamp: u32,
    pub(super) connected: bool,
    /// The client has left; what waits is written, then it is closed.
    pub(super) leaving: bool,
    /// What epoll was told to look for.
    pub(super) registered: EventFlags,
    /// To be written.
    pub(super) waiting: Vec<u8>,
    /// The kernel took no more; it is written on when there is room.
    stuck: bool,
}

impl Socket {
    /// Begins to connect, from an address of its own: each has its own ports, and counts for itself.
    pub(super) fn open(from: Ipv4Addr, to: SocketAddr, stamp: u32) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        net::bind(&socket, &SocketAddr::from((from, 0)))?;
        match net::connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            stream: TcpStream::from(socket),
            stamp,
            connected: false,
            leaving: false,
            registered: EventFlags::empty(),
            waiting: Vec::new(),
            stuck: false,
        })
    }

    /// Whether connecting succeeded.
    pub(super) fn outcome(&self) -> io::Result<()> {
        self.stream.take_error()?.map_or(Ok(()), Err)
    }

    /// Writes what waits; true if something still does.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let written = write_some(&mut self.stream, &self.waiting)?;
        self.stuck = written < self.waiting.len();
        self.waiting.drain(..written);
        if !self.stuck && self.waiting.capacity() > KEPT_BYTES_MAX {
            self.waiting = Vec::new();
        }
        Ok(self.stuck)
    }

    /// Whether it waits for room in the kernel.
    pub(super) const fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Reads what is there; `None`: nothing now. 0: the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(more) => written += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
