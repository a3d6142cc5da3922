//! Rings without room: nobody waits for anybody, nothing accepted is dropped.

use tidegate_protocol::Id;

use super::stage::{Client, Stage, id, number};
use crate::engine::Rules;
use crate::engine::kinds::Role;
use crate::engine::rate::RateLimit;

fn generous() -> Stage {
    Stage::with(Rules {
        window_bytes_max: 1 << 20,
        sessions_max: 100_000,
        sends: RateLimit {
            per_s: 1_000_000,
            burst: 1_000_000,
        },
        ..Rules::default()
    })
}

/// An agent behind gateway 0, a visitor behind a gateway of its own whose rings are as small as they can be.
fn apart(stage: &mut Stage) -> (Client, Client, Id) {
    let agent = stage.agent(1);
    stage.enter(&agent);
    let small = stage.start_gateway(256 << 10);
    let visitor = stage.client(small, Id(2_000), 3, Role::Visitor, "X");
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    let conversation = id(&stage.take(&visitor, "send_result")[0], "conversation");
    (agent, visitor, conversation)
}

#[test]
fn a_gateway_that_does_not_read_stops_nobody_else_and_gets_everything_later() {
    let mut stage = generous();
    let (agent, visitor, conversation) = apart(&mut stage);
    let small = visitor.gateway;
    // The small gateway stops reading: everything for it piles up until its ring is full.
    let mut n = 0;
    for _ in 0..40 {
        for _ in 0..20 {
            n += 1;
            stage.send(&agent, n, conversation, &"y".repeat(800));
        }
        for _ in 0..5 {
            stage.step();
            stage.read_gateway(0);
        }
        // It says that it has everything, so that only the ring's room is what stops it.
        stage.ack(&visitor, conversation, 3 + n, 0);
    }
    let accepted = stage.take(&agent, "send_result").len();
    assert_eq!(
        accepted as u64, n,
        "the agent's sends are answered all the same"
    );
    let marked = stage.handle.as_ref().unwrap().live().counters.marked_behind;
    stage.read_gateway(small);
    stage.settle();
    for _ in 0..200 {
        let seq = 3 + n;
        stage.ack(&visitor, conversation, seq, 0);
        stage.settle();
    }
    let seqs = stage.seqs(&visitor);
    assert_eq!(
        seqs.last(),
        Some(&(3 + n)),
        "behind {marked}: {} messages",
        seqs.len()
    );
    let expected: Vec<u64> = (1..=3 + n).filter(|&seq| seq != 2).collect();
    assert_eq!(seqs, expected);
}

#[test]
fn two_gateways_with_all_rings_full_do_not_wait_for_each_other_and_a_third_chats_on() {
    let mut stage = generous();
    let mut pairs = Vec::new();
    for p in 0..2_u128 {
        let small = stage.start_gateway(256 << 10);
        let visitor = stage.client(small, Id(3_000 + p), 3, Role::Visitor, "X");
        stage.enter(&visitor);
        pairs.push(visitor);
    }
    let agent = stage.agent(1);
    stage.enter(&agent);
    // Both fill their rings to the backend and never read.
    let mut sent = [0_u64; 2];
    for round in 0..50 {
        for (index, visitor) in pairs.iter().enumerate() {
            while stage.try_send(
                visitor,
                sent[index] + 1,
                Id::ABSENT,
                &format!("{round} {}", "z".repeat(500)),
            ) {
                sent[index] += 1;
            }
        }
        for _ in 0..20 {
            stage.step();
            stage.read_gateway(0);
        }
    }
    assert!(sent.iter().all(|&count| count > 100), "{sent:?}");
    // The third chats on.
    let third = stage.visitor(7, 7);
    stage.open(&third, &[]);
    stage.send(&third, 1, Id::ABSENT, "can you hear me");
    for _ in 0..20 {
        stage.step();
        stage.read_gateway(0);
    }
    assert_eq!(stage.take(&third, "send_result").len(), 1);
    // Relief: everything that was sent is answered.
    for _ in 0..2_000 {
        stage.read_all();
        stage.step();
    }
    stage.settle();
    for (index, visitor) in pairs.iter().enumerate() {
        let answered = stage.take(visitor, "send_result");
        assert_eq!(answered.len() as u64, sent[index]);
        assert!(
            answered
                .iter()
                .map(|result| number(result, "n"))
                .eq(1..=sent[index])
        );
    }
}

#[test]
fn an_agent_whose_ring_is_full_hears_later_that_a_conversation_was_handed_on() {
    let mut stage = generous();
    let small = stage.start_gateway(256 << 10);
    let agent = stage.client(small, Id(1), 51, Role::Agent, "");
    stage.enter(&agent);
    let visitor = stage.visitor(1, 11);
    stage.enter(&visitor);
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    let conversation = id(&stage.take(&visitor, "send_result")[0], "conversation");
    let mut n = 1;
    for _ in 0..60 {
        for _ in 0..10 {
            n += 1;
            stage.send(&visitor, n, conversation, &"y".repeat(800));
        }
        stage.ack(&agent, conversation, n + 2, 0);
        for _ in 0..3 {
            stage.step();
            stage.read_gateway(0);
        }
    }
    let other = stage.agent(2);
    stage.open(&other, &[]);
    for _ in 0..5 {
        stage.step();
        stage.read_gateway(0);
    }
    let by = crate::app::command::Actor {
        id: Id(9),
        role: Role::Supervisor,
        name: String::new(),
        widget: 0,
    };
    let transfer = crate::app::command::HttpCommand::Transfer {
        by,
        conversation,
        agent: Some(Id(2)),
    };
    let mut answer = stage.ask_later(transfer);
    for _ in 0..5 {
        stage.step();
        stage.read_gateway(0);
    }
    assert!(answer.try_recv().unwrap().is_ok());
    assert!(stage.turn().bus.behind() > 0, "the agent's ring is full");
    for _ in 0..100 {
        stage.read_all();
        stage.step();
    }
    stage.settle();
    let last = stage.take(&agent, "conversation_state").pop().unwrap();
    assert_eq!(last["mine"], false);
    stage.take_all(&agent);
    stage.send(&visitor, n + 1, conversation, "to the new one");
    stage.settle();
    assert!(
        stage.seqs(&agent).is_empty(),
        "it is no longer shown what is not its own"
    );
    assert!(!stage.seqs(&other).is_empty());
}
