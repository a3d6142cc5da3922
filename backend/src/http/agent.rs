//! What agents ask: `/api/agent/…`. Lists and history come from the readers, whatever is live from the turn.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidegate_protocol::limits::MESSAGE_TEXT_BYTES_MAX;
use tidegate_protocol::token::{self, Claims};
use tidegate_protocol::{Id, fb};

use super::identity::{Agent, ClientAddress};
use super::problem::Problem;
use super::request::{Fields, Parameters, path_id};
use super::visitor::{conversation_answer, no_such_conversation, page, send};
use super::{HttpState, json};
use crate::app::command::{AgentView, HttpAnswer, HttpCommand};
use crate::auth;
use crate::engine::is_text;
use crate::engine::kinds::{AgentStatus, Reason, Role};
use crate::engine::rows::{AgentRow, CannedReplyRow};
use crate::store::read::{Filter, ListQuery, ListedPage, PAGE_ROWS_MAX, QUERY_BYTES_MAX};

/// Rows of a list unless the client says otherwise.
const LIST_ROWS: u64 = 50;
/// Bytes of a login name at most.
pub const LOGIN_BYTES_MAX: usize = 64;
/// Bytes of a canned reply's shortcut at most.
const SHORTCUT_BYTES_MAX: usize = 32;
/// Canned replies that one agent may keep.
const CANNED_REPLIES_MAX: usize = 200;
/// Earlier conversations that a visitor's profile shows.
const EARLIER_ROWS: u32 = 20;

/// When a login counts as issued: now, but never before the account's tokens are valid. A password that was set while
/// the wall clock was ahead would else lock its owner out until the clock is there again.
fn issued_at_s(now_s: u64, row: &AgentRow) -> u64 {
    now_s.max(row.tokens_valid_from_s)
}

/// `POST /api/agent/login`.
pub async fn login(
    State(state): State<Arc<HttpState>>,
    ClientAddress(address): ClientAddress,
    uri: Uri,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let user = fields.text("user")?.trim().to_lowercase();
    let password = fields.text("password")?.to_owned();
    if user.len() > LOGIN_BYTES_MAX {
        return Err(Problem::field(
            "user",
            format!("`user` has at most {LOGIN_BYTES_MAX} bytes"),
        ));
    }
    let now_us = auth::elapsed_us();
    let too_many = |wait_s| Problem::rate_limited("too many failed logins; wait a little", wait_s);
    state
        .limits
        .logins_by_address
        .take(&address, now_us)
        .map_err(too_many)?;
    state
        .limits
        .logins_by_user
        .take(&user, now_us)
        .map_err(too_many)?;
    let login = user.clone();
    let row = state
        .readers
        .ask(move |reader| reader.agent_by_login(&login))?
        .await?;
    // A disabled account is checked like an unknown one: the answer tells neither from a wrong password.
    let row = row.filter(|row| !row.disabled);
    let good = state
        .checker
        .check(password, row.as_ref().map(|row| row.password_hash.clone()))
        .await?;
    let (Some(row), true) = (row, good) else {
        state
            .counters
            .logins_refused
            .fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%address, "login refused");
        return Err(Problem::new(Reason::BadToken, "user or password is wrong"));
    };
    state.limits.logins_by_address.give_back(&address);
    state.limits.logins_by_user.give_back(&user);
    let iat = issued_at_s(auth::now_s(), &row);
    let claims = Claims {
        sub: row.id,
        role: if row.role == Role::Supervisor {
            fb::Role::Supervisor
        } else {
            fb::Role::Agent
        },
        wid: 0,
        name: row.name.clone(),
        sid: state.config.site_id,
        iat,
        exp: iat + state.config.agent_token_ttl_s,
    };
    tracing::info!(agent = %row.id, "agent logged in");
    json::ok(&json!({
        "token": token::mint(&claims, &state.key),
        "expires_at": claims.exp,
        "ws_url": state.ws_url(&uri, &headers),
        "agent": profile(&row),
    }))
}

/// What an agent may know of their own account.
pub fn profile(row: &AgentRow) -> serde_json::Value {
    json!({
        "id": row.id.to_string(),
        "user": row.login,
        "name": row.name,
        "role": row.role.name(),
        "capacity": row.capacity,
    })
}

/// An agent as the others see them.
pub fn presence(view: &AgentView) -> serde_json::Value {
    json!({
        "id": view.id.to_string(),
        "name": view.name,
        "role": view.role.name(),
        "status": view.status.name(),
        "open": view.open,
        "capacity": view.capacity,
        "disabled": view.disabled,
    })
}

/// `GET /api/agent/me`.
pub async fn me(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let live = state.turn.live();
    let view = live.agents.iter().find(|view| view.id == agent.actor.id);
    json::ok(&json!({
        "agent": agent.row.as_ref().map(profile),
        "presence": view.map(presence),
        "ws_url": state.ws_url(&uri, &headers),
    }))
}

/// `GET /api/agent/agents`: to whom one may transfer.
pub async fn agents(
    State(state): State<Arc<HttpState>>,
    _agent: Agent,
) -> Result<Response, Problem> {
    let live = state.turn.live();
    let agents: Vec<_> = live
        .agents
        .iter()
        .filter(|view| !view.disabled)
        .map(presence)
        .collect();
    json::ok(&json!({ "agents": agents }))
}

#[derive(Serialize)]
struct ListBody {
    conversations: Vec<Box<RawValue>>,
    /// Give it back as `cursor`; absent = that was all.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// `GET /api/agent/conversations`.
pub async fn conversations(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let me = agent.actor.id;
    let own = (agent.actor.role != Role::Supervisor).then_some(me);
    let filter = match parameters.text("filter").unwrap_or("mine") {
        "mine" => Filter::Mine(me),
        "waiting" => Filter::Waiting,
        "all" => Filter::All(own),
        "closed" => Filter::Closed(own),
        _ => {
            return Err(Problem::field(
                "filter",
                "`filter` is mine, waiting, all or closed",
            ));
        }
    };
    let limit = parameters.number("limit", LIST_ROWS, 1, u64::from(PAGE_ROWS_MAX))?;
    let search = parameters.text("q").unwrap_or_default().to_owned();
    if search.len() > QUERY_BYTES_MAX {
        return Err(Problem::field(
            "q",
            format!("`q` has at most {QUERY_BYTES_MAX} bytes"),
        ));
    }
    let query = ListQuery {
        filter,
        search,
        cursor: parameters.id("cursor")?,
        limit: u32::try_from(limit).unwrap_or(PAGE_ROWS_MAX),
    };
    let first_page = query.cursor.is_none() && query.search.is_empty();
    let found = state
        .readers
        .ask(move |reader| reader.conversations(&query))?
        .await?;
    let live = if first_page {
        live_views(&state, &agent, filter).await?
    } else {
        HashMap::new()
    };
    json::ok(&ListBody {
        next: json::id(found.next),
        conversations: rows(&state, &found, &live)?,
    })
}

/// What only the turn knows (place in the queue, who is connected, marks to the moment), for what it has open.
async fn live_views(
    state: &HttpState,
    agent: &Agent,
    filter: Filter,
) -> Result<HashMap<Id, crate::app::command::ConversationView>, Problem> {
    let by = agent.actor.clone();
    let command = match filter {
        Filter::Mine(_) => HttpCommand::FindMine { by },
        Filter::Waiting => HttpCommand::FindWaiting {
            by,
            limit: PAGE_ROWS_MAX,
        },
        Filter::All(_) | Filter::Closed(_) | Filter::OfVisitor(_) => return Ok(HashMap::new()),
    };
    let HttpAnswer::Conversations(views) = state.turn.call(command).await? else {
        return Err(Problem::internal(
            &"the turn answered a list with something else",
        ));
    };
    Ok(views
        .into_iter()
        .map(|view| (view.conversation, view))
        .collect())
}

fn rows(
    state: &HttpState,
    found: &ListedPage,
    live: &HashMap<Id, crate::app::command::ConversationView>,
) -> Result<Vec<Box<RawValue>>, Problem> {
    let now = state.turn.live();
    found
        .conversations
        .iter()
        .map(|listed| {
            let object = match live.get(&listed.state.row.id) {
                Some(view) => json::view(view, now.at_us)?,
                None => json::listed(listed, now.incarnation, now.at_us)?,
            };
            json::ListRow {
                state: object,
                unread: listed.unread,
            }
            .flat()
        })
        .collect()
}

/// `GET /api/agent/unread-messages`.
pub async fn unread(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
) -> Result<Response, Problem> {
    let query = ListQuery {
        filter: Filter::Mine(agent.actor.id),
        search: String::new(),
        cursor: None,
        limit: PAGE_ROWS_MAX,
    };
    let found = state
        .readers
        .ask(move |reader| reader.conversations(&query))?
        .await?;
    let total: u64 = found.conversations.iter().map(|listed| listed.unread).sum();
    let conversations: Vec<_> = found
        .conversations
        .iter()
        .filter(|listed| listed.unread > 0)
        .map(|listed| {
            json!({
                "conversation": listed.state.row.id.to_string(),
                "visitor_name": listed.visitor.as_ref().map_or("", |visitor| visitor.name.as_str()),
                "unread": listed.unread,
                "last_text": listed.state.last_text,
                "last_at_us": listed.state.last_at_us,
            })
        })
        .collect();
    json::ok(&json!({ "total": total, "conversations": conversations }))
}

/// The conversation, if the agent may read it; refused as if it did not exist otherwise.
async fn readable(state: &HttpState, agent: &Agent, id: Id) -> Result<(), Problem> {
    let (who, role) = (agent.actor.id, agent.actor.role);
    let may = state
        .readers
        .ask(move |reader| match reader.conversation_row(id)? {
            Some(row) => reader.may_read(who, role, &row).map(Some),
            None => Ok(None),
        })?
        .await?;
    match may {
        Some(true) => Ok(()),
        Some(false) => Err(Problem::new(
            Reason::Forbidden,
            "this conversation is another agent's",
        )),
        None => Err(no_such_conversation()),
    }
}

/// `GET /api/agent/conversations/{id}/messages`.
pub async fn messages(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let id = path_id(&id)?;
    readable(&state, &agent, id).await?;
    page(&state, agent.actor, id, &parameters).await
}

#[derive(Serialize)]
struct DetailBody {
    conversation: Box<RawValue>,
    visitor: serde_json::Value,
    earlier: Vec<Box<RawValue>>,
}

/// `GET /api/agent/conversations/{id}`: the visitor's profile and their earlier chats.
pub async fn conversation(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = path_id(&id)?;
    readable(&state, &agent, id).await?;
    let found = state
        .readers
        .ask(move |reader| {
            let Some(found) = reader.conversation(id)? else {
                return Ok(None);
            };
            let visitor = found.state.row.visitor;
            let earlier = ListQuery {
                filter: Filter::OfVisitor(visitor),
                search: String::new(),
                cursor: Some(id),
                limit: EARLIER_ROWS,
            };
            Ok(Some((found, reader.conversations(&earlier)?)))
        })?
        .await?;
    let (found, earlier) = found.ok_or_else(no_such_conversation)?;
    let now = state.turn.live();
    let visitor = found.visitor.as_ref().map(|visitor| {
        json!({
            "id": visitor.id.to_string(),
            "name": visitor.name,
            "locale": visitor.locale,
            "family": visitor.family,
            "widget": visitor.widget,
            "created_at_us": visitor.created_at_us,
            "page": found.state.row.page,
            "attributes": {},
        })
    });
    json::ok(&DetailBody {
        conversation: json::listed(&found, now.incarnation, now.at_us)?,
        visitor: visitor.unwrap_or_default(),
        earlier: rows(&state, &earlier, &HashMap::new())?,
    })
}

/// `POST /api/agent/transfer`.
pub async fn transfer(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    fields: Fields,
) -> Result<Response, Problem> {
    let command = HttpCommand::Transfer {
        by: agent.actor,
        conversation: fields.id("conversation")?,
        agent: fields.optional_id("agent")?,
    };
    conversation_answer(&state, command).await
}

/// `POST /api/agent/take`.
pub async fn take(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    fields: Fields,
) -> Result<Response, Problem> {
    let command = HttpCommand::Take {
        by: agent.actor,
        conversation: fields.id("conversation")?,
    };
    conversation_answer(&state, command).await
}

/// `POST /api/agent/close`.
pub async fn close(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    fields: Fields,
) -> Result<Response, Problem> {
    let command = HttpCommand::Close {
        by: agent.actor,
        conversation: Some(fields.id("conversation")?),
    };
    conversation_answer(&state, command).await
}

/// `POST /api/agent/send-message`.
pub async fn send_message(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let conversation = fields.id("conversation")?;
    send(&state, agent.actor, Some(conversation), &headers, &fields).await
}

/// `PUT /api/agent/status`.
pub async fn set_status(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    fields: Fields,
) -> Result<Response, Problem> {
    let status = match fields.text("status")? {
        "online" => AgentStatus::Online,
        "away" => AgentStatus::Away,
        "offline" => AgentStatus::Offline,
        _ => {
            return Err(Problem::field(
                "status",
                "`status` is online, away or offline",
            ));
        }
    };
    let whose = fields.optional_id("agent")?.unwrap_or(agent.actor.id);
    let command = HttpCommand::SetStatus {
        by: agent.actor,
        agent: whose,
        status,
    };
    let HttpAnswer::Agent(view) = state.turn.call(command).await? else {
        return Err(Problem::internal(
            &"the turn answered SetStatus with something else",
        ));
    };
    json::ok(&presence(&view))
}

fn reply(row: &CannedReplyRow) -> serde_json::Value {
    json!({
        "id": row.id.to_string(),
        "shortcut": row.shortcut,
        "text": row.text,
        "shared": row.agent.is_none(),
    })
}

/// `GET /api/agent/canned-replies`: everybody's and one's own.
pub async fn canned_replies(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
) -> Result<Response, Problem> {
    let me = agent.actor.id;
    let found = state
        .readers
        .ask(move |reader| reader.canned_replies(me))?
        .await?;
    json::ok(&json!({ "replies": found.iter().map(reply).collect::<Vec<_>>() }))
}

/// `PUT /api/agent/canned-replies`: the whole new set of one's own; a supervisor's includes everybody's
/// (`shared`). What is left out is removed.
pub async fn put_canned_replies(
    State(state): State<Arc<HttpState>>,
    agent: Agent,
    fields: Fields,
) -> Result<Response, Problem> {
    let me = agent.actor.id;
    let supervisor = agent.actor.role == Role::Supervisor;
    let _alone = state.settings.lock().await;
    let mut kept = state
        .readers
        .ask(move |reader| reader.canned_replies(me))?
        .await?;
    kept.retain(|row| row.agent.is_some() || supervisor);
    let replies = wanted_replies(state.config.site_id, me, supervisor, kept, &fields)?;
    if !replies.is_empty() {
        state
            .turn
            .call(HttpCommand::PutCannedReplies { replies })
            .await?;
    }
    let found = state
        .readers
        .ask(move |reader| reader.canned_replies(me))?
        .await?;
    json::ok(&json!({ "replies": found.iter().map(reply).collect::<Vec<_>>() }))
}

/// The rows that a request asks for: its own as they shall be, and those of `kept` that it left out as removed.
pub fn wanted_replies(
    site_id: u32,
    me: Id,
    supervisor: bool,
    mut kept: Vec<CannedReplyRow>,
    fields: &Fields,
) -> Result<Vec<CannedReplyRow>, Problem> {
    let wanted = fields.optional_array("replies")?.unwrap_or_default();
    if wanted.len() > CANNED_REPLIES_MAX {
        return Err(Problem::field(
            "replies",
            format!("at most {CANNED_REPLIES_MAX} replies can be kept"),
        ));
    }
    let mut replies = Vec::with_capacity(wanted.len() + kept.len());
    for value in wanted {
        let Some(fields) = Fields::from_value(value.clone()) else {
            return Err(Problem::field("replies", "`replies` must be objects"));
        };
        let shared = fields.optional_bool("shared")?.unwrap_or(false);
        if shared && !supervisor {
            // Everybody's replies come with the list that is sent back; a supervisor changes them.
            continue;
        }
        replies.push(wanted_reply(
            site_id,
            &fields,
            &mut kept,
            (!shared).then_some(me),
        )?);
    }
    replies.extend(kept.into_iter().map(|row| CannedReplyRow {
        deleted: true,
        ..row
    }));
    Ok(replies)
}

/// One reply as it shall be; the row that it replaces leaves `kept`.
fn wanted_reply(
    site_id: u32,
    fields: &Fields,
    kept: &mut Vec<CannedReplyRow>,
    owner: Option<Id>,
) -> Result<CannedReplyRow, Problem> {
    let shortcut = fields
        .optional_line("shortcut", SHORTCUT_BYTES_MAX)?
        .unwrap_or_default()
        .to_owned();
    let text = fields.text("text")?.to_owned();
    if !is_text(&text) {
        return Err(Problem::field(
            "text",
            format!("`text` must have 1 to {MESSAGE_TEXT_BYTES_MAX} bytes"),
        ));
    }
    let known = fields.optional_id("id")?.and_then(|id| {
        kept.iter()
            .position(|row| row.id == id && row.agent == owner)
    });
    let id = match known {
        Some(place) => kept.swap_remove(place).id,
        None => auth::random::id().map_err(|error| Problem::internal(&error))?,
    };
    Ok(CannedReplyRow {
        site_id,
        id,
        agent: owner,
        shortcut,
        text,
        deleted: false,
    })
}
