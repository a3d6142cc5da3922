//! Snapshots of the engine that the turn publishes after a commit. Nothing outside the turn reads engine state.
//!
//! A snapshot is made at most every [`LIVE_VIEW_MS`] and only when something changed; its size is bounded by the
//! number of agents, never by visitors or conversations (ask the turn for those: `HttpCommand::Find…`).

use std::collections::BTreeMap;

use serde::Serialize;

use super::command::AgentView;
use crate::admission::AdmissionView;
use crate::engine::ledger::Ledger;
use crate::turn::tally::WorkerView;
use crate::turn::timing::Quantiles;

/// How old a snapshot may be while things change.
pub const LIVE_VIEW_MS: u64 = 100;

/// What is going on, as of one commit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LiveView {
    /// The turn takes inputs (readyz). False while it starts, while the store is broken, and after it stopped.
    pub ready: bool,
    /// The server's time of this snapshot.
    pub at_us: u64,
    /// Incarnation of all histories.
    pub incarnation: u64,
    /// Every agent, by name.
    pub agents: Vec<AgentView>,
    /// Agents online.
    pub agents_online: u32,
    /// Conversations in the queue.
    pub waiting: u32,
    /// How long the head has waited.
    pub longest_wait_ms: u64,
    /// What somebody who queued now would wait; 0 = unknown.
    pub eta_ms: u32,
    /// Measured time from opening to the agent's first answer (median of the last 64); 0 = unknown.
    pub answer_ms: u32,
    /// Conversations that an agent has.
    pub chatting: u32,
    /// The waiting rooms of the gateways.
    pub admission: AdmissionView,
    /// Live connections of visitors.
    pub visitors_connected: u32,
    /// Live connections of agents and supervisors.
    pub agents_connected: u32,
    /// Gateways attached.
    pub gateways: u32,
    /// The loss ledger.
    pub ledger: Ledger,
    /// Counters since the process started.
    pub counters: Counters,
    /// How long things take.
    pub times: Times,
    /// Each kind of worker that is turned on.
    pub workers: Vec<WorkerView>,
}

/// How long things take, as the turn sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// Turns, take to release, since the start.
    pub turn: Quantiles,
    /// Accepted texts, from the beginning of the turn that took them until they and their acknowledgement were
    /// published, since the start.
    pub chat: Quantiles,
    /// The same, of the last 10 to 20 s.
    pub turn_lately: Quantiles,
    /// The same, of the last 10 to 20 s.
    pub chat_lately: Quantiles,
}

/// Counters since the process started; names are those of `/metrics` without the prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Turns that did something.
    pub turns: u64,
    /// Inputs applied.
    pub inputs: u64,
    /// Messages accepted (texts).
    pub messages_accepted: u64,
    /// Sends answered `duplicate`.
    pub messages_duplicate: u64,
    /// Sends answered `gap`.
    pub messages_gap: u64,
    /// Sends answered `id_conflict`.
    pub messages_id_conflict: u64,
    /// Refused, by reason's name.
    pub refused: BTreeMap<&'static str, u64>,
    /// Conversations begun.
    pub conversations_opened: u64,
    /// Conversations closed, by reason's name.
    pub conversations_closed: BTreeMap<&'static str, u64>,
    /// Assignments to agents.
    pub assignments: u64,
    /// Commits.
    pub commits: u64,
    /// Commits that failed and were tried again.
    pub commit_retries: u64,
    /// Time spent in commits.
    pub commit_us: u64,
    /// Records written to gateways.
    pub records_out: u64,
    /// Transient effects dropped or coalesced because there was no room.
    pub transient_dropped: u64,
    /// Times that a connection was marked behind.
    pub marked_behind: u64,
    /// Connections behind now.
    pub behind: u64,
    /// Messages replayed by resumes from memory.
    pub replayed_warm: u64,
    /// Messages replayed by resumes from the store.
    pub replayed_cold: u64,
    /// Bad records skipped.
    pub records_bad: u64,
    /// Inputs quarantined.
    pub quarantined: u64,
    /// Texts of the bot that were sent; accepted, too.
    pub bot_texts: u64,
    /// Texts of the bot that came when an agent had the conversation, or it was over.
    pub bot_texts_dropped: u64,
    /// Connections superseded by a newer one of their session.
    pub superseded: u64,
    /// Point reads on the turn's connection.
    pub lookups: u64,
    /// Repeats of long ago that readers found the first answer to.
    pub repeats_searched: u64,
    /// Repeats answered `busy` because too many were being looked for.
    pub repeats_refused: u64,
}
