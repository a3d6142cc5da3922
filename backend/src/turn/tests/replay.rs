//! The same journal gives the same database.

use rusqlite::Connection;
use tidegate_protocol::{Id, fb, message};

use super::stage::{Stage, actor, close_command, id, open_store};
use crate::app::command::HttpCommand;
use crate::engine::kinds::AgentStatus;
use crate::journal::replay;

/// Every row of every table, as text. What a start writes about itself (owner, boot, clean end) is its own.
fn dump(path: &std::path::Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
                 AND name NOT IN ('meta', 'meta_text', 'migration') ORDER BY name";
    let tables: Vec<String> = connection
        .prepare(names)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let mut lines = Vec::new();
    for table in tables {
        let mut statement = connection
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        let mut of_table = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> = (0..columns)
                .map(|column| format!("{:?}", row.get_ref(column).unwrap()))
                .collect();
            of_table.push(format!("{table}: {}", values.join(", ")));
        }
        of_table.sort();
        lines.extend(of_table);
    }
    lines
}

#[test]
fn a_journal_applied_to_a_fresh_store_gives_the_same_rows() {
    let mut stage = Stage::new();
    stage.kill();
    std::fs::remove_file(stage.database()).unwrap();
    stage.gateways.clear();
    stage.bus = crate::bus::local::LocalBus::default();
    stage.start_gateway(1 << 20);
    stage.journal = Some(stage.directory.path().join("journal"));
    stage.start();
    for row in [1, 2] {
        let agent = super::stage::agent_row(row, crate::engine::kinds::Role::Agent, 2);
        stage.ask(HttpCommand::PutAgent { agent }).unwrap();
    }
    let (agent, other, visitor) = (stage.agent(1), stage.agent(2), stage.visitor(1, 11));
    for client in [&agent, &other, &visitor] {
        stage.enter(client);
    }
    stage.send(&visitor, 1, Id::ABSENT, "hello");
    stage.settle();
    let conversation = id(&stage.take(&visitor, "send_result")[0], "conversation");
    for n in 1..=30 {
        stage.send(&visitor, n + 1, conversation, &format!("question {n}"));
        stage.ack(&visitor, conversation, n, n);
        stage.now_us += 7_003;
        stage.settle();
    }
    let transfer = message::Command {
        op: fb::CommandOp::Transfer,
        conversation,
        agent: Id(2),
        ..Default::default()
    };
    stage.command(&agent, transfer);
    let rest = HttpCommand::Send {
        by: actor(&visitor),
        conversation: None,
        text: "by REST".into(),
        key_hash: Some(5),
        page: String::new(),
    };
    stage.ask(rest).unwrap();
    stage
        .ask(HttpCommand::SetStatus {
            by: actor(&other),
            agent: Id(2),
            status: AgentStatus::Offline,
        })
        .unwrap();
    stage.pass(60_000);
    stage.command(&visitor, close_command(conversation));
    stage.pass(1_000);
    let (now_us, seed) = (stage.now_us, stage.seed);
    let turn = stage.turn.take().unwrap();
    turn.stop(now_us, seed).unwrap();

    let fresh = stage.directory.path().join("fresh.db");
    let mut store = open_store(fresh.clone(), super::stage::START_US, 42);
    let replayed = replay(stage.journal.as_ref().unwrap(), &stage.rules, &mut store).unwrap();
    assert!(replayed.inputs > 60, "{replayed:?}");
    crate::store::Store::close(store).unwrap();
    let (was, is) = (dump(&stage.database()), dump(&fresh));
    assert!(was.len() > 45, "{}", was.len());
    assert_eq!(was, is);
}
