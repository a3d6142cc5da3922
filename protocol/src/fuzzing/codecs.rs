//! Bodies around messages: what one codec accepts, the other writes, and it comes back the same.

use serde_json::Value;

use crate::bus;
use crate::codec::json::{self, JsonDecoder};
use crate::envelope::{BatchReader, Envelope, Kind, Malformed, verifier, verify};
use crate::fb;
use crate::limits::{JSON_NUMBER_MAX, TABLE_DEPTH_MAX, TABLES_PER_PAYLOAD_MAX};
use crate::names::ENUMERATIONS;

/// A batch of envelopes: what verifies becomes JSON, which any reader parses, and from which the same comes back.
pub fn envelope_batch(input: &[u8]) {
    let mut total = 0;
    for envelope in BatchReader::new(input) {
        let Ok(Envelope {
            kind,
            timestamp_us,
            payload,
        }) = envelope
        else {
            break;
        };
        total += crate::envelope::ENVELOPE_HEADER_BYTES + payload.len();
        if let Some(kind) = Kind::from_u8(kind) {
            through_json(kind, timestamp_us, payload);
        }
    }
    assert!(total <= input.len());
}

/// A payload of the kind that the first byte picks.
pub fn payload(input: &[u8]) {
    if let Some((&kind, payload)) = input.split_first() {
        through_json(Kind::ALL[usize::from(kind) % Kind::ALL.len()], 1, payload);
    }
}

fn through_json(kind: Kind, timestamp_us: u64, payload: &[u8]) {
    verifiers_agree(kind, payload);
    let Ok(view) = verify(kind, payload) else {
        return;
    };
    let mut text = Vec::new();
    json::encode(&mut text, timestamp_us, &view);
    let text = String::from_utf8(text).expect("JSON is UTF-8");
    serde_json::from_str::<serde::de::IgnoredAny>(&text).expect("any reader parses what we write");
    let mut decoder = JsonDecoder::default();
    match decoder.decode(&text).next().expect("a known kind") {
        Ok(again) => {
            assert_eq!((again.kind, again.timestamp_us), (kind as u8, timestamp_us));
            let second = encoded(kind, timestamp_us, again.payload);
            if second != text {
                let parse = |text| serde_json::from_str::<Value>(text).expect("parsed before");
                let first = parse(&text);
                let mut second = parse(&second);
                drop_defaults_of_the_unknown(&mut second, &first);
                assert_eq!(second, first, "{text}");
            }
        }
        // FlatBuffers hold what JSON's bounds refuse: numbers beyond 2^53, and lists and payloads that grow.
        Err(error) => {
            let digits = JSON_NUMBER_MAX.to_string().len();
            let large = text
                .split(|c: char| !c.is_ascii_digit())
                .any(|number| number.len() >= digits);
            assert!(large || text.len() > 2000, "{text}: {error}");
        }
    }
}

/// Our verifier takes what that of the `flatbuffers` crate takes, and nothing else. They count the work differently: theirs
/// every byte looked at, ours those of texts; so theirs is asked with our bound, and without any.
pub(crate) fn verifiers_agree(kind: Kind, payload: &[u8]) {
    macro_rules! theirs {
        ($max_apparent_size:expr, $($kind:ident)*) => {{
            let options = flatbuffers::VerifierOptions {
                max_depth: TABLE_DEPTH_MAX,
                max_tables: TABLES_PER_PAYLOAD_MAX,
                max_apparent_size: $max_apparent_size,
                ignore_missing_null_terminator: false,
            };
            match kind {
                $(Kind::$kind => flatbuffers::root_with_opts::<fb::$kind<'_>>(&options, payload).is_ok()),*
            }
        }};
        ($max_apparent_size:expr) => {
            theirs!($max_apparent_size, Hello Ping Send Ack Typing Command Welcome Pong SendResult Message ConversationState
                Receipt TypingNotice QueueUpdate Presence Error Wait Goaway Admitted)
        };
    }
    let ours = verifier::holds(payload, kind.table());
    if ours {
        assert!(
            theirs!(usize::MAX),
            "{kind:?}: only ours takes {payload:x?}"
        );
    } else {
        assert!(
            !theirs!(verifier::TEXT_BYTES_MAX),
            "{kind:?}: ours refuses {payload:x?}"
        );
    }
}

/// A newer schema's value of an enumeration has no name here, so its member is left out of the first text; read again
/// it is the default, whose name the second text has. Takes those members out.
fn drop_defaults_of_the_unknown(second: &mut Value, first: &Value) {
    match (second, first) {
        (Value::Object(second), Value::Object(first)) => {
            let is_default = |value: &Value| {
                ENUMERATIONS
                    .iter()
                    .any(|(_, values)| values.first().is_some_and(|(name, _)| value == name))
            };
            second.retain(|key, value| first.contains_key(key) || !is_default(value));
            for (key, value) in second {
                drop_defaults_of_the_unknown(value, first.get(key).unwrap_or(&Value::Null));
            }
        }
        (Value::Array(second), Value::Array(first)) => {
            for (second, first) in second.iter_mut().zip(first) {
                drop_defaults_of_the_unknown(second, first);
            }
        }
        _ => {}
    }
}

/// A text: what is accepted is JSON to any reader, verifies, and is written and read again as the same.
pub fn json_text(input: &[u8]) {
    let Ok(text) = core::str::from_utf8(input) else {
        return;
    };
    let mut decoder = JsonDecoder::default();
    let mut batch = decoder.decode(text);
    let mut texts = Vec::new();
    let accepted = loop {
        match batch.next() {
            None => break true,
            Some(Err(error)) => {
                assert!(error.at_bytes <= text.len());
                break false;
            }
            Some(Ok(envelope)) => {
                let kind = Kind::from_u8(envelope.kind).expect("unknown kinds are skipped");
                // Lengths of fields are refused at the door that all codecs lead to.
                if let Err(error) = verify(kind, envelope.payload) {
                    assert!(matches!(error, Malformed::TooMuch { .. }), "{error}");
                    continue;
                }
                texts.push((
                    kind,
                    envelope.timestamp_us,
                    encoded(kind, envelope.timestamp_us, envelope.payload),
                ));
            }
        }
    };
    if accepted {
        serde_json::from_str::<serde::de::IgnoredAny>(text).expect("what we accept is JSON");
    }
    for (kind, timestamp_us, text) in texts {
        let mut batch = decoder.decode(&text);
        let again = batch.next().expect("a known kind").expect("what we write");
        assert_eq!(encoded(kind, timestamp_us, again.payload), text);
    }
}

fn encoded(kind: Kind, timestamp_us: u64, payload: &[u8]) -> String {
    let mut text = Vec::new();
    json::encode(
        &mut text,
        timestamp_us,
        &verify(kind, payload).expect("what a decoder makes verifies"),
    );
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// A record of the bus: what is read is written again as the same.
pub fn bus_record(input: &[u8]) {
    if let Ok(opened) = bus::Opened::read(input) {
        let mut again = vec![0; opened.bytes()];
        opened.write(&mut again);
        assert_eq!(bus::Opened::read(&again), Ok(opened));
    }
    if let Ok((targets, payload)) = bus::read_multicast(input) {
        let targets: Vec<_> = targets.collect();
        let mut again = vec![0; bus::multicast_bytes(targets.len(), payload.len())];
        bus::write_multicast(&mut again, &targets, payload);
        assert_eq!(again[8..], input[8..]);
    }
    let _ = bus::read_fixed::<bus::CloseRecord>(input);
    let _ = bus::read_fixed::<bus::ClosedRecord>(input);
    let _ = bus::read_fixed::<bus::BroadcastFilter>(input);
}
