//! The other side, for the chat's tests: a gateway with its bus in a directory of its own, clients that speak JSON,
//! and a backend double that runs one room: who is in it hears everybody.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use shm_bus::{
    AttachedGateway, BackendSeat, BusDirectory, Claimed, Read, RecordCopy, RecordHeader,
};
use tempfile::TempDir;
use tidegate_gateway::{Config, ExitReason, Handle, Inherited, StartError};
use tidegate_protocol::bus::{self, CloseRecord, Opened};
use tidegate_protocol::token::{self, Claims, Key};
use tidegate_protocol::{Id, Kind, View, fb, message, verify};
use zerocopy::IntoBytes as _;

use crate::support::{Client, Heard, PATIENCE, request, wait_for};

pub const KEY: [u8; 32] = [7; 32];

/// A chat gateway of one shard, in a thread of the test.
pub struct Gateway {
    pub handle: Handle,
    pub bus_dir: PathBuf,
    address: std::net::SocketAddr,
    pub admin: std::net::SocketAddr,
    thread: Option<JoinHandle<Result<ExitReason, StartError>>>,
    _directory: TempDir,
}

impl Gateway {
    pub fn start(change: impl FnOnce(&mut Config)) -> Gateway {
        let directory = tempfile::tempdir().expect("a directory");
        let bus_dir = directory.path().join("bus");
        let token_key_file = directory.path().join("token.key");
        std::fs::write(&token_key_file, Key::new(KEY).to_hex()).expect("written");
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config {
            listen: any,
            admin_listen: Some(any),
            shards: 1,
            bus_dir: bus_dir.clone(),
            token_key_file,
            ring_bytes: 256 << 10,
            drain_ms: 500,
            ..Config::default()
        };
        change(&mut config);
        let handle = Handle::new().expect("descriptors");
        let runs = handle.clone();
        let thread =
            std::thread::spawn(move || tidegate_gateway::run(config, Inherited::default(), &runs));
        wait_for("the gateway listens", || {
            assert!(!thread.is_finished(), "the gateway did not start");
            handle.wait_bound(Duration::from_millis(50)).is_some()
        });
        let bound = handle.wait_bound(PATIENCE).expect("it listens");
        Gateway {
            handle,
            bus_dir,
            address: bound.listen,
            admin: bound.admin.expect("configured"),
            thread: Some(thread),
            _directory: directory,
        }
    }

    /// A connected person who said nothing yet.
    pub fn person(&self) -> Person {
        let mut client = Client::raw(self.address);
        client.write(&request("Sec-WebSocket-Protocol: tidegate.v1.json\r\n"));
        client.upgraded();
        Person { client }
    }

    /// A person who said Hello.
    pub fn greeted(&self, principal: u128, session: u64) -> Person {
        let mut person = self.person();
        person.hello(principal, session);
        person
    }

    /// A person whom the backend welcomed.
    pub fn welcomed(&self, principal: u128, session: u64) -> Person {
        let mut person = self.greeted(principal, session);
        person.expect("welcome");
        person
    }

    pub fn join(&mut self) -> ExitReason {
        let thread = self.thread.take().expect("not joined before");
        thread.join().expect("no panic").expect("no error")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.handle.drain();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A client that speaks JSON.
pub struct Person {
    pub client: Client,
}

pub fn token_for(principal: u128) -> String {
    let now_s = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs();
    let claims = Claims {
        sub: Id(principal),
        role: fb::Role::Visitor,
        wid: 1,
        name: String::new(),
        sid: 1,
        iat: now_s,
        exp: now_s + 3_600,
    };
    token::mint(&claims, &Key::new(KEY))
}

impl Person {
    pub fn say(&mut self, json: &str) {
        self.client.text(json);
    }

    pub fn hello(&mut self, principal: u128, session: u64) {
        let token = token_for(principal);
        self.say(&format!(
            r#"{{"kind":"hello","request":1,"token":"{token}","session":"{session:016x}"}}"#
        ));
    }

    pub fn send(&mut self, n: u64, text: &str) {
        self.say(&format!(r#"{{"kind":"send","n":{n},"text":"{text}"}}"#));
    }

    /// The next message, without its time. Pings of the gateway are no messages.
    pub fn hear(&mut self) -> String {
        loop {
            match self.client.hear() {
                Heard::Text(bytes) => return without_ts(&String::from_utf8(bytes).expect("UTF-8")),
                Heard::Ping(_) => {}
                other => panic!("expected a message, heard {other:?}"),
            }
        }
    }

    /// The next message, which must be of this kind.
    pub fn expect(&mut self, kind: &str) -> String {
        let heard = self.hear();
        assert!(
            heard.starts_with(&format!(r#"{{"kind":"{kind}""#)),
            "expected {kind}, heard {heard}"
        );
        heard
    }

    /// The acceptance of Send `n` under `seq`, which must be next.
    pub fn expect_sent(&mut self, n: u64, seq: u64) {
        let heard = self.expect("send_result");
        assert!(
            heard.contains(&format!(r#""n":{n},"#)) && heard.contains(&format!(r#""seq":{seq}"#)),
            "{heard}"
        );
        assert!(!heard.contains("busy"), "{heard}");
    }

    /// This message, which must be next.
    pub fn expect_message(&mut self, seq: u64, text: &str) {
        let heard = self.expect("message");
        assert!(
            heard.contains(&format!(r#""seq":{seq},"#))
                && heard.contains(&format!(r#""text":"{text}""#)),
            "{heard}"
        );
    }

    /// A Ping and its answer, which must be next.
    pub fn ping(&mut self, request: u64) {
        self.say(&format!(r#"{{"kind":"ping","request":{request}}}"#));
        assert_eq!(
            self.hear(),
            format!(r#"{{"kind":"pong","request":{request}}}"#)
        );
    }
}

fn without_ts(json: &str) -> String {
    let Some((before, rest)) = json.split_once(",\"ts\":") else {
        return json.to_owned();
    };
    let after = rest.find([',', '}']).expect("a number ends");
    format!("{before}{}", &rest[after..])
}

/// What a backend took, for the story to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct Took {
    pub header: RecordHeader,
    pub announced: bool,
}

/// A backend double in a thread of the test: welcomes who opens, accepts what is sent, and passes it on to everybody
/// else in the room. Dropped, it dies without a word: what it did not release stays in the ring.
pub struct Backend {
    pub took: Arc<Mutex<Vec<Took>>>,
    switches: Arc<Switches>,
    orders: std::sync::mpsc::Sender<Order>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Switches {
    dead: AtomicBool,
    paused: AtomicBool,
}

/// Something that the story has the backend do.
pub enum Order {
    Close {
        slot: u32,
        generation: u32,
        code: u16,
    },
    Receipt {
        slot: u32,
        generation: u32,
        delivered: u64,
    },
}

impl Backend {
    pub fn start(bus_dir: &Path) -> Backend {
        let bus = BusDirectory::open_or_create(bus_dir).expect("a bus");
        let seat = BackendSeat::take_for(&bus, tidegate_protocol::bus::BUS_PROTOCOL)
            .expect("the seat is free");
        let (orders, ordered) = std::sync::mpsc::channel();
        let (took, switches) = (
            Arc::<Mutex<Vec<Took>>>::default(),
            Arc::<Switches>::default(),
        );
        let room = Room {
            took: Arc::clone(&took),
            people: Vec::new(),
            seq: 0,
        };
        let read = Arc::clone(&switches);
        let thread = std::thread::spawn(move || serve(seat, room, &read, &ordered));
        Backend {
            took,
            switches,
            orders,
            thread: Some(thread),
        }
    }

    /// Takes nothing from its rings until [`Backend::resume`].
    pub fn pause(&self) {
        self.switches.paused.store(true, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(20));
    }

    pub fn resume(&self) {
        self.switches.paused.store(false, Ordering::SeqCst);
    }

    pub fn order(&self, order: Order) {
        self.orders.send(order).expect("the backend lives");
    }

    pub fn count(&self, is_counted: impl Fn(&Took) -> bool) -> usize {
        self.took
            .lock()
            .expect("no panic")
            .iter()
            .filter(|took| is_counted(took))
            .count()
    }

    /// The last connection that opened.
    pub fn last_opened(&self) -> RecordHeader {
        let took = self.took.lock().expect("no panic");
        took.iter()
            .rev()
            .find(|took| took.header.kind == bus::OPENED)
            .expect("somebody opened")
            .header
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.switches.dead.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut seat: BackendSeat,
    mut room: Room,
    switches: &Switches,
    ordered: &std::sync::mpsc::Receiver<Order>,
) {
    let mut gateways: Vec<AttachedGateway> = Vec::new();
    let mut copy = RecordCopy::default();
    while !switches.dead.load(Ordering::SeqCst) {
        for instance in seat.discover().expect("a readable bus") {
            gateways.push(seat.attach(instance).expect("a sound segment"));
        }
        for gateway in &mut gateways {
            let ports = &mut gateway.shards[0];
            for order in ordered.try_iter() {
                obey(&mut ports.to_gateway, &order);
            }
            while !switches.paused.load(Ordering::SeqCst) {
                let Read::Record(header) = ports.to_backend.next(&mut copy) else {
                    break;
                };
                room.take(&mut ports.to_gateway, header, copy.payload());
                ports.to_backend.release_to(ports.to_backend.position());
            }
            ports.to_gateway.ring();
        }
        seat.bell().prepare();
        seat.bell().sleep(Duration::from_millis(2));
    }
}

fn obey(to_gateway: &mut shm_bus::Producer, order: &Order) {
    match *order {
        Order::Close {
            slot,
            generation,
            code,
        } => {
            let record = CloseRecord {
                code,
                reserved: 0,
                retry_ms: 0,
            };
            let header = RecordHeader {
                kind: bus::CLOSE,
                slot,
                generation,
                ..RecordHeader::default()
            };
            place(to_gateway, header, record.as_bytes());
        }
        Order::Receipt {
            slot,
            generation,
            delivered,
        } => {
            let receipt = message::Receipt {
                delivered,
                ..Default::default()
            };
            let payload = receipt
                .encode(&mut flatbuffers::FlatBufferBuilder::new())
                .to_vec();
            place(to_gateway, down(Kind::Receipt, slot, generation), &payload);
        }
    }
}

struct Room {
    took: Arc<Mutex<Vec<Took>>>,
    people: Vec<(u32, u32)>,
    seq: u64,
}

impl Room {
    fn take(&mut self, to_gateway: &mut shm_bus::Producer, header: RecordHeader, payload: &[u8]) {
        let place_of = (header.slot, header.generation);
        let mut announced = false;
        match header.kind {
            bus::OPENED => {
                let opened = Opened::read(payload).expect("a whole OPENED");
                announced = opened.record.flags == bus::OPENED_ANNOUNCED;
                if !self.people.contains(&place_of) {
                    self.people.push(place_of);
                }
                if !announced {
                    let welcome = message::Welcome {
                        request: opened.record.request,
                        heartbeat_ms: opened.record.heartbeat_ms,
                        ..Default::default()
                    };
                    let payload = welcome
                        .encode(&mut flatbuffers::FlatBufferBuilder::new())
                        .to_vec();
                    place(
                        to_gateway,
                        down(Kind::Welcome, header.slot, header.generation),
                        &payload,
                    );
                }
            }
            bus::CLOSED => self.people.retain(|person| *person != place_of),
            bus::ENVELOPE if header.flags == Kind::Send as u16 => {
                self.pass_on(to_gateway, header, payload)
            }
            _ => {}
        }
        self.took
            .lock()
            .expect("no panic")
            .push(Took { header, announced });
    }

    fn pass_on(
        &mut self,
        to_gateway: &mut shm_bus::Producer,
        header: RecordHeader,
        payload: &[u8],
    ) {
        let Ok(View::Send(send)) = verify(Kind::Send, payload) else {
            panic!("the gateway verified it")
        };
        self.seq += 1;
        let result = message::SendResult {
            n: send.n(),
            seq: self.seq,
            ..Default::default()
        };
        let result = result
            .encode(&mut flatbuffers::FlatBufferBuilder::new())
            .to_vec();
        place(
            to_gateway,
            down(Kind::SendResult, header.slot, header.generation),
            &result,
        );
        let passed = message::Message {
            seq: self.seq,
            text: send.text().unwrap_or(""),
            ..Default::default()
        };
        let passed = passed
            .encode(&mut flatbuffers::FlatBufferBuilder::new())
            .to_vec();
        let targets: Vec<_> = self
            .people
            .iter()
            .filter(|&&person| person != (header.slot, header.generation))
            .map(|&(slot, generation)| bus::MulticastTarget { slot, generation })
            .collect();
        let mut bytes = vec![0; bus::multicast_bytes(targets.len(), passed.len())];
        bus::write_multicast(&mut bytes, &targets, &passed);
        let header = RecordHeader {
            kind: bus::MULTICAST,
            ..down(Kind::Message, 0, 0)
        };
        place(to_gateway, header, &bytes);
    }
}

fn down(kind: Kind, slot: u32, generation: u32) -> RecordHeader {
    RecordHeader {
        kind: bus::ENVELOPE_DOWN,
        flags: kind as u16,
        slot,
        generation,
        trace: 1,
        ..RecordHeader::default()
    }
}

fn place(to_gateway: &mut shm_bus::Producer, header: RecordHeader, payload: &[u8]) {
    wait_for("room in to_gateway", || {
        match to_gateway.claim(payload.len()) {
            Ok(Claimed::Claimed(mut claim)) => {
                claim.payload_mut().copy_from_slice(payload);
                claim.commit(header);
                true
            }
            Ok(Claimed::Full) => {
                to_gateway.ring();
                false
            }
            Err(error) => panic!("{error}"),
        }
    });
}
