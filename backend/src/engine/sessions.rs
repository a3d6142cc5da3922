//! `last` of every session that is alive, in bounded memory: two generations. A session that is used moves to the
//! young generation; when that is full, the old one is forgotten and the young becomes old. What was forgotten is
//! looked up in the store when it sends again. Every entry survives at least `sessions_max / 2` others, so nothing
//! that this turn wrote (and the store does not have yet) can leave before its commit.

use std::collections::HashMap;

use tidegate_protocol::Id;

use super::rows::SessionLastRow;

/// What is kept of a session; zeros when it never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Last {
    /// Highest n accepted.
    pub n: u64,
    /// Hash of its body.
    pub hash: u64,
    /// Its seq.
    pub seq: u64,
    /// When.
    pub at_us: u64,
    /// Where it went.
    pub conversation: Id,
    /// Turn in which its row was last put into the WriteSet, and where: a later send replaces the row.
    pub row_turn: u32,
    /// Index in `WriteSet::sessions`.
    pub row_index: u32,
}

impl Last {
    /// As stored.
    #[must_use]
    pub const fn of_row(row: &SessionLastRow) -> Self {
        Self {
            n: row.last_n,
            hash: row.last_hash,
            seq: row.last_seq,
            at_us: row.last_at_us,
            conversation: row.last_conversation,
            row_turn: 0,
            row_index: 0,
        }
    }
}

/// The cache.
#[derive(Debug)]
pub struct Sessions {
    young: HashMap<(Id, u64), Last>,
    old: HashMap<(Id, u64), Last>,
    half: usize,
}

impl Sessions {
    /// At most `sessions_max` sessions in memory.
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (sessions_max / 2).max(1),
        }
    }

    /// A session's last, if it is in memory.
    pub fn get_mut(&mut self, principal: Id, session: u64) -> Option<&mut Last> {
        let key = (principal, session);
        if !self.young.contains_key(&key) {
            let last = self.old.remove(&key)?;
            self.put(principal, session, last);
        }
        self.young.get_mut(&key)
    }

    /// Keeps one.
    pub fn put(&mut self, principal: Id, session: u64, last: Last) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert((principal, session), last);
    }

    /// How many are in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// None is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut sessions = Sessions::new(100);
        sessions.put(
            Id(1),
            0,
            Last {
                n: 7,
                ..Last::default()
            },
        );
        for session in 1..1_000 {
            sessions.put(Id(1), session, Last::default());
            assert!(sessions.len() <= 100);
            assert_eq!(sessions.get_mut(Id(1), 0).map(|last| last.n), Some(7));
        }
        assert!(sessions.get_mut(Id(1), 1).is_none());
    }

    #[test]
    fn an_entry_survives_half_the_bound_of_others() {
        let mut sessions = Sessions::new(100);
        for session in 0..=50 {
            sessions.put(Id(1), session, Last::default());
        }
        assert!(sessions.get_mut(Id(1), 0).is_some());
    }
}
