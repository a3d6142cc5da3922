//! A report as one HTML file that needs nothing else: no script, no font, no network.

use std::fmt::Write as _;

use super::plot::{escaped, svg};
use super::{Cell, Check, Report, Table};
use crate::machine::Machine;

const STYLE: &str = include_str!("page.css");

/// The whole report.
#[must_use]
pub fn render(report: &Report, machine: &Machine) -> String {
    let question = escaped(&report.question);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>tidegate bench {question}</title>\n<style>\n{STYLE}</style>\n<main>\n\
         <h1>{question}</h1>\n<p class=\"where\"><code>{}</code><br>{}<br>commit {} · {}</p>\n",
        escaped(&machine.command),
        escaped(&machine.hardware),
        escaped(&machine.commit),
        escaped(&machine.at)
    );
    if !report.checks.is_empty() {
        out.push_str("<ul class=\"checks\">\n");
        report.checks.iter().for_each(|one| check(&mut out, one));
        out.push_str("</ul>\n");
    }
    report.tables.iter().for_each(|one| table(&mut out, one));
    out.push_str("<div class=\"plots\">\n");
    for plot in &report.plots {
        let _never_fails = writeln!(
            out,
            "<section>\n<h2>{}</h2>\n<div class=\"plot\">{}</div>\n</section>",
            escaped(&plot.title),
            svg(plot)
        );
    }
    out.push_str("</div>\n");
    if !report.notes.is_empty() {
        out.push_str("<section>\n<h2>Notes</h2>\n");
        for note in &report.notes {
            let _never_fails = writeln!(out, "<p>{}</p>", escaped(note));
        }
        out.push_str("</section>\n");
    }
    out.push_str("</main>\n</html>\n");
    out
}

fn check(out: &mut String, check: &Check) {
    let (class, word) = if check.held {
        ("held", "held")
    } else {
        ("missed", "missed")
    };
    let _never_fails = writeln!(
        out,
        "<li class=\"{class}\"><b>{word}</b><span>{}</span><span class=\"measured\">{}</span>\
         <span class=\"target\">target {}</span></li>",
        escaped(&check.what),
        escaped(&check.measured),
        escaped(&check.target)
    );
}

fn table(out: &mut String, table: &Table) {
    let _never_fails = write!(
        out,
        "<section>\n<h2>{}</h2>\n<div class=\"scroll\"><table>\n<thead><tr>",
        escaped(&table.title)
    );
    for (index, column) in table.columns.iter().enumerate() {
        let mut cells = table.rows.iter().map(|row| &row[index]);
        let numeric = cells.any(|cell| matches!(cell, Cell::Number { .. }));
        let class = if numeric { " class=\"number\"" } else { "" };
        let unit = if column.unit.is_empty() {
            String::new()
        } else {
            format!("<small>{}</small>", escaped(&column.unit))
        };
        let _never_fails = write!(out, "<th{class}>{}{unit}</th>", escaped(&column.name));
    }
    out.push_str("</tr></thead>\n<tbody>\n");
    for row in &table.rows {
        out.push_str("<tr>");
        for cell in row {
            let class = match cell {
                Cell::Text(_) => "",
                Cell::Number { .. } | Cell::None => " class=\"number\"",
            };
            let _never_fails = write!(out, "<td{class}>{}</td>", escaped(&cell.shown()));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</tbody></table></div>\n</section>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Axis, Plot, Series};

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let mut report = Report::new("echo <b>");
        let mut rows = Table::new("cases", &[("server", ""), ("CPU", "µs/msg")]);
        rows.row(vec!["a & b".into(), Cell::number(4.2, 2)]);
        report.table(rows);
        report.plot(Plot {
            title: "latency".to_owned(),
            x: Axis::logarithmic("one in so many takes longer", ""),
            y: Axis::linear("latency", "ms"),
            series: vec![Series::new("one", vec![(1.0, 2.0), (10.0, 3.0)])],
        });
        report.check_at_most("CPU", 4.2, 4.0, "µs");
        let machine = Machine {
            hardware: "2 cores".to_owned(),
            at: "2026-01-31T12:00:00Z".to_owned(),
            commit: "abc".to_owned(),
            command: "tidegate bench echo".to_owned(),
        };
        let page = render(&report, &machine);
        for outside in ["http://", "https://", "<script", "<link", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("echo &lt;b&gt;") && page.contains("a &amp; b"));
        assert!(page.contains("class=\"missed\"") && page.contains("<svg"));
    }
}
