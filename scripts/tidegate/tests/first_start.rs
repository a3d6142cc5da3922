//! What an operator meets: the first start, the second, a port in use, a directory that can't be, wrong settings.

mod stage;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use serde_json::json;
use stage::people::Person;
use stage::socket::Frame;
use stage::{Stage, command, directory, http};

fn refused(output: &Output, words: &[&str]) {
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        !output.status.success(),
        "it should have been refused: {text}"
    );
    assert!(!text.contains("panicked"), "{text}");
    for word in words {
        assert!(text.contains(word), "{word:?} is missing in: {text}");
    }
}

#[test]
fn the_first_start_makes_everything_with_safe_modes_and_the_second_keeps_it() {
    let stage = Stage::start();
    let data = stage.directory.path().join("tidegate-data");
    let mode = |path: &std::path::Path| {
        fs::metadata(path)
            .expect("it was made")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("secrets/token.key")), 0o600);
    let password = stage.password.clone().expect("shown on the first start");
    let (code, directory) = stage.stop();
    assert_eq!(code, Some(0));

    let changed = command(directory.path())
        .args(["agent", "passwd", "demo"])
        .output()
        .expect("runs");
    assert!(
        changed.status.success(),
        "{}",
        String::from_utf8_lossy(&changed.stderr)
    );
    let stage = Stage::start_in(directory, &[], &[]);
    let login = |password: &str| {
        http::post(
            stage.http,
            "/api/agent/login",
            None,
            &json!({"user": "demo", "password": password}),
        )
        .status
    };
    assert_eq!(login(&password), 401, "the old password holds no more");
    let text = String::from_utf8_lossy(&changed.stdout).into_owned();
    let fresh = text
        .split("password ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("printed");
    assert_eq!(login(fresh), 200);
}

#[test]
fn a_password_changes_while_everything_runs_and_ends_the_connections_of_the_old_one() {
    let stage = Stage::start();
    let mut agent = Person::agent(&stage, "00000000000000b1");
    let changed = command(stage.directory.path())
        .args(["agent", "passwd", "demo"])
        .output()
        .expect("runs");
    assert!(
        changed.status.success(),
        "{}",
        String::from_utf8_lossy(&changed.stderr)
    );
    let text = String::from_utf8_lossy(&changed.stdout).into_owned();
    let fresh = text
        .split("password ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next())
        .expect("printed");
    let answer = http::post(
        stage.http,
        "/api/agent/login",
        None,
        &json!({"user": "demo", "password": fresh}),
    );
    assert_eq!(answer.status, 200, "{}", answer.body);
    let code = loop {
        match agent.socket.next() {
            Frame::Close(code, _) => break code,
            Frame::Text(_) => {}
            Frame::End => panic!("ended without a close"),
        }
    };
    assert_eq!(code, 4500, "whoever is here came with the old password");
}

#[test]
fn a_second_start_on_the_same_directory_is_told_who_has_it() {
    let stage = Stage::start();
    let output = command(stage.directory.path())
        .args(["up", "--http-listen", "127.0.0.1:0"])
        .output()
        .expect("runs");
    refused(&output, &["already runs", "kill"]);
}

#[test]
fn a_named_port_in_use_is_refused_with_the_flag_to_type() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("an address").to_string();
    let home = directory();
    let output = command(home.path())
        .args(["up", "--http-listen", &address])
        .output()
        .expect("runs");
    refused(&output, &["in use", "--http-listen"]);
}

#[test]
fn a_directory_that_cannot_be_made_is_refused_with_what_to_do() {
    let home = directory();
    fs::write(home.path().join("file"), "in the way").expect("writes");
    let output = command(home.path())
        .args(["--data-dir", "file/data", "up"])
        .output()
        .expect("runs");
    refused(&output, &["data directory", "--data-dir"]);
}

#[test]
fn check_config_explains_every_mistake_at_once() {
    let home = directory();
    fs::write(
        home.path().join("tidegate.toml"),
        "data_dri = 'x'\n[gateway]\nlisten = 'everywhere'\nshard = 2\n[log]\nformat = 'xml'\n",
    )
    .expect("writes");
    let output = command(home.path())
        .arg("check-config")
        .env("TIDEGATE_UP__GATEWAYS", "many")
        .output()
        .expect("runs");
    refused(
        &output,
        &[
            "data_dri",
            "gateway.listen",
            "gateway.shard",
            "log.format",
            "TIDEGATE_UP__GATEWAYS",
            "tidegate.toml",
            "5 mistakes",
        ],
    );
    fs::write(home.path().join("tidegate.toml"), "[up]\ngateways = 2\n").expect("writes");
    let output = command(home.path())
        .arg("check-config")
        .output()
        .expect("runs");
    assert!(output.status.success());
}

#[test]
fn the_log_level_changes_while_everything_runs() {
    let stage = Stage::start();
    let output = command(stage.directory.path())
        .args(["log", "debug"])
        .output()
        .expect("runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains("now debug"));
    let output = command(stage.directory.path())
        .args(["log", "loud=shouting"])
        .output()
        .expect("runs");
    refused(&output, &["loud=shouting", "filter"]);
}
