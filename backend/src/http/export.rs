//! `GET /api/admin/export-sessions`: conversations as CSV (RFC 4180) or JSON Lines, streamed page by page, so that
//! a year of chats costs no more memory than an hour.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_core::Stream;
use serde_json::json;
use tidegate_protocol::Id;
use tokio::sync::mpsc;

use super::HttpState;
use super::identity::Supervisor;
use super::problem::Problem;
use super::request::Parameters;
use super::time::{parse, rfc3339};
use crate::store::StoreError;
use crate::store::read::{ExportRow, ExportedPage};

/// Pages that may wait for a client that reads slowly.
const PAGES_WAITING_MAX: usize = 2;
/// How often a page is asked for again while the readers are busy, and how long between.
const TRIES_MAX: u32 = 50;
const RETRY_MS: u64 = 100;

/// The columns, which are also the members of a JSON line.
const COLUMNS: &str = "conversation,status,close_reason,widget,visitor,visitor_name,agent,agent_user,agent_name,\
    opened_at,first_assigned_at,first_answer_at,closed_at,wait_ms,chat_ms,visitor_messages,agent_messages,page\r\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    JsonLines,
}

/// Streams the conversations begun in `from <= t < to`.
pub async fn export_sessions(
    State(state): State<Arc<HttpState>>,
    _by: Supervisor,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let (format, content_type, name) = match parameters.text("format").unwrap_or("csv") {
        "csv" => (
            Format::Csv,
            "text/csv; charset=utf-8; header=present",
            "sessions.csv",
        ),
        "jsonl" => (
            Format::JsonLines,
            "application/jsonl; charset=utf-8",
            "sessions.jsonl",
        ),
        _ => return Err(Problem::field("format", "`format` is csv or jsonl")),
    };
    let from = moment(&parameters, "from", 0)?;
    let to = moment(&parameters, "to", u64::MAX)?;
    // The first page before the answer begins: what fails here still has a status.
    let (after, below) = (just_before(from), first_id(to));
    let first = state
        .readers
        .ask(move |reader| reader.export(after, below))?
        .await?;
    let (pages, stream) = mpsc::channel(PAGES_WAITING_MAX);
    tokio::spawn(send_pages(Arc::clone(&state), format, first, below, pages));
    let headers = [
        (header::CONTENT_TYPE, content_type.to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((headers, Body::from_stream(Pages(stream))).into_response())
}

fn moment(parameters: &Parameters, name: &'static str, default: u64) -> Result<u64, Problem> {
    match parameters.text(name) {
        None => Ok(default),
        Some(text) => parse(text).ok_or_else(|| {
            Problem::field(
                name,
                format!("`{name}` is 2026-11-21, 2026-11-21T12:00:00Z or Unix seconds"),
            )
        }),
    }
}

/// The smallest id of a moment: ids begin with their ms.
fn first_id(at_us: u64) -> Id {
    let ms = u128::from(at_us / 1_000);
    if ms >= 1 << 48 {
        Id(u128::MAX)
    } else {
        Id(ms << 80)
    }
}

fn just_before(at_us: u64) -> Id {
    Id(first_id(at_us).0.saturating_sub(1))
}

async fn send_pages(
    state: Arc<HttpState>,
    format: Format,
    first: ExportedPage,
    below: Id,
    pages: mpsc::Sender<Result<Bytes, StoreError>>,
) {
    let mut text = if format == Format::Csv {
        COLUMNS.to_owned()
    } else {
        String::new()
    };
    let mut page = first;
    loop {
        for row in &page.rows {
            match format {
                Format::Csv => csv_line(&mut text, row),
                Format::JsonLines => json_line(&mut text, row),
            }
        }
        // A client that went away ends the export.
        if pages
            .send(Ok(Bytes::from(std::mem::take(&mut text))))
            .await
            .is_err()
        {
            return;
        }
        let Some(after) = page.next else { return };
        match next_page(&state, after, below).await {
            Ok(next) => page = next,
            Err(error) => {
                // The body breaks off without its end: the client sees that it is not whole.
                tracing::warn!(%error, "an export broke off");
                let _ = pages.send(Err(error)).await;
                return;
            }
        }
    }
}

async fn next_page(state: &HttpState, after: Id, below: Id) -> Result<ExportedPage, StoreError> {
    let mut tries = 0;
    loop {
        let read = match state.readers.ask(move |reader| reader.export(after, below)) {
            Ok(reading) => reading.await,
            Err(error) => Err(error),
        };
        match read {
            Err(StoreError::Busy(_)) if tries < TRIES_MAX => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(RETRY_MS)).await;
            }
            result => return result,
        }
    }
}

struct Pages(mpsc::Receiver<Result<Bytes, StoreError>>);

impl Stream for Pages {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

fn wait_ms(row: &ExportRow) -> Option<u64> {
    let conversation = &row.conversation;
    (conversation.first_assigned_at_us > 0).then(|| {
        conversation
            .first_assigned_at_us
            .saturating_sub(conversation.opened_at_us)
            / 1_000
    })
}

fn chat_ms(row: &ExportRow) -> Option<u64> {
    let conversation = &row.conversation;
    (conversation.first_assigned_at_us > 0 && conversation.closed_at_us > 0).then(|| {
        conversation
            .closed_at_us
            .saturating_sub(conversation.first_assigned_at_us)
            / 1_000
    })
}

fn csv_line(out: &mut String, row: &ExportRow) {
    let conversation = &row.conversation;
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let cells = [
        conversation.id.to_string(),
        conversation.status.name().to_owned(),
        conversation.close_reason.name().to_owned(),
        conversation.widget.to_string(),
        conversation.visitor.to_string(),
        row.visitor_name.clone(),
        conversation
            .agent
            .map_or_else(String::new, |id| id.to_string()),
        row.agent_login.clone(),
        row.agent_name.clone(),
        rfc3339(conversation.opened_at_us),
        rfc3339(conversation.first_assigned_at_us),
        rfc3339(row.first_answer_at_us),
        rfc3339(conversation.closed_at_us),
        number(wait_ms(row)),
        number(chat_ms(row)),
        row.visitor_messages.to_string(),
        row.agent_messages.to_string(),
        conversation.page.clone(),
    ];
    for (place, cell) in cells.iter().enumerate() {
        if place > 0 {
            out.push(',');
        }
        csv_cell(out, cell);
    }
    out.push_str("\r\n");
}

/// Quoted where RFC 4180 asks for it. A cell that a spreadsheet would take for a formula gets an apostrophe in
/// front: visitors choose their names.
fn csv_cell(out: &mut String, cell: &str) {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if !formula && !cell.contains([',', '"', '\r', '\n']) {
        out.push_str(cell);
        return;
    }
    out.push('"');
    if formula {
        out.push('\'');
    }
    out.push_str(&cell.replace('"', "\"\""));
    out.push('"');
}

fn json_line(out: &mut String, row: &ExportRow) {
    let conversation = &row.conversation;
    let line = json!({
        "conversation": conversation.id.to_string(),
        "status": conversation.status.name(),
        "close_reason": conversation.close_reason.name(),
        "widget": conversation.widget,
        "visitor": conversation.visitor.to_string(),
        "visitor_name": row.visitor_name,
        "agent": conversation.agent.map(|id| id.to_string()),
        "agent_user": row.agent_login,
        "agent_name": row.agent_name,
        "opened_at": rfc3339(conversation.opened_at_us),
        "first_assigned_at": rfc3339(conversation.first_assigned_at_us),
        "first_answer_at": rfc3339(row.first_answer_at_us),
        "closed_at": rfc3339(conversation.closed_at_us),
        "wait_ms": wait_ms(row),
        "chat_ms": chat_ms(row),
        "visitor_messages": row.visitor_messages,
        "agent_messages": row.agent_messages,
        "page": conversation.page,
    });
    out.push_str(&line.to_string());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_quoted_where_it_must_be_and_never_becomes_a_formula() {
        for (cell, expected) in [
            ("plain", "plain"),
            ("小李", "小李"),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("@cmd", "\"'@cmd\""),
        ] {
            let mut out = String::new();
            csv_cell(&mut out, cell);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn ids_bound_a_span_of_time() {
        assert!(first_id(1_000) > just_before(1_000));
        assert_eq!(first_id(u64::MAX), Id(u128::MAX));
        assert_eq!(just_before(0), Id(0));
    }
}
