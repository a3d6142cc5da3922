//! Questions of `tidegate bench` that need the whole system: asked with tiny sizes, and their answers looked at. How fast
//! anything was is no matter here.

mod stage;

use std::process::{Command, Output};

use serde_json::Value;
use stage::{Stage, directory};

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

/// A table's rows by what stands in their first column.
fn rows(answer: &Value) -> Vec<(String, &Vec<Value>)> {
    let rows = answer["tables"][0]["rows"].as_array().expect("rows");
    let rows = rows.iter().map(|row| row.as_array().expect("a row"));
    rows.map(|row| (row[0].as_str().expect("a name").to_owned(), row))
        .collect()
}

/// The question itself compares every record with what was sent.
#[test]
fn bus_gets_every_record_across_each_way_between_two_processes() {
    let answer = answer(&["bus", "--seconds", "0.2", "--rounds", "1", "--json"]);
    let rows = rows(&answer);
    for way in ["ring, spinning", "ring, sleeping", "pipe", "Unix socket"] {
        let row = rows.iter().find(|(name, _)| name == way);
        let (_, row) = row.unwrap_or_else(|| panic!("no row {way:?} in {answer}"));
        // Some records a second, some time for a round trip.
        assert!(
            row[1].as_f64() > Some(0.0) && row[3].as_f64() > Some(0.0),
            "{way}: {row:?}"
        );
    }
}

#[test]
fn parse_times_a_verified_read_beside_json() {
    let answer = answer(&["parse", "--rounds", "1", "--round-ms", "1", "--json"]);
    let rows = rows(&answer);
    for step in [
        "fb-read-message",
        "json-read-message",
        "unmask-1k",
        "utf8-chinese-1k",
    ] {
        assert!(
            rows.iter().any(|(name, _)| name == step),
            "no {step} in {answer}"
        );
    }
}

#[test]
fn bytes_counts_the_same_traffic_in_both_codecs() {
    let answer = answer(&["bytes", "--rounds", "1", "--json"]);
    let rows = rows(&answer);
    let names: Vec<_> = rows.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["FlatBuffers", "JSON, compact"]);
    let (flat, json) = (rows[0].1[5].as_f64(), rows[1].1[5].as_f64());
    assert!(flat > Some(0.0) && flat < json, "{flat:?} and {json:?}");
}

#[test]
fn scenarios_play_both_sizes_of_text_and_lose_none() {
    let sizes = ["scenarios", "--text", "12", "--large", "8"];
    let time = ["--every", "1", "--seconds", "2", "--json"];
    let answer = answer(&[&sizes[..], &time].concat());
    let rows = answer["tables"][0]["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2, "{answer}");
    let column = |name: &str| {
        let columns = answer["tables"][0]["columns"].as_array().expect("columns");
        let place = columns.iter().position(|column| column["name"] == name);
        place.unwrap_or_else(|| panic!("no column {name:?} in {answer}"))
    };
    for (row, people) in rows.iter().zip([12.0, 8.0]) {
        assert_eq!(row[column("concurrency")], people, "{answer}");
        assert_eq!(row[column("error")], 0.0, "{answer}");
    }
}

#[test]
fn a_rush_waits_in_order_and_is_removed_with_the_ledger_closed() {
    let admission = [
        ("TIDEGATE_BACKEND__ADMISSION__PER_S", "30"),
        ("TIDEGATE_BACKEND__ADMISSION__BURST", "20"),
    ];
    let stage = Stage::start_in(directory(), &[], &admission);
    let data_dir = stage.directory.path().join("tidegate-data");
    let data_dir = data_dir.to_str().expect("UTF-8");
    let rush = ["stress", "--visitors", "60", "--open", "4", "--agents", "2"];
    let time = [
        "--ramp",
        "1",
        "--stay",
        "3",
        "--ask",
        "500",
        "--json",
        "--data-dir",
        data_dir,
    ];
    let seen = answer(&[&rush[..], &time].concat());
    for promise in [
        "the loss ledger",
        "texts that the ledger accepted",
        "refused for good",
        "let in after a later ticket",
    ] {
        assert!(held(&seen, promise), "{promise}: {seen}");
    }
    let people = seen["tables"][0]["rows"].as_array().expect("rows");
    assert_eq!(people[1][1], 60.0, "all came: {seen}");
    assert!(people[1][3].as_f64() > Some(0.0), "some waited: {seen}");

    let clean = answer(&["stress", "--clean", "--json", "--data-dir", data_dir]);
    assert!(held(&clean, "the loss ledger"), "{clean}");
    let listed = stage::command(stage.directory.path())
        .args(["agent", "list"])
        .output()
        .expect("the binary runs");
    let listed = String::from_utf8_lossy(&listed.stdout);
    assert!(
        listed.contains("demo") && !listed.contains("stress"),
        "{listed}"
    );
    let counted = stage::command(stage.directory.path())
        .args(["ledger", "--recount"])
        .output()
        .expect("the binary runs");
    assert!(counted.status.success(), "{counted:?}");
}

#[test]
fn everybody_who_waits_is_told_a_place_and_the_last_of_each_telling_is_timed() {
    let size = ["--visitors", "40", "--gateways", "2", "--seconds", "11"];
    let seen = answer(&[&["places", "--json"][..], &size].concat());
    assert!(held(&seen, "tellings that everybody who waits"), "{seen}");
    assert!(held(&seen, "connections lost"), "{seen}");
    let rows = rows(&seen);
    let max_ms = |row: usize| rows[row].1[4].as_f64().expect("a number");
    // The backend's clock and the load's are the same: more than nothing, and no hours.
    assert!(max_ms(1) > 0.0 && max_ms(1) < 60_000.0, "{seen}");
    assert!(max_ms(1) >= max_ms(0), "{seen}");
}

#[test]
fn after_the_kill_of_a_gateway_all_its_visitors_are_back_and_nobody_asked_the_database() {
    let seen = answer(&["storm", "--kill", "--connections", "60", "--json"]);
    for check in ["not back", "gaps", "reads of the database"] {
        assert!(held(&seen, check), "{check}: {seen}");
    }
    let row = &seen["tables"][0]["rows"][0];
    assert_eq!((row[0].as_f64(), row[1].as_f64()), (Some(60.0), Some(60.0)));
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

#[test]
fn idle_connections_are_counted_at_both_ends_over_several_gateways() {
    let size = ["--gateways", "3", "--connections", "300", "--from", "100"];
    let time = ["--seconds", "1", "--json"];
    for who in [&[][..], &["--visitors"]] {
        let arguments = [&["idle"][..], &size, &time, who].concat();
        let answer = answer(&arguments);
        assert_eq!(answer["question"], "idle");
        let name = if who.is_empty() {
            "tidegate, 3 gateways: "
        } else {
            "tidegate, 3 gateways and the backend: "
        };
        let what = format!("{name}connections that the servers do not hold");
        assert!(held(&answer, &what), "{answer}");
    }
}
