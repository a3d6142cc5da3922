//! What the readers can be asked. Every read is bounded by a limit of its own and pages by key, never by offset.

mod conversations;
mod export;
mod history;
mod people;
mod sent;
mod statistics;

use rusqlite::Connection;

pub use conversations::{Filter, ListQuery, ListedConversation, ListedPage, QUERY_BYTES_MAX};
pub use export::{ExportRow, ExportedPage};
pub use history::{Direction, HistoryPage};
pub use statistics::{DayStatistics, day_start_us};

use super::StoreError;

/// Rows of a page at most, whatever is asked for.
pub const PAGE_ROWS_MAX: u32 = 500;

/// Bytes of texts in a page of messages; at the bound the page ends, and the next one goes on there.
pub const PAGE_BYTES_MAX: usize = 512 * 1024;

/// A read-only connection on a reader's thread.
pub struct Reader {
    connection: Connection,
    site_id: u32,
}

impl Reader {
    /// Around a connection of [`super::open::Place::open_reader`].
    #[must_use]
    pub const fn new(connection: Connection, site_id: u32) -> Self {
        Self {
            connection,
            site_id,
        }
    }

    /// Runs reads that have to see one and the same commit.
    pub(super) fn in_transaction<T>(
        &self,
        read: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // Dropped at the end: rolled back, which for reads is just the end.
        let _snapshot = self.connection.unchecked_transaction()?;
        read()
    }
}
