//! A recording as load: each recorded visitor comes again as a fresh, marked one (as those of `tidegate bench stress` are),
//! through the gateway and with the delivery contract of the browser SDK, at the recorded time, scaled; says as many texts
//! as the recorded one, as long or as they were, types, closes, and leaves when the recorded one left.
//!
//! What is not played: agents, who cannot be made up (those of the running system answer, or nobody does);
//! acknowledgements, which these visitors give for what they are sent themselves; and who came before the recording
//! began, of whom it does not say who they are.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde_json::json;
use shm_bus::RecordHeader;
use shm_bus::recording::{Direction, Entry, Event};
use tidegate_bench::client::{Event as Learned, Phase, Settings as ClientSettings};
use tidegate_bench::crowd::{Crowd, News};
use tidegate_bench::latency::Latencies;
use tidegate_bench::process::raise_descriptor_limit;
use tidegate_bench::system::System;
use tidegate_protocol::bus::{CLOSED, ENVELOPE, OPENED, Opened};
use tidegate_protocol::names::Named as _;
use tidegate_protocol::{Codec, Id, View, fb, message, verify};
use tidegate_settings::settings::Settings;

use super::{ReplayArguments, open, tell_damage};
use crate::bus::mask::envelope_kind;
use crate::pace::Pace;

/// The longest that the crowd sleeps.
const TURN_MAX: Duration = Duration::from_millis(10);
/// How long after the last recorded moment answers may come.
const ANSWERS_MAX: Duration = Duration::from_secs(20);

/// A recorded connection: gateway, shard, slot, generation.
type Connection = (u32, u16, u32, u32);

#[derive(Debug, Default)]
struct Tally {
    visitors: u64,
    said: u64,
    accepted: u64,
    refused: BTreeMap<&'static str, u64>,
    set_back: u64,
    lost: u64,
    /// Recorded, and not played: by agents; of connections that were there before; not heard of by the recorder.
    by_agents: u64,
    by_unknown: u64,
    missed_bytes: u64,
    took: Latencies,
    late: Latencies,
}

struct Load {
    system: System,
    crowd: Crowd,
    /// Who plays whom; `None`: nobody does.
    players: HashMap<Connection, Option<usize>>,
    said_at: HashMap<(usize, u64), Instant>,
    conversations: HashMap<usize, Id>,
    run: u32,
    tally: Tally,
    news: Vec<News>,
}

/// Plays at the Tidegate that runs on the data directory.
pub fn run(settings: &Settings, wish: &ReplayArguments, told: &AtomicBool) -> Result<ExitCode> {
    let mut recording = open(&wish.file)?;
    let system = System::find(&settings.data_dir)?;
    raise_descriptor_limit()?;
    let client = ClientSettings::new(&system.ws().to_string(), Codec::Flat);
    let crowd = Crowd::new(system.ws(), client, 0)?;
    let mut load = Load {
        system,
        crowd,
        players: HashMap::new(),
        said_at: HashMap::new(),
        conversations: HashMap::new(),
        // Makes the visitors of this run different from every other run's.
        run: getrandom::u32().context("no randomness")?,
        tally: Tally::default(),
        news: Vec::new(),
    };
    let mut pace = Pace::begin(wish.speed);
    while let Some(entry) = recording.next()? {
        loop {
            let wait = pace.until(entry.at_us);
            if wait.is_zero() || told.load(Ordering::Relaxed) {
                break;
            }
            load.turn(wait.min(TURN_MAX))?;
        }
        if told.load(Ordering::Relaxed) {
            break;
        }
        let overdue = pace.overdue(entry.at_us);
        load.play(&entry, overdue)?;
    }
    let end = Instant::now() + ANSWERS_MAX;
    while load.crowd.unanswered() > 0 && Instant::now() < end && !told.load(Ordering::Relaxed) {
        load.turn(TURN_MAX)?;
    }
    tell_damage(&wish.file, &recording);
    load.finish(wish, pace.took())
}

impl Load {
    fn turn(&mut self, wait: Duration) -> Result<()> {
        let mut news = std::mem::take(&mut self.news);
        self.crowd.turn(wait, &mut news)?;
        for one in news.drain(..) {
            self.learn(one);
        }
        self.news = news;
        Ok(())
    }

    fn play(&mut self, entry: &Entry<'_>, overdue: Duration) -> Result<()> {
        let (header, payload) = match entry.event {
            Event::Record {
                leads: Direction::ToBackend,
                header,
                payload,
            } => (header, payload),
            Event::Missed {
                leads: Direction::ToBackend,
                bytes,
            } => {
                self.tally.missed_bytes += bytes;
                return Ok(());
            }
            _ => return Ok(()),
        };
        let connection = (entry.gateway, header.shard, header.slot, header.generation);
        match header.kind {
            OPENED => self.open(connection, payload)?,
            ENVELOPE => match self.players.get(&connection) {
                Some(Some(member)) => {
                    self.tally.late.record(overdue);
                    self.speak(*member, header, payload);
                }
                Some(None) => self.tally.by_agents += 1,
                None => self.tally.by_unknown += 1,
            },
            CLOSED => {
                if let Some(Some(member)) = self.players.remove(&connection) {
                    self.leave(member)?;
                }
            }
            _ => {}
        }
        // Between entries that are due at once sockets want to be served, too.
        if self.crowd.unanswered() > 0 {
            self.turn(Duration::ZERO)?;
        }
        Ok(())
    }

    fn open(&mut self, connection: Connection, payload: &[u8]) -> Result<()> {
        // A connection that is announced to another backend is there already.
        if self.players.contains_key(&connection) {
            return Ok(());
        }
        let opened = Opened::read(payload).ok();
        let is_visitor = opened.is_some_and(|it| it.record.role == fb::Role::Visitor.to_u8());
        let member = if is_visitor {
            let most = u64::from(self.system.connections_per_gateway_max());
            if self.tally.visitors >= most {
                bail!(
                    "the recording has more than {most} visitors, which is what one gateway takes"
                );
            }
            let number = u128::from(self.run) << 64 | u128::from(self.tally.visitors);
            let token = self.system.visitor_token(Id::synthetic(number));
            self.tally.visitors += 1;
            let session = getrandom::u64().context("no randomness")? | 1;
            let member = self.crowd.add(&token, session, session);
            self.crowd.start(member);
            Some(member)
        } else {
            None
        };
        self.players.insert(connection, member);
        Ok(())
    }

    fn speak(&mut self, member: usize, header: RecordHeader, payload: &[u8]) {
        let view = envelope_kind(header.flags).and_then(|kind| verify(kind, payload).ok());
        match view {
            Some(View::Send(send)) => {
                let text = send.text().unwrap_or_default();
                let mut key = None;
                self.crowd.with(member, |client, now_us, exchange| {
                    key = client.send(text, None, now_us, exchange).ok();
                });
                self.tally.said += 1;
                match key {
                    Some(key) => {
                        self.said_at.insert((member, key), Instant::now());
                    }
                    None => *self.tally.refused.entry("outbox_full").or_default() += 1,
                }
            }
            Some(View::Typing(typing)) => {
                if let Some(conversation) = self.conversations.get(&member).copied() {
                    let active = typing.active();
                    self.crowd.with(member, |client, now_us, exchange| {
                        client.typing(conversation, active, now_us, exchange);
                    });
                }
            }
            Some(View::Command(command)) if command.op() == fb::CommandOp::Close => {
                let close = message::Command {
                    op: fb::CommandOp::Close,
                    ..Default::default()
                };
                self.crowd.with(member, |client, now_us, exchange| {
                    let _too_many = client.command(close, now_us, exchange);
                });
            }
            _ => {}
        }
    }

    /// Leaves as soon as what was said is answered: the recorded one's was on the bus when it left.
    fn leave(&mut self, member: usize) -> Result<()> {
        let end = Instant::now() + TURN_MAX * 10;
        while self.crowd.client(member).unanswered() > 0 && Instant::now() < end {
            self.turn(TURN_MAX)?;
        }
        if self.crowd.client(member).unanswered() == 0 {
            self.crowd.stop(member);
        }
        Ok(())
    }

    fn learn(&mut self, one: News) {
        match one.event {
            Learned::Accepted {
                key, conversation, ..
            } => {
                self.tally.accepted += 1;
                self.conversations.insert(one.member, conversation);
                if let Some(at) = self.said_at.remove(&(one.member, key)) {
                    self.tally.took.record(at.elapsed());
                }
            }
            Learned::Refused { reason, .. } => {
                let reason = reason.name().unwrap_or("another");
                *self.tally.refused.entry(reason).or_default() += 1;
            }
            Learned::SetBack { .. } => self.tally.set_back += 1,
            Learned::Closed { .. } if self.crowd.client(one.member).phase() != Phase::Idle => {
                self.tally.lost += 1;
            }
            Learned::Hole {
                conversation, to, ..
            } => self.crowd.with(one.member, |client, now_us, exchange| {
                client.holds(conversation, to, now_us, exchange);
            }),
            _ => {}
        }
    }

    fn finish(mut self, wish: &ReplayArguments, took: Duration) -> Result<ExitCode> {
        for member in 0..self.crowd.len() {
            self.crowd.stop(member);
        }
        self.turn(TURN_MAX)?;
        let tally = &self.tally;
        let is_whole = tally.accepted == tally.said;
        if wish.json {
            let figures = json!({
                "seconds": took.as_secs_f64(), "visitors": tally.visitors, "said": tally.said,
                "accepted": tally.accepted, "refused": tally.refused, "set_back": tally.set_back, "lost": tally.lost,
                "not_played": {
                    "envelopes_of_agents": tally.by_agents, "envelopes_of_unknown": tally.by_unknown,
                    "missed_bytes": tally.missed_bytes,
                },
                "accepted_after": tally.took.json(), "late": tally.late.json(),
            });
            println!("{figures}");
        } else {
            println!(
                "{} visitors said {} texts in {:.1} s: {} accepted, {} put off and said again, {} connections lost",
                tally.visitors,
                tally.said,
                took.as_secs_f64(),
                tally.accepted,
                tally.set_back,
                tally.lost
            );
            for (reason, count) in &tally.refused {
                println!("refused, {reason:<17} {count:>8}");
            }
            println!("accepted after  {}", tally.took.line());
            println!("said later than due by  {}", tally.late.line());
            if tally.by_agents + tally.by_unknown + tally.missed_bytes > 0 {
                println!(
                    "not played: {} envelopes of agents, {} of people who came before the recording, {} bytes that it missed",
                    tally.by_agents, tally.by_unknown, tally.missed_bytes
                );
            }
            println!("remove what they left: tidegate bench stress --clean");
        }
        Ok(if is_whole {
            ExitCode::SUCCESS
        } else {
            eprintln!(
                "tidegate: {} of {} texts were not accepted",
                tally.said - tally.accepted.min(tally.said),
                tally.said
            );
            ExitCode::FAILURE
        })
    }
}
