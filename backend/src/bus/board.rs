//! What the backend shows on the bus's control page, for `tidegate bus stat` and whoever else looks: the loss ledger,
//! refusals by reason, and counters since the start. shm-bus gives the words; this is their table.
//!
//! | words | meaning |
//! | --- | --- |
//! | 0–3 | texts to agents: accepted, delivered, pending, expired |
//! | 4–7 | texts to visitors: the same |
//! | 8–15 | [`COUNTERS`], since the start |
//! | 16–20 | how long turns took, since the start, in µs: 50, 99, 99.9, 99.99 of 100, and the longest |
//! | 21–25 | how long accepted texts took, from the beginning of their turn until they were published: the same |
//! | 32–95 | refusals by [`Reason`]'s code, since the start |

use crate::app::live_view::LiveView;
use crate::engine::kinds::Reason;
use crate::engine::ledger::{Account, Ledger};

/// Names of the words from 8 on.
pub const COUNTERS: [&str; 8] = [
    "messages_accepted",
    "messages_duplicate",
    "messages_gap",
    "messages_id_conflict",
    "inputs",
    "turns",
    "commits",
    "commit_retries",
];
const COUNTERS_FIRST: usize = 8;
/// Names of the words from 16 on.
pub const TIMES: [&str; 10] = [
    "turn_us_p50",
    "turn_us_p99",
    "turn_us_p99.9",
    "turn_us_p99.99",
    "turn_us_max",
    "chat_us_p50",
    "chat_us_p99",
    "chat_us_p99.9",
    "chat_us_p99.99",
    "chat_us_max",
];
const TIMES_FIRST: usize = 16;
const REFUSED_FIRST: usize = 32;
const WORDS: usize = 96;

const _: () = {
    assert!(COUNTERS_FIRST + COUNTERS.len() <= TIMES_FIRST);
    assert!(TIMES_FIRST + TIMES.len() <= REFUSED_FIRST);
    assert!(REFUSED_FIRST + Reason::ALL.len() <= WORDS);
    assert!(WORDS <= shm_bus::layout::LEDGER_COUNTERS);
};

/// All words, as of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board([u64; WORDS]);

impl Board {
    /// Of a snapshot.
    #[must_use]
    pub fn of(view: &LiveView) -> Self {
        let mut words = [0; WORDS];
        let accounts = [&view.ledger.to_agent, &view.ledger.to_visitor];
        for (four, account) in words.chunks_exact_mut(4).zip(accounts) {
            four.copy_from_slice(&[
                account.accepted,
                account.delivered,
                account.pending,
                account.expired,
            ]);
        }
        let counters = &view.counters;
        words[COUNTERS_FIRST..COUNTERS_FIRST + COUNTERS.len()].copy_from_slice(&[
            counters.messages_accepted,
            counters.messages_duplicate,
            counters.messages_gap,
            counters.messages_id_conflict,
            counters.inputs,
            counters.turns,
            counters.commits,
            counters.commit_retries,
        ]);
        let times = &mut words[TIMES_FIRST..TIMES_FIRST + TIMES.len()];
        for (five, of) in times
            .chunks_exact_mut(5)
            .zip([view.times.turn, view.times.chat])
        {
            five.copy_from_slice(&[of.p50_us, of.p99_us, of.p999_us, of.p9999_us, of.max_us]);
        }
        for reason in Reason::ALL {
            words[REFUSED_FIRST + usize::from(reason.code())] =
                counters.refused.get(reason.name()).copied().unwrap_or(0);
        }
        Self(words)
    }

    /// As a control page shows it now; `None` while the backend writes, or if it died while writing.
    #[must_use]
    pub fn read(control: &shm_bus::Control) -> Option<Self> {
        let mut words = [0; WORDS];
        control.ledger(&mut words)?;
        Some(Self(words))
    }

    /// For the control page.
    #[must_use]
    pub const fn words(&self) -> &[u64] {
        &self.0
    }

    /// The loss ledger.
    #[must_use]
    pub const fn ledger(&self) -> Ledger {
        Ledger {
            to_agent: self.account(0),
            to_visitor: self.account(4),
        }
    }

    const fn account(&self, first: usize) -> Account {
        Account {
            accepted: self.0[first],
            delivered: self.0[first + 1],
            pending: self.0[first + 2],
            expired: self.0[first + 3],
        }
    }

    /// [`COUNTERS`] with their values.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        COUNTERS
            .into_iter()
            .zip(self.0[COUNTERS_FIRST..].iter().copied())
    }

    /// [`TIMES`] with their values.
    pub fn times(&self) -> impl Iterator<Item = (&'static str, u64)> {
        TIMES.into_iter().zip(self.0[TIMES_FIRST..].iter().copied())
    }

    /// Refusals by the reason's name, those that happened.
    pub fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Reason::ALL
            .iter()
            .map(|reason| {
                (
                    reason.name(),
                    self.0[REFUSED_FIRST + usize::from(reason.code())],
                )
            })
            .filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_says_what_the_view_says() {
        let mut view = LiveView::default();
        view.ledger.to_agent = Account {
            accepted: 10,
            delivered: 6,
            pending: 3,
            expired: 1,
        };
        view.ledger.to_visitor.accepted = 7;
        view.counters.commit_retries = 9;
        view.counters.messages_accepted = 17;
        view.times.turn.p50_us = 41;
        view.times.chat.max_us = 903;
        view.counters.refused.insert(Reason::Busy.name(), 4);
        let board = Board::of(&view);
        assert_eq!(board.ledger(), view.ledger);
        assert_eq!(board.counters().next(), Some(("messages_accepted", 17)));
        assert_eq!(board.counters().last(), Some(("commit_retries", 9)));
        assert_eq!(board.times().next(), Some(("turn_us_p50", 41)));
        assert_eq!(board.times().last(), Some(("chat_us_max", 903)));
        assert_eq!(board.refused().collect::<Vec<_>>(), [("busy", 4)]);
    }
}
