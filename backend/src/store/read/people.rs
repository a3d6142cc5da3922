//! Agents, visitors, widgets, canned replies: settings and profiles by key.

use rusqlite::{OptionalExtension, params};
use tidegate_protocol::Id;

use super::{PAGE_ROWS_MAX, Reader};
use crate::engine::rows::{AgentRow, CannedReplyRow, VisitorRow, WidgetRow};
use crate::store::{StoreError, find, rows};

impl Reader {
    /// By login name.
    ///
    /// # Errors
    /// The database's.
    pub fn agent_by_login(&self, login: &str) -> Result<Option<AgentRow>, StoreError> {
        let found = self
            .connection
            .prepare_cached(&format!(
                "SELECT {} FROM agent WHERE site_id = ?1 AND login = ?2",
                rows::AGENT
            ))?
            .query_row(params![self.site_id, login], rows::agent)
            .optional()?;
        Ok(found)
    }

    /// By id.
    ///
    /// # Errors
    /// The database's.
    pub fn agent(&self, id: Id) -> Result<Option<AgentRow>, StoreError> {
        let found = self
            .connection
            .prepare_cached(&format!("SELECT {} FROM agent WHERE id = ?1", rows::AGENT))?
            .query_row([rows::blob(id)], rows::agent)
            .optional()?;
        Ok(found)
    }

    /// All of the site, by login name.
    ///
    /// # Errors
    /// The database's.
    pub fn agents(&self) -> Result<Vec<AgentRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {} FROM agent WHERE site_id = ?1 ORDER BY login",
            rows::AGENT
        ))?;
        let found = statement
            .query_map([self.site_id], rows::agent)?
            .collect::<Result<_, _>>()?;
        Ok(found)
    }

    /// By the name that pages use.
    ///
    /// # Errors
    /// The database's.
    pub fn widget_by_key(&self, key: &str) -> Result<Option<WidgetRow>, StoreError> {
        let found = self
            .connection
            .prepare_cached(&format!(
                "SELECT {} FROM widget WHERE site_id = ?1 AND key = ?2",
                rows::WIDGET
            ))?
            .query_row(params![self.site_id, key], rows::widget)
            .optional()?;
        Ok(found)
    }

    /// All of the site.
    ///
    /// # Errors
    /// The database's.
    pub fn widgets(&self) -> Result<Vec<WidgetRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {} FROM widget WHERE site_id = ?1 ORDER BY id",
            rows::WIDGET
        ))?;
        let found = statement
            .query_map([self.site_id], rows::widget)?
            .collect::<Result<_, _>>()?;
        Ok(found)
    }

    /// A visitor; `None` until their first conversation.
    ///
    /// # Errors
    /// The database's.
    pub fn visitor(&self, id: Id) -> Result<Option<VisitorRow>, StoreError> {
        Ok(find::visitor(&self.connection, id)?)
    }

    /// What an agent may use: everybody's and their own, by shortcut.
    ///
    /// # Errors
    /// The database's.
    pub fn canned_replies(&self, agent: Id) -> Result<Vec<CannedReplyRow>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {} FROM canned_reply WHERE site_id = ?1 AND (agent IS NULL OR agent = ?2) AND NOT deleted
             ORDER BY shortcut, id LIMIT ?3",
            rows::CANNED_REPLY
        ))?;
        let found = statement
            .query_map(
                params![self.site_id, rows::blob(agent), PAGE_ROWS_MAX],
                rows::canned_reply,
            )?
            .collect::<Result<_, _>>()?;
        Ok(found)
    }
}
