//! The JSON codec as a person with a plain client meets it: what is taken, what is skipped, and what an error names.

use flatbuffers::FlatBufferBuilder;
use proptest::prelude::*;
use tidegate_protocol::codec::json::{JsonDecoder, JsonError, encode};
use tidegate_protocol::limits::{ENVELOPES_PER_BATCH_MAX, JSON_NUMBER_MAX};
use tidegate_protocol::{Id, Kind, View, fb, message, verify};

/// The messages of a text as our own JSON, and how it ended.
fn decode(text: &str) -> (Vec<String>, Option<JsonError>) {
    let mut decoder = JsonDecoder::default();
    let mut batch = decoder.decode(text);
    let mut messages = Vec::new();
    while let Some(next) = batch.next() {
        match next {
            Ok(envelope) => {
                let kind = Kind::from_u8(envelope.kind).expect("unknown kinds are skipped");
                let view = verify(kind, envelope.payload).expect("verifies");
                let mut out = Vec::new();
                encode(&mut out, envelope.timestamp_us, &view);
                messages.push(String::from_utf8(out).expect("UTF-8"));
            }
            Err(error) => {
                assert!(
                    batch.next().is_none(),
                    "after an error a batch is at its end"
                );
                return (messages, Some(error));
            }
        }
    }
    (messages, None)
}

fn decode_one(text: &str) -> String {
    match decode(text) {
        (messages, None) if messages.len() == 1 => messages.into_iter().next().expect("one"),
        other => panic!("{text}: {other:?}"),
    }
}

fn error(text: &str) -> JsonError {
    decode(text).1.unwrap_or_else(|| panic!("accepted: {text}"))
}

#[test]
fn what_a_person_types_is_understood() {
    assert_eq!(
        decode_one(r#"{"kind":"send","n":1,"text":"hi"}"#),
        r#"{"kind":"send","n":1,"text":"hi"}"#
    );
    assert_eq!(
        decode_one(" { \"text\" : \"hi\" ,\r\n\t\"n\" : 1 , \"kind\" : \"send\" } "),
        r#"{"kind":"send","n":1,"text":"hi"}"#
    );
}

#[test]
fn members_that_the_schema_does_not_know_are_skipped_whatever_they_hold() {
    let text = r#"{"later":{"a":[1,-2.5e+3,"x\"}",null,true,{}],"b":[]},"kind":"send","n":1,"x":[[]],"text":"hi","y":false}"#;
    assert_eq!(decode_one(text), r#"{"kind":"send","n":1,"text":"hi"}"#);
}

#[test]
fn kinds_that_the_schema_does_not_know_are_skipped_and_the_others_count() {
    let text = r#"[{"kind":"later","n":"x"},{"kind":"ping","request":1},{"kind":"","kind2":0}]"#;
    assert_eq!(
        decode(text),
        (vec![r#"{"kind":"ping","request":1}"#.into()], None)
    );
}

#[test]
fn null_and_defaults_are_absent_but_for_enumerations_that_say_something() {
    let text = r#"{"kind":"command","request":0,"op":"none","conversation":null,"agent":"00000000000000000000000000000000","status":"offline","ts":0}"#;
    assert_eq!(decode_one(text), r#"{"kind":"command","status":"offline"}"#);
    assert_eq!(
        decode_one(r#"{"kind":"conversation_state","mine":true}"#),
        r#"{"kind":"conversation_state","status":"waiting"}"#
    );
    assert_eq!(
        decode_one(r#"{"kind":"conversation_state","status":"waiting","mine":false}"#),
        r#"{"kind":"conversation_state","status":"waiting","mine":false}"#
    );
}

#[test]
fn a_member_given_twice_counts_as_given_last() {
    assert_eq!(
        decode_one(r#"{"kind":"send","n":1,"n":2,"text":"a","text":"b"}"#),
        r#"{"kind":"send","n":2,"text":"b"}"#
    );
}

#[test]
fn escapes_are_resolved_in_names_and_values() {
    let text = r#"{"\u006bind":"s\u0065nd","te\u0078t":"\"\\\/\b\f\n\r\t\u6f22\ud83d\ude00"}"#;
    assert_eq!(
        decode_one(text),
        "{\"kind\":\"send\",\"text\":\"\\\"\\\\/\\b\\f\\n\\r\\t漢😀\"}"
    );
}

#[test]
fn half_a_surrogate_pair_becomes_the_replacement_character() {
    for half in [
        r"\ud83d",
        r"\ude00",
        r"\ud83d\ud83d",
        r"\ud83dx",
        r"\ude00\ud83d",
    ] {
        let text = format!(r#"{{"kind":"send","text":"a{half}b"}}"#);
        let replaced = decode_one(&text);
        assert!(replaced.contains('\u{fffd}'), "{replaced}");
    }
}

#[test]
fn a_wrong_type_or_range_names_its_field() {
    let over = JSON_NUMBER_MAX + 1;
    for (field, member) in [
        ("n", r#""n":"1""#.to_owned()),
        ("n", r#""n":-1"#.to_owned()),
        ("n", r#""n":1.5"#.to_owned()),
        ("n", r#""n":1e3"#.to_owned()),
        ("n", r#""n":01"#.to_owned()),
        ("n", format!(r#""n":{over}"#)),
        ("n", r#""n":99999999999999999999999"#.to_owned()),
        ("n", r#""n":true"#.to_owned()),
        ("n", r#""n":{}"#.to_owned()),
        ("text", r#""text":7"#.to_owned()),
        ("text", r#""text":["a"]"#.to_owned()),
        ("conversation", r#""conversation":"abc""#.to_owned()),
        (
            "conversation",
            format!(r#""conversation":"{}""#, "g".repeat(32)),
        ),
        ("conversation", r#""conversation":0"#.to_owned()),
        ("ts", r#""ts":"now""#.to_owned()),
    ] {
        let error = error(&format!(r#"{{"kind":"send",{member}}}"#));
        assert_eq!(error.field, Some(field), "{member}: {error}");
        assert_eq!(error.reason(), fb::Reason::UnknownField);
    }
    for (field, text) in [
        ("session", r#"{"kind":"hello","session":5}"#),
        ("session", r#"{"kind":"hello","session":"5"}"#),
        ("family", r#"{"kind":"hello","family":"fax"}"#),
        ("family", r#"{"kind":"hello","family":0}"#),
        ("cursors", r#"{"kind":"hello","cursors":{}}"#),
        ("cursors", r#"{"kind":"hello","cursors":[7]}"#),
        ("seq", r#"{"kind":"hello","cursors":[{"seq":"7"}]}"#),
        ("active", r#"{"kind":"typing","active":1}"#),
        (
            "position",
            r#"{"kind":"queue_update","position":4294967296}"#,
        ),
        ("kind", r#"{"n":1}"#),
        ("kind", r#"{"kind":7}"#),
        ("kind", r#"{}"#),
    ] {
        assert_eq!(error(text).field, Some(field), "{text}");
    }
}

#[test]
fn what_is_not_json_is_malformed_and_says_where() {
    for text in [
        "",
        " ",
        "null",
        "7",
        "\"send\"",
        "{",
        "[",
        "[{",
        "[]x",
        "{\"kind\"",
        "{\"kind\":",
        "{\"kind\":\"ping\"",
        "{\"kind\":\"ping\"}}",
        "{\"kind\":\"ping\"}{\"kind\":\"ping\"}",
        "{\"kind\":\"ping\",}",
        "[{\"kind\":\"ping\"},]",
        "[{\"kind\":\"ping\"}",
        "{kind:\"ping\"}",
        "{'kind':'ping'}",
        "{\"kind\":\"ping\",\"x\":tru}",
        "{\"kind\":\"ping\",\"x\":+1}",
        "{\"kind\":\"ping\",\"x\":.5}",
        "{\"kind\":\"ping\",\"x\":1.}",
        "{\"kind\":\"ping\",\"x\":1e}",
        "{\"kind\":\"ping\",\"x\":\"\n\"}",
        "{\"kind\":\"ping\",\"x\":\"\\x\"}",
        "{\"kind\":\"ping\",\"x\":\"\\u12g4\"}",
        "\u{feff}{\"kind\":\"ping\"}",
    ] {
        let error = error(text);
        assert!(error.at_bytes <= text.len());
        assert!(error.to_string().starts_with("expected "), "{error}");
    }
}

#[test]
fn nesting_beyond_the_bound_is_refused_without_deep_recursion() {
    let deep = format!(
        r#"{{"kind":"ping","x":{}{}}}"#,
        "[".repeat(60_000),
        "]".repeat(60_000)
    );
    assert!(error(&deep).to_string().contains("fewer objects"));
    let allowed = format!(
        r#"{{"kind":"ping","x":{}{}}}"#,
        "[".repeat(16),
        "]".repeat(16)
    );
    decode_one(&allowed);
}

#[test]
fn those_before_a_bad_one_count() {
    let (messages, error) =
        decode(r#"[{"kind":"ping","request":1},{"kind":"send","n":"x"},{"kind":"ping"}]"#);
    assert_eq!(messages, [r#"{"kind":"ping","request":1}"#]);
    assert_eq!(error.and_then(|error| error.field), Some("n"));
    assert_eq!(decode("[]"), (vec![], None));
}

#[test]
fn batches_and_lists_have_bounds() {
    let many = vec![r#"{"kind":"ping"}"#; ENVELOPES_PER_BATCH_MAX + 1].join(",");
    let (messages, error) = decode(&format!("[{many}]"));
    assert_eq!(messages.len(), ENVELOPES_PER_BATCH_MAX);
    assert!(error.is_some());
    let cursors = |count| {
        format!(
            r#"{{"kind":"hello","cursors":[{}]}}"#,
            vec![r#"{"seq":1}"#; count].join(",")
        )
    };
    decode_one(&cursors(64));
    assert_eq!(self::error(&cursors(65)).field, Some("cursors"));
}

#[test]
fn a_list_that_is_there_and_empty_is_written_like_an_absent_one() {
    let mut builder = FlatBufferBuilder::new();
    let none = builder.create_vector::<flatbuffers::WIPOffset<fb::Resumed<'_>>>(&[]);
    let args = fb::WelcomeArgs {
        request: 3,
        conversations: Some(none),
        ..Default::default()
    };
    let welcome = fb::Welcome::create(&mut builder, &args);
    builder.finish_minimal(welcome);
    let mut json = Vec::new();
    encode(
        &mut json,
        0,
        &verify(Kind::Welcome, builder.finished_data()).expect("verifies"),
    );
    let expected = r#"{"kind":"welcome","request":3,"role":"visitor","status":"offline"}"#;
    assert_eq!(String::from_utf8(json).expect("UTF-8"), expected);
}

#[test]
fn a_decoder_is_as_good_after_an_error_as_before() {
    let mut decoder = JsonDecoder::default();
    for text in [
        r#"{"kind":"hello","cursors":[{"seq":1},{"seq":"#,
        r#"{"kind":"send","text":"x","n":-"#,
        "{",
    ] {
        assert!(decoder.decode(text).next().expect("something").is_err());
        let good = r#"{"kind":"hello","cursors":[{"seq":3}]}"#;
        let mut batch = decoder.decode(good);
        let envelope = batch.next().expect("one").expect("valid");
        let Ok(View::Hello(hello)) = verify(Kind::Hello, envelope.payload) else {
            panic!("a Hello")
        };
        assert_eq!(hello.cursors().map(|cursors| cursors.len()), Some(1));
    }
}

proptest! {
    #[test]
    fn any_text_comes_back_through_json_and_any_reader_reads_it(text: String, n in 1..=JSON_NUMBER_MAX, id: u128) {
        let send = message::Send { n, conversation: Id(id), text: &text };
        let mut builder = FlatBufferBuilder::new();
        let payload = send.encode(&mut builder).to_vec();
        let mut json = Vec::new();
        encode(&mut json, 1, &verify(Kind::Send, &payload).expect("verifies"));
        let json = String::from_utf8(json).expect("UTF-8");
        let other: serde_json::Value = serde_json::from_str(&json).expect("JSON to any reader");
        prop_assert_eq!(other["text"].as_str().unwrap_or(""), &text);
        prop_assert_eq!(other["n"].as_u64(), Some(n));
        let mut decoder = JsonDecoder::default();
        for text in [&json, &ascii_only(&json)] {
            let mut batch = decoder.decode(text);
            let envelope = batch.next().expect("one").expect("valid");
            prop_assert_eq!(envelope.payload, &payload[..]);
        }
    }
}

/// The same JSON as Python's `json.dumps` writes it: everything beyond ASCII as `\u` escapes.
fn ascii_only(json: &str) -> String {
    let mut out = String::new();
    for unit in json.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\u{unit:04X}")),
        }
    }
    out
}
