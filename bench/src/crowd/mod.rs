//! Thousands of chat clients on one thread: epoll, one timer heap. What the clients learn comes out as [`News`]; what
//! people do goes in by [`Crowd::with`].
//!
//! A round ([`Crowd::turn`]) writes what waits, reads what came and lets the clients answer. Whatever a client wants
//! written in a round leaves in one write at the beginning of the next, however many envelopes it is: they remain
//! one frame each, as several `send`s of a browser within one moment do.
//!
//! ```no_run
//! use std::time::Duration;
//! use tidegate_bench::client::Settings;
//! use tidegate_bench::crowd::Crowd;
//! use tidegate_protocol::Codec;
//!
//! # fn main() -> std::io::Result<()> {
//! let server = "127.0.0.1:8601".parse().expect("an address");
//! let mut crowd = Crowd::new(server, Settings::new("127.0.0.1:8601", Codec::Flat), 0)?;
//! let visitor = crowd.add("a visitor's token", 0x5e1f, 7);
//! crowd.with(visitor, |client, now_us, exchange| client.start(now_us, exchange));
//! let mut news = Vec::new();
//! loop {
//!     crowd.turn(Duration::from_millis(10), &mut news)?;
//!     for one in news.drain(..) {
//!         println!("at {} µs member {} learned {:?}", one.at_us, one.member, one.event);
//!     }
//! }
//! # }
//! ```

mod member;
mod socket;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;

use crate::client::{Client, Event, Exchange, NEVER, Phase, Settings};
use member::Member;
pub use member::OFFICE;
use socket::Socket;

const READ_BYTES: usize = 64 * 1024;
/// Reads of one member before the others have their turn.
const READS_PER_TURN_MAX: usize = 4;
/// Sockets that one round looks at.
const EVENTS_MAX: usize = 1024;
/// Rounds in a row that found more sockets ready than that: then what is due is done all the same.
const FULL_ROUNDS_MAX: u32 = 16;

/// Something that a member learned.
#[derive(Debug)]
pub struct News {
    /// Who, by the number of [`Crowd::add`].
    pub member: usize,
    /// When, by the crowd's clock.
    pub at_us: u64,
    /// What; never Connect or Disconnect, which the crowd does by itself.
    pub event: Event,
}

/// The crowd.
pub struct Crowd {
    epoll: OwnedFd,
    server: SocketAddr,
    settings: Arc<Settings>,
    first_office: u32,
    members: Vec<Member>,
    due: BinaryHeap<Reverse<(u64, u32)>>,
    begun: Instant,
    exchange: Exchange,
    buffer: Vec<u8>,
    ready: Vec<epoll::Event>,
    full_rounds: u32,
    /// Whose output waits for the next round's writes.
    unwritten: Vec<u32>,
    news: Vec<News>,
    refused_connections: u64,
    wire_bytes: (u64, u64),
}

impl std::fmt::Debug for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crowd")
            .field("members", &self.members.len())
            .finish_non_exhaustive()
    }
}

impl Crowd {
    /// Nobody yet. Members share source addresses in offices of [`OFFICE`]; crowds in other processes begin
    /// with another `first_office`, so that they take each other no ports.
    ///
    /// # Errors
    /// The kernel has no epoll for us.
    pub fn new(server: SocketAddr, settings: Settings, first_office: u32) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            server,
            settings: Arc::new(settings),
            first_office,
            members: Vec::new(),
            due: BinaryHeap::new(),
            begun: Instant::now(),
            exchange: Exchange::default(),
            buffer: vec![0; READ_BYTES],
            ready: Vec::with_capacity(EVENTS_MAX),
            full_rounds: 0,
            unwritten: Vec::new(),
            news: Vec::new(),
            refused_connections: 0,
            wire_bytes: (0, 0),
        })
    }

    // --- who is there ------------------------------------------------------------------------------------------

    /// One more, who has not come yet. `session` and `seed` as in [`Client::new`]. The number is the member's.
    pub fn add(&mut self, token: &str, session: u64, seed: u64) -> usize {
        let number = u32::try_from(self.members.len()).expect("invariant: fewer members than 2^32");
        let client = Client::new(Arc::clone(&self.settings), token, session, seed);
        self.members
            .push(Member::new(client, number, self.first_office));
        self.members.len() - 1
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many are welcome now.
    #[must_use]
    pub fn open(&self) -> usize {
        let is_open = |member: &&Member| member.client.phase() == Phase::Open;
        self.members.iter().filter(is_open).count()
    }

    /// Messages that are neither acknowledged nor refused.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        let of_one = |member: &Member| member.client.unanswered();
        self.members.iter().map(of_one).sum()
    }

    /// One of them.
    #[must_use]
    pub fn client(&self, member: usize) -> &Client {
        &self.members[member].client
    }

    /// Connections that the kernel refused, or that ended before they were open.
    #[must_use]
    pub const fn refused_connections(&self) -> u64 {
        self.refused_connections
    }

    /// Bytes of TCP's payload so far: from clients, to clients.
    #[must_use]
    pub const fn wire_bytes(&self) -> (u64, u64) {
        self.wire_bytes
    }

    /// µs since the crowd was made: the time that its clients know.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(NEVER)
    }

    // --- what they do ------------------------------------------------------------------------------------------

    /// Calls a client, and does what it asks for.
    pub fn with(&mut self, member: usize, call: impl FnOnce(&mut Client, u64, &mut Exchange)) {
        let now_us = self.now_us();
        call(&mut self.members[member].client, now_us, &mut self.exchange);
        self.follow(member, now_us);
    }

    /// One comes, and stays.
    pub fn start(&mut self, member: usize) {
        self.with(member, Client::start);
    }

    /// One leaves; [`start`](Self::start) brings it back.
    pub fn stop(&mut self, member: usize) {
        self.with(member, Client::stop);
    }

    /// One's connection is cut from this side, without a word; what it said before is under way.
    pub fn cut(&mut self, member: usize) {
        self.flush(member);
        self.members[member].socket = None;
        self.with(member, Client::lost);
    }

    /// One reads nothing from its socket until told otherwise: a slow reader.
    pub fn deafen(&mut self, member: usize, deaf: bool) {
        self.members[member].deaf = deaf;
        self.register(member, EpollCall::Modify);
    }

    /// What was learned outside a round, by [`with`](Self::with) and its like; else it comes with the next round.
    pub fn take_news(&mut self, news: &mut Vec<News>) {
        news.append(&mut self.news);
    }

    // --- time --------------------------------------------------------------------------------------------------

    /// One round: what waits to be written, what the sockets bring, what is due; at most so long until something comes.
    /// News are appended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn turn(&mut self, wait_max: Duration, news: &mut Vec<News>) -> io::Result<()> {
        self.write_all();
        let timeout = Timespec::try_from(self.wait(wait_max)).map_err(io::Error::other)?;
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        let room = rustix::buffer::spare_capacity(&mut ready);
        match epoll::wait(&self.epoll, room, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &ready {
            let [.., a, b, c, d] = event.data.u64().to_be_bytes();
            let number = (event.data.u64() >> 32) as usize;
            self.socket_is_ready(number, u32::from_be_bytes([a, b, c, d]), event.flags);
        }
        // After the sockets, all of them: what came while this process stood still came in time.
        let is_full = ready.len() == EVENTS_MAX && self.full_rounds < FULL_ROUNDS_MAX;
        self.full_rounds = if is_full { self.full_rounds + 1 } else { 0 };
        self.ready = ready;
        if !is_full {
            self.tick();
        }
        news.append(&mut self.news);
        Ok(())
    }

    /// How long a round may sleep.
    fn wait(&self, wait_max: Duration) -> Duration {
        if !self.news.is_empty() {
            return Duration::ZERO;
        }
        let next = self.due.peek();
        let next_us = next.map_or(NEVER, |Reverse((due_us, _))| *due_us);
        wait_max.min(Duration::from_micros(next_us.saturating_sub(self.now_us())))
    }

    fn tick(&mut self) {
        loop {
            let now_us = self.now_us();
            match self.due.peek() {
                Some(Reverse((due_us, _))) if *due_us <= now_us => {}
                _ => return,
            }
            let Some(Reverse((due_us, number))) = self.due.pop() else {
                return;
            };
            let member = &mut self.members[number as usize];
            if member.armed_us == due_us {
                member.armed_us = NEVER;
                self.with(number as usize, Client::tick);
            }
        }
    }

    fn arm(&mut self, number: usize) {
        let member = &mut self.members[number];
        let due_us = member.client.deadline_us();
        if due_us < member.armed_us {
            member.armed_us = due_us;
            self.due.push(Reverse((due_us, member.number)));
        }
    }

    // --- sockets -----------------------------------------------------------------------------------------------

    fn write_all(&mut self) {
        let mut unwritten = std::mem::take(&mut self.unwritten);
        for number in unwritten.drain(..) {
            let number = number as usize;
            self.members[number].is_unwritten = false;
            self.flush(number);
        }
        self.unwritten = unwritten;
    }

    /// Writes what waits. A socket that can't be written any more is not gone yet: what it still brings is worth having,
    /// and reading it will tell.
    fn flush(&mut self, number: usize) {
        let Some(socket) = &mut self.members[number].socket else {
            return;
        };
        if !socket.connected {
            return;
        }
        let waited = socket.waiting.len();
        let flushed = socket.flush();
        self.wire_bytes.0 += (waited - socket.waiting.len()) as u64;
        match flushed {
            Ok(waits) if !waits && socket.leaving => self.members[number].socket = None,
            Ok(_) => self.register(number, EpollCall::Modify),
            Err(_) => {
                let _already_gone = socket.stream.shutdown(std::net::Shutdown::Write);
            }
        }
    }

    fn socket_is_ready(&mut self, number: usize, stamp: u32, flags: EventFlags) {
        let Some(socket) = &mut self.members[number].socket else {
            return;
        };
        if socket.stamp != stamp {
            return;
        }
        if !socket.connected {
            if socket.outcome().is_err() {
                self.refused_connections += 1;
                self.socket_is_gone(number);
                return;
            }
            socket.connected = true;
            self.with(number, Client::connected);
            self.register(number, EpollCall::Modify);
        } else if flags.contains(EventFlags::OUT) {
            self.flush(number);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(number, stamp);
        }
    }

    fn read(&mut self, number: usize, stamp: u32) {
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..READS_PER_TURN_MAX {
            let socket = self.members[number].socket.as_mut();
            let Some(socket) = socket.filter(|socket| socket.stamp == stamp) else {
                break;
            };
            match socket.read(&mut buffer) {
                Ok(None) => break,
                Ok(Some(0)) | Err(_) => {
                    self.socket_is_gone(number);
                    break;
                }
                Ok(Some(_)) if socket.leaving => {}
                Ok(Some(bytes)) => {
                    self.wire_bytes.1 += bytes as u64;
                    let piece = &mut buffer[..bytes];
                    self.with(number, |client, now_us, exchange| {
                        client.received(piece, now_us, exchange);
                    });
                    if bytes < READ_BYTES {
                        break;
                    }
                }
            }
        }
        self.buffer = buffer;
    }

    fn socket_is_gone(&mut self, number: usize) {
        let socket = self.members[number].socket.take();
        if socket.is_some_and(|socket| !socket.leaving) {
            self.with(number, Client::lost);
        }
    }

    /// Registers what the socket waits for, where that has changed.
    fn register(&mut self, number: usize, call: EpollCall) {
        let deaf = self.members[number].deaf;
        let Some(socket) = &mut self.members[number].socket else {
            return;
        };
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, !deaf);
        flags.set(EventFlags::OUT, !socket.connected || socket.is_stuck());
        if call == EpollCall::Modify && flags == socket.registered {
            return;
        }
        socket.registered = flags;
        let data = EventData::new_u64((number as u64) << 32 | u64::from(socket.stamp));
        let done = match call {
            EpollCall::Add => epoll::add(&self.epoll, socket.stream.as_fd(), data, flags),
            EpollCall::Modify => epoll::modify(&self.epoll, socket.stream.as_fd(), data, flags),
        };
        done.expect("invariant: an open socket of ours, registered once");
    }

    fn connect(&mut self, number: usize) {
        let member = &mut self.members[number];
        member.stamp += 1;
        match Socket::open(member.address, self.server, member.stamp) {
            Ok(socket) => {
                member.socket = Some(socket);
                self.register(number, EpollCall::Add);
            }
            Err(_) => {
                self.refused_connections += 1;
                self.with(number, Client::lost);
            }
        }
    }

    // --- what the clients ask for ------------------------------------------------------------------------------

    /// Keeps a client's output for the next writes, and its events as news; does what they ask for.
    fn follow(&mut self, number: usize, at_us: u64) {
        let member = &mut self.members[number];
        if !self.exchange.output.is_empty() {
            if let Some(socket) = &mut member.socket {
                socket.waiting.extend_from_slice(&self.exchange.output);
                if !std::mem::replace(&mut member.is_unwritten, true) {
                    self.unwritten.push(member.number);
                }
            }
            self.exchange.output.clear();
        }
        if !self.exchange.events.is_empty() {
            let mut events = std::mem::take(&mut self.exchange.events);
            for event in events.drain(..) {
                match event {
                    Event::Connect => self.connect(number),
                    Event::Disconnect => self.disconnect(number),
                    event => self.news.push(News {
                        member: number,
                        at_us,
                        event,
                    }),
                }
            }
            if self.exchange.events.is_empty() {
                self.exchange.events = events;
            }
        }
        self.arm(number);
    }

    fn disconnect(&mut self, number: usize) {
        let Some(socket) = &mut self.members[number].socket else {
            return;
        };
        socket.leaving = true;
        self.flush(number);
        // A socket that was never connected has nobody to say goodbye to.
        let socket = &self.members[number].socket;
        if socket.as_ref().is_some_and(|socket| !socket.connected) {
            self.members[number].socket = None;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EpollCall {
    Add,
    Modify,
}

#[cfg(test)]
mod tests;
