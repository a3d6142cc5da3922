//! The backend dies and another one comes: nobody is disconnected, and nothing that was placed is lost.

use tidegate_protocol::bus::{CLOSED, ENVELOPE, OPENED};

use crate::room::{Backend, Gateway};
use crate::support::wait_for;

#[test]
fn everybody_is_announced_to_the_next_backend_and_goes_on_chatting() {
    let gateway = Gateway::start(|_| {});
    let first = Backend::start(&gateway.bus_dir);
    let mut people: Vec<_> = (1..=50).map(|n| gateway.welcomed(n, 11)).collect();
    drop(first);
    let second = Backend::start(&gateway.bus_dir);
    wait_for("all are announced", || {
        second.count(|took| took.announced) == 50
    });
    people[0].send(1, "still here");
    people[0].expect_sent(1, 1);
    for person in &mut people[1..] {
        person.expect_message(1, "still here");
    }
}

#[test]
fn what_is_sent_while_no_backend_is_there_is_answered_by_the_next_one() {
    let gateway = Gateway::start(|_| {});
    let first = Backend::start(&gateway.bus_dir);
    let mut ann = gateway.welcomed(1, 11);
    drop(first);
    ann.send(1, "anybody?");
    ann.ping(1);
    let mut bob = gateway.greeted(2, 22);
    bob.ping(2);
    let _second = Backend::start(&gateway.bus_dir);
    ann.expect_sent(1, 1);
    bob.expect("welcome");
}

#[test]
fn an_announcement_always_comes_before_the_connections_own_next_record() {
    let gateway = Gateway::start(|_| {});
    let mut people = Vec::new();
    {
        let _first = Backend::start(&gateway.bus_dir);
        for n in 1..=20 {
            people.push(gateway.welcomed(n, 11));
        }
    }
    for round in 1..=5 {
        let backend = Backend::start(&gateway.bus_dir);
        for person in &mut people {
            person.send(round, "hi");
        }
        wait_for("all was taken", || {
            backend.count(|took| took.header.kind == ENVELOPE) >= people.len()
        });
        let took = backend.took.lock().unwrap().clone();
        let attached_late = took.iter().position(|took| took.announced);
        for (at, sent) in took
            .iter()
            .enumerate()
            .filter(|(_, took)| took.header.kind == ENVELOPE)
        {
            let is_opened = took[..at].iter().any(|earlier| {
                earlier.header.kind == OPENED
                    && (earlier.header.slot, earlier.header.generation)
                        == (sent.header.slot, sent.header.generation)
            });
            // What was placed before the gateway saw this backend is a leftover: it names principal and session.
            assert!(
                is_opened || attached_late.is_none_or(|first| at < first),
                "{sent:?}"
            );
            assert_eq!(sent.header.trace, 11);
        }
    }
}

#[test]
fn a_connection_that_ended_while_no_backend_was_there_is_told_to_the_next_one() {
    let gateway = Gateway::start(|_| {});
    let first = Backend::start(&gateway.bus_dir);
    let ann = gateway.welcomed(1, 11);
    let mut bob = gateway.welcomed(2, 22);
    drop(first);
    drop(ann);
    bob.ping(1);
    let second = Backend::start(&gateway.bus_dir);
    wait_for("the end is told", || {
        second.count(|took| took.header.kind == CLOSED) == 1
    });
    wait_for("who stayed is announced", || {
        second.count(|took| took.announced) >= 1
    });
    bob.ping(2);
}
