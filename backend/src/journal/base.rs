//! The copy of a database that a masked chapter begins with: every row of it, with what people wrote masked as the
//! inputs that follow are. So a replay comes to the rows that the database has then, masked.
//!
//! Rows go one by one from a connection that reads into a file that was empty: nothing that is not masked was ever in
//! that file, not on a free page either.
//!
//! **Hashes** of texts would give short texts away. A message's is made anew, of its masked text, so that a repeat of it
//! in the journal is known for one; a session's last and an Idempotency-Key's follow their message. Where there is no
//! such text (retention erased it, or a moderator replaced it), the hash is replaced by a keyed one: the replay then answers a
//! repeat with `id_conflict` where `duplicate` was answered. No row differs by that.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use super::Mask;
use crate::engine::body_hash;
use crate::engine::kinds::{Content, Role};
use crate::store::StoreError;
use tidegate_protocol::Id;

/// Settings of the file that say what it is.
const PRAGMAS: [&str; 3] = ["page_size", "application_id", "user_version"];
/// Copied first: the hashes of others follow its rows.
const FIRST: &str = "message";

/// Fills an empty database with what another holds, masked.
///
/// # Errors
/// The databases'.
pub(crate) fn copy_masked(
    source: &Connection,
    target: &Connection,
    mask: &mut Mask,
) -> Result<(), StoreError> {
    for name in PRAGMAS {
        let value: i64 = source.pragma_query_value(None, name, |row| row.get(0))?;
        target.pragma_update(None, name, value)?;
    }
    // One commit's state for all tables.
    let snapshot = source.unchecked_transaction()?;
    let filling = target.unchecked_transaction()?;
    let mut made = snapshot.prepare(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'
         ORDER BY type <> 'table', name <> ?1, rowid",
    )?;
    let made: Vec<(String, String, String)> = made
        .query_map([FIRST], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    for (kind, name, sql) in made {
        filling.execute(&sql, [])?;
        if kind == "table" {
            copy_table(&snapshot, &filling, &name, mask)?;
        }
    }
    filling.commit()?;
    Ok(())
}

fn copy_table(
    source: &Connection,
    target: &Connection,
    table: &str,
    mask: &mut Mask,
) -> Result<(), StoreError> {
    let mut reading = source.prepare(&format!("SELECT * FROM \"{table}\""))?;
    let columns: Vec<String> = reading.column_names().map(Into::into).collect();
    let places = vec!["?"; columns.len()].join(", ");
    let mut writing = target.prepare(&format!(
        "INSERT INTO \"{table}\" ({}) VALUES ({places})",
        columns.join(", ")
    ))?;
    let mut rows = reading.query([])?;
    while let Some(row) = rows.next()? {
        let values: Result<Vec<Value>, _> = (0..columns.len()).map(|at| row.get(at)).collect();
        let mut row = Row {
            columns: &columns,
            values: values?,
        };
        mask_row(table, &mut row, (source, target), mask)?;
        writing.execute(params_from_iter(row.values))?;
    }
    Ok(())
}

/// A row of any table.
struct Row<'a> {
    columns: &'a [String],
    values: Vec<Value>,
}

impl Row<'_> {
    fn at(&self, column: &str) -> Option<&Value> {
        let place = self.columns.iter().position(|name| name == column)?;
        self.values.get(place)
    }

    fn number(&self, column: &str) -> Option<i64> {
        match self.at(column) {
            Some(Value::Integer(number)) => Some(*number),
            _ => None,
        }
    }

    fn text(&self, column: &str) -> Option<&str> {
        match self.at(column) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn id(&self, column: &str) -> Id {
        match self.at(column) {
            Some(Value::Blob(bytes)) => {
                Id(bytes.first_chunk().map_or(0, |id| u128::from_be_bytes(*id)))
            }
            _ => Id::ABSENT,
        }
    }

    fn set(&mut self, column: &str, value: impl Into<Value>) {
        if let Some(place) = self.columns.iter().position(|name| name == column) {
            self.values[place] = value.into();
        }
    }

    fn mask(&mut self, column: &str, mask: &mut Mask) {
        if let Some(masked) = self.text(column).map(|text| mask.text(text)) {
            self.set(column, masked);
        }
    }
}

fn mask_row(
    table: &str,
    row: &mut Row<'_>,
    (source, target): (&Connection, &Connection),
    mask: &mut Mask,
) -> Result<(), StoreError> {
    match table {
        "agent" => row.mask("password_hash", mask),
        "visitor" => row.mask("name", mask),
        "conversation" => row.mask("page", mask),
        "long_text" => row.mask("text", mask),
        "message" => mask_message(row, source, mask)?,
        "session" => {
            let of = (row.id("last_conversation"), row.number("last_seq"));
            follow(row, "last_hash", of, (source, target), mask)?;
        }
        "idempotency_key" => {
            let of = (row.id("conversation"), row.number("seq"));
            follow(row, "body_hash", of, (source, target), mask)?;
        }
        "quarantine" => {
            row.mask("error", mask);
            if let Some(masked) = row.text("input_json").map(|json| mask.quarantined(json)) {
                row.set("input_json", masked);
            }
        }
        _ => {}
    }
    Ok(())
}

/// Names of agents stay: they stand in messages of theirs and of Tidegate's own.
fn mask_message(row: &mut Row<'_>, source: &Connection, mask: &mut Mask) -> Result<(), StoreError> {
    if row.number("sender_role") == Some(i64::from(Role::Visitor.code())) {
        row.mask("sender_name", mask);
    }
    if row.number("content") != Some(i64::from(Content::Text.code())) {
        return Ok(());
    }
    let text = match row.number("long_text") {
        None => row.text("text").unwrap_or_default().to_owned(),
        Some(long) => source
            .prepare_cached("SELECT text FROM long_text WHERE id = ?1")?
            .query_row([long], |row| row.get(0))?,
    };
    let was = row.number("body_hash").unwrap_or(0).cast_unsigned();
    // It was sent to the conversation by its id, or to whichever was open.
    let to = [Id::ABSENT, row.id("conversation")];
    let hash = match to.into_iter().find(|to| body_hash(*to, &text) == was) {
        Some(to) => body_hash(to, &mask.text(&text)),
        None => mask.number(was),
    };
    row.set("body_hash", hash.cast_signed());
    row.mask("text", mask);
    Ok(())
}

/// Masks a hash that is a message's, if that is there and has it.
fn follow(
    row: &mut Row<'_>,
    column: &str,
    (conversation, seq): (Id, Option<i64>),
    (source, target): (&Connection, &Connection),
    mask: &Mask,
) -> Result<(), StoreError> {
    let was = row.number(column).unwrap_or(0);
    let hash_in = |database: &Connection| {
        database
            .prepare_cached("SELECT body_hash FROM message WHERE conversation = ?1 AND seq = ?2")?
            .query_row((conversation.0.to_be_bytes(), seq), |row| row.get(0))
            .optional()
    };
    let masked = if hash_in(source)? == Some(was) {
        hash_in(target)?
    } else {
        None
    };
    let keyed = || mask.number(was.cast_unsigned()).cast_signed();
    row.set(column, masked.unwrap_or_else(keyed));
    Ok(())
}
