//! Planted bugs. A test that never failed proves nothing: with the feature `mutants` one of the bugs below can be planted
//! for the running thread, and the whole-system simulator (`fuzz`) has to find it. Each is one line at its place, in this
//! crate or in those above it. Without the feature [`is_planted`] is `false` at compile time, and none of them exists.

/// Every bug that can be planted, and what it breaks.
pub const MUTANTS: &[(&str, &str)] = &[
    (
        "accept_a_gap",
        "a send that skips a number is accepted: what was skipped comes after it, or never",
    ),
    (
        "acknowledge_before_commit",
        "effects go out before the turn is committed: a kill in between loses what was acknowledged",
    ),
    (
        "capacity_off_by_one",
        "an agent is given one conversation more than the agent can have",
    ),
    (
        "deliver_after_transfer",
        "an agent goes on being sent what belongs to another agent now",
    ),
    (
        "drop_derivable",
        "a message for which a ring has no room counts as sent",
    ),
    (
        "forget_last_on_restart",
        "`last` of a session is not looked up after a restart: a repeat counts as new",
    ),
    (
        "forget_leftovers",
        "a new backend begins behind what its predecessor left in the rings",
    ),
    (
        "forget_to_announce",
        "a connection that speaks before its announcement is never announced to a new backend",
    ),
    (
        "free_send_memory",
        "a connection's memory is given away while the kernel still sends from it",
    ),
    (
        "publish_without_cursor",
        "how far a ring was applied is not stored with what was applied",
    ),
    (
        "release_before_commit",
        "ring space is given back before the turn is committed",
    ),
    (
        "resume_with_ge",
        "a resume takes the message behind the client's cursor for one that the client has",
    ),
    (
        "reuse_generation",
        "a slot is given to the next connection without a new generation",
    ),
];

#[cfg(feature = "mutants")]
mod planted {
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<&'static str>> = const { Cell::new(None) };
    }

    /// Whether this bug is planted for the running thread.
    #[must_use]
    pub fn is_planted(name: &str) -> bool {
        PLANTED.with(|planted| planted.get() == Some(name))
    }

    /// The bug stands as long as this lives.
    #[derive(Debug)]
    pub struct Planting(Option<&'static str>);

    /// Plants a bug for the running thread; what was planted before comes back when the guard goes.
    ///
    /// # Panics
    /// If there is no mutant of this name.
    #[must_use]
    pub fn plant(name: &str) -> Planting {
        let known = super::MUTANTS.iter().find(|(known, _)| *known == name);
        let (name, _) = known.unwrap_or_else(|| panic!("there is no mutant {name}"));
        Planting(PLANTED.with(|planted| planted.replace(Some(name))))
    }

    impl Drop for Planting {
        fn drop(&mut self) {
            PLANTED.with(|planted| planted.set(self.0));
        }
    }
}

#[cfg(feature = "mutants")]
pub use planted::{Planting, is_planted, plant};

/// Never: nothing is planted in what ships.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn is_planted(_name: &str) -> bool {
    false
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use super::*;

    #[test]
    fn a_mutant_stands_in_one_thread_as_long_as_its_guard() {
        assert!(!is_planted("drop_derivable"));
        let planting = plant("drop_derivable");
        assert!(is_planted("drop_derivable") && !is_planted("accept_a_gap"));
        let elsewhere = std::thread::spawn(|| is_planted("drop_derivable"));
        assert!(!elsewhere.join().expect("it only looks"));
        drop(planting);
        assert!(!is_planted("drop_derivable"));
    }

    #[test]
    fn mutants_are_sorted_by_name() {
        assert!(MUTANTS.is_sorted());
    }
}
