//! A report as one JSON object.
//!
//! ```json
//! {"question": "echo", "at": "2026-01-31T12:00:00Z", "commit": "9376d57", "machine": "…", "command": "tidegate bench echo",
//!  "tables": [{"title": "…", "columns": [{"name": "CPU", "unit": "µs/msg"}], "rows": [[4.25]]}],
//!  "plots": [{"title": "…", "x": {"name": "time", "unit": "s", "logarithmic": false}, "y": {}, "series": [{"name": "bare", "points": [[0, 1]]}]}],
//!  "checks": [{"what": "…", "measured": "…", "target": "…", "held": true}], "notes": ["…"]}
//! ```

use serde_json::{Value, json};

use super::{Axis, Cell, Plot, Report, Table};
use crate::machine::Machine;

/// The whole report.
#[must_use]
pub fn render(report: &Report, machine: &Machine) -> Value {
    let checks = report.checks.iter().map(|check| {
        json!({"what": check.what, "measured": check.measured, "target": check.target, "held": check.held})
    });
    json!({
        "question": report.question,
        "at": machine.at,
        "commit": machine.commit,
        "machine": machine.hardware,
        "command": machine.command,
        "tables": report.tables.iter().map(table).collect::<Vec<_>>(),
        "plots": report.plots.iter().map(plot).collect::<Vec<_>>(),
        "checks": checks.collect::<Vec<_>>(),
        "notes": report.notes,
    })
}

fn table(table: &Table) -> Value {
    let columns = table.columns.iter();
    let columns = columns.map(|column| json!({"name": column.name, "unit": column.unit}));
    let rows = table.rows.iter().map(|row| row.iter().map(cell).collect());
    json!({
        "title": table.title,
        "columns": columns.collect::<Vec<_>>(),
        "rows": rows.collect::<Vec<Vec<Value>>>(),
    })
}

fn cell(cell: &Cell) -> Value {
    match cell {
        Cell::Text(text) => json!(text),
        Cell::Number { value, .. } => json!(value),
        Cell::None => Value::Null,
    }
}

fn plot(plot: &Plot) -> Value {
    let axis = |axis: &Axis| json!({"name": axis.name, "unit": axis.unit, "logarithmic": axis.logarithmic});
    let series = plot.series.iter();
    let series = series.map(|series| json!({"name": series.name, "points": series.points}));
    json!({
        "title": plot.title, "x": axis(&plot.x), "y": axis(&plot.y), "series": series.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Series;

    #[test]
    fn a_program_finds_each_figure_under_its_name() {
        let mut report = Report::new("idle");
        let mut rows = Table::new("memory", &[("server", ""), ("resident", "B")]);
        rows.row(vec!["bare".into(), Cell::number(191.5, 0)]);
        rows.row(vec!["none".into(), Cell::None]);
        report.table(rows);
        report.plot(Plot {
            title: "memory over time".to_owned(),
            x: Axis::linear("time", "s"),
            y: Axis::logarithmic("resident", "MiB"),
            series: vec![Series::new("bare", vec![(0.0, 1.0), (1.0, 2.5)])],
        });
        report.check_at_most("memory", 191.5, 192.0, "B");
        let machine = Machine {
            hardware: "2 cores".to_owned(),
            at: "2026-01-31T12:00:00Z".to_owned(),
            commit: "abc".to_owned(),
            command: "tidegate bench idle".to_owned(),
        };
        let value = render(&report, &machine);
        assert_eq!(value["question"], "idle");
        assert_eq!(value["commit"], "abc");
        assert_eq!(value["tables"][0]["columns"][1]["unit"], "B");
        assert_eq!(
            value["tables"][0]["rows"],
            json!([["bare", 191.5], ["none", null]])
        );
        assert_eq!(value["plots"][0]["y"]["logarithmic"], true);
        assert_eq!(
            value["plots"][0]["series"][0]["points"],
            json!([[0.0, 1.0], [1.0, 2.5]])
        );
        assert_eq!(value["checks"][0]["held"], true);
    }
}
