//! The loss ledger: what became of every accepted text, per message and recipient. A text has one recipient, the
//! other side of its conversation; whoever of that side acknowledges, it is delivered.
//!
//! It counts what is *stored*: an acknowledgement counts from the turn that writes its mark on, and the figures are
//! written in the transaction of the rows that moved them. So at every commit they are those that
//! [`crate::store::recount`] derives from the rows alone, and a crash takes nothing back.

use serde::{Deserialize, Serialize};

use super::Engine;
use super::effect::Output;
use super::kinds::Side;
use super::loaded::Pending;
use super::rows::LedgerRow;

/// The texts to one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// Stored, ever.
    pub accepted: u64,
    /// At or below the side's delivered mark, or were when they were removed.
    pub delivered: u64,
    /// Stored and above the mark.
    pub pending: u64,
    /// Removed by retention above the mark.
    pub expired: u64,
}

impl Account {
    /// Every accepted text is exactly one of the others.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.accepted == self.delivered + self.pending + self.expired
    }
}

/// Both sides' accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ledger {
    /// What visitors wrote.
    pub to_agent: Account,
    /// What agents wrote.
    pub to_visitor: Account,
}

impl Ledger {
    /// The account of a recipient.
    pub const fn of_mut(&mut self, recipient: Side) -> &mut Account {
        match recipient {
            Side::Agent => &mut self.to_agent,
            Side::Visitor => &mut self.to_visitor,
        }
    }

    /// Both together.
    #[must_use]
    pub const fn total(&self) -> Account {
        let (a, b) = (&self.to_agent, &self.to_visitor);
        Account {
            accepted: a.accepted + b.accepted,
            delivered: a.delivered + b.delivered,
            pending: a.pending + b.pending,
            expired: a.expired + b.expired,
        }
    }

    /// Every accepted text to either side is exactly one of delivered, pending, expired.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.to_agent.is_closed() && self.to_visitor.is_closed()
    }

    /// A text was appended.
    pub const fn accept(&mut self, recipient: Side) {
        let account = self.of_mut(recipient);
        account.accepted += 1;
        account.pending += 1;
    }

    /// A row says that these were delivered.
    pub const fn deliver(&mut self, texts: Pending) {
        self.to_agent.deliver(texts.to_agent);
        self.to_visitor.deliver(texts.to_visitor);
    }
}

impl Account {
    const fn deliver(&mut self, texts: u64) {
        self.delivered += texts;
        self.pending -= texts;
    }

    /// Retention removed these above the mark.
    pub const fn expire(&mut self, texts: u64) {
        self.expired += texts;
        self.pending -= texts;
    }
}

impl Engine {
    /// Ends a turn: the ledger goes into the WriteSet of what moved it. Called after the last input, before the
    /// commit.
    pub fn end_turn(&mut self, out: &mut Output) {
        self.rate.end_turn(!self.queue.is_empty(), self.now_us);
        if self.ledger != self.ledger_written {
            self.ledger_written = self.ledger;
            out.writes.ledger = Some(LedgerRow {
                site_id: self.rules.site_id,
                at_us: self.now_us,
                ledger: self.ledger,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_moves_from_pending_to_delivered_and_the_accounts_stay_closed() {
        let mut ledger = Ledger::default();
        for recipient in [Side::Agent, Side::Agent, Side::Visitor] {
            ledger.accept(recipient);
        }
        ledger.deliver(Pending {
            to_agent: 1,
            to_visitor: 1,
        });
        let total = ledger.total();
        assert_eq!((total.accepted, total.delivered, total.pending), (3, 2, 1));
        assert!(ledger.is_closed());
        ledger.to_visitor.delivered += 1;
        assert!(!ledger.is_closed(), "one too many is seen");
    }
}
