//! The examples in C, compiled with every warning an error, against the shared and the static library; and what the
//! library refuses. With TIDEGATE_VALGRIND=1 (`scripts/test clibrary`) each program runs under valgrind.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread::JoinHandle,
};

const WARNINGS: [&str; 5] = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"];
/// No program of a test runs longer.
const PATIENCE_S: &str = "120";

/// Where cargo put the libraries that it built for this test.
fn libraries() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    let directory = test.parent().expect("in a directory").to_owned();
    assert!(
        directory.join("libtidegate_bus.so").exists(),
        "{}",
        directory.display()
    );
    directory
}

#[derive(Clone, Copy, Debug)]
enum Link {
    Shared,
    Static,
}

fn compile(source: &Path, into: &Path, link: Link) -> PathBuf {
    let (root, libraries) = (Path::new(env!("CARGO_MANIFEST_DIR")), libraries());
    let program = into.join(source.file_stem().expect("a name"));
    let mut compiler = Command::new("cc");
    compiler
        .args(WARNINGS)
        .arg("-g")
        .arg("-I")
        .arg(root.join("../include"))
        .arg(source)
        .arg("-o")
        .arg(&program);
    match link {
        Link::Shared => compiler
            .arg("-L")
            .arg(&libraries)
            .arg("-ltidegate_bus")
            .arg(format!("-Wl,-rpath,{}", libraries.display())),
        Link::Static => {
            compiler
                .arg(libraries.join("libtidegate_bus.a"))
                .args(["-lpthread", "-ldl", "-lm"])
        }
    };
    let made = compiler.output().expect("cc is installed");
    assert!(made.status.success(), "{}", text(&made.stderr));
    program
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn command(program: &Path) -> Command {
    let mut bounded = Command::new("timeout");
    bounded.arg(PATIENCE_S);
    if std::env::var_os("TIDEGATE_VALGRIND").is_some() {
        bounded
            .args([
                "valgrind",
                "--quiet",
                "--error-exitcode=99",
                "--leak-check=full",
            ])
            .args(["--show-leak-kinds=all", "--errors-for-leak-kinds=all"]);
    }
    bounded.arg(program);
    bounded
}

/// A running consumer that has said that it waits, and what it says then: read as it comes, or it would wait for us.
fn consumer(program: &Path, bus: &Path, records: usize) -> (Child, JoinHandle<Vec<String>>) {
    let mut consumer = command(program)
        .arg(bus)
        .arg(records.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(consumer.stdout.take().expect("a pipe")).lines();
    let first = lines.next().expect("it speaks").expect("UTF-8");
    assert!(first.starts_with("waits on"), "{first}");
    let said = std::thread::spawn(|| lines.map_while(Result::ok).collect());
    (consumer, said)
}

fn produce(program: &Path, bus: &Path, lines: &str) -> Output {
    let mut producer = command(program)
        .arg(bus)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let (mut keyboard, lines) = (producer.stdin.take().expect("a pipe"), lines.to_owned());
    let typing = std::thread::spawn(move || keyboard.write_all(lines.as_bytes()));
    let ended = producer.wait_with_output().expect("it ends");
    typing.join().expect("typed").expect("it listened");
    ended
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples")
        .join(name)
}

fn a_line_goes_there_and_back(link: Link) {
    let scratch = tempfile::tempdir().expect("a directory");
    let bus = scratch.path().join("bus");
    let programs =
        ["consumer.c", "producer.c"].map(|name| compile(&example(name), scratch.path(), link));
    let (consumer, said) = consumer(&programs[0], &bus, 300);
    // More than the ring holds at once: the producer meets a full ring, and waits.
    let lines: String = (0..300)
        .map(|number| format!("line {number} {}\n", "x".repeat(600)))
        .collect();
    let produced = produce(&programs[1], &bus, &lines);
    assert!(produced.status.success(), "{}", text(&produced.stderr));
    let came_back = text(&produced.stdout);
    assert_eq!(came_back.lines().count(), 300);
    for (number, line) in came_back.lines().enumerate() {
        assert!(
            line.starts_with(&format!("slot {number} came back: line {number} xxx")),
            "{line}"
        );
    }
    assert_eq!(said.join().expect("read").len(), 300);
    let ended = consumer.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "{}", text(&ended.stderr));
}

#[test]
fn a_consumer_and_a_producer_in_c_speak_over_the_shared_library() {
    a_line_goes_there_and_back(Link::Shared);
}

#[test]
fn a_consumer_and_a_producer_in_c_speak_over_the_static_library() {
    a_line_goes_there_and_back(Link::Static);
}

#[test]
fn every_call_refuses_what_it_cannot_do_with_a_code_and_a_sentence() {
    let scratch = tempfile::tempdir().expect("a directory");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/refusals.c");
    let program = compile(&source, scratch.path(), Link::Shared);
    let ended = command(&program)
        .arg(scratch.path().join("bus"))
        .output()
        .expect("it starts");
    let said = text(&ended.stdout) + &text(&ended.stderr);
    assert!(ended.status.success(), "{said}");
}
