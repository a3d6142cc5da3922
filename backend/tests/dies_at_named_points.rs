//! A real backend process, killed with -9 by itself at each named point of the turn and of its ends of the rings,
//! while a visitor and an agent chat through a real segment in shared memory. The gateway and its connections live
//! on. Afterwards: every send was answered, every accepted message is stored exactly once, in the order of sending,
//! and the ledger counted from the rows agrees with what was acknowledged.
//!
//! The child is this same program: with `TIDEGATE_TEST_BACKEND` set, the test `child` is a backend.

#![expect(
    clippy::unwrap_used,
    reason = "a test's helpers fail by panicking, like the test itself"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flatbuffers::FlatBufferBuilder;
use shm_bus::{
    BusDirectory, Claimed, GatewaySegment, InstanceId, Read, RecordCopy, RecordHeader,
    SegmentOptions, ShardEnd,
};
use tidegate_backend::engine::kinds::Role;
use tidegate_backend::engine::rows::AgentRow;
use tidegate_backend::engine::write_set::WriteSet;
use tidegate_backend::store::{SqliteStore, Store, StoreOptions};
use tidegate_backend::{Config, Shutdown};
use tidegate_protocol::{Id, Kind, View, bus, fb, message, verify};

const DEADLINE: Duration = Duration::from_secs(60);
/// Messages of each side in each round.
const SENDS_PER_ROUND: u64 = 60;
const VISITOR: Id = Id(0x7000);
const AGENT: Id = Id(0x1);

fn config(directory: &Path) -> Config {
    Config {
        data_dir: directory.join("data"),
        bus_dir: directory.join("bus"),
        http_listen: ([127, 0, 0, 1], 0).into(),
        sends_per_s_max: 1_000_000,
        sends_burst_max: 1_000_000,
        ..Config::default()
    }
}

/// Not a test of its own: the backend that the others kill.
#[test]
fn child() {
    let Some(directory) = std::env::var_os("TIDEGATE_TEST_BACKEND") else {
        return;
    };
    tidegate_backend::run(config(Path::new(&directory)), None, &Shutdown::new()).unwrap();
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(directory: &Path, fault: Option<&str>) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["child", "--exact", "--nocapture"])
        .env("TIDEGATE_TEST_BACKEND", directory)
        .env_remove("TIDEGATE_FAULT")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(fault) = fault {
        command.env("TIDEGATE_FAULT", fault);
    }
    Killed(command.spawn().unwrap())
}

/// One side of the chat.
#[derive(Default)]
struct Person {
    slot: u32,
    principal: u128,
    session: u64,
    role: u8,
    /// Texts that were not answered yet, by n.
    waiting: BTreeMap<u64, String>,
    next_n: u64,
    accepted: BTreeMap<u64, u64>,
    received: u64,
    conversation: Id,
}

struct Gateway {
    end: ShardEnd,
    seen: Option<InstanceId>,
    copy: RecordCopy,
    people: [Person; 2],
}

impl Gateway {
    fn record(&mut self, person: usize, kind: u16, flags: u16, payload: &[u8]) -> bool {
        let person = &self.people[person];
        let header = RecordHeader {
            kind,
            flags,
            partition: 0,
            shard: 0,
            slot: person.slot,
            generation: 1,
            principal: person.principal,
            trace: person.session,
        };
        match self.end.to_backend.claim(payload.len()).unwrap() {
            Claimed::Claimed(mut claim) => {
                claim.payload_mut().copy_from_slice(payload);
                claim.commit(header);
                true
            }
            Claimed::Full => false,
        }
    }

    /// As the real gateway does it: a new backend is told of every living connection.
    fn announce(&mut self) -> bool {
        let now = self.end.backend.instance();
        if now.is_none() || now == self.seen {
            return self.seen.is_some();
        }
        let fresh = self.seen.is_none();
        self.seen = now;
        for person in 0..2 {
            let mut builder = FlatBufferBuilder::new();
            let hello = message::Hello {
                session: self.people[person].session,
                ..message::Hello::default()
            };
            let hello = hello.encode(&mut builder).to_vec();
            let record = bus::OpenedRecord {
                session: self.people[person].session,
                widget: u32::from(person == 0),
                role: self.people[person].role,
                flags: if fresh { 0 } else { bus::OPENED_ANNOUNCED },
                ..bus::OpenedRecord::default()
            };
            let hello = if fresh { &hello[..] } else { &[] };
            let opened = bus::Opened {
                record,
                name: "",
                hello,
            };
            let mut payload = vec![0; opened.bytes()];
            opened.write(&mut payload);
            assert!(self.record(person, bus::OPENED, 0, &payload));
        }
        true
    }

    fn send(&mut self, person: usize, n: u64, text: &str) {
        let mut builder = FlatBufferBuilder::new();
        let conversation = self.people[person].conversation;
        let payload = message::Send {
            n,
            conversation,
            text,
        }
        .encode(&mut builder)
        .to_vec();
        assert!(
            self.record(person, bus::ENVELOPE, Kind::Send as u16, &payload),
            "the ring is large enough"
        );
    }

    /// Reads what came; sends again what was answered `busy`; acknowledges.
    fn read(&mut self) {
        let mut acks = [false; 2];
        let mut copy = std::mem::take(&mut self.copy);
        let mut again = Vec::new();
        while let Read::Record(header) = self.end.to_gateway.next(&mut copy) {
            let position = self.end.to_gateway.position();
            if header.kind == bus::ENVELOPE_DOWN {
                let index = usize::from(header.slot == self.people[1].slot);
                let person = &mut self.people[index];
                let kind = Kind::from_u8(header.flags.to_le_bytes()[0]).unwrap();
                match verify(kind, copy.payload()).unwrap() {
                    View::SendResult(result) => match result.outcome() {
                        fb::SendOutcome::Accepted | fb::SendOutcome::Duplicate => {
                            person.conversation = Id::from(result.conversation());
                            let before = person.accepted.insert(result.n(), result.seq());
                            assert!(
                                before.is_none_or(|seq| seq == result.seq()),
                                "the first answer, always"
                            );
                            person.waiting.remove(&result.n());
                        }
                        fb::SendOutcome::Busy => again.push((index, result.n())),
                        other => panic!(
                            "n {} of {index}: {other:?} {:?}",
                            result.n(),
                            result.detail()
                        ),
                    },
                    View::Message(message) => {
                        person.received = person.received.max(message.seq());
                        person.conversation = Id::from(message.conversation());
                        acks[index] = true;
                    }
                    _ => {}
                }
            }
            self.end.to_gateway.release_to(position);
        }
        self.copy = copy;
        for (index, n) in again {
            if let Some(text) = self.people[index].waiting.get(&n).cloned() {
                self.send(index, n, &text);
            }
        }
        for index in (0..2).filter(|&index| acks[index]) {
            let mut builder = FlatBufferBuilder::new();
            let person = &self.people[index];
            let ack = message::Ack {
                conversation: person.conversation,
                delivered: person.received,
                read: 0,
            };
            let payload = ack.encode(&mut builder).to_vec();
            self.record(index, bus::ENVELOPE, Kind::Ack as u16, &payload);
        }
        self.end.to_backend.ring();
    }

    fn say(&mut self, person: usize) {
        let n = self.people[person].next_n + 1;
        self.people[person].next_n = n;
        let text = format!("{} {n}", if person == 0 { 'v' } else { 'a' });
        self.people[person].waiting.insert(n, text.clone());
        self.send(person, n, &text);
    }

    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !done(self) {
            assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
            if self.announce() {
                self.read();
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

fn prepare(directory: &Path) {
    let config = config(directory);
    std::fs::create_dir_all(&config.data_dir).unwrap();
    let mut store = SqliteStore::open(&StoreOptions::from_config(&config).unwrap()).unwrap();
    let agent = AgentRow {
        site_id: 1,
        id: AGENT,
        login: "a".into(),
        name: "A".into(),
        role: Role::Agent,
        capacity: 3,
        disabled: false,
        password_hash: "x".into(),
        tokens_valid_from_s: 0,
        created_at_us: 1,
    };
    store
        .submit(&WriteSet {
            agents: vec![agent],
            ..WriteSet::default()
        })
        .unwrap();
    store.close().unwrap();
}

/// Chats while the backend dies at `fault` and is started again.
fn story(fault: &str) {
    let directory: PathBuf = tempfile::tempdir().unwrap().keep();
    prepare(&directory);
    let bus_directory = BusDirectory::open_or_create(&config(&directory).bus_dir).unwrap();
    let options = SegmentOptions {
        protocol: bus::BUS_PROTOCOL,
        ..SegmentOptions::default()
    };
    let mut segment = GatewaySegment::create(&bus_directory, &options).unwrap();
    let end = segment.take_shard(0).unwrap();
    let people = [
        Person {
            slot: 1,
            principal: VISITOR.0,
            session: 11,
            role: Role::Visitor.code(),
            ..Person::default()
        },
        Person {
            slot: 2,
            principal: AGENT.0,
            session: 22,
            role: Role::Agent.code(),
            ..Person::default()
        },
    ];
    let mut gateway = Gateway {
        end,
        seen: None,
        copy: RecordCopy::default(),
        people,
    };

    // A first, whole life: the conversation begins and gets its agent.
    let mut backend = start(&directory, None);
    gateway.until("the backend comes", |gateway| {
        gateway.end.backend.instance().is_some()
    });
    gateway.announce();
    gateway.say(0);
    gateway.until("the agent has it", |gateway| {
        gateway.people[1].received >= 2
    });

    for round in 0..3 {
        // The point is passed later each round, so that it is hit in another state.
        let deadly = format!("{fault}:{}", 1 + 7 * round);
        drop(backend);
        backend = start(&directory, Some(&deadly));
        let deadline = Instant::now() + DEADLINE;
        let mut said = 0;
        while backend.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "{deadly} was never passed");
            if gateway.announce() && said < SENDS_PER_ROUND * 20 {
                said += 1;
                gateway.say(0);
                gateway.say(1);
                gateway.read();
            }
            std::thread::sleep(Duration::from_micros(300));
        }
        closed(&directory);
        // What is said while nobody is there is said, too.
        for _ in 0..SENDS_PER_ROUND / 6 {
            gateway.say(0);
            gateway.say(1);
        }
        backend = start(&directory, None);
        gateway.until("every send is answered", |gateway| {
            gateway
                .people
                .iter()
                .all(|person| person.waiting.is_empty())
        });
    }
    let newest = gateway
        .people
        .iter()
        .flat_map(|person| person.accepted.values())
        .max()
        .copied()
        .unwrap();
    gateway.until("everything arrived", |gateway| {
        gateway.people.iter().all(|person| {
            person
                .received
                .max(person.accepted.values().max().copied().unwrap_or(0))
                >= newest
        })
    });
    drop(backend);
    check(&directory, &gateway);
    drop(gateway);
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Every accepted text is delivered, pending or expired, and the counters are what the rows say.
fn closed(directory: &Path) {
    let path = tidegate_backend::store::sqlite::database_path(&config(directory));
    let recount = tidegate_backend::store::recount_at(&path).unwrap();
    recount.check().unwrap();
    assert_eq!(recount.ledger.total().expired, 0);
}

/// The database alone says the same.
fn check(directory: &Path, gateway: &Gateway) {
    let config = config(directory);
    let place = tidegate_backend::store::sqlite::place(&config);
    let connection = place.open_writer().unwrap();
    let sound: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(sound, "ok");
    closed(directory);
    let mut statement = connection
        .prepare("SELECT seq, session, n, text FROM message WHERE content = 0 ORDER BY seq")
        .unwrap();
    let stored: Vec<(i64, i64, i64, String)> = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap()
        .map(Result::unwrap)
        .collect();
    for person in &gateway.people {
        let session = i64::try_from(person.session).unwrap();
        let mine: Vec<_> = stored.iter().filter(|row| row.1 == session).collect();
        let numbers: Vec<u64> = mine
            .iter()
            .map(|row| u64::try_from(row.2).unwrap())
            .collect();
        assert_eq!(
            numbers,
            (1..=person.next_n).collect::<Vec<_>>(),
            "each once, in the order of sending"
        );
        for row in mine {
            let seq = person.accepted[&u64::try_from(row.2).unwrap()];
            assert_eq!(
                u64::try_from(row.0).unwrap(),
                seq,
                "stored where the answer said"
            );
        }
    }
    let total: i64 = connection
        .query_row("SELECT count(*), max(seq) FROM message", [], |row| {
            row.get(0)
        })
        .unwrap();
    let highest: i64 = connection
        .query_row("SELECT max(seq) FROM message", [], |row| row.get(0))
        .unwrap();
    assert_eq!(total, highest, "gapless");
}

macro_rules! points {
    ($($test:ident $point:literal;)*) => {
        $(#[test] fn $test() { story($point); })*
    };
}

points! {
    before_the_first_input_is_applied "turn.before_apply";
    before_the_commit "turn.before_commit";
    after_the_commit "turn.after_commit";
    before_anything_is_published "turn.before_publish";
    after_everything_is_published "turn.after_publish";
    before_ring_space_is_given_back "turn.before_release";
    after_ring_space_is_given_back "turn.after_release";
    before_an_acknowledgement "turn.before_ack";
    with_an_answer_written_but_not_published "commit.before_publish";
    with_an_answer_published_but_not_rung "ring.before_doorbell";
}
