//! The committed header is what cbindgen makes of the sources, and names every function that the library exports.

use std::{fs, path::Path};

/// Source files with something for C in them, in the order in which the header has them.
const SOURCES: [&str; 4] = ["failure.rs", "record.rs", "bus.rs", "tap.rs"];

fn generated() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml");
    let builder = SOURCES.iter().fold(
        cbindgen::Builder::new().with_config(config),
        |builder, name| builder.with_src(root.join("src").join(name)),
    );
    let mut header = Vec::new();
    builder
        .generate()
        .expect("the sources parse")
        .write(&mut header);
    let header = String::from_utf8(header).expect("UTF-8");
    // What rustdoc calls so is, in C, the contract.
    header.replace("// # Safety\n", "// The caller promises:\n")
}

#[test]
fn the_committed_header_is_what_the_sources_make() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../include/tidegate_bus.h");
    let generated = generated();
    if std::env::var_os("TIDEGATE_WRITE").is_some() {
        fs::write(&path, &generated).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == generated,
        "include/tidegate_bus.h is not what src/*.rs make; type: TIDEGATE_WRITE=1 cargo test -p tidegate-bus-c --test header"
    );
}

#[test]
fn every_exported_function_stands_in_the_header_with_a_sentence() {
    let header = generated();
    for source in SOURCES {
        let text = fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("src")
                .join(source),
        );
        for line in text.expect("a source file").lines() {
            let Some((_, after)) = line.split_once("extern \"C\" fn ") else {
                continue;
            };
            let name = after.split('(').next().expect("a name");
            let place = header
                .find(&format!("{name}("))
                .unwrap_or_else(|| panic!("{name} is not in the header"));
            let before = &header[..place];
            let line_before = before[..before.rfind('\n').expect("not the first line")]
                .lines()
                .last();
            assert!(
                line_before.is_some_and(|line| line.starts_with("//")),
                "{name} says nothing of itself"
            );
        }
    }
}
