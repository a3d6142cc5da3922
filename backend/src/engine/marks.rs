//! Marks and registers that merge: twice, late or out of order gives the same answer.
//!
//! [`Marks`] are max-registers, one pair a side. [`Register`] is last-writer-wins by (stamp, node, value): the value
//! is the last tie-breaker, so that even two writers with the same stamp and node agree.

use serde::{Deserialize, Serialize};

use super::clock::Stamp;
use super::kinds::Side;

/// How far a side has received and seen a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SideMarks {
    /// One device of this side acknowledged everything up to here.
    pub delivered: u64,
    /// The side saw everything up to here; never above `delivered`.
    pub read: u64,
}

impl SideMarks {
    /// What an acknowledgement says, with `read ≤ delivered ≤ seq` enforced.
    #[must_use]
    pub fn acknowledged(delivered: u64, read: u64, seq: u64) -> Self {
        let read = read.min(seq);
        Self {
            delivered: delivered.min(seq).max(read),
            read,
        }
    }

    /// The join of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            delivered: self.delivered.max(other.delivered),
            read: self.read.max(other.read),
        }
    }
}

/// Both sides' marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Marks {
    /// The visitor's.
    pub visitor: SideMarks,
    /// The agent's side's.
    pub agent: SideMarks,
}

impl Marks {
    /// One side's.
    #[must_use]
    pub const fn side(&self, side: Side) -> SideMarks {
        match side {
            Side::Visitor => self.visitor,
            Side::Agent => self.agent,
        }
    }

    /// One side's, to change.
    pub const fn side_mut(&mut self, side: Side) -> &mut SideMarks {
        match side {
            Side::Visitor => &mut self.visitor,
            Side::Agent => &mut self.agent,
        }
    }

    /// The join of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            visitor: self.visitor.merge(other.visitor),
            agent: self.agent.merge(other.agent),
        }
    }
}

/// A last-writer-wins register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Register<T> {
    /// When it was written.
    pub stamp: Stamp,
    /// Where.
    pub node: u32,
    /// What.
    pub value: T,
}

impl<T: Ord + Copy> Register<T> {
    /// The later write of the two.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        self.max(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marks() -> impl Strategy<Value = Marks> {
        let side = || (0..9_u64, 0..9_u64).prop_map(|(d, r)| SideMarks::acknowledged(d, r, 9));
        (side(), side()).prop_map(|(visitor, agent)| Marks { visitor, agent })
    }

    fn register() -> impl Strategy<Value = Register<u8>> {
        (0..3_u64, 0..3_u32, 0..3_u8).prop_map(|(stamp, node, value)| Register {
            stamp: Stamp(stamp),
            node,
            value,
        })
    }

    proptest! {
        #[test]
        fn merging_marks_is_commutative_associative_and_idempotent(a in marks(), b in marks(), c in marks()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(a), a);
        }

        #[test]
        fn merging_registers_is_commutative_associative_and_idempotent(
            a in register(), b in register(), c in register()
        ) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(a), a);
        }

        #[test]
        fn read_never_passes_delivered_and_neither_passes_the_conversation(
            d in 0..99_u64, r in 0..99_u64, seq in 0..50_u64, was in marks()
        ) {
            let after = was.visitor.merge(SideMarks::acknowledged(d, r, seq.max(9)));
            prop_assert!(after.read <= after.delivered);
            prop_assert!(after.delivered <= seq.max(9));
        }
    }
}
