//! The first answer to a repeat of long ago: which message a session's number became.
//!
//! There is no index by message id (it would cost each commit a third), and none is needed. Within one conversation
//! the numbers of a session grow with seq, so the place is found by bisection: the nearest message of the session at
//! or below the middle says on which side to go on. Other people's messages stand between, but a stretch that was
//! walked through is never walked again: a search reads each row of the conversation at most once, and in a chat of
//! two a dozen rows or so for each doubling of its length.

use rusqlite::{Connection, OptionalExtension, params};
use tidegate_protocol::Id;

use super::Reader;
use crate::engine::loaded::Sent;
use crate::store::{StoreError, find, rows};

/// Rows that one search reads at most: a tenth of a second. Beyond it the repeat is answered without its seq.
const ROWS_MAX: u64 = 200_000;
/// Conversations of one person that are searched, the newest first.
const CONVERSATIONS_MAX: u32 = 64;

impl Reader {
    /// What became of number `n` of a session; looked for first where the repeat says that it goes, then in all
    /// conversations that are or were last the sender's. `None`: it is not there, or not within [`ROWS_MAX`] rows.
    ///
    /// # Errors
    /// The database's.
    pub fn sent(
        &self,
        principal: Id,
        session: u64,
        n: u64,
        to: Option<Id>,
    ) -> Result<Option<Sent>, StoreError> {
        let mut search = Search {
            connection: &self.connection,
            principal,
            session,
            n,
            rows_left: ROWS_MAX,
        };
        if let Some(to) = to
            && let Some(found) = search.within(to)?
        {
            return Ok(Some(found));
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT id FROM (SELECT id FROM conversation WHERE visitor = ?1 ORDER BY id DESC LIMIT ?2)
             UNION ALL SELECT id FROM (SELECT id FROM conversation WHERE agent = ?1 ORDER BY id DESC LIMIT ?2)",
        )?;
        let conversations = statement
            .query_map(params![rows::blob(principal), CONVERSATIONS_MAX], |row| {
                rows::id(row, 0)
            })?;
        for conversation in conversations {
            let found = search.within(conversation?)?;
            if found.is_some() || search.rows_left == 0 {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

struct Search<'c> {
    connection: &'c Connection,
    principal: Id,
    session: u64,
    n: u64,
    rows_left: u64,
}

impl Search<'_> {
    fn within(&mut self, conversation: Id) -> rusqlite::Result<Option<Sent>> {
        let erased = find::erased(self.connection, conversation)?;
        let (mut low, mut high) = (
            erased + 1,
            find::seq(self.connection, conversation, erased)?,
        );
        while low <= high && self.rows_left > 0 {
            let middle = low + (high - low) / 2;
            let nearest = self.nearest(conversation, low, middle)?;
            let walked = nearest.map_or(middle - low, |(_, sent)| middle - sent.seq) + 1;
            self.rows_left = self.rows_left.saturating_sub(walked);
            match nearest {
                Some((n, sent)) if n == self.n => return Ok(Some(sent)),
                Some((n, sent)) if n > self.n => high = sent.seq - 1,
                // Of a smaller number, or nothing of this session: all up to the middle is before it.
                Some(_) | None => low = middle + 1,
            }
        }
        Ok(None)
    }

    /// The newest message of the session with `low <= seq <= middle`, and its number.
    fn nearest(
        &self,
        conversation: Id,
        low: u64,
        middle: u64,
    ) -> rusqlite::Result<Option<(u64, Sent)>> {
        self.connection
            .prepare_cached(
                "SELECT conversation, seq, at_us, body_hash, n FROM message
                 WHERE conversation = ?1 AND seq BETWEEN ?2 AND ?3 AND session = ?4 AND sender = ?5 AND n > 0
                 ORDER BY seq DESC LIMIT 1",
            )?
            .query_row(
                params![
                    rows::blob(conversation),
                    low.cast_signed(),
                    middle.cast_signed(),
                    self.session.cast_signed(),
                    rows::blob(self.principal)
                ],
                |row| {
                    let sent = Sent {
                        conversation: rows::id(row, 0)?,
                        seq: rows::bits(row, 1)?,
                        at_us: rows::bits(row, 2)?,
                        body_hash: rows::bits(row, 3)?,
                    };
                    Ok((rows::bits(row, 4)?, sent))
                },
            )
            .optional()
    }
}
