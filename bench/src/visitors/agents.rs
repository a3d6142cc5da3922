//! Agents who answer every message at once, all of them on the caller's thread.

use std::time::Duration;

use anyhow::Result;
use tidegate_protocol::{Codec, Id, fb, message};

use super::stamp::{self, Group, now_us};
use crate::client::{Event, Phase, Settings};
use crate::corpus;
use crate::crowd::{Crowd, News};
use crate::latency::Latencies;
use crate::rest;
use crate::system::System;

/// Agents come back soon: visitors wait for them.
const BACKOFF_US_MAX: u64 = 500_000;

/// Pieces of history that are read when the run is over; what is beyond stays missing.
const HOLES_MAX: usize = 1_000;

/// A part of a conversation that did not come over the socket in time: who joins one waits 0.3 s for what was said before.
#[derive(Debug)]
struct Hole {
    member: usize,
    conversation: Id,
    /// The last that is there before it, and the last in it.
    after: u64,
    to: u64,
}

/// The agents and what they saw.
#[derive(Debug)]
pub struct Agents {
    crowd: Crowd,
    ids: Vec<Id>,
    holes: Vec<Hole>,
    news: Vec<News>,
    lines: Vec<&'static str>,
    text: String,
    said: usize,
    /// Answer what comes.
    pub answer: bool,
    /// From the send of a visitor who chatted before the rush to the agent's receipt.
    pub from_open: Latencies,
    /// The same of those who came with it.
    pub from_new: Latencies,
    /// Of what was said within [`stamp::KILL_US`] of a kill, whoever said it.
    pub through_kill: Latencies,
    killed_us: u64,
    /// Said.
    pub sent: u64,
    /// Acknowledged as committed.
    pub accepted: u64,
    /// Received.
    pub received: u64,
    /// Refused texts, gaps, malformed envelopes.
    pub broken: u64,
}

impl Agents {
    /// Makes them, and lets them come; they go online when they are welcomed.
    ///
    /// # Errors
    /// The backend refuses to make them.
    pub fn come(system: &System, run: u32, count: u32, capacity: u32) -> Result<Self> {
        let names = (0..count).map(|number| format!("stress-{run:08x}-{number}"));
        let ids = system.add_agents(names, capacity)?;
        let settings = Settings {
            backoff_us_max: BACKOFF_US_MAX,
            ..Settings::new(&system.ws().to_string(), Codec::Flat)
        };
        let mut crowd = Crowd::new(system.ws(), settings, 0)?;
        for &id in &ids {
            let token = system.agent_token(id);
            let member = crowd.add(&token, fastrand::u64(1..), fastrand::u64(..));
            crowd.start(member);
        }
        Ok(Self {
            crowd,
            ids,
            holes: Vec::new(),
            news: Vec::new(),
            lines: corpus::lines(),
            text: String::new(),
            said: 0,
            answer: true,
            from_open: Latencies::default(),
            from_new: Latencies::default(),
            through_kill: Latencies::default(),
            killed_us: 0,
            sent: 0,
            accepted: 0,
            received: 0,
            broken: 0,
        })
    }

    /// How many are welcome now.
    #[must_use]
    pub fn inside(&self) -> usize {
        let is_open = |member: &usize| self.crowd.client(*member).phase() == Phase::Open;
        (0..self.crowd.len()).filter(is_open).count()
    }

    /// Messages that wait for their answer.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.crowd.unanswered()
    }

    /// Latencies are counted anew.
    pub fn measure_from_now(&mut self) {
        (self.from_open, self.from_new) = (Latencies::default(), Latencies::default());
    }

    /// A process is about to be killed.
    pub fn kill_follows(&mut self) {
        self.killed_us = now_us();
    }

    /// One round.
    ///
    /// # Errors
    /// The kernel's.
    pub fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut news = std::mem::take(&mut self.news);
        self.crowd.turn(wait, &mut news)?;
        for one in news.drain(..) {
            self.learn(one);
        }
        self.news = news;
        Ok(())
    }

    /// Reads over HTTP what did not come over the sockets, and counts the visitors' texts in it as received. How many.
    ///
    /// # Errors
    /// The backend does not answer.
    pub fn read_history(&mut self, system: &System) -> Result<u64> {
        let mut texts = 0;
        for hole in self.holes.drain(..) {
            let token = system.agent_token(self.ids[hole.member]);
            let path = format!(
                "/api/agent/conversations/{}/messages?after={}",
                hole.conversation, hole.after
            );
            let page = rest::ask(system.http(), "GET", &path, Some(&token), None)?;
            let messages = page["messages"].as_array().into_iter().flatten();
            texts += messages
                .filter(|message| message["seq"].as_u64().is_some_and(|seq| seq <= hole.to))
                .filter(|message| message["sender_role"] == "visitor")
                .count() as u64;
        }
        self.received += texts;
        Ok(texts)
    }

    /// All leave.
    pub fn leave(&mut self) {
        for member in 0..self.crowd.len() {
            self.crowd.stop(member);
        }
    }

    fn learn(&mut self, one: News) {
        match one.event {
            Event::Welcomed { .. } => {
                let online = message::Command {
                    op: fb::CommandOp::SetStatus,
                    status: fb::AgentStatus::Online,
                    ..Default::default()
                };
                self.crowd.with(one.member, |client, now_us, exchange| {
                    let _too_many = client.command(online, now_us, exchange);
                });
            }
            Event::Message(message) if message.role == fb::Role::Visitor => {
                self.received += 1;
                let Some((group, took)) = stamp::read(&message.text, now_us()) else {
                    return;
                };
                match group {
                    _ if stamp::is_through_kill(took, self.killed_us) => {
                        self.through_kill.record(took);
                    }
                    Group::Open => self.from_open.record(took),
                    Group::New => self.from_new.record(took),
                    Group::Disturbed => {}
                }
                if self.answer {
                    self.say(one.member, message.conversation, group);
                }
            }
            Event::Accepted { .. } => self.accepted += 1,
            Event::Hole {
                conversation,
                after,
                to,
                ..
            } => {
                self.broken += 1;
                if self.holes.len() < HOLES_MAX {
                    self.holes.push(Hole {
                        member: one.member,
                        conversation,
                        after,
                        to,
                    });
                }
                self.crowd.with(one.member, |client, now_us, exchange| {
                    client.holds(conversation, to, now_us, exchange);
                });
            }
            Event::Missed { .. } | Event::Malformed => self.broken += 1,
            // A visitor may have closed before the answer came: that refusal breaks no promise.
            _ => {}
        }
    }

    fn say(&mut self, member: usize, conversation: Id, group: Group) {
        self.said += 1;
        let words = self.lines[self.said % self.lines.len()];
        stamp::write(&mut self.text, group, now_us(), words);
        let (mut said, text) = (false, &self.text);
        self.crowd.with(member, |client, now_us, exchange| {
            said = client
                .send(text, Some(conversation), now_us, exchange)
                .is_ok();
        });
        self.sent += u64::from(said);
    }
}
