//! JSON text to envelopes with FlatBuffers payloads. A decoder is kept and reused: once its buffers have grown,
//! nothing is allocated for a message.

use flatbuffers::FlatBufferBuilder;

use super::JsonError;
use super::scan::{RawString, Scanner};
use crate::envelope::{Envelope, Kind};
use crate::id::Id;
use crate::limits::{
    CURSORS_PER_HELLO_MAX, ENVELOPE_PAYLOAD_BYTES_MAX, ENVELOPES_PER_BATCH_MAX, JSON_NUMBER_MAX,
};
use crate::message::table::{self, Built, Class, FIELDS_MAX, Field, Slot, Table};

/// Elements of a list that a message may hold.
const LIST_ELEMENTS_MAX: usize = CURSORS_PER_HELLO_MAX;

/// What decoding needs besides the text.
#[derive(Default)]
pub struct JsonDecoder {
    buffers: Buffers,
}

#[derive(Default)]
struct Buffers {
    builder: FlatBufferBuilder<'static>,
    /// A string whose escapes were resolved.
    unescaped: Vec<u8>,
    /// The elements of lists that are being read.
    children: Vec<Built>,
}

impl core::fmt::Debug for JsonDecoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("JsonDecoder")
    }
}

impl JsonDecoder {
    /// Reads one text message: an object, or an array of objects.
    pub fn decode<'d>(&'d mut self, text: &'d str) -> JsonBatch<'d> {
        JsonBatch {
            buffers: &mut self.buffers,
            scanner: Scanner::new(text),
            place: Place::Start,
            taken: 0,
        }
    }
}

/// Where a batch stands between two of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    AfterComma,
    AfterElement,
    /// A lone object was read: nothing may follow.
    AfterObject,
    End,
}

/// The messages of one text, in order; those before a bad one count. After an error it is at its end.
pub struct JsonBatch<'d> {
    buffers: &'d mut Buffers,
    scanner: Scanner<'d>,
    place: Place,
    taken: usize,
}

impl JsonBatch<'_> {
    /// The next message. It borrows the decoder, so it is not an [`Iterator`]. Unknown kinds are skipped.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator's items can't borrow from it"
    )]
    pub fn next(&mut self) -> Option<Result<Envelope<'_>, JsonError>> {
        match self.advance() {
            Ok(None) => None,
            Ok(Some((kind, timestamp_us))) => {
                let payload = self.buffers.builder.finished_data();
                Some(Ok(Envelope {
                    kind: kind as u8,
                    timestamp_us,
                    payload,
                }))
            }
            Err(error) => {
                self.place = Place::End;
                Some(Err(error))
            }
        }
    }

    /// Reads up to the end of the next object of a known kind, whose payload is then in the builder.
    fn advance(&mut self) -> Result<Option<(Kind, u64)>, JsonError> {
        loop {
            match self.place {
                Place::End => return Ok(None),
                Place::Start if self.scanner.take(b'[') => {
                    if self.scanner.take(b']') {
                        self.place = Place::AfterObject;
                        continue;
                    }
                    self.place = Place::AfterElement;
                }
                Place::Start => self.place = Place::AfterObject,
                Place::AfterComma => self.place = Place::AfterElement,
                Place::AfterElement => {
                    self.place = if self.scanner.another(b']')? {
                        Place::AfterComma
                    } else {
                        Place::AfterObject
                    };
                    continue;
                }
                Place::AfterObject => {
                    self.place = Place::End;
                    return if self.scanner.is_at_end() {
                        Ok(None)
                    } else {
                        Err(self.scanner.malformed("the end of the message"))
                    };
                }
            }
            if self.taken == ENVELOPES_PER_BATCH_MAX {
                return Err(self.scanner.malformed("fewer messages in one batch"));
            }
            self.taken += 1;
            if let Some(message) = self.buffers.message(&mut self.scanner)? {
                return Ok(Some(message));
            }
        }
    }
}

impl Buffers {
    /// One message; `None` if its kind is unknown.
    fn message(&mut self, scanner: &mut Scanner<'_>) -> Result<Option<(Kind, u64)>, JsonError> {
        let name = self.kind_name(*scanner)?;
        let Some(kind) = Kind::from_name(name.resolve(&mut self.unescaped)) else {
            scanner.skip_value()?;
            return Ok(None);
        };
        self.builder.reset();
        self.children.clear();
        let mut timestamp_us = 0;
        let root = self.object(scanner, kind.table(), Some(&mut timestamp_us))?;
        self.builder.finish_minimal(root);
        if self.builder.finished_data().len() > ENVELOPE_PAYLOAD_BYTES_MAX {
            return Err(scanner.malformed("a shorter message"));
        }
        Ok(Some((kind, timestamp_us)))
    }

    /// Looks ahead for `kind`, which is usually the first member.
    fn kind_name<'j>(&mut self, mut scanner: Scanner<'j>) -> Result<RawString<'j>, JsonError> {
        scanner.expect(b'{', "an object with `kind`")?;
        if !scanner.take(b'}') {
            loop {
                let key = scanner.key()?;
                if key.resolve(&mut self.unescaped) == b"kind" {
                    return scanner.string().map_err(|error| error.of("kind"));
                }
                scanner.skip_value()?;
                if !scanner.another(b'}')? {
                    break;
                }
            }
        }
        Err(scanner.malformed("a member `kind`").of("kind"))
    }

    /// An object of that table; `timestamp_us` stands beside the fields of a message.
    fn object(
        &mut self,
        scanner: &mut Scanner<'_>,
        table: &'static Table,
        mut timestamp_us: Option<&mut u64>,
    ) -> Result<Built, JsonError> {
        let mut slots = [Slot::Absent; FIELDS_MAX];
        scanner.expect(b'{', "an object")?;
        let mut likely = 0;
        if !scanner.take(b'}') {
            loop {
                let key = scanner.key()?;
                let name = key.resolve(&mut self.unescaped);
                if let Some(index) = find(table.fields, name, likely) {
                    slots[index] = self.value(scanner, &table.fields[index])?;
                    likely = index + 1;
                } else if let (b"ts", Some(timestamp_us)) = (name, timestamp_us.as_deref_mut()) {
                    *timestamp_us =
                        number(scanner, JSON_NUMBER_MAX).map_err(|error| error.of("ts"))?;
                } else {
                    scanner.skip_value()?;
                }
                if !scanner.another(b'}')? {
                    break;
                }
            }
        }
        Ok(table::build(
            table,
            &slots[..table.fields.len()],
            &mut self.builder,
        ))
    }

    fn value(
        &mut self,
        scanner: &mut Scanner<'_>,
        field: &'static Field,
    ) -> Result<Slot, JsonError> {
        if scanner.word("null") {
            return Ok(Slot::Absent);
        }
        self.present_value(scanner, field.class)
            .map_err(|error| error.of(field.name))
    }

    fn present_value(
        &mut self,
        scanner: &mut Scanner<'_>,
        class: Class,
    ) -> Result<Slot, JsonError> {
        match class {
            Class::U64 => number(scanner, JSON_NUMBER_MAX).map(Slot::U64),
            Class::U32 => {
                let value = number(scanner, u64::from(u32::MAX))?;
                Ok(Slot::U32(
                    u32::try_from(value).expect("invariant: checked against u32::MAX"),
                ))
            }
            Class::Bool(_) if scanner.word("true") => Ok(Slot::U8(1)),
            Class::Bool(_) if scanner.word("false") => Ok(Slot::U8(0)),
            Class::Bool(_) => Err(scanner.malformed("true or false")),
            Class::Hex64 => {
                let text = self.text(scanner)?;
                parse_hex(text, 16)
                    .map(|id| Slot::U64(id.lo()))
                    .ok_or(scanner.malformed("16 hex digits"))
            }
            Class::Id => {
                let text = self.text(scanner)?;
                parse_hex(text, 32)
                    .map(Slot::id)
                    .ok_or(scanner.malformed("32 hex digits"))
            }
            Class::Enumeration(expected, from_name) => {
                let text = self.text(scanner)?;
                from_name(text)
                    .map(Slot::U8)
                    .ok_or(scanner.malformed(expected))
            }
            Class::Text => {
                let raw = scanner.string()?;
                let text = raw.resolve(&mut self.unescaped);
                if text.is_empty() {
                    return Ok(Slot::Absent);
                }
                Ok(Slot::Child(
                    self.builder.create_byte_string(text).as_union_value(),
                ))
            }
            Class::Table(table) => self.object(scanner, table, None).map(Slot::child),
            Class::Tables(table) => self.list(scanner, table),
        }
    }

    fn list(
        &mut self,
        scanner: &mut Scanner<'_>,
        table: &'static Table,
    ) -> Result<Slot, JsonError> {
        scanner.expect(b'[', "an array")?;
        if scanner.take(b']') {
            return Ok(Slot::Absent);
        }
        let start = self.children.len();
        loop {
            if self.children.len() - start == LIST_ELEMENTS_MAX {
                return Err(scanner.malformed("at most 64 elements"));
            }
            let child = self.object(scanner, table, None)?;
            self.children.push(child);
            if !scanner.another(b']')? {
                break;
            }
        }
        let slot = Slot::children(&self.children[start..], &mut self.builder);
        self.children.truncate(start);
        Ok(slot)
    }

    fn text<'s, 'j: 's>(&'s mut self, scanner: &mut Scanner<'j>) -> Result<&'s [u8], JsonError> {
        Ok(scanner.string()?.resolve(&mut self.unescaped))
    }
}

/// Members mostly come in the schema's order: the search begins behind the last one found.
fn find(fields: &[Field], name: &[u8], likely: usize) -> Option<usize> {
    let matches = |index: &usize| fields[*index].name.as_bytes() == name;
    (likely..fields.len())
        .chain(0..likely.min(fields.len()))
        .find(matches)
}

fn number(scanner: &mut Scanner<'_>, max: u64) -> Result<u64, JsonError> {
    let found = scanner.number()?.parse().ok().filter(|&value| value <= max);
    found.ok_or(scanner.malformed("a whole number in its range"))
}

fn parse_hex(text: &[u8], digits: usize) -> Option<Id> {
    if text.len() != digits {
        return None;
    }
    let (hi, lo) = text.split_at(digits.saturating_sub(16));
    Some(Id::from_halves(parse_hex64(hi)?, parse_hex64(lo)?))
}

/// At most 16 digits. A digit that is none leaves a bit above those that digits set, which is looked at once.
fn parse_hex64(text: &[u8]) -> Option<u64> {
    let (mut value, mut seen) = (0, 0);
    for &digit in text {
        let nibble = NIBBLES[usize::from(digit)];
        seen |= nibble;
        value = value << 4 | u64::from(nibble & 15);
    }
    (seen < 16).then_some(value)
}

/// The value of each hex digit; 16 for what is none.
const NIBBLES: [u8; 256] = {
    let mut nibbles = [16; 256];
    let mut value = 0_u8;
    while value < 16 {
        nibbles[b"0123456789abcdef"[value as usize] as usize] = value;
        nibbles[b"0123456789ABCDEF"[value as usize] as usize] = value;
        value += 1;
    }
    nibbles
};
