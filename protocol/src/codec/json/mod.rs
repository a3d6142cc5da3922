//! The JSON codec: one text frame is one JSON object, or an array of them (a batch).
//!
//! `{"kind":"send","ts":1732000000000000,"n":1,"text":"hi"}`: members are the schema's fields by name, in the
//! schema's order on output, those with their default left out but for enumerations; `ts` is the envelope's timestamp, µs.
//! An id is 32 hex digits, `session` 16, an enumeration its snake_case name, every other number below 2^53.
//!
//! ```
//! use tidegate_protocol::codec::json::{JsonDecoder, encode};
//! use tidegate_protocol::{Kind, verify};
//!
//! let mut decoder = JsonDecoder::default();
//! let mut batch = decoder.decode(r#"[{"kind":"ping","request":7},{"kind":"send","n":"one"}]"#);
//! let ping = batch.next().expect("two messages")?;
//! let mut text = Vec::new();
//! encode(&mut text, 0, &verify(Kind::Ping, ping.payload)?);
//! assert_eq!(text, br#"{"kind":"ping","request":7}"#);
//!
//! let error = batch.next().expect("two messages").expect_err("n is no number");
//! assert_eq!(error.field, Some("n"));
//! assert_eq!(error.to_string(), "expected a number at byte 48");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod decode;
mod scan;
pub(crate) mod write;

pub use decode::{JsonBatch, JsonDecoder};

use crate::envelope::View;
use crate::fb;

/// Where a text stopped being a message of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} at byte {at_bytes}")]
pub struct JsonError {
    /// The innermost member at fault, by its name in the schema; `None` outside of any.
    pub field: Option<&'static str>,
    /// What should stand there.
    pub expected: &'static str,
    /// Bytes from the start of the text.
    pub at_bytes: usize,
}

impl JsonError {
    /// What to answer in Error.
    #[must_use]
    pub const fn reason(self) -> fb::Reason {
        match self.field {
            Some(_) => fb::Reason::UnknownField,
            None => fb::Reason::MalformedEnvelope,
        }
    }

    /// Within that field, if it is not within an inner one.
    const fn of(self, field: &'static str) -> Self {
        match self.field {
            Some(_) => self,
            None => Self {
                field: Some(field),
                ..self
            },
        }
    }
}

/// Appends one message as a JSON object.
pub fn encode(out: &mut Vec<u8>, timestamp_us: u64, view: &View<'_>) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(view.kind().name().as_bytes());
    out.push(b'"');
    write::number(out, ",\"ts\":", timestamp_us);
    view.write_members(out);
    out.push(b'}');
}
