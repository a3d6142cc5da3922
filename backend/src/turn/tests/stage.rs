//! The other side of the rings: gateways whose connections are played by hand, and a store that fails when told.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use flatbuffers::FlatBufferBuilder;
use serde_json::Value;
use shm_bus::{Claimed, Read, RecordCopy, RecordHeader};
use tidegate_protocol::codec::json;
use tidegate_protocol::{Id, Kind, bus, fb, message, verify};

use super::super::careful::{Careful, Suspect};
use super::super::{Stepped, Turn, TurnLimits};
use crate::app::command::{Actor, HttpAnswer, HttpCommand, Refusal};
use crate::app::handle::{TurnHandle, door};
use crate::bus::Bus;
use crate::bus::cold::{COLD_PAGE_MESSAGES_MAX, ColdPage, ColdReader, ColdRequest, FirstAnswer};
use crate::bus::local::{LocalBus, LocalGateway};
use crate::config::Synchronous;
use crate::engine::effect::Repeat;
use crate::engine::kinds::Role;
use crate::engine::ledger::Ledger;
use crate::engine::loaded::{
    Loaded, LoadedConversation, OldKeys, OldMessages, Pending, Sent, Synthetic,
};
use crate::engine::rows::{AgentRow, IdempotencyKeyRow, SessionLastRow, VisitorRow};
use crate::engine::write_set::WriteSet;
use crate::engine::{Engine, Rules};
use crate::journal::{Beginning, Journal, JournalBounds, Mask};
use crate::store::load::LoadBounds;
use crate::store::open::Place;
use crate::store::read::{Direction, Reader};
use crate::store::{CommitError, Index, SqliteStore, Store, StoreError, StoreOptions};

/// 2026-11-21 12:00 UTC.
pub const START_US: u64 = 1_795_262_400_000_000;

/// The real store, whose next commits fail as told.
pub struct FaultyStore {
    store: SqliteStore,
    pub faults: Rc<RefCell<VecDeque<Option<CommitError>>>>,
}

impl Store for FaultyStore {
    fn submit(&mut self, writes: &WriteSet) -> Result<Index, CommitError> {
        match self.faults.borrow_mut().pop_front().flatten() {
            Some(fault) => Err(fault),
            None => self.store.submit(writes),
        }
    }

    fn durable(&self) -> Index {
        self.store.durable()
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.store.load()
    }

    fn session(
        &mut self,
        principal: Id,
        session: u64,
    ) -> Result<Option<SessionLastRow>, StoreError> {
        self.store.session(principal, session)
    }

    fn sent(&mut self, principal: Id, session: u64, n: u64) -> Result<Option<Sent>, StoreError> {
        self.store.sent(principal, session, n)
    }

    fn walk_back(
        &mut self,
        conversation: Id,
        rows_max: u32,
        tell: &mut dyn FnMut(Id, u64, u64, Sent),
    ) -> Result<(), StoreError> {
        self.store.walk_back(conversation, rows_max, tell)
    }

    fn idempotency_key(
        &mut self,
        principal: Id,
        key_hash: u128,
    ) -> Result<Option<IdempotencyKeyRow>, StoreError> {
        self.store.idempotency_key(principal, key_hash)
    }

    fn conversation(&mut self, id: Id) -> Result<Option<LoadedConversation>, StoreError> {
        self.store.conversation(id)
    }

    fn visitor(&mut self, id: Id) -> Result<Option<VisitorRow>, StoreError> {
        self.store.visitor(id)
    }

    fn pending(&mut self, conversation: Id, above: u64, up_to: u64) -> Result<Pending, StoreError> {
        self.store.pending(conversation, above, up_to)
    }

    fn old_messages(&mut self, after: Id, before_us: u64) -> Result<OldMessages, StoreError> {
        self.store.old_messages(after, before_us)
    }

    fn old_keys(&mut self, after: (Id, u128), before_us: u64) -> Result<OldKeys, StoreError> {
        self.store.old_keys(after, before_us)
    }

    fn synthetic(&mut self) -> Result<Synthetic, StoreError> {
        self.store.synthetic()
    }

    fn close(self) -> Result<(), StoreError> {
        self.store.close()
    }
}

/// Reads pages at once, on this thread.
pub struct DirectReader {
    reader: Reader,
    pages: VecDeque<ColdPage>,
    answers: VecDeque<FirstAnswer>,
}

impl ColdReader for DirectReader {
    fn search(&mut self, repeat: Repeat) -> bool {
        let Repeat {
            principal,
            session,
            n,
            conversation,
            ..
        } = repeat;
        let found = self
            .reader
            .sent(principal, session, n, conversation)
            .unwrap();
        self.answers.push_back((repeat, found));
        true
    }

    fn take_first_answer(&mut self) -> Option<FirstAnswer> {
        self.answers.pop_front()
    }

    fn request(&mut self, request: ColdRequest) -> bool {
        let page = self
            .reader
            .history(
                request.id,
                Direction::After(request.after),
                COLD_PAGE_MESSAGES_MAX,
            )
            .unwrap();
        self.pages.push_back(ColdPage {
            request: Some(request),
            messages: page.messages,
            text: page.text,
        });
        true
    }

    fn take(&mut self) -> Option<ColdPage> {
        self.pages.pop_front()
    }

    fn is_ready(&self) -> bool {
        !self.pages.is_empty() || !self.answers.is_empty()
    }
}

pub type TestTurn = Turn<FaultyStore, LocalBus, DirectReader>;

/// One connection, played by hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    pub gateway: usize,
    pub slot: u32,
    pub generation: u32,
    pub principal: Id,
    pub session: u64,
    pub connection: u32,
    pub role: Role,
    pub name: String,
    pub token_issued_at_s: u64,
}

/// Everything.
pub struct Stage {
    pub directory: tempfile::TempDir,
    pub bus: LocalBus,
    pub gateways: Vec<LocalGateway>,
    pub turn: Option<TestTurn>,
    pub handle: Option<TurnHandle>,
    pub rules: Rules,
    pub limits: TurnLimits,
    pub now_us: u64,
    pub seed: u64,
    pub faults: Rc<RefCell<VecDeque<Option<CommitError>>>>,
    pub suspect: Option<Suspect>,
    pub journal: Option<PathBuf>,
    pub journal_bounds: JournalBounds,
    pub journal_masked: bool,
    /// Per (gateway, slot, generation): kinds and contents, in order.
    inbox: HashMap<(usize, u32, u32), Vec<(String, Value)>>,
    pub broadcasts: Vec<(String, Value)>,
    pub closes: Vec<(u32, u16)>,
    next_slot: u32,
    incarnation_random: u64,
}

pub fn agent_row(id: u128, role: Role, capacity: u32) -> AgentRow {
    AgentRow {
        site_id: 1,
        id: Id(id),
        login: format!("agent{id}"),
        name: format!("Agent {id}"),
        role,
        capacity,
        disabled: false,
        password_hash: "x".into(),
        tokens_valid_from_s: 0,
        created_at_us: START_US,
    }
}

fn store_options(database: PathBuf, now_us: u64, random: u64) -> StoreOptions {
    StoreOptions {
        place: Place {
            path: database,
            vfs: None,
            busy_ms_max: 50,
            cache_bytes: 1 << 20,
            mmap_bytes: 0,
        },
        synchronous: Synchronous::Normal,
        wal_bytes_max: 64 << 20,
        checkpoint_every_ms: 0,
        bounds: LoadBounds {
            window_bytes_max: 1 << 20,
            sessions_max: 1_000,
        },
        outbox_rows_max: 1_000,
        site_id: 1,
        now_us,
        random,
        boot_id: "test".into(),
    }
}

impl Stage {
    /// One gateway of one shard; agents 1 and 2 of capacity 3, supervisor 9 of capacity 0.
    pub fn new() -> Self {
        Self::with(Rules {
            window_bytes_max: 256 << 10,
            sessions_max: 100_000,
            ..Rules::default()
        })
    }

    pub fn with(rules: Rules) -> Self {
        let mut stage = Self {
            directory: tempfile::tempdir().unwrap(),
            bus: LocalBus::default(),
            gateways: Vec::new(),
            turn: None,
            handle: None,
            rules,
            limits: TurnLimits {
                record_bytes_max: 64 << 10,
                ..TurnLimits::default()
            },
            now_us: START_US,
            seed: 7,
            faults: Rc::default(),
            suspect: None,
            journal: None,
            journal_bounds: JournalBounds {
                file_bytes_max: 1 << 20,
                bytes_max: 64 << 20,
            },
            journal_masked: false,
            inbox: HashMap::new(),
            broadcasts: Vec::new(),
            closes: Vec::new(),
            next_slot: 0,
            incarnation_random: 42,
        };
        stage.start_gateway(1 << 20);
        stage.start();
        for (id, role, capacity) in [
            (1, Role::Agent, 3),
            (2, Role::Agent, 3),
            (9, Role::Supervisor, 0),
        ] {
            stage
                .ask(HttpCommand::PutAgent {
                    agent: agent_row(id, role, capacity),
                })
                .unwrap();
        }
        stage
    }

    pub fn start_gateway(&mut self, ring_bytes: usize) -> usize {
        let instance = 100 + self.gateways.len() as u64;
        self.gateways.push(
            self.bus
                .start_gateway(instance, 1, ring_bytes, ring_bytes / 4)
                .unwrap(),
        );
        self.gateways.len() - 1
    }

    pub fn database(&self) -> PathBuf {
        self.directory.path().join("tidegate.db")
    }

    /// Starts a backend over what the last one left.
    pub fn start(&mut self) {
        let options = store_options(self.database(), self.now_us, self.incarnation_random);
        let masked = self.journal_masked;
        let mut mask = masked.then(|| Mask::new(b"secret"));
        let beginning = self
            .journal
            .as_ref()
            .map(|path| Beginning::look(path, &options.place, "test", mask.as_mut()).unwrap());
        let mut store = SqliteStore::open(&options).unwrap();
        let loaded = store.load().unwrap();
        let started_us = self.now_us.max(loaded.clock_floor_us + 1);
        let cursors = loaded.ring_cursors.clone();
        let reader = DirectReader {
            reader: Reader::new(store.place().open_reader().unwrap(), 1),
            pages: VecDeque::new(),
            answers: VecDeque::new(),
        };
        let journal = beginning.map(|beginning| {
            let began = (&options, &self.rules, &loaded);
            Journal::begin(&beginning, self.journal_bounds, mask, began, started_us).unwrap()
        });
        let engine = Engine::new(self.rules.clone(), loaded, started_us);
        let (handle, turn_door) = door(Arc::new(|| {}), 64);
        let store = FaultyStore {
            store,
            faults: Rc::clone(&self.faults),
        };
        let bus = Bus::new(self.bus.clone(), reader, &cursors);
        let mut turn = Turn::new(engine, bus, store, turn_door, self.limits.clone());
        turn.set_careful(Careful::after(self.suspect.take()));
        if let Some(journal) = journal {
            turn.set_journal(journal);
        }
        self.turn = Some(turn);
        self.handle = Some(handle);
    }

    /// As kill -9 does it: memory is gone, rings and database stay.
    pub fn kill(&mut self) {
        self.turn = None;
        self.handle = None;
    }

    pub fn restart(&mut self) {
        self.kill();
        self.start();
    }

    pub fn turn(&mut self) -> &mut TestTurn {
        self.turn.as_mut().unwrap()
    }

    pub fn step(&mut self) -> Stepped {
        self.seed += 1;
        let (now_us, seed) = (self.now_us, self.seed);
        self.turn().step(now_us, seed)
    }

    /// Steps until there is nothing to do, and reads what came out.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let stepped = self.step();
            self.read_all();
            match stepped {
                Stepped::Worked => {}
                Stepped::Idle { .. } => return,
                Stepped::Broken(error) => panic!("the turn broke: {error}"),
            }
        }
        panic!("it never settles");
    }

    /// What is there is taken; then time passes.
    pub fn pass(&mut self, ms: u64) {
        self.settle();
        self.now_us += ms * 1_000;
        self.settle();
    }

    /// Asks over HTTP and settles.
    pub fn ask(&mut self, command: HttpCommand) -> Result<HttpAnswer, Refusal> {
        let mut answer = self.ask_later(command);
        self.settle();
        answer.try_recv().expect("answered when settled")
    }

    pub fn ask_later(
        &mut self,
        command: HttpCommand,
    ) -> tokio::sync::oneshot::Receiver<Result<HttpAnswer, Refusal>> {
        self.handle.as_ref().unwrap().ask(command).unwrap()
    }

    pub fn visitor(&mut self, principal: u128, session: u64) -> Client {
        self.client(
            0,
            Id(1_000 + principal),
            session,
            Role::Visitor,
            &format!("V{principal}"),
        )
    }

    pub fn agent(&mut self, principal: u128) -> Client {
        self.client(
            0,
            Id(principal),
            50 + u64::try_from(principal).unwrap(),
            Role::Agent,
            "",
        )
    }

    pub fn client(
        &mut self,
        gateway: usize,
        principal: Id,
        session: u64,
        role: Role,
        name: &str,
    ) -> Client {
        self.next_slot += 1;
        Client {
            gateway,
            slot: self.next_slot,
            generation: 1,
            principal,
            session,
            connection: 0,
            role,
            name: name.into(),
            token_issued_at_s: START_US / 1_000_000,
        }
    }

    fn record(&mut self, client: &Client, kind: u16, flags: u16, payload: &[u8]) -> bool {
        let producer = &mut self.gateways[client.gateway].shards[0].to_backend;
        let Claimed::Claimed(mut claim) = producer.claim(payload.len()).unwrap() else {
            return false;
        };
        claim.payload_mut().copy_from_slice(payload);
        claim.commit(RecordHeader {
            kind,
            flags,
            partition: 0,
            shard: 0,
            slot: client.slot,
            generation: client.generation,
            principal: client.principal.0,
            trace: client.session,
        });
        true
    }

    pub fn open(&mut self, client: &Client, cursors: &[message::Cursor]) {
        let mut builder = FlatBufferBuilder::new();
        let hello = message::Hello {
            request: 5,
            session: client.session,
            cursors,
            page: "https://shop.example/item",
            locale: "zh-CN",
            ..message::Hello::default()
        };
        let hello = hello.encode(&mut builder).to_vec();
        self.opened(client, &hello, 0);
    }

    pub fn announce(&mut self, client: &Client) {
        self.opened(client, &[], bus::OPENED_ANNOUNCED);
    }

    fn opened(&mut self, client: &Client, hello: &[u8], flags: u8) {
        let opened = bus::Opened {
            record: bus::OpenedRecord {
                session: client.session,
                connection: client.connection,
                request: 5,
                issued_at_s: client.token_issued_at_s,
                widget: u32::from(client.role == Role::Visitor),
                role: client.role.code(),
                flags,
                ..bus::OpenedRecord::default()
            },
            name: &client.name,
            hello,
        };
        let mut payload = vec![0; opened.bytes()];
        opened.write(&mut payload);
        assert!(self.record(client, bus::OPENED, 0, &payload));
    }

    pub fn close(&mut self, client: &Client) {
        self.record(client, bus::CLOSED, 0, &[0; 4]);
    }

    pub fn send(&mut self, client: &Client, n: u64, conversation: Id, text: &str) {
        assert!(
            self.try_send(client, n, conversation, text),
            "the ring is full"
        );
    }

    pub fn try_send(&mut self, client: &Client, n: u64, conversation: Id, text: &str) -> bool {
        let mut builder = FlatBufferBuilder::new();
        let payload = message::Send {
            n,
            conversation,
            text,
        }
        .encode(&mut builder)
        .to_vec();
        self.record(client, bus::ENVELOPE, Kind::Send as u16, &payload)
    }

    pub fn ack(&mut self, client: &Client, conversation: Id, delivered: u64, read: u64) {
        let mut builder = FlatBufferBuilder::new();
        let payload = message::Ack {
            conversation,
            delivered,
            read,
        }
        .encode(&mut builder)
        .to_vec();
        self.record(client, bus::ENVELOPE, Kind::Ack as u16, &payload);
    }

    pub fn type_in(&mut self, client: &Client, conversation: Id) {
        let mut builder = FlatBufferBuilder::new();
        let payload = message::Typing {
            conversation,
            active: true,
        }
        .encode(&mut builder)
        .to_vec();
        self.record(client, bus::ENVELOPE, Kind::Typing as u16, &payload);
    }

    pub fn command(&mut self, client: &Client, command: message::Command) {
        let mut builder = FlatBufferBuilder::new();
        let payload = command.encode(&mut builder).to_vec();
        self.record(client, bus::ENVELOPE, Kind::Command as u16, &payload);
    }

    pub fn raw(&mut self, client: &Client, kind: Kind, payload: &[u8]) {
        self.record(client, bus::ENVELOPE, kind as u16, payload);
    }

    /// Opens, settles, and gives the Welcome.
    pub fn enter(&mut self, client: &Client) -> Value {
        self.open(client, &[]);
        self.settle();
        self.take(client, "welcome").pop().expect("a Welcome")
    }

    /// Reads what the backend wrote to all gateways.
    pub fn read_all(&mut self) {
        for gateway in 0..self.gateways.len() {
            self.read_gateway(gateway);
        }
    }

    pub fn read_gateway(&mut self, gateway: usize) {
        let mut copy = RecordCopy::default();
        loop {
            let consumer = &mut self.gateways[gateway].shards[0].to_gateway;
            let Read::Record(header) = consumer.next(&mut copy) else {
                break;
            };
            let position = consumer.position();
            consumer.release_to(position);
            self.receive(gateway, &header, copy.payload());
        }
    }

    fn receive(&mut self, gateway: usize, header: &RecordHeader, payload: &[u8]) {
        let key = (gateway, header.slot, header.generation);
        match header.kind {
            bus::ENVELOPE_DOWN => {
                let envelope = shown(header.flags, payload);
                self.inbox.entry(key).or_default().push(envelope);
            }
            bus::BROADCAST => self.broadcasts.push(shown(header.flags, &payload[8..])),
            bus::CLOSE => {
                let (record, _) = bus::read_fixed::<bus::CloseRecord>(payload).unwrap();
                self.closes.push((header.slot, record.code));
            }
            other => panic!("a record of kind {other}"),
        }
    }

    /// Takes what a connection got of one kind; the rest stays.
    pub fn take(&mut self, client: &Client, kind: &str) -> Vec<Value> {
        let inbox = self
            .inbox
            .entry((client.gateway, client.slot, client.generation))
            .or_default();
        let (taken, rest) = std::mem::take(inbox)
            .into_iter()
            .partition(|(found, _)| found == kind);
        *inbox = rest;
        Vec::into_iter(taken).map(|(_, value)| value).collect()
    }

    /// Everything a connection got, in order.
    pub fn take_all(&mut self, client: &Client) -> Vec<(String, Value)> {
        self.inbox
            .remove(&(client.gateway, client.slot, client.generation))
            .unwrap_or_default()
    }

    /// Places and tickets of the newest word to all who wait in the queue.
    pub fn newest_marks(&self) -> Vec<(u64, u64)> {
        let newest = self.broadcasts.iter().rev().find_map(|(kind, update)| {
            update["marks"]
                .as_array()
                .filter(|_| kind == "queue_update")
        });
        let marks = newest.expect("somebody was told");
        let mark = |mark| (number(mark, "place"), number(mark, "ticket"));
        marks.iter().map(mark).collect()
    }

    /// Seqs of the Messages that a connection got.
    pub fn seqs(&mut self, client: &Client) -> Vec<u64> {
        self.take(client, "message")
            .iter()
            .map(|message| number(message, "seq"))
            .collect()
    }

    /// The ledger in memory, after comparing it with one counted from the rows alone.
    pub fn ledger(&mut self) -> Ledger {
        self.pass(200);
        let recount = self.turn().store.store.recount().unwrap();
        let kept = self.turn().engine().ledger();
        assert_eq!(
            kept, recount.ledger,
            "the ledger in memory is the one of the rows"
        );
        recount.check().unwrap();
        kept
    }
}

fn shown(flags: u16, payload: &[u8]) -> (String, Value) {
    let kind = Kind::from_u8(flags.to_le_bytes()[0]).unwrap();
    // Alignment of what was read out of a ring is the copy's.
    let view = verify(kind, payload).unwrap();
    let mut text = Vec::new();
    json::encode(&mut text, 0, &view);
    (
        kind.name().to_owned(),
        serde_json::from_slice(&text).unwrap(),
    )
}

/// A number that JSON leaves out when it is zero.
pub fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or(0)
}

/// What became of a send.
pub fn outcome(result: &Value) -> &str {
    result["outcome"].as_str().unwrap_or("accepted")
}

/// An id that JSON leaves out when it is absent.
pub fn id(value: &Value, field: &str) -> Id {
    value
        .get(field)
        .and_then(Value::as_str)
        .map_or(Id::ABSENT, |text| text.parse().unwrap())
}

pub fn actor(client: &Client) -> Actor {
    let widget = u32::from(client.role == Role::Visitor);
    Actor {
        id: client.principal,
        role: client.role,
        name: client.name.clone(),
        widget,
    }
}

pub fn close_command(conversation: Id) -> message::Command {
    message::Command {
        request: 77,
        op: fb::CommandOp::Close,
        conversation,
        ..message::Command::default()
    }
}
