//! What nobody has to see. Tokens and tickets let whoever has them in: they are never shown and never kept. Texts are shown
//! and kept only where somebody asked for them.

use std::ops::Range;

use tidegate_protocol::bus::{self, ENVELOPE, ENVELOPE_DOWN, MULTICAST, OPENED, Opened};
use tidegate_protocol::{Kind, View, fb, verify};

/// Members that hold a secret, and those that hold what a person wrote, by their names in JSON.
const SECRETS: [&[u8]; 2] = [b"token", b"ticket"];
const BODIES: [&[u8]; 2] = [b"text", b"last_text"];

/// Stands where a secret or a text stood in a payload: of the same length, so that everything else stays where it is.
const FILL: u8 = b'*';

/// Replaces, in a message as JSON, secrets by «masked» and, unless wanted, texts by «12 characters».
pub fn json(text: &str, bodies: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut key) = (text, None);
    while let Some(begin) = rest.find('"') {
        let string = &rest[begin + 1..];
        let end = closing_quote(string);
        let (inner, after) = (&string[..end], &string[(end + 1).min(string.len())..]);
        out.push_str(&rest[..begin]);
        let is_key = after.starts_with(':');
        let name: &[u8] = key.take().unwrap_or_default();
        if !is_key && SECRETS.contains(&name) {
            out.push_str("\"«masked»\"");
        } else if !is_key && !bodies && BODIES.contains(&name) {
            out.push_str(&format!("\"«{} characters»\"", characters(inner)));
        } else {
            out.push('"');
            out.push_str(inner);
            out.push('"');
        }
        if is_key {
            key = Some(inner.as_bytes());
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Bytes up to the quote that ends a JSON string.
fn closing_quote(string: &str) -> usize {
    let mut is_escaped = false;
    let end = string.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.unwrap_or(string.len())
}

/// Characters of a JSON string: an escape is one.
fn characters(inner: &str) -> usize {
    let mut count = 0;
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        count += 1;
        if char == '\\' && chars.next() == Some('u') {
            let _four_digits = chars.nth(3);
        }
    }
    count
}

/// Overwrites secrets and, unless wanted, texts in the payload of a record of the bus. What cannot be read as what its
/// kind says is emptied: nobody knows what is in it.
pub fn record(kind: u16, flags: u16, payload: &mut [u8], bodies: bool) {
    let ranges = match kind {
        OPENED => Opened::read(payload)
            .ok()
            .and_then(|opened| match opened.hello {
                [] => Some(Vec::new()),
                hello => ranges(Kind::Hello, hello, within(payload, hello), bodies),
            }),
        ENVELOPE | ENVELOPE_DOWN => {
            envelope_kind(flags).and_then(|kind| ranges(kind, payload, 0, bodies))
        }
        MULTICAST => bus::read_multicast(payload).ok().and_then(|(_, body)| {
            ranges(envelope_kind(flags)?, body, within(payload, body), bodies)
        }),
        bus::BROADCAST => bus::read_fixed::<bus::BroadcastFilter>(payload)
            .ok()
            .and_then(|(_, body)| {
                ranges(envelope_kind(flags)?, body, within(payload, body), bodies)
            }),
        bus::CLOSED | bus::CLOSE | bus::DRAIN => Some(Vec::new()),
        _ => None,
    };
    match ranges {
        Some(ranges) => ranges
            .into_iter()
            .for_each(|range| payload[range].fill(FILL)),
        None => payload.fill(0),
    }
}

/// The kind of an envelope, in the low byte of a record's flags.
pub fn envelope_kind(flags: u16) -> Option<Kind> {
    let [kind, _] = flags.to_le_bytes();
    Kind::from_u8(kind)
}

/// Where a part of these bytes begins.
fn within(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}

/// Where the strings to hide lie, beyond `offset`. `None`: it is no such envelope.
fn ranges(kind: Kind, payload: &[u8], offset: usize, bodies: bool) -> Option<Vec<Range<usize>>> {
    let view = verify(kind, payload).ok()?;
    let mut found: Vec<&str> = Vec::new();
    let mut texts: Vec<&str> = Vec::new();
    match view {
        View::Hello(hello) => found.extend(hello.token().into_iter().chain(hello.ticket())),
        View::Wait(wait) => found.extend(wait.ticket()),
        View::Admitted(admitted) => found.extend(admitted.ticket()),
        View::Send(send) => texts.extend(send.text()),
        View::Message(message) => texts.extend(message.text()),
        View::ConversationState(state) => texts.extend(state.last_text()),
        View::Welcome(welcome) => {
            let states = welcome.conversations().into_iter().flatten();
            texts.extend(states.filter_map(|one| one.state().as_ref().and_then(last_text)));
        }
        _ => {}
    }
    if !bodies {
        found.append(&mut texts);
    }
    let range = |text: &str| {
        let begin = offset + within(payload, text.as_bytes());
        begin..begin + text.len()
    };
    Some(found.into_iter().map(range).collect())
}

fn last_text<'a>(state: &fb::ConversationState<'a>) -> Option<&'a str> {
    state.last_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_protocol::message;

    #[test]
    fn texts_are_counted_and_secrets_are_never_shown() {
        let line = r#"{"kind":"send","n":1,"text":"a \"b\" \u0041 访客","token":"abc","last_text":"x","name":"token"}"#;
        assert_eq!(
            json(line, false),
            r#"{"kind":"send","n":1,"text":"«10 characters»","token":"«masked»","last_text":"«1 characters»","name":"token"}"#
        );
        assert_eq!(json(line, true), line.replace("abc", "«masked»"));
        assert_eq!(
            json(r#"{"text":"ends in the mid"#, false),
            r#"{"text":"«15 characters»""#
        );
    }

    #[test]
    fn a_payload_keeps_its_shape_and_loses_what_was_said() {
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let text = "my card number is 4711";
        let mut payload = message::Send {
            n: 7,
            text,
            ..Default::default()
        }
        .encode(&mut builder)
        .to_vec();
        let kept = payload.clone();
        record(ENVELOPE, Kind::Send as u16, &mut payload, true);
        assert_eq!(payload, kept);
        record(ENVELOPE, Kind::Send as u16, &mut payload, false);
        let Ok(View::Send(send)) = verify(Kind::Send, &payload) else {
            panic!("still a Send")
        };
        assert_eq!((send.n(), send.text()), (7, Some("**********************")));
    }

    #[test]
    fn a_token_leaves_a_hello_even_where_texts_are_wanted_and_what_is_unknown_is_emptied() {
        let mut builder = flatbuffers::FlatBufferBuilder::new();
        let hello = message::Hello {
            token: "secret",
            ticket: "pass",
            ..Default::default()
        }
        .encode(&mut builder)
        .to_vec();
        let opened = Opened {
            record: Default::default(),
            name: "Ann",
            hello: &hello,
        };
        let mut payload = vec![0; opened.bytes()];
        opened.write(&mut payload);
        record(OPENED, 0, &mut payload, true);
        let read = Opened::read(&payload).expect("still whole");
        let Ok(View::Hello(hello)) = verify(Kind::Hello, read.hello) else {
            panic!("still a Hello")
        };
        assert_eq!(
            (hello.token(), hello.ticket(), read.name),
            (Some("******"), Some("****"), "Ann")
        );
        let mut unknown = *b"what is this";
        record(99, 0, &mut unknown, true);
        assert_eq!(unknown, [0; 12]);
    }
}
