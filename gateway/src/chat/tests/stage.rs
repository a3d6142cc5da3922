//! The stage: one chat between sockets that remember everything and a backend that does what the story says.

use std::collections::HashMap;

use super::super::{Chat, Settings};
use crate::service::{
    CloseCause, Codec, ConnectionId, Frame, Message, MessageKind, PeerClass, SendOutcome, Service,
    SharedFrame, Sockets, Span, Taken, Time, Told, Upgrade,
};
use shm_bus::{
    AttachedGateway, BackendSeat, BusDirectory, Claimed, GatewaySegment, Read, RecordCopy,
    RecordHeader, SegmentOptions,
};
use tempfile::TempDir;
use tidegate_protocol::bus::{self, Opened};
use tidegate_protocol::codec::json;
use tidegate_protocol::envelope::{BatchReader, append_envelope};
use tidegate_protocol::token::{self, Claims, Key};
use tidegate_protocol::{Id, Kind, fb, message, verify};

pub const START: Time = Time::from_us(1_760_000_000_000_000);
pub const VISITOR: Id = Id(0xA11CE);
pub const AGENT: Id = Id(0xB0B);

/// Sockets that remember.
#[derive(Default)]
pub struct Memory {
    pub now: Time,
    pub frames: Vec<(ConnectionId, bool, Vec<u8>)>,
    pub pings: Vec<ConnectionId>,
    pub closes: Vec<(ConnectionId, u16, String)>,
    pub timers: HashMap<ConnectionId, Time>,
    pub unparked: Vec<ConnectionId>,
    pub released: Vec<ConnectionId>,
    pub classes: HashMap<ConnectionId, PeerClass>,
    pub shared: Vec<*const u8>,
}

impl Memory {
    fn is_closing(&self, id: ConnectionId) -> bool {
        self.closes.iter().any(|(closed, ..)| *closed == id)
    }
}

impl Sockets for Memory {
    fn now(&self) -> Time {
        self.now
    }
    fn shard(&self) -> u16 {
        0
    }
    fn send(&mut self, id: ConnectionId, frame: Frame<'_>) -> SendOutcome {
        if self.is_closing(id) {
            return SendOutcome::NotOpen;
        }
        match frame {
            Frame::Text(bytes) => self.frames.push((id, true, bytes.to_vec())),
            Frame::Binary(bytes) => self.frames.push((id, false, bytes.to_vec())),
            Frame::Ping(_) => self.pings.push(id),
        }
        SendOutcome::Queued
    }
    fn send_shared(&mut self, id: ConnectionId, frame: &SharedFrame) -> SendOutcome {
        if self.is_closing(id) {
            return SendOutcome::NotOpen;
        }
        let bytes = frame.bytes();
        let header_bytes = match bytes[1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        self.shared.push(bytes.as_ptr());
        self.frames
            .push((id, bytes[0] & 15 == 1, bytes[header_bytes..].to_vec()));
        SendOutcome::Queued
    }
    fn out_bytes(&self, _id: ConnectionId) -> u32 {
        0
    }
    fn room_bytes(&self, _id: ConnectionId) -> u32 {
        u32::MAX
    }
    fn set_class(&mut self, id: ConnectionId, class: PeerClass) {
        self.classes.insert(id, class);
    }
    fn close(&mut self, id: ConnectionId, code: u16, reason: &str) {
        if !self.is_closing(id) {
            self.closes.push((id, code, reason.to_owned()));
        }
    }
    fn set_timer(&mut self, id: ConnectionId, at: Time) {
        self.timers.insert(id, at);
    }
    fn clear_timer(&mut self, id: ConnectionId) {
        self.timers.remove(&id);
    }
    fn unpark(&mut self, id: ConnectionId) {
        self.unparked.push(id);
    }
    fn release(&mut self, id: ConnectionId) {
        self.released.push(id);
    }
    fn is_open(&self, id: ConnectionId) -> bool {
        !self.is_closing(id)
    }
}

/// A record as the backend took it.
#[derive(Debug, PartialEq)]
pub struct Taking {
    pub header: RecordHeader,
    pub payload: Vec<u8>,
}

impl Taking {
    pub fn is(&self, kind: u16, id: ConnectionId) -> bool {
        self.header.kind == kind
            && self.header.slot == id.slot
            && self.header.generation == id.generation
    }
}

/// A message that the shard keeps for a parked connection.
struct Kept {
    kind: MessageKind,
    payload: Vec<u8>,
    skip: u32,
}

pub struct Stage {
    pub io: Memory,
    pub chat: Chat,
    pub backend: Option<(BackendSeat, AttachedGateway)>,
    segment: GatewaySegment,
    bus: BusDirectory,
    kept: HashMap<ConnectionId, Kept>,
    _directory: TempDir,
}

pub fn key() -> Key {
    Key::new([7; 32])
}

pub fn token_of(principal: Id, role: fb::Role, name: &str) -> String {
    let claims = Claims {
        sub: principal,
        role,
        wid: u32::from(role == fb::Role::Visitor),
        name: name.into(),
        sid: 1,
        iat: START.s(),
        exp: START.s() + 86_400,
    };
    token::mint(&claims, &key())
}

/// The bytes of one envelope.
pub fn envelope(
    kind: Kind,
    encode: impl FnOnce(&mut flatbuffers::FlatBufferBuilder<'static>) -> Vec<u8>,
) -> Vec<u8> {
    let payload = encode(&mut flatbuffers::FlatBufferBuilder::new());
    let mut out = Vec::new();
    append_envelope(&mut out, kind, START.us(), &payload);
    out
}

pub fn hello_of(token: &str, session: u64) -> Vec<u8> {
    let hello = message::Hello {
        request: 1,
        token,
        session,
        connection: 4,
        page: "/shop",
        ..Default::default()
    };
    envelope(Kind::Hello, |builder| hello.encode(builder).to_vec())
}

pub fn send_of(n: u64, text: &str) -> Vec<u8> {
    envelope(Kind::Send, |builder| {
        message::Send {
            n,
            text,
            ..Default::default()
        }
        .encode(builder)
        .to_vec()
    })
}

pub fn ping_of(request: u64) -> Vec<u8> {
    envelope(Kind::Ping, |builder| {
        message::Ping { request }.encode(builder).to_vec()
    })
}

pub fn ack_of(conversation: Id, delivered: u64) -> Vec<u8> {
    envelope(Kind::Ack, |builder| {
        message::Ack {
            conversation,
            delivered,
            read: 0,
        }
        .encode(builder)
        .to_vec()
    })
}

pub const fn id(slot: u32, generation: u32) -> ConnectionId {
    ConnectionId {
        shard: 0,
        slot,
        generation,
    }
}

impl Stage {
    /// With a backend that attached.
    pub fn new() -> Stage {
        let mut stage = Stage::without_backend(4 << 20);
        stage.start_backend();
        stage.turn();
        stage
    }

    pub fn without_backend(ring_bytes: usize) -> Stage {
        let directory = tempfile::tempdir().expect("a directory");
        let bus = BusDirectory::open_or_create(directory.path().join("bus")).expect("a bus");
        let record_bytes_max = (ring_bytes / 4).min(256 << 10);
        let options = SegmentOptions {
            ring_bytes,
            record_bytes_max,
            ..SegmentOptions::default()
        };
        let mut segment = GatewaySegment::create(&bus, &options).expect("a segment");
        let end = segment.take_shard(0).expect("shard 0");
        let settings = Settings {
            token_key: key(),
            heartbeat_ms_min: 15_000,
            heartbeat_ms_max: 60_000,
            park_ms_max: 2_000,
            held_bytes_max: 1 << 20,
            connections_max: 1 << 16,
            seed: 1,
        };
        Stage {
            io: Memory {
                now: START,
                ..Memory::default()
            },
            chat: Chat::new(settings, end, START),
            backend: None,
            segment,
            bus,
            kept: HashMap::new(),
            _directory: directory,
        }
    }

    pub fn start_backend(&mut self) {
        let mut seat = BackendSeat::take(&self.bus).expect("the seat is free");
        let attached = seat
            .attach(self.segment.instance())
            .expect("the segment is sound");
        self.backend = Some((seat, attached));
    }

    pub fn kill_backend(&mut self) {
        self.backend = None;
    }

    pub fn after_ms(&mut self, ms: u64) {
        self.io.now = self.io.now + Span::from_ms(ms);
    }

    pub fn upgrade(&mut self, id: ConnectionId, codec: Codec) {
        let upgrade = Upgrade {
            codec,
            client: "203.0.113.7:4711".parse().expect("an address"),
            origin: None,
        };
        self.chat.on_upgraded(&mut self.io, id, &upgrade);
    }

    /// A connection that said Hello as this principal, and nothing else.
    pub fn greet(&mut self, id: ConnectionId, principal: Id, role: fb::Role) {
        self.upgrade(id, Codec::Flat);
        assert_eq!(
            self.say(id, &hello_of(&token_of(principal, role, ""), 7)),
            Taken::Yes
        );
    }

    pub fn say(&mut self, id: ConnectionId, message: &[u8]) -> Taken {
        self.offer(id, MessageKind::Binary, message.to_vec(), 0)
    }

    pub fn say_json(&mut self, id: ConnectionId, text: &str) -> Taken {
        self.offer(id, MessageKind::Text, text.as_bytes().to_vec(), 0)
    }

    fn offer(&mut self, id: ConnectionId, kind: MessageKind, payload: Vec<u8>, skip: u32) -> Taken {
        assert!(
            !self.kept.contains_key(&id),
            "a parked connection is not read from"
        );
        self.chat.on_traffic(&mut self.io, id);
        let taken = self.chat.on_message(
            &mut self.io,
            id,
            Message {
                kind,
                payload: &payload,
                skip,
            },
        );
        if let Taken::Park { skip } = taken {
            self.kept.insert(
                id,
                Kept {
                    kind,
                    payload,
                    skip,
                },
            );
        }
        taken
    }

    pub fn is_json(&mut self, id: ConnectionId) -> bool {
        self.chat
            .peers
            .by_id(id)
            .is_some_and(|peer| peer.codec == tidegate_protocol::Codec::Json)
    }

    pub fn is_parked(&self, id: ConnectionId) -> bool {
        self.kept.contains_key(&id)
    }

    /// One turn of the shard, and what it asked for.
    pub fn turn(&mut self) {
        self.chat.turn(&mut self.io);
        self.obey_unparks();
    }

    pub fn obey_unparks(&mut self) {
        for id in std::mem::take(&mut self.io.unparked) {
            if let Some(kept) = self.kept.remove(&id) {
                self.offer(id, kept.kind, kept.payload, kept.skip);
            }
        }
    }

    pub fn close(&mut self, id: ConnectionId, cause: CloseCause) -> Told {
        self.kept.remove(&id);
        self.io.timers.remove(&id);
        self.chat.on_closed(&mut self.io, id, cause)
    }

    /// Lets time pass, firing timers, with a turn each 50 ms.
    pub fn live_ms(&mut self, ms: u64) {
        let end = self.io.now + Span::from_ms(ms);
        while self.io.now < end {
            self.after_ms(50);
            let now = self.io.now;
            let mut due: Vec<_> = self
                .io
                .timers
                .iter()
                .filter(|&(_, &at)| at <= now)
                .map(|(&id, _)| id)
                .collect();
            due.sort();
            for id in due {
                self.io.timers.remove(&id);
                if !self.io.is_closing(id) {
                    self.chat.on_timer(&mut self.io, id);
                }
            }
            self.turn();
        }
    }

    /// Everything the backend finds in its ring, given back.
    pub fn take_all(&mut self) -> Vec<Taking> {
        let taken = self.read_all();
        self.release();
        taken
    }

    /// Everything the backend finds in its ring, not given back.
    pub fn read_all(&mut self) -> Vec<Taking> {
        let (_, attached) = self.backend.as_mut().expect("a backend");
        let mut copy = RecordCopy::default();
        let mut taken = Vec::new();
        while let Read::Record(header) = attached.shards[0].to_backend.next(&mut copy) {
            taken.push(Taking {
                header,
                payload: copy.payload().to_vec(),
            });
        }
        taken
    }

    pub fn release(&mut self) {
        let (_, attached) = self.backend.as_mut().expect("a backend");
        let position = attached.shards[0].to_backend.position();
        attached.shards[0].to_backend.release_to(position);
    }

    /// The backend places a record.
    pub fn place(&mut self, header: RecordHeader, payload: &[u8]) {
        let (_, attached) = self.backend.as_mut().expect("a backend");
        let Ok(Claimed::Claimed(mut claim)) = attached.shards[0].to_gateway.claim(payload.len())
        else {
            panic!("room in to_gateway")
        };
        claim.payload_mut().copy_from_slice(payload);
        claim.commit(header);
    }

    /// The backend sends one envelope to one connection.
    pub fn place_envelope(&mut self, id: ConnectionId, kind: Kind, payload: &[u8]) {
        let header = RecordHeader {
            kind: bus::ENVELOPE_DOWN,
            flags: kind as u16,
            slot: id.slot,
            generation: id.generation,
            trace: START.us() + 5,
            ..RecordHeader::default()
        };
        self.place(header, payload);
    }

    /// Fills to_backend until a short Send is parked; returns its connection.
    pub fn fill_ring(&mut self, id: ConnectionId) {
        let mut n = 1;
        // The smallest there is: what does not fit after it is any other message.
        while self.say(id, &send_of(n, "")) == Taken::Yes {
            n += 1;
        }
    }

    /// Envelopes sent to a binary connection so far, as JSON for reading; forgets them.
    pub fn heard(&mut self, id: ConnectionId) -> Vec<String> {
        let (mine, others) = std::mem::take(&mut self.io.frames)
            .into_iter()
            .partition(|(to, ..)| *to == id);
        self.io.frames = others;
        let mut heard = Vec::new();
        for (_, is_text, bytes) in mine {
            if is_text {
                heard.push(String::from_utf8(bytes).expect("text is UTF-8"));
                continue;
            }
            for envelope in BatchReader::new(&bytes) {
                let envelope = envelope.expect("a whole envelope");
                let kind = Kind::from_u8(envelope.kind).expect("a known kind");
                let view = verify(kind, envelope.payload).expect("a verified payload");
                let mut text = Vec::new();
                json::encode(&mut text, 0, &view);
                heard.push(String::from_utf8(text).expect("JSON is UTF-8"));
            }
        }
        heard
    }
}

/// The Opened in a record.
pub fn opened(taking: &Taking) -> Opened<'_> {
    Opened::read(&taking.payload).expect("a whole OPENED")
}
