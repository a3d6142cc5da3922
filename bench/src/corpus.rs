//! What people say to a shop: lines of customer service in Chinese, of 32 to 256 bytes, written for this.

const LINES: &str = include_str!("../corpus/customer_service.txt");

/// All lines, in the order of the file.
#[must_use]
pub fn lines() -> Vec<&'static str> {
    LINES.lines().collect()
}

/// A text of at most so many bytes: lines from the `first` on, one behind the other.
#[must_use]
pub fn text_of(first: usize, bytes_max: usize) -> String {
    let lines = lines();
    let mut text = String::with_capacity(bytes_max);
    for line in lines.iter().cycle().skip(first % lines.len()) {
        if text.len() + line.len() > bytes_max {
            break;
        }
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_line_is_a_message_of_32_to_256_bytes_and_stands_there_once() {
        let lines = lines();
        assert!(lines.len() >= 200, "{} lines", lines.len());
        let sizes = |line: &&str| !(32..=256).contains(&line.len());
        assert_eq!(lines.iter().copied().find(sizes), None);
        assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len());
    }

    #[test]
    fn a_long_text_is_as_long_as_lines_allow() {
        let text = text_of(217, 8_192);
        assert!(
            (8_192 - 256..=8_192).contains(&text.len()),
            "{}",
            text.len()
        );
        assert_eq!(text_of(0, 10), "");
    }
}
