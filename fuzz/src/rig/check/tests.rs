//! A clean run passes; each violation planted into it is seen, and is the only thing seen.

use super::*;

const CHAT: Id = Id(0xc4a7);
const SESSION: [u64; 2] = [0xa, 0xb];

/// A visitor (member 0) and an agent (member 1) said two things each, in turn.
struct Run {
    entries: Vec<Entry>,
    stored: Stored,
}

fn mark(member: u32, key: u32) -> Mark {
    Mark { member, key }
}

fn row(member: u32, key: u32, seq: u64) -> MessageRow {
    MessageRow {
        conversation: CHAT,
        seq,
        session: SESSION[member as usize],
        n: u64::from(key),
        is_text: true,
        text: mark(member, key).text(20),
    }
}

fn clean() -> Run {
    let mut run = Run {
        entries: Vec::new(),
        stored: Stored {
            integrity: "ok".to_owned(),
            messages: Vec::new(),
        },
    };
    let room = Room(0);
    for (seq, member, key) in [(1, 0, 1), (2, 1, 1), (3, 0, 2), (4, 1, 2)] {
        let said = mark(member, key);
        run.entries.push(Entry::Sent(said));
        run.entries.push(Entry::Accepted {
            mark: said,
            session: SESSION[member as usize],
            n: u64::from(key),
            room,
            seq,
        });
        run.entries.push(Entry::Received {
            member: 1 - member,
            room,
            seq,
            mark: Some(said),
        });
        run.stored.messages.push(row(member, key, seq));
    }
    for member in 0..2 {
        let seq = 4;
        run.entries.push(Entry::Holds { member, room, seq });
    }
    run
}

fn violations(run: &Run) -> Vec<Violation> {
    let mut journal = Journal::default();
    journal.room(CHAT);
    for &entry in &run.entries {
        journal.write(entry);
    }
    check(&journal, &run.stored).violations
}

/// What is found when `change` was made to a clean run.
fn planted(change: impl FnOnce(&mut Run)) -> Vec<Violation> {
    let mut run = clean();
    change(&mut run);
    violations(&run)
}

impl Run {
    fn position(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        self.entries.iter().position(wanted).expect("it is there")
    }
}

#[test]
fn a_clean_run_passes() {
    assert_eq!(violations(&clean()), []);
}

#[test]
fn a_message_that_was_stored_and_whose_acknowledgement_was_lost_is_no_violation() {
    let found = planted(|run| {
        let answer = run.position(|entry| matches!(entry, Entry::Accepted { seq: 4, .. }));
        run.entries.remove(answer);
        run.entries.pop();
    });
    assert_eq!(found, []);
}

#[test]
fn an_own_message_that_a_resume_brings_is_no_violation() {
    let found = planted(|run| {
        let answer = run.position(|entry| matches!(entry, Entry::Accepted { seq: 3, .. }));
        let Entry::Accepted {
            mark, room, seq, ..
        } = run.entries[answer]
        else {
            unreachable!("found as such")
        };
        let replayed = Entry::Received {
            member: mark.member,
            room,
            seq,
            mark: Some(mark),
        };
        run.entries.insert(answer + 1, replayed);
    });
    assert_eq!(found, []);
}

#[test]
fn a_lost_message_is_seen() {
    let found = planted(|run| {
        run.stored.messages.pop();
    });
    let lost = Violation::Lost(mark(1, 2), CHAT, 4);
    assert_eq!(found, [lost, Violation::Differs(0, CHAT, 4)]);
}

#[test]
fn a_message_stored_elsewhere_than_acknowledged_is_seen() {
    let found = planted(|run| run.stored.messages.swap(2, 3));
    assert!(found.contains(&Violation::Gap(CHAT, 3)), "{found:?}");
    let found = planted(|run| {
        let (a, b) = (
            run.stored.messages[0].text.clone(),
            run.stored.messages[2].text.clone(),
        );
        (run.stored.messages[0].text, run.stored.messages[2].text) = (b, a);
    });
    assert!(
        found.contains(&Violation::Lost(mark(0, 1), CHAT, 1)),
        "{found:?}"
    );
}

#[test]
fn a_doubled_message_is_seen_under_its_own_id_and_under_another() {
    let again = |session| MessageRow {
        session,
        ..row(0, 2, 5)
    };
    let holds = |run: &mut Run| run.entries.truncate(run.entries.len() - 2);
    let doubled = Violation::Doubled(mark(0, 2), vec![(CHAT, 3), (CHAT, 5)]);
    let found = planted(|run| {
        holds(run);
        run.stored.messages.push(again(0xc));
    });
    assert_eq!(found, std::slice::from_ref(&doubled));
    let found = planted(|run| {
        holds(run);
        run.stored.messages.push(again(SESSION[0]));
    });
    assert_eq!(found, [Violation::SameId(SESSION[0], 2), doubled]);
}

#[test]
fn two_answers_for_one_message_are_seen() {
    let found = planted(|run| {
        let answer = run.position(|entry| matches!(entry, Entry::Accepted { seq: 4, .. }));
        run.entries.insert(answer, run.entries[answer]);
    });
    assert!(
        found.contains(&Violation::TwoAnswers(mark(1, 2))),
        "{found:?}"
    );
}

#[test]
fn what_nobody_sent_is_seen() {
    let found = planted(|run| {
        run.entries
            .retain(|entry| *entry != Entry::Sent(mark(0, 2)));
    });
    assert_eq!(found, [Violation::Invented(CHAT, 3)]);
}

#[test]
fn what_was_refused_and_is_stored_is_seen() {
    let found = planted(|run| run.entries.push(Entry::Refused(mark(0, 2))));
    assert_eq!(found, [Violation::RefusedYetStored(mark(0, 2))]);
}

#[test]
fn acknowledgements_out_of_order_are_seen() {
    let found = planted(|run| {
        let first = run.position(|entry| matches!(entry, Entry::Accepted { seq: 1, .. }));
        let second = run.position(|entry| matches!(entry, Entry::Accepted { seq: 3, .. }));
        run.entries.swap(first, second);
    });
    assert!(
        found.contains(&Violation::OutOfOrder(mark(0, 1), CHAT, 1)),
        "{found:?}"
    );
}

#[test]
fn messages_stored_out_of_order_are_seen_even_if_nobody_heard_of_them() {
    let found = planted(|run| {
        run.entries.truncate(run.entries.len() - 2);
        for key in [3, 4] {
            run.entries.push(Entry::Sent(mark(0, key)));
        }
        run.stored.messages.push(row(0, 4, 5));
        run.stored.messages.push(row(0, 3, 6));
    });
    assert_eq!(found, [Violation::OutOfOrder(mark(0, 3), CHAT, 6)]);
}

#[test]
fn a_gap_in_what_is_stored_is_seen() {
    let found = planted(|run| {
        run.entries.truncate(run.entries.len() - 2);
        run.entries.push(Entry::Sent(mark(0, 3)));
        run.stored.messages.push(row(0, 3, 6));
    });
    assert_eq!(found, [Violation::Gap(CHAT, 5)]);
}

#[test]
fn a_silent_gap_is_seen_and_an_announced_one_is_not() {
    let received = |entry: &Entry| matches!(entry, Entry::Received { seq: 2, .. });
    let found = planted(|run| {
        let gone = run.position(received);
        run.entries.remove(gone);
    });
    let gap = Violation::SilentGap {
        member: 0,
        conversation: CHAT,
        had: 1,
        came: 4,
    };
    assert_eq!(found, [gap]);
    let found = planted(|run| {
        let gone = run.position(received);
        run.entries[gone] = Entry::Hole {
            member: 0,
            room: Room(0),
            after: 1,
            to: 2,
            reset: false,
        };
    });
    assert_eq!(found, []);
}

#[test]
fn a_message_that_comes_twice_is_seen() {
    let found = planted(|run| {
        let one = run.position(|entry| matches!(entry, Entry::Received { seq: 2, .. }));
        run.entries.insert(one, run.entries[one]);
    });
    let again = Violation::SilentGap {
        member: 0,
        conversation: CHAT,
        had: 2,
        came: 2,
    };
    assert_eq!(found, [again]);
}

#[test]
fn a_gap_that_the_client_had_to_mend_is_seen() {
    let missed = Entry::Missed {
        member: 0,
        room: Room(0),
        after: 2,
    };
    assert_eq!(
        planted(|run| run.entries.push(missed)),
        [Violation::Missed(0, CHAT, 2)]
    );
}

#[test]
fn a_receiver_who_reads_something_else_is_seen() {
    let found = planted(|run| {
        let one = run.position(|entry| matches!(entry, Entry::Received { seq: 2, .. }));
        let Entry::Received { mark, .. } = &mut run.entries[one] else {
            unreachable!("found as such")
        };
        *mark = Some(Mark { member: 1, key: 9 });
    });
    assert_eq!(found, [Violation::Differs(0, CHAT, 2)]);
}

#[test]
fn a_receiver_who_lacks_the_end_is_seen() {
    let found = planted(|run| {
        let last = run.position(|entry| matches!(entry, Entry::Received { seq: 4, .. }));
        run.entries.remove(last);
    });
    let behind = Violation::Behind {
        member: 0,
        conversation: CHAT,
        has: 3,
        stored: 4,
    };
    assert_eq!(found, [behind]);
}

#[test]
fn a_damaged_database_is_seen() {
    let found = planted(|run| run.stored.integrity = "row 7 missing".to_owned());
    assert_eq!(found, [Violation::Damaged("row 7 missing".to_owned())]);
}
