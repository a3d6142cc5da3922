//! The delivery contract: numbers, repeats, gaps, resume from memory and from the store, superseding, slow readers.

use tidegate_protocol::{Id, Kind, message};

use super::stage::{Client, Stage, id, number, outcome};
use crate::engine::Rules;
use crate::engine::rate::RateLimit;

fn generous() -> Stage {
    Stage::with(Rules {
        window_bytes_max: 256 << 10,
        sessions_max: 100_000,
        sends: RateLimit {
            per_s: 1_000_000,
            burst: 1_000_000,
        },
        ..Rules::default()
    })
}

fn chat(stage: &mut Stage) -> (Client, Client, Id) {
    let (agent, visitor) = (stage.agent(1), stage.visitor(1, 11));
    stage.enter(&agent);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    let result = stage.take(&visitor, "send_result").pop().unwrap();
    (agent, visitor, id(&result, "conversation"))
}

#[test]
fn a_repeat_a_jump_and_another_body_are_told_apart() {
    let mut stage = generous();
    let (_, visitor, conversation) = chat(&mut stage);
    for n in 2..=4 {
        stage.send(&visitor, n, conversation, &format!("m{n}"));
    }
    stage.settle();
    stage.take_all(&visitor);
    stage.send(&visitor, 4, conversation, "m4");
    stage.send(&visitor, 2, conversation, "m2");
    stage.send(&visitor, 4, conversation, "another");
    stage.send(&visitor, 2, conversation, "another");
    stage.send(&visitor, 9, conversation, "m9");
    stage.send(&visitor, 0, conversation, "m0");
    stage.settle();
    let results = stage.take(&visitor, "send_result");
    let outcomes: Vec<_> = results
        .iter()
        .map(|r| r["outcome"].as_str().unwrap_or("accepted"))
        .collect();
    assert_eq!(
        outcomes,
        [
            "duplicate",
            "duplicate",
            "id_conflict",
            "id_conflict",
            "gap",
            "gap"
        ]
    );
    // 1 queued, 2 hello, 3 joined, then m2, m3, m4.
    assert_eq!(
        (number(&results[0], "seq"), number(&results[1], "seq")),
        (6, 4)
    );
    assert_eq!(number(&results[4], "expected_n"), 5);
    assert_eq!(stage.ledger().to_agent.accepted, 4);
}

#[test]
fn last_survives_a_restart_and_so_does_every_first_answer() {
    let mut stage = generous();
    let (_, visitor, conversation) = chat(&mut stage);
    stage.send(&visitor, 2, conversation, "m2");
    stage.settle();
    stage.restart();
    let again = stage.visitor(1, 11);
    assert_eq!(number(&stage.enter(&again), "last_n"), 2);
    stage.send(&again, 1, Id::ABSENT, "hello");
    stage.send(&again, 2, conversation, "m2");
    stage.send(&again, 3, conversation, "m3");
    stage.settle();
    let results = stage.take(&again, "send_result");
    let outcomes: Vec<_> = results
        .iter()
        .map(|r| r["outcome"].as_str().unwrap_or("accepted"))
        .collect();
    assert_eq!(outcomes, ["duplicate", "duplicate", "accepted"]);
    assert_eq!(
        results.iter().map(|r| number(r, "seq")).collect::<Vec<_>>(),
        [2, 4, 5]
    );
}

#[test]
fn a_repeat_however_long_ago_has_its_first_answer_and_another_body_is_a_conflict() {
    let mut stage = generous();
    let (agent, visitor, conversation) = chat(&mut stage);
    let mut seqs = vec![2];
    for n in 2..=900 {
        // The other side's texts stand between, a few here and many there.
        if n % 300 == 0 {
            for k in 1..=400 {
                stage.send(&agent, n / 300 * 400 - 400 + k, conversation, "and?");
            }
            stage.settle();
            stage.take_all(&agent);
        }
        stage.send(&visitor, n, conversation, &format!("m{n}"));
        stage.settle();
        let results = stage.take(&visitor, "send_result");
        seqs.push(number(&results[0], "seq"));
    }
    stage.restart();
    let again = stage.visitor(1, 11);
    stage.enter(&again);
    for n in [2, 3, 299, 300, 301, 643, 644, 645, 899, 900] {
        stage.send(&again, n, conversation, &format!("m{n}"));
        stage.send(&again, n, conversation, "another");
        stage.settle();
        let results = stage.take(&again, "send_result");
        let outcomes: Vec<_> = results.iter().map(outcome).collect();
        assert_eq!(outcomes, ["duplicate", "id_conflict"], "{n}");
        let place = usize::try_from(n).unwrap() - 1;
        assert_eq!(number(&results[0], "seq"), seqs[place], "{n}");
        assert_eq!(id(&results[0], "conversation"), conversation);
    }
    // The first went to no conversation by name.
    stage.send(&again, 1, Id::ABSENT, "hello");
    stage.settle();
    let result = stage.take(&again, "send_result").pop().unwrap();
    assert_eq!((outcome(&result), number(&result, "seq")), ("duplicate", 2));
    assert_eq!(stage.ledger().to_agent.accepted, 900);
}

#[test]
fn refusals_are_not_remembered() {
    let mut stage = generous();
    let (_, visitor, conversation) = chat(&mut stage);
    stage.send(&visitor, 2, conversation, "   ");
    stage.send(&visitor, 2, conversation, &"x".repeat(17_000));
    stage.send(&visitor, 2, conversation, "good");
    stage.settle();
    let results = stage.take(&visitor, "send_result");
    assert_eq!(results[0]["reason"], "empty_message");
    assert_eq!(results[1]["reason"], "message_too_long");
    assert_eq!(outcome(&results[2]), "accepted");
}

#[test]
fn too_many_messages_are_busy_with_a_time_that_is_kept() {
    let mut stage = Stage::new();
    let (_, visitor, conversation) = chat(&mut stage);
    for n in 2..=41 {
        stage.send(&visitor, n, conversation, "spam");
    }
    stage.settle();
    let results = stage.take(&visitor, "send_result");
    let last = results.last().unwrap();
    assert_eq!(
        (last["outcome"].as_str(), last["reason"].as_str()),
        (Some("busy"), Some("rate_limited"))
    );
    stage.pass(number(last, "retry_ms"));
    stage.send(&visitor, 41, conversation, "spam");
    stage.settle();
    assert_eq!(outcome(&stage.take(&visitor, "send_result")[0]), "accepted");
}

#[test]
fn a_resume_from_a_cursor_replays_exactly_the_gap() {
    let mut stage = generous();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.close(&visitor);
    for n in 1..=10 {
        stage.send(&agent, n, conversation, &format!("a{n}"));
    }
    stage.settle();
    let incarnation = stage.turn().engine().incarnation();
    for seq in [0, 3, 7, 13] {
        let again = stage.visitor(1, 100 + seq);
        stage.open(
            &again,
            &[message::Cursor {
                conversation,
                incarnation,
                seq,
            }],
        );
        stage.settle();
        let welcome = stage.take(&again, "welcome").pop().unwrap();
        assert_eq!(welcome["conversations"][0]["recovered"], true);
        assert_eq!(stage.seqs(&again), (seq + 1..=13).collect::<Vec<_>>());
    }
    let strange = stage.visitor(1, 999);
    stage.open(
        &strange,
        &[message::Cursor {
            conversation,
            incarnation: incarnation + 1,
            seq: 5,
        }],
    );
    stage.settle();
    let welcome = stage.take(&strange, "welcome").pop().unwrap();
    assert_eq!(
        welcome["conversations"][0].get("recovered"),
        None,
        "another incarnation: not recovered"
    );
    assert_eq!(stage.seqs(&strange), Vec::<u64>::new());
}

#[test]
fn backlogs_of_every_size_come_whole_or_are_said_not_to() {
    for backlog in [1_u64, 25, 51, 301, 1_001, 2_500] {
        let mut stage = generous();
        let (agent, visitor, conversation) = chat(&mut stage);
        stage.close(&visitor);
        stage.settle();
        for n in 1..=backlog {
            if !stage.try_send(&agent, n, conversation, &format!("{n} {}", "x".repeat(200))) {
                stage.settle();
                stage.send(&agent, n, conversation, &format!("{n} {}", "x".repeat(200)));
            }
            if n % 64 == 0 {
                stage.settle();
                stage.ack(&agent, conversation, 0, 0);
            }
        }
        stage.settle();
        let incarnation = stage.turn().engine().incarnation();
        let again = stage.visitor(1, 500);
        stage.open(
            &again,
            &[message::Cursor {
                conversation,
                incarnation,
                seq: 3,
            }],
        );
        stage.settle();
        let welcome = stage.take(&again, "welcome").pop().unwrap();
        let recovered = welcome["conversations"][0].get("recovered").is_some();
        assert_eq!(recovered, backlog <= 1_000, "{backlog}");
        if !recovered {
            assert_eq!(stage.seqs(&again), Vec::<u64>::new());
            continue;
        }
        // Nothing comes faster than it is acknowledged; what left the window comes from the store.
        let mut got = stage.seqs(&again);
        for _ in 0..1_000 {
            if got.len() as u64 == backlog {
                break;
            }
            stage.ack(&again, conversation, *got.last().unwrap(), 0);
            stage.settle();
            let more = stage.seqs(&again);
            assert!(!more.is_empty(), "stalled after {} of {backlog}", got.len());
            assert!(more.len() <= 200, "flow control");
            got.extend(more);
        }
        assert_eq!(got, (4..=3 + backlog).collect::<Vec<_>>());
        stage.ack(&again, conversation, 3 + backlog, 0);
        stage.settle();
        assert_eq!(stage.ledger().to_visitor.delivered, backlog);
    }
}

#[test]
fn a_hello_that_arrives_behind_that_of_a_newer_connection_supersedes_nobody() {
    let mut stage = generous();
    let (agent, _, conversation) = chat(&mut stage);
    let [late, newer] = [4, 5].map(|connection| super::stage::Client {
        connection,
        ..stage.visitor(1, 11)
    });
    stage.enter(&newer);
    stage.closes.clear();
    stage.open(&late, &[]);
    stage.settle();
    assert_eq!(stage.closes, [(late.slot, 4501)]);
    assert!(stage.take(&late, "welcome").is_empty());
    // A new backend knows the numbers from the announcements.
    stage.restart();
    stage.announce(&newer);
    stage.open(&late, &[]);
    stage.settle();
    assert_eq!(stage.closes, [(late.slot, 4501); 2]);
    stage.take_all(&newer);
    stage.announce(&agent);
    stage.send(&agent, 1, conversation, "still there?");
    stage.settle();
    assert_eq!(stage.seqs(&newer), [4]);
}

#[test]
fn a_newer_connection_of_a_session_supersedes_the_older_and_another_tab_does_not() {
    let mut stage = generous();
    let (agent, visitor, conversation) = chat(&mut stage);
    let tab = stage.visitor(1, 12);
    stage.enter(&tab);
    let newer = stage.visitor(1, 11);
    stage.enter(&newer);
    assert_eq!(stage.closes, [(visitor.slot, 4501)]);
    stage.take_all(&visitor);
    stage.take_all(&newer);
    stage.take_all(&tab);
    stage.send(&agent, 1, conversation, "hi");
    stage.close(&visitor);
    stage.settle();
    assert_eq!(
        (
            stage.seqs(&visitor).len(),
            stage.seqs(&newer).len(),
            stage.seqs(&tab).len()
        ),
        (0, 1, 1)
    );
}

#[test]
fn what_another_tab_sent_comes_as_a_message_and_each_sees_one_order() {
    let mut stage = generous();
    let (agent, visitor, conversation) = chat(&mut stage);
    let tab = stage.visitor(1, 12);
    stage.enter(&tab);
    let seen: Vec<_> = [&agent, &visitor, &tab]
        .map(|client| stage.take_all(client).len())
        .into();
    assert!(seen.iter().all(|&count| count > 0));
    for n in 1..=20 {
        stage.send(&tab, n, conversation, &format!("t{n}"));
        stage.send(&visitor, n + 1, conversation, &format!("v{n}"));
        stage.send(&agent, n, conversation, &format!("a{n}"));
    }
    stage.settle();
    for client in [&agent, &visitor, &tab] {
        let all = stage.take_all(client);
        let seqs: Vec<u64> = all
            .iter()
            .filter(|(kind, _)| kind == "message" || kind == "send_result")
            .map(|(_, value)| number(value, "seq"))
            .collect();
        assert_eq!(
            seqs,
            (4..=63).collect::<Vec<_>>(),
            "results and messages together are one gapless order"
        );
    }
}

#[test]
fn junk_is_answered_and_changes_nothing() {
    let mut stage = generous();
    let (_, visitor, _) = chat(&mut stage);
    stage.raw(&visitor, Kind::Send, b"junk that is no FlatBuffers");
    stage.raw(&visitor, Kind::Welcome, &[]);
    stage.settle();
    assert_eq!(
        stage.take(&visitor, "error")[0]["reason"],
        "malformed_envelope"
    );
    assert_eq!(stage.ledger().to_agent.accepted, 1);
}

#[test]
fn a_late_acknowledgement_of_a_closed_conversation_counts_even_when_it_left_memory() {
    let mut stage = Stage::with(Rules {
        window_bytes_max: 256 << 10,
        sessions_max: 100_000,
        closed_conversations_max: 2,
        ..Rules::default()
    });
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.send(&agent, 1, conversation, "bye");
    stage.command(&agent, super::stage::close_command(conversation));
    stage.settle();
    for v in 10..20 {
        let other = stage.visitor(v, 1);
        stage.enter(&other);
        stage.send(&other, 1, Id::ABSENT, "hello");
        stage.settle();
        let other_conversation = id(&stage.take(&other, "send_result")[0], "conversation");
        stage.command(&other, super::stage::close_command(other_conversation));
        stage.settle();
    }
    assert!(
        stage
            .turn()
            .engine()
            .conversations()
            .find(conversation)
            .is_none(),
        "it left memory"
    );
    stage.ack(&visitor, conversation, 5, 5);
    stage.ack(&visitor, conversation, 4, 0);
    stage.settle();
    assert_eq!(stage.ledger().to_visitor.delivered, 1);
}

#[test]
fn who_makes_the_turn_look_things_up_all_the_time_has_to_wait() {
    let mut stage = Stage::new();
    let (_, visitor, conversation) = chat(&mut stage);
    for n in 2..=4 {
        stage.send(&visitor, n, conversation, "m");
    }
    stage.settle();
    stage.take_all(&visitor);
    let before = stage.handle.as_ref().unwrap().live().counters.lookups;
    for round in 0..500_u64 {
        stage.send(&visitor, 1, conversation, "hello");
        stage.ack(&visitor, Id(u128::from(round) + 1_000_000), 1, 1);
    }
    stage.settle();
    stage.pass(1_000);
    let lookups = stage.handle.as_ref().unwrap().live().counters.lookups - before;
    assert!(lookups <= 40, "{lookups}");
    let results = stage.take(&visitor, "send_result");
    assert_eq!(results.len(), 500, "each is answered");
    assert_eq!(results.last().unwrap()["reason"], "rate_limited");
}
