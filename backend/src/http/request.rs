//! What a request says, read field by field so that a refusal names the field at fault. Unknown members are
//! skipped, as everywhere in Tidegate's JSON.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::to_bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::Uri;
use axum::http::request::Parts;
use serde_json::{Map, Value};
use tidegate_protocol::Id;

use super::HttpState;
use super::problem::Problem;
use crate::engine::kinds::Reason;

/// A JSON object in the body; an empty body is an empty object.
#[derive(Debug, Clone, Default)]
pub struct Fields(Map<String, Value>);

impl FromRequest<Arc<HttpState>> for Fields {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &Arc<HttpState>) -> Result<Self, Problem> {
        let bytes_max = state.config.http_body_bytes_max;
        let bytes = to_bytes(request.into_body(), bytes_max)
            .await
            .map_err(|_| {
                Problem::new(
                    Reason::MessageTooLong,
                    format!("the body is longer than {bytes_max} bytes, or broke off"),
                )
            })?;
        Self::from_bytes(&bytes)
    }
}

impl Fields {
    /// From a whole body.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Problem> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(Problem::new(
                Reason::MalformedEnvelope,
                "expected a JSON object",
            )),
            Err(error) => Err(Problem::new(
                Reason::MalformedEnvelope,
                format!("the body is not JSON: {error}"),
            )),
        }
    }

    /// From a value that stands inside another; `None` if it is no object.
    pub fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Object(fields) => Some(Self(fields)),
            _ => None,
        }
    }

    fn present(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// A string that may be absent.
    pub fn optional_text(&self, field: &'static str) -> Result<Option<&str>, Problem> {
        match self.present(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(Problem::field(field, format!("`{field}` must be a string"))),
        }
    }

    /// A string that must be there.
    pub fn text(&self, field: &'static str) -> Result<&str, Problem> {
        self.optional_text(field)?.ok_or_else(|| missing(field))
    }

    /// A string of at most so many bytes without control characters, that may be absent.
    pub fn optional_line(
        &self,
        field: &'static str,
        bytes_max: usize,
    ) -> Result<Option<&str>, Problem> {
        let Some(text) = self.optional_text(field)? else {
            return Ok(None);
        };
        let text = text.trim();
        if text.len() > bytes_max || text.chars().any(char::is_control) {
            return Err(Problem::field(
                field,
                format!("`{field}` must be one line of at most {bytes_max} bytes"),
            ));
        }
        Ok(Some(text))
    }

    /// An id that may be absent.
    pub fn optional_id(&self, field: &'static str) -> Result<Option<Id>, Problem> {
        match self.optional_text(field)? {
            None | Some("") => Ok(None),
            Some(text) => id(field, text).map(Some),
        }
    }

    /// An id that must be there.
    pub fn id(&self, field: &'static str) -> Result<Id, Problem> {
        self.optional_id(field)?.ok_or_else(|| missing(field))
    }

    /// A whole number in a range, that may be absent.
    pub fn optional_number(
        &self,
        field: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<u64>, Problem> {
        match self.present(field) {
            None => Ok(None),
            Some(value) => match value.as_u64() {
                Some(number) if (min..=max).contains(&number) => Ok(Some(number)),
                _ => Err(Problem::field(
                    field,
                    format!("`{field}` must be a whole number from {min} to {max}"),
                )),
            },
        }
    }

    /// True or false, that may be absent.
    pub fn optional_bool(&self, field: &'static str) -> Result<Option<bool>, Problem> {
        match self.present(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(_) => Err(Problem::field(
                field,
                format!("`{field}` must be true or false"),
            )),
        }
    }

    /// An array that may be absent.
    pub fn optional_array(&self, field: &'static str) -> Result<Option<&[Value]>, Problem> {
        match self.present(field) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(_) => Err(Problem::field(field, format!("`{field}` must be an array"))),
        }
    }

    /// An object that may be absent.
    pub fn optional_object(
        &self,
        field: &'static str,
    ) -> Result<Option<&Map<String, Value>>, Problem> {
        match self.present(field) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(_) => Err(Problem::field(
                field,
                format!("`{field}` must be an object"),
            )),
        }
    }
}

fn missing(field: &'static str) -> Problem {
    Problem::field(field, format!("`{field}` is missing"))
}

fn id(field: &'static str, text: &str) -> Result<Id, Problem> {
    Id::from_str(text).map_err(|error| Problem::field(field, format!("`{field}`: {error}")))
}

/// An id in the path.
pub fn path_id(text: &str) -> Result<Id, Problem> {
    id("id", text)
}

/// The parameters behind the `?`.
#[derive(Debug, Clone, Default)]
pub struct Parameters(BTreeMap<String, String>);

impl FromRequestParts<Arc<HttpState>> for Parameters {
    type Rejection = Problem;

    async fn from_request_parts(
        parts: &mut Parts,
        _state: &Arc<HttpState>,
    ) -> Result<Self, Problem> {
        Self::of(&parts.uri)
    }
}

impl Parameters {
    /// From an address.
    pub fn of(uri: &Uri) -> Result<Self, Problem> {
        Query::<BTreeMap<String, String>>::try_from_uri(uri)
            .map(|Query(parameters)| Self(parameters))
            .map_err(|error| {
                Problem::new(
                    Reason::MalformedEnvelope,
                    format!("the parameters: {error}"),
                )
            })
    }

    /// One that may be absent; an empty one counts as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    /// A whole number in a range.
    pub fn number(
        &self,
        name: &'static str,
        default: u64,
        min: u64,
        max: u64,
    ) -> Result<u64, Problem> {
        Ok(self.optional_number(name, min, max)?.unwrap_or(default))
    }

    /// A whole number in a range, that may be absent.
    pub fn optional_number(
        &self,
        name: &'static str,
        min: u64,
        max: u64,
    ) -> Result<Option<u64>, Problem> {
        match self.text(name).map(u64::from_str) {
            None => Ok(None),
            Some(Ok(number)) if (min..=max).contains(&number) => Ok(Some(number)),
            Some(_) => Err(Problem::field(
                name,
                format!("`{name}` must be a whole number from {min} to {max}"),
            )),
        }
    }

    /// An id that may be absent.
    pub fn id(&self, name: &'static str) -> Result<Option<Id>, Problem> {
        self.text(name).map(|text| id(name, text)).transpose()
    }
}
