//! An io_uring with one group of provided buffers, safe to use: what the load generator and the bare echo stand on, and
//! the only file here that shows memory to the kernel. It is not the gateway's: the floor must not move when the gateway
//! does.
//!
//! Memory that the kernel reads or writes is either a provided buffer, whose state is kept, or `'static`.
#![expect(
    unsafe_code,
    reason = "memory that the kernel reads and writes, named by address"
)]

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

/// The only group of buffers.
const GROUP: u16 = 0;

/// Bytes between the ends and the starts of neighbours, so that their first lines do not share cache sets.
const SPREAD_BYTES: usize = 192;

/// What a ring holds.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Operations submitted with one system call.
    pub submissions: u32,
    /// Completions that may wait.
    pub completions: u32,
    /// Provided buffers; a power of two.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: u32,
}

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// As given with the operation.
    pub data: u64,
    /// Bytes or descriptor; negative: an error of the kernel.
    pub result: i32,
    /// The buffer that was received into. It is out until it is given back.
    pub buffer: Option<u16>,
    /// The operation goes on.
    pub more: bool,
}

/// Where a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The kernel may write it.
    Ring,
    /// Ours.
    Out,
    /// The kernel reads it for a send.
    Sending,
}

/// The ring.
pub struct Ring {
    // The first field is dropped first: the kernel lets go of the memory before it is freed.
    ring: IoUring,
    entries: Box<[Page]>,
    memory: Box<[u8]>,
    places: Box<[Place]>,
    /// What is being sent from memory of its own, by the `data` of the send.
    owned: HashMap<u64, Vec<u8>>,
    buffer_bytes: usize,
    tail: u16,
    published: u16,
}

/// The kernel wants the entries to begin at a page; 256 of them fill one.
#[repr(C, align(4096))]
struct Page([u8; 4096]);

const ENTRIES_PER_PAGE: usize = 4096 / size_of::<BufRingEntry>();

impl Ring {
    /// Sets a ring up.
    ///
    /// # Errors
    /// What the kernel says.
    ///
    /// # Panics
    /// When the number of buffers is no power of two.
    pub fn new(sizes: Sizes) -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(sizes.completions)
            .build(sizes.submissions)?;
        let count = usize::from(sizes.buffers);
        assert!(count.is_power_of_two());
        let buffer_bytes = sizes.buffer_bytes as usize;
        let pages = (0..count.div_ceil(ENTRIES_PER_PAGE)).map(|_| Page([0; 4096]));
        let mut this = Self {
            ring,
            entries: pages.collect(),
            memory: vec![0; count * (buffer_bytes + SPREAD_BYTES)].into(),
            places: vec![Place::Out; count].into(),
            owned: HashMap::new(),
            buffer_bytes,
            tail: 0,
            published: 0,
        };
        let entries = this.entries.as_mut_ptr() as u64;
        // SAFETY: `count` entries lie there, at a page, and stay until the ring was dropped.
        unsafe {
            this.ring
                .submitter()
                .register_buf_ring_with_flags(entries, sizes.buffers, GROUP, 0)?;
        }
        for id in 0..sizes.buffers {
            this.give_back(id);
        }
        this.publish();
        Ok(this)
    }

    /// Accepts until it fails; each completion is a descriptor.
    pub fn accept(&mut self, data: u64, listener: RawFd) {
        self.push(
            &opcode::AcceptMulti::new(Fd(listener))
                .build()
                .user_data(data),
        );
    }

    /// Connects. The address must stay where it is until the completion: hence `'static`.
    pub fn connect(&mut self, data: u64, socket: RawFd, address: &'static KernelAddress) {
        let entry = opcode::Connect::new(
            Fd(socket),
            (&raw const address.storage).cast(),
            address.bytes,
        );
        self.push(&entry.build().user_data(data));
    }

    /// Receives into provided buffers until it fails, ends, or none is left.
    pub fn receive(&mut self, data: u64, socket: RawFd) {
        let entry = opcode::RecvMulti::new(Fd(socket), GROUP);
        self.push(&entry.build().user_data(data));
    }

    /// Sends all of it.
    pub fn send(&mut self, data: u64, socket: RawFd, bytes: &'static [u8]) {
        self.push_send(data, socket, bytes.as_ptr(), bytes.len());
    }

    /// Sends all of it, and keeps it until [`Self::sent_owned`]. One at a time for each `data`.
    ///
    /// # Panics
    /// When one is under way for this `data`.
    pub fn send_owned(&mut self, data: u64, socket: RawFd, bytes: Vec<u8>) {
        let (start, count) = (bytes.as_ptr(), bytes.len());
        // The heap memory does not move with the Vec.
        assert!(self.owned.insert(data, bytes).is_none());
        self.push_send(data, socket, start, count);
    }

    /// The send with this `data` is complete: frees what was sent. To be called after its completion only.
    pub fn sent_owned(&mut self, data: u64) {
        self.owned.remove(&data);
    }

    /// Sends a part of a buffer that is out. Its completion is followed by [`Self::sent`].
    ///
    /// # Panics
    /// When the buffer is not out, or has no such part.
    pub fn send_buffer(&mut self, data: u64, socket: RawFd, id: u16, start: usize, end: usize) {
        let place = &mut self.places[usize::from(id)];
        assert!(*place == Place::Out && start <= end && end <= self.buffer_bytes);
        *place = Place::Sending;
        let first = self.first_byte(id) + start;
        let bytes = self.memory[first..].as_ptr();
        self.push_send(data, socket, bytes, end - start);
    }

    /// The send of this buffer is complete: gives it back.
    ///
    /// # Panics
    /// When it was not being sent.
    pub fn sent(&mut self, id: u16) {
        let place = &mut self.places[usize::from(id)];
        assert!(*place == Place::Sending);
        *place = Place::Out;
        self.give_back(id);
    }

    /// The bytes of a buffer that is out.
    ///
    /// # Panics
    /// When it is not out.
    pub fn buffer(&mut self, id: u16) -> &mut [u8] {
        assert!(self.places[usize::from(id)] == Place::Out);
        let first = self.first_byte(id);
        &mut self.memory[first..first + self.buffer_bytes]
    }

    /// Lets the kernel receive into this buffer again, after the next [`Self::wait`].
    ///
    /// # Panics
    /// When it is not out.
    pub fn give_back(&mut self, id: u16) {
        let index = usize::from(id);
        assert!(self.places[index] == Place::Out);
        self.places[index] = Place::Ring;
        let first = self.first_byte(id);
        let address = self.memory[first..].as_ptr() as u64;
        let slot = usize::from(self.tail) & (self.places.len() - 1);
        // SAFETY: `slot` is below the number of entries. The kernel reads entries only below the published tail, and
        // there are no more buffers than entries, so this one is ours to write.
        let entry = unsafe { &mut *self.entries.as_mut_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(address);
        entry.set_len(u32::try_from(self.buffer_bytes).unwrap_or(u32::MAX));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Submits what was asked, and waits for a completion, at most so long.
    ///
    /// # Errors
    /// What the kernel says, but not that the time is over.
    pub fn wait(&mut self, at_most: Duration) -> io::Result<()> {
        self.publish();
        let time = Timespec::new()
            .sec(at_most.as_secs())
            .nsec(at_most.subsec_nanos());
        let arguments = SubmitArgs::new().timespec(&time);
        match self.ring.submitter().submit_with_args(1, &arguments) {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
                _ => Err(error),
            },
        }
    }

    /// The next completion that has come.
    pub fn completion(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let buffer = cqueue::buffer_select(entry.flags());
        if let Some(id) = buffer {
            self.places[usize::from(id)] = Place::Out;
        }
        Some(Completion {
            data: entry.user_data(),
            result: entry.result(),
            buffer,
            more: cqueue::more(entry.flags()),
        })
    }

    fn first_byte(&self, id: u16) -> usize {
        usize::from(id) * (self.buffer_bytes + SPREAD_BYTES)
    }

    fn push_send(&mut self, data: u64, socket: RawFd, bytes: *const u8, count: usize) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket), bytes, count)
            .flags(libc::MSG_WAITALL | libc::MSG_NOSIGNAL)
            .build();
        self.push(&entry.user_data(data));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: each caller names memory that is `'static`, or a provided buffer that is kept until its completion.
        while unsafe { self.ring.submission().push(entry) }.is_err() {
            // Full: the kernel takes them all. It must see the buffers that were given back: receives that found none
            // are asked for again here, and would find none for ever, as nobody comes to `wait` before they end.
            self.publish();
            let _tried_again = self.ring.submit();
        }
    }

    /// Shows the kernel which buffers were given back.
    fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        self.published = self.tail;
        let entries = self.entries.as_mut_ptr().cast::<BufRingEntry>();
        // SAFETY: the tail lies in the first entry, at an even address; both sides access it atomically.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(entries).cast_mut()) };
        // Release: the entries before the tail. The kernel acquires.
        tail.store(self.tail, Ordering::Release);
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring")
            .field("buffers", &self.places.len())
            .finish_non_exhaustive()
    }
}

/// An address as the kernel reads it.
pub struct KernelAddress {
    storage: libc::sockaddr_storage,
    bytes: libc::socklen_t,
}

impl KernelAddress {
    /// One that stays for as long as the process: a load has one.
    #[must_use]
    pub fn leaked(address: SocketAddr) -> &'static Self {
        // SAFETY: all zeros is a sockaddr_storage.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let bytes = match address {
            SocketAddr::V4(v4) => {
                let inner = libc::sockaddr_in {
                    sin_family: family(libc::AF_INET),
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(v4.ip().octets()),
                    },
                    sin_zero: [0; 8],
                };
                // SAFETY: a sockaddr_storage has room and alignment for every kind of address.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in>().write(inner) };
                size_of_val(&inner)
            }
            SocketAddr::V6(v6) => {
                let inner = libc::sockaddr_in6 {
                    sin6_family: family(libc::AF_INET6),
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr {
                        s6_addr: v6.ip().octets(),
                    },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { (&raw mut storage).cast::<libc::sockaddr_in6>().write(inner) };
                size_of_val(&inner)
            }
        };
        let bytes = libc::socklen_t::try_from(bytes).expect("invariant: an address has few bytes");
        Box::leak(Box::new(Self { storage, bytes }))
    }
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("invariant: families are small numbers")
}

/// A TCP socket that connects from `source` (from any address, without one), with its port chosen at connect: binding
/// to an address alone takes no port from the 28,000 that the address has.
///
/// # Errors
/// What the kernel says; most often that there is no descriptor left.
pub fn socket(target: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<OwnedFd> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if let Some(source) = source {
        let on: libc::c_int = 1;
        let bytes = libc::socklen_t::try_from(size_of_val(&on)).expect("invariant: 4");
        // SAFETY: the option takes an int, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::IPPROTO_IP,
                libc::IP_BIND_ADDRESS_NO_PORT,
                (&raw const on).cast(),
                bytes,
            )
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        bind(&socket, &SocketAddr::from((source, 0)))?;
    }
    Ok(socket)
}
