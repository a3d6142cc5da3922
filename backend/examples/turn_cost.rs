//! Question: what does one message cost the backend, and what of it is the commit?
//!
//! The real turn over the real store (a file, WAL, `synchronous = normal`, the checkpointer beside it) and rings on
//! the heap, whose other end is played on the same thread and not counted. People write in both directions, each in a
//! conversation of their own, and acknowledge what they get; turns come as many at a time as a given load would make
//! them. What was said must be stored and delivered, or the measurement stops.
//!
//! ```text
//! cargo run --profile fast -p tidegate-backend --example turn_cost -- [MESSAGES] [SIZES] [DIRECTORY] [JOURNAL] [VFS]
//! ```
//!
//! 40,000 messages a row by default, in turns of 1, 4, 16, 64 and 256, on the system's temporary directory, without a
//! journal; `plain` or `masked` as JOURNAL writes one beside the database. `unix` as the
//! VFS writes each page of a commit by itself, as SQLite does without `store::log_file`. Under `perf record` it gives the
//! profile.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a measurement says what it found, or stops"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use flatbuffers::FlatBufferBuilder;
use shm_bus::{Claimed, Read, RecordCopy, RecordHeader};
use tidegate_backend::app::command::HttpCommand;
use tidegate_backend::app::handle::{TurnHandle, door};
use tidegate_backend::bus::Bus;
use tidegate_backend::bus::cold::{ColdPage, ColdReader, ColdRequest};
use tidegate_backend::bus::local::{LocalBus, LocalGateway};
use tidegate_backend::config::Synchronous;
use tidegate_backend::engine::kinds::Role;
use tidegate_backend::engine::rate::RateLimit;
use tidegate_backend::engine::rows::AgentRow;
use tidegate_backend::engine::{Engine, Rules};
use tidegate_backend::journal::{Beginning, Journal, JournalBounds, Mask};
use tidegate_backend::store::load::LoadBounds;
use tidegate_backend::store::open::Place;
use tidegate_backend::store::{SqliteStore, Store, StoreOptions, recount_at};
use tidegate_backend::turn::{Stepped, Turn, TurnLimits};
use tidegate_protocol::{Id, Kind, View, bus, message, verify};

const START_US: u64 = 1_795_262_400_000_000;
const VISITORS: u32 = 500;
const AGENTS: u32 = 20;
/// What the turns' sizes are made to look like.
const OFFERED_PER_S: u64 = 10_000;
const TEXT: &str = "我的包裹到哪里了？订单号 20261111-4711，谢谢。 Where is my parcel, please?";
const RING_BYTES: usize = 4 << 20;

/// Nothing here is older than the window.
struct NothingCold;

impl ColdReader for NothingCold {
    fn request(&mut self, request: ColdRequest) -> bool {
        panic!("{request:?} left the window");
    }
    fn take(&mut self) -> Option<ColdPage> {
        None
    }
    fn is_ready(&self) -> bool {
        false
    }
}

/// One side of a conversation, at its connection.
#[derive(Clone, Copy)]
struct Person {
    slot: u32,
    principal: Id,
    session: u64,
    last_n: u64,
}

/// A visitor's conversation and who talks in it.
struct Chat {
    conversation: Id,
    visitor: usize,
    agent: usize,
}

struct World {
    turn: Turn<SqliteStore, LocalBus, NothingCold>,
    handle: TurnHandle,
    gateway: LocalGateway,
    people: Vec<Person>,
    chats: Vec<Chat>,
    copy: RecordCopy,
    builder: FlatBufferBuilder<'static>,
    now_us: u64,
    spent_ns: u64,
    turns: u64,
    records_down: u64,
    results: u64,
    messages: u64,
    /// Who has to acknowledge what: conversation, person's slot, seq.
    to_acknowledge: Vec<(Id, u32, u64)>,
}

fn options(path: &Path, vfs: Option<String>) -> StoreOptions {
    StoreOptions {
        place: Place {
            path: path.to_owned(),
            vfs,
            busy_ms_max: 1_000,
            cache_bytes: 64 << 20,
            mmap_bytes: 0,
        },
        synchronous: Synchronous::Normal,
        wal_bytes_max: 128 << 20,
        checkpoint_every_ms: 500,
        bounds: LoadBounds {
            window_bytes_max: 256 << 20,
            sessions_max: 1 << 20,
        },
        outbox_rows_max: 100_000,
        site_id: 1,
        now_us: START_US,
        random: 1,
        boot_id: "x".into(),
    }
}

impl World {
    fn new(path: &Path, journal: &str, vfs: Option<String>) -> Self {
        let options = options(path, vfs);
        let name = path.with_extension("journal");
        let journalled = journal != "none";
        let mut mask = (journal == "masked").then(|| Mask::new(b"secret"));
        let beginning = journalled.then(|| {
            Beginning::look(&name, &options.place, &options.boot_id, mask.as_mut()).unwrap()
        });
        let mut store = SqliteStore::open(&options).unwrap();
        let loaded = store.load().unwrap();
        let rules = Rules {
            window_bytes_max: 256 << 20,
            sends: RateLimit {
                per_s: 1_000_000,
                burst: 1_000_000,
            },
            ..Rules::default()
        };
        let journal = beginning.map(|beginning| {
            let bounds = JournalBounds {
                file_bytes_max: 256 << 20,
                bytes_max: 4 << 30,
            };
            let began = (&options, &rules, &loaded);
            Journal::begin(&beginning, bounds, mask, began, START_US).unwrap()
        });
        let engine = Engine::new(rules, loaded, START_US);
        let local = LocalBus::default();
        let gateway = local
            .start_gateway(7, 1, RING_BYTES, shm_bus::RECORD_BYTES_MAX_DEFAULT)
            .unwrap();
        let (handle, turn_door) = door(Arc::new(|| {}), 64);
        let bus = Bus::new(local, NothingCold, &[]);
        let mut turn = Turn::new(engine, bus, store, turn_door, TurnLimits::default());
        if let Some(journal) = journal {
            turn.set_journal(journal);
        }
        let mut world = Self {
            turn,
            handle,
            gateway,
            people: Vec::new(),
            chats: Vec::new(),
            copy: RecordCopy::default(),
            builder: FlatBufferBuilder::new(),
            now_us: START_US,
            spent_ns: 0,
            turns: 0,
            records_down: 0,
            results: 0,
            messages: 0,
            to_acknowledge: Vec::new(),
        };
        world.move_in();
        world
    }

    /// Agents first, then visitors, each of whom says something and is given an agent.
    fn move_in(&mut self) {
        for n in 0..AGENTS {
            let row = AgentRow {
                site_id: 1,
                id: Id(u128::from(n) + 1),
                login: format!("agent{n}"),
                name: format!("Agent {n}"),
                role: Role::Agent,
                capacity: VISITORS / AGENTS,
                disabled: false,
                password_hash: "x".into(),
                tokens_valid_from_s: 0,
                created_at_us: START_US,
            };
            drop(
                self.handle
                    .ask(HttpCommand::PutAgent { agent: row })
                    .unwrap(),
            );
            self.settle();
            self.enter(Id(u128::from(n) + 1), Role::Agent);
        }
        for n in 0..VISITORS {
            self.enter(Id(u128::from(n) + 1_000), Role::Visitor);
            self.say((AGENTS + n) as usize, Id::ABSENT);
            self.settle();
        }
        assert_eq!(
            self.chats.len(),
            VISITORS as usize,
            "everybody has an agent"
        );
        (self.spent_ns, self.turns, self.records_down) = (0, 0, 0);
        (self.results, self.messages) = (0, 0);
    }

    fn enter(&mut self, principal: Id, role: Role) {
        let slot = u32::try_from(self.people.len()).unwrap();
        let person = Person {
            slot,
            principal,
            session: u64::from(slot) + 1,
            last_n: 0,
        };
        self.people.push(person);
        let hello = message::Hello {
            request: 5,
            session: person.session,
            ..message::Hello::default()
        };
        let hello = hello.encode(&mut self.builder).to_vec();
        let opened = bus::Opened {
            record: bus::OpenedRecord {
                session: person.session,
                request: 5,
                issued_at_s: START_US / 1_000_000,
                widget: u32::from(role == Role::Visitor),
                role: role.code(),
                ..bus::OpenedRecord::default()
            },
            name: "Somebody",
            hello: &hello,
        };
        let mut payload = vec![0; opened.bytes()];
        opened.write(&mut payload);
        self.put(slot, bus::OPENED, 0, &payload);
        self.settle();
    }

    fn put(&mut self, slot: u32, kind: u16, flags: u16, payload: &[u8]) {
        let person = self.people[slot as usize];
        let producer = &mut self.gateway.shards[0].to_backend;
        let Claimed::Claimed(mut claim) = producer.claim(payload.len()).unwrap() else {
            panic!("the ring is full");
        };
        claim.payload_mut().copy_from_slice(payload);
        claim.commit(RecordHeader {
            kind,
            flags,
            partition: 0,
            shard: 0,
            slot,
            generation: 1,
            principal: person.principal.0,
            trace: person.session,
        });
    }

    fn say(&mut self, person: usize, conversation: Id) {
        let person = &mut self.people[person];
        person.last_n += 1;
        let (n, slot) = (person.last_n, person.slot);
        let mut builder = std::mem::take(&mut self.builder);
        let send = message::Send {
            n,
            conversation,
            text: TEXT,
        };
        self.put(
            slot,
            bus::ENVELOPE,
            Kind::Send as u16,
            send.encode(&mut builder),
        );
        self.builder = builder;
    }

    /// Everybody acknowledges what they got since they did so last.
    fn acknowledge(&mut self) {
        let mut builder = std::mem::take(&mut self.builder);
        for (conversation, slot, seq) in std::mem::take(&mut self.to_acknowledge) {
            let ack = message::Ack {
                conversation,
                delivered: seq,
                read: seq,
            };
            self.put(
                slot,
                bus::ENVELOPE,
                Kind::Ack as u16,
                ack.encode(&mut builder),
            );
        }
        self.builder = builder;
    }

    fn step(&mut self) -> bool {
        let began = Instant::now();
        let stepped = self.turn.step(self.now_us, self.turns);
        self.spent_ns += u64::try_from(began.elapsed().as_nanos()).unwrap();
        self.turns += 1;
        self.receive();
        match stepped {
            Stepped::Worked => true,
            Stepped::Idle { .. } => false,
            Stepped::Broken(error) => panic!("{error}"),
        }
    }

    fn settle(&mut self) {
        while self.step() {}
    }

    fn receive(&mut self) {
        let mut copy = std::mem::take(&mut self.copy);
        loop {
            let consumer = &mut self.gateway.shards[0].to_gateway;
            let Read::Record(header) = consumer.next(&mut copy) else {
                break;
            };
            let position = consumer.position();
            consumer.release_to(position);
            self.records_down += 1;
            if header.kind == bus::ENVELOPE_DOWN {
                let kind = Kind::from_u8(header.flags.to_le_bytes()[0]).unwrap();
                self.received(header.slot, kind, copy.payload());
            }
        }
        self.copy = copy;
    }

    fn received(&mut self, slot: u32, kind: Kind, payload: &[u8]) {
        match verify(kind, payload).unwrap() {
            View::SendResult(_) => self.results += 1,
            View::Message(message) => {
                self.messages += 1;
                let conversation = Id::from(message.conversation());
                self.to_acknowledge
                    .push((conversation, slot, message.seq()));
            }
            View::ConversationState(state) if slot < AGENTS => {
                let conversation = Id::from(state.conversation());
                let visitor = Id::from(state.visitor());
                let known = |chat: &Chat| chat.conversation == conversation;
                if !self.chats.iter().any(known) {
                    let who = |person: &Person| person.principal == visitor;
                    self.chats.push(Chat {
                        conversation,
                        visitor: self.people.iter().position(who).unwrap(),
                        agent: slot as usize,
                    });
                }
            }
            _ => {}
        }
    }

    /// So many messages, so many a turn.
    fn chat(&mut self, messages: u64, per_turn: u64) {
        let commit_us = self.turn.counters().commit_us;
        (self.spent_ns, self.turns, self.records_down) = (0, 0, 0);
        (self.results, self.messages) = (0, 0);
        let turns = messages / per_turn;
        for turn in 0..turns {
            self.acknowledge();
            for n in turn * per_turn..(turn + 1) * per_turn {
                // A stride that meets all, so that neighbours in time are not neighbours in the store.
                let at = usize::try_from(n * 181 % u64::from(VISITORS)).unwrap();
                let chat = &self.chats[at];
                let asks = n / u64::from(VISITORS) % 2 == 0;
                let (conversation, who) = if asks {
                    (Id::ABSENT, chat.visitor)
                } else {
                    (chat.conversation, chat.agent)
                };
                self.say(who, conversation);
            }
            self.now_us += per_turn * 1_000_000 / OFFERED_PER_S;
            self.step();
        }
        let said = turns * per_turn;
        assert_eq!((self.results, self.messages), (said, said), "all is there");
        let each_us = |ns: u64| ns as f64 / 1e3 / said as f64;
        let commit_us = self.turn.counters().commit_us - commit_us;
        println!(
            "{per_turn:>5} a turn: {:>6.2} µs a message, of which {:>6.2} the commit; {:.2} records down",
            each_us(self.spent_ns),
            each_us(commit_us * 1_000),
            self.records_down as f64 / said as f64,
        );
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let messages: u64 = arguments
        .next()
        .map_or(40_000, |text| text.parse().unwrap());
    let sizes: Vec<u64> = arguments
        .next()
        .map_or("1,4,16,64,256".to_owned(), |text| text)
        .split(',')
        .map(|size| size.parse().unwrap())
        .collect();
    let directory = match arguments.next() {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    };
    let directory = directory.unwrap();
    let path = directory.path().join("tidegate.db");
    let journal = arguments.next().unwrap_or_else(|| "none".to_owned());
    let mut world = World::new(&path, &journal, arguments.next());
    for per_turn in sizes {
        world.chat(messages, per_turn);
    }
    world.acknowledge();
    world.now_us += 1_000_000;
    world.settle();
    let now_us = world.now_us;
    world.turn.stop(now_us, 1).unwrap();
    recount_at(&path).unwrap().check().unwrap();
}
