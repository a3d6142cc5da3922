//! The bodies of the fuzz targets with what they assert: bytes in, a panic if something does not hold. A target is
//! one line that calls one of them; the unit tests below feed them from proptest and from the vectors.

pub(crate) mod codecs;
mod frames;
mod requests;

pub use codecs::{bus_record, envelope_batch, json_text, payload};
pub use frames::{close_frame, close_reason, frames_in_reads, mask, utf8};
pub use requests::{handshake, token};

/// A body.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const BODIES: &[(&str, Body)] = &[
    ("frames_in_reads", frames_in_reads),
    ("mask", mask),
    ("utf8", utf8),
    ("close_frame", close_frame),
    ("close_reason", close_reason),
    ("handshake", handshake),
    ("token", token),
    ("envelope_batch", envelope_batch),
    ("payload", payload),
    ("json_text", json_text),
    ("bus_record", bus_record),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_body_fails_on_arbitrary_bytes(bytes: Vec<u8>) {
            for (_, body) in BODIES {
                body(&bytes);
            }
        }

        #[test]
        fn no_body_fails_on_text_that_resembles_json(text in "[\\[\\]{},:\"a-z0-9\\\\u\\-. ]{0,80}") {
            json_text(text.as_bytes());
        }

        #[test]
        fn no_body_fails_on_a_message_with_some_bytes_changed(
            vector in 0..100_usize, changes: Vec<(prop::sample::Index, u8)>
        ) {
            let vectors = include_str!("../../vectors/envelopes.json");
            let vectors: serde_json::Value = serde_json::from_str(vectors).expect("JSON");
            let vectors = vectors.as_array().expect("an array");
            let vector = &vectors[vector % vectors.len()];
            let hex = vector["envelope_hex"].as_str().expect("hex");
            let mut envelope: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
                .collect();
            let mut json = vector["json"].to_string().into_bytes();
            for (at, value) in changes.iter().take(8) {
                let at_envelope = at.index(envelope.len());
                envelope[at_envelope] = *value;
                let at_json = at.index(json.len());
                json[at_json] = *value;
            }
            envelope_batch(&envelope);
            json_text(&json);
        }
    }
}
