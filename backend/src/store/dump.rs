//! Every row of every table as text, in an order that depends on nothing but the rows: two databases are the same if
//! their dumps are, byte for byte.
//!
//! A table's dump is one line of column names and then a line a row, sorted by its values from the first column on;
//! values are separated by tabs. `NULL` is `-`, a number is decimal, a text is a JSON string, bytes are `x` and
//! hexadecimal digits.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

use super::StoreError;
use super::open::Place;

/// What one table's dump is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDump {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// SHA-256 of its dump, hexadecimal.
    pub digest: String,
}

/// What a database's dump is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dump {
    /// Every table, by name.
    pub tables: Vec<TableDump>,
    /// SHA-256 over names and digests of all tables, hexadecimal.
    pub digest: String,
}

/// Dumps a database as of one commit; into files `TABLE.tsv` in a directory, if one is named. Nothing is written to
/// the database.
///
/// # Errors
/// If the database cannot be read or a file not be written.
pub fn dump(place: &Place, into: Option<&Path>) -> Result<Dump, StoreError> {
    if let Some(directory) = into {
        fs::create_dir_all(directory).map_err(|error| cannot_write(directory, &error))?;
    }
    let connection = place.open_reader()?;
    let snapshot = connection.unchecked_transaction()?;
    let names: Vec<String> = snapshot
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut tables = Vec::new();
    let mut whole = Sha256::new();
    for table in names {
        let (rows, digest) = match into {
            Some(directory) => {
                let path = directory.join(format!("{table}.tsv"));
                let file = File::create(&path).map_err(|error| cannot_write(&path, &error))?;
                of_table(&snapshot, &table, &mut BufWriter::new(file))?
            }
            None => of_table(&snapshot, &table, &mut io::sink())?,
        };
        whole.update(format!("{table} {digest}\n"));
        tables.push(TableDump {
            table,
            rows,
            digest,
        });
    }
    Ok(Dump {
        tables,
        digest: hexadecimal(&whole.finalize()),
    })
}

fn of_table(
    connection: &Connection,
    table: &str,
    out: &mut impl Write,
) -> Result<(u64, String), StoreError> {
    let any = connection.prepare(&format!("SELECT * FROM \"{table}\""))?;
    let columns: Vec<&str> = any.column_names().collect();
    let order: Vec<String> = (1..=columns.len())
        .map(|column| column.to_string())
        .collect();
    let mut statement = connection.prepare(&format!(
        "SELECT * FROM \"{table}\" ORDER BY {}",
        order.join(", ")
    ))?;
    let mut digest = Sha256::new();
    let mut keep = |line: &[u8]| {
        digest.update(line);
        out.write_all(line).map_err(|error| {
            StoreError::Refused(format!("the dump of {table} cannot be written: {error}"))
        })
    };
    keep(format!("{}\n", columns.join("\t")).as_bytes())?;
    let mut rows = statement.query([])?;
    let (mut count, mut line) = (0, Vec::new());
    while let Some(row) = rows.next()? {
        line.clear();
        for column in 0..order.len() {
            if column > 0 {
                line.push(b'\t');
            }
            write_value(&mut line, row.get_ref(column)?);
        }
        line.push(b'\n');
        keep(&line)?;
        count += 1;
    }
    let digest = hexadecimal(&digest.finalize());
    out.flush().map_err(|error| {
        StoreError::Refused(format!("the dump of {table} cannot be written: {error}"))
    })?;
    Ok((count, digest))
}

fn write_value(line: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => line.push(b'-'),
        ValueRef::Integer(number) => line.extend_from_slice(number.to_string().as_bytes()),
        ValueRef::Real(number) => line.extend_from_slice(format!("{number:?}").as_bytes()),
        ValueRef::Text(text) => {
            let text = serde_json::to_string(&String::from_utf8_lossy(text));
            line.extend_from_slice(text.expect("invariant: text is JSON").as_bytes());
        }
        ValueRef::Blob(bytes) => {
            line.push(b'x');
            line.extend_from_slice(hexadecimal(bytes).as_bytes());
        }
    }
}

/// Two digits a byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cannot_write(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Refused(format!("cannot write {} ({error})", path.display()))
}
