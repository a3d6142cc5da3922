//! Golden vectors: `vectors/*.json` hold what Rust writes, byte for byte. Rust regenerates and compares them here,
//! JavaScript decodes and re-encodes them. `TIDEGATE_UPDATE_VECTORS=1 cargo test -p tidegate-protocol vectors`
//! rewrites them after a change that is meant.

mod frames;
mod messages;
mod tables;

use std::path::PathBuf;

/// Compares a file with what it should hold, or rewrites it.
fn compare_or_update(file: &str, expected: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(file);
    if std::env::var_os("TIDEGATE_UPDATE_VECTORS").is_some() {
        std::fs::write(&path, expected).expect("the vectors directory is writable");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found
        .lines()
        .zip(expected.lines())
        .position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{} differs from what this code writes, first in line {}; if that is meant: \
         TIDEGATE_UPDATE_VECTORS=1 cargo test -p tidegate-protocol vectors",
        path.display(),
        differs.unwrap_or(0) + 1
    );
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
