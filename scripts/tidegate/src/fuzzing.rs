//! The body of the fuzz target: any text as the settings file.

use figment::Figment;
use figment::providers::{Format, Serialized, Toml};

use crate::settings::{Settings, explain};

/// A body: bytes in, a panic where something does not hold.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const BODIES: &[(&str, Body)] = &[("settings", settings)];

/// A file is taken, and what `check-config --show` prints of it is taken as the same; or every mistake of it is named
/// by its key with a sentence.
pub fn settings(input: &[u8]) {
    let Ok(text) = core::str::from_utf8(input) else {
        return;
    };
    match explain(&from_text(text)) {
        Ok(settings) => {
            let shown = toml::to_string(&settings).expect("settings can be shown");
            let again = explain(&from_text(&shown))
                .unwrap_or_else(|mistakes| panic!("{shown}\nis refused: {mistakes:?}"));
            let again = toml::to_string(&again).expect("settings can be shown");
            assert_eq!(again, shown);
        }
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                assert!(!mistake.what.is_empty(), "{mistake:?}");
            }
        }
    }
}

fn from_text(text: &str) -> Figment {
    Figment::from(Serialized::defaults(Settings::default())).merge(Toml::string(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_and_some_settings_come_back_as_they_were_shown() {
        for text in [
            "",
            "data_dir = 'x'",
            "[gateway]\nshards = 3\nlisten = '[::1]:1'",
            "[up]\ngateways = 9223372036854775807",
            "[backend]\nallowed_origins = ['https://shop.example']",
        ] {
            settings(text.as_bytes());
        }
    }
}
