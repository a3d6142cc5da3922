//! Questions of `tidegate bench` that need the whole system: asked with tiny sizes, and their answers looked at. How fast
//! anything was is no matter here.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("bench")
        .args(arguments)
        .env_remove("TIDEGATE_CONFIG")
        .output()
        .expect("the binary runs")
}

/// The one JSON object that the question printed. A machine that is busy with other tests may miss a target (1) or
/// saturate the load (3); anything else is a question that could not be asked.
fn answer(arguments: &[&str]) -> Value {
    let output = bench(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        matches!(output.status.code(), Some(0 | 1 | 3)),
        "{}: {said}",
        output.status
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let printed = String::from_utf8_lossy(&output.stdout);
        panic!("expected one JSON object ({error}), found {printed}; it said {said}")
    })
}

/// Whether the check whose name begins so held.
fn held(answer: &Value, what: &str) -> bool {
    let checks = answer["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| {
        check["what"]
            .as_str()
            .is_some_and(|name| name.starts_with(what))
    });
    let check = check.unwrap_or_else(|| panic!("no check {what:?} in {answer}"));
    check["held"] == true
}

#[test]
fn chat_delivers_everything_that_was_said_in_both_paces() {
    let people = ["--visitors", "6", "--agents", "2"];
    let time = ["--seconds", "1", "--warm-up", "0", "--json"];
    for pace in [["--rate", "100"], ["--depth", "1"]] {
        let arguments = [&["chat"][..], &people, &pace, &time].concat();
        let answer = answer(&arguments);
        assert_eq!(answer["question"], "chat");
        assert!(held(&answer, "ledger after the last"), "{answer}");
        assert!(held(&answer, "lost, refused or"), "{answer}");
    }
}

#[test]
fn a_question_to_a_tidegate_that_does_not_run_says_what_to_type() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("--data-dir")
        .arg(directory.path())
        .args(["bench", "chat", "--running"])
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("tidegate up"), "{said}");
}
