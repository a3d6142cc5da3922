//! The messages of one conversation, a page at a time.

use tidegate_protocol::Id;

use super::{PAGE_BYTES_MAX, PAGE_ROWS_MAX, Reader};
use crate::engine::rows::{MessageRow, TextRange};
use crate::store::StoreError;
use crate::store::find::{self, RunBounds};

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
    /// A page; at most `limit` and [`PAGE_ROWS_MAX`] messages, and not much more than [`PAGE_BYTES_MAX`] of texts.
    ///
    /// # Errors
    /// The database's.
    pub fn history(
        &self,
        conversation: Id,
        direction: Direction,
        limit: u32,
    ) -> Result<HistoryPage, StoreError> {
        let bounds = RunBounds {
            rows_max: limit.min(PAGE_ROWS_MAX),
            text_bytes_max: PAGE_BYTES_MAX,
        };
        let mut page = HistoryPage::default();
        let text = &mut page.text;
        page.messages = match direction {
            Direction::After(seq) => {
                find::messages_above(&self.connection, conversation, seq, bounds, text)?
            }
            Direction::Before(seq) => {
                find::messages_below(&self.connection, conversation, seq, bounds, text)?
            }
        };
        Ok(page)
    }
}
