//! The engine over a store made of maps, and what must hold whatever happens in whatever order: what the engine keeps
//! agrees with what a naive reader of its rows would say. Property tests and the fuzzer drive it.

mod op;
mod tables;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::{Id, Kind, fb, message};

use super::command::{Actor, HttpAnswer, HttpCommand};
use super::connections::Address;
use super::conversation::ConversationKey;
use super::effect::{Effect, Output};
use super::input::{Envelope, Input, Opened};
use super::kinds::{Family, Outcome, Role, Status};
use super::rate::RateLimit;
use super::rows::AgentRow;
use super::{Engine, Rules};
use tables::Tables;

pub(crate) use op::Op;

/// Visitors are 100, 101, …
pub(crate) const VISITORS: u128 = 4;
/// Agents are 1, 2, …; the last one is a supervisor.
pub(crate) const AGENTS: u128 = 3;
const CAPACITY: u32 = 2;
const GATEWAY: u64 = 1;

fn agents() -> Vec<AgentRow> {
    let agent = |id| AgentRow {
        site_id: 1,
        id: Id(id),
        login: format!("a{id}"),
        name: format!("A{id}"),
        role: if id == AGENTS {
            Role::Supervisor
        } else {
            Role::Agent
        },
        capacity: CAPACITY,
        disabled: false,
        password_hash: String::new(),
        tokens_valid_from_s: 0,
        created_at_us: 0,
    };
    (1..=AGENTS).map(agent).collect()
}

fn rules() -> Rules {
    Rules {
        closed_conversations_max: 2,
        sends: RateLimit {
            per_s: 1_000_000,
            burst: 1_000_000,
        },
        ..Rules::default()
    }
}

/// An engine over the maps.
pub(crate) struct World {
    engine: Engine,
    tables: Tables,
    now_us: u64,
    accepted: u64,
    builder: FlatBufferBuilder<'static>,
}

impl World {
    /// Nobody is there yet.
    pub(crate) fn new() -> Self {
        let tables = Tables::default();
        Self {
            engine: Engine::new(rules(), tables.load_all(agents(), 0), 1_000_000),
            tables,
            now_us: 1_000_000,
            accepted: 0,
            builder: FlatBufferBuilder::new(),
        }
    }

    fn address(person: u128, tab: u64) -> Address {
        let slot = (u32::try_from(person * 4).expect("few people"))
            + u32::try_from(tab).expect("few tabs");
        Address {
            gateway: GATEWAY,
            shard: 0,
            slot,
            generation: 1,
        }
    }

    fn apply(&mut self, input: &Input<'_>) {
        let mut out = Output::default();
        self.now_us += 1_000;
        self.engine.begin_turn(self.now_us, self.now_us, &mut out);
        self.tables.commit(&out);
        out.clear();
        while let Err(need) = self.engine.apply(input, &mut out) {
            assert!(
                out.effects.is_empty() && out.writes.is_empty(),
                "a need changes nothing"
            );
            let found = self.tables.find(need);
            self.engine.provide(need, found);
        }
        self.engine.end_turn(&mut out);
        self.tables.commit(&out);
        let accepted = out.effects.iter().filter(|effect| {
            match effect {
            Effect::SendResult { outcome, .. } => *outcome == Outcome::Accepted,
            Effect::Http { answer, .. } => answer.as_deref().is_ok_and(|answer| {
                matches!(answer, HttpAnswer::Sent(sent) if sent.outcome == Outcome::Accepted)
            }),
            _ => false,
        }
        });
        self.accepted += accepted.count() as u64;
        for effect in &out.effects {
            if let Effect::Joined {
                conversation,
                principal,
                ..
            } = effect
            {
                let joined = self.engine.conversations.at(*conversation);
                assert!(
                    joined.side_of(*principal).is_some(),
                    "nobody is shown what is not theirs"
                );
            }
        }
    }

    fn envelope(&mut self, person: u128, tab: u64, kind: Kind, payload: &[u8]) {
        self.apply(&Input::Envelope(Envelope {
            address: Self::address(person, tab),
            principal: Id(person),
            session: tab + 1,
            kind: kind as u8,
            payload,
            settled: false,
            left_over: false,
        }));
    }

    fn conversation(&self, nth: u32) -> Id {
        let ids: Vec<Id> = self.tables.conversations.keys().copied().collect();
        if ids.is_empty() {
            Id::ABSENT
        } else {
            ids[nth as usize % ids.len()]
        }
    }

    fn last_n(&self, person: u128, tab: u64) -> u64 {
        self.tables
            .sessions
            .get(&(Id(person), tab + 1))
            .map_or(0, |row| row.last_n)
    }

    /// Does it.
    pub(crate) fn run(&mut self, op: &Op) {
        match op {
            Op::Open { person, tab } => {
                let mut builder = FlatBufferBuilder::new();
                let hello = message::Hello {
                    session: tab + 1,
                    ..message::Hello::default()
                };
                let hello = hello.encode(&mut builder);
                self.apply(&Input::Opened(Opened {
                    address: Self::address(*person, *tab),
                    principal: Id(*person),
                    session: tab + 1,
                    connection: 0,
                    request: 0,
                    role: if *person < 100 {
                        Role::Agent
                    } else {
                        Role::Visitor
                    },
                    family: Family::H5,
                    widget: u32::from(*person >= 100),
                    announced: false,
                    heartbeat_ms: 0,
                    issued_at_s: 0,
                    name: "",
                    hello,
                }));
            }
            Op::Close { person, tab } => self.apply(&Input::Closed {
                address: Self::address(*person, *tab),
            }),
            Op::Send { person, tab, nth } => {
                let n = self.last_n(*person, *tab) + 1;
                let conversation = if *person >= 100 {
                    Id::ABSENT
                } else {
                    self.conversation(*nth)
                };
                let send = message::Send {
                    n,
                    conversation,
                    text: "hello",
                };
                let payload = send.encode(&mut self.builder).to_vec();
                self.envelope(*person, *tab, Kind::Send, &payload);
            }
            Op::Repeat { person, tab } => {
                let n = self.last_n(*person, *tab);
                let before = self.accepted;
                let send = message::Send {
                    n,
                    conversation: Id::ABSENT,
                    text: "hello",
                };
                let payload = send.encode(&mut self.builder).to_vec();
                self.envelope(*person, *tab, Kind::Send, &payload);
                assert_eq!(self.accepted, before, "a repeat is never accepted");
            }
            Op::Ack { person, nth, seq } => {
                let ack = message::Ack {
                    conversation: self.conversation(*nth),
                    delivered: *seq,
                    read: seq / 2,
                };
                let payload = ack.encode(&mut self.builder).to_vec();
                self.envelope(*person, 0, Kind::Ack, &payload);
            }
            Op::Command {
                person,
                op,
                nth,
                agent,
            } => {
                let command = message::Command {
                    op: fb::CommandOp(*op),
                    conversation: self.conversation(*nth),
                    agent: Id(*agent),
                    status: fb::AgentStatus(2),
                    ..message::Command::default()
                };
                let payload = command.encode(&mut self.builder).to_vec();
                self.envelope(*person, 0, Kind::Command, &payload);
            }
            Op::Status { agent, status } => {
                let by = Actor {
                    id: Id(*agent),
                    role: Role::Agent,
                    name: String::new(),
                    widget: 0,
                };
                let command = HttpCommand::SetStatus {
                    by,
                    agent: Id(*agent),
                    status: *status,
                };
                self.apply(&Input::Http {
                    ticket: 0,
                    command: Cow::Owned(command),
                });
            }
            Op::Pass { seconds } => {
                self.now_us += seconds * 1_000_000;
                self.apply(&Input::Tick);
            }
            Op::Raw {
                person,
                tab,
                kind,
                payload,
            } => self.apply(&Input::Envelope(Envelope {
                address: Self::address(*person, *tab),
                principal: Id(*person),
                session: tab + 1,
                kind: *kind,
                payload,
                settled: false,
                left_over: false,
            })),
            Op::Post { person, nth, key } => {
                let is_agent = *person < 100;
                let by = Actor {
                    id: Id(*person),
                    role: if is_agent { Role::Agent } else { Role::Visitor },
                    name: String::new(),
                    widget: u32::from(!is_agent),
                };
                let command = HttpCommand::Send {
                    by,
                    conversation: is_agent.then(|| self.conversation(*nth)),
                    text: "posted".to_owned(),
                    key_hash: Some(u128::from(*key)),
                    page: String::new(),
                };
                self.apply(&Input::Http {
                    ticket: 0,
                    command: Cow::Owned(command),
                });
            }
            Op::Bot { nth } => {
                let conversation = self.conversation(*nth);
                let row = self.tables.conversations.get(&conversation);
                let waits = row.is_some_and(|row| row.status == Status::Waiting);
                self.apply(&Input::BotSaid {
                    conversation,
                    text: "I am a bot".into(),
                });
                self.accepted += u64::from(waits);
            }
            Op::GatewayGone => self.apply(&Input::GatewayGone { gateway: GATEWAY }),
            Op::Restart => {
                let loaded = self.tables.load_all(agents(), self.now_us);
                self.engine = Engine::new(rules(), loaded, self.now_us);
            }
        }
    }

    /// Memory and rows tell the same story, and it is one that may happen.
    pub(crate) fn check(&self) {
        let mut open_of = BTreeSet::new();
        let mut had_by: BTreeMap<Id, u32> = BTreeMap::new();
        let (mut waiting, mut pending) = (0, 0);
        for (id, row) in &self.tables.conversations {
            let seqs: Vec<u64> = self.tables.of(*id).map(|row| row.seq).collect();
            assert!(seqs.iter().copied().eq(1..=seqs.len() as u64), "gapless");
            if row.status != Status::Closed {
                assert!(
                    open_of.insert((row.visitor, row.widget)),
                    "one open conversation a visitor"
                );
            }
            match (row.status, row.agent) {
                (Status::Chatting, Some(agent)) => *had_by.entry(agent).or_default() += 1,
                (Status::Chatting, None) => panic!("chatting with nobody"),
                (Status::Waiting, agent) => {
                    assert_eq!(agent, None);
                    waiting += 1;
                }
                (Status::Closed, _) => {}
            }
            let kept = self
                .engine
                .conversations
                .find(*id)
                .map(|key| self.engine.conversations.at(key));
            let stored = self.tables.marks.get(id);
            let above = match (kept, stored) {
                (Some(kept), _) => [kept.marks.visitor.delivered, kept.marks.agent.delivered],
                (None, Some(row)) => [row.visitor_delivered, row.agent_delivered],
                (None, None) => [0, 0],
            };
            let counted = self.tables.pending(*id, above, u64::MAX);
            // The ledger counts what is stored, and marks are stored later.
            let written = stored.map_or([0, 0], |row| [row.visitor_delivered, row.agent_delivered]);
            let unwritten = self.tables.pending(*id, written, u64::MAX);
            pending += unwritten.to_visitor + unwritten.to_agent;
            if let Some(kept) = kept {
                assert_eq!(kept.row, *row, "memory and rows agree");
                assert_eq!(kept.pending, counted);
                assert_eq!(kept.seq, seqs.len() as u64);
            } else {
                assert_eq!(row.status, Status::Closed, "only closed ones leave memory");
            }
        }
        for agent in self.engine.agents.iter() {
            let had = had_by.get(&agent.row.id).copied().unwrap_or(0);
            assert_eq!(agent.open_count(), had);
            assert!(had <= CAPACITY, "capacity");
        }
        assert_eq!(self.engine.queue.len(), waiting);
        let opened: Vec<i64> = self
            .engine
            .queue
            .iter()
            .map(|key| {
                self.engine
                    .conversations
                    .at(ConversationKey(key))
                    .row
                    .queue_order
            })
            .collect();
        assert!(opened.is_sorted(), "first in, first out: {opened:?}");
        if waiting > 0 {
            assert_eq!(
                self.engine.agents.next(false),
                None,
                "nobody waits while somebody has room"
            );
        }
        assert_eq!(self.engine.ledger, self.tables.recount());
        let ledger = self.engine.ledger.total();
        assert_eq!(ledger.accepted, self.accepted);
        assert_eq!(ledger.pending, pending);
        assert_eq!(ledger.delivered, self.accepted - pending);
    }
}
