//! A report in a terminal: aligned columns, then the checks, then the notes.

use super::{Cell, Check, Report, Table};

/// Between two columns.
const GAP: &str = "  ";

/// The whole report.
#[must_use]
pub fn render(report: &Report, hardware: &str) -> String {
    let mut out = format!("{}\n{hardware}\n", report.question);
    for table in &report.tables {
        out.push('\n');
        out.push_str(&rendered_table(table));
    }
    if !report.checks.is_empty() {
        out.push('\n');
        for check in &report.checks {
            out.push_str(&rendered_check(check));
        }
    }
    if !report.notes.is_empty() {
        out.push('\n');
        for note in &report.notes {
            out.push_str(&format!("  {note}\n"));
        }
    }
    out
}

fn rendered_check(check: &Check) -> String {
    let mark = if check.held { "held  " } else { "MISSED" };
    let Check {
        what,
        measured,
        target,
        ..
    } = check;
    format!("{mark}  {what}: {measured} (target {target})\n")
}

fn rendered_table(table: &Table) -> String {
    let mut lines: Vec<Vec<String>> = vec![Vec::new(), Vec::new()];
    for column in &table.columns {
        lines[0].push(column.name.clone());
        lines[1].push(column.unit.clone());
    }
    if table.columns.iter().all(|column| column.unit.is_empty()) {
        lines.pop();
    }
    let rows = table.rows.iter();
    lines.extend(rows.map(|row| row.iter().map(Cell::shown).collect()));
    let widths: Vec<usize> = (0..table.columns.len())
        .map(|column| {
            lines
                .iter()
                .map(|line| width(&line[column]))
                .max()
                .unwrap_or(0)
        })
        .collect();
    let numeric: Vec<bool> = (0..table.columns.len())
        .map(|column| {
            let mut cells = table.rows.iter().map(|row| &row[column]);
            cells.any(|cell| matches!(cell, Cell::Number { .. }))
        })
        .collect();
    let mut out = format!("{}\n", table.title);
    for line in lines {
        let mut shown = String::new();
        for (column, cell) in line.iter().enumerate() {
            let fill = " ".repeat(widths[column] - width(cell));
            shown.push_str(GAP);
            if numeric[column] {
                shown.push_str(&fill);
                shown.push_str(cell);
            } else {
                shown.push_str(cell);
                shown.push_str(&fill);
            }
        }
        out.push_str(shown.trim_end());
        out.push('\n');
    }
    out
}

/// Terminal cells that a text takes: Chinese characters take two.
fn width(text: &str) -> usize {
    let wide =
        |c: char| ('\u{1100}'..='\u{115f}').contains(&c) || ('\u{2e80}'..='\u{ffef}').contains(&c);
    text.chars().map(|c| 1 + usize::from(wide(c))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_words_left_and_figures_right() {
        let mut report = Report::new("echo");
        let mut table = Table::new("one case", &[("server", ""), ("CPU", "µs/msg")]);
        table.row(vec!["tidegate".into(), Cell::number(4.25, 2)]);
        table.row(vec!["bare".into(), Cell::None]);
        table.row(vec!["客服".into(), Cell::number(11.0, 2)]);
        report.table(table);
        report.check_at_most("CPU", 1.2, 1.08, "× bare");
        report.note("the load was at 40 %");
        let expected = "\
echo
2 cores

one case
  server       CPU
            µs/msg
  tidegate    4.25
  bare           –
  客服       11.00

MISSED  CPU: 1.20 × bare (target ≤ 1.08 × bare)

  the load was at 40 %
";
        assert_eq!(render(&report, "2 cores"), expected);
    }
}
