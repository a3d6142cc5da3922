//! The rules of the chat, pure: no socket, no SQL, no clock, no randomness of its own.
//!
//! `apply(input)` changes the state in memory, says in a [`write_set::WriteSet`] what has to be stored, and lists
//! [`effect::Effect`]s that address people and conversations. `bus` finds their connections. Time and a seed are
//! handed in at the beginning of each turn, so the same inputs give the same state, rows and effects.
//!
//! In the order in which an input meets them:
//!
//! - [`input`]: what can happen; [`loaded`]: what the store is asked for
//! - `opening`, `sending`, `repeating`, `bot`, `acknowledging`, `commanding`, `passing`, `retention`, `synthetic`: what
//!   follows, one file per kind of input
//! - [`table`]: states × events, and `steps`, which takes the step that the table says
//! - [`conversation`], [`queue`], [`agents`], [`connections`], `people`, [`sessions`], [`window`]: the state
//! - [`marks`], [`clock`]: what merges; [`ledger`]: what became of every accepted text
//! - [`effect`], [`write_set`], [`rows`]: what comes out; `views`: how a conversation looks from outside

mod acknowledging;
pub mod agents;
mod answer;
mod bot;
pub mod clock;
pub mod command;
mod commanding;
pub mod connections;
pub mod conversation;
pub mod effect;
pub mod input;
pub mod kinds;
pub mod ledger;
pub mod loaded;
pub mod marks;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod model;
mod opening;
pub(crate) mod pages;
mod passing;
mod people;
pub mod queue;
pub mod rate;
mod repeating;
mod restoring;
mod retention;
pub mod rows;
mod sending;
pub mod service_rate;
pub mod sessions;
mod steps;
mod synthetic;
pub mod table;
mod views;
pub mod window;
pub mod write_set;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use flatbuffers::FlatBufferBuilder;
use serde::{Deserialize, Serialize};
use tidegate_protocol::Id;

pub use bot::BOT_PRINCIPAL;
#[cfg(any(test, feature = "fault-points"))]
pub use sending::POISON_TEXT;
pub use sending::{body_hash, encode_message, is_text};

use agents::Agents;
use clock::HybridClock;
use command::Refusal;
use connections::Connections;
use conversation::{ConversationKey, Conversations};
use effect::Output;
use input::Input;
use kinds::{CloseReason, Reason};
use ledger::Ledger;
use loaded::{Found, Need};
use people::People;
use queue::Queue;
use rate::RateLimit;
use retention::Retention;
use rows::{IdempotencyKeyRow, WidgetRow};
use service_rate::ServiceRate;
use sessions::Sessions;
use window::Window;

/// What an operator sets for the rules; units in the names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// On every row.
    pub site_id: u32,
    /// This node, in last-writer-wins registers.
    pub node: u32,
    /// Memory of the resume window.
    pub window_bytes_max: usize,
    /// Sessions whose `last` is in memory.
    pub sessions_max: usize,
    /// Closed conversations kept in memory for late acknowledgements and looks.
    pub closed_conversations_max: usize,
    /// From an agent's last connection to offline.
    pub agent_grace_us: u64,
    /// From a chatting visitor's last sign of life to closed.
    pub visitor_gone_us: u64,
    /// From a waiting visitor's last sign of life to closed.
    pub abandoned_us: u64,
    /// How long marks may wait for their row.
    pub marks_delay_us: u64,
    /// What one principal may send.
    pub sends: RateLimit,
    /// A resume over more messages than this is `recovered: false`.
    pub resume_messages_max: u64,
    /// How many of the newest messages somebody who joins is sent; older ones are read over HTTP.
    pub join_messages_max: u64,
    /// Connections of one principal; the oldest is closed beyond it.
    pub connections_per_principal_max: usize,
    /// How long messages are kept; 0 = for ever.
    pub messages_kept_us: u64,
    /// How long an Idempotency-Key is known; 0 = for ever.
    pub idempotency_keys_kept_us: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            site_id: 1,
            node: 1,
            window_bytes_max: 64 << 20,
            sessions_max: 1 << 20,
            closed_conversations_max: 4_096,
            agent_grace_us: 20_000_000,
            visitor_gone_us: 30 * 60 * 1_000_000,
            abandoned_us: 10 * 60 * 1_000_000,
            marks_delay_us: 100_000,
            sends: RateLimit {
                per_s: 10,
                burst: 40,
            },
            resume_messages_max: 1_000,
            join_messages_max: 200,
            connections_per_principal_max: 32,
            messages_kept_us: 0,
            idempotency_keys_kept_us: 48 * 3_600 * 1_000_000,
        }
    }
}

/// Counted since the process started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Texts accepted.
    pub accepted: u64,
    /// Sends answered `duplicate`.
    pub duplicate: u64,
    /// Sends answered `gap`.
    pub gap: u64,
    /// Sends answered `id_conflict`.
    pub id_conflict: u64,
    /// Refusals by reason.
    pub refused: [u64; Reason::ALL.len()],
    /// Conversations begun.
    pub opened: u64,
    /// Conversations closed by reason.
    pub closed: [u64; CloseReason::ALL.len()],
    /// Assignments, hand-overs included.
    pub assignments: u64,
    /// Superseded connections.
    pub superseded: u64,
    /// Put into quarantine.
    pub quarantined: u64,
    /// Texts of the bot that were sent; they count as accepted, too.
    pub bot_said: u64,
    /// Those that came when the conversation was over, or an agent had it.
    pub bot_dropped: u64,
}

/// Why an input could not be carried out.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A fact is missing: look it up and apply the input again. Nothing changed.
    Need(Need),
    /// Refused.
    Refused(Refusal),
}

impl From<Need> for Stop {
    fn from(need: Need) -> Self {
        Self::Need(need)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Refuses with fixed words.
pub(crate) const fn refuse<T>(reason: Reason, detail: &'static str) -> Result<T, Stop> {
    Err(Stop::Refused(Refusal::new(reason, detail)))
}

/// The state.
pub struct Engine {
    pub(crate) rules: Rules,
    pub(crate) now_us: u64,
    /// The time that views are of: it goes on in turns that apply nothing.
    pub(crate) view_us: u64,
    random: u64,
    pub(crate) turn: u32,
    pub(crate) incarnation: u64,
    pub(crate) clock: HybridClock,
    pub(crate) widgets: Vec<WidgetRow>,
    pub(crate) agents: Agents,
    pub(crate) people: People,
    pub(crate) connections: Connections,
    pub(crate) conversations: Conversations,
    pub(crate) queue: Queue,
    /// Of the load generator's people.
    pub(crate) synthetic_queue: Queue,
    pub(crate) last_queue_order: i64,
    pub(crate) rate: ServiceRate,
    pub(crate) answer_samples_ms: VecDeque<u32>,
    pub(crate) sessions: Sessions,
    pub(crate) window: Window,
    /// As the rows of this turn leave it.
    pub(crate) ledger: Ledger,
    /// As it was last put into a WriteSet.
    pub(crate) ledger_written: Ledger,
    pub(crate) tally: Tally,
    pub(crate) marks_dirty: Vec<ConversationKey>,
    pub(crate) marks_due_us: u64,
    /// When a conversation's visitor counts as gone: (when, key, id); looked at lazily.
    pub(crate) away: BTreeSet<(u64, u32, Id)>,
    /// Agents whose presence changed since `take_presence`.
    pub(crate) presence_dirty: BTreeSet<Id>,
    pub(crate) queue_dirty: bool,
    pub(crate) retention: Retention,
    /// Idempotency keys of this turn: the store does not have them yet.
    pub(crate) new_keys: Vec<IdempotencyKeyRow>,
    /// Facts looked up for the running input.
    facts: Vec<(Need, Found)>,
    /// By who took part: conversations that ended just before this process began, or in it before all were announced
    /// (what lay in the rings is applied first). Whoever is announced may not have been told. Empty from
    /// `announced_by_us` on.
    pub(crate) lately_closed: BTreeMap<Id, Vec<Id>>,
    /// By then whoever stayed connected was announced.
    pub(crate) announced_by_us: u64,
    pub(crate) builder: FlatBufferBuilder<'static>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("now_us", &self.now_us)
            .field("conversations", &self.conversations.len())
            .field("waiting", &self.queue.len())
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Begins a turn: its time (never before the last one's) and a seed for what has to be unguessable.
    pub fn begin_turn(&mut self, now_us: u64, seed: u64, out: &mut Output) {
        self.now_us = self.now_us.max(now_us);
        self.random = seed;
        self.turn = self.turn.wrapping_add(1).max(1);
        self.new_keys.clear();
        if self.now_us >= self.announced_by_us && !self.lately_closed.is_empty() {
            self.lately_closed = BTreeMap::new();
        }
        self.connections.recycle();
        self.conversations.recycle();
        self.forget_closed(out);
    }

    /// Views are of this time from now on; the rules know nothing of it.
    pub fn look_at(&mut self, now_us: u64) {
        self.view_us = self.view_us.max(now_us).max(self.now_us);
    }

    /// What the rules go by.
    #[must_use]
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The time that views are of.
    #[must_use]
    pub const fn view_us(&self) -> u64 {
        self.view_us
    }

    /// Applies one input.
    ///
    /// # Errors
    /// A fact that has to be looked up first ([`Engine::provide`]); then nothing changed, and the same input is
    /// applied again.
    pub fn apply(&mut self, input: &Input<'_>, out: &mut Output) -> Result<(), Need> {
        let applied = match input {
            Input::Opened(opened) => self.opened(opened, out),
            Input::Envelope(envelope) => self.envelope(envelope, None, out),
            Input::Ruled { envelope, ruling } => self.envelope(envelope, Some(*ruling), out),
            Input::Closed { address } => {
                self.closed(*address, out);
                Ok(())
            }
            Input::Unwelcome { address } => {
                self.closed(*address, out);
                let code = tidegate_protocol::close::CloseCode::INTERNAL_ERROR.0;
                out.effects.push(effect::Effect::Close {
                    address: *address,
                    code,
                    retry_ms: 0,
                });
                Ok(())
            }
            Input::GatewayGone { gateway } => {
                self.gateway_gone(*gateway, out);
                Ok(())
            }
            Input::Http { ticket, command } => self.http(*ticket, command, None, out),
            Input::HttpReplaced {
                ticket,
                command,
                text,
            } => self.http(*ticket, command, Some(text), out),
            Input::BotSaid { conversation, text } => {
                self.bot_said(*conversation, text, out);
                Ok(())
            }
            Input::Tick => {
                self.tick(out);
                Ok(())
            }
            Input::Retain => self.retain(out),
            Input::Stop => {
                self.write_marks(out);
                Ok(())
            }
            Input::Quarantined {
                envelope,
                position,
                error,
            } => {
                self.quarantined(envelope, *position, error, out);
                Ok(())
            }
        };
        if applied.is_ok() {
            self.facts.clear();
            self.assign_waiting(out);
        }
        applied
    }

    /// Hands in a fact that `apply` asked for.
    pub fn provide(&mut self, need: Need, found: Found) {
        match found {
            Found::Session(row) => {
                if let Need::Session { principal, session } = need {
                    let last = row
                        .as_ref()
                        .filter(|_| !shm_bus::mutant::is_planted("forget_last_on_restart"))
                        .map_or_else(Default::default, sessions::Last::of_row);
                    self.sessions.put(principal, session, last);
                }
            }
            Found::Conversation(Some(loaded)) => self.restore_closed(*loaded),
            other => self.facts.push((need, other)),
        }
    }

    /// A fact for the running input.
    pub(crate) fn fact(&self, need: Need) -> Result<&Found, Need> {
        self.facts
            .iter()
            .find(|(asked, _)| *asked == need)
            .map(|(_, found)| found)
            .ok_or(need)
    }

    /// 64 bits that nobody outside can guess, from the turn's seed (SplitMix64).
    pub(crate) fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn new_id(&mut self) -> Id {
        let random = u128::from(self.random()) << 64 | u128::from(self.random());
        Id::new(self.now_us / 1_000, random)
    }

    /// Counts a refusal.
    pub(crate) const fn count_refusal(&mut self, reason: Reason) {
        self.tally.refused[reason.code() as usize] += 1;
    }

    /// The server's time of the running turn.
    #[must_use]
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Who is connected.
    #[must_use]
    pub const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// What is going on.
    #[must_use]
    pub const fn conversations(&self) -> &Conversations {
        &self.conversations
    }

    /// Who answers.
    #[must_use]
    pub const fn agents(&self) -> &Agents {
        &self.agents
    }

    /// Who waits.
    #[must_use]
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The resume window.
    #[must_use]
    pub const fn window(&self) -> &Window {
        &self.window
    }

    /// The loss ledger.
    #[must_use]
    pub const fn ledger(&self) -> Ledger {
        self.ledger
    }

    /// Counts since the start.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Incarnation of all histories.
    #[must_use]
    pub const fn incarnation(&self) -> u64 {
        self.incarnation
    }
}
