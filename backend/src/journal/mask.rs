//! What people wrote, made unreadable in a way that keeps what the rules look at: every text keeps its length in bytes
//! and in characters, its white space and its control characters; equal texts stay equal and different ones different.
//! So a masked journal is replayed to the same rows, but for the texts in them and their hashes.
//!
//! A character is moved, within those of as many UTF-8 bytes, by a keyed hash of the characters before it, and then again
//! by one of what came of the characters behind it. The key follows from the installation's token key and stands in no
//! journal. Length and the places of spaces are still there to be read: a masked journal is not for everybody.
//!
//! Masked are texts of messages, names and pages of visitors, tokens and tickets, passwords' hashes, and what is said of an
//! input that broke the engine. Names of agents, settings and canned replies are not. The copy of a database that a chapter
//! begins with is masked in the same way (`base`).

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};

use tidegate_protocol::{Kind, View, verify};

use crate::engine::command::{Actor, HttpCommand};
use crate::engine::input::{Envelope, Input, Opened, Ruling};
use crate::engine::kinds::Role;
use crate::store::dump::hexadecimal;

/// First and last character that take so many bytes, without what lies between [`SURROGATES`].
const PLANES: [(u32, u32); 4] = [
    (0x21, 0x7f),
    (0x80, 0x800),
    (0x800, 0x1_0000),
    (0x1_0000, 0x11_0000),
];
const SURROGATES: (u32, u32) = (0xd800, 0xe000);

/// Masks texts.
pub struct Mask {
    keyed: DefaultHasher,
    /// Characters of the text that is being masked.
    characters: Vec<char>,
    /// An input's bytes with their texts masked.
    bytes: Vec<u8>,
}

impl Mask {
    /// With a key that follows from a secret of this installation.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut keyed = DefaultHasher::new();
        keyed.write(b"tidegate journal mask");
        keyed.write(secret);
        Self {
            keyed,
            characters: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// The text, masked.
    pub fn text(&mut self, text: &str) -> String {
        self.characters.clear();
        self.characters.extend(text.chars());
        self.pass();
        self.characters.reverse();
        self.pass();
        self.characters.iter().rev().collect()
    }

    /// A hash that could give a text away, replaced by one that cannot without the key.
    pub(super) fn number(&self, number: u64) -> u64 {
        let mut keyed = self.keyed.clone();
        keyed.write_u64(number);
        keyed.finish()
    }

    /// An input that was put aside, as its row keeps it, with its payload masked. What is no such input is blanked.
    pub(super) fn quarantined(&mut self, json: &str) -> String {
        self.quarantined_payload(json).unwrap_or_default()
    }

    fn quarantined_payload(&mut self, json: &str) -> Option<String> {
        let mut input: serde_json::Value = serde_json::from_str(json).ok()?;
        let kind = u8::try_from(input["kind"].as_u64()?).ok()?;
        let digits = input["payload_hex"].as_str()?.as_bytes();
        let (digits, []) = digits.as_chunks::<2>() else {
            return None;
        };
        let byte = |digits: &[u8; 2]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
        let payload: Vec<u8> = digits.iter().map(byte).collect::<Option<_>>()?;
        let mut masked = Vec::new();
        match Kind::from_u8(kind) {
            Some(kind) => self.payload(kind, &payload, &mut masked),
            None => payload.clone_into(&mut masked),
        }
        input["payload_hex"] = hexadecimal(&masked).into();
        Some(input.to_string())
    }

    /// Moves each character by what stood before it. It can be undone from the first one on by who has the key: so no
    /// two texts become one.
    fn pass(&mut self) {
        let mut before = self.keyed.clone();
        before.write_usize(self.characters.len());
        for character in &mut self.characters {
            let by = before.finish();
            before.write_u32(u32::from(*character));
            *character = moved(*character, by);
        }
    }

    /// Appends an input's written form, masked.
    pub(super) fn write(&mut self, input: &Input<'_>, out: &mut Vec<u8>) {
        let mut bytes = std::mem::take(&mut self.bytes);
        match input {
            Input::Opened(opened) => {
                self.payload(Kind::Hello, opened.hello, &mut bytes);
                let name = match opened.role {
                    Role::Visitor => self.text(opened.name),
                    _ => opened.name.to_owned(),
                };
                let masked = Opened {
                    name: &name,
                    hello: &bytes,
                    ..*opened
                };
                Input::Opened(masked).write(out);
            }
            Input::Envelope(envelope) => {
                let masked = self.envelope(envelope, &mut bytes);
                Input::Envelope(masked).write(out);
            }
            Input::Ruled { envelope, ruling } => {
                let text = match ruling {
                    Ruling::Refuse(text) | Ruling::Replace(text) => self.text(text),
                };
                let masked = Input::Ruled {
                    envelope: self.envelope(envelope, &mut bytes),
                    ruling: match ruling {
                        Ruling::Refuse(_) => Ruling::Refuse(&text),
                        Ruling::Replace(_) => Ruling::Replace(&text),
                    },
                };
                masked.write(out);
            }
            Input::BotSaid { conversation, text } => {
                let masked = Input::BotSaid {
                    conversation: *conversation,
                    text: Cow::Owned(self.text(text)),
                };
                masked.write(out);
            }
            Input::Quarantined {
                envelope,
                position,
                error,
            } => {
                let masked = Input::Quarantined {
                    envelope: self.envelope(envelope, &mut bytes),
                    position: *position,
                    // A panic that cuts a text where it can't be cut quotes it.
                    error: Cow::Owned(self.text(error)),
                };
                masked.write(out);
            }
            Input::Http { ticket, command } => {
                let masked = Input::Http {
                    ticket: *ticket,
                    command: self.masked(command),
                };
                masked.write(out);
            }
            Input::HttpReplaced {
                ticket,
                command,
                text,
            } => {
                let masked = Input::HttpReplaced {
                    ticket: *ticket,
                    command: self.masked(command),
                    text: Cow::Owned(self.text(text)),
                };
                masked.write(out);
            }
            other => other.write(out),
        }
        self.bytes = bytes;
    }

    fn envelope<'a>(&mut self, envelope: &Envelope<'_>, bytes: &'a mut Vec<u8>) -> Envelope<'a> {
        match Kind::from_u8(envelope.kind) {
            Some(kind) => self.payload(kind, envelope.payload, bytes),
            None => envelope.payload.clone_into(bytes),
        }
        Envelope {
            address: envelope.address,
            principal: envelope.principal,
            session: envelope.session,
            kind: envelope.kind,
            settled: envelope.settled,
            left_over: envelope.left_over,
            payload: bytes,
        }
    }

    /// Copies a payload and masks the texts in the copy, each in its place. What does not verify has none: the engine
    /// reads nothing of it either, and all of it is blanked.
    fn payload(&mut self, kind: Kind, payload: &[u8], into: &mut Vec<u8>) {
        payload.clone_into(into);
        let texts = match verify(kind, payload) {
            Ok(View::Send(send)) => [send.text(), None, None],
            Ok(View::Hello(hello)) => [hello.page(), hello.token(), hello.ticket()],
            Ok(_) => return,
            Err(_) => return into.fill(0xff),
        };
        for text in texts.into_iter().flatten() {
            // Both slices are of one payload: their addresses tell where the text stands in it.
            let at = text.as_ptr().addr() - payload.as_ptr().addr();
            let masked = self.text(text);
            into[at..at + text.len()].copy_from_slice(masked.as_bytes());
        }
    }

    fn masked(&mut self, command: &HttpCommand) -> Cow<'static, HttpCommand> {
        let mut command = command.clone();
        self.command(&mut command);
        Cow::Owned(command)
    }

    fn command(&mut self, command: &mut HttpCommand) {
        match command {
            HttpCommand::Send { by, text, page, .. } => {
                self.actor(by);
                *text = self.text(text);
                *page = self.text(page);
            }
            HttpCommand::Start { by, page } => {
                self.actor(by);
                *page = self.text(page);
            }
            HttpCommand::Close { by, .. }
            | HttpCommand::Transfer { by, .. }
            | HttpCommand::Take { by, .. }
            | HttpCommand::Acknowledge { by, .. }
            | HttpCommand::FindOpen { by }
            | HttpCommand::Find { by, .. }
            | HttpCommand::FindMine { by }
            | HttpCommand::FindWaiting { by, .. }
            | HttpCommand::SetStatus { by, .. } => self.actor(by),
            HttpCommand::PutAgent { agent } => {
                agent.password_hash = self.text(&agent.password_hash);
            }
            HttpCommand::PutWidget { .. }
            | HttpCommand::CleanSynthetic
            | HttpCommand::PutCannedReplies { .. } => {}
        }
    }

    fn actor(&mut self, by: &mut Actor) {
        if by.role == Role::Visitor {
            by.name = self.text(&by.name);
        }
    }
}

/// Another character of as many bytes. For each `by` a permutation of those that show; the others stay.
fn moved(character: char, by: u64) -> char {
    let stays = |character: char| character.is_whitespace() || character.is_control();
    if stays(character) {
        return character;
    }
    let plane = PLANES[character.len_utf8() - 1];
    let hole = |number: u32| {
        if plane.0 < SURROGATES.0 && SURROGATES.0 < plane.1 && number >= SURROGATES.0 {
            SURROGATES.1 - SURROGATES.0
        } else {
            0
        }
    };
    let size = u64::from(plane.1 - plane.0 - hole(plane.1));
    let mut place = u64::from(u32::from(character));
    place -= u64::from(plane.0 + hole(u32::from(character)));
    // The steps of one permutation are walked until a character shows: that is again a permutation.
    loop {
        place = (place + by % size) % size;
        let number = plane.0 + u32::try_from(place).expect("invariant: smaller than the plane");
        let number = number + hole(number);
        let to = char::from_u32(number).expect("invariant: the surrogates are left out");
        if !stays(to) {
            return to;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_masked_text_has_the_shape_of_its_text(text: String) {
            let mut mask = Mask::new(b"secret");
            let masked = mask.text(&text);
            let shape = |text: &str| -> Vec<(usize, bool, bool)> {
                text.chars().map(|one| (one.len_utf8(), one.is_whitespace(), one.is_control())).collect()
            };
            prop_assert_eq!(shape(&text), shape(&masked));
            prop_assert_eq!(mask.text(&text), masked, "equal texts stay equal");
        }
    }

    #[test]
    fn different_texts_stay_different_and_another_key_masks_otherwise() {
        let mut mask = Mask::new(b"secret");
        let letters: Vec<char> = ('!'..='~')
            .chain('一'..='乿')
            .chain('\u{d7f0}'..='\u{e010}')
            .collect();
        let mut texts: HashSet<String> = letters.iter().map(ToString::to_string).collect();
        for a in '0'..='z' {
            texts.extend(('0'..='z').map(|b| format!("{a}{b}")));
        }
        let masked: HashSet<String> = texts.iter().map(|text| mask.text(text)).collect();
        assert_eq!(masked.len(), texts.len());
        let long = "where is my order, please?";
        assert_ne!(mask.text(long), long);
        assert_ne!(mask.text(long), Mask::new(b"another").text(long));
    }
}
