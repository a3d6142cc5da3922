//! Figures of a span of time, from the conversations' rows.

use rusqlite::params;
use serde::Serialize;
use tidegate_protocol::Id;

use super::Reader;
use crate::store::{StoreError, rows};

/// µs of a day.
const DAY_US: u64 = 24 * 3_600 * 1_000_000;

/// What happened since a moment; the load generator's conversations are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct DayStatistics {
    /// Conversations begun.
    pub opened: u64,
    /// Of these, given to an agent.
    pub assigned: u64,
    /// Of these, closed.
    pub closed: u64,
    /// Of these, left in the queue.
    pub abandoned: u64,
    /// Mean time from the beginning to the first agent; 0 = none yet.
    pub wait_ms_mean: u64,
    /// Longest such time.
    pub wait_ms_max: u64,
    /// Mean time from the first agent to the close; 0 = none yet.
    pub chat_ms_mean: u64,
}

/// Midnight (UTC) before a moment.
#[must_use]
pub const fn day_start_us(now_us: u64) -> u64 {
    now_us - now_us % DAY_US
}

impl Reader {
    /// Figures of the conversations begun since a moment. Costs one pass over them.
    ///
    /// # Errors
    /// The database's.
    pub fn statistics_since(&self, since_us: u64) -> Result<DayStatistics, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT count(*), count(*) FILTER (WHERE first_assigned_at_us > 0), count(*) FILTER (WHERE status = 2),
                 count(*) FILTER (WHERE close_reason = 5),
                 coalesce(avg(first_assigned_at_us - opened_at_us) FILTER (WHERE first_assigned_at_us > 0), 0),
                 coalesce(max(first_assigned_at_us - opened_at_us) FILTER (WHERE first_assigned_at_us > 0), 0),
                 coalesce(avg(closed_at_us - first_assigned_at_us)
                     FILTER (WHERE first_assigned_at_us > 0 AND closed_at_us > 0), 0)
             FROM conversation WHERE id >= ?1 AND site_id = ?2 AND NOT synthetic",
        )?;
        // Ids begin with the ms at which they were made.
        let since = Id(u128::from(since_us / 1_000) << 80);
        let found = statement.query_row(params![rows::blob(since), self.site_id], |row| {
            Ok(DayStatistics {
                opened: rows::bits(row, 0)?,
                assigned: rows::bits(row, 1)?,
                closed: rows::bits(row, 2)?,
                abandoned: rows::bits(row, 3)?,
                wait_ms_mean: milliseconds(row.get(4)?),
                wait_ms_max: rows::bits(row, 5)? / 1_000,
                chat_ms_mean: milliseconds(row.get(6)?),
            })
        })?;
        Ok(found)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of times, at least 0 and far below 2^53"
)]
fn milliseconds(mean_us: f64) -> u64 {
    (mean_us.max(0.0) / 1_000.0).round() as u64
}
