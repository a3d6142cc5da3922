//! UTF-8 over pieces (RFC 6455 8.1): text may be cut anywhere, and what can't become valid is refused at once.

use super::error::ProtocolError;

/// The bytes of a character that was cut, at most three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Utf8 {
    pending: [u8; 3],
    len: u8,
}

impl Utf8 {
    /// No character is cut.
    pub const NONE: Self = Self {
        pending: [0; 3],
        len: 0,
    };

    /// Takes the next piece.
    ///
    /// # Errors
    /// As soon as no continuation could make it UTF-8.
    pub fn feed(&mut self, mut piece: &[u8]) -> Result<(), ProtocolError> {
        while self.len > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            let len = usize::from(self.len);
            let mut character = [0; 4];
            character[..len].copy_from_slice(&self.pending[..len]);
            character[len] = byte;
            match core::str::from_utf8(&character[..=len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => {
                    return Err(ProtocolError::InvalidUtf8);
                }
                // A character has at most four bytes: three pending and one more are either whole or wrong.
                Err(_) => {
                    self.pending[len] = byte;
                    self.len += 1;
                }
            }
        }
        match simdutf8::compat::from_utf8(piece) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(ProtocolError::InvalidUtf8),
            Err(error) => {
                let cut = &piece[error.valid_up_to()..];
                self.pending[..cut.len()].copy_from_slice(cut);
                self.len = u8::try_from(cut.len())
                    .expect("invariant: at most three bytes of a cut character");
                Ok(())
            }
        }
    }

    /// The end of the text.
    ///
    /// # Errors
    /// When a character is cut.
    pub fn finish(self) -> Result<(), ProtocolError> {
        if self.len == 0 {
            Ok(())
        } else {
            Err(ProtocolError::InvalidUtf8)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_pieces(pieces: &[&[u8]]) -> Result<(), ProtocolError> {
        let mut utf8 = Utf8::default();
        pieces.iter().try_for_each(|piece| utf8.feed(piece))?;
        utf8.finish()
    }

    #[test]
    fn rfc_6455_8_1_every_cut_of_every_width_of_character_agrees_with_std() {
        let samples: [&[u8]; 12] = [
            "aé漢😀z".as_bytes(),
            "\u{10ffff}\u{d7ff}\u{e000}".as_bytes(),
            b"\xc0\x80",         // overlong NUL
            b"\xe0\x80\xaf",     // overlong slash
            b"\xf0\x80\x80\xaf", // the same in four
            b"\xed\xa0\x80",     // a surrogate
            b"\xf4\x90\x80\x80", // beyond U+10FFFF
            b"\xf8\x88\x80\x80\x80",
            b"\x80",
            b"ab\xffcd",
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
            b"\xe6\xbc", // cut at the end
        ];
        for sample in samples {
            let valid = core::str::from_utf8(sample).is_ok();
            for a in 0..=sample.len() {
                for b in a..=sample.len() {
                    let pieces = [&sample[..a], &sample[a..b], &sample[b..]];
                    assert_eq!(
                        in_pieces(&pieces).is_ok(),
                        valid,
                        "{sample:x?} cut at {a}, {b}"
                    );
                }
            }
        }
    }

    #[test]
    fn rfc_6455_8_1_a_prefix_that_nothing_can_complete_is_refused_before_its_end() {
        for hopeless in [&b"\xf4\x90"[..], b"\xed\xa0", b"\xe0\x80", b"\xf5", b"\xc1"] {
            let mut utf8 = Utf8::default();
            let refused = hopeless.iter().any(|&byte| utf8.feed(&[byte]).is_err());
            assert!(refused, "{hopeless:x?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_in_arbitrary_pieces_agree_with_std(pieces: Vec<Vec<u8>>) {
            let whole = pieces.concat();
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(in_pieces(&pieces).is_ok(), core::str::from_utf8(&whole).is_ok());
        }

        #[test]
        fn arbitrary_text_cut_anywhere_is_accepted(text: String, cuts: Vec<prop::sample::Index>) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert!(in_pieces(&pieces).is_ok());
        }
    }
}
