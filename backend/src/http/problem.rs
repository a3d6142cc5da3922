//! Refusals as RFC 9457 problem details, with the schema's `reason` beside the standard members.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::app::command::Refusal;
use crate::auth::password::PasswordError;
use crate::engine::kinds::Reason;
use crate::store::StoreError;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    reason: Reason,
    detail: String,
    field: Option<&'static str>,
    retry_ms: u32,
}

/// The body, in the order in which it is read.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u32>,
}

impl Problem {
    /// A refusal with the status that the reason means everywhere.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self::with_status(status_of(reason), reason, detail)
    }

    /// A refusal with a status of its own.
    pub fn with_status(status: StatusCode, reason: Reason, detail: impl Into<String>) -> Self {
        Self {
            status,
            reason,
            detail: detail.into(),
            field: None,
            retry_ms: 0,
        }
    }

    /// A member or parameter of the wrong type or range.
    pub fn field(field: &'static str, detail: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(Reason::UnknownField, detail)
        }
    }

    /// Not now.
    pub fn busy(detail: impl Into<String>, retry_ms: u32) -> Self {
        Self {
            retry_ms,
            ..Self::new(Reason::Busy, detail)
        }
    }

    /// Too many in too short a time.
    pub fn rate_limited(detail: impl Into<String>, wait_s: u64) -> Self {
        let retry_ms = u32::try_from(wait_s.saturating_mul(1_000)).unwrap_or(u32::MAX);
        Self {
            retry_ms,
            ..Self::new(Reason::RateLimited, detail)
        }
    }

    /// No such page or route.
    pub fn not_found() -> Self {
        Self::with_status(
            StatusCode::NOT_FOUND,
            Reason::None,
            "there is nothing at this address",
        )
    }

    /// A route that there is, but not for this method.
    pub fn method_not_allowed() -> Self {
        Self::with_status(
            StatusCode::METHOD_NOT_ALLOWED,
            Reason::None,
            "this address does not take that method; `Allow` says which",
        )
    }

    /// A failure of ours. The log has the cause; the client has no use for it.
    pub fn internal(cause: &dyn std::fmt::Display) -> Self {
        tracing::error!(%cause, "an HTTP request failed");
        Self::new(Reason::Internal, "the backend failed; its log says why")
    }

    /// Its status.
    #[cfg(any(test, feature = "fuzzing"))]
    pub const fn status(&self) -> StatusCode {
        self.status
    }
}

/// The one table from reasons to statuses.
const fn status_of(reason: Reason) -> StatusCode {
    match reason {
        Reason::None | Reason::MalformedEnvelope | Reason::NotWelcomed => StatusCode::BAD_REQUEST,
        Reason::BadToken | Reason::ExpiredToken => StatusCode::UNAUTHORIZED,
        Reason::Forbidden => StatusCode::FORBIDDEN,
        Reason::NoSuchConversation | Reason::NoSuchAgent => StatusCode::NOT_FOUND,
        Reason::ConversationClosed | Reason::AgentUnavailable | Reason::InvalidState => {
            StatusCode::CONFLICT
        }
        Reason::MessageTooLong => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::UnknownField | Reason::EmptyMessage => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            retry_ms: refusal.retry_ms,
            ..Self::new(refusal.reason, refusal.detail)
        }
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Length => Self::field("password", error.to_string()),
            PasswordError::Busy => Self::busy(error.to_string(), 1_000),
            PasswordError::Failed(_) => Self::internal(&error),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(detail) | StoreError::Full(detail) => Self::busy(detail, 1_000),
            StoreError::Refused(_) | StoreError::Failed(_) | StoreError::Unsynced(_) => {
                Self::internal(&error)
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = Body {
            r#type: format!("urn:tidegate:problem:{}", self.reason.name()),
            title: self.status.canonical_reason().unwrap_or("Refused"),
            status: self.status.as_u16(),
            detail: &self.detail,
            reason: self.reason.name(),
            field: self.field,
            retry_ms: (self.retry_ms > 0).then_some(self.retry_ms),
        };
        let mut response = (self.status, Json(body)).into_response();
        // For the counters: the guard sees every response.
        response.extensions_mut().insert(self.reason);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.retry_ms > 0 {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(self.retry_ms.div_ceil(1_000)),
            );
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_error_status() {
        for reason in Reason::ALL {
            let status = Problem::new(*reason, "").status();
            assert!(
                status.is_client_error() || status.is_server_error(),
                "{reason:?}"
            );
        }
    }

    #[test]
    fn a_rate_limit_says_when_to_come_back_in_both_places() {
        let response = Problem::rate_limited("too many", 12).into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "12");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json"
        );
    }
}
