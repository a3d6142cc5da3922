//! The README's transcript, byte for byte, and the Python client that `protocol/README.md` was enough to write.

mod stage;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use stage::Stage;
use stage::people::{Person, conversation, visitor_token};
use stage::socket::Socket;

/// The lines of the transcript in the README: `> ` goes up, `< ` comes down.
fn transcript() -> Vec<(char, String)> {
    let readme =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md"))
            .expect("README.md");
    let (_, rest) = readme
        .split_once("```transcript\n")
        .expect("README.md holds a ```transcript block");
    let (block, _) = rest.split_once("```").expect("the block ends");
    let line = |line: &str| {
        line.split_once(' ')
            .map(|(mark, text)| (mark.chars().next().unwrap_or(' '), text.to_owned()))
    };
    block.lines().filter_map(line).collect()
}

/// What differs from run to run is written as a name in the README; the first value seen for a name must stay.
#[derive(Default)]
struct Names(Vec<(String, String)>);

impl Names {
    fn fill(&self, line: &str) -> String {
        self.0.iter().fold(line.to_owned(), |line, (name, value)| {
            line.replace(name, value)
        })
    }

    /// Walks both lines; where the README has `NAME` (capitals), takes the value that came.
    fn matches(&mut self, wanted: &str, came: &str) -> bool {
        let wanted = self.fill(wanted);
        let (mut wanted, mut came) = (wanted.as_str(), came);
        while let Some(start) = wanted.find(|c: char| c.is_ascii_uppercase()) {
            let Some(rest) = came.strip_prefix(&wanted[..start]) else {
                return false;
            };
            let name_end = wanted[start..]
                .find(|c: char| !c.is_ascii_uppercase())
                .map_or(wanted.len(), |n| start + n);
            let value_end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
                .unwrap_or(rest.len());
            self.0.push((
                wanted[start..name_end].to_owned(),
                rest[..value_end].to_owned(),
            ));
            wanted = &wanted[name_end..];
            came = &rest[value_end..];
        }
        wanted == came
    }
}

#[test]
fn the_transcript_of_the_readme_holds_byte_for_byte() {
    let stage = Stage::start();
    let (token, _) = visitor_token(&stage);
    let mut socket = Socket::open(stage.ws);
    let mut names = Names(vec![("TOKEN".to_owned(), token)]);
    let lines = transcript();
    assert!(lines.len() >= 6, "{lines:?}");
    for (mark, line) in lines {
        match mark {
            '>' => socket.send(&names.fill(&line)),
            '<' => match socket.next() {
                stage::socket::Frame::Text(came) => assert!(
                    names.matches(&line, &came),
                    "\nREADME: {line}\ncame:   {came}"
                ),
                other => panic!("{other:?} where the README has {line}"),
            },
            other => panic!("a transcript line begins with {other:?}"),
        }
    }
}

#[test]
fn a_python_client_of_a_hundred_lines_chats() {
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../protocol/examples/chat.py");
    let source = std::fs::read_to_string(&client).expect("chat.py");
    assert!(
        source.lines().count() <= 100,
        "the README promises at most 100 lines"
    );

    let stage = Stage::start();
    let mut agent = Person::agent(&stage, "00000000000000b1");
    let mut python = Command::new("python3")
        .arg(&client)
        .arg(format!("http://{}", stage.http))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut keyboard = python.stdin.take().expect("a pipe");
    let mut screen = BufReader::new(python.stdout.take().expect("a pipe")).lines();
    writeln!(keyboard, "hello from Python").expect("types");
    let question = agent.hear();
    assert_eq!(question["text"], "hello from Python");
    agent.say("hello from an agent", Some(&conversation(&question)));
    let shown = screen
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains("hello from an agent"));
    assert!(shown.is_some());
    drop(keyboard);
    let _ended_already = python.kill();
    python.wait().expect("reaped");
}
