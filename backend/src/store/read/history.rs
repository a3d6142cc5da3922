//! The messages of one conversation, a page at a time.

use rusqlite::params;
use tidegate_protocol::Id;

use super::{PAGE_ROWS_MAX, Reader};
use crate::engine::rows::{MessageRow, TextRange};
use crate::store::{StoreError, find, rows};

/// Which way to page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The oldest above this seq.
    After(u64),
    /// The newest below this seq.
    Before(u64),
}

/// Messages in the order of their seq, without a hole between them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryPage {
    /// The messages.
    pub messages: Vec<MessageRow>,
    /// What their ranges point into.
    pub text: String,
}

impl HistoryPage {
    /// The text at a range of one of the messages.
    #[must_use]
    pub fn text(&self, range: TextRange) -> &str {
        &self.text[range.start as usize..(range.start + range.bytes) as usize]
    }
}

impl Reader {
    /// A page; at most `limit` and [`PAGE_ROWS_MAX`] messages.
    ///
    /// # Errors
    /// The database's.
    pub fn history(
        &self,
        conversation: Id,
        direction: Direction,
        limit: u32,
    ) -> Result<HistoryPage, StoreError> {
        let limit = limit.min(PAGE_ROWS_MAX);
        let mut page = HistoryPage::default();
        match direction {
            Direction::After(seq) => {
                page.messages = find::messages_above(
                    &self.connection,
                    conversation,
                    seq,
                    limit,
                    &mut page.text,
                )?;
            }
            Direction::Before(seq) => {
                let mut statement = self.connection.prepare_cached(&format!(
                    "SELECT {} FROM message WHERE conversation = ?1 AND seq < ?2 ORDER BY seq DESC LIMIT ?3",
                    rows::MESSAGE
                ))?;
                // A seq above the signed range is above every stored one.
                let below = i64::try_from(seq).unwrap_or(i64::MAX);
                let mut found = statement.query(params![rows::blob(conversation), below, limit])?;
                while let Some(row) = found.next()? {
                    page.messages.push(rows::message(row, &mut page.text)?);
                }
                page.messages.reverse();
            }
        }
        Ok(page)
    }
}
