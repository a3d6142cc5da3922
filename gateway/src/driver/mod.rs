//! What the shard's core asks of the world: receive, send, close. Two stand behind it: [`uring`], the real one, and
//! the simulator of the tests. The core calls a driver; the driver's loop calls the core back with what happened
//! ([`crate::shard::Shard`]'s `accepted`, `received`, `receive_ended`, `sent`, `tick`).

pub mod buffers;
pub mod drive;
pub mod siblings;
pub mod uring;
pub mod user_data;

use std::net::SocketAddr;

/// A connected socket, by the driver's name for it. The core never looks inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket(pub u32);

/// Slot and generation: what an operation's completion names. A stale key changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Index into the shard's slab.
    pub slot: u32,
    /// The use of that slot.
    pub generation: u32,
}

/// A buffer that the driver received into. Whoever holds it gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferId(pub u16);

/// How long a receive lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// Until it is cancelled, fails, or the buffers run out.
    Multishot,
    /// One buffer: for a connection that is over its rate.
    Once,
}

/// Why a receive ended. Nothing more is received until the core asks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveEnd {
    /// The peer sent its last byte.
    EndOfStream,
    /// Reset, timed out, or any other error of the socket.
    Failed,
    /// No buffer was free: ask again when some were given back.
    NoBuffers,
    /// The kernel ended it (the single one is done, the completion queue was full, it was cancelled): ask again
    /// if there is still interest.
    Over,
}

/// What a send reads.
#[derive(Clone, Copy, Debug)]
pub enum Outgoing<'a> {
    /// Memory of the core's.
    Memory(&'a [u8]),
    /// A part of a received buffer.
    Received {
        /// The buffer.
        id: BufferId,
        /// First byte.
        start: u32,
        /// One past the last.
        end: u32,
    },
}

/// What the core asks of the world. Calls return at once; what came of them is told later.
pub trait Driver {
    /// The memory of a received buffer, all of it.
    fn buffer(&mut self, id: BufferId) -> &mut [u8];

    /// The core is done with a buffer.
    fn give_back(&mut self, id: BufferId);

    /// How many buffers wait for the kernel, of how many.
    fn buffers_free(&self) -> (u32, u32);

    /// Bytes of each buffer.
    fn buffer_bytes(&self) -> usize;

    /// Asks for bytes. At most one receive of a key is under way.
    fn receive(&mut self, key: Key, socket: Socket, receive: Receive);

    /// Ends the key's receive early; it is told as [`ReceiveEnd::Over`] (or as what came first).
    fn cancel_receive(&mut self, key: Key);

    /// Sends; told as `sent` with the count. At most one send of a key is under way.
    ///
    /// # Safety
    /// The bytes stay where they are, unchanged, until `sent` was told for this key: the kernel reads them meanwhile.
    #[expect(
        unsafe_code,
        reason = "the kernel reads the memory after the call returned"
    )]
    unsafe fn send(&mut self, key: Key, socket: Socket, bytes: Outgoing<'_>);

    /// Ends the key's send early; it is still told.
    fn cancel_send(&mut self, key: Key);

    /// Says to the peer that nothing more will be sent.
    fn shutdown_write(&mut self, socket: Socket);

    /// Closes. No operation of the socket is under way.
    fn close(&mut self, socket: Socket);

    /// The peer's address, if the socket still has one.
    fn peer(&mut self, socket: Socket) -> Option<SocketAddr>;

    /// Accepts new connections, or lets them wait in the backlog.
    fn set_accepting(&mut self, accepting: bool);

    /// While accepting: each listener one connection at a time, or as many as come. Drivers whose accepts can't run
    /// ahead of the shard need not tell them apart.
    fn accept_one_at_a_time(&mut self, _single: bool) {}
}
