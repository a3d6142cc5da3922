//! Visitors in crowds too large for one process: each child ([`flock`]) is this program again and plays some of them;
//! the parent ([`far`]) tells all of them what to do, and adds up what they saw. Agents answer from the parent
//! ([`agents`]).
//!
//! Orders go into a child and reports come out, a JSON object a line. Times are of the monotonic clock, which all processes
//! share.

pub mod agents;
pub mod askers;
pub mod far;
pub mod flock;
pub mod places;
pub mod stamp;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_protocol::Id;

use crate::latency::Latencies;
use places::Tellings;
use stamp::Group;

/// Visitors of one child: a descriptor each, of 20,000 that a process often has at most.
pub const VISITORS_PER_CHILD_MAX: u64 = 18_000;

/// Who comes, and what they do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Of the Tidegate that they visit.
    pub data_dir: PathBuf,
    /// Makes their ids different from every other run's.
    pub run: u32,
    /// Their ids say that a load plays them, so that nobody takes them for people; but a place in the queue is told to people
    /// only.
    pub synthetic: bool,
    /// The number of the first of them.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// They chatted before the rush.
    pub open: bool,
    /// How many in a thousand ask for an agent when they are let in; the others look.
    pub ask_permille: u64,
    /// What each says beside the first question, then closes; 0: goes on to the end.
    pub says: u32,
    /// Between two of those, ms.
    pub every_ms: u64,
    /// Bytes of each text; 0: a line of the corpus.
    pub text_bytes: usize,
    /// How many in a thousand texts have 8 KB.
    pub large_permille: u64,
    /// How many in a thousand of those who ask read nothing for a while.
    pub slow_permille: u64,
}

impl Job {
    /// Newcomers who each ask something; who gets an agent goes on.
    #[must_use]
    pub fn to_ask(data_dir: &Path, run: u32, count: u64) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            run,
            synthetic: true,
            first: 0,
            count,
            open: false,
            ask_permille: 1_000,
            says: 0,
            every_ms: 1_000,
            text_bytes: 0,
            large_permille: 0,
            slow_permille: 0,
        }
    }

    /// The id of a visitor of this run.
    #[must_use]
    pub fn visitor(&self, number: u64) -> Id {
        let number = u128::from(self.run) << 64 | u128::from(number);
        if self.synthetic {
            Id::synthetic(number)
        } else {
            Id::new(u64::from(self.run), number)
        }
    }

    /// Whose latencies these are.
    #[must_use]
    pub const fn group(&self) -> Group {
        if self.open { Group::Open } else { Group::New }
    }
}

/// What a child is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// All come: the n-th after n × `over_ms` ÷ count, whatever happens to those before.
    Come {
        /// From the first to the last, ms.
        over_ms: u64,
    },
    /// So many in a thousand lose their connection at once.
    Cut {
        /// Of all.
        permille: u64,
    },
    /// From now on how long it takes to come back is told by [`Report::back`].
    Kill,
    /// Nobody says anything more.
    Hush,
    /// All leave.
    Leave,
    /// Say how it is.
    Look,
    /// Say everything, histograms and lists, too.
    Tell,
}

/// How a child's visitors are.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// They began to come.
    pub came: u64,
    /// Asked for an agent.
    pub asked: u64,
    /// Welcome now.
    pub inside: u64,
    /// In the waiting room now.
    pub waiting: u64,
    /// In a conversation with an agent now.
    pub chatting: u64,
    /// Had neither Welcome nor Wait within 2 s.
    pub late: u64,
    /// Said.
    pub sent: u64,
    /// Acknowledged as committed.
    pub accepted: u64,
    /// Neither.
    pub unanswered: u64,
    /// Received from agents.
    pub received: u64,
    /// Answered busy, or for a rate: said again later.
    pub set_back: u64,
    /// Connections that ended without our doing.
    pub lost: u64,
    /// Promises broken: refused texts, gaps, malformed envelopes, visitors turned away for good.
    pub broken: u64,
    /// Lost their connection and are not back.
    pub away: u64,
    /// From the due time to the first Welcome or Wait.
    pub arrivals: Latencies,
    /// From an agent's send to the visitor's receipt.
    pub to_visitor: Latencies,
    /// From the loss of a connection to the next Welcome or Wait.
    pub back: Latencies,
    /// What those who wait in the queue were told of their places.
    pub tellings: Tellings,
    /// How late things were done.
    pub lag: Latencies,
    /// Of those who waited and were let in, and were there all the time: their ticket, and when, by the backend's clock, µs.
    pub let_in: Vec<(u64, u64)>,
    /// CPU time of the process, µs.
    pub cpu_us: f64,
}

impl Report {
    /// Takes another child's in.
    ///
    /// # Errors
    /// As [`Latencies::add`].
    pub fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.came += other.came;
        self.asked += other.asked;
        self.inside += other.inside;
        self.waiting += other.waiting;
        self.chatting += other.chatting;
        self.late += other.late;
        self.sent += other.sent;
        self.accepted += other.accepted;
        self.unanswered += other.unanswered;
        self.received += other.received;
        self.set_back += other.set_back;
        self.lost += other.lost;
        self.broken += other.broken;
        self.away += other.away;
        self.arrivals.add(&other.arrivals)?;
        self.to_visitor.add(&other.to_visitor)?;
        self.back.add(&other.back)?;
        self.tellings.add(other.tellings);
        self.lag.add(&other.lag)?;
        self.let_in.extend(other.let_in);
        self.cpu_us += other.cpu_us;
        Ok(())
    }
}
