//! Whatever happens in whatever order: what the engine keeps agrees with what a naive reader of its rows would say.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use flatbuffers::FlatBufferBuilder;
use proptest::prelude::*;
use tidegate_protocol::{Id, Kind, fb, message};

use super::command::{Actor, HttpCommand};
use super::connections::Address;
use super::conversation::ConversationKey;
use super::effect::{Effect, Output};
use super::input::{Envelope, Input, Opened};
use super::kinds::{AgentStatus, Content, Family, Outcome, Role, Side, Status};
use super::loaded::{Found, Loaded, LoadedConversation, Need, OldKeys, OldMessages, Pending, Sent};
use super::rows::{AgentRow, ConversationRow, MarksRow, MessageRow, SessionLastRow};
use super::{Engine, Rules};

const VISITORS: u128 = 4;
const AGENTS: u128 = 3;
const CAPACITY: u32 = 2;

/// A store made of maps: upserts, and inserts that must not repeat.
#[derive(Default)]
struct Tables {
    conversations: BTreeMap<Id, ConversationRow>,
    messages: BTreeMap<(Id, u64), MessageRow>,
    sessions: BTreeMap<(Id, u64), SessionLastRow>,
    marks: BTreeMap<Id, MarksRow>,
}

impl Tables {
    fn commit(&mut self, out: &Output) {
        let writes = &out.writes;
        self.conversations
            .extend(writes.conversations.iter().map(|row| (row.id, row.clone())));
        for row in &writes.messages {
            let before = self.messages.insert((row.conversation, row.seq), *row);
            assert!(before.is_none(), "a seq is given out once");
        }
        self.sessions.extend(
            writes
                .sessions
                .iter()
                .map(|row| ((row.principal, row.session), *row)),
        );
        for row in &writes.marks {
            self.marks.insert(row.conversation, *row);
        }
    }

    fn of(&self, id: Id) -> impl DoubleEndedIterator<Item = &MessageRow> {
        self.messages
            .range((id, 0)..=(id, u64::MAX))
            .map(|(_, row)| row)
    }

    fn pending(&self, id: Id, above: [u64; 2], up_to: u64) -> Pending {
        let count = |side: Side, above: u64| {
            let to = |row: &&MessageRow| {
                let range = row.seq > above && row.seq <= up_to;
                range && row.content == Content::Text && row.sender_role.side() != side
            };
            self.of(id).filter(to).count() as u64
        };
        Pending {
            to_visitor: count(Side::Visitor, above[0]),
            to_agent: count(Side::Agent, above[1]),
        }
    }

    fn find(&self, need: Need) -> Found {
        match need {
            Need::Session { principal, session } => {
                Found::Session(self.sessions.get(&(principal, session)).copied())
            }
            Need::Sent {
                principal,
                session,
                n,
                ..
            } => {
                let found = self.messages.values().find(|row| {
                    row.sender == Some(principal) && row.session == session && row.n == n
                });
                Found::Sent(found.map(|row| Sent {
                    conversation: row.conversation,
                    seq: row.seq,
                    at_us: row.at_us,
                    body_hash: row.body_hash,
                }))
            }
            Need::Visitor { .. } => Found::Visitor(None),
            Need::Conversation { id } => {
                Found::Conversation(self.conversations.get(&id).map(|row| {
                    let marks = self.marks.get(&id).copied().unwrap_or(MarksRow {
                        site_id: 1,
                        conversation: id,
                        visitor_delivered: 0,
                        visitor_read: 0,
                        agent_delivered: 0,
                        agent_read: 0,
                    });
                    let above = [marks.visitor_delivered, marks.agent_delivered];
                    Box::new(LoadedConversation {
                        row: row.clone(),
                        marks,
                        seq: self.of(id).next_back().map_or(0, |row| row.seq),
                        erased: 0,
                        last_at_us: 0,
                        last_text: String::new(),
                        unanswered_since_us: 0,
                        pending: self.pending(id, above, u64::MAX),
                    })
                }))
            }
            Need::IdempotencyKey { .. } => Found::IdempotencyKey(None),
            Need::OldMessages { .. } => Found::OldMessages(OldMessages::default()),
            Need::OldKeys { .. } => Found::OldKeys(OldKeys::default()),
            Need::Pending {
                conversation,
                above,
                up_to,
            } => Found::Pending(self.pending(conversation, [above; 2], up_to)),
        }
    }
}

#[derive(Debug, Clone)]
enum Op {
    Open {
        person: u128,
        tab: u64,
    },
    Close {
        person: u128,
        tab: u64,
    },
    Send {
        person: u128,
        tab: u64,
        nth: prop::sample::Index,
    },
    Repeat {
        person: u128,
        tab: u64,
    },
    Ack {
        person: u128,
        nth: prop::sample::Index,
        seq: u64,
    },
    Command {
        person: u128,
        op: u8,
        nth: prop::sample::Index,
        agent: u128,
    },
    Status {
        agent: u128,
        status: AgentStatus,
    },
    Pass {
        seconds: u64,
    },
}

fn person() -> impl Strategy<Value = u128> {
    prop_oneof![3 => 100..100 + VISITORS, 2 => 1..=AGENTS]
}

fn op() -> impl Strategy<Value = Op> {
    let nth = any::<prop::sample::Index>;
    let status = prop_oneof![
        Just(AgentStatus::Online),
        Just(AgentStatus::Away),
        Just(AgentStatus::Offline)
    ];
    prop_oneof![
        4 => (person(), 0..3_u64).prop_map(|(person, tab)| Op::Open { person, tab }),
        2 => (person(), 0..3_u64).prop_map(|(person, tab)| Op::Close { person, tab }),
        8 => (person(), 0..3_u64, nth()).prop_map(|(person, tab, nth)| Op::Send { person, tab, nth }),
        2 => (person(), 0..3_u64).prop_map(|(person, tab)| Op::Repeat { person, tab }),
        5 => (person(), nth(), 0..12_u64).prop_map(|(person, nth, seq)| Op::Ack { person, nth, seq }),
        3 => (person(), 1..6_u8, nth(), 0..=AGENTS).prop_map(|(person, op, nth, agent)| {
            Op::Command { person, op, nth, agent }
        }),
        1 => (1..=AGENTS, status).prop_map(|(agent, status)| Op::Status { agent, status }),
        2 => (0..900_u64).prop_map(|seconds| Op::Pass { seconds }),
    ]
}

struct World {
    engine: Engine,
    tables: Tables,
    now_us: u64,
    accepted: u64,
    builder: FlatBufferBuilder<'static>,
}

impl World {
    fn new() -> Self {
        let agents = (1..=AGENTS).map(|id| AgentRow {
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
        });
        let loaded = Loaded {
            incarnation: 1,
            agents: agents.collect(),
            ..Loaded::default()
        };
        let rules = Rules {
            closed_conversations_max: 2,
            sends: super::rate::RateLimit {
                per_s: 1_000_000,
                burst: 1_000_000,
            },
            ..Rules::default()
        };
        Self {
            engine: Engine::new(rules, loaded, 1_000_000),
            tables: Tables::default(),
            now_us: 1_000_000,
            accepted: 0,
            builder: FlatBufferBuilder::new(),
        }
    }

    fn address(person: u128, tab: u64) -> Address {
        let slot = u32::try_from(person).unwrap() * 4 + u32::try_from(tab).unwrap();
        Address {
            gateway: 1,
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
        self.tables.commit(&out);
        for effect in &out.effects {
            if let Effect::SendResult {
                outcome: Outcome::Accepted,
                ..
            } = effect
            {
                self.accepted += 1;
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
        }));
    }

    fn conversation(&self, nth: prop::sample::Index) -> Id {
        let ids: Vec<Id> = self.tables.conversations.keys().copied().collect();
        if ids.is_empty() {
            Id::ABSENT
        } else {
            ids[nth.index(ids.len())]
        }
    }

    fn last_n(&self, person: u128, tab: u64) -> u64 {
        self.tables
            .sessions
            .get(&(Id(person), tab + 1))
            .map_or(0, |row| row.last_n)
    }

    fn run(&mut self, op: &Op) {
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
        }
    }

    fn check(&self) {
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
                self.engine.agents.next(),
                None,
                "nobody waits while somebody has room"
            );
        }
        let ledger = self.engine.ledger.total();
        assert_eq!(ledger.accepted, self.accepted);
        assert_eq!(ledger.pending, pending);
        assert_eq!(ledger.delivered, self.accepted - pending);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_the_rows_tell_the_same_story(ops in prop::collection::vec(op(), 1..120)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            world.check();
        }
    }
}

macro_rules! agree {
    ($($ours:ident = $theirs:ident),* $(,)?) => {$(
        let theirs: Vec<u8> = fb::$theirs::ENUM_VALUES.iter().map(|value| value.0).collect();
        let ours: Vec<u8> = super::kinds::$ours::ALL.iter().map(|value| value.code()).collect();
        assert_eq!(ours, theirs, stringify!($ours));
        for value in super::kinds::$ours::ALL {
            let theirs = fb::$theirs(value.code()).variant_name().map(str::to_lowercase);
            assert_eq!(Some(value.name().replace('_', "")), theirs, stringify!($ours));
        }
    )*};
}

#[test]
fn numbers_and_names_are_the_schemas() {
    agree!(
        Role = Role,
        Side = Side,
        Status = ConversationStatus,
        CloseReason = CloseReason,
        AgentStatus = AgentStatus,
        Content = ContentType,
        SystemEvent = SystemEvent,
        Outcome = SendOutcome,
        Reason = Reason,
        Family = Family,
    );
}
