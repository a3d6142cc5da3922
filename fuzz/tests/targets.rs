//! Every body is a fuzz target of one line, and holds on every input that was ever worth to be kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tidegate_fuzz::{bodies, packed};

/// Must fail: it has no body in a library, and no committed inputs.
const CANARY: &str = "canary";

fn stems(directory: &Path) -> BTreeSet<String> {
    let files = fs::read_dir(directory).unwrap_or_else(|error| panic!("{directory:?}: {error}"));
    let stem = |file: fs::DirEntry| {
        file.path()
            .file_stem()
            .map(|stem| stem.display().to_string())
    };
    files
        .filter_map(|file| stem(file.expect("a readable folder")))
        .collect()
}

#[test]
fn every_body_is_one_line_under_libfuzzer_and_nothing_else_is() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets/src/bin");
    let mut wanted: BTreeSet<String> = bodies().map(|(name, _)| name.to_owned()).collect();
    assert_eq!(wanted.len(), bodies().count(), "two bodies of one name");
    for name in &wanted {
        let text = fs::read_to_string(directory.join(format!("{name}.rs"))).unwrap_or_default();
        let target = format!("fuzzing::{name}(bytes)");
        assert!(
            text.contains(&target) && text.lines().count() <= 5,
            "fuzz/targets/src/bin/{name}.rs shall be the one line that calls {name}; see its neighbours"
        );
    }
    wanted.insert(CANARY.to_owned());
    assert_eq!(stems(&directory), wanted);
}

#[test]
fn every_body_holds_on_every_committed_input() {
    for (name, body) in bodies() {
        let inputs = packed::read(name).expect("a readable corpus");
        assert!(
            inputs.len() >= 4,
            "{name} has {} committed inputs; type: scripts/fuzz {name} 60 && scripts/fuzz --minimise {name}",
            inputs.len()
        );
        for input in inputs {
            // A panic's own message names the assertion; this names the input.
            eprintln!("{name} {}: {} bytes", input.name, input.bytes.len());
            body(&input.bytes);
        }
    }
}

#[test]
fn no_committed_inputs_are_left_of_a_target_that_is_gone() {
    let wanted: BTreeSet<String> = bodies().map(|(name, _)| name.to_owned()).collect();
    let strangers: Vec<_> = stems(&packed::directory())
        .difference(&wanted)
        .cloned()
        .collect();
    assert_eq!(strangers, Vec::<String>::new());
}
