//! The answer to a Send while it is being found.

use std::borrow::Cow;

use tidegate_protocol::Id;

use super::command::Refusal;
use super::connections::Address;
use super::conversation::{Conversation, ConversationKey};
use super::effect::{Detail, Effect};
use super::kinds::{Outcome, Reason};

/// A SendResult in the making.
pub(crate) struct Answer {
    pub(crate) to: Address,
    pub(crate) n: u64,
    pub(crate) outcome: Outcome,
    pub(crate) key: Option<ConversationKey>,
    pub(crate) conversation: Id,
    pub(crate) seq: u64,
    pub(crate) at_us: u64,
    pub(crate) expected_n: u64,
    pub(crate) retry_ms: u32,
    pub(crate) reason: Reason,
    pub(crate) detail: Detail,
}

impl Answer {
    pub(crate) const fn new(to: Address, n: u64) -> Self {
        Self {
            to,
            n,
            outcome: Outcome::Refused,
            key: None,
            conversation: Id::ABSENT,
            seq: 0,
            at_us: 0,
            expected_n: 0,
            retry_ms: 0,
            reason: Reason::None,
            detail: Detail::Text(""),
        }
    }

    pub(crate) const fn accepted(
        &mut self,
        conversation: &Conversation,
        key: ConversationKey,
        seq: u64,
        at_us: u64,
    ) {
        self.outcome = Outcome::Accepted;
        self.key = Some(key);
        self.conversation = conversation.row.id;
        self.seq = seq;
        self.at_us = at_us;
    }

    pub(crate) fn refused(&mut self, refusal: &Refusal) {
        let busy = matches!(refusal.reason, Reason::RateLimited | Reason::Busy);
        self.outcome = if busy {
            Outcome::Busy
        } else {
            Outcome::Refused
        };
        self.reason = refusal.reason;
        self.retry_ms = refusal.retry_ms;
        self.detail = match &refusal.detail {
            Cow::Borrowed(text) => Detail::Text(text),
            Cow::Owned(said) => Detail::Said(said.as_str().into()),
        };
    }

    pub(crate) fn into_effect(self) -> Effect {
        let Self {
            to,
            n,
            outcome,
            key,
            conversation,
            seq,
            at_us,
            expected_n,
            retry_ms,
            reason,
            detail,
        } = self;
        Effect::SendResult {
            to,
            n,
            outcome,
            key,
            conversation,
            seq,
            at_us,
            expected_n,
            retry_ms,
            reason,
            detail,
        }
    }
}
