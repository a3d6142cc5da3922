//! The load generator's people beside real ones: they never meet, and they leave without a trace but in the ledger.

use tidegate_protocol::{Id, fb, message};

use super::stage::{Client, Stage, agent_row, id};
use crate::app::command::{HttpAnswer, HttpCommand};
use crate::engine::kinds::Role;
use crate::store::Store as _;

const STEPS_MAX: u32 = 20;

fn played_agent(stage: &mut Stage) -> Client {
    let id = Id::synthetic(1);
    let agent = agent_row(id.0, Role::Agent, 5);
    stage.ask(HttpCommand::PutAgent { agent }).unwrap();
    stage.client(0, id, 31, Role::Agent, "")
}

fn go_online(stage: &mut Stage, agent: &Client) {
    stage.enter(agent);
    let online = message::Command {
        op: fb::CommandOp::SetStatus,
        status: fb::AgentStatus::Online,
        ..Default::default()
    };
    stage.command(agent, online);
    stage.settle();
}

fn ask(stage: &mut Stage, visitor: &Client) -> Id {
    stage.enter(visitor);
    stage.send(visitor, 1, Id::ABSENT, "is it in stock?");
    stage.settle();
    let result = stage.take(visitor, "send_result").pop().unwrap();
    id(&result, "conversation")
}

fn chatting(stage: &mut Stage) -> u32 {
    stage.turn().engine().conversations().chatting()
}

#[test]
fn nobody_real_gets_a_played_one_and_what_is_played_is_removed_with_the_ledger_closed() {
    let mut stage = Stage::new();
    let (agent, visitor) = (stage.agent(1), stage.visitor(1, 11));
    let played = stage.client(0, Id::synthetic(2), 21, Role::Visitor, "P");
    let played_agent = played_agent(&mut stage);
    go_online(&mut stage, &agent);

    let played_chat = ask(&mut stage, &played);
    assert_eq!(
        chatting(&mut stage),
        0,
        "the real agent has room, and gets none"
    );
    assert!(
        stage.turn().engine().queue().is_empty(),
        "nobody real waits"
    );
    let chat = ask(&mut stage, &visitor);
    assert_eq!(chatting(&mut stage), 1, "and waits behind nobody");
    go_online(&mut stage, &played_agent);
    assert_eq!(chatting(&mut stage), 2);
    assert_eq!(stage.turn().engine().agents().online(), 1);
    stage.send(&played_agent, 1, played_chat, "yes");
    stage.settle();

    for gone in [&played, &played_agent] {
        stage.close(gone);
    }
    stage.settle();
    let before = stage.ledger().total();
    let mut steps = 0;
    while stage.ask(HttpCommand::CleanSynthetic) == Ok(HttpAnswer::Cleaned { more: true }) {
        steps += 1;
        assert!(steps < STEPS_MAX, "it comes to an end");
        stage.pass(200);
    }
    for restarted in [false, true] {
        if restarted {
            stage.restart();
        }
        let ledger = stage.ledger().total();
        assert_eq!(ledger.accepted, before.accepted);
        assert_eq!(ledger.pending, 1, "the real visitor's question still waits");
        assert_eq!(ledger.expired, 2, "nobody had acknowledged the played ones");
        let engine = stage.turn().engine();
        assert!(engine.agents().get(Id::synthetic(1)).is_none());
        let store = &mut stage.turn().store;
        assert!(store.conversation(played_chat).unwrap().is_none());
        assert!(store.conversation(chat).unwrap().is_some());
        assert!(store.visitor(Id::synthetic(2)).unwrap().is_none());
    }
}
