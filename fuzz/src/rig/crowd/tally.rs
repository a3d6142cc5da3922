//! What a crowd counted, for figures and for the sentence of a wait in vain.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

const HISTOGRAM_DIGITS: u8 = 3;
/// Longer times count as this: an hour.
const TIME_US_MAX: u64 = 3_600_000_000;

/// What the crowd counted.
pub struct Tally {
    /// Messages said.
    pub sent: u64,
    /// Messages acknowledged.
    pub accepted: u64,
    /// Messages refused for good.
    pub refused: u64,
    /// Answers `busy`, `gap`, `id_conflict` or a rate: said again later.
    pub set_back: u64,
    /// Messages handed on to receivers.
    pub received: u64,
    /// Times that the schedule found a member with a full outbox.
    pub passed_over: u64,
    /// Connections that ended, by close code.
    pub closed: BTreeMap<u16, u64>,
    /// Goaways.
    pub goaways: u64,
    /// Welcomes.
    pub welcomes: u64,
    /// Connections that the kernel refused or reset before they were open.
    pub refused_connections: u64,
    /// Resumes after which a conversation was not recovered.
    pub holes: u64,
    /// Things that are no messages of the protocol.
    pub malformed: u64,
    /// Sessions that had to be renewed.
    pub renewed: u64,
    /// When the newest of those messages was said that were acknowledged, µs: who answers it lived then.
    pub newest_answered_us: u64,
    /// From saying something to its acknowledgement, µs.
    pub answers_us: Histogram<u64>,
    /// From a Ping to its Pong, µs.
    pub pongs_us: Histogram<u64>,
}

impl std::fmt::Debug for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tally")
            .field("sent", &self.sent)
            .field("accepted", &self.accepted)
            .field("refused", &self.refused)
            .field("set_back", &self.set_back)
            .field("received", &self.received)
            .field("closed", &self.closed)
            .field("goaways", &self.goaways)
            .field("welcomes", &self.welcomes)
            .field("refused_connections", &self.refused_connections)
            .field("holes", &self.holes)
            .field("malformed", &self.malformed)
            .field("renewed", &self.renewed)
            .finish_non_exhaustive()
    }
}

impl Tally {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            sent: 0,
            accepted: 0,
            refused: 0,
            set_back: 0,
            received: 0,
            passed_over: 0,
            closed: BTreeMap::new(),
            goaways: 0,
            welcomes: 0,
            refused_connections: 0,
            holes: 0,
            malformed: 0,
            renewed: 0,
            newest_answered_us: 0,
            answers_us: Histogram::new_with_bounds(1, TIME_US_MAX, HISTOGRAM_DIGITS)?,
            pongs_us: Histogram::new_with_bounds(1, TIME_US_MAX, HISTOGRAM_DIGITS)?,
        })
    }
}
