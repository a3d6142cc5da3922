//! First answers to what an earlier process committed but did not release: a whole turn of repeats at once. Each
//! conversation is walked back once, and the answers are kept until the leftovers are through. (A repeat that a
//! client sends is looked up by itself: it is near, or it is not worth much.)

use std::collections::{HashMap, HashSet};

use tidegate_protocol::Id;

use crate::engine::loaded::Sent;
use crate::store::{Store, StoreError};

/// Messages walked back in one conversation: what one turn may have committed, both sides, with room to spare.
const WALK_ROWS_MAX: u32 = 16_384;

/// What was found so far. A first answer never changes, so nothing here grows old.
#[derive(Debug, Default)]
pub struct FirstAnswers {
    known: HashMap<(Id, u64, u64), Sent>,
    walked: HashSet<Id>,
}

impl FirstAnswers {
    /// The first answer to (principal, session, n), which went to `to`.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn find<S: Store>(
        &mut self,
        store: &mut S,
        principal: Id,
        session: u64,
        n: u64,
        to: Id,
    ) -> Result<Option<Sent>, StoreError> {
        if self.walked.insert(to) {
            let known = &mut self.known;
            store.walk_back(to, WALK_ROWS_MAX, &mut |sender, session, n, sent| {
                known.insert((sender, session, n), sent);
            })?;
        }
        match self.known.get(&(principal, session, n)) {
            Some(sent) => Ok(Some(*sent)),
            None => store.sent(principal, session, n),
        }
    }
}

/// Messages walked back for one repeat of a client: it repeats only what it was not yet answered.
const NEAR_ROWS_MAX: u32 = 256;

/// The first answer to one repeat: where the repeat says that it goes, else where the session wrote last.
///
/// # Errors
/// If the database cannot be read.
pub fn near<S: Store>(
    store: &mut S,
    principal: Id,
    session: u64,
    n: u64,
    to: Id,
) -> Result<Option<Sent>, StoreError> {
    let mut found = None;
    store.walk_back(to, NEAR_ROWS_MAX, &mut |sender, of, number, sent| {
        if (sender, of, number) == (principal, session, n) {
            found = Some(sent);
        }
    })?;
    if found.is_some() {
        return Ok(found);
    }
    store.sent(principal, session, n)
}
