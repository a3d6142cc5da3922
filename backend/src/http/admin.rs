//! What supervisors ask: `/api/admin/…`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidegate_protocol::Id;
use tidegate_protocol::limits::NAME_BYTES_MAX;

use super::agent::{LOGIN_BYTES_MAX, presence};
use super::identity::Supervisor;
use super::problem::Problem;
use super::request::Fields;
use super::visitor::public_widget;
use super::{HttpState, json, origin};
use crate::app::command::{HttpAnswer, HttpCommand};
use crate::auth::{self, password};
use crate::engine::kinds::{Reason, Role};
use crate::engine::rows::{AgentRow, WidgetRow};
use crate::store::read::{DayStatistics, day_start_us};

/// Conversations at once that an agent may be given at most.
pub const CAPACITY_MAX: u64 = 1_000;
/// Conversations at once unless said otherwise.
const CAPACITY: u64 = 8;
/// Bytes of a widget's greeting at most.
pub const GREETING_BYTES_MAX: usize = 1_000;
/// Bytes of a CSS colour at most.
const ACCENT_BYTES_MAX: usize = 64;
/// Bytes of a widget's further settings at most.
const SETTINGS_BYTES_MAX: usize = 8 * 1024;
/// Origins of one widget at most.
const ORIGINS_MAX: usize = 100;
/// Widgets of a site at most: the list is kept in memory.
const WIDGETS_MAX: usize = 1_000;
/// How old the day's figures may be: they cost a pass over the day's conversations.
const STATISTICS_AGE_MAX: Duration = Duration::from_secs(5);

/// `GET /api/admin/realtime-stats`.
pub async fn realtime_stats(
    State(state): State<Arc<HttpState>>,
    _by: Supervisor,
) -> Result<Response, Problem> {
    let today = today(&state).await?;
    let live = state.turn.live();
    let ledger = &live.ledger;
    let total = ledger.total();
    let mut body = serde_json::to_value(&*live).map_err(|error| Problem::internal(&error))?;
    if let Value::Object(members) = &mut body {
        members.insert(
            "agents".to_owned(),
            live.agents.iter().map(presence).collect(),
        );
        members.insert("today".to_owned(), json!(today));
        members.insert(
            "ledger".to_owned(),
            json!({
                "accepted": total.accepted,
                "delivered": total.delivered,
                "pending": total.pending,
                "expired": total.expired,
                "closed": ledger.is_closed(),
                "to_agent": ledger.to_agent,
                "to_visitor": ledger.to_visitor,
            }),
        );
    }
    json::ok(&body)
}

async fn today(state: &HttpState) -> Result<DayStatistics, Problem> {
    let mut kept = state.statistics.lock().await;
    if let Some((at, found)) = *kept
        && at.elapsed() < STATISTICS_AGE_MAX
    {
        return Ok(found);
    }
    let since_us = day_start_us(auth::now_us());
    let found = state
        .readers
        .ask(move |reader| reader.statistics_since(since_us))?
        .await?;
    *kept = Some((Instant::now(), found));
    Ok(found)
}

fn account(state: &HttpState, row: &AgentRow) -> Value {
    let live = state.turn.live();
    let view = live.agents.iter().find(|view| view.id == row.id);
    json!({
        "id": row.id.to_string(),
        "user": row.login,
        "name": row.name,
        "role": row.role.name(),
        "capacity": row.capacity,
        "disabled": row.disabled,
        "created_at_us": row.created_at_us,
        "status": view.map_or("offline", |view| view.status.name()),
        "open": view.map_or(0, |view| view.open),
    })
}

/// `GET /api/admin/agents`.
pub async fn agents(
    State(state): State<Arc<HttpState>>,
    _by: Supervisor,
) -> Result<Response, Problem> {
    let found = state.readers.ask(|reader| reader.agents())?.await?;
    json::ok(&json!({ "agents": found.iter().map(|row| account(&state, row)).collect::<Vec<_>>() }))
}

/// The role that a request gives.
pub fn role(fields: &Fields) -> Result<Option<Role>, Problem> {
    match fields.optional_text("role")? {
        None => Ok(None),
        Some("agent") => Ok(Some(Role::Agent)),
        Some("supervisor") => Ok(Some(Role::Supervisor)),
        Some(_) => Err(Problem::field("role", "`role` is agent or supervisor")),
    }
}

/// The capacity that a request gives.
pub fn capacity(fields: &Fields) -> Result<Option<u32>, Problem> {
    let found = fields.optional_number("capacity", 0, CAPACITY_MAX)?;
    Ok(found.and_then(|capacity| u32::try_from(capacity).ok()))
}

/// The password of a request, or a new one that the answer tells once.
fn new_password(fields: &Fields) -> Result<(String, bool), Problem> {
    match fields.optional_text("password")? {
        Some(password) => Ok((password.to_owned(), false)),
        None => Ok((
            password::generate().map_err(|error| Problem::internal(&error))?,
            true,
        )),
    }
}

/// `POST /api/admin/agents`. A `synthetic` one is the load generator's: it has no password, its token is signed by
/// whoever can read the key.
pub async fn create_agent(
    State(state): State<Arc<HttpState>>,
    _by: Supervisor,
    fields: Fields,
) -> Result<Response, Problem> {
    let user = fields
        .optional_line("user", LOGIN_BYTES_MAX)?
        .unwrap_or_default()
        .to_lowercase();
    if user.is_empty() {
        return Err(Problem::field(
            "user",
            "`user` is missing: the name to log in with",
        ));
    }
    let id = auth::random::id().map_err(|error| Problem::internal(&error))?;
    let synthetic = fields.optional_bool("synthetic")?.unwrap_or(false);
    let (password, generated) = if synthetic {
        (String::new(), false)
    } else {
        new_password(&fields)?
    };
    let password_hash = if synthetic {
        String::new()
    } else {
        state.checker.hash(password.clone()).await?
    };
    let now_us = auth::now_us();
    let row = AgentRow {
        site_id: state.config.site_id,
        id: if synthetic { Id::synthetic(id.0) } else { id },
        name: fields
            .optional_line("name", NAME_BYTES_MAX)?
            .filter(|name| !name.is_empty())
            .unwrap_or(&user)
            .to_owned(),
        role: role(&fields)?.unwrap_or(Role::Agent),
        capacity: capacity(&fields)?.unwrap_or(u32::try_from(CAPACITY).unwrap_or(1)),
        disabled: false,
        password_hash,
        tokens_valid_from_s: 0,
        created_at_us: now_us,
        login: user.clone(),
    };
    let _alone = state.settings.lock().await;
    if state
        .readers
        .ask(move |reader| reader.agent_by_login(&user))?
        .await?
        .is_some()
    {
        return Err(Problem::with_status(
            StatusCode::CONFLICT,
            Reason::InvalidState,
            "there is an agent of that name",
        ));
    }
    state
        .turn
        .call(HttpCommand::PutAgent { agent: row.clone() })
        .await?;
    tracing::info!(agent = %row.id, "agent made");
    let body = json::ok(
        &json!({ "agent": account(&state, &row), "password": generated.then_some(password) }),
    )?;
    Ok((StatusCode::CREATED, body).into_response())
}

/// `PATCH /api/admin/agents`: whom by `id` or `user`; what is left out stays as it is.
pub async fn change_agent(
    State(state): State<Arc<HttpState>>,
    by: Supervisor,
    fields: Fields,
) -> Result<Response, Problem> {
    let id = fields.optional_id("id")?;
    let user = fields
        .optional_text("user")?
        .unwrap_or_default()
        .trim()
        .to_lowercase();
    let reset = fields.optional_bool("reset_password")?.unwrap_or(false)
        || fields.optional_text("password")?.is_some();
    let _alone = state.settings.lock().await;
    let found = state
        .readers
        .ask(move |reader| match id {
            Some(id) => reader.agent(id),
            None => reader.agent_by_login(&user),
        })?
        .await?;
    let Some(mut row) = found.filter(|row| row.site_id == state.config.site_id) else {
        return Err(Problem::new(Reason::NoSuchAgent, "there is no such agent"));
    };
    if let Some(name) = fields.optional_line("name", NAME_BYTES_MAX)?
        && !name.is_empty()
    {
        name.clone_into(&mut row.name);
    }
    row.capacity = capacity(&fields)?.unwrap_or(row.capacity);
    let role = role(&fields)?.unwrap_or(row.role);
    let disabled = fields.optional_bool("disabled")?.unwrap_or(row.disabled);
    if by.0.actor.id == row.id && (disabled || role != row.role) {
        return Err(Problem::new(
            Reason::InvalidState,
            "a supervisor cannot lock themselves out; ask another one",
        ));
    }
    row.role = role;
    row.disabled = disabled;
    let mut told = None;
    if reset {
        let (password, generated) = new_password(&fields)?;
        row.password_hash = state.checker.hash(password.clone()).await?;
        row.tokens_valid_from_s = auth::now_s();
        told = generated.then_some(password);
    }
    state
        .turn
        .call(HttpCommand::PutAgent { agent: row.clone() })
        .await?;
    tracing::info!(agent = %row.id, reset, "agent changed");
    json::ok(&json!({ "agent": account(&state, &row), "password": told }))
}

/// `DELETE /api/admin/synthetic`: one step of removing what the load generator left; `more`: ask again.
pub async fn clean_synthetic(
    State(state): State<Arc<HttpState>>,
    _by: Supervisor,
) -> Result<Response, Problem> {
    let _alone = state.settings.lock().await;
    let answer = state.turn.call(HttpCommand::CleanSynthetic).await?;
    json::ok(&json!({ "more": matches!(answer, HttpAnswer::Cleaned { more: true }) }))
}

fn setting(row: &WidgetRow) -> Value {
    let mut members = public_widget(row);
    members.insert("allowed_origins".to_owned(), json!(row.allowed_origins));
    Value::Object(members)
}

/// `GET /api/admin/widgets`.
pub async fn widgets(
    State(state): State<Arc<HttpState>>,
    _by: Supervisor,
) -> Result<Response, Problem> {
    json::ok(&json!({ "widgets": state.widgets().iter().map(setting).collect::<Vec<_>>() }))
}

/// `POST /api/admin/widgets`.
pub async fn create_widget(
    State(state): State<Arc<HttpState>>,
    _by: Supervisor,
    fields: Fields,
) -> Result<Response, Problem> {
    let key = fields.text("key")?;
    let clean = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if key.is_empty() || key.len() > 64 || !key.bytes().all(clean) {
        return Err(Problem::field(
            "key",
            "`key` has 1 to 64 small letters, digits and hyphens",
        ));
    }
    let _alone = state.settings.lock().await;
    let widgets = state.widgets();
    if widgets.iter().any(|row| row.key == key) {
        return Err(Problem::with_status(
            StatusCode::CONFLICT,
            Reason::InvalidState,
            "there is a widget of that key",
        ));
    }
    if widgets.len() >= WIDGETS_MAX {
        return Err(Problem::new(
            Reason::InvalidState,
            format!("a site has at most {WIDGETS_MAX} widgets"),
        ));
    }
    let mut row = WidgetRow {
        site_id: state.config.site_id,
        id: widgets.iter().map(|row| row.id).max().unwrap_or(0) + 1,
        key: key.to_owned(),
        name: key.to_owned(),
        greeting: String::new(),
        accent: String::new(),
        allowed_origins: Vec::new(),
        settings_json: "{}".to_owned(),
    };
    change(&mut row, &fields)?;
    put_widget(&state, &row).await?;
    Ok((StatusCode::CREATED, json::ok(&setting(&row))?).into_response())
}

/// `PATCH /api/admin/widgets`: which by `key` or `id`; what is left out stays as it is.
pub async fn change_widget(
    State(state): State<Arc<HttpState>>,
    _by: Supervisor,
    fields: Fields,
) -> Result<Response, Problem> {
    let id = fields.optional_number("id", 0, u64::from(u32::MAX))?;
    let key = fields.optional_text("key")?;
    let _alone = state.settings.lock().await;
    let widgets = state.widgets();
    let found = widgets.iter().find(|row| match (id, key) {
        (Some(id), _) => u64::from(row.id) == id,
        (None, key) => row.key == key.unwrap_or("default"),
    });
    let Some(mut row) = found.cloned() else {
        return Err(Problem::with_status(
            StatusCode::NOT_FOUND,
            Reason::None,
            "there is no such widget",
        ));
    };
    change(&mut row, &fields)?;
    put_widget(&state, &row).await?;
    json::ok(&setting(&row))
}

async fn put_widget(state: &HttpState, row: &WidgetRow) -> Result<(), Problem> {
    state
        .turn
        .call(HttpCommand::PutWidget {
            widget: row.clone(),
        })
        .await?;
    let widgets = state.readers.ask(|reader| reader.widgets())?.await?;
    state.set_widgets(widgets);
    Ok(())
}

/// Changes what the fields name.
pub fn change(row: &mut WidgetRow, fields: &Fields) -> Result<(), Problem> {
    if let Some(name) = fields.optional_line("name", NAME_BYTES_MAX)? {
        name.clone_into(&mut row.name);
    }
    if let Some(greeting) = fields.optional_text("greeting")? {
        if greeting.len() > GREETING_BYTES_MAX {
            return Err(Problem::field(
                "greeting",
                format!("`greeting` has at most {GREETING_BYTES_MAX} bytes"),
            ));
        }
        greeting.clone_into(&mut row.greeting);
    }
    if let Some(accent) = fields.optional_line("accent", ACCENT_BYTES_MAX)? {
        let clean = |byte: u8| byte.is_ascii_alphanumeric() || b"#%.,()/ -".contains(&byte);
        if !accent.bytes().all(clean) {
            return Err(Problem::field(
                "accent",
                "`accent` is a CSS colour, for example #0a7cff or oklch(0.6 0.2 250)",
            ));
        }
        accent.clone_into(&mut row.accent);
    }
    if let Some(origins) = fields.optional_array("allowed_origins")? {
        row.allowed_origins = allowed_origins(origins)?;
    }
    if let Some(settings) = fields.optional_object("settings")? {
        let text = Value::Object(settings.clone()).to_string();
        if text.len() > SETTINGS_BYTES_MAX {
            return Err(Problem::field(
                "settings",
                format!("`settings` has at most {SETTINGS_BYTES_MAX} bytes"),
            ));
        }
        row.settings_json = text;
    }
    Ok(())
}

fn allowed_origins(values: &[Value]) -> Result<Vec<String>, Problem> {
    if values.len() > ORIGINS_MAX {
        return Err(Problem::field(
            "allowed_origins",
            format!("at most {ORIGINS_MAX} origins"),
        ));
    }
    let mut origins = Vec::with_capacity(values.len());
    for value in values {
        let Some(text) = value.as_str() else {
            return Err(Problem::field(
                "allowed_origins",
                "`allowed_origins` must be strings",
            ));
        };
        origin::check(text)
            .map_err(|why| Problem::field("allowed_origins", format!("\"{text}\": {why}")))?;
        origins.push(text.to_owned());
    }
    Ok(origins)
}
