//! Lists of conversations, search in them, and who may read which.

use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, params, params_from_iter, types::Value};
use tidegate_protocol::Id;

use super::{PAGE_ROWS_MAX, Reader};
use crate::engine::kinds::{Content, Role, Status};
use crate::engine::loaded::LoadedConversation;
use crate::engine::rows::{ConversationRow, VisitorRow};
use crate::store::{StoreError, find, rows};

/// Bytes of a search at most.
pub const QUERY_BYTES_MAX: usize = 200;
/// How long one page of a search may look; what was not reached is behind the page's cursor.
const SEARCH_MS_MAX: u64 = 250;
/// Conversations fetched at a time while searching.
const SEARCH_STEP_ROWS: u32 = 200;

/// Which conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// An agent's open ones.
    Mine(Id),
    /// In the queue, the head first.
    Waiting,
    /// Whatever the state, the newest first: an agent's, or all.
    All(Option<Id>),
    /// Closed, the newest first: an agent's, or all.
    Closed(Option<Id>),
    /// A visitor's, the newest first.
    OfVisitor(Id),
}

/// A page of a list.
#[derive(Debug, Clone)]
pub struct ListQuery {
    /// Which.
    pub filter: Filter,
    /// Only those whose visitor's name, page or texts contain this; empty = all.
    pub search: String,
    /// Where the last page ended ([`ListedPage::next`]); `None` = from the start.
    pub cursor: Option<Id>,
    /// At most, and at most [`PAGE_ROWS_MAX`].
    pub limit: u32,
}

/// A conversation as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedConversation {
    /// Row, marks, highest seq, newest text.
    pub state: LoadedConversation,
    /// The visitor; `None` when erased.
    pub visitor: Option<VisitorRow>,
    /// The agent's name now; empty without an agent.
    pub agent_name: String,
    /// Visitor's texts that the agent's side has not read.
    pub unread: u64,
}

/// A page.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListedPage {
    /// In the filter's order.
    pub conversations: Vec<ListedConversation>,
    /// Where to go on; `None` = that was all.
    pub next: Option<Id>,
}

impl Reader {
    /// A page of a list or of a search.
    ///
    /// # Errors
    /// The database's.
    pub fn conversations(&self, query: &ListQuery) -> Result<ListedPage, StoreError> {
        let limit = query.limit.clamp(1, PAGE_ROWS_MAX) as usize;
        let deadline = Instant::now() + Duration::from_millis(SEARCH_MS_MAX);
        let searching = !query.search.is_empty();
        let step = if searching {
            SEARCH_STEP_ROWS
        } else {
            query.limit.clamp(1, PAGE_ROWS_MAX)
        };
        let mut page = ListedPage {
            next: query.cursor,
            ..ListedPage::default()
        };
        loop {
            let candidates = self.candidates(query.filter, page.next, step)?;
            let was_last = candidates.len() < step as usize;
            for row in candidates {
                page.next = Some(row.id);
                if !searching || self.matches(&row, &query.search)? {
                    page.conversations.push(self.listed(row)?);
                    if page.conversations.len() == limit {
                        return Ok(page);
                    }
                }
                if searching && Instant::now() > deadline {
                    return Ok(page);
                }
            }
            if was_last {
                page.next = None;
                return Ok(page);
            }
        }
    }

    /// Rows of a filter beyond a cursor.
    fn candidates(
        &self,
        filter: Filter,
        cursor: Option<Id>,
        limit: u32,
    ) -> Result<Vec<ConversationRow>, StoreError> {
        // The queue's order is its own; beyond a member of it comes what is ordered behind that member.
        let (condition, order, owner) = match filter {
            Filter::Mine(agent) => ("agent = ?3 AND status = 1 AND id < ?1", "id DESC", Some(agent)),
            Filter::Waiting => (
                "site_id = ?3 AND status = 0 AND (queue_order, id) >
                 (coalesce((SELECT queue_order FROM conversation WHERE id = ?1), -9223372036854775807), ?1)",
                "queue_order, id",
                None,
            ),
            Filter::All(Some(agent)) => ("agent = ?3 AND id < ?1", "id DESC", Some(agent)),
            Filter::All(None) => ("site_id = ?3 AND id < ?1", "id DESC", None),
            Filter::Closed(Some(agent)) => ("agent = ?3 AND status = 2 AND id < ?1", "id DESC", Some(agent)),
            Filter::Closed(None) => ("site_id = ?3 AND status = 2 AND id < ?1", "id DESC", None),
            Filter::OfVisitor(visitor) => ("visitor = ?3 AND id < ?1", "id DESC", Some(visitor)),
        };
        let start = if filter == Filter::Waiting {
            Id(0)
        } else {
            Id(u128::MAX)
        };
        let owner = owner.map_or(Value::from(self.site_id), |id| {
            Value::from(rows::blob(id).to_vec())
        });
        let bound = [
            Value::from(rows::blob(cursor.unwrap_or(start)).to_vec()),
            Value::from(limit),
            owner,
        ];
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT {} FROM conversation WHERE {condition} ORDER BY {order} LIMIT ?2",
            rows::CONVERSATION
        ))?;
        let found = statement
            .query_map(params_from_iter(bound), rows::conversation)?
            .collect::<Result<_, _>>()?;
        Ok(found)
    }

    fn matches(&self, row: &ConversationRow, search: &str) -> Result<bool, StoreError> {
        let needle = search.to_lowercase();
        if row.page.to_lowercase().contains(&needle) || row.visitor.to_string().starts_with(&needle)
        {
            return Ok(true);
        }
        if let Some(visitor) = find::visitor(&self.connection, row.visitor)?
            && visitor.name.to_lowercase().contains(&needle)
        {
            return Ok(true);
        }
        let found: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT 1 FROM whole_message WHERE conversation = ?1 AND content = ?2
                 AND (instr(text, ?3) > 0 OR instr(lower(text), ?4) > 0) LIMIT 1",
            )?
            .query_row(
                params![rows::blob(row.id), Content::Text.code(), search, needle],
                |row| row.get(0),
            )
            .optional()?;
        Ok(found.is_some())
    }

    fn listed(&self, row: ConversationRow) -> Result<ListedConversation, StoreError> {
        let agent_name = match row.agent {
            Some(agent) => self
                .connection
                .prepare_cached("SELECT name FROM agent WHERE id = ?1")?
                .query_row([rows::blob(agent)], |row| row.get(0))
                .optional()?
                .unwrap_or_default(),
            None => String::new(),
        };
        let visitor = find::visitor(&self.connection, row.visitor)?;
        let state = find::with_state(&self.connection, row)?;
        let read = state.marks.agent_read;
        let unread =
            find::pending(&self.connection, state.row.id, state.seq, read, state.seq)?.to_agent;
        Ok(ListedConversation {
            state,
            visitor,
            agent_name,
            unread,
        })
    }

    /// One conversation as lists show it.
    ///
    /// # Errors
    /// The database's.
    pub fn conversation(&self, id: Id) -> Result<Option<ListedConversation>, StoreError> {
        match find::conversation(&self.connection, id)? {
            Some(row) => Ok(Some(self.listed(row)?)),
            None => Ok(None),
        }
    }

    /// Only the row.
    ///
    /// # Errors
    /// The database's.
    pub fn conversation_row(&self, id: Id) -> Result<Option<ConversationRow>, StoreError> {
        Ok(find::conversation(&self.connection, id)?)
    }

    /// The visitor's conversation that was begun last, whatever its state.
    ///
    /// # Errors
    /// The database's.
    pub fn newest_of_visitor(&self, visitor: Id) -> Result<Option<ConversationRow>, StoreError> {
        Ok(self.candidates(Filter::OfVisitor(visitor), None, 1)?.pop())
    }

    /// May they read it? Visitors: their own. Supervisors: all. Agents: those that are or were last theirs, the
    /// waiting ones, and the earlier ones of a visitor whom they serve at this moment.
    ///
    /// # Errors
    /// The database's.
    pub fn may_read(&self, who: Id, role: Role, row: &ConversationRow) -> Result<bool, StoreError> {
        match role {
            Role::Visitor => Ok(row.visitor == who),
            Role::Supervisor => Ok(true),
            Role::Agent => {
                if row.agent == Some(who) || row.status == Status::Waiting {
                    return Ok(true);
                }
                let serves: Option<i64> = self
                    .connection
                    .prepare_cached(
                        "SELECT 1 FROM conversation WHERE agent = ?1 AND status = 1 AND visitor = ?2 LIMIT 1",
                    )?
                    .query_row(params![rows::blob(who), rows::blob(row.visitor)], |row| row.get(0))
                    .optional()?;
                Ok(serves.is_some())
            }
            Role::Bot | Role::System => Ok(false),
        }
    }
}
