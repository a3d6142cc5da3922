//! The bodies of the fuzz targets with what they assert: bytes in, a panic if something does not hold. A target is one
//! line that calls one of them. What parses stands beside the parser; here is the list.

use std::borrow::Cow;

use crate::engine::input::Input;
use crate::engine::model::{Op, World};

pub use crate::http::fuzzing::{http_body, http_query};

/// A body.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const BODIES: &[(&str, Body)] = &[
    ("engine_operations", engine_operations),
    ("http_body", http_body),
    ("http_query", http_query),
    ("journal_input", journal_input),
];

/// Operations of one engine.
const OPERATIONS_MAX: usize = 200;

/// What a few people do, written as bytes: after each operation memory and rows tell the same story.
pub fn engine_operations(mut bytes: &[u8]) {
    let mut world = World::new();
    for _ in 0..OPERATIONS_MAX {
        let Some(operation) = Op::decode(&mut bytes) else {
            return;
        };
        world.run(&operation);
        world.check();
    }
}

/// An input of the engine as the journal keeps it: what is read is written again as the same, and no part of it is one.
pub fn journal_input(bytes: &[u8]) {
    let Ok(input) = Input::read(bytes) else {
        return;
    };
    let mut written = Vec::new();
    input.write(&mut written);
    assert_eq!(Input::read(&written).as_ref(), Ok(&input));
    // Commands are kept as JSON, which can be spelt in many ways; everything else in one.
    if let Input::Http { command, .. } | Input::HttpReplaced { command, .. } = &input {
        assert!(matches!(command, Cow::Owned(_)));
    } else {
        let differing = written.iter().zip(bytes).filter(|(a, b)| a != b).count();
        assert_eq!(written.len(), bytes.len());
        assert!(differing <= 1, "but for a truth that is neither 0 nor 1");
    }
    for end in 0..bytes.len().min(64) {
        assert!(Input::read(&bytes[..end]).is_err(), "the first {end} bytes");
    }
}

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
        fn no_body_fails_on_text_that_resembles_json(text in "[0-5]\\{(\"(name|text|id|page|accent|replies|settings|shared|role)\":(\"[a-f0-9 :/#]{0,40}\"|[0-9]{1,4}|true|null|\\[\\]|\\[\\{\"text\":\"x\"\\}\\]|\\{\\}),){0,6}\"x\":1\\}") {
            http_body(text.as_bytes());
        }
    }
}
