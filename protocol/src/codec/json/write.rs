//! The JSON writer: members in the schema's order, defaults but for enumerations' left out, so that one message has
//! one text.

use crate::id::Id;
use crate::names::Named;

/// A checked view that writes its fields as members, each with a comma in front.
pub(crate) trait WriteMembers {
    fn write_members(&self, out: &mut Vec<u8>);
}

/// A key is `,"name":`; the comma goes where a value stands before it.
fn key(out: &mut Vec<u8>, key: &'static str) {
    let first = out.last() == Some(&b'{');
    out.extend_from_slice(&key.as_bytes()[usize::from(first)..]);
}

pub(crate) fn number(out: &mut Vec<u8>, name: &'static str, value: u64) {
    if value != 0 {
        key(out, name);
        digits(out, value);
    }
}

pub(crate) fn hex64(out: &mut Vec<u8>, name: &'static str, value: u64) {
    if value != 0 {
        key(out, name);
        out.push(b'"');
        out.extend_from_slice(&Id::from_halves(0, value).to_hex()[16..]);
        out.push(b'"');
    }
}

pub(crate) fn boolean(out: &mut Vec<u8>, name: &'static str, value: bool, default: bool) {
    if value != default {
        key(out, name);
        out.extend_from_slice(if value { b"true" } else { b"false" });
    }
}

pub(crate) fn text(out: &mut Vec<u8>, name: &'static str, value: Option<&str>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        key(out, name);
        string(out, value);
    }
}

pub(crate) fn id(out: &mut Vec<u8>, name: &'static str, value: Id) {
    if let Some(id) = value.present() {
        key(out, name);
        out.push(b'"');
        out.extend_from_slice(&id.to_hex());
        out.push(b'"');
    }
}

/// The name, also where it is the default: a person reads `"outcome":"accepted"`, not its absence. Only `none` is
/// left out, which says no more than that; and a value from a newer schema, like a field from one.
pub(crate) fn enumeration(out: &mut Vec<u8>, name: &'static str, value: impl Named) {
    if let Some(text) = value.name().filter(|text| *text != "none") {
        key(out, name);
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    }
}

pub(crate) fn table(out: &mut Vec<u8>, name: &'static str, value: &impl WriteMembers) {
    key(out, name);
    out.push(b'{');
    value.write_members(out);
    out.push(b'}');
}

/// A list; an empty one is left out like an absent one.
pub(crate) fn tables(
    out: &mut Vec<u8>,
    name: &'static str,
    values: impl Iterator<Item = impl WriteMembers>,
) {
    let mut values = values.peekable();
    if values.peek().is_none() {
        return;
    }
    key(out, name);
    out.push(b'[');
    for (index, value) in values.enumerate() {
        out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        value.write_members(out);
        out.push(b'}');
    }
    out.push(b']');
}

/// Decimal digits.
pub(crate) fn digits(out: &mut Vec<u8>, mut value: u64) {
    let (mut text, mut at) = ([0; 20], 20);
    loop {
        at -= 1;
        text[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

/// What stands after the backslash for each byte that needs one; `u` = `\u00XX`; 0 = as it is.
pub(super) const ESCAPES: [u8; 256] = {
    let mut escapes = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = b'u';
        control += 1;
    }
    escapes[0x08] = b'b';
    escapes[0x09] = b't';
    escapes[0x0a] = b'n';
    escapes[0x0c] = b'f';
    escapes[0x0d] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'\\' as usize] = b'\\';
    escapes
};

/// A string in quotes, escaped as `JSON.stringify` does.
pub(crate) fn string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|&byte| ESCAPES[usize::from(byte)] != 0)
    {
        let byte = rest[at];
        out.extend_from_slice(&rest[..at]);
        match ESCAPES[usize::from(byte)] {
            b'u' => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
            escape => out.extend_from_slice(&[b'\\', escape]),
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
