//! Hundreds to thousands of clients on one thread (`bench::crowd`), and one journal of what they saw.
//!
//! The crowd moves while it is asked to ([`Crowd::until`], [`Crowd::pass`]); a trial breaks things between. Sends
//! follow a schedule ([`Load`]) that does not wait for answers; only who has a full outbox is passed over, and counted.

mod person;
mod tally;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tidegate_bench::client::{Client, Event, Exchange, NEVER, Phase, Settings};
use tidegate_bench::crowd::{self as driver, News};
use tidegate_protocol::{Codec, Id, fb, message};

use super::journal::{Entry, Journal, Mark};
use super::system::Agent;
pub use person::Person;
pub use tally::Tally;

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
#[derive(Debug)]
pub struct Crowd {
    driver: driver::Crowd,
    people: Vec<Person>,
    news: Vec<News>,
    random: fastrand::Rng,
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
        let settings = Settings {
            backoff_us_max: BACKOFF_US_MAX,
            ..Settings::new(&server.to_string(), codec)
        };
        Ok(Self {
            driver: driver::Crowd::new(server, settings, 0)?,
            people: Vec::new(),
            news: Vec::new(),
            random: fastrand::Rng::with_seed(seed),
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
        let (session, seed) = (self.random.u64(1..), self.random.u64(..));
        let member = self.driver.add(token, session, seed);
        let number = u32::try_from(member).unwrap_or(u32::MAX);
        self.people.push(Person::new(role, number));
        member
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.people.len()
    }

    /// Nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.people.is_empty()
    }

    /// How many are welcome now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.driver.open()
    }

    /// Whether the server has welcomed one on its present connection.
    #[must_use]
    pub fn is_open(&self, number: usize) -> bool {
        self.client(number).phase() == Phase::Open
    }

    /// Messages that are neither acknowledged nor refused.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.driver.unanswered()
    }

    /// One of them.
    #[must_use]
    pub fn member(&self, number: usize) -> &Person {
        &self.people[number]
    }

    /// One's side of the protocol.
    #[must_use]
    pub fn client(&self, number: usize) -> &Client {
        self.driver.client(number)
    }

    /// All of them.
    pub fn members(&self) -> impl Iterator<Item = &Person> {
        self.people.iter()
    }

    /// µs since the crowd was made: the time that its clients know.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.driver.now_us()
    }

    // --- what they do ------------------------------------------------------------------------------------------

    /// All who have not come yet, come.
    pub fn start(&mut self) {
        for number in 0..self.people.len() {
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
        self.driver.cut(number);
        self.listen();
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
        let person = &self.people[number];
        let mark = person.mark(person.said + 1);
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
        let person = &mut self.people[number];
        person.said += 1;
        person.asked.push_back((mark.key, now_us));
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
        self.driver.with(number, call);
        self.listen();
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
        for (number, person) in self.people.iter().enumerate() {
            for &conversation in &person.rooms {
                let seq = self.driver.client(number).cursor(conversation);
                let room = self.journal.room(conversation);
                let member = person.number;
                self.journal.write(Entry::Holds { member, room, seq });
            }
        }
        Ok(())
    }

    /// Who does not have what others were told of: member, conversation, what they have, what there is.
    fn lacking(&self) -> Option<(u32, Id, u64, u64)> {
        for (number, person) in self.people.iter().enumerate() {
            for &conversation in &person.rooms {
                let there = self.highest.get(&conversation).copied().unwrap_or(0);
                let has = self.client(number).cursor(conversation);
                if has < there {
                    return Some((person.number, conversation, has, there));
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
        self.say_scheduled();
        let until_next_us = self.next_send_us().saturating_sub(self.now_us());
        let wait = wait_max.min(Duration::from_micros(until_next_us));
        self.driver.turn(wait, &mut self.news)?;
        self.tally.refused_connections = self.driver.refused_connections();
        self.listen();
        Ok(())
    }

    /// Takes note of what there is to be learned; what is done about it may bring more.
    fn listen(&mut self) {
        self.driver.take_news(&mut self.news);
        while !self.news.is_empty() {
            let mut news = std::mem::take(&mut self.news);
            for one in news.drain(..) {
                self.learn(one.member, one.event);
            }
            self.driver.take_news(&mut self.news);
            if self.news.is_empty() {
                self.news = news;
                return;
            }
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
            let number = self.random.usize(..self.people.len());
            if self.client(number).unanswered() >= UNANSWERED_MAX {
                self.tally.passed_over += 1;
            } else if let Some(place) = self.people[number].place(&mut self.random) {
                self.say(number, place, load.text_bytes);
            }
        }
    }

    // --- what they learn ---------------------------------------------------------------------------------------

    fn learn(&mut self, number: usize, event: Event) {
        let member = self.people[number].number;
        match event {
            Event::Closed { code, .. } => *self.tally.closed.entry(code).or_default() += 1,
            Event::Welcomed { .. } => self.welcomed(number),
            Event::Goaway { .. } => {
                self.tally.goaways += 1;
                self.people[number].goaways += 1;
            }
            Event::Pong { round_trip_us } => {
                self.people[number].pongs += 1;
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
                let mark = self.people[number].mark(key);
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
                let asked_us = self.people[number].take_asked(key);
                let newest_us = self.tally.newest_answered_us.max(asked_us.unwrap_or(0));
                self.tally.newest_answered_us = newest_us;
                if let Some(at_us) = asked_us.filter(|at_us| *at_us >= self.answers_from_us) {
                    let took_us = self.now_us().saturating_sub(at_us);
                    self.tally.answers_us.saturating_record(took_us);
                }
            }
            Event::Refused { key, .. } => {
                let key = u32::try_from(key).unwrap_or(u32::MAX);
                let mark = self.people[number].mark(key);
                self.journal.write(Entry::Refused(mark));
                self.tally.refused += 1;
                self.people[number].take_asked(key);
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
                self.driver.with(number, |client, now_us, exchange| {
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
                let me = self.client(number).principal();
                let open = state.status != fb::ConversationStatus::Closed;
                if state.mine && open && (state.visitor == me || state.agent == me) {
                    self.part_of(number, state.conversation);
                } else {
                    let rooms = &mut self.people[number].rooms;
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
        let rooms = &mut self.people[number].rooms;
        if !rooms.contains(&conversation) {
            rooms.push(conversation);
        }
    }

    fn welcomed(&mut self, number: usize) {
        self.tally.welcomes += 1;
        self.people[number].welcomes += 1;
        if self.people[number].role == fb::Role::Agent {
            let online = message::Command {
                op: fb::CommandOp::SetStatus,
                status: fb::AgentStatus::Online,
                ..Default::default()
            };
            self.driver.with(number, |client, now_us, exchange| {
                let _too_many = client.command(online, now_us, exchange);
            });
        }
    }
}
