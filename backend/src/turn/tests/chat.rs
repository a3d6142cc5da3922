//! Two people chat: queue, assignment, messages both ways, marks, transfer, close, presence.

use tidegate_protocol::{Id, fb, message};

use super::stage::{Client, START_US, Stage, actor, agent_row, close_command, id, number, outcome};
use crate::app::command::{HttpAnswer, HttpCommand};
use crate::engine::kinds::{AgentStatus, Outcome, Reason, Role, Status};
use crate::engine::rows::AgentRow;

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
fn a_visitor_is_queued_assigned_answered_and_closed_and_both_sides_are_told() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    // 1 queued, 2 hello, 3 agent joined: the visitor sees its own message as a SendResult, the agent sees all.
    assert_eq!(stage.seqs(&visitor), [1, 3]);
    let state = stage.take(&agent, "conversation_state").remove(0);
    assert_eq!(
        (state["status"].as_str(), id(&state, "conversation")),
        (Some("chatting"), conversation)
    );
    assert_eq!(state["visitor_name"], "V1");
    let messages = stage.take(&agent, "message");
    assert_eq!(
        messages
            .iter()
            .map(|m| number(m, "seq"))
            .collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(messages[1]["text"], "hello");
    assert_eq!(messages[2]["sender_name"], "Agent 1");

    stage.send(&agent, 1, conversation, "hi there");
    stage.type_in(&agent, conversation);
    stage.settle();
    assert_eq!(stage.take(&agent, "send_result")[0]["seq"], 4);
    assert_eq!(stage.take(&visitor, "message")[0]["text"], "hi there");
    assert_eq!(stage.take(&visitor, "typing_notice")[0]["active"], true);
    assert!(stage.take(&agent, "typing_notice").is_empty());

    stage.ack(&visitor, conversation, 4, 0);
    stage.settle();
    let receipt = stage.take(&agent, "receipt").pop().unwrap();
    assert_eq!(
        (number(&receipt, "delivered"), number(&receipt, "read")),
        (4, 0)
    );
    stage.ack(&visitor, conversation, 4, 4);
    stage.settle();
    assert_eq!(
        number(&stage.take(&agent, "receipt").pop().unwrap(), "read"),
        4
    );

    stage.take_all(&visitor);
    stage.take_all(&agent);
    stage.command(&visitor, close_command(conversation));
    stage.settle();
    let answer = stage.take(&visitor, "conversation_state").remove(0);
    assert_eq!(
        (answer["status"].as_str(), number(&answer, "request")),
        (Some("closed"), 77)
    );
    let last = stage.take(&agent, "message").pop().unwrap();
    assert_eq!(
        (last["system"].as_str(), last["close_reason"].as_str()),
        (Some("closed"), Some("by_visitor"))
    );
    assert_eq!(
        stage.take(&agent, "conversation_state").pop().unwrap()["close_reason"],
        "by_visitor"
    );

    stage.send(&visitor, 2, conversation, "one more");
    stage.send(&visitor, 2, Id::ABSENT, "one more");
    stage.settle();
    let results = stage.take(&visitor, "send_result");
    assert_eq!(results[0]["reason"], "conversation_closed");
    assert_eq!(outcome(&results[1]), "accepted", "accepted is the default");
    assert_ne!(
        id(&results[1], "conversation"),
        conversation,
        "a new conversation"
    );

    let ledger = stage.ledger();
    assert_eq!(
        (ledger.to_agent.accepted, ledger.to_visitor.accepted),
        (2, 1)
    );
    assert_eq!(
        (ledger.to_agent.delivered, ledger.to_visitor.delivered),
        (0, 1)
    );
}

#[test]
fn a_new_password_ends_the_connections_and_the_tokens_of_the_old_one() {
    let mut stage = Stage::new();
    let old = stage.agent(1);
    stage.enter(&old);
    let valid_from_s = START_US / 1_000_000 + 10;
    let row = AgentRow {
        tokens_valid_from_s: valid_from_s,
        ..agent_row(1, Role::Agent, 3)
    };
    stage
        .ask(HttpCommand::PutAgent { agent: row.clone() })
        .unwrap();
    assert_eq!(stage.closes, [(old.slot, 4500)], "who is here goes");
    stage.close(&old);
    for restarted in [false, true] {
        if restarted {
            stage.restart();
        }
        stage.closes.clear();
        let again = stage.agent(1);
        stage.open(&again, &[]);
        stage.announce(&again);
        stage.settle();
        assert_eq!(stage.closes, [(again.slot, 4500), (again.slot, 4500)]);
        let mut fresh = stage.agent(1);
        fresh.token_issued_at_s = valid_from_s;
        stage.enter(&fresh);
        stage.closes.clear();
        stage
            .ask(HttpCommand::PutAgent { agent: row.clone() })
            .unwrap();
        assert_eq!(stage.closes, [], "the password is the same");
        stage.close(&fresh);
    }
}

#[test]
fn twenty_starts_at_once_end_in_one_conversation() {
    let mut stage = Stage::new();
    let tabs: Vec<_> = (0..7).map(|tab| stage.visitor(1, 100 + tab)).collect();
    for tab in &tabs {
        stage.open(tab, &[]);
        stage.send(tab, 1, Id::ABSENT, "help");
        stage.command(
            tab,
            message::Command {
                request: 3,
                op: fb::CommandOp::Start,
                ..Default::default()
            },
        );
    }
    let by = actor(&tabs[0]);
    let answers: Vec<_> = (0..6_u128)
        .map(|key| {
            stage.ask_later(HttpCommand::Send {
                by: by.clone(),
                conversation: None,
                text: "help".into(),
                key_hash: Some(key),
                page: String::new(),
            })
        })
        .collect();
    stage.settle();
    let mut found = std::collections::BTreeSet::new();
    for tab in &tabs {
        found.extend(
            stage
                .take(tab, "send_result")
                .iter()
                .map(|result| id(result, "conversation")),
        );
        found.extend(
            stage
                .take(tab, "conversation_state")
                .iter()
                .map(|state| id(state, "conversation")),
        );
    }
    for mut answer in answers {
        let Ok(HttpAnswer::Sent(sent)) = answer.try_recv().unwrap() else {
            panic!("sent")
        };
        found.insert(sent.conversation);
    }
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(stage.turn().engine().queue().len(), 1);
    assert_eq!(stage.ledger().to_agent.accepted, 13);
}

/// What the queue's update says when these tickets stand at these places.
fn marks(places: &[u64], tickets: &[u64]) -> Vec<(u64, u64)> {
    places
        .iter()
        .copied()
        .zip(tickets.iter().copied())
        .collect()
}

#[test]
fn visitors_wait_in_order_and_hear_their_place() {
    let mut stage = Stage::new();
    let visitors: Vec<_> = (1..=5).map(|v| stage.visitor(v, 1)).collect();
    for visitor in &visitors {
        stage.enter(visitor);
        stage.send(visitor, 1, Id::ABSENT, "hello");
        stage.now_us += 1_000;
        stage.settle();
    }
    stage.pass(1_000);
    let mut tickets = Vec::new();
    for (index, visitor) in (1..).zip(&visitors) {
        let state = stage.take(visitor, "conversation_state").pop().unwrap();
        assert_eq!(number(&state, "position"), index);
        tickets.push(number(&state, "queue_ticket"));
    }
    assert_eq!(stage.newest_marks(), marks(&[1, 2, 3, 4, 5], &tickets));
    stage
        .ask(HttpCommand::PutAgent {
            agent: agent_row(3, Role::Agent, 2),
        })
        .unwrap();
    let agent = stage.agent(3);
    stage.enter(&agent);
    stage.pass(1_000);
    let given: Vec<_> = stage
        .take(&agent, "conversation_state")
        .iter()
        .map(|state| id(state, "visitor"))
        .collect();
    assert!(
        given.contains(&visitors[0].principal) && given.contains(&visitors[1].principal),
        "{given:?}"
    );
    assert_eq!(
        stage.newest_marks(),
        marks(&[1, 2, 3], &tickets[2..]),
        "the first two are served"
    );
    let HttpAnswer::Conversation(view) = stage
        .ask(HttpCommand::FindOpen {
            by: actor(&visitors[4]),
        })
        .unwrap()
    else {
        panic!("a conversation")
    };
    assert_eq!((view.position, view.status), (3, Status::Waiting));
}

#[test]
fn however_many_wait_one_who_leaves_costs_one_record_for_all() {
    let mut stage = Stage::new();
    let visitors: Vec<_> = (1..=300).map(|v| stage.visitor(v, 1)).collect();
    for visitor in &visitors {
        stage.enter(visitor);
        stage.send(visitor, 1, Id::ABSENT, "hello");
    }
    stage.pass(1_000);
    let state = stage
        .take(&visitors[9], "conversation_state")
        .pop()
        .unwrap();
    for visitor in &visitors {
        stage.take_all(visitor);
    }
    stage.broadcasts.clear();
    stage.command(&visitors[9], close_command(id(&state, "conversation")));
    stage.pass(300);
    let told = stage.broadcasts.len();
    assert!(
        (1..=4).contains(&told),
        "{told} broadcasts, to agents and to those who wait"
    );
    let heard = visitors
        .iter()
        .filter(|visitor| !stage.take_all(visitor).is_empty());
    assert_eq!(heard.count(), 1, "only who left hears of it in person");
    let marks = stage.newest_marks();
    let places: Vec<u64> = marks.iter().map(|&(place, _)| place).collect();
    assert_eq!(places, [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 299]);
}

#[test]
fn a_ticket_in_the_queue_survives_the_death_of_the_backend() {
    let mut stage = Stage::new();
    let visitors: Vec<_> = (1..=3).map(|v| stage.visitor(v, 1)).collect();
    for visitor in &visitors {
        stage.enter(visitor);
        stage.send(visitor, 1, Id::ABSENT, "hello");
        stage.settle();
    }
    stage.pass(1_000);
    let before = stage.newest_marks();
    stage.restart();
    stage.broadcasts.clear();
    stage.pass(6_000);
    assert_eq!(stage.newest_marks(), before);
}

#[test]
fn an_agent_who_stays_away_loses_conversations_to_the_next_and_one_who_reloads_does_not() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    stage.close(&agent);
    stage.pass(5_000);
    let again = stage.agent(1);
    let welcome = stage.enter(&again);
    assert_eq!(
        id(&welcome["conversations"][0]["state"], "conversation"),
        conversation
    );
    stage.close(&again);
    stage.pass(25_000);
    let state = stage.take(&visitor, "conversation_state").pop().unwrap();
    assert_eq!(state["status"], "waiting", "{state}");
    let other = stage.agent(2);
    stage.enter(&other);
    stage.settle();
    assert_eq!(
        id(
            &stage.take(&visitor, "conversation_state").pop().unwrap(),
            "agent"
        ),
        Id(2)
    );
    // The newcomer has the whole story: queued, hello, joined, requeued, joined.
    assert_eq!(stage.seqs(&other), [1, 2, 3, 4, 5]);
}

#[test]
fn a_transfer_shows_the_new_agent_everything_and_takes_it_off_the_old_one() {
    let mut stage = Stage::new();
    let (agent, visitor, conversation) = chat(&mut stage);
    let other = stage.agent(2);
    stage.enter(&other);
    stage.take_all(&agent);
    let transfer = message::Command {
        request: 8,
        op: fb::CommandOp::Transfer,
        conversation,
        agent: Id(2),
        ..Default::default()
    };
    stage.command(&agent, transfer);
    stage.settle();
    assert!(
        stage
            .take(&agent, "conversation_state")
            .iter()
            .all(|state| state["mine"] == false)
    );
    assert_eq!(stage.seqs(&other), [1, 2, 3, 4]);
    assert_eq!(
        stage.take(&visitor, "message").pop().unwrap()["system"],
        "transferred"
    );
    stage.send(&agent, 1, conversation, "too late");
    stage.settle();
    assert_eq!(stage.take(&agent, "send_result")[0]["reason"], "forbidden");
    stage.command(
        &other,
        message::Command {
            agent: Id(77),
            ..transfer
        },
    );
    stage.settle();
    assert_eq!(stage.take(&other, "error")[0]["reason"], "no_such_agent");
}

#[test]
fn capacity_is_never_broken_by_assignment_transfer_or_take() {
    let mut stage = Stage::new();
    let (agent, _, _) = chat(&mut stage);
    let mut conversations = Vec::new();
    for v in 2..=5 {
        let visitor = stage.visitor(v, 1);
        stage.enter(&visitor);
        stage.send(&visitor, 1, Id::ABSENT, "hello");
        stage.settle();
        conversations.push(id(&stage.take(&visitor, "send_result")[0], "conversation"));
    }
    assert_eq!(stage.turn().engine().queue().len(), 2);
    let by = actor(&agent);
    let refusal = stage
        .ask(HttpCommand::Take {
            by,
            conversation: conversations[3],
        })
        .unwrap_err();
    assert_eq!(refusal.reason, Reason::AgentUnavailable);
    assert_eq!(
        stage
            .turn()
            .engine()
            .agents()
            .get(Id(1))
            .unwrap()
            .open_count(),
        3
    );
}

#[test]
fn status_is_chosen_seen_by_others_and_kept() {
    let mut stage = Stage::new();
    let (agent, _, _) = chat(&mut stage);
    let away = message::Command {
        request: 4,
        op: fb::CommandOp::SetStatus,
        status: fb::AgentStatus::Away,
        ..Default::default()
    };
    stage.command(&agent, away);
    stage.pass(300);
    let presence = stage.take(&agent, "presence").remove(0);
    assert_eq!(
        (presence["status"].as_str(), number(&presence, "request")),
        (Some("away"), 4)
    );
    assert!(
        stage
            .broadcasts
            .iter()
            .any(|(kind, value)| kind == "presence" && value["status"] == "away")
    );
    let visitor = stage.visitor(2, 1);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "anybody?");
    stage.settle();
    assert_eq!(
        stage.turn().engine().queue().len(),
        1,
        "nobody away is given anything"
    );
    stage.restart();
    let agent = stage.agent(1);
    assert_eq!(stage.enter(&agent)["status"], "away");
    assert_eq!(
        stage.turn().engine().agents().get(Id(1)).unwrap().status(),
        AgentStatus::Away
    );
}

#[test]
fn a_visitor_who_never_comes_back_is_let_go() {
    let mut stage = Stage::new();
    let (agent, visitor, _) = chat(&mut stage);
    let waiting = stage.visitor(2, 1);
    stage
        .ask(HttpCommand::SetStatus {
            by: actor(&agent),
            agent: Id(1),
            status: AgentStatus::Away,
        })
        .unwrap();
    stage.enter(&waiting);
    stage.send(&waiting, 1, Id::ABSENT, "hello");
    stage.close(&visitor);
    stage.close(&waiting);
    stage.pass(9 * 60_000);
    assert_eq!(stage.turn().engine().queue().len(), 1);
    stage.pass(2 * 60_000);
    assert_eq!(stage.turn().engine().queue().len(), 0, "abandoned");
    stage.pass(20 * 60_000);
    assert_eq!(
        stage.take(&agent, "conversation_state").pop().unwrap()["close_reason"],
        "visitor_gone"
    );
}

#[test]
fn a_rest_send_repeated_under_its_key_is_answered_with_the_first_answer() {
    let mut stage = Stage::new();
    let visitor = stage.visitor(1, 1);
    let send = |text: &str, key: u128| HttpCommand::Send {
        by: actor(&visitor),
        conversation: None,
        text: text.into(),
        key_hash: Some(key),
        page: "p".into(),
    };
    // Twice in one turn, then in a later one, then with another body, then after a restart.
    let (mut first, mut second) = (
        stage.ask_later(send("hello", 1)),
        stage.ask_later(send("hello", 1)),
    );
    stage.settle();
    let Ok(HttpAnswer::Sent(first)) = first.try_recv().unwrap() else {
        panic!("sent")
    };
    let Ok(HttpAnswer::Sent(second)) = second.try_recv().unwrap() else {
        panic!("sent")
    };
    assert_eq!(
        (first.outcome, second.outcome),
        (Outcome::Accepted, Outcome::Duplicate)
    );
    assert_eq!(
        (first.conversation, first.seq),
        (second.conversation, second.seq)
    );
    let Ok(HttpAnswer::Sent(other)) = stage.ask(send("other", 1)) else {
        panic!("sent")
    };
    assert_eq!(other.outcome, Outcome::IdConflict);
    stage.restart();
    let Ok(HttpAnswer::Sent(third)) = stage.ask(send("hello", 1)) else {
        panic!("sent")
    };
    assert_eq!(
        (third.outcome, third.seq, third.at_us),
        (Outcome::Duplicate, first.seq, START_US)
    );
    assert_eq!(stage.ledger().to_agent.accepted, 1);
}

#[test]
fn one_visitors_token_reaches_one_visitors_conversation() {
    let mut stage = Stage::new();
    let (_, _, conversation) = chat(&mut stage);
    let stranger = stage.visitor(2, 1);
    stage.enter(&stranger);
    stage.send(&stranger, 1, conversation, "let me in");
    stage.command(&stranger, close_command(conversation));
    stage.ack(&stranger, conversation, 3, 3);
    stage.settle();
    assert_eq!(
        stage.take(&stranger, "send_result")[0]["reason"],
        "forbidden"
    );
    assert_eq!(stage.take(&stranger, "error")[0]["reason"], "forbidden");
    let by = actor(&stranger);
    for command in [
        HttpCommand::Find {
            by: by.clone(),
            conversation,
        },
        HttpCommand::Close {
            by: by.clone(),
            conversation: Some(conversation),
        },
        HttpCommand::Acknowledge {
            by: by.clone(),
            conversation,
            delivered: 1,
            read: 1,
        },
        HttpCommand::Take {
            by: by.clone(),
            conversation,
        },
        HttpCommand::Transfer {
            by: by.clone(),
            conversation,
            agent: None,
        },
        HttpCommand::FindWaiting {
            by: by.clone(),
            limit: 1,
        },
        HttpCommand::SetStatus {
            by,
            agent: Id(1),
            status: AgentStatus::Offline,
        },
    ] {
        assert_eq!(
            stage.ask(command.clone()).unwrap_err().reason,
            Reason::Forbidden,
            "{command:?}"
        );
    }
    assert_eq!(stage.ledger().to_agent.delivered, 0);
}

#[test]
fn a_visitor_who_tells_their_name_later_is_called_by_it() {
    let mut stage = Stage::new();
    let (agent, _, _) = chat(&mut stage);
    stage.take_all(&agent);
    let named = Client {
        name: "Ms. Wang".into(),
        ..stage.visitor(1, 12)
    };
    stage.enter(&named);
    let state = stage.take(&agent, "conversation_state").pop().unwrap();
    assert_eq!(state["visitor_name"], "Ms. Wang");
}

#[test]
fn who_is_leaving_is_given_nothing_new() {
    let mut stage = Stage::new();
    let (agent, _, _) = chat(&mut stage);
    stage.close(&agent);
    let visitor = stage.visitor(2, 1);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    assert_eq!(stage.turn().engine().queue().len(), 1);
    let again = stage.agent(1);
    stage.enter(&again);
    assert_eq!(stage.turn().engine().queue().len(), 0);
}

#[test]
fn conversations_are_begun_at_a_bounded_rate() {
    let mut stage = Stage::new();
    let visitor = stage.visitor(1, 1);
    stage.enter(&visitor);
    for request in 0..200 {
        let start = message::Command {
            request,
            op: fb::CommandOp::Start,
            ..Default::default()
        };
        stage.command(&visitor, start);
        stage.command(
            &visitor,
            message::Command {
                op: fb::CommandOp::Close,
                ..start
            },
        );
    }
    stage.settle();
    let begun = stage.turn().engine().tally().opened;
    assert!(begun <= 40, "{begun}");
    let errors = stage.take(&visitor, "error");
    assert!(
        errors
            .iter()
            .any(|error| error["reason"] == "rate_limited" && number(error, "retry_ms") > 0)
    );
}
