//! What visitors and the pages that embed them ask: `/api/visitor/…` and `/api/widget/config`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tidegate_protocol::limits::{NAME_BYTES_MAX, PAGE_BYTES_MAX};
use tidegate_protocol::token::{self, Claims};
use tidegate_protocol::{Id, fb};
use tokio::time::Instant;

use super::identity::{ClientAddress, Visitor};
use super::problem::Problem;
use super::request::{Fields, Parameters};
use super::{HttpState, json};
use crate::app::command::{Actor, HttpAnswer, HttpCommand, SentAnswer};
use crate::auth;
use crate::engine::kinds::{Outcome, Reason, Role};
use crate::engine::rows::WidgetRow;
use crate::store::read::Direction;

/// Messages of a page unless the client says otherwise.
const PAGE_ROWS: u64 = 50;
/// Bytes of an Idempotency-Key at most.
const KEY_BYTES_MAX: usize = 255;
/// Largest number in JSON that every client reads exactly.
const NUMBER_MAX: u64 = tidegate_protocol::limits::JSON_NUMBER_MAX;

/// `POST /api/visitor/token`: a new visitor, or a new token for the visitor of an old one. Writes nothing.
pub async fn token(
    State(state): State<Arc<HttpState>>,
    ClientAddress(address): ClientAddress,
    uri: Uri,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    state
        .limits
        .visitor_tokens
        .take(&address, auth::elapsed_us())
        .map_err(|wait_s| {
            Problem::rate_limited("too many new visitors from this address", wait_s)
        })?;
    let widget = state.widget(fields.optional_text("widget")?.unwrap_or("default"))?;
    let name = fields.optional_line("name", NAME_BYTES_MAX)?;
    let now_s = auth::now_s();
    let old = match fields.optional_text("visitor")? {
        Some(old) => renewable(&state, old, now_s)?,
        None => None,
    };
    let id = match &old {
        Some(claims) => claims.sub,
        None => auth::random::id().map_err(|error| Problem::internal(&error))?,
    };
    let claims = Claims {
        sub: id,
        role: fb::Role::Visitor,
        wid: widget.id,
        name: name.map_or_else(
            || old.map_or_else(String::new, |claims| claims.name),
            str::to_owned,
        ),
        sid: state.config.site_id,
        iat: now_s,
        exp: now_s + state.config.visitor_token_ttl_s,
    };
    let live = state.turn.live();
    json::ok(&json!({
        "token": token::mint(&claims, &state.key),
        "visitor_id": id.to_string(),
        "expires_at": claims.exp,
        "ws_url": state.ws_url(&uri, &headers),
        "widget": public_widget(&widget),
        "agents_online": live.agents_online,
        "answer_eta_ms": live.answer_ms,
    }))
}

/// The claims of an old token: still good, or expired for no longer than a token lives. A token that was not ours
/// is refused: the client then asks for a new visitor, and knows that it is one.
fn renewable(state: &HttpState, old: &str, now_s: u64) -> Result<Option<Claims>, Problem> {
    let bad = || {
        Problem::new(
            Reason::BadToken,
            "`visitor` is no token of this site; leave it out for a new visitor",
        )
    };
    // Signed at any time; its age is looked at below.
    let claims = token::verify(old, &state.key, 0).map_err(|_| bad())?;
    if claims.role != fb::Role::Visitor || claims.sid != state.config.site_id {
        return Err(bad());
    }
    Ok((claims.exp + state.config.visitor_token_ttl_s > now_s).then_some(claims))
}

/// `GET /api/widget/config`: what a page may know before anybody chats.
pub async fn widget_config(
    State(state): State<Arc<HttpState>>,
    uri: Uri,
    headers: HeaderMap,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let widget = state.widget(parameters.text("widget").unwrap_or("default"))?;
    let live = state.turn.live();
    let mut config = public_widget(&widget);
    config.insert("ws_url".to_owned(), state.ws_url(&uri, &headers).into());
    config.insert("agents_online".to_owned(), live.agents_online.into());
    config.insert("answer_eta_ms".to_owned(), live.answer_ms.into());
    json::ok(&config)
}

/// The settings that anybody may read; the widget's own members win over further settings of the same name.
pub fn public_widget(widget: &WidgetRow) -> Map<String, Value> {
    let mut members: Map<String, Value> =
        serde_json::from_str(&widget.settings_json).unwrap_or_default();
    members.insert("id".to_owned(), widget.id.into());
    members.insert("key".to_owned(), widget.key.as_str().into());
    members.insert("name".to_owned(), widget.name.as_str().into());
    members.insert("greeting".to_owned(), widget.greeting.as_str().into());
    members.insert("accent".to_owned(), widget.accent.as_str().into());
    members
}

/// `GET /api/visitor/queue-position`.
pub async fn queue_position(
    State(state): State<Arc<HttpState>>,
    Visitor(by): Visitor,
) -> Result<Response, Problem> {
    let HttpAnswer::Conversation(view) = state.turn.call(HttpCommand::FindOpen { by }).await?
    else {
        return Err(Problem::internal(
            &"the turn answered FindOpen with something else",
        ));
    };
    let live = state.turn.live();
    json::ok(&json!({
        "conversation": view.conversation.to_string(),
        "status": view.status.name(),
        "position": view.position,
        "eta_ms": view.eta_ms,
        "waiting": live.waiting,
        "agents_online": live.agents_online,
        "agent_name": view.agent_name,
    }))
}

/// `POST /api/visitor/send-message`.
pub async fn send_message(
    State(state): State<Arc<HttpState>>,
    Visitor(by): Visitor,
    headers: HeaderMap,
    fields: Fields,
) -> Result<Response, Problem> {
    let conversation = fields.optional_id("conversation")?;
    send(&state, by, conversation, &headers, &fields).await
}

/// Sends a text for a visitor or an agent.
pub async fn send(
    state: &HttpState,
    by: Actor,
    conversation: Option<Id>,
    headers: &HeaderMap,
    fields: &Fields,
) -> Result<Response, Problem> {
    let command = send_command(by, conversation, key_hash(headers)?, fields)?;
    let HttpAnswer::Sent(SentAnswer {
        outcome,
        conversation,
        seq,
        at_us,
    }) = state.turn.call(command).await?
    else {
        return Err(Problem::internal(
            &"the turn answered Send with something else",
        ));
    };
    let status = match outcome {
        Outcome::Accepted => StatusCode::CREATED,
        Outcome::Duplicate => StatusCode::OK,
        Outcome::IdConflict => {
            return Err(Problem::with_status(
                StatusCode::UNPROCESSABLE_ENTITY,
                Reason::InvalidState,
                "this Idempotency-Key was used with another text: use a new key for a new message",
            ));
        }
        Outcome::Gap | Outcome::Busy | Outcome::Refused => {
            return Err(Problem::internal(&format!(
                "a send over HTTP ended as {}",
                outcome.name()
            )));
        }
    };
    let body = json::ok(&json!({
        "outcome": outcome.name(),
        "conversation": conversation.to_string(),
        "seq": seq,
        "at_us": at_us,
    }))?;
    Ok((status, body).into_response())
}

/// What the body asks for.
pub fn send_command(
    by: Actor,
    conversation: Option<Id>,
    key_hash: Option<u128>,
    fields: &Fields,
) -> Result<HttpCommand, Problem> {
    Ok(HttpCommand::Send {
        by,
        conversation,
        text: fields.text("text")?.to_owned(),
        key_hash,
        page: fields
            .optional_line("page", PAGE_BYTES_MAX)?
            .unwrap_or_default()
            .to_owned(),
    })
}

/// First 128 bits of the SHA-256 of the header's value.
fn key_hash(headers: &HeaderMap) -> Result<Option<u128>, Problem> {
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        let detail = format!("`Idempotency-Key` must have 1 to {KEY_BYTES_MAX} bytes");
        return Err(Problem::field("Idempotency-Key", detail));
    }
    let hash = Sha256::digest(key.as_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&hash[..16]);
    Ok(Some(u128::from_be_bytes(first)))
}

/// `POST /api/visitor/close`.
pub async fn close(
    State(state): State<Arc<HttpState>>,
    Visitor(by): Visitor,
    fields: Fields,
) -> Result<Response, Problem> {
    let conversation = fields.optional_id("conversation")?;
    conversation_answer(&state, HttpCommand::Close { by, conversation }).await
}

/// Has the turn do something that ends in the new state of a conversation.
pub async fn conversation_answer(
    state: &HttpState,
    command: HttpCommand,
) -> Result<Response, Problem> {
    let HttpAnswer::Conversation(view) = state.turn.call(command).await? else {
        return Err(Problem::internal(
            &"the turn answered with something other than a conversation",
        ));
    };
    json::ok(&json::view(&view, state.turn.live().at_us)?)
}

/// `GET /api/visitor/messages`.
pub async fn messages(
    State(state): State<Arc<HttpState>>,
    Visitor(by): Visitor,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let asked = parameters.id("conversation")?;
    let visitor = by.id;
    let row = state
        .readers
        .ask(move |reader| match asked {
            Some(conversation) => reader.conversation_row(conversation),
            None => reader.newest_of_visitor(visitor),
        })?
        .await?;
    // Another visitor's conversation looks like one that does not exist.
    let row = row.filter(|row| row.visitor == by.id);
    match (row, asked) {
        (Some(row), _) => page(&state, by, row.id, &parameters).await,
        (None, Some(_)) => Err(no_such_conversation()),
        (None, None) => json::ok(&json!({
            "conversation": null, "incarnation": state.turn.live().incarnation, "state": null, "messages": [],
        })),
    }
}

/// The refusal that does not say whether the conversation exists.
pub fn no_such_conversation() -> Problem {
    Problem::new(
        Reason::NoSuchConversation,
        "there is no such conversation of yours",
    )
}

#[derive(Serialize)]
struct MessagesBody {
    conversation: String,
    incarnation: u64,
    state: Box<RawValue>,
    /// The first seq that there is: retention removes from the front.
    begins: u64,
    messages: Vec<Box<RawValue>>,
}

/// One page of a conversation that the caller may read. With `wait`: as soon as there is something above `after`.
pub async fn page(
    state: &HttpState,
    by: Actor,
    conversation: Id,
    parameters: &Parameters,
) -> Result<Response, Problem> {
    let limit = parameters.number(
        "limit",
        PAGE_ROWS,
        1,
        u64::from(crate::store::read::PAGE_ROWS_MAX),
    )?;
    let limit = u32::try_from(limit).unwrap_or(crate::store::read::PAGE_ROWS_MAX);
    let after = parameters.optional_number("after", 0, NUMBER_MAX)?;
    let before = parameters.optional_number("before", 0, NUMBER_MAX)?;
    let read_mark = parameters.optional_number("read", 0, NUMBER_MAX)?;
    let wait_s = parameters
        .number("wait", 0, 0, u64::MAX)?
        .min(state.config.long_poll_s_max);
    let direction = match (after, before) {
        (Some(_), Some(_)) => {
            return Err(Problem::field(
                "before",
                "say `after` or `before`, not both",
            ));
        }
        (Some(seq), None) => Direction::After(seq),
        (None, Some(seq)) => Direction::Before(seq),
        // Neither: the newest page. With `wait` there must be something to be newer than.
        (None, None) if wait_s > 0 => Direction::After(0),
        (None, None) => Direction::Before(NUMBER_MAX),
    };
    acknowledge(
        state,
        &by,
        conversation,
        after.unwrap_or(0),
        read_mark.unwrap_or(0),
    )
    .await?;
    let deadline = Instant::now() + Duration::from_secs(wait_s);
    // Subscribed before the first look: nothing falls between.
    let poll = if wait_s > 0 {
        state.polls.clone().try_acquire_owned().ok()
    } else {
        None
    };
    let mut news = poll
        .as_ref()
        .and_then(|_| state.turn.watch_conversation(conversation));
    loop {
        let (found, page) = state
            .readers
            .ask(move |reader| {
                Ok((
                    reader.conversation(conversation)?,
                    reader.history(conversation, direction, limit)?,
                ))
            })?
            .await?;
        let found = found.ok_or_else(no_such_conversation)?;
        if page.messages.is_empty()
            && let Some(changed) = &mut news
        {
            tokio::select! {
                told = tokio::time::timeout_at(deadline, changed.changed()) => {
                    if matches!(told, Ok(Ok(()))) {
                        continue;
                    }
                }
                () = state.stopping() => {}
            }
        }
        let live = state.turn.live();
        return json::ok(&MessagesBody {
            conversation: conversation.to_string(),
            incarnation: live.incarnation,
            state: json::listed(&found, live.incarnation, live.at_us)?,
            begins: found.state.erased + 1,
            messages: json::messages(&page)?,
        });
    }
}

/// What a client says that it has is a cumulative acknowledgement, as Ack is on the socket.
async fn acknowledge(
    state: &HttpState,
    by: &Actor,
    conversation: Id,
    after: u64,
    read: u64,
) -> Result<(), Problem> {
    let delivered = after.max(read);
    if delivered == 0 {
        return Ok(());
    }
    // A supervisor who looks into somebody else's chat acknowledges nothing, and an agent only in their own.
    let agent = by.id;
    let role = by.role;
    let marks = state
        .readers
        .ask(move |reader| {
            Ok(reader.conversation(conversation)?.map(|found| match role {
                Role::Visitor => (
                    true,
                    found.state.marks.visitor_delivered,
                    found.state.marks.visitor_read,
                ),
                _ => (
                    found.state.row.agent == Some(agent),
                    found.state.marks.agent_delivered,
                    found.state.marks.agent_read,
                ),
            }))
        })?
        .await?;
    let Some((true, has_delivered, has_read)) = marks else {
        return Ok(());
    };
    if delivered > has_delivered || read > has_read {
        let command = HttpCommand::Acknowledge {
            by: by.clone(),
            conversation,
            delivered,
            read,
        };
        state.turn.call(command).await?;
    }
    Ok(())
}

/// The host that the client asked for, if it is one.
pub fn asked_host<'h>(uri: &'h Uri, headers: &'h HeaderMap) -> Option<&'h str> {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .or_else(|| uri.host())?;
    let clean =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    (!host.is_empty() && host.len() <= 255 && host.bytes().all(clean)).then_some(host)
}
