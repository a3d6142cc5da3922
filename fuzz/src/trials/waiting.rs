//! A database in which messages wait for people who are offline, written as the backend writes it, turn by turn, and many
//! times faster than they could be said.

use std::path::Path;

use anyhow::ensure;
use tidegate_backend::Config;
use tidegate_backend::engine::kinds::{CloseReason, Content, Role, Status, SystemEvent};
use tidegate_backend::engine::rows::{
    AgentRow, ConversationRow, MarksRow, MessageRow, SessionLastRow, VisitorRow,
};
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::data_dir::make_private_dir;
use tidegate_backend::store::{SqliteStore, Store, StoreOptions};
use tidegate_protocol::Id;

/// Open chats, each with a question of the visitor, who then went, and the agents' answers.
pub(super) const CHATS: u64 = 10_000;
const CHATS_PER_AGENT: u64 = 100;
/// Chats that one commit writes.
const CHATS_PER_COMMIT: u64 = 100;
/// One session of each agent has all the answers; its numbers run on over the chats.
const SESSION: u64 = 0x0ff1_1e00;
/// Bytes of an answer: some 28 Chinese characters.
const TEXT: &str = "您好，您要的茶今天到了，明前的一批只有四十罐，要给您留两罐吗？";

/// Ids apart from any that a crowd uses.
const AGENTS: u128 = 0x0ff1_0001 << 64;
const VISITORS: u128 = 0x0ff1_0002 << 64;
const CONVERSATIONS: u128 = 0x0ff1_0003 << 64;

/// Whether a conversation is one of these.
pub(super) const fn is_ours(conversation: Id) -> bool {
    conversation.0 >> 64 == CONVERSATIONS >> 64
}

/// Makes the database of a data directory: so many messages wait in [`CHATS`] chats.
pub(super) fn write(data: &Path, messages: u64) -> anyhow::Result<()> {
    ensure!(
        messages.is_multiple_of(CHATS),
        "{messages} are not the same for {CHATS} chats"
    );
    make_private_dir(data)?;
    let config = Config {
        data_dir: data.to_owned(),
        ..Config::default()
    };
    let mut store = SqliteStore::open(&StoreOptions::from_config(&config)?)?;
    let now_us = tidegate_backend::auth::now_us();
    let agents = (0..CHATS / CHATS_PER_AGENT).map(|number| agent(number, now_us));
    store.submit(&WriteSet {
        at_us: now_us,
        agents: agents.collect(),
        ..WriteSet::default()
    })?;
    for first in (0..CHATS).step_by(usize::try_from(CHATS_PER_COMMIT)?) {
        let mut set = WriteSet {
            at_us: now_us,
            ..WriteSet::default()
        };
        for number in first..first + CHATS_PER_COMMIT {
            chat(&mut set, number, messages / CHATS, now_us);
        }
        store.submit(&set)?;
    }
    store.close()?;
    Ok(())
}

fn agent(number: u64, now_us: u64) -> AgentRow {
    AgentRow {
        site_id: 1,
        id: Id(AGENTS + u128::from(number)),
        login: format!("away{number}"),
        name: "小李".to_owned(),
        role: Role::Agent,
        capacity: u32::MAX >> 1,
        disabled: false,
        password_hash: String::new(),
        tokens_valid_from_s: 0,
        created_at_us: now_us,
    }
}

fn chat(set: &mut WriteSet, number: u64, waiting: u64, now_us: u64) {
    let id = Id(CONVERSATIONS + u128::from(number));
    let visitor = Id(VISITORS + u128::from(number));
    let agent = Id(AGENTS + u128::from(number / CHATS_PER_AGENT));
    set.visitors.push(VisitorRow {
        site_id: 1,
        id: visitor,
        widget: 1,
        name: "王小明".to_owned(),
        created_at_us: now_us,
        locale: "zh-CN".to_owned(),
        family: 0,
    });
    set.conversations.push(ConversationRow {
        site_id: 1,
        id,
        widget: 1,
        visitor,
        status: Status::Chatting,
        close_reason: CloseReason::None,
        agent: Some(agent),
        opened_at_us: now_us,
        assigned_at_us: now_us,
        first_assigned_at_us: now_us,
        closed_at_us: 0,
        queue_order: 1,
        page: "https://shop.example/".to_owned(),
        synthetic: false,
    });
    let (visitor_name, agent_name) = (set.push_text("王小明"), set.push_text("小李"));
    for seq in 1..=waiting + 1 {
        let asks = seq == 1;
        let text = set.push_text(if asks { "茶到了吗？" } else { TEXT });
        set.messages.push(MessageRow {
            site_id: 1,
            conversation: id,
            seq,
            at_us: now_us + seq,
            sender_role: if asks { Role::Visitor } else { Role::Agent },
            sender: Some(if asks { visitor } else { agent }),
            sender_name: if asks { visitor_name } else { agent_name },
            session: SESSION,
            n: if asks {
                1
            } else {
                number % CHATS_PER_AGENT * waiting + seq - 1
            },
            body_hash: seq,
            content: Content::Text,
            text,
            system: SystemEvent::None,
            close_reason: CloseReason::None,
        });
    }
    let last = |principal, last_n, last_seq| SessionLastRow {
        site_id: 1,
        principal,
        session: SESSION,
        last_n,
        last_hash: last_seq,
        last_conversation: id,
        last_seq,
        last_at_us: now_us + last_seq,
    };
    set.sessions.push(last(visitor, 1, 1));
    if waiting > 0 {
        set.sessions.retain(|row| row.principal != agent);
        let said = (number % CHATS_PER_AGENT + 1) * waiting;
        set.sessions.push(last(agent, said, waiting + 1));
    }
    // The agent has the question; the visitor has none of the answers.
    set.marks.push(MarksRow {
        site_id: 1,
        conversation: id,
        visitor_delivered: 1,
        visitor_read: 1,
        agent_delivered: waiting + 1,
        agent_read: waiting + 1,
    });
}
