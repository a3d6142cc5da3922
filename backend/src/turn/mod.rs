//! The turn: take what is there → apply → one WriteSet, one commit → publish → release.
//!
//! One thread owns all domain state and steps through it; [`Turn::step`] is one turn. It never waits: the caller
//! sleeps on the bell ([`crate::app`]) or moves virtual time (the simulator). Nothing is published and no ring space
//! is given back before the commit of what was taken.
//!
//! | what fails | what follows |
//! | --- | --- |
//! | commit: busy, full, a write | the WriteSet is kept and submitted again with backoff; nothing is taken, so rings push back; HTTP is answered `busy` |
//! | commit: anything else; a panic | [`Stepped::Broken`]: the caller ends, and a new start rebuilds from the store |
//! | a failed fsync, a read, damage | the same, and no input is blamed |
//! | the same input twice | after a broken end the next start is *careful* ([`careful`]): leftovers one per transaction; an input that breaks the engine twice is put into quarantine and answered |
//!
//! Files: [`take`](self) inputs, texts that wait for workers in [`stages`], the [`bot`] and what workers were asked
//! ([`tally`]), [`commit`](self), how a broken input is told apart, [`careful`], and how long it all takes, [`timing`].

pub mod bot;
pub mod careful;
mod commit;
mod first_answers;
mod held;
pub mod stages;
mod take;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod timing;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use shm_bus::RecordCopy;
use tokio::sync::oneshot;

use self::bot::Bot;
use self::careful::Careful;
use self::first_answers::FirstAnswers;
use self::held::Held;
use self::tally::WorkerView;
use self::timing::Timing;
use crate::admission::{self, Admission, Sight};
use crate::app::command::{HttpAnswer, Refusal};
use crate::app::handle::TurnDoor;
use crate::app::live_view::{Counters, LIVE_VIEW_MS, Times};
use crate::bus::Bus;
use crate::bus::board::Board;
use crate::bus::cold::ColdReader;
use crate::bus::link::Gateways;
use crate::engine::Engine;
use crate::engine::effect::Output;
use crate::engine::input::Input;
use crate::engine::ledger::Ledger;
use crate::engine::loaded::{Found, Need};
use crate::journal::Journal;
use crate::store::{Store, StoreError};

/// Bounds of one turn.
#[derive(Debug, Clone)]
pub struct TurnLimits {
    /// Inputs, over all rings and HTTP.
    pub inputs_max: usize,
    /// Inputs from one ring before the next one's turn.
    pub inputs_per_visit: usize,
    /// Point reads on the turn's connection; past it the turn ends early.
    pub lookups_max: usize,
    /// Largest record, header included, of any gateway.
    pub record_bytes_max: usize,
    /// How fast new visitors are let in.
    pub admission: admission::Limits,
}

impl Default for TurnLimits {
    fn default() -> Self {
        Self {
            inputs_max: 4_096,
            inputs_per_visit: 64,
            lookups_max: 512,
            record_bytes_max: shm_bus::RECORD_BYTES_MAX_DEFAULT,
            admission: admission::Limits::default(),
        }
    }
}

/// A turn of this many inputs comes of a load at which records to one connection are worth gathering.
const MANY_INPUTS: usize = 8;

/// How soon to look again for room in a full ring: its reader does not ring.
const ROOM_LOOK_US: u64 = 1_000;

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Something: step again at once.
    Worked,
    /// Nothing: step again when the bell rings, or at this time.
    Idle {
        /// The server's time.
        wake_at_us: u64,
    },
    /// The store is broken for good, or does not agree with memory: end the process and start anew.
    Broken(String),
}

/// A commit that did not go through yet.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at_us: u64,
    attempts: u32,
}

type Asker = oneshot::Sender<Result<HttpAnswer, Refusal>>;

/// All of it.
pub struct Turn<S, G: Gateways, C> {
    pub(crate) engine: Engine,
    pub(crate) bus: Bus<G, C>,
    pub(crate) store: S,
    admission: Admission,
    /// When the turn that runs on without a pause began to: what lags is measured by the time that is passed in.
    busy_since_us: Option<u64>,
    door: TurnDoor,
    journal: Option<Journal>,
    held: Option<Held>,
    bot: Option<Bot>,
    /// The workers as they were shown last.
    workers_shown: Vec<WorkerView>,
    limits: TurnLimits,
    out: Output,
    copy: RecordCopy,
    /// Who asked over HTTP in this turn; a ticket is an index.
    asked: Vec<Option<Asker>>,
    retry: Option<Retry>,
    first_answers: FirstAnswers,
    /// This turn took inputs that an earlier process had committed.
    settled_taken: bool,
    careful: Careful,
    /// Which ring is visited first.
    first_visit: usize,
    /// `begin_turn` was called for the running turn.
    begun: bool,
    inputs: usize,
    lookups: usize,
    counters: Counters,
    turn_times: Timing,
    chat_times: Timing,
    /// When the running turn began, and how many texts had been accepted by then.
    began: (Instant, u64),
    live_next_us: u64,
    live_due: bool,
    /// The engine's is ahead of it while a commit is tried again.
    ledger_committed: Ledger,
    ready: bool,
    looked: bool,
}

impl<S: Store, G: Gateways, C: ColdReader> Turn<S, G, C> {
    /// Puts the parts together. The engine was made from what this store loaded.
    pub fn new(
        engine: Engine,
        mut bus: Bus<G, C>,
        store: S,
        door: TurnDoor,
        limits: TurnLimits,
    ) -> Self {
        let (tickets, frontier) = bus.gateways_mut().tickets_and_frontier();
        Self {
            admission: Admission::new(limits.admission, frontier, tickets),
            busy_since_us: None,
            ledger_committed: engine.ledger(),
            engine,
            bus,
            store,
            door,
            journal: None,
            held: None,
            bot: None,
            workers_shown: Vec::new(),
            out: Output::default(),
            copy: RecordCopy::with_room(limits.record_bytes_max),
            limits,
            asked: Vec::new(),
            retry: None,
            first_answers: FirstAnswers::default(),
            settled_taken: false,
            careful: Careful::default(),
            first_visit: 0,
            begun: false,
            inputs: 0,
            lookups: 0,
            counters: Counters::default(),
            turn_times: Timing::default(),
            chat_times: Timing::default(),
            began: (Instant::now(), 0),
            live_next_us: 0,
            live_due: true,
            ready: true,
            looked: false,
        }
    }

    /// Writes every input down from now on.
    pub fn set_journal(&mut self, journal: Journal) {
        self.journal = Some(journal);
    }

    /// Begins in the way that an earlier, broken end made necessary.
    pub fn set_careful(&mut self, careful: Careful) {
        self.careful = careful;
    }

    /// How it stands with care; after a panic it names the input that was being applied.
    #[must_use]
    pub const fn careful(&self) -> &Careful {
        &self.careful
    }

    /// To tell it that the turn broke.
    pub const fn careful_mut(&mut self) -> &mut Careful {
        &mut self.careful
    }

    /// The rules and what they stand at.
    #[must_use]
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What the turn itself counted since the start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The way to sleep and to be woken.
    pub const fn gateways_mut(&mut self) -> &mut G {
        self.bus.gateways_mut()
    }

    /// Whether something came that a sleeping turn would miss: asked between announcing the sleep and sleeping.
    pub fn has_input(&mut self) -> bool {
        let held = self.held.as_ref();
        let answered = held.is_some_and(|held| held.stages.has_answer())
            || self.bot.as_ref().is_some_and(Bot::has_answer);
        !self.door.requests.is_empty()
            || (self.retry.is_none() && (answered || self.bus.has_input()))
    }

    /// One turn. `seed` is fresh randomness; with `now_us` and the inputs it is all that decides.
    pub fn step(&mut self, now_us: u64, seed: u64) -> Stepped {
        if let Some(retry) = self.retry {
            return self.submit_again(now_us, retry);
        }
        self.began = (Instant::now(), self.engine.tally().accepted);
        self.engine.look_at(now_us);
        self.bus.look(now_us);
        self.let_in(now_us);
        self.begun = false;
        self.inputs = 0;
        self.lookups = 0;
        if !std::mem::take(&mut self.settled_taken) {
            self.first_answers = FirstAnswers::default();
        }
        if let Err(error) = self.take_all(now_us, seed) {
            let error = format!("a lookup failed: {error}");
            self.careful.store_broke(&error);
            return Stepped::Broken(error);
        }
        let worked = self.begun;
        if worked {
            self.counters.turns += 1;
            self.counters.inputs += self.inputs as u64;
            if let Some(stepped) = self.commit(now_us) {
                return stepped;
            }
            self.publish_and_release();
        }
        self.busy_since_us = worked.then_some(now_us);
        self.after(now_us, worked)
    }

    /// Applies one input; facts that the engine lacks are looked up.
    fn apply(&mut self, input: &Input<'_>, now_us: u64, seed: u64) -> Result<(), StoreError> {
        if !self.begun {
            self.begun = true;
            self.out.clear();
            self.engine.begin_turn(now_us, seed, &mut self.out);
            self.out.writes.at_us = self.engine.now_us();
            shm_bus::fault::point("turn.before_apply");
            if let Some(journal) = &mut self.journal {
                journal.begin_turn(self.engine.now_us(), seed);
            }
        }
        if let Some(journal) = &mut self.journal {
            journal.input(input);
        }
        self.inputs += 1;
        let settled = matches!(input, Input::Envelope(envelope) if envelope.settled);
        self.settled_taken |= settled;
        while let Err(need) = self.engine.apply(input, &mut self.out) {
            self.lookups += 1;
            self.counters.lookups += 1;
            let found = match need {
                Need::Sent {
                    principal,
                    session,
                    n,
                    to,
                } if settled => {
                    let known =
                        self.first_answers
                            .find(&mut self.store, principal, session, n, to)?;
                    Found::Sent(known)
                }
                need => look_up(&mut self.store, need)?,
            };
            self.engine.provide(need, found);
        }
        Ok(())
    }

    /// Moves the frontier of admission by the rate, and by how far this backend lags.
    fn let_in(&mut self, now_us: u64) {
        // The step before this one worked, and this one followed at once: what passed since is that turn.
        let turn_us = self
            .busy_since_us
            .map_or(0, |since_us| now_us.saturating_sub(since_us));
        let (tickets, _) = self.bus.gateways_mut().tickets_and_frontier();
        let sight = Sight {
            now_us,
            tickets,
            inside: self.engine.connections().visitors(),
            turn_us,
            fill_percent: self.bus.fill_percent(),
        };
        // The step after the last one was let in shows that nobody waits any more.
        self.live_due |= self.admission.next_us() != u64::MAX;
        if self.admission.step(&sight) {
            let (frontier, per_1000_s) = (self.admission.frontier(), self.admission.per_1000_s());
            self.bus.gateways_mut().let_in(frontier, per_1000_s);
        }
    }

    /// Whether this turn took so much that what may wait is worth gathering.
    const fn is_many(&self) -> bool {
        self.inputs >= MANY_INPUTS
    }

    /// What follows a commit or needs none: the bot, those who are behind, news, the doorbells, the live view.
    fn after(&mut self, now_us: u64, worked: bool) -> Stepped {
        if worked {
            self.ask_bot(now_us);
        }
        let served = self.bus.serve_waiting(&self.engine);
        let news_us = self.bus.tell_news(&mut self.engine, now_us);
        self.bus.end_publish(&self.engine, self.is_many());
        self.bus.ring();
        if worked {
            let took_us = u64::try_from(self.began.0.elapsed().as_micros()).unwrap_or(u64::MAX);
            let texts = self.engine.tally().accepted - self.began.1;
            self.turn_times.record(now_us, took_us, 1);
            self.chat_times.record(now_us, took_us, texts);
        }
        self.live_due |= worked || self.workers() != self.workers_shown;
        if self.live_due && now_us >= self.live_next_us {
            self.live_due = false;
            self.live_next_us = now_us + LIVE_VIEW_MS * 1_000;
            self.show(now_us);
        }
        if worked || served {
            return Stepped::Worked;
        }
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
        let live_us = if self.live_due {
            self.live_next_us
        } else {
            u64::MAX
        };
        let room_us = if self.bus.is_blocked() {
            now_us + ROOM_LOOK_US
        } else {
            u64::MAX
        };
        // A careful turn removes nothing: it must not be woken for that.
        let retention_us = if self.careful.is_on() {
            u64::MAX
        } else {
            self.engine.next_retention_us()
        };
        let held = self.held.as_ref();
        let held_us = held.map_or(u64::MAX, |held| held.wake_at_us(now_us + ROOM_LOOK_US));
        let wake_at_us = self
            .engine
            .next_tick_us()
            .min(retention_us)
            .min(news_us)
            .min(live_us)
            .min(room_us)
            .min(held_us)
            .min(self.bot.as_ref().map_or(u64::MAX, Bot::deadline_us))
            .min(self.admission.next_us());
        Stepped::Idle { wake_at_us }
    }

    /// Who of the workers is there, and what they were asked. Nothing, and no memory, without any.
    fn workers(&self) -> Vec<WorkerView> {
        let held = self.held.iter().flat_map(|held| held.stages.views());
        held.chain(self.bot.iter().map(Bot::view)).collect()
    }

    /// Publishes a snapshot.
    fn show(&mut self, now_us: u64) {
        let tally = self.bus.tally().clone();
        let mut counters = self.counters.clone();
        counters.records_out = tally.records_out;
        counters.transient_dropped = tally.transient_dropped;
        counters.marked_behind = tally.marked_behind;
        counters.replayed_warm = tally.replayed_warm;
        counters.replayed_cold = tally.replayed_cold;
        counters.records_bad = tally.records_bad;
        counters.behind = self.bus.behind();
        counters.repeats_searched = tally.repeats_found;
        counters.repeats_refused = tally.repeats_refused;
        counters.messages_id_conflict = tally.repeats_conflicting;
        self.engine.look_at(now_us);
        let mut view = self
            .engine
            .live_view(self.ready, self.bus.gateway_count(), counters);
        view.ledger = self.ledger_committed;
        view.admission = self.admission.view();
        view.times = Times {
            turn: self.turn_times.since_start(),
            chat: self.chat_times.since_start(),
            turn_lately: self.turn_times.lately(now_us),
            chat_lately: self.chat_times.lately(now_us),
        };
        view.workers = self.workers();
        self.workers_shown.clone_from(&view.workers);
        self.bus.gateways_mut().show(&Board::of(&view));
        // Nobody may be listening any more; then nobody misses it.
        let _ = self.door.live.send(Arc::new(view));
    }

    /// A step that ends right after its commit, as if the process had died there. For tests and the simulator.
    #[cfg(any(test, feature = "fault-points"))]
    pub fn step_without_publishing(&mut self, clock: &mut (u64, u64)) -> Stepped {
        let (now_us, seed) = *clock;
        if let Some(retry) = self.retry {
            return Stepped::Idle {
                wake_at_us: retry.at_us,
            };
        }
        self.bus.look(now_us);
        (self.begun, self.inputs, self.lookups) = (false, 0, 0);
        if let Err(error) = self.take_all(now_us, seed) {
            return Stepped::Broken(error.to_string());
        }
        if self.begun
            && let Some(stepped) = self.commit(now_us)
        {
            return stepped;
        }
        Stepped::Worked
    }

    /// The store, for tests that compare it with memory.
    #[cfg(any(test, feature = "fault-points"))]
    pub const fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Stops in order: marks are written, the store is closed, HTTP is told that nobody is there.
    ///
    /// # Errors
    /// If the last commit or the closing failed.
    pub fn stop(mut self, now_us: u64, seed: u64) -> Result<(), String> {
        self.ready = false;
        self.show(now_us);
        if self.retry.is_none() {
            (self.begun, self.inputs, self.lookups) = (false, 0, 0);
            self.settle_held(None, now_us, seed)
                .and_then(|()| self.apply(&Input::Stop, now_us, seed))
                .map_err(|error| error.to_string())?;
            if self.commit(now_us).is_none() {
                self.publish_and_release();
                self.bus.end_publish(&self.engine, false);
                self.bus.ring();
            }
        }
        self.store.close().map_err(|error| error.to_string())?;
        if let Some(journal) = self.journal.take() {
            journal.close();
        }
        Ok(())
    }
}

/// How often a look-up is tried while another process holds the database; each try waits as the store is configured.
const LOOK_UP_TRIES_MAX: u32 = 100;

/// One point read. Readers do not wait for writers, so `Busy` is rare and passes.
pub(crate) fn look_up<S: Store>(store: &mut S, need: Need) -> Result<Found, StoreError> {
    let mut tries = 1;
    loop {
        match look_up_once(store, need) {
            Err(StoreError::Busy(_)) if tries < LOOK_UP_TRIES_MAX => tries += 1,
            found => return found,
        }
    }
}

fn look_up_once<S: Store>(store: &mut S, need: Need) -> Result<Found, StoreError> {
    Ok(match need {
        Need::Session { principal, session } => Found::Session(store.session(principal, session)?),
        Need::Sent {
            principal,
            session,
            n,
            to,
        } => Found::Sent(first_answers::near(store, principal, session, n, to)?),
        Need::Visitor { id } => Found::Visitor(store.visitor(id)?),
        Need::Conversation { id } => Found::Conversation(store.conversation(id)?.map(Box::new)),
        Need::IdempotencyKey {
            principal,
            key_hash,
        } => Found::IdempotencyKey(store.idempotency_key(principal, key_hash)?),
        Need::Pending {
            conversation,
            above,
            up_to,
        } => Found::Pending(store.pending(conversation, above, up_to)?),
        Need::OldMessages { after, before_us } => {
            Found::OldMessages(store.old_messages(after, before_us)?)
        }
        Need::OldKeys { after, before_us } => Found::OldKeys(store.old_keys(after, before_us)?),
        Need::Synthetic => Found::Synthetic(store.synthetic()?),
    })
}

/// An HTTP command as an input.
fn http_input(ticket: usize, command: crate::app::command::HttpCommand) -> Input<'static> {
    Input::Http {
        ticket: ticket_of(ticket),
        command: Cow::Owned(command),
    }
}

/// The place among a turn's askers, as it is written down.
fn ticket_of(place: usize) -> u32 {
    u32::try_from(place).expect("invariant: a turn's requests are bounded by inputs_max")
}
