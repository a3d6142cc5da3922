//! Tables: columns with units, cells that know whether they are numbers.

/// Rows of figures under named columns.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// What the rows are.
    pub title: String,
    /// One for each cell of a row.
    pub columns: Vec<Column>,
    /// Each as long as `columns`.
    pub rows: Vec<Vec<Cell>>,
}

/// A column's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// What stands below.
    pub name: String,
    /// In which unit; empty for words and plain counts.
    pub unit: String,
}

/// One cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// Words, left-aligned.
    Text(String),
    /// A figure, right-aligned.
    Number {
        /// Its value in the column's unit.
        value: f64,
        /// Digits after the point that mean something.
        digits: usize,
    },
    /// Not measured, or not applicable.
    None,
}

impl Table {
    /// A table without rows; a column is its name and its unit.
    #[must_use]
    pub fn new(title: impl Into<String>, columns: &[(&str, &str)]) -> Self {
        let columns = columns.iter().map(|(name, unit)| Column {
            name: (*name).to_owned(),
            unit: (*unit).to_owned(),
        });
        Self {
            title: title.into(),
            columns: columns.collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// When it is not as long as there are columns.
    pub fn row(&mut self, cells: Vec<Cell>) {
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }
}

impl Cell {
    /// A figure with so many digits after the point.
    #[must_use]
    pub fn number(value: f64, digits: usize) -> Self {
        Self::Number { value, digits }
    }

    /// A count.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts for people, far below 2^53"
    )]
    pub fn count(value: u64) -> Self {
        Self::number(value as f64, 0)
    }

    /// As it is shown to a person.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number { value, digits } => number(*value, *digits),
            Self::None => "–".to_owned(),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// A number with its thousands parted: `12,345.6`.
pub(super) fn number(value: f64, digits: usize) -> String {
    let plain = format!("{:.digits$}", value.abs());
    let (whole, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut out = String::new();
    if value < 0.0 && plain.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        out.push('−');
    }
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if !fraction.is_empty() {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_part_their_thousands_and_keep_their_sign() {
        assert_eq!(number(0.0, 0), "0");
        assert_eq!(number(-0.001, 2), "0.00");
        assert_eq!(number(999.0, 0), "999");
        assert_eq!(number(1_234_567.891, 1), "1,234,567.9");
        assert_eq!(number(-1_000.0, 0), "−1,000");
        assert_eq!(number(f64::NAN, 1), "NaN");
    }

    #[test]
    #[should_panic(expected = "a cell for each column")]
    fn a_row_of_another_length_is_refused() {
        Table::new("rates", &[("server", ""), ("rate", "msg/s")]).row(vec![Cell::count(1)]);
    }
}
