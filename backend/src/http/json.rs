//! Messages and conversations as JSON: the very objects of the WebSocket's JSON codec, written by the same code,
//! so that a client reads both with one reader.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use flatbuffers::FlatBufferBuilder;
use serde::Serialize;
use serde_json::value::RawValue;
use tidegate_protocol::codec::json::encode;
use tidegate_protocol::{Id, Kind, fb, message, verify};

use super::problem::Problem;
use crate::app::command::ConversationView;
use crate::store::read::{HistoryPage, ListedConversation};

/// A JSON body that no cache keeps.
pub fn ok(body: &impl Serialize) -> Result<Response, Problem> {
    match serde_json::to_vec(body) {
        Ok(bytes) => Ok(bytes_response(bytes, "application/json")),
        Err(error) => Err(Problem::internal(&error)),
    }
}

/// Bytes that no cache keeps.
pub fn bytes_response(bytes: Vec<u8>, content_type: &'static str) -> Response {
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn object(kind: Kind, timestamp_us: u64, payload: &[u8]) -> Result<Box<RawValue>, Problem> {
    let view = verify(kind, payload).map_err(|error| Problem::internal(&error))?;
    let mut json = Vec::with_capacity(payload.len() * 2);
    encode(&mut json, timestamp_us, &view);
    let text = String::from_utf8(json).map_err(|error| Problem::internal(&error))?;
    RawValue::from_string(text).map_err(|error| Problem::internal(&error))
}

/// A page of messages.
pub fn messages(page: &HistoryPage) -> Result<Vec<Box<RawValue>>, Problem> {
    let mut builder = FlatBufferBuilder::new();
    page.messages
        .iter()
        .map(|row| {
            let message = message::Message {
                conversation: row.conversation,
                seq: row.seq,
                at_us: row.at_us,
                sender_role: fb::Role(row.sender_role.code()),
                sender: row.sender.unwrap_or_default(),
                sender_name: page.text(row.sender_name),
                session: row.session,
                n: row.n,
                content: fb::ContentType(row.content.code()),
                text: page.text(row.text),
                system: fb::SystemEvent(row.system.code()),
                close_reason: fb::CloseReason(row.close_reason.code()),
            };
            object(Kind::Message, row.at_us, message.encode(&mut builder))
        })
        .collect()
}

/// A conversation as the turn sees it.
pub fn view(view: &ConversationView, at_us: u64) -> Result<Box<RawValue>, Problem> {
    let state = message::ConversationState {
        conversation: view.conversation,
        incarnation: view.incarnation,
        status: fb::ConversationStatus(view.status.code()),
        close_reason: fb::CloseReason(view.close_reason.code()),
        seq: view.seq,
        visitor: view.visitor,
        visitor_name: &view.visitor_name,
        visitor_online: view.visitor_online,
        agent: view.agent.unwrap_or_default(),
        agent_name: &view.agent_name,
        opened_at_us: view.opened_at_us,
        assigned_at_us: view.assigned_at_us,
        closed_at_us: view.closed_at_us,
        visitor_delivered: view.visitor_delivered,
        visitor_read: view.visitor_read,
        agent_delivered: view.agent_delivered,
        agent_read: view.agent_read,
        position: view.position,
        eta_ms: view.eta_ms,
        unanswered_since_us: view.unanswered_since_us,
        last_text: &view.last_text,
        last_at_us: view.last_at_us,
        page: &view.page,
        ..Default::default()
    };
    object(
        Kind::ConversationState,
        at_us,
        state.encode(&mut FlatBufferBuilder::new()),
    )
}

/// A conversation as the store has it: without place in the queue, and `visitor_online` is not known.
pub fn listed(
    found: &ListedConversation,
    incarnation: u64,
    at_us: u64,
) -> Result<Box<RawValue>, Problem> {
    let row = &found.state.row;
    let state = message::ConversationState {
        conversation: row.id,
        incarnation,
        status: fb::ConversationStatus(row.status.code()),
        close_reason: fb::CloseReason(row.close_reason.code()),
        seq: found.state.seq,
        visitor: row.visitor,
        visitor_name: found
            .visitor
            .as_ref()
            .map_or("", |visitor| visitor.name.as_str()),
        agent: row.agent.unwrap_or_default(),
        agent_name: &found.agent_name,
        opened_at_us: row.opened_at_us,
        assigned_at_us: row.assigned_at_us,
        closed_at_us: row.closed_at_us,
        visitor_delivered: found.state.marks.visitor_delivered,
        visitor_read: found.state.marks.visitor_read,
        agent_delivered: found.state.marks.agent_delivered,
        agent_read: found.state.marks.agent_read,
        unanswered_since_us: found.state.unanswered_since_us,
        last_text: &found.state.last_text,
        last_at_us: found.state.last_at_us,
        page: &row.page,
        ..Default::default()
    };
    object(
        Kind::ConversationState,
        at_us,
        state.encode(&mut FlatBufferBuilder::new()),
    )
}

/// A row of a list: a conversation and how much of it the agent's side has not read.
#[derive(Serialize)]
pub struct ListRow {
    /// The codec's object.
    pub state: Box<RawValue>,
    /// Visitor's texts that the agent's side has not read.
    pub unread: u64,
}

impl ListRow {
    /// One flat object: the codec's members, then `unread`.
    pub fn flat(&self) -> Result<Box<RawValue>, Problem> {
        let state = self.state.get();
        let open = state.strip_suffix('}').unwrap_or(state);
        let text = format!("{open},\"unread\":{}}}", self.unread);
        RawValue::from_string(text).map_err(|error| Problem::internal(&error))
    }
}

/// An id as JSON carries it; absent is `null`.
pub fn id(id: Option<Id>) -> Option<String> {
    id.map(|id| id.to_string())
}
