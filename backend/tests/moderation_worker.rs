//! The desk and a moderation worker, which is a process of its own: the example of shm-bus, run by this test again.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shm_bus::{
    AttachedGateway, BackendSeat, BusDirectory, Claimed, Read, RecordCopy, RecordHeader,
};
use tidegate_backend::engine::kinds::Side;
use tidegate_backend::workers::question::{Moderation, WORKER_PROTOCOL};
use tidegate_backend::workers::{ANSWER, TextQuestion, Verdict, Worker as _};
use tidegate_protocol::Id;

use support::worker::{self, DIRECTORY, Worker, await_worker, eventually};

#[path = "../../shm-bus/examples/moderation_worker.rs"]
#[allow(dead_code, reason = "its main is that of the example")]
mod example;

#[test]
fn the_worker_process() {
    if let Ok(directory) = std::env::var(DIRECTORY) {
        example::serve(&directory).expect("it serves until it is killed");
    }
}

type Desk = tidegate_backend::workers::Desk<Moderation>;

/// A desk whose worker's directory is `moderation` in that one; and where that is.
fn open_desk(bus_dir: &Path) -> (Desk, PathBuf) {
    let desk = Desk::start("moderation", bus_dir, Arc::new(|| {})).expect("a desk");
    (desk, bus_dir.join("moderation"))
}

fn question(text: &str) -> TextQuestion {
    TextQuestion {
        sender: Id(7),
        by: Side::Visitor,
        conversation: Id(8),
        text: text.into(),
    }
}

fn ask(desk: &mut Desk, number: u64, text: &str) -> Verdict {
    worker::ask(desk, number, question(text))
}

#[test]
fn a_worker_answers_is_killed_and_its_successor_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut desk, bus) = open_desk(directory.path());
    assert!(!desk.ask(1, question("hello")), "nobody is there yet");

    let worker = Worker::start(&bus);
    await_worker(&desk, true);
    assert_eq!(ask(&mut desk, 2, "hello"), Verdict::Allow);
    assert_eq!(
        ask(&mut desk, 3, "a forbidden word"),
        Verdict::Refuse("not in this shop".into())
    );
    assert_eq!(
        ask(&mut desk, 4, "a secret word"),
        Verdict::Replace("a ****** word".into())
    );
    let long = "长".repeat(5_000);
    assert_eq!(ask(&mut desk, 5, &long), Verdict::Allow);

    drop(worker);
    await_worker(&desk, false);
    assert!(!desk.ask(6, question("hello")), "it gets the default");

    let _successor = Worker::start(&bus);
    await_worker(&desk, true);
    for number in 7..200 {
        assert_eq!(ask(&mut desk, number, "still there?"), Verdict::Allow);
    }
}

/// A worker of the test's own: attached to the desk, and seen by it. Dropped, it is dead.
fn take_the_seat(bus_path: &Path, desk: &Desk) -> (AttachedGateway, BackendSeat) {
    let bus = BusDirectory::open_or_create(bus_path).expect("a bus");
    let mut seat = BackendSeat::take_for(&bus, WORKER_PROTOCOL).expect("the seat");
    let instance = seat
        .discover()
        .expect("readable")
        .pop()
        .expect("the desk's");
    let asker = seat.attach(instance).expect("it attaches");
    await_worker(desk, true);
    (asker, seat)
}

#[test]
fn a_question_that_a_dead_worker_left_is_answered_by_its_successor() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut desk, bus_path) = open_desk(directory.path());
    let worker = take_the_seat(&bus_path, &desk);
    assert!(desk.ask(1, question("a forbidden word")));
    drop(worker);
    let _successor = Worker::start(&bus_path);
    let answer = eventually("the answer", || desk.answer());
    assert_eq!(answer, (1, Verdict::Refuse("not in this shop".into())));
}

#[test]
fn a_worker_that_answers_garbage_is_not_believed_and_hurts_nobody() {
    let directory = tempfile::tempdir().expect("a directory");
    let (mut desk, bus_path) = open_desk(directory.path());
    let (mut asker, _seat) = take_the_seat(&bus_path, &desk);
    assert!(desk.ask(1, question("hello")));
    let ports = &mut asker.shards[0];
    let mut copy = RecordCopy::default();
    let question = eventually("the question", || match ports.to_backend.next(&mut copy) {
        Read::Record(header) => Some(header),
        _ => None,
    });
    assert_eq!((question.trace, question.principal), (1, 7));
    assert_eq!(&copy.payload()[24..], b"hello");

    let mut answer = |kind: u16, trace: u64, payload: &[u8]| {
        let Ok(Claimed::Claimed(mut claim)) = ports.to_gateway.claim(payload.len()) else {
            panic!("there is room");
        };
        claim.payload_mut().copy_from_slice(payload);
        claim.commit(RecordHeader {
            kind,
            trace,
            ..RecordHeader::default()
        });
        ports.to_gateway.ring();
    };
    answer(77, 1, &[0; 8]);
    answer(ANSWER, 1, &[]);
    answer(ANSWER, 1, &[9; 8]);
    answer(ANSWER, 1, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    answer(ANSWER, 1, &[2, 0, 0, 0, 1, 0, 0, 0, 0xc3]);
    answer(ANSWER, 4_711, &[0; 8]);
    answer(ANSWER, 1, &[0; 8]);
    // The turn knows of no question 4711; the desk passes on what has the form of an answer.
    assert_eq!(
        eventually("an answer", || desk.answer()),
        (4_711, Verdict::Allow)
    );
    assert_eq!(
        eventually("an answer", || desk.answer()),
        (1, Verdict::Allow)
    );
    assert!(!desk.has_answer());
}
