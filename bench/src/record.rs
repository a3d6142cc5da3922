//! Recorded answers: files of `bench/record/`, one line of JSON for each question, written by `scripts/bench`. The newest
//! becomes the table of the README.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What stands before the table in the README.
pub const BEGIN: &str = "<!-- scripts/bench show: begin -->\n";
/// What stands behind it.
pub const END: &str = "<!-- scripts/bench show: end -->";

/// One file: the answers of one run of `scripts/bench`.
#[derive(Debug, Clone)]
pub struct Record {
    answers: Vec<Value>,
}

impl Record {
    /// Reads one line for each question.
    ///
    /// # Errors
    /// When the text holds no answers, or a line that is none.
    pub fn parse(text: &str) -> Result<Self> {
        let answers = text.lines().map(serde_json::from_str);
        let answers: Vec<Value> = answers.collect::<Result<_, _>>()?;
        ensure!(!answers.is_empty(), "a record without answers");
        for answer in &answers {
            for member in ["question", "at", "commit", "machine"] {
                ensure!(
                    answer[member].is_string(),
                    "an answer without its `{member}`"
                );
            }
        }
        Ok(Self { answers })
    }

    /// When it began: the order of records.
    #[must_use]
    pub fn at(&self) -> &str {
        text(&self.answers[0], "at")
    }

    fn checks(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.answers.iter().flat_map(|answer| {
            let checks = answer["checks"].as_array();
            let question = text(answer, "question");
            checks
                .into_iter()
                .flatten()
                .map(move |check| (question, check))
        })
    }

    /// What this record measured for the same check.
    fn measured(&self, question: &str, what: &str) -> Option<f64> {
        let mut checks = self.checks();
        let (_, check) =
            checks.find(|(other, check)| *other == question && text(check, "what") == what)?;
        leading_number(text(check, "measured"))
    }

    /// As Markdown, beside the record before it.
    #[must_use]
    pub fn markdown(&self, before: Option<&Self>) -> String {
        let first = &self.answers[0];
        let mut out = format!(
            "Recorded on {} at {} by `scripts/bench`: {}, profile `release`, load on the same machine.\n\n",
            &self.at()[..self.at().len().min(10)],
            text(first, "commit"),
            text(first, "machine")
        );
        out.push_str("| `tidegate bench` | what | measured | target | | × the record before |\n");
        out.push_str("| --- | --- | --- | --- | --- | --- |\n");
        for answer in &self.answers {
            let question = text(answer, "question");
            let checks = answer["checks"].as_array();
            for check in checks.into_iter().flatten() {
                let (what, measured) = (text(check, "what"), text(check, "measured"));
                let held = if check["held"] == true {
                    "held"
                } else {
                    "missed"
                };
                let ratio = before
                    .and_then(|before| before.measured(question, what))
                    .zip(leading_number(measured))
                    .filter(|(before, _)| *before != 0.0)
                    .map_or_else(
                        || "–".to_owned(),
                        |(before, now)| format!("{:.2}", now / before),
                    );
                let _never_fails = writeln!(
                    out,
                    "| {question} | {} | {} | {} | {held} | {ratio} |",
                    cell(what),
                    cell(measured),
                    cell(text(check, "target"))
                );
            }
            // What has no target is told in a sentence.
            if checks.is_none_or(Vec::is_empty)
                && let Some(note) = answer["notes"].get(0).and_then(Value::as_str)
            {
                let _never_fails = writeln!(out, "| {question} | {} | | | | |", cell(note));
            }
        }
        out
    }
}

/// All records of a directory, oldest first.
///
/// # Errors
/// When the directory can't be read, or a file in it is no record.
pub fn all(directory: &Path) -> Result<Vec<Record>> {
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?;
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jsonl")
        {
            let record = Record::parse(&std::fs::read_to_string(&path)?);
            records.push(record.with_context(|| format!("{} is no record", path.display()))?);
        }
    }
    records.sort_by(|a, b| a.at().cmp(b.at()));
    Ok(records)
}

/// The newest record as Markdown, beside the one before it; `None` without records.
///
/// # Errors
/// Those of [`all`].
pub fn newest_markdown(directory: &Path) -> Result<Option<String>> {
    let records = all(directory)?;
    let mut newest_first = records.iter().rev();
    let newest = newest_first.next();
    Ok(newest.map(|newest| newest.markdown(newest_first.next())))
}

/// The README with another table between its marks.
///
/// # Errors
/// When a mark is missing.
pub fn with_table(readme: &str, table: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("the README has no mark {BEGIN:?}"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("the README has no mark {END:?}"))?;
    Ok(format!("{before}{BEGIN}{table}{END}{after}"))
}

/// Where the records of this source stand.
#[must_use]
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("record")
}

/// The README that shows them.
#[must_use]
pub fn readme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md")
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// `1,234.5 ns` is 1234.5.
fn leading_number(measured: &str) -> Option<f64> {
    let number: String = measured
        .chars()
        .take_while(|c| c.is_ascii_digit() || ",.".contains(*c))
        .filter(|c| *c != ',')
        .collect();
    number.parse().ok()
}

/// Text within a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(measured: &str) -> Record {
        let bus = format!(
            r#"{{"question":"bus","at":"2026-11-21T19:00:00Z","commit":"abc","machine":"2 cores","checks":[{{"what":"a | b","measured":"{measured}","target":"≤ 20.00 ns","held":true}}],"notes":[]}}"#
        );
        let bytes = r#"{"question":"bytes","at":"2026-11-21T19:01:00Z","commit":"abc","machine":"2 cores","checks":[],"notes":["Saves a third."]}"#;
        Record::parse(&format!("{bus}\n{bytes}\n")).expect("two answers")
    }

    #[test]
    fn a_record_becomes_a_table_beside_the_one_before() {
        let table = record("1,500.00 ns").markdown(Some(&record("1,000.00 ns")));
        let expected = "\
Recorded on 2026-11-21 at abc by `scripts/bench`: 2 cores, profile `release`, load on the same machine.

| `tidegate bench` | what | measured | target | | × the record before |
| --- | --- | --- | --- | --- | --- |
| bus | a \\| b | 1,500.00 ns | ≤ 20.00 ns | held | 1.50 |
| bytes | Saves a third. | | | | |
";
        assert_eq!(table, expected);
        assert!(record("15.00 ns").markdown(None).contains("| held | – |"));
    }

    #[test]
    fn a_line_that_is_no_answer_is_refused() {
        for text in ["", "{", r#"{"question":"bus"}"#] {
            Record::parse(text).expect_err(text);
        }
    }

    #[test]
    fn a_readme_without_marks_is_refused() {
        with_table("no marks", "table").expect_err("nowhere to put it");
        let readme = format!("before\n{BEGIN}old\n{END}\nafter");
        let mended = with_table(&readme, "new\n").expect("both marks");
        assert_eq!(mended, format!("before\n{BEGIN}new\n{END}\nafter"));
    }

    #[test]
    fn the_readme_shows_what_the_newest_record_says() {
        let shown = std::fs::read_to_string(readme()).expect("a README");
        let table = newest_markdown(&directory()).expect("sound records");
        let expected = with_table(&shown, &table.unwrap_or_default()).expect("both marks");
        assert!(
            shown == expected,
            "the README shows another record; type: scripts/bench show --write"
        );
    }
}
