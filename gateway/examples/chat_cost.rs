//! Question: what does the chat cost per message, the sockets aside?
//!
//! One shard's chat over the real rings, sockets that drop what they are given, and the other end of the rings in the
//! same thread: decoding, verification, the record, and back; CPU time of the thread. What went in must come out.
//!
//! ```text
//! cargo run --profile fast -p tidegate-gateway --example chat_cost
//! ```

use std::error::Error;
use std::time::Duration;

use flatbuffers::FlatBufferBuilder;
use shm_bus::{
    BackendSeat, BusDirectory, Claimed, GatewaySegment, Read, RecordCopy, RecordHeader,
    SegmentOptions,
};
use tidegate_gateway::chat::{Chat, Settings};
use tidegate_gateway::service::{
    Codec, ConnectionId, Frame, Message, MessageKind, PeerClass, SendOutcome, Service, SharedFrame,
    Sockets, Taken, Time, Upgrade,
};
use tidegate_protocol::envelope::append_envelope;
use tidegate_protocol::token::{Claims, Key, mint};
use tidegate_protocol::{Id, Kind, bus, fb, message};

type Outcome<T> = Result<T, Box<dyn Error>>;

const START: Time = Time::from_us(1_760_000_000_000_000);
const CONNECTIONS: u32 = 10_000;
const MESSAGES: u32 = 2_000_000;
const BATCH: u32 = 64;

/// Sockets that count.
#[derive(Default)]
struct Nowhere {
    frames: u64,
    bytes: u64,
}

impl Sockets for Nowhere {
    fn now(&self) -> Time {
        START
    }
    fn shard(&self) -> u16 {
        0
    }
    fn send(&mut self, _id: ConnectionId, frame: Frame<'_>) -> SendOutcome {
        let (Frame::Text(bytes) | Frame::Binary(bytes) | Frame::Ping(bytes)) = frame;
        self.frames += 1;
        self.bytes += bytes.len() as u64;
        SendOutcome::Queued
    }
    fn send_shared(&mut self, _id: ConnectionId, frame: &SharedFrame) -> SendOutcome {
        self.frames += 1;
        self.bytes += frame.bytes().len() as u64;
        SendOutcome::Queued
    }
    fn out_bytes(&self, _id: ConnectionId) -> u32 {
        0
    }
    fn room_bytes(&self, _id: ConnectionId) -> u32 {
        u32::MAX
    }
    fn set_class(&mut self, _id: ConnectionId, _class: PeerClass) {}
    fn close(&mut self, id: ConnectionId, code: u16, reason: &str) {
        panic!("{id} closed with {code} {reason}");
    }
    fn set_timer(&mut self, _id: ConnectionId, _at: Time) {}
    fn clear_timer(&mut self, _id: ConnectionId) {}
    fn unpark(&mut self, _id: ConnectionId) {}
    fn release(&mut self, _id: ConnectionId) {}
    fn is_open(&self, _id: ConnectionId) -> bool {
        true
    }
}

fn main() -> Outcome<()> {
    let directory = tempfile::tempdir_in("/dev/shm")?;
    let bus = BusDirectory::open_or_create(directory.path().join("bus"))?;
    let mut segment = GatewaySegment::create(&bus, &SegmentOptions::default())?;
    let end = segment.take_shard(0).ok_or("shard 0")?;
    let mut seat = BackendSeat::take(&bus)?;
    let mut backend = seat.attach(segment.instance())?;
    let key = Key::new([7; 32]);
    let settings = Settings {
        token_key: key.clone(),
        heartbeat_ms_min: 15_000,
        heartbeat_ms_max: 60_000,
        park_ms_max: 2_000,
        held_bytes_max: 1 << 20,
        connections_max: 1 << 16,
        seed: 1,
    };
    let mut chat = Chat::new(settings, end, START);
    let mut io = Nowhere::default();
    for codec in [Codec::Flat, Codec::Json] {
        measure(&mut chat, &mut io, &mut backend.shards[0], codec, &key)?;
    }
    Ok(())
}

fn measure(
    chat: &mut Chat,
    io: &mut Nowhere,
    ports: &mut shm_bus::ShardPorts,
    codec: Codec,
    key: &Key,
) -> Outcome<()> {
    let first_slot = if codec == Codec::Flat { 0 } else { CONNECTIONS };
    let id = |n: u32| ConnectionId {
        shard: 0,
        slot: first_slot + n % CONNECTIONS,
        generation: 1,
    };
    let mut copy = RecordCopy::default();
    let mut builder = FlatBufferBuilder::new();

    let token = token(key);
    let hello = message::Hello {
        token: &token,
        session: 7,
        ..Default::default()
    };
    let hello = encoded(codec, Kind::Hello, hello.encode(&mut builder))?;
    let begun = cpu_time();
    for n in 0..CONNECTIONS {
        let upgrade = Upgrade {
            codec,
            client: "203.0.113.7:1".parse()?,
            origin: None,
        };
        chat.on_upgraded(io, id(n), &upgrade);
        say(chat, io, id(n), codec, &hello);
        if n % BATCH == 0 {
            take_all(ports, &mut copy);
        }
    }
    take_all(ports, &mut copy);
    report(
        codec,
        "hello: token verified, OPENED placed",
        begun,
        CONNECTIONS,
    );

    let text = "请问这件衣服还有中号吗? The blue one, please.".repeat(3);
    let send = message::Send {
        n: 1,
        text: &text,
        ..Default::default()
    };
    let send = encoded(codec, Kind::Send, send.encode(&mut builder))?;
    let (begun, mut taken) = (cpu_time(), 0);
    for n in 0..MESSAGES {
        say(chat, io, id(n), codec, &send);
        if n % BATCH == 0 {
            chat.turn(io);
            taken += take_all(ports, &mut copy);
        }
    }
    taken += take_all(ports, &mut copy);
    report(
        codec,
        &format!("send of {} bytes: verified, placed, taken", send.len()),
        begun,
        MESSAGES,
    );
    if taken != MESSAGES {
        return Err(format!("{taken} of {MESSAGES} messages arrived").into());
    }

    let down = message::Message {
        seq: 7,
        session: 7,
        n: 1,
        text: &text,
        ..Default::default()
    };
    let down = down.encode(&mut builder).to_vec();
    let frames = io.frames;
    let begun = cpu_time();
    for n in 0..MESSAGES {
        let header = RecordHeader {
            kind: bus::ENVELOPE_DOWN,
            flags: Kind::Message as u16,
            slot: id(n).slot,
            generation: 1,
            ..RecordHeader::default()
        };
        let Claimed::Claimed(mut claim) = ports.to_gateway.claim(down.len())? else {
            return Err("a full ring".into());
        };
        claim.payload_mut().copy_from_slice(&down);
        claim.commit(header);
        if n % BATCH == 0 {
            chat.turn(io);
        }
    }
    chat.turn(io);
    report(
        codec,
        "message down: taken, found, encoded",
        begun,
        MESSAGES,
    );
    if io.frames - frames != u64::from(MESSAGES) {
        return Err(format!("{} of {MESSAGES} frames", io.frames - frames).into());
    }
    Ok(())
}

fn say(chat: &mut Chat, io: &mut Nowhere, id: ConnectionId, codec: Codec, payload: &[u8]) {
    let kind = match codec {
        Codec::Flat => MessageKind::Binary,
        Codec::Json => MessageKind::Text,
    };
    chat.on_traffic(io, id);
    assert_eq!(
        chat.on_message(
            io,
            id,
            Message {
                kind,
                payload,
                skip: 0
            }
        ),
        Taken::Yes
    );
}

fn take_all(ports: &mut shm_bus::ShardPorts, copy: &mut RecordCopy) -> u32 {
    let mut taken = 0;
    while let Read::Record(_) = ports.to_backend.next(copy) {
        taken += 1;
    }
    ports.to_backend.release_to(ports.to_backend.position());
    taken
}

fn encoded(codec: Codec, kind: Kind, payload: &[u8]) -> Outcome<Vec<u8>> {
    let mut out = Vec::new();
    match codec {
        Codec::Flat => append_envelope(&mut out, kind, START.us(), payload),
        Codec::Json => {
            let view = tidegate_protocol::verify(kind, payload)?;
            tidegate_protocol::codec::json::encode(&mut out, START.us(), &view);
        }
    }
    Ok(out)
}

fn token(key: &Key) -> String {
    let claims = Claims {
        sub: Id(1),
        role: fb::Role::Visitor,
        wid: 1,
        name: String::new(),
        sid: 1,
        iat: START.s(),
        exp: START.s() + 3_600,
    };
    mint(&claims, key)
}

/// CPU time of this thread: a machine that is busy with something else changes it little.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).expect("the clock of a thread is not negative")
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(codec: Codec, what: &str, begun: Duration, count: u32) {
    let ns = (cpu_time() - begun).as_nanos() as f64 / f64::from(count);
    println!("{codec:?}: {ns:7.0} ns  {what}");
}
