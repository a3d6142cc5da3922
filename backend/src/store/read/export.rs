//! Conversations with their figures, for spreadsheets.

use rusqlite::params;
use tidegate_protocol::Id;

use super::{PAGE_ROWS_MAX, Reader};
use crate::engine::kinds::{Content, Role};
use crate::engine::rows::ConversationRow;
use crate::store::{StoreError, rows};

/// One line of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportRow {
    /// The conversation.
    pub conversation: ConversationRow,
    /// The visitor's name; may be empty.
    pub visitor_name: String,
    /// The agent's login name; empty without an agent.
    pub agent_login: String,
    /// The agent's name; empty without an agent.
    pub agent_name: String,
    /// Texts by the visitor.
    pub visitor_messages: u64,
    /// Texts by the agent's side.
    pub agent_messages: u64,
    /// When the agent's side first wrote; 0 = never.
    pub first_answer_at_us: u64,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExportedPage {
    /// Oldest first.
    pub rows: Vec<ExportRow>,
    /// Where to go on; `None` = that was all.
    pub next: Option<Id>,
}

impl Reader {
    /// Conversations with `after < id < below`, oldest first (ids sort by the time they were made); those of the
    /// load generator are left out.
    ///
    /// # Errors
    /// The database's.
    pub fn export(&self, after: Id, below: Id) -> Result<ExportedPage, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {}, coalesce((SELECT name FROM visitor WHERE visitor.id = conversation.visitor), ''),
                 coalesce((SELECT login FROM agent WHERE agent.id = conversation.agent), ''),
                 coalesce((SELECT name FROM agent WHERE agent.id = conversation.agent), '')
             FROM conversation WHERE id > ?1 AND id < ?2 AND site_id = ?3 AND NOT synthetic ORDER BY id LIMIT ?4",
            rows::CONVERSATION
        ))?;
        let mut found = statement.query(params![
            rows::blob(after),
            rows::blob(below),
            self.site_id,
            PAGE_ROWS_MAX
        ])?;
        let mut page = ExportedPage::default();
        while let Some(row) = found.next()? {
            page.rows.push(ExportRow {
                conversation: rows::conversation(row)?,
                visitor_name: row.get(14)?,
                agent_login: row.get(15)?,
                agent_name: row.get(16)?,
                visitor_messages: 0,
                agent_messages: 0,
                first_answer_at_us: 0,
            });
        }
        for row in &mut page.rows {
            self.count_messages(row)?;
        }
        if page.rows.len() == PAGE_ROWS_MAX as usize {
            page.next = page.rows.last().map(|row| row.conversation.id);
        }
        Ok(page)
    }

    fn count_messages(&self, row: &mut ExportRow) -> Result<(), StoreError> {
        let mut statement = self.connection.prepare_cached(
            // What a bot said is nobody's answer.
            "SELECT count(*) FILTER (WHERE sender_role = ?2), count(*) FILTER (WHERE sender_role NOT IN (?2, ?4)),
                 coalesce(min(at_us) FILTER (WHERE sender_role NOT IN (?2, ?4)), 0)
             FROM message WHERE conversation = ?1 AND content = ?3",
        )?;
        let bound = params![
            rows::blob(row.conversation.id),
            Role::Visitor.code(),
            Content::Text.code(),
            Role::Bot.code()
        ];
        (
            row.visitor_messages,
            row.agent_messages,
            row.first_answer_at_us,
        ) = statement.query_row(bound, |found| {
            Ok((
                rows::bits(found, 0)?,
                rows::bits(found, 1)?,
                rows::bits(found, 2)?,
            ))
        })?;
        Ok(())
    }
}
