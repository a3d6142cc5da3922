//! The desk with a translator and with a bot, each a process of its own (this program, run again): it answers, is killed,
//! and its successor goes on.

mod support;

use std::sync::Arc;
use std::time::Duration;

use shm_bus::{BackendSeat, BusDirectory, Claimed, Read, RecordCopy, RecordHeader};
use tidegate_backend::engine::kinds::Side;
use tidegate_backend::workers::bot::{BOT_PROTOCOL, Bot, BotAnswer, BotQuestion};
use tidegate_backend::workers::question::WORKER_PROTOCOL;
use tidegate_backend::workers::{
    ANSWER, Desk, QUESTION, TextQuestion, Translation, Verdict, Worker as _,
};
use tidegate_protocol::Id;

use support::worker::{DIRECTORY, Worker, ask, await_worker};

#[test]
fn the_worker_process() {
    // The last name in the directory says which.
    if let Ok(directory) = std::env::var(DIRECTORY) {
        if directory.ends_with("bot") {
            serve(&directory, BOT_PROTOCOL, bots_answer);
        } else {
            serve(&directory, WORKER_PROTOCOL, translators_answer);
        }
    }
}

/// Answers until it is killed.
fn serve(directory: &str, protocol: u32, answer: fn(&[u8]) -> Vec<u8>) {
    let bus = BusDirectory::open_or_create(directory).expect("a bus");
    let mut seat = BackendSeat::take_for(&bus, protocol).expect("the seat");
    let (mut askers, mut copy) = (Vec::new(), RecordCopy::default());
    loop {
        for instance in seat.discover().expect("readable") {
            askers.push(seat.attach(instance).expect("it attaches"));
        }
        for ports in askers.iter_mut().flat_map(|asker| &mut asker.shards) {
            while let Read::Record(header) = ports.to_backend.next(&mut copy) {
                assert_eq!(header.kind, QUESTION);
                let payload = answer(copy.payload());
                let Ok(Claimed::Claimed(mut claim)) = ports.to_gateway.claim(payload.len()) else {
                    panic!("there is room");
                };
                claim.payload_mut().copy_from_slice(&payload);
                claim.commit(RecordHeader {
                    kind: ANSWER,
                    trace: header.trace,
                    ..RecordHeader::default()
                });
                ports.to_backend.release_to(ports.to_backend.position());
            }
            ports.to_gateway.ring();
        }
        seat.bell().prepare();
        let mut rings = askers.iter_mut().flat_map(|asker| &mut asker.shards);
        if rings.all(|ports| ports.to_backend.is_empty()) {
            seat.bell().sleep(Duration::from_millis(100));
        }
        seat.bell().awake();
    }
}

fn record(what: u8, text: &str) -> Vec<u8> {
    let bytes = u32::try_from(text.len()).expect("short");
    let mut payload = vec![what, 0, 0, 0];
    payload.extend_from_slice(&bytes.to_le_bytes());
    payload.extend_from_slice(text.as_bytes());
    payload
}

/// Says whose text it was; a forbidden word it would refuse, if it might.
fn translators_answer(question: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(&question[24..]).expect("UTF-8");
    match (question[20], text) {
        (_, "forbidden") => record(1, "no"),
        (_, "same") => record(0, ""),
        (0, _) => record(2, &format!("for agents: {text}")),
        (_, _) => record(2, &format!("for visitors: {text}")),
    }
}

/// Repeats what it was asked, with what else it was told.
fn bots_answer(question: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(&question[32..]).expect("UTF-8");
    if text == "hm" {
        return record(0, "");
    }
    let seq = u64::from_le_bytes(question[16..24].try_into().expect("eight bytes"));
    record(1, &format!("{text}, {seq}, {}", question[28]))
}

fn text(by: Side, text: &str) -> TextQuestion {
    TextQuestion {
        sender: Id(7),
        by,
        conversation: Id(8),
        text: text.into(),
    }
}

#[test]
fn a_translator_is_told_whose_text_it_is_and_its_refusal_is_no_answer() {
    let directory = tempfile::tempdir().expect("a directory");
    let wake = Arc::new(|| {});
    let mut desk = Desk::<Translation>::start("translation", directory.path(), wake).expect("one");
    assert!(!desk.ask(1, text(Side::Agent, "hello")), "nobody is there");

    let path = directory.path().join("translation");
    let worker = Worker::start(&path);
    await_worker(&desk, true);
    let replace = |text: &str| Verdict::Replace(text.into());
    assert_eq!(
        ask(&mut desk, 2, text(Side::Visitor, "hello")),
        replace("for agents: hello")
    );
    assert_eq!(
        ask(&mut desk, 3, text(Side::Agent, "hello")),
        replace("for visitors: hello")
    );
    assert!(desk.ask(4, text(Side::Visitor, "forbidden")));
    // Answers come in order: the one before was none.
    let same = ask(&mut desk, 5, text(Side::Visitor, "same"));
    assert_eq!(same, Verdict::Allow);

    drop(worker);
    await_worker(&desk, false);
    assert!(!desk.ask(6, text(Side::Agent, "hello")));
    let _successor = Worker::start(&path);
    await_worker(&desk, true);
    assert_eq!(
        ask(&mut desk, 7, text(Side::Agent, "again")),
        replace("for visitors: again")
    );
}

fn to_bot(seq: u64, agents_online: bool, text: &str) -> BotQuestion {
    BotQuestion {
        conversation: Id(8),
        visitor: Id(7),
        seq,
        agents_online,
        text: text.into(),
    }
}

#[test]
fn a_bot_says_something_or_nothing_is_killed_and_its_successor_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let wake = Arc::new(|| {});
    let mut desk = Desk::<Bot>::start("bot", directory.path(), wake).expect("one");
    assert!(!desk.ask(1, to_bot(2, true, "hello")), "nobody is there");

    let path = directory.path().join("bot");
    let worker = Worker::start(&path);
    await_worker(&desk, true);
    let said = |text: &str| BotAnswer::Say(text.into());
    assert_eq!(
        ask(&mut desk, 2, to_bot(2, true, "hello")),
        said("hello, 2, 0")
    );
    assert_eq!(
        ask(&mut desk, 3, to_bot(900, false, "你好")),
        said("你好, 900, 1")
    );
    assert_eq!(ask(&mut desk, 4, to_bot(3, true, "hm")), BotAnswer::Nothing);

    drop(worker);
    await_worker(&desk, false);
    assert!(!desk.ask(5, to_bot(4, true, "hello")));
    let _successor = Worker::start(&path);
    await_worker(&desk, true);
    for number in 6..100 {
        let answer = ask(&mut desk, number, to_bot(number, true, "hello"));
        assert_eq!(answer, said(&format!("hello, {number}, 0")));
    }
}

#[test]
fn a_bot_in_the_translators_directory_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let wake = Arc::new(|| {});
    let desk = Desk::<Translation>::start("translation", directory.path(), wake).expect("one");
    let bus = BusDirectory::open_or_create(directory.path().join("translation")).expect("a bus");
    let mut seat = BackendSeat::take_for(&bus, BOT_PROTOCOL).expect("the seat");
    let instance = seat.discover().expect("readable").pop().expect("one");
    let refused = seat.attach(instance).expect_err("it is refused");
    assert!(refused.to_string().contains("protocol 1"), "{refused}");
    assert!(!desk.is_there());
}
