//! `tidegate bus tap`, `record` and `replay` beside a running Tidegate: what goes by is shown, kept, and happens again.

mod stage;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use stage::people::{Person, conversation};
use stage::{Stage, command, directory, eventually, signal};

/// A `tidegate bus …` that runs beside the stage, its lines in a file.
struct Beside {
    child: Child,
    lines: std::path::PathBuf,
}

impl Beside {
    fn start(mut command: Command, arguments: &[&str], lines: &Path) -> Self {
        let out = std::fs::File::create(lines).expect("the directory is ours");
        let child = command
            .args(arguments)
            .stdout(out)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = lines.to_owned();
        Self { child, lines }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.lines).expect("UTF-8")
    }

    fn lines(&self) -> Vec<Value> {
        let text = self.text();
        // The last one may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let json =
            |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        whole.lines().map(json).collect()
    }

    fn end(self, signal_name: &str) -> (Option<i32>, String) {
        signal(self.child.id(), signal_name);
        let output = self.child.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), said)
    }
}

fn run(directory: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = command(directory)
        .args(arguments)
        .output()
        .expect("the binary starts");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Waits until the recorder has written down who is there: from then on it misses nothing.
fn await_recorder(file: &Path) {
    const HEADER_BYTES: u64 = 48;
    eventually("the gateway's entry", || {
        let stat = std::fs::metadata(file).ok()?;
        (stat.len() > HEADER_BYTES).then_some(())
    });
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

#[test]
fn a_tap_shows_who_said_what_to_whom_and_texts_only_where_asked_for() {
    let stage = Stage::start();
    let path = stage.directory.path();
    let beside = |name: &str, arguments: &[&str]| {
        let arguments = [&["bus", "tap"], arguments].concat();
        Beside::start(command(path), &arguments, &path.join(name))
    };
    let masked = beside("masked", &[]);
    let bodies = beside("bodies", &["--bodies", "--kind", "send,message"]);
    for tap in [&masked, &bodies] {
        eventually("the gateway's line", || {
            (!tap.lines().is_empty()).then_some(())
        });
    }
    let mut visitor = Person::visitor(&stage, "00000000000000a1");
    let chat = conversation(&visitor.say("where is my parcel", None));
    let other = Person::visitor(&stage, "00000000000000a2");

    let send = eventually("the send", || {
        of_kind(&masked.lines(), "send")
            .first()
            .map(|line| (*line).clone())
    });
    assert_eq!(send["direction"], "to_backend", "{send}");
    assert_eq!(send["envelope"]["text"], "«18 characters»", "{send}");
    assert_eq!(send["session"], "00000000000000a1", "{send}");
    let connection = send["connection"]
        .as_str()
        .expect("shard.slot.generation")
        .to_owned();
    let answer = eventually("the answer", || {
        of_kind(&masked.lines(), "send_result")
            .first()
            .map(|line| (*line).clone())
    });
    assert_eq!(answer["direction"], "to_gateway", "{answer}");
    assert_eq!(
        (&answer["connection"], &answer["conversation"]),
        (&send["connection"], &Value::from(chat.as_str()))
    );
    eventually("both of them", || {
        (of_kind(&masked.lines(), "opened").len() == 2).then_some(())
    });
    let text = masked.text();
    assert!(!text.contains("parcel"), "{text}");
    assert!(
        !text.contains(visitor.token.as_str()),
        "no token is ever shown"
    );

    let shown = eventually("the text", || {
        let lines = bodies.lines();
        (!of_kind(&lines, "send").is_empty()).then_some(lines)
    });
    assert_eq!(
        of_kind(&shown, "send")[0]["envelope"]["text"],
        "where is my parcel"
    );
    assert!(of_kind(&shown, "opened").is_empty());

    // What was recorded is shown by the same command; here with each filter.
    let record = Beside::start(
        command(path),
        &["bus", "record", "kept.tgr"],
        &path.join("said"),
    );
    await_recorder(&path.join("kept.tgr"));
    visitor.say("one more", Some(&chat));
    drop(other);
    eventually("the record", || {
        let (_, out, _) = run(
            path,
            &["bus", "tap", "--file", "kept.tgr", "--kind", "closed"],
        );
        out.contains("\"closed\"").then_some(())
    });
    assert_eq!(record.end("INT").0, Some(0));
    for (filter, wanted, unwanted) in [
        (
            &["--connection", connection.as_str()][..],
            "\"send\"",
            "\"closed\"",
        ),
        (
            &["--conversation", chat.as_str()],
            "\"send_result\"",
            "\"closed\"",
        ),
        (
            &["--direction", "to_gateway"],
            "\"send_result\"",
            "\"send\"",
        ),
        (&["--kind", "closed"], "\"closed\"", "\"send_result\""),
    ] {
        let (code, out, error) = run(
            path,
            &[&["bus", "tap", "--file", "kept.tgr"], filter].concat(),
        );
        assert_eq!(code, Some(0), "{error}");
        assert!(
            out.contains(&format!("\"kind\":{wanted}")),
            "{filter:?}: {out}"
        );
        assert!(
            !out.contains(&format!("\"kind\":{unwanted}")),
            "{filter:?}: {out}"
        );
        assert!(!out.contains("one more"), "texts are not kept: {out}");
    }
    for tap in [masked, bodies] {
        tap.end("INT");
    }
}

#[test]
fn a_recording_comes_again_as_fresh_visitors_and_into_a_backend_of_its_own() {
    let stage = Stage::start();
    let path = stage.directory.path();
    let record = Beside::start(
        command(path),
        &["bus", "record", "kept.tgr", "--bodies"],
        &path.join("said"),
    );
    await_recorder(&path.join("kept.tgr"));
    let mut first = Person::visitor(&stage, "00000000000000a1");
    let mut second = Person::visitor(&stage, "00000000000000a2");
    let chat = conversation(&first.say("one", None));
    second.say("two", None);
    let said = Instant::now();
    eventually("some time that a replay has to take as well", || {
        (said.elapsed() > Duration::from_millis(300)).then_some(())
    });
    first.say("three", Some(&chat));
    drop(second);
    eventually("all of it", || {
        let (_, out, _) = run(
            path,
            &["bus", "tap", "--file", "kept.tgr", "--kind", "closed"],
        );
        out.contains("\"closed\"").then_some(())
    });
    assert_eq!(record.end("TERM").0, Some(0));

    // As load: three texts of two strangers more, at a quarter of the speed.
    let recorded_us = recorded_us(path, "kept.tgr");
    assert!(recorded_us > 300_000, "{recorded_us}");
    let at_a_quarter = |figures: &Value| {
        let took = figures["seconds"].as_f64().expect("a number");
        let least = Duration::from_micros(4 * recorded_us).as_secs_f64();
        assert!(took >= least, "{least} s at least: {figures}");
    };
    let (code, out, error) = run(
        path,
        &["bus", "replay", "kept.tgr", "--speed", "0.25", "--json"],
    );
    assert_eq!(code, Some(0), "{error}");
    let figures: Value = serde_json::from_str(&out).expect("JSON");
    at_a_quarter(&figures);
    assert_eq!(figures["visitors"], 2, "{figures}");
    assert_eq!(figures["accepted"], 3, "{figures}");
    let (_, out, _) = run(path, &["ledger", "--recount", "--json"]);
    let ledger: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(ledger["counters"]["to_agent"]["accepted"], 6, "{ledger}");

    // Into a fresh backend that never saw a gateway: the same three, and who wrote the first the third.
    let kept = Path::new("kept.tgr");
    for speed in ["max", "0.25"] {
        let figures = replay_into_a_fresh_backend(kept, path, speed);
        assert_eq!(figures["said"], 3, "{figures}");
        assert_eq!(figures["outcomes"]["accepted"], 3, "{figures}");
        assert_eq!(figures["unnamed_conversations"], 0, "{figures}");
        if speed != "max" {
            at_a_quarter(&figures);
        }
    }
}

/// From the first record of a recording to its last, µs.
fn recorded_us(directory: &Path, file: &str) -> u64 {
    let (code, out, error) = run(directory, &["bus", "tap", "--file", file]);
    assert_eq!(code, Some(0), "{error}");
    let lines = out
        .lines()
        .map(|line| -> Value { serde_json::from_str(line).expect("JSON") });
    let records = lines.filter(|line| line["kind"] != "gateway");
    let at_us: Vec<u64> = records.filter_map(|line| line["at_us"].as_u64()).collect();
    at_us[at_us.len() - 1] - at_us[0]
}

/// Starts a backend on a bus of its own and plays a recording into it; what the replay says.
fn replay_into_a_fresh_backend(file: &Path, directory: &Path, speed: &str) -> Value {
    let data_dir = format!("fresh-{speed}");
    let fresh = directory.join(&data_dir);
    let bus = tempfile::Builder::new()
        .prefix("tidegate-replay-")
        .tempdir_in("/dev/shm")
        .expect("memory");
    let bus_dir = bus.path().join("bus");
    let key = fresh.join("secrets");
    std::fs::create_dir_all(&key).expect("a directory");
    let mut backend = command(directory)
        .args(["--data-dir", &data_dir, "backend"])
        .env("TIDEGATE_BUS_DIR", &bus_dir)
        .env("TIDEGATE_BACKEND__HTTP_LISTEN", "127.0.0.1:0")
        .stderr(std::fs::File::create(directory.join("backend-said")).expect("ours"))
        .spawn()
        .expect("the binary starts");
    let (code, out, error) = {
        let arguments = ["bus", "replay", "--speed", speed, "--json", "--into"];
        let mut replay = command(directory);
        replay.args(arguments).arg(&bus_dir).arg(file);
        let output = replay.output().expect("the binary starts");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    signal(backend.id(), "TERM");
    let ended = eventually("the backend's end", || backend.try_wait().expect("waits"));
    let said = std::fs::read_to_string(directory.join("backend-said")).unwrap_or_default();
    assert_eq!(code, Some(0), "{error}\n{said}");
    assert!(ended.success(), "{said}");
    // What the replay was told is what stands in the database.
    let (code, ledger, error) = run(
        directory,
        &["--data-dir", &data_dir, "ledger", "--recount", "--json"],
    );
    assert_eq!(code, Some(0), "{error}");
    let ledger: Value = serde_json::from_str(&ledger).expect("JSON");
    let figures: Value = serde_json::from_str(&out).expect("JSON");
    let of = |to: &str| {
        ledger["counters"][to]["accepted"]
            .as_u64()
            .expect("a number")
    };
    assert_eq!(
        Some(of("to_agent") + of("to_visitor")),
        figures["accepted"].as_u64(),
        "{figures} {ledger}"
    );
    figures
}

#[test]
fn the_rush_that_ships_is_taken_by_a_real_backend_from_the_first_text_to_the_last() {
    let rush = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shm-bus/examples/rush.tgr");
    let directory = directory();
    let figures = replay_into_a_fresh_backend(&rush, directory.path(), "max");
    assert!(figures["said"].as_u64() > Some(100), "{figures}");
    assert_eq!(figures["said"], figures["accepted"], "{figures}");
    assert_eq!(figures["not_played"]["missed_bytes"], 0, "{figures}");
    let (code, out, error) = run(
        directory.path(),
        &["bus", "tap", "--file", rush.to_str().expect("UTF-8")],
    );
    assert_eq!(code, Some(0), "{error}");
    let tokens = out.matches("\"token\"").count();
    assert_eq!(out.matches("\"token\":\"«masked»\"").count(), tokens);
    assert!(
        !out.contains("\"unreadable_bytes\""),
        "everything is what it says"
    );
}

#[test]
fn in_a_terminal_the_table_is_drawn_again_and_again_until_q_and_the_terminal_is_given_back() {
    use std::io::Write as _;
    let stage = Stage::start();
    let program = env!("CARGO_BIN_EXE_tidegate");
    let screen = stage.directory.path().join("screen");
    let shown =
        || String::from_utf8_lossy(&std::fs::read(&screen).unwrap_or_default()).into_owned();
    // script(1) of util-linux is the terminal.
    let mut terminal = Command::new("script")
        .args([
            "-qec",
            &format!("{program} bus stat --over-ms 50; stty -a"),
            "/dev/null",
        ])
        .current_dir(stage.directory.path())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(std::fs::File::create(&screen).expect("ours"))
        .spawn()
        .expect("script of util-linux");
    let mut keys = terminal.stdin.take().expect("a pipe");
    eventually("the table, again and again", || {
        (shown().matches("heartbeat").count() > 5).then_some(())
    });
    keys.write_all(b"xq").expect("it listens");
    keys.flush().expect("it listens");
    eventually("the end", || terminal.try_wait().expect("waits"));
    let text = shown();
    let (table, after) = text
        .rsplit_once("\u{1b}[?1049l")
        .expect("it leaves the other screen");
    assert!(table.starts_with("\u{1b}[?1049h"), "{text}");
    assert!(
        table.contains("to_backend") && table.contains("q ends"),
        "{text}"
    );
    for mode in ["icanon", "echo", "isig"] {
        let is_on = after.split_whitespace().any(|word| word == mode);
        assert!(is_on, "{mode}: {after}");
    }
}
