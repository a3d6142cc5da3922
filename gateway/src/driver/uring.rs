//! The real driver: one io_uring of a shard.
//!
//! Operations are queued as they are asked for and go to the kernel together, once per round of the loop. Each
//! names its slot and generation. Memory of a send stays with its owner until its completion was told; buffers
//! belong to the kernel, or are named by exactly one [`BufferId`]. A driver is dropped before the shard that it drives:
//! its ring's end is what ends the kernel's reading.
#![expect(
    unsafe_code,
    reason = "operations name memory and descriptors that must outlive them"
)]

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use rustix::net::Shutdown;

use super::buffers::{BUFFER_GROUP, BufferRing};
use super::siblings::{Helped, Siblings};
use super::user_data::{Operation, pack};
use super::{BufferId, Driver, Key, Outgoing, Receive, Socket};
use crate::listener::ShardListeners;

/// Sizes of a shard's ring.
#[derive(Clone, Copy, Debug)]
pub struct RingSizes {
    /// Submissions that are queued before they must go to the kernel.
    pub submissions: u32,
    /// Completions that the kernel can store before it holds them back (overflow).
    pub completions: u32,
    /// Provided buffers.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: u32,
}

impl Default for RingSizes {
    fn default() -> Self {
        Self {
            submissions: 512,
            completions: 4096,
            buffers: 128,
            buffer_bytes: 16 << 10,
        }
    }
}

/// One shard's io_uring with its buffers and listeners.
pub struct UringDriver {
    // Dropped first: the kernel cancels what is under way and lets go of buffers and sends.
    ring: IoUring,
    buffers: BufferRing,
    listeners: Vec<Listener>,
    siblings: Siblings,
    accepting: bool,
    accepts_single: bool,
    no_iowait: bool,
    /// Completions that had to be taken before there was room for submissions.
    early: Vec<cqueue::Entry>,
    /// Times that the completion queue was found overflown.
    pub overflows: u64,
}

struct Listener {
    fd: Arc<OwnedFd>,
    armed: bool,
}

impl UringDriver {
    /// Sets up the ring on the thread that will drive it.
    ///
    /// # Errors
    /// What the kernel says; `start::explain_ring` makes a sentence of it.
    pub fn new(sizes: RingSizes, listeners: ShardListeners) -> io::Result<Self> {
        let ring = ring(sizes)?;
        let buffers = BufferRing::register(&ring, sizes.buffers, sizes.buffer_bytes)?;
        let no_iowait = ring.params().is_feature_no_iowait();
        Ok(Self {
            ring,
            buffers,
            siblings: Siblings::new(listeners.siblings),
            listeners: listeners
                .own
                .into_iter()
                .map(|fd| Listener { fd, armed: false })
                .collect(),
            accepting: false,
            accepts_single: false,
            no_iowait,
            early: Vec::new(),
            overflows: 0,
        })
    }

    /// Sets up and drops the smallest ring with all that a shard needs.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn probe() -> io::Result<()> {
        let sizes = RingSizes {
            submissions: 4,
            completions: 8,
            buffers: 1,
            buffer_bytes: 4096,
        };
        Self::new(sizes, ShardListeners::default()).map(drop)
    }

    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: what each entry names outlives it: descriptors are closed only when no operation of theirs is
            // under way, buffers are the ring's, and `send` has the contract for its memory.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // Full: what is queued goes to the kernel early. Where it is busy, completions must be taken first.
            if self.ring.submit().is_err() {
                self.early.extend(self.ring.completion());
            }
        }
    }

    /// Submits what is queued; with `wait`, sleeps until a completion or so long.
    ///
    /// # Errors
    /// Only what can't be waited out.
    pub fn enter(&mut self, wait: Option<Duration>) -> io::Result<()> {
        self.buffers.publish();
        let mut submission = self.ring.submission();
        submission.sync();
        if submission.cq_overflow() {
            self.overflows += 1;
        }
        let queued = u32::try_from(submission.len()).expect("invariant: the ring's size is u32");
        drop(submission);
        let mut flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
        if self.no_iowait {
            flags |= EnterFlags::NO_IOWAIT;
        }
        let (want, timeout) = match wait {
            None => (0, Duration::ZERO),
            Some(timeout) => (1, timeout),
        };
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        // SAFETY: `args` and its timespec live through the call; EXT_ARG says that they are there. 6.1 has it.
        let entered = unsafe {
            self.ring
                .submitter()
                .enter(queued, want, flags.bits(), Some(&args))
        };
        match entered {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY)
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes completions, up to the room in `into`.
    pub fn completions(&mut self, into: &mut Vec<cqueue::Entry>) {
        into.clear();
        into.append(&mut self.early);
        let room = into.capacity() - into.len();
        into.extend(self.ring.completion().by_ref().take(room));
    }

    /// The buffer that a receive's completion names; it is the caller's from here.
    pub fn take_buffer(&mut self, completion: &cqueue::Entry) -> Option<BufferId> {
        let id = BufferId(cqueue::buffer_select(completion.flags())?);
        self.buffers.take_out(id);
        Some(id)
    }

    /// Asks to be told, again and again, when `fd` becomes readable.
    pub fn watch(&mut self, operation: Operation, fd: RawFd) {
        let key = Key {
            slot: 0,
            generation: 0,
        };
        let entry = opcode::PollAdd::new(Fd(fd), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(pack(operation, key));
        self.push(&entry);
    }

    /// The listener's accept ended; it is armed again by [`Self::arm_accepts`].
    pub fn accept_ended(&mut self, listener: u32) {
        if let Some(listener) = self.listeners.get_mut(listener as usize) {
            listener.armed = false;
        }
    }

    /// Arms the accepts that are not, if the shard accepts.
    pub fn arm_accepts(&mut self) {
        if !self.accepting {
            return;
        }
        for index in 0..self.listeners.len() {
            if core::mem::replace(&mut self.listeners[index].armed, true) {
                continue;
            }
            let listener = Fd(self.listeners[index].fd.as_raw_fd());
            let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
            let entry = if self.accepts_single {
                // Nobody asks for the peer's address here.
                let (address, length) = (core::ptr::null_mut(), core::ptr::null_mut());
                opcode::Accept::new(listener, address, length)
                    .flags(flags)
                    .build()
            } else {
                opcode::AcceptMulti::new(listener).flags(flags).build()
            };
            self.push(&entry.user_data(accept_of(index)));
        }
    }

    fn cancel_accepts(&mut self) {
        for index in 0..self.listeners.len() {
            if self.listeners[index].armed {
                self.cancel(accept_of(index));
            }
        }
    }

    /// Whether the kernel accepts for none of the listeners any more: what it accepted was told.
    pub fn accepts_ended(&self) -> bool {
        self.listeners.iter().all(|listener| !listener.armed)
    }

    /// Lets in whoever waits at a sibling's socket, one after the other, if the shard has room: each goes to `accepted`
    /// at once, which may take the room away; `None`: descriptors ran out.
    pub fn help_siblings(&mut self, mut accepted: impl FnMut(&mut Self, Option<Socket>)) {
        if !self.accepting {
            return;
        }
        let mut siblings = core::mem::take(&mut self.siblings);
        siblings.look(|helped| {
            accepted(
                self,
                match helped {
                    Helped::In(newcomer) => Some(owned(newcomer)),
                    Helped::OutOfRoom => None,
                },
            );
            self.accepting
        });
        self.siblings = siblings;
    }

    /// Whether the shard takes new connections.
    pub fn accepting(&self) -> bool {
        self.accepting
    }

    /// By name and not by descriptor: a number that was closed may be another socket's by the time of submission.
    fn cancel(&mut self, user_data: u64) {
        let entry = opcode::AsyncCancel::new(user_data).build().user_data(pack(
            Operation::Ignored,
            Key {
                slot: 0,
                generation: 0,
            },
        ));
        self.push(&entry);
    }
}

fn ring(sizes: RingSizes) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(sizes.completions)
        .dontfork()
        .build(sizes.submissions)
}

fn fd(socket: Socket) -> Fd {
    Fd(raw(socket))
}

fn raw(socket: Socket) -> RawFd {
    RawFd::try_from(socket.0).expect("invariant: a descriptor came from accept")
}

/// Closes a socket that the core is done with: once, and when no operation names it any more or the ring is gone.
pub fn close(socket: Socket) {
    // SAFETY: the descriptor came from accept, and the shard hands it out for closing once.
    drop(unsafe { OwnedFd::from_raw_fd(raw(socket)) });
}

/// A descriptor becomes the core's; it comes back for closing.
fn owned(fd: OwnedFd) -> Socket {
    Socket(u32::try_from(fd.into_raw_fd()).expect("invariant: descriptors are not negative"))
}

fn borrowed(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the core calls with sockets that it has not closed.
    unsafe { BorrowedFd::borrow_raw(raw(*socket)) }
}

/// What an accept of this listener is known by.
fn accept_of(index: usize) -> u64 {
    let key = Key {
        slot: u32::try_from(index).expect("invariant: few listeners"),
        generation: 0,
    };
    pack(Operation::Accept, key)
}

impl Driver for UringDriver {
    fn buffer(&mut self, id: BufferId) -> &mut [u8] {
        self.buffers.buffer(id)
    }

    fn give_back(&mut self, id: BufferId) {
        self.buffers.give_back(id);
    }

    fn buffers_free(&self) -> (u32, u32) {
        self.buffers.free()
    }

    fn buffer_bytes(&self) -> usize {
        self.buffers.buffer_bytes()
    }

    fn receive(&mut self, key: Key, socket: Socket, receive: Receive) {
        let entry = match receive {
            Receive::Multishot => opcode::RecvMulti::new(fd(socket), BUFFER_GROUP).build(),
            Receive::Once => opcode::Recv::new(fd(socket), core::ptr::null_mut(), 0)
                .buf_group(BUFFER_GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
        };
        self.push(&entry.user_data(pack(Operation::Receive, key)));
    }

    fn cancel_receive(&mut self, key: Key) {
        self.cancel(pack(Operation::Receive, key));
    }

    unsafe fn send(&mut self, key: Key, socket: Socket, bytes: Outgoing<'_>) {
        let bytes = match bytes {
            Outgoing::Memory(bytes) => bytes,
            Outgoing::Received { id, start, end } => {
                &self.buffers.buffer(id)[start as usize..end as usize]
            }
        };
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(fd(socket), bytes.as_ptr(), length)
            .flags(libc::MSG_NOSIGNAL)
            .build()
            .user_data(pack(Operation::Send, key));
        self.push(&entry);
    }

    fn cancel_send(&mut self, key: Key) {
        self.cancel(pack(Operation::Send, key));
    }

    fn shutdown_write(&mut self, socket: Socket) {
        let _ = rustix::net::shutdown(borrowed(&socket), Shutdown::Write);
    }

    fn close(&mut self, socket: Socket) {
        close(socket);
    }

    fn peer(&mut self, socket: Socket) -> Option<SocketAddr> {
        let address = rustix::net::getpeername(borrowed(&socket)).ok()??;
        SocketAddr::try_from(address).ok()
    }

    fn set_accepting(&mut self, accepting: bool) {
        if self.accepting == accepting {
            return;
        }
        self.accepting = accepting;
        if accepting {
            self.arm_accepts();
        } else {
            self.cancel_accepts();
        }
    }

    fn accept_one_at_a_time(&mut self, single: bool) {
        if self.accepts_single != single {
            self.accepts_single = single;
            // Those that are armed end; what is armed next is of the other kind.
            self.cancel_accepts();
        }
    }
}
