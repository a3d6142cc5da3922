//! Atomics come through `src/sync.rs` alone: what goes past it, loom does not see.

#![cfg(not(miri))]
#![expect(
    clippy::unwrap_used,
    reason = "tests; not all of their functions are marked so"
)]

use std::{fs, path::Path};

fn sources(directory: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            sources(&entry.path(), found);
        } else {
            let text = fs::read_to_string(entry.path()).unwrap();
            found.push((entry.path().display().to_string(), text));
        }
    }
}

#[test]
fn only_the_facade_names_the_standard_librarys_atomics() {
    let mut found = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    let past_the_door = found.iter().filter(|(path, text)| {
        !path.ends_with("sync.rs") && (text.contains("sync::atomic") || text.contains("core::sync"))
    });
    let names: Vec<_> = past_the_door.map(|(path, _)| path).collect();
    assert!(names.is_empty(), "{names:?}");
    assert!(found.len() > 20);
}

#[test]
fn every_label_of_an_ordering_edge_stands_at_both_ends() {
    let mut found = Vec::new();
    sources(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    for label in [
        "record-complete",
        "space-free",
        "lapped",
        "asleep",
        "attached",
    ] {
        let label = format!("// SYNC({label})");
        let ends: usize = found
            .iter()
            .map(|(_, text)| text.matches(&label).count())
            .sum();
        assert!(ends >= 2, "{label}: {ends}");
    }
}
