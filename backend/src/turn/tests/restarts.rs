//! The backend dies anywhere in a turn and comes back over the same rings and database.

use tidegate_protocol::{Id, fb, message};

use super::super::Stepped;
use super::stage::{Client, Stage, close_command, id, number, outcome};
use crate::engine::Rules;
use crate::store::{CommitError, Store};

fn chat(stage: &mut Stage) -> (Client, Client, Id) {
    let (agent, visitor) = (stage.agent(1), stage.visitor(1, 11));
    stage.enter(&agent);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    let result = stage.take(&visitor, "send_result").pop().unwrap();
    stage.take_all(&agent);
    stage.take_all(&visitor);
    (agent, visitor, id(&result, "conversation"))
}

#[test]
fn what_was_left_in_the_ring_is_applied_before_anybody_is_announced() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.kill();
    stage.send(&visitor, 2, conversation, "while you were away");
    stage.start();
    stage.settle();
    let result = stage.take(&visitor, "send_result").pop().unwrap();
    assert_eq!((number(&result, "n"), number(&result, "seq")), (2, 4));
    stage.announce(&visitor);
    stage.announce(&agent);
    stage.settle();
    assert_eq!(
        stage.seqs(&agent),
        [1, 2, 3, 4],
        "from the stored mark on: nothing was acknowledged"
    );
    assert!(
        stage.take(&visitor, "welcome").is_empty(),
        "it was welcomed by the earlier backend"
    );
    assert_eq!(stage.ledger().to_agent.accepted, 2);
}

#[test]
fn what_was_committed_but_not_published_goes_out_after_the_restart() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.ack(&agent, conversation, 3, 0);
    stage.pass(200);
    stage.send(&visitor, 2, conversation, "two");
    // The commit happens, then the process dies: nothing is published or released.
    stage.faults.borrow_mut().push_back(None);
    let before = stage.turn().step_without_publishing(&mut stage_clock());
    assert_eq!(before, Stepped::Worked);
    stage.restart();
    stage.announce(&visitor);
    stage.announce(&agent);
    stage.settle();
    let results = stage.take(&visitor, "send_result");
    assert_eq!(results.len(), 1, "{results:?}");
    assert_eq!(
        (results[0]["outcome"].as_str(), number(&results[0], "seq")),
        (Some("duplicate"), 4)
    );
    assert_eq!(stage.seqs(&agent), [4]);
    assert_eq!(stage.ledger().to_agent.accepted, 2);
}

#[test]
fn an_end_that_was_committed_but_not_published_is_told_after_the_restart() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.ack(&visitor, conversation, 3, 0);
    stage.ack(&agent, conversation, 3, 0);
    stage.pass(200);
    stage.send(&agent, 1, conversation, "goodbye");
    stage.command(&agent, close_command(conversation));
    let before = stage.turn().step_without_publishing(&mut stage_clock());
    assert_eq!(before, Stepped::Worked);
    stage.restart();
    for client in [&visitor, &agent] {
        stage.announce(client);
    }
    stage.settle();
    let last = stage.take(&visitor, "conversation_state").pop().unwrap();
    assert_eq!(
        (id(&last, "conversation"), last["status"].as_str()),
        (conversation, Some("closed"))
    );
    assert_eq!(stage.seqs(&visitor), [4, 5], "the last words, and the end");
    let welcome = stage.take(&agent, "welcome").pop().unwrap();
    let named = &welcome["conversations"][0]["state"];
    assert_eq!(named["status"].as_str(), Some("closed"), "{welcome}");
}

#[test]
fn an_agent_whose_conversation_was_taken_from_them_in_an_unpublished_turn_is_told_after_the_restart()
 {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    let other = stage.agent(2);
    stage.enter(&other);
    let take = message::Command {
        request: 9,
        op: fb::CommandOp::Transfer,
        conversation,
        agent: Id(2),
        ..message::Command::default()
    };
    stage.command(&agent, take);
    let before = stage.turn().step_without_publishing(&mut stage_clock());
    assert_eq!(before, Stepped::Worked);
    stage.restart();
    for client in [&visitor, &agent, &other] {
        stage.announce(client);
    }
    stage.settle();
    let welcome = stage.take(&agent, "welcome").pop().unwrap();
    let named = welcome["conversations"].as_array();
    assert!(
        named.is_none_or(Vec::is_empty),
        "nothing is theirs: {welcome}"
    );
    let welcome = stage.take(&other, "welcome").pop().unwrap();
    let named = &welcome["conversations"][0]["state"];
    assert_eq!(id(named, "conversation"), conversation, "{welcome}");
}

#[test]
fn a_hello_that_waited_for_the_next_backend_is_welcomed_though_its_announcement_comes_behind_it() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    let newcomer = stage.visitor(2, 22);
    stage.kill();
    stage.open(&newcomer, &[]);
    stage.send(&newcomer, 1, Id::ABSENT, "is anybody there?");
    stage.start();
    for client in [&newcomer, &visitor, &agent] {
        stage.announce(client);
    }
    stage.settle();
    assert_eq!(stage.take(&newcomer, "welcome").len(), 1);
    let results = stage.take(&newcomer, "send_result");
    assert_eq!(outcome(&results[0]), "accepted", "{results:?}");
    // And it is served like anybody who was welcomed before.
    let theirs = id(&results[0], "conversation");
    assert_ne!(theirs, conversation);
    stage.send(&agent, 1, theirs, "here I am");
    stage.settle();
    assert!(stage.seqs(&newcomer).contains(&4));
}

fn stage_clock() -> (u64, u64) {
    (super::stage::START_US + 1_000_000, 99)
}

#[test]
fn a_settled_command_is_not_carried_out_twice() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.command(&visitor, close_command(conversation));
    assert_eq!(
        stage.turn().step_without_publishing(&mut stage_clock()),
        Stepped::Worked
    );
    stage.restart();
    stage.announce(&visitor);
    stage.announce(&agent);
    stage.settle();
    let answer = stage.take(&visitor, "conversation_state").remove(0);
    assert_eq!(
        (number(&answer, "request"), answer["status"].as_str()),
        (77, Some("closed"))
    );
    let closings = stage.turn().engine().tally().closed.iter().sum::<u64>();
    assert_eq!(closings, 0, "not again");
}

#[test]
fn who_is_announced_after_a_leftover_ended_their_conversation_is_told() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.kill();
    stage.command(&agent, close_command(conversation));
    stage.start();
    stage.settle();
    stage.take_all(&visitor);
    stage.announce(&visitor);
    stage.settle();
    let told = stage.take(&visitor, "conversation_state");
    assert!(
        told.iter()
            .any(|state| state["status"] == "closed" && id(state, "conversation") == conversation),
        "{told:?}"
    );
}

/// Keeps one closed conversation in memory.
fn forgetful() -> Stage {
    Stage::with(Rules {
        window_bytes_max: 256 << 10,
        sessions_max: 100_000,
        closed_conversations_max: 1,
        ..Rules::default()
    })
}

#[test]
fn who_is_announced_is_told_of_an_end_that_left_memory_meanwhile() {
    let mut stage = forgetful();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.command(&agent, close_command(conversation));
    let before = stage.turn().step_without_publishing(&mut stage_clock());
    assert_eq!(before, Stepped::Worked);
    stage.restart();
    for other in 2..=4 {
        let other = stage.visitor(other, 1);
        stage.enter(&other);
        stage.send(&other, 1, Id::ABSENT, "hello");
        stage.command(&other, close_command(Id::ABSENT));
        stage.settle();
    }
    let conversations = stage.turn().engine().conversations();
    assert_eq!(conversations.find(conversation), None, "it left memory");
    stage.announce(&visitor);
    stage.settle();
    let told = stage.take(&visitor, "conversation_state").pop().unwrap();
    assert_eq!(
        (id(&told, "conversation"), told["status"].as_str()),
        (conversation, Some("closed"))
    );
}

#[test]
fn an_announcement_behind_a_hello_that_was_taken_twice_tells_what_ended_since() {
    let mut stage = Stage::new();
    let visitor = stage.visitor(1, 11);
    stage.open(&visitor, &[]);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.command(&visitor, close_command(Id::ABSENT));
    let before = stage.turn().step_without_publishing(&mut stage_clock());
    assert_eq!(before, Stepped::Worked);
    stage.restart();
    stage.settle();
    let result = stage.take(&visitor, "send_result").pop().unwrap();
    stage.take_all(&visitor);
    stage.announce(&visitor);
    stage.settle();
    let told = stage.take(&visitor, "conversation_state").pop().unwrap();
    assert_eq!(
        (id(&told, "conversation"), told["status"].as_str()),
        (id(&result, "conversation"), Some("closed"))
    );
    assert_eq!(stage.seqs(&visitor), [1, 2, 3]);
    assert!(stage.take(&visitor, "welcome").is_empty(), "once is enough");
}

#[test]
fn who_lacks_something_of_a_conversation_that_leaves_memory_comes_back_for_it() {
    let mut stage = forgetful();
    let (agent, visitor, conversation) = chat(&mut stage);
    // More than a reader is sent before it acknowledges.
    for n in 1..=20 {
        stage.send(&agent, n, conversation, &"x".repeat(4_000));
    }
    stage.command(&agent, close_command(conversation));
    stage.settle();
    let seen = stage.seqs(&visitor).pop().unwrap();
    assert!(seen < 20, "{seen}");
    let other = stage.visitor(2, 1);
    stage.enter(&other);
    for n in 1..=2 {
        stage.send(&other, n, Id::ABSENT, "hello");
        stage.command(&other, close_command(Id::ABSENT));
        stage.settle();
    }
    stage.step();
    stage.read_all();
    assert_eq!(stage.closes, [(visitor.slot, 4003)], "half open");
}

#[test]
fn a_refused_send_below_the_cursor_is_not_accepted_after_the_restart() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    // Refused: not the agent's. In the same turn something is stored, so the cursor moves past it.
    stage.send(&agent, 1, Id(12_345), "to nobody");
    stage.send(&visitor, 2, conversation, "two");
    assert_eq!(
        stage.turn().step_without_publishing(&mut stage_clock()),
        Stepped::Worked
    );
    stage.restart();
    stage.settle();
    assert_eq!(
        stage.take(&agent, "send_result"),
        Vec::<serde_json::Value>::new()
    );
    assert_eq!(stage.closes, [(agent.slot, 4000)], "they ask again");
}

#[test]
fn a_send_that_was_refused_before_a_death_is_not_refused_a_second_time() {
    let mut stage = Stage::new();
    let (agent, _, _) = chat(&mut stage);
    // Nothing is stored in this turn: a process that dies behind its answers leaves no trace of it.
    stage.send(&agent, 1, Id(12_345), "to nobody");
    let _ = stage.turn().step_without_publishing(&mut stage_clock());
    stage.restart();
    stage.announce(&agent);
    stage.settle();
    // The client may have been told, and have said something else under this number.
    assert_eq!(
        stage.take(&agent, "send_result"),
        Vec::<serde_json::Value>::new()
    );
    assert_eq!(stage.closes, [(agent.slot, 4000)]);
    stage.announce(&agent);
    stage.send(&agent, 1, Id(12_345), "to nobody");
    stage.settle();
    let result = stage.take(&agent, "send_result").pop().unwrap();
    assert_eq!(outcome(&result), "refused", "asked again: {result}");
}

#[test]
fn a_hundred_deaths_at_random_lose_and_double_nothing() {
    let mut stage = Stage::new();
    stage.rules.sends = crate::engine::rate::RateLimit {
        per_s: 1_000_000,
        burst: 1_000_000,
    };
    stage.restart();
    let (agent, visitor, conversation) = chat(&mut stage);
    let mut random = 0x1234_5678_u64;
    let mut dice = move |sides: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % sides
    };
    let (mut sent_visitor, mut sent_agent) = (1_u64, 0_u64);
    for round in 0..100 {
        for _ in 0..dice(6) {
            sent_visitor += 1;
            stage.send(
                &visitor,
                sent_visitor,
                conversation,
                &format!("v{sent_visitor}"),
            );
        }
        for _ in 0..dice(6) {
            sent_agent += 1;
            stage.send(&agent, sent_agent, conversation, &format!("a{sent_agent}"));
        }
        stage.now_us += dice(150_000);
        match dice(4) {
            0 => {}
            1 => drop(stage.step()),
            2 => {
                let mut clock = (stage.now_us, round);
                let _ = stage.turn().step_without_publishing(&mut clock);
            }
            _ => {
                stage
                    .faults
                    .borrow_mut()
                    .push_back(Some(CommitError::Busy("locked".into())));
                let _ = stage.step();
                stage.faults.borrow_mut().clear();
            }
        }
        stage.restart();
        stage.announce(&visitor);
        stage.announce(&agent);
    }
    stage.settle();
    let ledger = stage.ledger();
    assert_eq!(
        (ledger.to_agent.accepted, ledger.to_visitor.accepted),
        (sent_visitor, sent_agent)
    );
    // Each got an answer for each of its messages, and a fresh device reads one gapless order.
    for (client, sent) in [(&visitor, sent_visitor), (&agent, sent_agent)] {
        let answered: std::collections::BTreeSet<u64> = stage
            .take(client, "send_result")
            .iter()
            .map(|result| number(result, "n"))
            .collect();
        let first = u64::from(client.principal == visitor.principal) + 1;
        assert!(
            (first..=sent).all(|n| answered.contains(&n)),
            "{answered:?} of {sent}"
        );
    }
    let incarnation = stage.turn().engine().incarnation();
    let device = stage.visitor(1, 4_711);
    stage.open(
        &device,
        &[message::Cursor {
            conversation,
            incarnation,
            seq: 0,
        }],
    );
    stage.settle();
    let mut texts = stage.take(&device, "message");
    while let Some(last) = texts.last().map(|message| number(message, "seq"))
        && last < stage.turn().engine().conversations().seq_of(conversation)
    {
        stage.ack(&device, conversation, last, 0);
        stage.settle();
        texts.extend(stage.take(&device, "message"));
    }
    assert!(
        texts
            .iter()
            .map(|message| number(message, "seq"))
            .eq(1..=texts.len() as u64)
    );
    for (prefix, sent) in [('v', sent_visitor), ('a', sent_agent)] {
        let mine: Vec<_> = texts
            .iter()
            .filter_map(|message| message.get("text").and_then(|text| text.as_str()))
            .filter(|text| text.starts_with(prefix))
            .map(|text| text[1..].parse::<u64>().unwrap())
            .collect();
        let first = if prefix == 'v' { 2 } else { 1 };
        assert_eq!(
            mine,
            (first..=sent).collect::<Vec<_>>(),
            "in the order of sending, each once"
        );
    }
}

#[test]
fn agents_get_their_grace_at_a_restart_and_their_conversations_stay_theirs() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.restart();
    stage.announce(&visitor);
    stage.pass(10_000);
    stage.announce(&agent);
    stage.settle();
    stage.pass(30_000);
    let key = stage
        .turn()
        .engine()
        .conversations()
        .find(conversation)
        .unwrap();
    assert_eq!(
        stage.turn().engine().conversations().at(key).row.agent,
        Some(Id(1))
    );
}

#[test]
fn marks_survive_a_restart_a_tenth_of_a_second_later() {
    let mut stage = Stage::new();
    let (agent, _, conversation) = chat(&mut stage);
    stage.ack(&agent, conversation, 3, 2);
    stage.settle();
    stage.pass(101);
    stage.restart();
    let key = stage
        .turn()
        .engine()
        .conversations()
        .find(conversation)
        .unwrap();
    let marks = stage.turn().engine().conversations().at(key).marks.agent;
    assert_eq!((marks.delivered, marks.read), (3, 2));
}

#[test]
fn a_dead_gateway_is_drained_to_the_end_and_let_go() {
    let mut stage = Stage::new();
    let (agent, _, _) = chat(&mut stage);
    let second = stage.start_gateway(1 << 20);
    let visitor = stage.client(
        second,
        Id(2_000),
        3,
        crate::engine::kinds::Role::Visitor,
        "X",
    );
    stage.enter(&visitor);
    for n in 1..=20 {
        stage.send(&visitor, n, Id::ABSENT, &format!("m{n}"));
    }
    stage.gateways[second].kill();
    stage.pass(1_000);
    assert_eq!(
        stage.ledger().to_agent.accepted,
        21,
        "what it had committed counts"
    );
    assert_eq!(stage.turn().engine().connections().visitors(), 1);
    assert_eq!(stage.turn().bus.gateway_count(), 1);
    let cursors = stage.turn().store_mut().load().unwrap().ring_cursors;
    assert!(
        cursors.iter().all(|cursor| cursor.gateway == 100),
        "{cursors:?}"
    );
    assert!(stage.take(&agent, "message").len() > 20);
}

#[test]
fn a_leftover_without_a_conversation_goes_to_the_open_one() {
    let mut stage = Stage::new();
    let (_, visitor, conversation) = chat(&mut stage);
    let stranger = stage.visitor(77, 5);
    stage.enter(&stranger);
    stage.kill();
    stage.send(&visitor, 2, Id::ABSENT, "where was I");
    stage.send(&stranger, 1, Id::ABSENT, "never wrote before");
    stage.start();
    stage.settle();
    let result = stage.take(&visitor, "send_result").pop().unwrap();
    assert_eq!(id(&result, "conversation"), conversation);
    // Of the stranger not even the widget is known before the announcement: again, a little later.
    let result = stage.take(&stranger, "send_result").pop().unwrap();
    assert_eq!(
        (result["outcome"].as_str(), number(&result, "retry_ms")),
        (Some("busy"), 1_000)
    );
    stage.announce(&stranger);
    stage.send(&stranger, 1, Id::ABSENT, "never wrote before");
    stage.settle();
    assert_eq!(
        outcome(&stage.take(&stranger, "send_result").pop().unwrap()),
        "accepted"
    );
}

#[test]
fn an_agent_who_was_away_when_it_ended_sees_the_end_and_what_was_handed_on_is_taken_off() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    let incarnation = stage.turn().engine().incarnation();
    stage.ack(&agent, conversation, 3, 3);
    stage.close(&agent);
    stage.send(&visitor, 2, conversation, "never mind");
    stage.command(&visitor, close_command(conversation));
    stage.settle();
    let again = stage.agent(1);
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
    assert_eq!(welcome["conversations"][0]["state"]["status"], "closed");
    assert_eq!(stage.seqs(&again), [4, 5]);
    let other = stage.agent(2);
    stage.open(
        &other,
        &[message::Cursor {
            conversation,
            incarnation,
            seq: 3,
        }],
    );
    stage.settle();
    assert_eq!(
        stage.take(&other, "conversation_state").pop().unwrap()["mine"],
        false
    );
}

#[test]
fn a_whole_turn_of_leftovers_is_answered_with_its_first_answers_however_far_back() {
    let mut stage = Stage::new();
    stage.rules.sends = crate::engine::rate::RateLimit {
        per_s: 1_000_000,
        burst: 1_000_000,
    };
    stage.restart();
    let (agent, visitor, conversation) = chat(&mut stage);
    for n in 1..=700 {
        stage.send(&visitor, n + 1, conversation, "v");
        stage.send(&agent, n, conversation, "a");
    }
    assert_eq!(
        stage.turn().step_without_publishing(&mut stage_clock()),
        Stepped::Worked
    );
    stage.restart();
    stage.settle();
    let mut seqs = std::collections::BTreeSet::new();
    for client in [&visitor, &agent] {
        for result in stage.take(client, "send_result") {
            assert_eq!(result["outcome"], "duplicate");
            assert!(seqs.insert(number(&result, "seq")), "{result}");
        }
    }
    assert_eq!(seqs, (4..1_404).collect());
}
