//! HTTP for people and business systems: REST, pages, health.
//!
//! Commands go to the turn ([`TurnHandle`]) and are answered after its commit; reads go to the [`Readers`]; what is
//! live comes from published snapshots. Nothing here sees engine state.
//!
//! - [`server`]: the listener and all routes
//! - `guard`: what happens to every request: time limit, CORS, security headers
//! - `identity`: who asks; `request`: what they say; `problem`: how they are refused
//! - `visitor`, `agent`, `admin`, `export`, `health`, `assets`: the routes
//! - [`origin`]: the one allow-list

mod admin;
mod agent;
mod assets;
mod export;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod guard;
mod health;
pub mod identity;
mod json;
pub mod origin;
mod problem;
mod request;
pub mod server;
mod stall;
mod time;
mod visitor;

use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::http::{HeaderMap, Uri};
use tidegate_protocol::token::Key;
use tokio::sync::{Mutex, Semaphore, watch};

use self::origin::AllowList;
use self::problem::Problem;
use crate::app::handle::TurnHandle;
use crate::auth::password::{Checker, PasswordError};
use crate::auth::rate_limit::RateLimit;
use crate::config::Config;
use crate::engine::kinds::Reason;
use crate::engine::rows::WidgetRow;
use crate::store::read::DayStatistics;
use crate::store::{Readers, StoreError, checkpoint};

pub use self::agent::LOGIN_BYTES_MAX;
pub use self::server::HttpServer;

/// Everything that the routes share.
pub struct HttpState {
    config: Config,
    turn: TurnHandle,
    readers: Readers,
    key: Key,
    checker: Checker,
    limits: Limits,
    /// Changes of settings, one at a time: each reads a row, changes it and puts it back.
    settings: Mutex<()>,
    public: RwLock<Public>,
    statistics: Mutex<Option<(Instant, DayStatistics)>>,
    polls: Arc<Semaphore>,
    checkpoints: Option<Arc<checkpoint::Counters>>,
    counters: Counters,
    stop: watch::Sender<bool>,
}

/// The widgets and what follows from them; read by nearly every request, so kept beside the database. All changes
/// of widgets pass through here.
#[derive(Default)]
struct Public {
    widgets: Arc<Vec<WidgetRow>>,
    allow_list: Arc<AllowList>,
}

struct Limits {
    logins_by_address: RateLimit<IpAddr>,
    logins_by_user: RateLimit<String>,
    visitor_tokens: RateLimit<IpAddr>,
}

/// For `/metrics`.
#[derive(Debug, Default)]
struct Counters {
    responses: [AtomicU64; 5],
    /// By the reason's code, whoever refused: this crate's HTTP or the engine behind it.
    refused: [AtomicU64; Reason::ALL.len()],
    connections: AtomicU64,
    timeouts: AtomicU64,
    logins_refused: AtomicU64,
    rate_limited: AtomicU64,
}

impl HttpState {
    /// Reads the widgets, so the store must be open. Not to be called on a task: it waits for a reader.
    ///
    /// # Errors
    /// If the widgets cannot be read, or no password can be hashed.
    pub fn new(
        config: Config,
        turn: TurnHandle,
        readers: Readers,
        key: Key,
        checkpoints: Option<Arc<checkpoint::Counters>>,
    ) -> Result<Self, StoreError> {
        let widgets = readers.ask(|reader| reader.widgets())?.wait()?;
        let checker = Checker::new(config.password_checks_max)
            .map_err(|error: PasswordError| StoreError::Failed(error.to_string()))?;
        let entries_max = config.rate_entries_max;
        let state = Self {
            limits: Limits {
                logins_by_address: RateLimit::new(
                    config.logins_per_address_per_min_max,
                    entries_max,
                ),
                logins_by_user: RateLimit::new(config.logins_per_user_per_min_max, entries_max),
                visitor_tokens: RateLimit::new(
                    config.visitor_tokens_per_address_per_min_max,
                    entries_max,
                ),
            },
            settings: Mutex::default(),
            public: RwLock::default(),
            statistics: Mutex::default(),
            polls: Arc::new(Semaphore::new(config.long_polls_max)),
            checkpoints,
            counters: Counters::default(),
            stop: watch::Sender::new(false),
            checker,
            config,
            turn,
            readers,
            key,
        };
        state.set_widgets(widgets);
        Ok(state)
    }

    fn widgets(&self) -> Arc<Vec<WidgetRow>> {
        Arc::clone(
            &self
                .public
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .widgets,
        )
    }

    fn widget(&self, key: &str) -> Result<WidgetRow, Problem> {
        let found = self.widgets().iter().find(|row| row.key == key).cloned();
        found.ok_or_else(|| {
            Problem::with_status(
                axum::http::StatusCode::NOT_FOUND,
                Reason::None,
                "there is no such widget",
            )
        })
    }

    fn set_widgets(&self, widgets: Vec<WidgetRow>) {
        let of_widgets = widgets.iter().flat_map(|row| &row.allowed_origins);
        let allow_list = AllowList::new(self.config.allowed_origins.iter().chain(of_widgets));
        let public = Public {
            allow_list: Arc::new(allow_list),
            widgets: Arc::new(widgets),
        };
        *self.public.write().unwrap_or_else(PoisonError::into_inner) = public;
    }

    fn allow_list(&self) -> Arc<AllowList> {
        Arc::clone(
            &self
                .public
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .allow_list,
        )
    }

    /// Where clients find the gateway: as configured, or on the host that they asked for.
    fn ws_url(&self, uri: &Uri, headers: &HeaderMap) -> String {
        if !self.config.public_ws_url.is_empty() {
            return self.config.public_ws_url.clone();
        }
        let host = guard::host_without_port(uri, headers).unwrap_or("127.0.0.1");
        format!("ws://{host}:{}/ws", self.config.ws_port)
    }

    /// Comes when the server stops.
    async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives in `self`: it cannot be gone.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
