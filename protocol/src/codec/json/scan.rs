//! A scanner over JSON text (RFC 8259): one pass, no recursion beyond a bound, nothing allocated.

use super::JsonError;
use super::write::ESCAPES;
use crate::limits::JSON_DEPTH_MAX;

/// A position in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanner<'j> {
    text: &'j str,
    at: usize,
}

/// A string's characters between its quotes, escapes not yet resolved.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawString<'j> {
    pub(super) text: &'j str,
    pub(super) escaped: bool,
}

impl<'j> Scanner<'j> {
    pub(super) const fn new(text: &'j str) -> Self {
        Self { text, at: 0 }
    }

    /// What went wrong here.
    pub(super) const fn malformed(&self, expected: &'static str) -> JsonError {
        JsonError {
            field: None,
            expected,
            at_bytes: self.at,
        }
    }

    /// The next byte that is no white space; 0 at the end, which no token begins with.
    pub(super) fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return byte;
            }
            self.at += 1;
        }
        0
    }

    pub(super) fn is_at_end(&mut self) -> bool {
        self.peek() == 0 && self.at == self.text.len()
    }

    /// Takes that byte if it is next.
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == byte && self.at < self.text.len();
        self.at += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(self.malformed(expected))
        }
    }

    /// After a value of an object or array: whether another follows.
    pub(super) fn another(&mut self, close: u8) -> Result<bool, JsonError> {
        if self.take(b',') {
            return Ok(true);
        }
        self.expect(
            close,
            if close == b'}' {
                "`,` or `}`"
            } else {
                "`,` or `]`"
            },
        )
        .map(|()| false)
    }

    /// A member's name and its colon.
    pub(super) fn key(&mut self) -> Result<RawString<'j>, JsonError> {
        let key = self.string()?;
        self.expect(b':', "`:`")?;
        Ok(key)
    }

    pub(super) fn string(&mut self) -> Result<RawString<'j>, JsonError> {
        self.expect(b'"', "a string")?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut escaped = false;
        loop {
            let rest = &bytes[self.at..];
            let Some(run) = rest
                .iter()
                .position(|&byte| ESCAPES[usize::from(byte)] != 0)
            else {
                self.at = bytes.len();
                return Err(self.malformed("the end of a string"));
            };
            self.at += run;
            match bytes[self.at] {
                b'"' => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(RawString { text, escaped });
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.malformed("a control character to be escaped")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u')
                if bytes
                    .get(self.at + 2..self.at + 6)
                    .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) =>
            {
                self.at += 6;
            }
            _ => return Err(self.malformed("an escape of JSON")),
        }
        Ok(())
    }

    /// A number's text, checked against the grammar.
    pub(super) fn number(&mut self) -> Result<&'j str, JsonError> {
        self.peek();
        let start = self.at;
        let bytes = self.text.as_bytes();
        let digits = |at: &mut usize| {
            let from = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            *at > from
        };
        let mut at = start;
        at += usize::from(bytes.get(at) == Some(&b'-'));
        let leading_zero = bytes.get(at) == Some(&b'0');
        let whole_start = at;
        let mut valid = digits(&mut at) && !(leading_zero && at > whole_start + 1);
        if valid && bytes.get(at) == Some(&b'.') {
            at += 1;
            valid = digits(&mut at);
        }
        if valid && matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            valid = digits(&mut at);
        }
        if !valid {
            return Err(self.malformed("a number"));
        }
        self.at = at;
        Ok(&self.text[start..at])
    }

    /// `true`, `false` or `null`, whichever it is.
    pub(super) fn word(&mut self, word: &'static str) -> bool {
        self.peek();
        let found = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        self.at += if found { word.len() } else { 0 };
        found
    }

    /// Passes over a value, whatever it is.
    pub(super) fn skip_value(&mut self) -> Result<(), JsonError> {
        self.skip_within(JSON_DEPTH_MAX)
    }

    fn skip_within(&mut self, depth: usize) -> Result<(), JsonError> {
        let open = self.peek();
        match open {
            b'"' => self.string().map(|_| ()),
            b'{' | b'[' if depth == 0 => Err(self.malformed("fewer objects within objects")),
            b'{' | b'[' => {
                self.at += 1;
                let close = if open == b'{' { b'}' } else { b']' };
                if self.take(close) {
                    return Ok(());
                }
                loop {
                    if open == b'{' {
                        self.key()?;
                    }
                    self.skip_within(depth - 1)?;
                    if !self.another(close)? {
                        return Ok(());
                    }
                }
            }
            b't' | b'f' | b'n' if self.word("true") || self.word("false") || self.word("null") => {
                Ok(())
            }
            b'-' | b'0'..=b'9' => self.number().map(|_| ()),
            _ => Err(self.malformed("a value")),
        }
    }
}

impl<'j> RawString<'j> {
    /// Resolves the escapes, into `scratch` if there are any. The result is UTF-8: half a surrogate pair, which no
    /// UTF-8 can hold, becomes U+FFFD.
    pub(super) fn resolve<'s>(&self, scratch: &'s mut Vec<u8>) -> &'s [u8]
    where
        'j: 's,
    {
        if !self.escaped {
            return self.text.as_bytes();
        }
        scratch.clear();
        let mut rest = self.text.as_bytes();
        while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
            scratch.extend_from_slice(&rest[..at]);
            let (character, len) = unescape(&rest[at..]);
            scratch.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            rest = &rest[at + len..];
        }
        scratch.extend_from_slice(rest);
        scratch
    }
}

/// The character of the escape at the start of `bytes`, which the scanner checked, and the escape's length.
fn unescape(bytes: &[u8]) -> (char, usize) {
    let simple = match bytes[1] {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let first = code_unit(&bytes[2..]);
            if let 0xd800..=0xdbff = first
                && bytes.get(6..8) == Some(b"\\u")
                && let second @ 0xdc00..=0xdfff = code_unit(&bytes[8..])
            {
                let scalar = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return (
                    char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER),
                    12,
                );
            }
            return (
                char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER),
                6,
            );
        }
        other => char::from(other),
    };
    (simple, 2)
}

fn code_unit(hex: &[u8]) -> u32 {
    hex.iter().take(4).fold(0, |unit, &digit| {
        unit << 4 | char::from(digit).to_digit(16).unwrap_or(0)
    })
}
