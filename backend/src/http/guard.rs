//! What happens to every request and every response, whatever the route: a time limit, CORS, the headers that
//! browsers enforce, and counting.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::HttpState;
use super::problem::Problem;
use super::visitor::asked_host;
use crate::engine::kinds::Reason;

/// How long a browser may keep the answer to a preflight.
const PREFLIGHT_S: &str = "600";

/// Around every route.
pub async fn guard(State(state): State<Arc<HttpState>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let origin = request.headers().get(header::ORIGIN).cloned();
    let policy = if path.starts_with("/api/") {
        String::new()
    } else {
        page_policy(&state, &path, &request)
    };
    let cross_origin = may_be_cross_origin(&path);
    let preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let limit =
            Duration::from_millis(state.config.http_request_ms_max + wait_ms(&state, &request));
        match tokio::time::timeout(limit, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                state.counters.timeouts.fetch_add(1, Ordering::Relaxed);
                Problem::with_status(
                    StatusCode::REQUEST_TIMEOUT,
                    Reason::Busy,
                    "the request took too long",
                )
                .into_response()
            }
        }
    };
    let class = usize::from(response.status().as_u16() / 100).saturating_sub(1);
    if let Some(counter) = state.counters.responses.get(class) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(reason) = response.extensions().get::<Reason>() {
        state.counters.refused[usize::from(reason.code())].fetch_add(1, Ordering::Relaxed);
    }
    if response.status() == StatusCode::TOO_MANY_REQUESTS {
        state.counters.rate_limited.fetch_add(1, Ordering::Relaxed);
    }
    let headers = response.headers_mut();
    if cross_origin {
        allow_origin(&state, headers, origin.as_ref(), preflight);
    }
    security_headers(headers, &policy, &path, cross_origin);
    response
}

/// A long poll is given the time that it asked for, within the bound.
fn wait_ms(state: &HttpState, request: &Request) -> u64 {
    let query = request.uri().query().unwrap_or_default();
    let asked = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("wait="))
        .and_then(|value| value.parse().ok());
    asked.unwrap_or(0_u64).min(state.config.long_poll_s_max) * 1_000
}

/// What pages of other origins may use: the visitor's API, the widget and the SDK. Agents and administrators work
/// on our own pages.
fn may_be_cross_origin(path: &str) -> bool {
    path.starts_with("/api/visitor/")
        || path.starts_with("/api/widget/")
        || path.starts_with("/sdk/")
        || path == "/widget.js"
}

fn allow_origin(
    state: &HttpState,
    headers: &mut HeaderMap,
    origin: Option<&HeaderValue>,
    preflight: bool,
) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return };
    if !origin
        .to_str()
        .is_ok_and(|origin| state.allow_list().allows(origin))
    {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Retry-After"),
    );
    if preflight {
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_METHODS,
            HeaderValue::from_static("GET, POST"),
        );
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            HeaderValue::from_static("Authorization, Content-Type, Idempotency-Key"),
        );
        headers.insert(
            header::ACCESS_CONTROL_MAX_AGE,
            HeaderValue::from_static(PREFLIGHT_S),
        );
    }
}

/// The Content-Security-Policy of a page: everything from here, the socket to the gateway, images also from the
/// shop (its logo). The widget may be framed by the allow-list, other pages by our own.
fn page_policy(state: &HttpState, path: &str, request: &Request) -> String {
    let ws = state.ws_url(request.uri(), request.headers());
    let socket = socket_origin(&ws);
    let ancestors = if path.starts_with("/widget/") {
        state.allow_list().frame_ancestors()
    } else {
        "'self'".to_owned()
    };
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; font-src 'self'; \
         media-src 'self'; manifest-src 'self'; connect-src 'self' {socket}; frame-src 'self'; base-uri 'none'; \
         form-action 'self'; frame-ancestors {ancestors}"
    )
}

/// Scheme, host and port of a WebSocket address.
fn socket_origin(address: &str) -> &str {
    let host = address.find("://").map_or(0, |place| place + 3);
    let end = address[host..]
        .find('/')
        .map_or(address.len(), |place| host + place);
    &address[..end]
}

fn security_headers(headers: &mut HeaderMap, policy: &str, path: &str, cross_origin: bool) {
    let is_page = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/html"));
    let policy = if is_page {
        policy
    } else {
        "default-src 'none'; frame-ancestors 'none'"
    };
    if let Ok(value) = HeaderValue::from_str(policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, value);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(
        header::REFERRER_POLICY,
        HeaderValue::from_static("strict-origin-when-cross-origin"),
    );
    // The widget's page and its parts are loaded in frames of other origins.
    let embeddable = cross_origin || path.starts_with("/widget/");
    let policy = if embeddable {
        "cross-origin"
    } else {
        "same-origin"
    };
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static(policy),
    );
    if is_page && !embeddable {
        headers.insert(
            HeaderName::from_static("cross-origin-opener-policy"),
            HeaderValue::from_static("same-origin"),
        );
    }
}

/// What the client calls this host: without port.
pub fn host_without_port<'h>(uri: &'h axum::http::Uri, headers: &'h HeaderMap) -> Option<&'h str> {
    let host = asked_host(uri, headers)?;
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => Some(name),
        _ => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_address_is_cut_to_its_origin() {
        assert_eq!(
            socket_origin("ws://127.0.0.1:8601/ws"),
            "ws://127.0.0.1:8601"
        );
        assert_eq!(socket_origin("wss://chat.example"), "wss://chat.example");
        assert_eq!(
            socket_origin("wss://chat.example/a/b"),
            "wss://chat.example"
        );
    }
}
