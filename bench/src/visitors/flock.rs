//! A child's visitors: they come on a schedule, wait to be let in, ask, chat on a schedule, close, and come back when their
//! connection is lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::num::NonZeroU64;
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use anyhow::{Context, Result};
use tidegate_protocol::{Codec, fb, message};

use super::stamp::{self, Group, STAMP_BYTES_MAX, now_us};
use super::{Job, Order, Report};
use crate::client::{Event, Phase, Settings};
use crate::crowd::{Crowd, News, OFFICE};
use crate::process::{cpu_us, raise_descriptor_limit};
use crate::system::System;
use crate::{corpus, dialogue};

/// Who has neither Welcome nor Wait by then was left in front of a dead page.
const ANSWER_US_MAX: u64 = 2_000_000;
/// With its stamp a large text has 8 KiB.
const LARGE_TEXT_BYTES: usize = 8 * 1_024 - STAMP_BYTES_MAX;
/// How long a slow reader reads nothing.
const DEAF_US: u64 = 5_000_000;
const TURN_MAX: Duration = Duration::from_millis(10);
/// A visitor who backs off for half a minute would not be back before the run ends.
const BACKOFF_US_MAX: u64 = 2_000_000;
/// Messages without an answer above which a visitor waits with the next one, as a person does.
const UNANSWERED_MAX: usize = 8;
const THOUSAND: u64 = 1_000;

/// Where one stands in the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Has not come.
    Home,
    /// Wants to see something before the 2 s are over.
    Came,
    /// Sees Welcome or Wait.
    Answered,
    /// Asked, and waits for an agent.
    Asked,
    /// Has an agent.
    Chatting,
    /// Has said everything.
    Done,
}

#[derive(Debug, Clone, Copy)]
struct Visitor {
    stage: Stage,
    /// Had to wait, with this ticket.
    ticket: Option<u64>,
    /// When it was to come; after a loss, when that was noticed.
    since_us: u64,
    left: u32,
    is_away: bool,
    /// Reads slowly, or lost its connection by our doing.
    is_disturbed: bool,
}

/// What is to be done, when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Come,
    Say,
    Hear,
}

struct Flock {
    job: Job,
    crowd: Crowd,
    visitors: Vec<Visitor>,
    due: BinaryHeap<Reverse<(u64, Due, u32)>>,
    random: fastrand::Rng,
    lines: Vec<&'static str>,
    large: String,
    text: String,
    hushed: bool,
    /// 0: nothing was killed.
    killed_us: u64,
    report: Report,
}

/// Plays visitors until standard input ends.
///
/// # Errors
/// When the server can't be found, or the kernel has no epoll for us.
pub fn run(job: &str) -> Result<()> {
    let job: Job = serde_json::from_str(job).context("expected a job")?;
    raise_descriptor_limit()?;
    // A timer may otherwise be late by 50 µs, so that others are woken less: here that would be the load's lag.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let mut flock = Flock::of(job)?;
    let orders = dialogue::orders::<Order>();
    let mut news = Vec::new();
    loop {
        match orders.try_recv() {
            Ok(order) => flock.obey(order)?,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => return Ok(()),
        }
        let wait = flock.act();
        flock.crowd.turn(wait, &mut news)?;
        for one in news.drain(..) {
            flock.learn(one);
        }
    }
}

impl Flock {
    fn of(job: Job) -> Result<Self> {
        let system = System::find(&job.data_dir)?;
        let mut random = fastrand::Rng::with_seed(u64::from(job.run) << 32 | job.first);
        let settings = Settings {
            backoff_us_max: BACKOFF_US_MAX,
            ..Settings::new(&system.ws().to_string(), Codec::Flat)
        };
        let first_office = u32::try_from(job.first)? / OFFICE + 1;
        let mut crowd = Crowd::new(system.ws(), settings, first_office)?;
        for number in job.first..job.first + job.count {
            let token = system.visitor_token(job.visitor(number));
            crowd.add(&token, random.u64(1..), random.u64(..));
        }
        let visitor = Visitor {
            stage: Stage::Home,
            ticket: None,
            since_us: 0,
            left: job.says,
            is_away: false,
            is_disturbed: false,
        };
        Ok(Self {
            visitors: vec![visitor; crowd.len()],
            crowd,
            job,
            due: BinaryHeap::new(),
            random,
            lines: corpus::lines(),
            large: corpus::text_of(0, LARGE_TEXT_BYTES),
            text: String::new(),
            hushed: false,
            killed_us: 0,
            report: Report::default(),
        })
    }

    // --- orders ------------------------------------------------------------------------------------------------

    fn obey(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Come { over_ms } => {
                let begin_us = now_us();
                for number in 0..self.job.count {
                    let after_us = over_ms * 1_000 * number / self.job.count.max(1);
                    self.plan(begin_us + after_us, Due::Come, usize::try_from(number)?);
                }
            }
            Order::Cut { permille } => {
                for member in 0..self.visitors.len() {
                    let is_there = matches!(
                        self.crowd.client(member).phase(),
                        Phase::Open | Phase::Admission
                    );
                    if is_there && self.random.u64(..THOUSAND) < permille {
                        self.visitors[member].is_disturbed = true;
                        self.crowd.cut(member);
                    }
                }
            }
            Order::Kill => self.killed_us = now_us(),
            Order::Hush => self.hushed = true,
            Order::Leave => {
                self.hushed = true;
                self.due.clear();
                for member in 0..self.visitors.len() {
                    self.visitors[member].stage = Stage::Home;
                    self.crowd.stop(member);
                }
            }
            Order::Look => self.tell(false)?,
            Order::Tell => self.tell(true)?,
        }
        Ok(())
    }

    fn tell(&mut self, everything: bool) -> Result<()> {
        let (mut inside, mut waiting, mut chatting, mut late, mut away) = (0, 0, 0, 0, 0);
        let now_us = now_us();
        for (member, visitor) in self.visitors.iter().enumerate() {
            match self.crowd.client(member).phase() {
                Phase::Open => inside += 1,
                Phase::Admission => waiting += 1,
                _ => {}
            }
            chatting += u64::from(visitor.stage == Stage::Chatting);
            away += u64::from(visitor.is_away);
            let overdue = visitor.since_us + ANSWER_US_MAX < now_us;
            late += u64::from(visitor.stage == Stage::Came && overdue);
        }
        let late = self.report.late + late;
        let short = Report {
            inside,
            waiting,
            chatting,
            late,
            away,
            unanswered: self.crowd.unanswered() as u64,
            cpu_us: cpu_us(std::process::id())?,
            ..Report::default()
        };
        let line = if everything {
            let mut whole = std::mem::take(&mut self.report);
            (whole.inside, whole.waiting, whole.chatting) = (inside, waiting, chatting);
            (whole.late, whole.away) = (late, away);
            (whole.unanswered, whole.cpu_us) = (short.unanswered, short.cpu_us);
            serde_json::to_string(&whole)?
        } else {
            let Report {
                came,
                asked,
                sent,
                accepted,
                received,
                lost,
                ..
            } = self.report;
            serde_json::to_string(&Report {
                came,
                asked,
                sent,
                accepted,
                received,
                lost,
                ..short
            })?
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }

    // --- the schedule ------------------------------------------------------------------------------------------

    fn plan(&mut self, due_us: u64, what: Due, member: usize) {
        let member = u32::try_from(member).unwrap_or(u32::MAX);
        self.due.push(Reverse((due_us, what, member)));
    }

    /// Does what is due; how long until the next is.
    fn act(&mut self) -> Duration {
        loop {
            let now_us = now_us();
            let Some(&Reverse((due_us, what, member))) = self.due.peek() else {
                return TURN_MAX;
            };
            if due_us > now_us {
                return TURN_MAX.min(Duration::from_micros(due_us - now_us));
            }
            self.due.pop();
            let lag = Duration::from_micros(now_us - due_us);
            let member = member as usize;
            match what {
                Due::Come => {
                    self.report.lag.record(lag);
                    self.report.came += 1;
                    let visitor = &mut self.visitors[member];
                    (visitor.stage, visitor.since_us) = (Stage::Came, due_us);
                    self.crowd.start(member);
                }
                Due::Say if self.hushed => {}
                Due::Say => {
                    self.report.lag.record(lag);
                    self.say_next(member, due_us);
                }
                Due::Hear => self.crowd.deafen(member, false),
            }
        }
    }

    /// The next message of a conversation, or its end.
    fn say_next(&mut self, member: usize, due_us: u64) {
        let visitor = &mut self.visitors[member];
        if visitor.stage != Stage::Chatting {
            return;
        }
        let goes_on = self.job.says == 0;
        if !goes_on && visitor.left == 0 {
            visitor.stage = Stage::Done;
            let close = message::Command {
                op: fb::CommandOp::Close,
                ..Default::default()
            };
            self.crowd.with(member, |client, now_us, exchange| {
                let _too_many = client.command(close, now_us, exchange);
            });
            return;
        }
        if self.crowd.client(member).unanswered() < UNANSWERED_MAX {
            visitor.left = visitor.left.saturating_sub(1);
            self.say(member, due_us);
        }
        self.plan(due_us + self.job.every_ms * 1_000, Due::Say, member);
    }

    fn say(&mut self, member: usize, due_us: u64) {
        let is_large = self.random.u64(..THOUSAND) < self.job.large_permille;
        let line = self.random.usize(..self.lines.len());
        let words = if is_large {
            self.large.as_str()
        } else if self.job.text_bytes > 0 {
            let room = self.job.text_bytes.min(self.large.len());
            &self.large[..self.large.floor_char_boundary(room)]
        } else {
            self.lines[line]
        };
        let group = if self.visitors[member].is_disturbed {
            Group::Disturbed
        } else {
            self.job.group()
        };
        stamp::write(&mut self.text, group, due_us, words);
        let (mut said, text) = (false, &self.text);
        self.crowd.with(member, |client, now_us, exchange| {
            said = client.send(text, None, now_us, exchange).is_ok();
        });
        self.report.sent += u64::from(said);
    }

    // --- what they learn ---------------------------------------------------------------------------------------

    fn learn(&mut self, one: News) {
        let member = one.member;
        match one.event {
            Event::Waiting { ticket, .. } => {
                self.answered(member);
                self.visitors[member].ticket = ticket;
            }
            Event::Welcomed { told_us, .. } => self.welcomed(member, told_us),
            Event::State(state) => self.state(member, state.status),
            Event::Message(message) if message.role == fb::Role::Agent => {
                self.report.received += 1;
                let read = stamp::read(&message.text, now_us());
                if let Some((group, took)) = read
                    && group != Group::Disturbed
                    && !self.visitors[member].is_disturbed
                    && !stamp::is_through_kill(took, self.killed_us)
                {
                    self.report.to_visitor.record(took);
                }
            }
            Event::Accepted { .. } => self.report.accepted += 1,
            Event::SetBack { .. } => self.report.set_back += 1,
            Event::Closed { comes_back, .. } => {
                let visitor = &mut self.visitors[member];
                if visitor.stage == Stage::Home {
                    return;
                }
                self.report.lost += 1;
                self.report.broken += u64::from(!comes_back);
                if !std::mem::replace(&mut visitor.is_away, true) && visitor.stage != Stage::Came {
                    visitor.since_us = now_us();
                }
            }
            Event::Hole {
                conversation, to, ..
            } => {
                self.report.broken += 1;
                self.crowd.with(member, |client, now_us, exchange| {
                    client.holds(conversation, to, now_us, exchange);
                });
            }
            Event::Queue { told_us, .. } if !self.visitors[member].is_disturbed => {
                let took_us = stamp::wall_us().saturating_sub(told_us);
                self.report.tellings.heard(told_us, now_us(), took_us);
            }
            Event::Refused { .. } | Event::Missed { .. } | Event::Malformed => {
                self.report.broken += 1;
            }
            _ => {}
        }
    }

    /// Sees something: Welcome or Wait.
    fn answered(&mut self, member: usize) {
        let visitor = &mut self.visitors[member];
        let took_us = now_us().saturating_sub(visitor.since_us);
        let took = Duration::from_micros(took_us);
        if visitor.stage == Stage::Came {
            visitor.stage = Stage::Answered;
            self.report.arrivals.record(took);
            self.report.late += u64::from(took_us > ANSWER_US_MAX);
        } else if visitor.is_away && self.killed_us != 0 {
            self.report.back.record(took);
        }
        visitor.is_away = false;
    }

    fn welcomed(&mut self, member: usize, told_us: u64) {
        // Whose connection was lost meanwhile was not there when their turn came.
        let was_away = self.visitors[member].is_away;
        self.answered(member);
        let visitor = &mut self.visitors[member];
        // Who comes back was let in before: that says nothing of the order.
        if let Some(ticket) = visitor.ticket.take()
            && visitor.stage == Stage::Answered
            && !was_away
        {
            self.report.let_in.push((ticket, told_us));
        }
        if visitor.stage != Stage::Answered || self.hushed {
            return;
        }
        visitor.stage = Stage::Done;
        if self.random.u64(..THOUSAND) >= self.job.ask_permille {
            return;
        }
        self.visitors[member].stage = Stage::Asked;
        self.report.asked += 1;
        self.say(member, now_us());
    }

    fn state(&mut self, member: usize, status: fb::ConversationStatus) {
        match (self.visitors[member].stage, status) {
            (Stage::Asked, fb::ConversationStatus::Chatting) => self.begin_chat(member),
            (Stage::Chatting, fb::ConversationStatus::Closed) => {
                self.visitors[member].stage = Stage::Done;
            }
            _ => {}
        }
    }

    /// From here on the visitor talks: not all at once, however many got an agent in one moment.
    fn begin_chat(&mut self, member: usize) {
        self.visitors[member].stage = Stage::Chatting;
        let every_us = self.job.every_ms * 1_000;
        let first_us = now_us() + self.random.u64(..=every_us);
        self.plan(first_us, Due::Say, member);
        if self.random.u64(..THOUSAND) < self.job.slow_permille {
            self.visitors[member].is_disturbed = true;
            self.crowd.deafen(member, true);
            self.plan(now_us() + DEAF_US, Due::Hear, member);
        }
    }
}
