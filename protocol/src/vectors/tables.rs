//! `schema.json` and `close_codes.json`: what another implementation needs as tables.

use super::compare_or_update;
use crate::close::{CLOSE_CODES, CloseClass};
use crate::envelope::Kind;
use crate::message::table::{Class, Table};
use crate::message::{ConversationState, Cursor, Resumed};
use crate::names::ENUMERATIONS;

fn fields(table: &Table, out: &mut String) {
    for (index, field) in table.fields.iter().enumerate() {
        let class = match field.class {
            Class::U64 => "u64".to_owned(),
            Class::Hex64 => "hex64".to_owned(),
            Class::U32 => "u32".to_owned(),
            Class::Bool(false) => "bool".to_owned(),
            Class::Bool(true) => "bool = true".to_owned(),
            Class::Text => "text".to_owned(),
            Class::Id => "id".to_owned(),
            Class::Enumeration(expected, _) => expected.replace("a name of ", "enumeration "),
            Class::Table(table) => format!("table {}", table.name),
            Class::Tables(table) => format!("tables {}", table.name),
        };
        out.push_str(&format!(
            "{}\"{}\":\"{class}\"",
            if index == 0 { "" } else { "," },
            field.name
        ));
    }
}

#[test]
fn the_tables_of_the_schema_are_written_down_for_other_languages() {
    let mut file = String::from("{\"kinds\":{\n");
    for (index, kind) in Kind::ALL.iter().enumerate() {
        file.push_str(if index == 0 { "" } else { ",\n" });
        file.push_str(&format!(
            " \"{}\":{{\"kind\":{},\"fields\":{{",
            kind.name(),
            *kind as u8
        ));
        fields(kind.table(), &mut file);
        file.push_str("}}");
    }
    file.push_str("},\n\"tables\":{\n");
    for (index, table) in [Cursor::TABLE, Resumed::TABLE, ConversationState::TABLE]
        .into_iter()
        .enumerate()
    {
        file.push_str(if index == 0 { "" } else { ",\n" });
        file.push_str(&format!(" \"{}\":{{\"fields\":{{", table.name));
        fields(table, &mut file);
        file.push_str("}}");
    }
    file.push_str("},\n\"enumerations\":{\n");
    for (index, (name, values)) in ENUMERATIONS.iter().enumerate() {
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        file.push_str(if index == 0 { "" } else { ",\n" });
        file.push_str(&format!(" \"{name}\":{{{}}}", values.join(",")));
    }
    file.push_str("}}\n");
    let _: serde_json::Value = serde_json::from_str(&file).expect("JSON");
    compare_or_update("schema.json", &file);
}

#[test]
fn the_table_of_close_codes_is_written_down_for_other_languages() {
    let lines: Vec<_> = CLOSE_CODES
        .iter()
        .map(|(code, class, name)| {
            let retriable = *class == CloseClass::Retriable;
            format!(
                "{{\"code\":{},\"name\":\"{name}\",\"retriable\":{retriable}}}",
                code.0
            )
        })
        .collect();
    compare_or_update(
        "close_codes.json",
        &format!("[\n{}\n]\n", lines.join(",\n")),
    );
}
