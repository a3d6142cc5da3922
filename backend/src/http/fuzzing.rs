//! Bodies around what a request says: whatever arrives is taken within the bounds, or refused as a problem that its
//! sender can read.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use axum::body::to_bytes;
use axum::http::{HeaderValue, Uri};
use axum::response::IntoResponse;
use serde_json::{Map, Value};
use tidegate_protocol::Id;
use tidegate_protocol::limits::{NAME_BYTES_MAX, PAGE_BYTES_MAX};

use super::origin::AllowList;
use super::problem::Problem;
use super::request::{Fields, Parameters};
use super::{admin, agent, visitor};
use crate::app::command::{Actor, HttpCommand};
use crate::engine::kinds::Role;
use crate::engine::rows::{CannedReplyRow, WidgetRow};

const ME: Id = Id(7);

/// A JSON body, read by the route that the first byte picks.
pub fn http_body(input: &[u8]) {
    let Some((&route, body)) = input.split_first() else {
        return;
    };
    let fields = match Fields::from_bytes(body) {
        Ok(fields) => fields,
        Err(problem) => return readable(problem),
    };
    let outcome = match route % 6 {
        0 => widget(&fields),
        1 => replies(&fields, false),
        2 => replies(&fields, true),
        3 => send(&fields),
        4 => account(&fields),
        _ => acknowledgement(&fields),
    };
    if let Err(problem) = outcome {
        readable(problem);
    }
}

/// An address with parameters, as `GET messages` and the lists read them.
pub fn http_query(input: &[u8]) {
    let Ok(uri) = Uri::try_from([b"/api/visitor/messages?".as_slice(), input].concat()) else {
        return;
    };
    let parameters = match Parameters::of(&uri) {
        Ok(parameters) => parameters,
        Err(problem) => return readable(problem),
    };
    match parameters.number("limit", 50, 1, 200) {
        Ok(limit) => assert!((1..=200).contains(&limit)),
        Err(problem) => readable(problem),
    }
    match parameters.id("conversation") {
        Ok(id) => assert_eq!(id.is_some(), parameters.text("conversation").is_some()),
        Err(problem) => readable(problem),
    }
}

/// What an administrator makes of a widget can be shown, can stand in a header, and asked for twice is the same.
fn widget(fields: &Fields) -> Result<(), Problem> {
    let mut row = WidgetRow {
        site_id: 1,
        id: 3,
        key: "tea".to_owned(),
        name: "tea".to_owned(),
        greeting: String::new(),
        accent: String::new(),
        allowed_origins: Vec::new(),
        settings_json: "{}".to_owned(),
    };
    admin::change(&mut row, fields)?;
    assert!(row.name.len() <= NAME_BYTES_MAX && !row.name.chars().any(char::is_control));
    assert!(row.greeting.len() <= admin::GREETING_BYTES_MAX);
    serde_json::from_str::<Map<String, Value>>(&row.settings_json).expect("settings are an object");
    let ancestors = AllowList::new(&row.allowed_origins).frame_ancestors();
    assert!(
        HeaderValue::from_str(&ancestors).is_ok() && !ancestors.contains([';', ',']),
        "an origin cannot add a policy: {ancestors:?}"
    );
    let shown = visitor::public_widget(&row);
    assert_eq!(
        shown["id"], 3,
        "settings cannot pass for the widget's own members"
    );
    assert_eq!(shown["key"], "tea");
    let mut twice = row.clone();
    admin::change(&mut twice, fields)?;
    assert_eq!(twice, row);
    Ok(())
}

/// An agent's replies stay theirs; what was there before is changed or removed, and never doubled.
fn replies(fields: &Fields, supervisor: bool) -> Result<(), Problem> {
    let kept = [(1, Some(ME)), (2, Some(ME)), (3, None)].map(|(id, agent)| CannedReplyRow {
        site_id: 1,
        id: Id(id),
        agent,
        shortcut: String::new(),
        text: "old".to_owned(),
        deleted: false,
    });
    let kept: Vec<_> = kept
        .into_iter()
        .filter(|row| row.agent.is_some() || supervisor)
        .collect();
    let rows = agent::wanted_replies(1, ME, supervisor, kept.clone(), fields)?;
    for row in &rows {
        assert!(row.agent == Some(ME) || (supervisor && row.agent.is_none()));
        assert!(row.deleted || !row.text.trim().is_empty());
        let same = rows.iter().filter(|other| other.id == row.id).count();
        assert_eq!(same, 1, "{} is written twice", row.id);
    }
    for row in &kept {
        let now = rows.iter().find(|now| now.id == row.id);
        let now = now.expect("what was there is changed or removed");
        assert_eq!(now.agent, row.agent, "a reply keeps its owner");
    }
    Ok(())
}

fn send(fields: &Fields) -> Result<(), Problem> {
    let by = Actor {
        id: ME,
        role: Role::Visitor,
        name: String::new(),
        widget: 1,
    };
    let conversation = fields.optional_id("conversation")?;
    let HttpCommand::Send { page, .. } = visitor::send_command(by, conversation, None, fields)?
    else {
        panic!("a send is a send");
    };
    assert!(page.len() <= PAGE_BYTES_MAX && !page.chars().any(char::is_control));
    Ok(())
}

fn account(fields: &Fields) -> Result<(), Problem> {
    let name = fields.optional_line("name", NAME_BYTES_MAX)?;
    assert!(name.is_none_or(|name| !name.contains('\n')));
    assert_ne!(admin::role(fields)?, Some(Role::Visitor));
    let capacity = admin::capacity(fields)?.unwrap_or(0);
    assert!(u64::from(capacity) <= admin::CAPACITY_MAX);
    fields.optional_bool("disabled")?;
    Ok(())
}

fn acknowledgement(fields: &Fields) -> Result<(), Problem> {
    let id = fields.id("conversation")?;
    assert_eq!(id.to_string().parse(), Ok(id));
    let read = fields.optional_number("read", 0, 1 << 53)?;
    assert!(read.is_none_or(|read| read <= 1 << 53));
    Ok(())
}

/// A refusal is the client's fault, and JSON that says so.
fn readable(problem: Problem) {
    let status = problem.status();
    assert!(status.is_client_error(), "{status}");
    let response = problem.into_response();
    assert_eq!(response.status(), status);
    let body = pin!(to_bytes(response.into_body(), 1 << 20));
    let Poll::Ready(Ok(bytes)) = body.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("a problem is there at once");
    };
    let parsed: Value = serde_json::from_slice(&bytes).expect("a problem is JSON");
    assert_eq!(parsed["status"], status.as_u16());
}
