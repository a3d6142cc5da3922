//! A running system with people in it who chat, as most trials want it; and what is to be true afterwards.

use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use tidegate_backend::engine::ledger::Ledger;
use tidegate_backend::store::{audit, recount_at};
use tidegate_protocol::{Codec, Id};

use super::check::{self, Report, Stored};
use super::{Crowd, Load, Role, Setup, System};
use crate::trials::Stand;

const COME_S_MAX: u64 = 60;
const FLOW_S_MAX: u64 = 60;
const SETTLE_S_MAX: u64 = 90;
/// Marks are written with the next turn that writes, or within 100 ms; and a crash may ask for them again.
const MARKS_S_MAX: u64 = 10;
const TEXT_BYTES: usize = 48;
/// Conversations that each agent could have beside those of the first visitors: somebody may come later.
pub(crate) const SPARE: u64 = 8;

/// A system and its people.
#[derive(Debug)]
pub struct Shop {
    /// The processes.
    pub system: System,
    /// The people.
    pub crowd: Crowd,
    begun: Instant,
}

impl Shop {
    /// Starts the parts of a system and lets people come: so many visitors, each of whom has said something and has
    /// got an agent.
    ///
    /// # Errors
    /// That does not come to pass.
    pub fn open(stand: &Stand, setup: &Setup, visitors: u64, agents: u64) -> anyhow::Result<Self> {
        Self::fill(stand, System::start(setup)?, visitors, agents)
    }

    /// The same under `tidegate up`.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_up(
        stand: &Stand,
        setup: &Setup,
        visitors: u64,
        agents: u64,
    ) -> anyhow::Result<Self> {
        Self::fill(stand, System::start_up(setup)?, visitors, agents)
    }

    /// Around a system and people that a trial brought together itself, who have chatted since then.
    #[must_use]
    pub const fn around(system: System, crowd: Crowd, begun: Instant) -> Self {
        Self {
            system,
            crowd,
            begun,
        }
    }

    fn fill(stand: &Stand, system: System, visitors: u64, agents: u64) -> anyhow::Result<Self> {
        // Either codec keeps the same promises: the seed picks one.
        let codecs = u64::try_from(Codec::ALL.len())?;
        let codec = Codec::ALL[usize::try_from(stand.seed % codecs)?];
        let mut crowd = Crowd::speaking(system.ws(), stand.seed, codec)?;
        let capacity = u32::try_from(visitors.div_ceil(agents.max(1)) + SPARE)?;
        for n in 0..agents {
            crowd.add_agent(&system.add_agent(&format!("agent-{n}"), capacity)?);
        }
        for n in 0..visitors {
            crowd.add_visitor(&system.visitor_token(n));
        }
        crowd.start();
        let come = Duration::from_secs(COME_S_MAX);
        crowd.until("all are welcome", come, |crowd| crowd.open() == crowd.len())?;
        let agents = usize::try_from(agents)?;
        for number in agents..crowd.len() {
            crowd.say(number, None, TEXT_BYTES);
        }
        crowd.until("everybody has somebody to talk to", come, |crowd| {
            let given: usize = crowd
                .members()
                .take(agents)
                .map(|agent| agent.rooms.len())
                .sum();
            given as u64 == visitors && crowd.unanswered() == 0
        })?;
        Ok(Self {
            system,
            crowd,
            begun: Instant::now(),
        })
    }

    /// Lets them chat at this rate, until told otherwise.
    pub fn chat(&mut self, per_s: u64) {
        self.begun = Instant::now();
        self.crowd.load = Some(Load {
            per_s,
            text_bytes: TEXT_BYTES,
        });
    }

    /// Goes on until so many more messages were acknowledged.
    ///
    /// # Errors
    /// They are not.
    pub fn flow(&mut self, messages: u64) -> anyhow::Result<()> {
        let enough = self.crowd.tally.accepted + messages;
        let what = format!("{messages} more messages are acknowledged");
        let time_max = Duration::from_secs(FLOW_S_MAX);
        self.crowd
            .until(&what, time_max, |crowd| crowd.tally.accepted >= enough)
            .with_context(|| self.logs())
    }

    /// Asks SQLite, from outside, whether the database is whole, and recounts the ledger: every accepted text is
    /// delivered, pending or expired, and the counters are what the rows say. No retention is set, so nothing expires.
    ///
    /// # Errors
    /// It is not.
    pub fn is_whole(&self) -> anyhow::Result<Ledger> {
        let database = self.system.database();
        let found = audit::integrity(&database)?;
        ensure!(found == "ok", "PRAGMA integrity_check: {found}");
        let recount = recount_at(&database)?;
        recount
            .check()
            .map_err(|wrong| anyhow!("the ledger is open: {wrong}"))?;
        let expired = recount.ledger.total().expired;
        ensure!(expired == 0, "{expired} texts expired without a retention");
        Ok(recount.ledger)
    }

    /// Stops chatting, waits until nothing is unanswered and nobody lacks anything, and compares what everybody saw
    /// with what is stored. Leaves the figures that every trial has.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn close(&mut self, stand: &mut Stand) -> anyhow::Result<Report> {
        let report = self.close_of(stand, |_| true)?;
        self.ledger_says_all_was_delivered(report.stored)?;
        Ok(report)
    }

    /// The same where the database has conversations of others, too, who may lack something: those of the crowd are
    /// looked at. The ledger counts all of them, and is closed.
    ///
    /// # Errors
    /// A promise was broken.
    pub fn close_of(
        &mut self,
        stand: &mut Stand,
        is_ours: impl Fn(Id) -> bool,
    ) -> anyhow::Result<Report> {
        let chatted = self.begun.elapsed();
        let accepted = self.crowd.tally.accepted;
        let settled = self.crowd.settle(Duration::from_secs(SETTLE_S_MAX));
        let mut stored = Stored::read(&self.system.database())?;
        stored.messages.retain(|row| is_ours(row.conversation));
        let report = check::check(&self.crowd.journal, &stored);
        stand.figure("messages acknowledged", report.accepted);
        stand.figure(
            "messages acknowledged per second, outages included",
            format!("{:.0}", accepted as f64 / chatted.as_secs_f64()),
        );
        let broken = report.violations.len();
        stand.figure("lost, doubled, out of order, silent gaps", broken);
        // What the database says is worth more than who waits for what.
        let report = report.into_result()?;
        self.is_whole()?;
        stand.figure("ledger recounted from the rows", "closed");
        settled.with_context(|| self.logs())?;
        ensure!(
            self.crowd.tally.malformed == 0,
            "{} things came that are no messages of the protocol",
            self.crowd.tally.malformed
        );
        Ok(report)
    }

    /// Everybody has and acknowledged everything: so says the ledger, as soon as the marks are written.
    fn ledger_says_all_was_delivered(&mut self, stored: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(MARKS_S_MAX);
        loop {
            let total = self.is_whole()?.total();
            ensure!(
                total.accepted == stored,
                "{stored} messages are stored, and the ledger says {total:?}"
            );
            if total.pending == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "everybody acknowledged everything, and the ledger says {total:?}"
            );
            self.crowd.pass(Duration::from_millis(20))?;
        }
    }

    /// The newest lines of every process.
    #[must_use]
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["up", "backend", "gateway-0", "gateway-1"] {
            let log = self.system.log(name);
            let lines: Vec<&str> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(8)..] {
                text.push_str(&format!("\n      {name}: {line}"));
            }
        }
        text
    }

    /// Ends a part's life and begins its next at once.
    ///
    /// # Errors
    /// It does not run, or can't be started.
    pub fn kill(&mut self, role: Role) -> anyhow::Result<()> {
        self.system.kill(role)?;
        self.system.begin(role, None)
    }
}
