//! Hundreds to thousands of clients on one thread: epoll, one timer heap, one journal.
//!
//! The crowd moves while it is asked to ([`Crowd::until`], [`Crowd::pass`]); a trial breaks things between. Sends
//! follow a schedule ([`Load`]) that does not wait for answers; only who has a full outbox is passed over, and counted.

mod member;
mod socket;
mod tally;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::time::Timespec;
use tidegate_bench::client::{Client, Event, Exchange, NEVER, Settings};
use tidegate_protocol::{Codec, Id, fb, message};

use super::journal::{Entry, Journal, Mark};
use super::system::Agent;
pub use member::Member;
use socket::Socket;
pub use tally::Tally;

const READ_BYTES: usize = 64 * 1024;
/// Bytes read of one member before the others have their turn.
const READS_PER_TURN_MAX: usize = 4;
const EVENTS_MAX: usize = 1024;
/// Messages that a member has unanswered before the schedule passes it over.
const UNANSWERED_MAX: usize = 64;
/// A trial kills a hundred times in a minute: with the patience of real clients, who back off for up to half a minute
/// after so many losses, nobody would be there to see it.
const BACKOFF_US_MAX: u64 = 250_000;

/// A time of a histogram, for a figure.
#[must_use]
pub fn ms(microseconds: u64) -> String {
    format!("{}.{} ms", microseconds / 1_000, microseconds % 1_000 / 100)
}

/// A schedule of sends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Over all members, by chance, visitors and agents alike.
    pub per_s: u64,
    /// Bytes of each text.
    pub text_bytes: usize,
}

/// The crowd.
pub struct Crowd {
    epoll: OwnedFd,
    server: SocketAddr,
    settings: Arc<Settings>,
    members: Vec<Member>,
    due: BinaryHeap<Reverse<(u64, u32)>>,
    begun: Instant,
    random: fastrand::Rng,
    exchange: Exchange,
    buffer: Vec<u8>,
    ready: Vec<epoll::Event>,
    /// Where the schedule stands, in messages and µs.
    scheduled: (u64, u64),
    /// The highest seq of each conversation that anybody was told of.
    highest: HashMap<Id, u64>,
    /// Answers to what was said before are not in the tally's histogram.
    answers_from_us: u64,
    /// What is said, if anything.
    pub load: Option<Load>,
    /// What everybody saw.
    pub journal: Journal,
    /// The same in numbers.
    pub tally: Tally,
}

impl std::fmt::Debug for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Crowd")
            .field("members", &self.members.len())
            .field("tally", &self.tally)
            .finish_non_exhaustive()
    }
}

impl Crowd {
    /// Nobody yet, who speak FlatBuffers, as the SDK does.
    ///
    /// # Errors
    /// The kernel has no epoll for us.
    pub fn new(server: SocketAddr, seed: u64) -> anyhow::Result<Self> {
        Self::speaking(server, seed, Codec::Flat)
    }

    /// Nobody yet, who speak this codec.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn speaking(server: SocketAddr, seed: u64, codec: Codec) -> anyhow::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            server,
            settings: Arc::new(Settings {
                backoff_us_max: BACKOFF_US_MAX,
                ..Settings::new(&server.to_string(), codec)
            }),
            members: Vec::new(),
            due: BinaryHeap::new(),
            begun: Instant::now(),
            random: fastrand::Rng::with_seed(seed),
            exchange: Exchange::default(),
            buffer: vec![0; READ_BYTES],
            ready: Vec::with_capacity(EVENTS_MAX),
            scheduled: (0, 0),
            highest: HashMap::new(),
            answers_from_us: 0,
            load: None,
            journal: Journal::default(),
            tally: Tally::new()?,
        })
    }

    // --- who is there ------------------------------------------------------------------------------------------

    /// One more visitor, who has not come yet. The number is the member's.
    pub fn add_visitor(&mut self, token: &str) -> usize {
        self.add(token, fb::Role::Visitor)
    }

    /// One more agent, who has not come yet, and goes online when welcomed.
    pub fn add_agent(&mut self, agent: &Agent) -> usize {
        self.add(&agent.token, fb::Role::Agent)
    }

    fn add(&mut self, token: &str, role: fb::Role) -> usize {
        let number = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let (session, seed) = (self.random.u64(1..), self.random.u64(..));
        let client = Client::new(Arc::clone(&self.settings), token, session, seed);
        self.members.push(Member::new(client, role, number));
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
        self.members
            .iter()
            .filter(|member| member.is_open())
            .count()
    }

    /// Messages that are neither acknowledged nor refused.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.members
            .iter()
            .map(|member| member.client.unanswered())
            .sum()
    }

    /// One of them.
    #[must_use]
    pub fn member(&self, number: usize) -> &Member {
        &self.members[number]
    }

    /// All of them.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    /// µs since the crowd was made: the time that its clients know.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(NEVER)
    }

    // --- what they do ------------------------------------------------------------------------------------------

    /// All who have not come yet, come.
    pub fn start(&mut self) {
        for number in 0..self.members.len() {
            self.start_one(number);
        }
    }

    /// One comes.
    pub fn start_one(&mut self, number: usize) {
        self.with(number, Client::start);
    }

    /// One leaves; [`start_one`](Self::start_one) brings it back.
    pub fn stop_one(&mut self, number: usize) {
        self.with(number, Client::stop);
    }

    /// One's connection is cut from this side, without a word.
    pub fn cut(&mut self, number: usize) {
        self.members[number].socket = None;
        self.with(number, Client::lost);
    }

    /// One asks whether anybody is there.
    pub fn ping(&mut self, number: usize) {
        self.with(number, Client::ping);
    }

    /// One asks for something; the answer is not waited for.
    pub fn command(&mut self, number: usize, command: message::Command) {
        self.with(number, |client, now_us, exchange| {
            let _too_many = client.command(command, now_us, exchange);
        });
    }

    /// One says something now, if its outbox has room. `to`: an agent's conversation.
    pub fn say(&mut self, number: usize, to: Option<Id>, text_bytes: usize) -> Option<Mark> {
        let member = &self.members[number];
        let mark = member.mark(member.said + 1);
        let text = mark.text(text_bytes);
        self.journal.write(Entry::Sent(mark));
        let mut said = false;
        self.with(number, |client, now_us, exchange| {
            said = client.send(&text, to, now_us, exchange).is_ok();
        });
        if !said {
            self.tally.passed_over += 1;
            return None;
        }
        let now_us = self.now_us();
        let member = &mut self.members[number];
        member.said += 1;
        member.asked.push_back((mark.key, now_us));
        self.tally.sent += 1;
        Some(mark)
    }

    /// How long answers took is measured anew, of what is said from now on.
    pub fn answers_count_from_now(&mut self) {
        self.answers_from_us = self.now_us();
        self.tally.answers_us.reset();
    }

    /// Calls a client, and does what it asks for.
    pub fn with(&mut self, number: usize, call: impl FnOnce(&mut Client, u64, &mut Exchange)) {
        let now_us = self.now_us();
        call(&mut self.members[number].client, now_us, &mut self.exchange);
        self.follow(number);
    }

    // --- time --------------------------------------------------------------------------------------------------

    /// Goes on for so long.
    ///
    /// # Errors
    /// The kernel's.
    pub fn pass(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(end.saturating_duration_since(Instant::now()))?;
        }
        Ok(())
    }

    /// Goes on until `done`.
    ///
    /// # Errors
    /// It is not done in time.
    pub fn until(
        &mut self,
        what: &str,
        time_max: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + time_max;
        while !done(self) {
            ensure!(
                Instant::now() < deadline,
                "not within {time_max:?}: {what}; {} of {} are welcome, {} messages are unanswered, {:?}",
                self.open(),
                self.len(),
                self.unanswered(),
                self.tally
            );
            self.turn(Duration::from_millis(10))?;
        }
        Ok(())
    }

    /// Says nothing more, and goes on until everything said is answered and everybody has all of it; then writes down
    /// what they hold.
    ///
    /// # Errors
    /// That does not come to pass in time.
    pub fn settle(&mut self, time_max: Duration) -> anyhow::Result<()> {
        self.load = None;
        self.until("everything said is answered", time_max, |crowd| {
            crowd.unanswered() == 0
        })?;
        self.until("everybody has everything", time_max, |crowd| {
            crowd.lacking().is_none()
        })
        .with_context(|| format!("the first who lacks something: {:?}", self.lacking()))?;
        for number in 0..self.members.len() {
            for conversation in self.members[number].rooms.clone() {
                let seq = self.members[number].client.cursor(conversation);
                let room = self.journal.room(conversation);
                let member = self.members[number].number;
                self.journal.write(Entry::Holds { member, room, seq });
            }
        }
        Ok(())
    }

    /// Who does not have what others were told of: member, conversation, what they have, what there is.
    fn lacking(&self) -> Option<(u32, Id, u64, u64)> {
        for member in &self.members {
            for &conversation in &member.rooms {
                let there = self.highest.get(&conversation).copied().unwrap_or(0);
                let has = member.client.cursor(conversation);
                if has < there {
                    return Some((member.number, conversation, has, there));
                }
            }
        }
        None
    }

    /// One round: what is due, what is scheduled, what the sockets bring.
    ///
    /// # Errors
    /// The kernel's.
    pub fn turn(&mut self, wait_max: Duration) -> anyhow::Result<()> {
        self.tick();
        self.say_scheduled();
        let now_us = self.now_us();
        let next_us = self
            .due
            .peek()
            .map_or(NEVER, |Reverse((due_us, _))| *due_us);
        let next_send_us = self.next_send_us();
        let wait_us = next_us.min(next_send_us).saturating_sub(now_us);
        let wait = wait_max.min(Duration::from_micros(wait_us));
        let timeout = Timespec::try_from(wait).context("a time to wait")?;
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut ready),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll"),
        }
        for event in &ready {
            let data = event.data.u64();
            let number = usize::try_from(data >> 32)?;
            let stamp = u32::try_from(data & 0xffff_ffff)?;
            self.socket_is_ready(number, stamp, event.flags);
        }
        self.ready = ready;
        Ok(())
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

    // --- the schedule ------------------------------------------------------------------------------------------

    fn next_send_us(&self) -> u64 {
        match self.load {
            Some(load) => self.scheduled.1 + self.scheduled.0 * 1_000_000 / load.per_s.max(1),
            None => NEVER,
        }
    }

    fn say_scheduled(&mut self) {
        let Some(load) = self.load else {
            self.scheduled = (0, 0);
            return;
        };
        let now_us = self.now_us();
        if self.scheduled.1 == 0 {
            self.scheduled = (0, now_us);
        }
        while self.next_send_us() <= now_us {
            self.scheduled.0 += 1;
            let number = self.random.usize(..self.members.len());
            let member = &self.members[number];
            if member.client.unanswered() >= UNANSWERED_MAX {
                self.tally.passed_over += 1;
            } else if let Some(place) = member.place(&mut self.random) {
                self.say(number, place, load.text_bytes);
            }
        }
    }

    // --- sockets -----------------------------------------------------------------------------------------------

    fn socket_is_ready(&mut self, number: usize, stamp: u32, flags: EventFlags) {
        let Some(socket) = &mut self.members[number].socket else {
            return;
        };
        if socket.stamp != stamp {
            return;
        }
        if !socket.connected {
            if socket.outcome().is_err() {
                self.tally.refused_connections += 1;
                self.socket_is_gone(number);
                return;
            }
            socket.connected = true;
            self.with(number, Client::connected);
        } else if flags.contains(EventFlags::OUT) && self.flush(number).is_err() {
            self.socket_is_gone(number);
            return;
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) {
            self.read(number, stamp);
        }
        self.register(number, EpollCall::Modify);
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

    fn flush(&mut self, number: usize) -> std::io::Result<()> {
        let Some(socket) = &mut self.members[number].socket else {
            return Ok(());
        };
        let waits = socket.flush()?;
        if !waits && socket.leaving {
            self.members[number].socket = None;
        }
        Ok(())
    }

    fn socket_is_gone(&mut self, number: usize) {
        let socket = self.members[number].socket.take();
        if socket.is_some_and(|socket| !socket.leaving) {
            self.with(number, Client::lost);
        }
    }

    /// Registers what the socket waits for, where that has changed.
    fn register(&mut self, number: usize, call: EpollCall) {
        let Some(socket) = &mut self.members[number].socket else {
            return;
        };
        let wants_write = !socket.connected || socket.waits();
        if call == EpollCall::Modify && wants_write == socket.wants_write {
            return;
        }
        socket.wants_write = wants_write;
        let data = EventData::new_u64((number as u64) << 32 | u64::from(socket.stamp));
        let flags = if wants_write {
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
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
                self.tally.refused_connections += 1;
                self.with(number, Client::lost);
            }
        }
    }

    // --- what the clients ask for ------------------------------------------------------------------------------

    /// Writes a client's output, takes note of its events, and does what they ask for.
    fn follow(&mut self, number: usize) {
        let output = std::mem::take(&mut self.exchange.output);
        let mut events = std::mem::take(&mut self.exchange.events);
        if !output.is_empty()
            && let Some(socket) = &mut self.members[number].socket
            && socket.write(&output).is_err()
        {
            // Reading it will tell; what it still brings is worth having.
            let _already_gone = socket.stream.shutdown(std::net::Shutdown::Write);
        }
        self.exchange.output = output;
        self.exchange.output.clear();
        for event in events.drain(..) {
            self.event(number, event);
        }
        if self.exchange.events.is_empty() {
            self.exchange.events = events;
        }
        self.register(number, EpollCall::Modify);
        self.arm(number);
    }

    fn event(&mut self, number: usize, event: Event) {
        let member = self.members[number].number;
        match event {
            Event::Connect => self.connect(number),
            Event::Disconnect => self.disconnect(number),
            Event::Closed { code, .. } => *self.tally.closed.entry(code).or_default() += 1,
            Event::Welcomed { .. } => self.welcomed(number),
            Event::Goaway { .. } => {
                self.tally.goaways += 1;
                self.members[number].goaways += 1;
            }
            Event::Pong { round_trip_us } => {
                self.members[number].pongs += 1;
                self.tally.pongs_us.saturating_record(round_trip_us);
            }
            Event::Accepted {
                key,
                session,
                n,
                conversation,
                seq,
                ..
            } => {
                let key = u32::try_from(key).unwrap_or(u32::MAX);
                let mark = self.members[number].mark(key);
                let room = self.journal.room(conversation);
                self.journal.write(Entry::Accepted {
                    mark,
                    session,
                    n,
                    room,
                    seq,
                });
                self.tally.accepted += 1;
                self.heard_of(conversation, seq);
                self.part_of(number, conversation);
                let asked_us = self.members[number].take_asked(key);
                let newest_us = self.tally.newest_answered_us.max(asked_us.unwrap_or(0));
                self.tally.newest_answered_us = newest_us;
                if let Some(at_us) = asked_us.filter(|at_us| *at_us >= self.answers_from_us) {
                    let took_us = self.now_us().saturating_sub(at_us);
                    self.tally.answers_us.saturating_record(took_us);
                }
            }
            Event::Refused { key, .. } => {
                let key = u32::try_from(key).unwrap_or(u32::MAX);
                let mark = self.members[number].mark(key);
                self.journal.write(Entry::Refused(mark));
                self.tally.refused += 1;
                self.members[number].take_asked(key);
            }
            Event::SetBack { .. } => self.tally.set_back += 1,
            Event::SessionRenewed { .. } => self.tally.renewed += 1,
            Event::Message(message) => {
                let room = self.journal.room(message.conversation);
                self.heard_of(message.conversation, message.seq);
                self.journal.write(Entry::Received {
                    member,
                    room,
                    seq: message.seq,
                    mark: Mark::of(&message.text),
                });
                self.tally.received += 1;
            }
            Event::Hole {
                conversation,
                after,
                to,
                reset,
                ..
            } => {
                let room = self.journal.room(conversation);
                self.journal.write(Entry::Hole {
                    member,
                    room,
                    after,
                    to,
                    reset,
                });
                self.tally.holes += 1;
                // A real client reads it over HTTP; ours does without.
                self.with(number, |client, now_us, exchange| {
                    client.holds(conversation, to, now_us, exchange);
                });
            }
            Event::Missed {
                conversation,
                after,
            } => {
                let room = self.journal.room(conversation);
                self.journal.write(Entry::Missed {
                    member,
                    room,
                    after,
                });
            }
            Event::State(state) => {
                let me = self.members[number].client.principal();
                let open = state.status != fb::ConversationStatus::Closed;
                if state.mine && open && (state.visitor == me || state.agent == me) {
                    self.part_of(number, state.conversation);
                } else {
                    let rooms = &mut self.members[number].rooms;
                    rooms.retain(|room| *room != state.conversation);
                }
            }
            Event::Malformed => self.tally.malformed += 1,
            _ => {}
        }
    }

    fn heard_of(&mut self, conversation: Id, seq: u64) {
        let known = self.highest.entry(conversation).or_default();
        *known = seq.max(*known);
    }

    fn part_of(&mut self, number: usize, conversation: Id) {
        let rooms = &mut self.members[number].rooms;
        if !rooms.contains(&conversation) {
            rooms.push(conversation);
        }
    }

    fn welcomed(&mut self, number: usize) {
        self.tally.welcomes += 1;
        self.members[number].welcomes += 1;
        if self.members[number].role == fb::Role::Agent {
            let online = message::Command {
                op: fb::CommandOp::SetStatus,
                status: fb::AgentStatus::Online,
                ..Default::default()
            };
            self.command(number, online);
        }
    }

    fn disconnect(&mut self, number: usize) {
        let Some(socket) = &mut self.members[number].socket else {
            return;
        };
        socket.leaving = true;
        if !socket.waits() {
            self.members[number].socket = None;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EpollCall {
    Add,
    Modify,
}
