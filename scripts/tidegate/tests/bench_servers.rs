//! Every question is asked once, small: it ends, its report has the figures that it promises, and it notices a server
//! that does not do what it should. How large the figures are is not a test's business.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};

use serde_json::Value;
use tidegate_protocol::ws::handshake::{Outcome, Policy, Subprotocols, parse};

/// Runs `tidegate bench …` in a directory of its own.
fn bench(arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("bench")
        .args(arguments)
        .current_dir(directory.path())
        .output()
        .expect("the program runs")
}

/// The report of a question that was asked with `--json`, however its targets ended.
fn report(arguments: &[&str]) -> Value {
    let output = bench(&[arguments, &["--json"]].concat());
    let code = output.status.code();
    assert!(
        matches!(code, Some(0 | 1 | 3)),
        "{arguments:?} ended with {code:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

/// The figure of a row under a column's name.
fn figure(report: &Value, row: usize, column: &str) -> f64 {
    let table = &report["tables"][0];
    let columns = table["columns"].as_array().expect("columns");
    let index = columns.iter().position(|head| head["name"] == column);
    let index = index.unwrap_or_else(|| panic!("no column {column} in {columns:?}"));
    let cell = &table["rows"][row][index];
    cell.as_f64()
        .unwrap_or_else(|| panic!("{column} is {cell}"))
}

#[test]
fn an_echo_in_a_closed_loop_has_rate_cost_and_memory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let html = file.path().to_str().unwrap();
    let report = report(&[
        "echo",
        "--connections",
        "20",
        "--depth",
        "3",
        "--bytes",
        "2000",
        "--seconds",
        "0.3",
        "--html",
        html,
    ]);
    assert_eq!(report["question"], "echo");
    for column in ["rate", "p50", "p99", "server CPU"] {
        assert!(figure(&report, 0, column) > 0.0, "{column}");
    }
    let titles: Vec<&str> = report["plots"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|plot| plot["title"].as_str())
        .collect();
    assert_eq!(
        titles,
        [
            "latency by percentile",
            "throughput over time",
            "memory over time"
        ]
    );
    let page = std::fs::read_to_string(html).unwrap();
    assert_eq!(page.matches("<svg").count(), 3);
}

#[test]
fn an_open_loop_keeps_its_rate_and_says_how_late_it_was() {
    let report = report(&[
        "echo",
        "--connections",
        "7",
        "--rate",
        "200",
        "--seconds",
        "1",
    ]);
    let rate = figure(&report, 0, "rate");
    assert!((100.0..300.0).contains(&rate), "{rate} for 200 a second");
    assert!(figure(&report, 0, "load lag p99") > 0.0);
}

#[test]
fn a_comparison_runs_ours_and_the_floor_and_checks_their_ratio() {
    let report = report(&[
        "echo",
        "--compare",
        "--rounds",
        "1",
        "--seconds",
        "0.2",
        "--case",
        "deep1024",
        "--case",
        "500x128",
        "--peer",
        "tidegate",
        "--peer",
        "bare",
    ]);
    assert_eq!(
        report["tables"].as_array().unwrap().len(),
        2,
        "one for each case"
    );
    let rows = report["tables"][0]["rows"].as_array().unwrap();
    assert_eq!(
        (&rows[0][0], &rows[1][0]),
        (&"tidegate".into(), &"bare".into())
    );
    assert!(figure(&report, 0, "÷ bare") > 0.0);
    assert!((figure(&report, 1, "÷ bare") - 1.0).abs() < 1e-9);
    let checks = report["checks"].as_array().unwrap();
    assert_eq!(checks.len(), 1, "at 500x128 beside bare: {checks:?}");
}

#[test]
fn a_comparison_of_fleets_gives_each_server_as_many_processes() {
    let fleets = ["--compare", "--gateways", "3", "--rounds", "1"];
    let servers = ["--peer", "tidegate", "--peer", "bare"];
    let size = ["--connections", "60", "--bytes", "300", "--depth", "2"];
    let report = report(&[&["echo", "--seconds", "0.3"][..], &fleets, &servers, &size].concat());
    let title = report["tables"][0]["title"].as_str().unwrap();
    assert_eq!(title, "asked: 60 connections, 300 B, 2 under way each");
    assert!(figure(&report, 0, "÷ bare") > 0.0);
    let notes = report["notes"].to_string();
    assert!(notes.contains("3 processes on one port"), "{notes}");
}

/// Held: by the descriptors of all its processes.
#[test]
fn every_connection_to_a_fleet_is_held_by_one_of_its_processes() {
    let fleets = ["idle", "--compare", "--gateways", "3", "--seconds", "0.5"];
    let servers = ["--peer", "tidegate", "--peer", "bare"];
    let size = ["--connections", "90", "--from", "30"];
    let report = report(&[&fleets[..], &servers, &size].concat());
    assert!((figure(&report, 0, "held") - 90.0).abs() < 0.5, "{report}");
    assert!((figure(&report, 1, "held") - 90.0).abs() < 0.5, "{report}");
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_gateways_that_they_take() {
    let output = bench(&["echo", "--connections", "10000000000000000"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("type --gateways "), "{said}");
}

#[test]
fn idle_connections_are_held_and_their_pings_answered() {
    let report = report(&[
        "idle",
        "--connections",
        "120",
        "--from",
        "20",
        "--seconds",
        "1.5",
    ]);
    assert!(figure(&report, 0, "accepts") > 0.0);
    assert!(figure(&report, 0, "CPU per accept") > 0.0);
    assert!(figure(&report, 0, "whole process") > 0.0);
    assert!(figure(&report, 0, "pong p99") > 0.0);
    let notes = report["notes"].to_string();
    assert!(!notes.contains("not answered"), "{notes}");
}

#[test]
fn a_storm_counts_each_newcomer() {
    let report = report(&[
        "storm",
        "--connections",
        "150",
        "--within",
        "0.1",
        "--rounds",
        "1",
    ]);
    assert!(figure(&report, 0, "p99") > 0.0);
    assert!(figure(&report, 0, "failed").abs() < 0.5);
}

#[test]
fn nobody_at_the_address_is_said_with_the_address() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("ws://{gone}/");
    let output = bench(&[
        "echo",
        "--connections",
        "3",
        "--seconds",
        "0.1",
        "--server",
        &url,
    ]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains(&url) && said.contains("refused"), "{said}");
}

#[test]
fn a_server_that_changes_one_bit_is_caught() {
    let server = crooked(|frame| {
        let last = frame.len() - 1;
        frame[last] ^= 1;
    });
    let output = echo_once(server);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("something else came back"), "{said}");
}

#[test]
fn a_server_that_closes_is_told_with_its_code() {
    let server = crooked(|frame| *frame = vec![0x88, 2, 0x03, 0xF3]);
    let said = String::from_utf8_lossy(&echo_once(server).stderr).into_owned();
    assert!(said.contains("closed with 1011"), "{said}");
}

fn echo_once(server: SocketAddr) -> Output {
    let url = format!("ws://{server}/");
    bench(&[
        "echo",
        "--connections",
        "1",
        "--bytes",
        "50",
        "--seconds",
        "0.2",
        "--server",
        &url,
    ])
}

/// A server of one connection whose answers are turned into something else. Frames come one at a time and have a short
/// header, as one message of 50 bytes is under way.
fn crooked(turn: impl Fn(&mut Vec<u8>) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the load comes");
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).expect("its handshake");
        upgrade(&mut stream, &bytes[..count]);
        while let Ok(count @ 6..) = stream.read(&mut bytes) {
            let mask = [bytes[2], bytes[3], bytes[4], bytes[5]];
            let payload = bytes[6..count].iter().zip(mask.iter().cycle());
            let mut frame = vec![bytes[0], bytes[1] & 0x7F];
            frame.extend(payload.map(|(byte, mask)| byte ^ mask));
            turn(&mut frame);
            if stream.write_all(&frame).is_err() {
                return;
            }
        }
    });
    address
}

fn upgrade(stream: &mut TcpStream, request: &[u8]) {
    let policy = Policy {
        allowed_origins: Vec::new(),
        subprotocols: Subprotocols::Ignored,
    };
    let Outcome::Upgrade(upgrade) = parse(request, 0, &policy) else {
        panic!("the load asks for an upgrade");
    };
    let mut answer = Vec::new();
    upgrade.append_response(&mut answer);
    stream.write_all(&answer).expect("it waits");
}
