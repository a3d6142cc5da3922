//! A moderation worker beside a whole Tidegate: it rules, is killed with a text in hand, and its successor goes on.

mod stage;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use stage::people::{Person, conversation};
use stage::python::python_itself;
use stage::{Stage, eventually, http, signal};

#[path = "../../../shm-bus/examples/moderation_worker.rs"]
#[allow(dead_code, reason = "its main is that of the example")]
mod example;

/// Names the worker's directory to this program, when it is to be the worker.
const DIRECTORY: &str = "TEST_WORKER_DIRECTORY";

#[test]
fn the_worker_process() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        example::serve(&directory).expect("it serves until it is killed");
    }
}

#[derive(Clone, Copy)]
enum Language {
    Rust,
    Python,
}

struct Worker(Child);

impl Worker {
    fn start(directory: &Path, language: Language) -> Self {
        let mut command = match language {
            Language::Rust => {
                let program = std::env::current_exe().expect("this test's own file");
                let mut command = Command::new(program);
                command
                    .args(["--exact", "the_worker_process"])
                    .env(DIRECTORY, directory);
                command
            }
            Language::Python => {
                let mut command = python_itself("shm-bus/examples/moderation_worker.py");
                command.arg(directory).stderr(Stdio::inherit());
                command
            }
        };
        Self(command.stdout(Stdio::null()).spawn().expect("it starts"))
    }
}

impl Drop for Worker {
    /// SIGKILL.
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// What becomes of a text that a new visitor sends; with who it was.
fn say(stage: &Stage, text: &str) -> (Value, Person) {
    let mut visitor = Person::visitor(stage, "00000000000000a1");
    (visitor.say(text, None), visitor)
}

fn is_accepted(result: &Value) -> bool {
    result["outcome"].as_str().unwrap_or("accepted") == "accepted"
}

fn detail(result: &Value) -> &str {
    assert_eq!(result["outcome"], "refused", "{result}");
    result["detail"].as_str().unwrap_or_default()
}

#[test]
fn a_worker_rules_is_killed_with_a_text_in_hand_and_its_successor_goes_on() {
    rules_is_killed_and_succeeded(Language::Rust);
}

#[test]
fn a_worker_in_python_does_the_same() {
    rules_is_killed_and_succeeded(Language::Python);
}

fn rules_is_killed_and_succeeded(language: Language) {
    let settings = [
        ("TIDEGATE_BACKEND__MODERATION__ENABLED", "true"),
        ("TIDEGATE_BACKEND__MODERATION__DEFAULT", "refuse"),
        ("TIDEGATE_BACKEND__MODERATION__WORKER_ANSWER_MS_MAX", "1500"),
    ];
    let stage = Stage::start_in(stage::directory(), &[], &settings);
    let directory = stage.bus().join("moderation");
    let unchecked = "could not be checked";
    assert!(detail(&say(&stage, "nobody is there").0).contains(unchecked));

    let worker = Worker::start(&directory, language);
    eventually("a worker", || {
        is_accepted(&say(&stage, "hello").0).then_some(())
    });
    assert_eq!(
        detail(&say(&stage, "a forbidden word").0),
        "not in this shop"
    );
    let (replaced, visitor) = say(&stage, "a secret word");
    assert!(is_accepted(&replaced), "{replaced}");
    let path = format!(
        "/api/visitor/messages?conversation={}&after=0&limit=10",
        conversation(&replaced)
    );
    let history = http::get(stage.http, &path, Some(&visitor.token)).body;
    assert!(
        history.contains("a ****** word") && !history.contains("secret"),
        "{history}"
    );

    // It has the text and says nothing; then it dies.
    signal(worker.0.id(), "STOP");
    let mut held = Person::visitor(&stage, "00000000000000a1");
    held.post("is anybody there?", None);
    drop(worker);
    assert!(detail(&held.socket.until("send_result")).contains(unchecked));

    let _successor = Worker::start(&directory, language);
    eventually("a successor", || {
        is_accepted(&say(&stage, "hello again").0).then_some(())
    });
    let (code, _directory) = stage.stop();
    assert_eq!(code, Some(0));
}
