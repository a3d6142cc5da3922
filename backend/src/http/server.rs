//! The listener: a tokio runtime on threads of its own, HTTP/1.1, a bound on connections and on the time that
//! headers may take.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware;
use axum::routing::{delete, get, patch, post, put};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::problem::Problem;
use super::stall::StallGuard;
use super::{HttpState, admin, agent, assets, export, guard, health, visitor};

/// How long a client may take for its request's headers.
const HEADERS_MS_MAX: u64 = 10_000;
/// Bytes of a request's headers at most.
const HEADERS_BYTES_MAX: usize = 32 * 1024;
/// Threads of HTTP: it waits most of the time, and the turn needs its core.
const THREADS: usize = 2;
/// How long open requests may take to end at a stop.
const STOP_MS_MAX: u64 = 3_000;
/// How long to wait after an accept that failed (descriptors used up).
const ACCEPT_RETRY_MS: u64 = 100;

/// All routes. `state` is shared with the middleware.
pub fn router(state: Arc<HttpState>) -> Router {
    Router::new()
        .route("/api/visitor/token", post(visitor::token))
        .route("/api/visitor/queue-position", get(visitor::queue_position))
        .route("/api/visitor/send-message", post(visitor::send_message))
        .route("/api/visitor/messages", get(visitor::messages))
        .route("/api/visitor/close", post(visitor::close))
        .route("/api/widget/config", get(visitor::widget_config))
        .route("/api/agent/login", post(agent::login))
        .route("/api/agent/me", get(agent::me))
        .route("/api/agent/agents", get(agent::agents))
        .route("/api/agent/status", put(agent::set_status))
        .route("/api/agent/conversations", get(agent::conversations))
        .route("/api/agent/conversations/{id}", get(agent::conversation))
        .route(
            "/api/agent/conversations/{id}/messages",
            get(agent::messages),
        )
        .route("/api/agent/unread-messages", get(agent::unread))
        .route("/api/agent/send-message", post(agent::send_message))
        .route("/api/agent/take", post(agent::take))
        .route("/api/agent/transfer", post(agent::transfer))
        .route("/api/agent/close", post(agent::close))
        .route(
            "/api/agent/canned-replies",
            get(agent::canned_replies).put(agent::put_canned_replies),
        )
        .route("/api/admin/realtime-stats", get(admin::realtime_stats))
        .route("/api/admin/export-sessions", get(export::export_sessions))
        .route(
            "/api/admin/agents",
            get(admin::agents)
                .post(admin::create_agent)
                .patch(admin::change_agent),
        )
        .route("/api/admin/synthetic", delete(admin::clean_synthetic))
        .route(
            "/api/admin/widgets",
            patch(admin::change_widget)
                .get(admin::widgets)
                .post(admin::create_widget),
        )
        .route("/api/openapi.json", get(health::openapi))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(get(assets::file).fallback(async || Problem::not_found()))
        .method_not_allowed_fallback(async || Problem::method_not_allowed())
        .layer(middleware::from_fn_with_state(
            Arc::clone(&state),
            guard::guard,
        ))
        .with_state(state)
}

/// The running server; stops when [`HttpServer::stop`] is called or it is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl HttpServer {
    /// Binds the address; a separate step, so that a port in use is found before the store is opened.
    ///
    /// # Errors
    /// The system's; `AddrInUse` when another program has the port.
    pub fn bind(address: SocketAddr) -> io::Result<StdListener> {
        StdListener::bind(address)
    }

    /// Serves on threads of its own.
    ///
    /// # Errors
    /// If the runtime or its thread cannot be made.
    pub fn start(listener: StdListener, state: HttpState) -> io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let stop = state.stop.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("http")
            .enable_all()
            .build()?;
        let thread = thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                if let Err(error) = runtime.block_on(serve(listener, Arc::new(state))) {
                    tracing::error!(%error, "HTTP ended");
                }
                runtime.shutdown_timeout(Duration::from_millis(STOP_MS_MAX));
            })?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, ends long polls, lets open requests end, and returns.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A server that panicked has said so; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve(listener: StdListener, state: Arc<HttpState>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(state.config.http_connections_max));
    let router = router(Arc::clone(&state));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            () = state.stopping() => break,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer, place)) => {
                let router = router.clone();
                let state = Arc::clone(&state);
                connections.spawn(async move {
                    state.counters.connections.fetch_add(1, Ordering::Relaxed);
                    connection(stream, peer, router, &state).await;
                    state.counters.connections.fetch_sub(1, Ordering::Relaxed);
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "HTTP cannot accept");
                tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
            }
        }
    }
    let ended = async { while connections.join_next().await.is_some() {} };
    // Who has not ended by then is cut off with the runtime.
    let _ = tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), ended).await;
    Ok(())
}

type Accepted = (TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// Waits for a place first: connections past the bound wait in the kernel's backlog.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<Accepted> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, state: &HttpState) {
    // Answers are written whole; waiting for more to send would only cost time.
    let _ = stream.set_nodelay(true);
    let service = tower_service(router, peer);
    let mut serving = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_millis(HEADERS_MS_MAX))
            .max_buf_size(HEADERS_BYTES_MAX)
            .serve_connection(TokioIo::new(StallGuard::new(stream)), service)
    );
    // An error here is the client's: it broke off, or sent what is not HTTP and was told so.
    tokio::select! {
        _ended = serving.as_mut() => return,
        () = state.stopping() => {}
    }
    serving.as_mut().graceful_shutdown();
    let _ended = serving.await;
}

fn tower_service(
    router: Router,
    peer: SocketAddr,
) -> impl hyper::service::Service<
    hyper::Request<Incoming>,
    Response = axum::response::Response,
    Error = std::convert::Infallible,
    Future: Send,
> {
    let service = TowerToHyperService::new(router);
    hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(peer);
        hyper::service::Service::call(&service, request)
    })
}
