//! A backend in Python behind real gateways, through libtidegate_bus: `up --no-backend`, the echo of 80 lines, a tap.

mod stage;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use stage::people::{Person, visitor_token};
use stage::python::{python, root};
use stage::socket::Socket;
use stage::{Stage, directory, eventually};

/// The echo, serving the system of this stage.
struct Echo(Child);

impl Echo {
    fn start(stage: &Stage) -> Self {
        let mut child = python("shm-bus/examples/echo_backend.py")
            .current_dir(stage.directory.path())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.take().expect("a pipe"));
        said.read_line(&mut line).expect("it speaks");
        assert!(line.starts_with("echoes on /dev/shm/"), "{line}");
        Self(child)
    }

    /// kill -9 of python itself: `timeout` passes no SIGKILL on.
    fn kill(&mut self) {
        let own = self.0.id().to_string();
        let killed = Command::new("pkill").args(["-KILL", "-P", &own]).status();
        assert!(killed.expect("pkill is installed").success());
        self.0.wait().expect("our own child");
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let own = self.0.id().to_string();
        let _ended_already = Command::new("pkill").args(["-KILL", "-P", &own]).status();
        let _reaped = self.0.wait();
    }
}

/// What the visitor hears of a message: that it was accepted, and the echo.
fn say(visitor: &mut Person, text: &str) -> (Value, Value) {
    let result = visitor.say(text, None);
    assert_eq!(result["outcome"], "accepted", "{result}");
    (result, visitor.hear())
}

#[test]
fn eighty_lines_of_python_answer_a_visitor_and_a_tap_counts_it() {
    let source = std::fs::read_to_string(root().join("shm-bus/examples/echo_backend.py"));
    assert!(source.expect("the example").lines().count() <= 80);

    let stage = Stage::start_in(directory(), &["--no-backend"], &[]);
    let mut echo = Echo::start(&stage);
    let mut tap = python("shm-bus/examples/messages_per_minute.py")
        .arg(stage.bus())
        .arg("3")
        .spawn()
        .expect("python3 is installed");
    let mut line = String::new();
    let mut errors = BufReader::new(tap.stderr.take().expect("a pipe"));
    errors.read_line(&mut line).expect("it speaks");
    assert!(line.starts_with("taps /dev/shm/"), "{line}");

    let mut visitor = Person::visitor(&stage, "00000000000000e1");
    let (first, heard) = say(&mut visitor, "还有货吗？");
    assert_eq!(heard["text"], "You said: 还有货吗？", "{heard}");
    assert_eq!((&first["seq"], &heard["seq"]), (&json!(1), &json!(2)));
    assert_eq!(heard["sender_name"], "Echo");
    let (second, heard) = say(&mut visitor, "two");
    assert_eq!((&second["seq"], &heard["seq"]), (&json!(3), &json!(4)));
    // A repeat gets the first answer, and nothing is said twice; a jump is told what is expected.
    let send = |n, text| json!({"kind": "send", "n": n, "text": text}).to_string();
    visitor.socket.send(&send(2, "two"));
    let repeat = visitor.socket.until("send_result");
    assert_eq!(repeat["outcome"], "duplicate", "{repeat}");
    assert_eq!(repeat["seq"], second["seq"]);
    visitor.socket.send(&send(5, "five"));
    let gap = visitor.socket.until("send_result");
    assert_eq!(gap["expected_n"], 3, "{gap}");

    // The tap saw it go by.
    let mut counted = String::new();
    let mut minutes = BufReader::new(tap.stdout.take().expect("a pipe"));
    minutes.read_line(&mut counted).expect("a line");
    let counted: Value = serde_json::from_str(&counted).expect("JSON");
    assert_eq!(counted["sent"], 4, "{counted}");
    assert_eq!(counted["delivered"], 2, "{counted}");
    assert_eq!(counted["missed_bytes"], 0, "{counted}");
    let own = tap.id().to_string();
    let _killed = Command::new("pkill").args(["-KILL", "-P", &own]).status();
    tap.wait().expect("our own child");

    // It dies, and another one comes: the visitor's connection stays, what was said meanwhile is answered.
    echo.kill();
    visitor.socket.send(&send(3, "is anybody there?"));
    let _next = Echo::start(&stage);
    let result = visitor.socket.until("send_result");
    assert_eq!(result["outcome"], "accepted", "{result}");
    assert_eq!(visitor.hear()["text"], "You said: is anybody there?");
}

#[test]
fn a_connection_that_comes_back_hears_what_it_missed_from_python() {
    let stage = Stage::start_in(directory(), &["--no-backend"], &[]);
    let _echo = Echo::start(&stage);
    let (token, _) = visitor_token(&stage);
    let mut socket = Socket::open(stage.ws);
    let hello = json!({"kind": "hello", "token": token, "session": "00000000000000e2"});
    socket.send(&hello.to_string());
    assert_eq!(socket.until("welcome")["agents_online"], 1);
    socket.send(&json!({"kind": "send", "n": 1, "text": "one"}).to_string());
    let state = socket.until("conversation_state");
    assert_eq!(socket.until("message")["seq"], 2);
    drop(socket);

    let mut socket = Socket::open(stage.ws);
    let cursor = json!({"conversation": state["conversation"], "incarnation": state["incarnation"], "seq": 1});
    let hello = json!({"kind": "hello", "token": token, "session": "00000000000000e2", "cursors": [cursor]});
    socket.send(&hello.to_string());
    let welcome = socket.until("welcome");
    assert_eq!(
        (
            &welcome["last_n"],
            &welcome["conversations"][0]["recovered"]
        ),
        (&json!(1), &json!(true)),
        "{welcome}"
    );
    let missed = socket.until("message");
    assert_eq!(
        (&missed["seq"], &missed["text"]),
        (&json!(2), &json!("You said: one"))
    );
}

#[test]
fn without_a_backend_pages_and_tokens_are_served_and_commands_are_busy() {
    let stage = Stage::start_in(directory(), &["--no-backend"], &[]);
    for path in ["/", "/widget/", "/sdk/tidegate.js", "/healthz"] {
        assert_eq!(
            stage::http::get(stage.http, path, None).status,
            200,
            "{path}"
        );
    }
    let (token, _) = visitor_token(&stage);
    let send = json!({"text": "x"});
    let refused = stage::http::post(stage.http, "/api/visitor/send-message", Some(&token), &send);
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(stage::http::get(stage.http, "/readyz", None).status, 503);
    assert!(stage.pids("backend").is_empty());
    let (code, _directory) = stage.stop();
    assert_eq!(code, Some(0));
}

#[test]
fn where_a_backend_holds_the_rings_python_says_its_pid_and_what_to_type() {
    let stage = Stage::start();
    let echo = python("shm-bus/examples/echo_backend.py")
        .current_dir(stage.directory.path())
        .output()
        .expect("python3 is installed");
    assert_eq!(echo.status.code(), Some(1));
    let said = String::from_utf8_lossy(&echo.stderr).into_owned();
    let pid = stage.pids("backend")[0];
    assert!(said.contains(&format!("pid {pid}")), "{said}");
    assert!(said.contains("tidegate up --no-backend"), "{said}");
}

#[test]
fn the_modules_in_python_pass_their_own_tests() {
    for script in [
        "shm-bus/python/test_tidegate_bus.py",
        "protocol/python/test_tidegate_flat.py",
    ] {
        let mut tests = python(script).spawn().expect("python3 is installed");
        let mut said = String::new();
        let mut errors = tests.stderr.take().expect("a pipe");
        errors.read_to_string(&mut said).expect("text");
        let status = eventually("its end", || tests.try_wait().expect("our own child"));
        assert!(status.success(), "{script}: {said}");
    }
}
