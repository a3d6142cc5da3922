//! What was said and not yet acknowledged, in order. An item leaves on the server's acknowledgement, never on the send.
//!
//! The rules are those of `protocol/README.md` § 6: numbers are bound when an item first goes on the wire and stay
//! bound; after any answer but accepted or duplicate nothing more is sent until everything on the wire is answered,
//! then sending starts again at the oldest; numbers change only when no older copy can still arrive, else the session
//! does. No clock, no socket: time comes in, messages and events go out.

use std::collections::VecDeque;

use tidegate_protocol::{Id, fb};

use super::limits::{BACKOFF_US_MAX, OUTBOX_BYTES_MAX, OUTBOX_ITEMS_MAX, SENDS_IN_FLIGHT_MAX};
use super::link::backoff_us;
use super::{Event, NEVER};

/// The outbox holds as much as it may; the message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the outbox holds {OUTBOX_ITEMS_MAX} items or {OUTBOX_BYTES_MAX} bytes; wait for an acknowledgement"
)]
pub struct OutboxFull;

/// One thing said.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: u64,
    /// 0 = not bound.
    pub(super) n: u64,
    pub(super) conversation: Id,
    pub(super) text: Box<str>,
    /// The number of a connection; 0 = never sent.
    first_sent_on: u32,
    in_flight: bool,
}

/// What was accepted.
pub(super) struct Settled {
    pub(super) conversation: Id,
    pub(super) seq: u64,
}

/// What may happen next.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// These items, by index, go on the wire, in order.
    Send(Vec<usize>),
    /// The session was renewed: connect again.
    Renew,
}

#[derive(Debug)]
pub(super) struct Outbox {
    items: VecDeque<Item>,
    bytes: usize,
    keys: u64,
    pub(super) session: u64,
    /// The highest n that this session had accepted.
    last: u64,
    /// Which connection this is; 0 = none.
    connection: u32,
    welcomed_n: u64,
    /// How many may be on the wire; doubles with each acceptance, 1 after a setback.
    window: usize,
    draining: bool,
    was_set_back: bool,
    conflict: bool,
    expected_n: u64,
    retry_at_us: u64,
    setbacks: u32,
    progress_at_us: u64,
}

impl Outbox {
    pub(super) fn new(session: u64) -> Self {
        Self {
            items: VecDeque::new(),
            bytes: 0,
            keys: 0,
            session,
            last: 0,
            connection: 0,
            welcomed_n: 0,
            window: 1,
            draining: false,
            was_set_back: false,
            conflict: false,
            expected_n: 0,
            retry_at_us: 0,
            setbacks: 0,
            progress_at_us: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn item(&self, index: usize) -> &Item {
        &self.items[index]
    }

    pub(super) fn add(&mut self, text: &str, conversation: Id) -> Result<u64, OutboxFull> {
        if self.items.len() >= OUTBOX_ITEMS_MAX || self.bytes + text.len() > OUTBOX_BYTES_MAX {
            return Err(OutboxFull);
        }
        self.keys += 1;
        self.bytes += text.len();
        self.items.push_back(Item {
            key: self.keys,
            n: 0,
            conversation,
            text: text.into(),
            first_sent_on: 0,
            in_flight: false,
        });
        Ok(self.keys)
    }

    // --- the connection's life ---------------------------------------------------------------------------------

    /// A Welcome came. `Renew`: connect again, under the session that is now named.
    pub(super) fn welcomed(
        &mut self,
        connection: u32,
        last_n: u64,
        random: &mut fastrand::Rng,
        events: &mut Vec<Event>,
    ) -> bool {
        if self.connection == connection {
            // Welcomed again while connected: what is on the wire will be answered. Sent twice it might be refused
            // twice, and the second refusal would be taken for the next text's.
            self.welcomed_n = self.welcomed_n.max(last_n);
            return false;
        }
        self.lost();
        self.connection = connection;
        self.welcomed_n = last_n;
        let first = self.bound().next().map(|item| item.n);
        match first {
            None => self.last = self.last.min(last_n),
            Some(n) if n > last_n + 1 => {
                self.begin(random, events);
                return true;
            }
            Some(_) => {}
        }
        false
    }

    /// The connection is gone, and with it the answers to what was on the wire.
    pub(super) fn lost(&mut self) {
        self.connection = 0;
        self.window = 1;
        self.draining = false;
        self.was_set_back = false;
        self.conflict = false;
        self.expected_n = 0;
        self.retry_at_us = 0;
        for item in &mut self.items {
            item.in_flight = false;
        }
    }

    /// A new session: under the old one a hole is never filled, so late copies of it are refused for ever.
    fn begin(&mut self, random: &mut fastrand::Rng, events: &mut Vec<Event>) {
        for item in &mut self.items {
            item.n = 0;
            item.first_sent_on = 0;
        }
        self.lost();
        self.session = random.u64(1..);
        self.last = 0;
        self.welcomed_n = 0;
        events.push(Event::SessionRenewed {
            session: self.session,
        });
    }

    // --- sending -----------------------------------------------------------------------------------------------

    fn bound(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.n != 0)
    }

    fn in_flight(&self) -> usize {
        self.items.iter().filter(|item| item.in_flight).count()
    }

    /// When to look again: `Ok` to send, `Err` because answers are overdue.
    pub(super) fn deadline_us(&self, answer_us_max: u64) -> u64 {
        if self.connection == 0 || self.items.is_empty() {
            NEVER
        } else if self.in_flight() > 0 {
            self.progress_at_us + answer_us_max
        } else {
            self.retry_at_us
        }
    }

    /// Whether the server owes answers for longer than that.
    pub(super) fn is_overdue(&self, now_us: u64, answer_us_max: u64) -> bool {
        self.connection != 0
            && self.in_flight() > 0
            && now_us >= self.progress_at_us + answer_us_max
    }

    /// What to put on the wire now.
    pub(super) fn take(
        &mut self,
        now_us: u64,
        random: &mut fastrand::Rng,
        events: &mut Vec<Event>,
    ) -> Next {
        let mut chosen = Vec::new();
        if self.connection == 0 || self.items.is_empty() {
            return Next::Send(chosen);
        }
        let mut in_flight = self.in_flight();
        if self.draining {
            if in_flight > 0 {
                return Next::Send(chosen);
            }
            self.draining = false;
            if self.realign(random, events) {
                return Next::Renew;
            }
        }
        if now_us < self.retry_at_us {
            return Next::Send(chosen);
        }
        let highest = self.bound().map(|item| item.n).max().unwrap_or(0);
        let mut last = self.last.max(self.welcomed_n).max(highest);
        for (index, item) in self.items.iter_mut().enumerate() {
            if item.in_flight {
                continue;
            }
            let is_repeat = item.n != 0 && !self.was_set_back;
            let room = if is_repeat {
                SENDS_IN_FLIGHT_MAX
            } else {
                self.window
            };
            if in_flight >= room {
                break;
            }
            if item.n == 0 {
                last += 1;
                item.n = last;
            }
            if item.first_sent_on == 0 {
                item.first_sent_on = self.connection;
                events.push(Event::Bound {
                    key: item.key,
                    session: self.session,
                    n: item.n,
                });
            }
            item.in_flight = true;
            chosen.push(index);
            in_flight += 1;
        }
        if !chosen.is_empty() && in_flight == chosen.len() {
            self.progress_at_us = now_us;
        }
        Next::Send(chosen)
    }

    /// Everything is answered. Do the numbers of what is left still follow the last accepted one? True: renewed.
    fn realign(&mut self, random: &mut fastrand::Rng, events: &mut Vec<Event>) -> bool {
        let expected = core::mem::take(&mut self.expected_n);
        if self.conflict {
            self.begin(random, events);
            return true;
        }
        let first = self.bound().next().map_or(0, |item| item.n);
        if expected == 0 || first <= expected {
            return false;
        }
        if self
            .bound()
            .any(|item| item.first_sent_on != self.connection)
        {
            self.begin(random, events);
            return true;
        }
        let bound = self.items.iter_mut().filter(|item| item.n != 0);
        for (n, item) in (expected..).zip(bound) {
            item.n = n;
            events.push(Event::Bound {
                key: item.key,
                session: self.session,
                n,
            });
        }
        self.last = expected - 1;
        false
    }

    // --- answers -----------------------------------------------------------------------------------------------

    /// A SendResult.
    pub(super) fn answered(
        &mut self,
        result: &fb::SendResult<'_>,
        now_us: u64,
        random: &mut fastrand::Rng,
        events: &mut Vec<Event>,
    ) -> Option<Settled> {
        let index = self
            .items
            .iter()
            .position(|item| item.n == result.n() && item.n != 0)?;
        let item = &mut self.items[index];
        let key = item.key;
        item.in_flight = false;
        self.progress_at_us = now_us;
        let (outcome, reason) = (result.outcome(), result.reason());
        let retry_us = u64::from(result.retry_ms()) * 1000;
        match outcome {
            fb::SendOutcome::Accepted | fb::SendOutcome::Duplicate => {
                let repeated = outcome == fb::SendOutcome::Duplicate;
                let conversation = result.conversation().into();
                return Some(self.accepted(index, conversation, result.seq(), repeated, events));
            }
            fb::SendOutcome::Gap => {
                self.expected_n = result.expected_n();
                self.set_back(0, now_us, random);
            }
            fb::SendOutcome::IdConflict => {
                self.conflict = true;
                self.set_back(0, now_us, random);
            }
            _ if outcome == fb::SendOutcome::Busy
                || matches!(reason, fb::Reason::Busy | fb::Reason::RateLimited) =>
            {
                self.set_back(retry_us, now_us, random);
            }
            _ => {
                self.drop_item(index);
                self.draining |= self.in_flight() > 0;
                events.push(Event::Refused { key, reason });
                return None;
            }
        }
        events.push(Event::SetBack {
            key,
            outcome,
            reason,
        });
        None
    }

    /// A Message with our (session, n): an acknowledgement too.
    pub(super) fn replayed(&mut self, message: &fb::Message<'_>, events: &mut Vec<Event>) -> bool {
        if message.session() != self.session || message.n() == 0 {
            return false;
        }
        let Some(index) = self.items.iter().position(|item| item.n == message.n()) else {
            return false;
        };
        self.accepted(
            index,
            message.conversation().into(),
            message.seq(),
            true,
            events,
        );
        true
    }

    fn accepted(
        &mut self,
        index: usize,
        conversation: Id,
        seq: u64,
        repeated: bool,
        events: &mut Vec<Event>,
    ) -> Settled {
        self.setbacks = 0;
        self.window = (2 * self.window).min(SENDS_IN_FLIGHT_MAX);
        let item = self.drop_item(index);
        self.last = self.last.max(item.n);
        events.push(Event::Accepted {
            key: item.key,
            session: self.session,
            n: item.n,
            conversation,
            seq,
            repeated,
        });
        Settled { conversation, seq }
    }

    fn drop_item(&mut self, index: usize) -> Item {
        let item = self
            .items
            .remove(index)
            .expect("invariant: an index just found");
        self.bytes -= item.text.len();
        if self.items.is_empty() {
            self.items.shrink_to(4);
        }
        item
    }

    /// Without progress between them, setbacks come ever more slowly.
    fn set_back(&mut self, retry_us: u64, now_us: u64, random: &mut fastrand::Rng) {
        if !self.draining {
            self.setbacks += 1;
        }
        self.draining = true;
        self.was_set_back = true;
        self.window = 1;
        let patience_us = if self.setbacks > 1 || retry_us > 0 {
            backoff_us(self.setbacks, BACKOFF_US_MAX, random)
        } else {
            0
        };
        self.retry_at_us = self.retry_at_us.max(now_us + retry_us + patience_us);
    }
}
