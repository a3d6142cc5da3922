//! Retention: what an operator gave a number of days or hours leaves the store, a bounded step a turn.
//!
//! A sweep walks the conversations in the order in which they were begun, and the Idempotency-Keys in the order of
//! their key; a step of it removes a few hundred rows at most, and the next step comes a moment later. A text that
//! is removed before its recipient acknowledged it is *expired*: the only way in which an accepted text ends other
//! than delivered.

use tidegate_protocol::Id;

use super::Engine;
use super::effect::{Effect, Output};
use super::kinds::Side;
use super::loaded::{Found, Need};
use super::rows::ErasureRow;

/// Between two steps of a sweep: what it costs stays a small part of a turn's time.
const STEP_US: u64 = 20_000;
/// Between the end of one sweep and the beginning of the next.
const SWEEP_US: u64 = 60 * 60 * 1_000_000;
/// From the start to the first: those who have to come back come first.
const START_US: u64 = 60 * 1_000_000;

/// Where the two sweeps are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retention {
    messages_due_us: u64,
    messages_after: Id,
    keys_due_us: u64,
    keys_after: (Id, u128),
}

impl Retention {
    pub(crate) const fn new(now_us: u64) -> Self {
        Self {
            messages_due_us: now_us + START_US,
            messages_after: Id(0),
            keys_due_us: now_us + START_US,
            keys_after: (Id(0), 0),
        }
    }
}

impl Engine {
    /// When a [`super::input::Input::Retain`] would do something.
    #[must_use]
    pub const fn next_retention_us(&self) -> u64 {
        let messages = if self.rules.messages_kept_us == 0 {
            u64::MAX
        } else {
            self.retention.messages_due_us
        };
        let keys = if self.rules.idempotency_keys_kept_us == 0 {
            u64::MAX
        } else {
            self.retention.keys_due_us
        };
        if messages < keys { messages } else { keys }
    }

    /// One step of whatever is due.
    pub(crate) fn retain(&mut self, out: &mut Output) -> Result<(), Need> {
        let (kept_us, keys_kept_us) = (
            self.rules.messages_kept_us,
            self.rules.idempotency_keys_kept_us,
        );
        let at = self.retention;
        let messages = if kept_us > 0 && at.messages_due_us <= self.now_us {
            let need = Need::OldMessages {
                after: at.messages_after,
                before_us: self.now_us.saturating_sub(kept_us),
            };
            match self.fact(need)? {
                Found::OldMessages(step) => Some(step.clone()),
                _ => None,
            }
        } else {
            None
        };
        let keys = if keys_kept_us > 0 && at.keys_due_us <= self.now_us {
            let need = Need::OldKeys {
                after: at.keys_after,
                before_us: self.now_us.saturating_sub(keys_kept_us),
            };
            match self.fact(need)? {
                Found::OldKeys(step) => Some(step.clone()),
                _ => None,
            }
        } else {
            None
        };
        let now_us = self.now_us;
        let next_us = |more| now_us + if more { STEP_US } else { SWEEP_US };
        if let Some(step) = messages {
            self.retention.messages_due_us = next_us(step.next.is_some());
            self.retention.messages_after = step.next.unwrap_or(Id(0));
            for run in &step.runs {
                self.erase(run, out);
            }
        }
        if let Some(step) = keys {
            self.retention.keys_due_us = next_us(step.next.is_some());
            self.retention.keys_after = step.next.unwrap_or((Id(0), 0));
            out.writes.keys_gone.extend(step.keys);
        }
        Ok(())
    }

    /// The oldest messages of a conversation go. One whose marks are not stored yet waits for the next sweep: the
    /// store counted by the marks that it has.
    pub(crate) fn erase(&mut self, run: &ErasureRow, out: &mut Output) {
        if let Some(key) = self.conversations.find(run.conversation) {
            let turn = self.turn;
            let conversation = self.conversations.at_mut(key);
            if conversation.marks_dirty || conversation.marks_turn == turn {
                return;
            }
            conversation.erased = run.seq;
            while conversation.window_first() <= run.seq && !conversation.window.is_empty() {
                conversation.window.pop_front();
            }
            conversation.pending.to_agent -= run.expired.to_agent;
            conversation.pending.to_visitor -= run.expired.to_visitor;
            if run.seq == conversation.seq {
                conversation.last_text.clear();
            }
            out.effects.push(Effect::Erased {
                conversation: key,
                up_to: run.seq,
            });
        }
        for (side, texts) in [
            (Side::Agent, run.expired.to_agent),
            (Side::Visitor, run.expired.to_visitor),
        ] {
            self.ledger.of_mut(side).expire(texts);
        }
        out.writes.erasures.push(*run);
    }
}
