//! The committed inputs of the fuzz targets: `corpus/TARGET.hex`, one input a line in hexadecimal. What was found to be
//! a bug stands there under the bug's name (`name-of-the-bug: 00ff…`); the rest is what a hunt reached the code with,
//! minimised. Text, because two thousand files of ten bytes would be a burden to everybody who lists the tree.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes that the unnamed inputs of one target take at most, before they become hexadecimal.
const UNNAMED_BYTES_MAX: usize = 12 * 1024;

/// One committed input.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Input {
    /// The bug that it found, in words joined by hyphens; empty for an input that only reaches much.
    pub name: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Where the committed inputs of every target are.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The committed inputs of a target; none if it has no file.
///
/// # Errors
/// The file cannot be read, or a line is no hexadecimal.
pub fn read(target: &str) -> io::Result<Vec<Input>> {
    let path = directory().join(format!("{target}.hex"));
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path)?;
    parse(&text).map_err(|line| {
        io::Error::other(format!(
            "{}:{line}: expected `hexadecimal` or `name: hexadecimal`",
            path.display()
        ))
    })
}

/// Writes the committed inputs of a target: every named one, and of the others the shortest that fit.
///
/// # Errors
/// The file cannot be written.
pub fn write(target: &str, inputs: impl IntoIterator<Item = Input>) -> io::Result<()> {
    let inputs: BTreeSet<Input> = inputs.into_iter().collect();
    let (unnamed, named): (Vec<_>, Vec<_>) = inputs.iter().partition(|input| input.name.is_empty());
    let mut unnamed: Vec<_> = unnamed
        .into_iter()
        .filter(|input| !input.bytes.is_empty())
        .collect();
    unnamed.sort_by_key(|input| input.bytes.len());
    let mut text = format!("# Inputs of the fuzz target `{target}`; see src/packed.rs.\n");
    for input in named {
        text += &format!("{}: {}\n", input.name, to_hex(&input.bytes));
    }
    let mut room = UNNAMED_BYTES_MAX;
    for input in unnamed {
        let Some(rest) = room.checked_sub(input.bytes.len()) else {
            break;
        };
        room = rest;
        text += &to_hex(&input.bytes);
        text.push('\n');
    }
    fs::create_dir_all(directory())?;
    fs::write(directory().join(format!("{target}.hex")), text)
}

/// The inputs, or the number of the first line that is none.
fn parse(text: &str) -> Result<Vec<Input>, usize> {
    let lines = text.lines().enumerate();
    lines
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(number, line)| {
            let (name, hex) = line.split_once(':').unwrap_or(("", line));
            let bytes = from_hex(hex.trim()).ok_or(number + 1)?;
            let name = name.trim().to_owned();
            Ok(Input { name, bytes })
        })
        .collect()
}

/// The bytes of a text of hexadecimal digits.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    (text.is_ascii() && text.len().is_multiple_of(2)).then_some(())?;
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_and_unnamed_inputs_are_read_and_what_is_no_hexadecimal_is_refused_by_its_line() {
        let inputs = parse("# words\n00ff\n\na-bug: 0a\n").expect("two inputs");
        assert_eq!(inputs[0].bytes, [0, 255]);
        assert_eq!(
            (inputs[1].name.as_str(), inputs[1].bytes.as_slice()),
            ("a-bug", [10].as_slice())
        );
        assert_eq!(parse("00\nxy\n"), Err(2));
        assert_eq!(parse("0é\n"), Err(1));
    }
}
