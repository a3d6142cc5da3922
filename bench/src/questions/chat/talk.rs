//! People who talk in pairs, and how long what they say is under way.
//!
//! A message is known again by its id: the session names the sender, `n` the message. So its text is a person's, and its
//! length the corpus's. Latencies count from the moment at which the schedule wanted it said, whether or not the load
//! was late: a server that stalls can't hide it by stalling the load.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_protocol::{Id, fb, message};

use crate::client::{Event, Settings};
use crate::corpus;
use crate::crowd::{Crowd, News};
use crate::latency::Latencies;
use crate::system::System;

/// Messages of one person whose times are remembered; a power of two, many times what may be under way.
const REMEMBERED: usize = 256;
/// Everybody is welcome and has somebody to talk to within this.
const COME_S_MAX: u64 = 60;
/// Newcomers at once: more would only wait in the listening socket's backlog.
const ARRIVALS: usize = 500;
/// A load that says things later than this (p99) is saturated itself.
pub const LAG_MS_MAX: f64 = 10.0;
const LINE_EVERY: Duration = Duration::from_secs(1);
const TURN_MAX: Duration = Duration::from_millis(5);

/// When people say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// So many messages a second over all, whatever comes back.
    Rate(u64),
    /// As soon as fewer than so many are without an acknowledgement, on each side of each conversation.
    Depth(u32),
}

/// One side of one conversation.
#[derive(Debug, Clone, Copy)]
struct Side {
    member: u32,
    /// `None`: the visitor's own.
    room: Option<Id>,
}

/// When the messages of one person were to be said, by key and by number.
#[derive(Debug)]
struct Times {
    by_key: Box<[u64; REMEMBERED]>,
    by_n: Box<[(u64, u64); REMEMBERED]>,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the remainder of a power of two"
)]
const fn slot(number: u64) -> usize {
    number as usize & (REMEMBERED - 1)
}

/// The crowd in conversation.
#[derive(Debug)]
pub struct Talk {
    crowd: Crowd,
    agents: usize,
    /// The upper half of every session of this run.
    run: u32,
    sides: Vec<Side>,
    times: Vec<Times>,
    news: Vec<News>,
    random: fastrand::Rng,
    texts: Vec<&'static str>,
    /// The place in `sides` of an agent's side of a conversation; visitors' sides follow, in their order.
    rooms: HashMap<Id, u32>,
    /// Pipelined: sides that may say one more, once for each.
    ready: Vec<u32>,
    pipelined: bool,
    /// Between two messages the load sleeps; else it looks without pause.
    pub sleeps: bool,
    begun: Instant,
    /// Since [`measure_from_now`](Self::measure_from_now).
    pub tally: Tally,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Tally {
    /// Said.
    pub sent: u64,
    /// Acknowledged as committed.
    pub accepted: u64,
    /// Reached the other side.
    pub received: u64,
    /// Answered busy, or for a rate.
    pub set_back: u64,
    /// Refused for good, connections lost, gaps: things that must not happen.
    pub broken: u64,
    /// Sends that found the outbox full.
    pub passed_over: u64,
    /// From the agent's send to the visitor's receipt.
    pub to_visitor: Latencies,
    /// From the visitor's send to the agent's receipt.
    pub to_agent: Latencies,
    /// From the time that a message was to be said to the time that it was.
    pub lag: Latencies,
    /// On the wire: from clients, to clients.
    pub wire_bytes: (u64, u64),
    /// How long it lasted.
    pub lasted: Duration,
}

impl Talk {
    /// Lets people come, and the visitors ask their first question; ends when everybody has somebody to talk to.
    ///
    /// # Errors
    /// That does not come to pass.
    pub fn begin(system: &System, settings: Settings, visitors: u32, agents: u32) -> Result<Self> {
        let mut random = fastrand::Rng::new();
        let run = random.u32(1..);
        let capacity = visitors.div_ceil(agents);
        let names = (0..agents).map(|number| format!("load-{run:08x}-{number}"));
        let ids = system.add_agents(names, capacity)?;
        let mut crowd = Crowd::new(system.ws(), settings, 0)?;
        let session = |member: usize| u64::from(run) << 32 | (member as u64 + 1);
        for id in ids {
            crowd.add(
                &system.agent_token(id),
                session(crowd.len()),
                random.u64(..),
            );
        }
        for number in 0..visitors {
            let id = Id::synthetic(u128::from(run) << 64 | u128::from(number));
            crowd.add(
                &system.visitor_token(id),
                session(crowd.len()),
                random.u64(..),
            );
        }
        let times = || Times {
            by_key: Box::new([0; REMEMBERED]),
            by_n: Box::new([(0, 0); REMEMBERED]),
        };
        let mut talk = Self {
            times: std::iter::repeat_with(times).take(crowd.len()).collect(),
            crowd,
            agents: agents as usize,
            run,
            sides: Vec::new(),
            news: Vec::new(),
            random,
            texts: corpus::lines(),
            rooms: HashMap::new(),
            ready: Vec::new(),
            pipelined: false,
            sleeps: true,
            begun: Instant::now(),
            tally: Tally::default(),
        };
        talk.come()?;
        Ok(talk)
    }

    fn come(&mut self) -> Result<()> {
        let everybody: Vec<usize> = (0..self.crowd.len()).collect();
        for some in everybody.chunks(ARRIVALS) {
            for &member in some {
                self.crowd.start(member);
            }
            let there = some[some.len() - 1] + 1;
            self.until("all are welcome", |talk| talk.crowd.open() == there)?;
        }
        for visitor in self.agents..self.crowd.len() {
            self.say(visitor, None, self.crowd.now_us());
        }
        let visitors = self.crowd.len() - self.agents;
        // A side for each visitor, and one for the agent of each conversation.
        self.until("everybody has somebody to talk to", |talk| {
            talk.sides.len() == visitors && talk.crowd.unanswered() == 0
        })?;
        let own = (self.agents..self.crowd.len()).map(|member| Side {
            member: u32::try_from(member).unwrap_or(u32::MAX),
            room: None,
        });
        self.sides.extend(own);
        Ok(())
    }

    fn until(&mut self, what: &str, mut so: impl FnMut(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(COME_S_MAX);
        while !so(self) {
            ensure!(
                Instant::now() < deadline,
                "not within {COME_S_MAX} s: {what}; {} of {} are welcome, {} conversations have an agent, {} messages \
                 wait for their answer",
                self.crowd.open(),
                self.crowd.len(),
                self.sides.len(),
                self.crowd.unanswered()
            );
            self.turn(TURN_MAX)?;
        }
        Ok(())
    }

    // --- the measurement ---------------------------------------------------------------------------------------

    /// What was seen before is forgotten.
    pub fn measure_from_now(&mut self) {
        self.tally = Tally {
            wire_bytes: self.crowd.wire_bytes(),
            ..Tally::default()
        };
        self.begun = Instant::now();
    }

    /// Talks for so long; `each_second` is called about once a second.
    ///
    /// # Errors
    /// The kernel's.
    pub fn go_on(
        &mut self,
        pace: Pace,
        time: Duration,
        mut each_second: impl FnMut(&Self),
    ) -> Result<()> {
        let begun = Instant::now();
        let begun_us = self.crowd.now_us();
        let end_us = begun_us + u64::try_from(time.as_micros()).unwrap_or(u64::MAX / 2);
        let (mut said, mut line_at) = (0, begun + LINE_EVERY);
        if let Pace::Depth(depth) = pace
            && !self.pipelined
        {
            self.pipelined = true;
            let sides = 0..u32::try_from(self.sides.len())?;
            (0..depth).for_each(|_| self.ready.extend(sides.clone()));
        }
        loop {
            let now_us = self.crowd.now_us();
            if now_us >= end_us {
                break;
            }
            let wait_us = match pace {
                Pace::Rate(per_s) => {
                    let due_us = |said: u64| begun_us + said * 1_000_000 / per_s.max(1);
                    while due_us(said) <= now_us {
                        self.say_somewhere(due_us(said), now_us);
                        said += 1;
                    }
                    due_us(said) - now_us
                }
                Pace::Depth(_) => end_us - now_us,
            };
            let wait = if self.sleeps {
                TURN_MAX.min(Duration::from_micros(wait_us))
            } else {
                Duration::ZERO
            };
            self.say_ready();
            self.turn(wait)?;
            if Instant::now() >= line_at {
                line_at += LINE_EVERY;
                each_second(self);
            }
        }
        self.tally.lasted = self.begun.elapsed();
        let (up, down) = self.crowd.wire_bytes();
        self.tally.wire_bytes = (up - self.tally.wire_bytes.0, down - self.tally.wire_bytes.1);
        Ok(())
    }

    /// From now on nobody says anything in answer to an acknowledgement.
    pub fn fall_silent(&mut self) {
        self.pipelined = false;
        self.ready.clear();
    }

    /// Says nothing, for so long; what is learned is no part of the measurement.
    ///
    /// # Errors
    /// The kernel's.
    pub fn listen(&mut self, time: Duration) -> Result<()> {
        let tally = std::mem::take(&mut self.tally);
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(TURN_MAX)?;
        }
        self.tally = tally;
        Ok(())
    }

    /// Messages that wait for their answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.crowd.unanswered()
    }

    /// Whether the load, and not the server, set the pace.
    #[must_use]
    pub fn was_late(&self) -> bool {
        self.tally.lag.count() > 0 && self.tally.lag.quantile(0.99).as_secs_f64() * 1e3 > LAG_MS_MAX
    }

    /// How it goes, in a line.
    #[must_use]
    pub fn line(&self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "a count of messages")]
        let rate = self.tally.received as f64 / self.begun.elapsed().as_secs_f64();
        format!(
            "{rate:.0} messages a second; to visitors p50 {:.2} ms, p99 {:.2} ms",
            self.tally.to_visitor.quantile(0.5).as_secs_f64() * 1e3,
            self.tally.to_visitor.quantile(0.99).as_secs_f64() * 1e3,
        )
    }

    // --- talking -----------------------------------------------------------------------------------------------

    fn say_somewhere(&mut self, due_us: u64, now_us: u64) {
        let side = self.sides[self.random.usize(..self.sides.len())];
        self.tally
            .lag
            .record(Duration::from_micros(now_us - due_us));
        self.say(side.member as usize, side.room, due_us);
    }

    /// Pipelined: each side says what it may.
    fn say_ready(&mut self) {
        while let Some(index) = self.ready.pop() {
            let side = self.sides[index as usize];
            self.say(side.member as usize, side.room, self.crowd.now_us());
        }
    }

    fn say(&mut self, member: usize, room: Option<Id>, due_us: u64) {
        let text = self.texts[self.random.usize(..self.texts.len())];
        let mut key = None;
        self.crowd.with(member, |client, now_us, exchange| {
            key = client.send(text, room, now_us, exchange).ok();
        });
        match key {
            Some(key) => {
                self.times[member].by_key[slot(key)] = due_us;
                self.tally.sent += 1;
            }
            None => self.tally.passed_over += 1,
        }
    }

    fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut news = std::mem::take(&mut self.news);
        self.crowd.turn(wait, &mut news)?;
        for one in news.drain(..) {
            self.learn(one);
        }
        self.news = news;
        Ok(())
    }

    fn learn(&mut self, one: News) {
        let News {
            member,
            at_us,
            event,
        } = one;
        match event {
            Event::Bound { key, n, .. } => {
                let times = &mut self.times[member];
                times.by_n[slot(n)] = (n, times.by_key[slot(key)]);
            }
            Event::Message(message) => self.received(member, at_us, message.session, message.n),
            Event::Accepted { conversation, .. } => {
                self.tally.accepted += 1;
                self.make_ready(member, conversation);
            }
            Event::SetBack { .. } => self.tally.set_back += 1,
            Event::Welcomed { .. } if member < self.agents => {
                let online = message::Command {
                    op: fb::CommandOp::SetStatus,
                    status: fb::AgentStatus::Online,
                    ..Default::default()
                };
                self.crowd.with(member, |client, now_us, exchange| {
                    let _too_many = client.command(online, now_us, exchange);
                });
            }
            Event::State(state) if member < self.agents && state.mine => {
                let next = u32::try_from(self.sides.len()).unwrap_or(u32::MAX);
                if let Entry::Vacant(place) = self.rooms.entry(state.conversation) {
                    place.insert(next);
                    self.sides.push(Side {
                        member: u32::try_from(member).unwrap_or(u32::MAX),
                        room: Some(state.conversation),
                    });
                }
            }
            Event::Refused { .. }
            | Event::Closed { .. }
            | Event::Hole { .. }
            | Event::Missed { .. }
            | Event::Malformed => self.tally.broken += 1,
            _ => {}
        }
    }

    fn received(&mut self, member: usize, at_us: u64, session: u64, n: u64) {
        let sender = (session & 0xffff_ffff).checked_sub(1);
        let sender = sender.and_then(|number| usize::try_from(number).ok());
        let Some(sender) = sender.filter(|_| session >> 32 == u64::from(self.run)) else {
            return;
        };
        self.tally.received += 1;
        let (known, due_us) = self.times[sender].by_n[slot(n)];
        if known != n {
            return;
        }
        let took = Duration::from_micros(at_us.saturating_sub(due_us));
        if member < self.agents {
            self.tally.to_agent.record(took);
        } else {
            self.tally.to_visitor.record(took);
        }
    }

    /// Pipelined: an acknowledged message makes room for the next one of that side.
    fn make_ready(&mut self, member: usize, conversation: Id) {
        if !self.pipelined {
            return;
        }
        let side = if member < self.agents {
            self.rooms.get(&conversation).copied()
        } else {
            u32::try_from(self.rooms.len() + member - self.agents).ok()
        };
        self.ready.extend(side);
    }
}
