//! The JSON codec: one text frame is one JSON object, or an array of them (a batch).
//!
//! `{"kind":"send","ts":1732000000000000,"n":1,"text":"hi"}`: members are the schema's fields by name, in the
//! schema's order on output, those with their default left out; `ts` is the envelope's timestamp, µs.
//! An id is 32 hex digits, `session` 16, an enumeration its snake_case name, every other number below 2^53.

pub(crate) mod write;

use crate::envelope::View;

/// Appends one message as a JSON object.
pub fn encode(out: &mut Vec<u8>, timestamp_us: u64, view: &View<'_>) {
    out.extend_from_slice(b"{\"kind\":\"");
    out.extend_from_slice(view.kind().name().as_bytes());
    out.push(b'"');
    write::number(out, ",\"ts\":", timestamp_us);
    view.write_members(out);
    out.push(b'}');
}
