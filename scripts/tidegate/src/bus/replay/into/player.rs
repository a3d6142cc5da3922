//! The gateways of a replay: their segments, who is connected to them, and what comes back.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use shm_bus::recording::{Direction, Entry, Event};
use shm_bus::{
    BusDirectory, Claimed, GatewaySegment, Read, RecordCopy, RecordHeader, SegmentOptions, ShardEnd,
};
use tidegate_protocol::bus::{
    self, CLOSE, CLOSED, ClosedCause, ClosedRecord, ENVELOPE, ENVELOPE_DOWN, OPENED, Opened,
};
use tidegate_protocol::names::Named as _;
use tidegate_protocol::{Kind, View, fb, verify};
use zerocopy::IntoBytes as _;

use super::super::naming::{Naming, Renamed, rename};
use super::NAP;
use crate::bus::line::RECORD_KINDS;
use crate::bus::mask::envelope_kind;

/// How long something waits for what has to come first: a connection's Welcome, a conversation that its visitor speaks of.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was played and what came back.
#[derive(Debug, Default)]
pub struct Tally {
    pub records: u64,
    pub connections: u64,
    /// Texts that were put on the bus.
    pub said: u64,
    /// What they were answered.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// What came, by kind.
    pub answers: BTreeMap<String, u64>,
    pub of_unknown: u64,
    pub after_close: u64,
    pub missed_bytes: u64,
    /// Spoke of a conversation that this backend never told of.
    pub unnamed: u64,
    pub waited_for_room: u64,
}

/// A connection: shard, slot, generation.
type Address = (u16, u32, u32);

struct Gateway {
    segment: GatewaySegment,
    shards: Vec<ShardEnd>,
    connections: HashMap<Address, Connection>,
}

#[derive(Clone, Copy)]
struct Connection {
    is_visitor: bool,
    standing: Standing,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Said Hello; a client says nothing more before it is answered.
    Greeting,
    Welcome,
    /// The backend ended it; the recorded peer does not know.
    Closed,
}

/// Plays entry by entry.
pub struct Player<'a> {
    bus: BusDirectory,
    protocol: u32,
    gateways: HashMap<u32, Gateway>,
    recorded: Naming,
    live: Naming,
    copy: RecordCopy,
    payload: Vec<u8>,
    tally: Tally,
    /// Nothing ever came, though something was waited for: a backend that only reads.
    is_silent: bool,
    told: &'a AtomicBool,
}

impl<'a> Player<'a> {
    pub fn new(bus: BusDirectory, protocol: u32, recorded: Naming, told: &'a AtomicBool) -> Self {
        Self {
            bus,
            protocol,
            gateways: HashMap::new(),
            recorded,
            live: Naming::default(),
            copy: RecordCopy::default(),
            payload: Vec::new(),
            tally: Tally::default(),
            is_silent: false,
            told,
        }
    }

    /// Every gateway has one that is attached and lives.
    pub fn has_backend(&self) -> bool {
        let mut gateways = self.gateways.values();
        gateways.all(|it| it.segment.backend().instance().is_some() && it.segment.backend().alive())
    }

    /// Something was not taken yet.
    pub fn waits_for_backend(&mut self) -> bool {
        let mut ends = self.gateways.values_mut().flat_map(|it| &mut it.shards);
        ends.any(|end| end.to_backend.released() != end.to_backend.position())
    }

    /// All was taken, and each text answered.
    pub fn is_answered(&mut self) -> bool {
        !self.waits_for_backend() && self.tally.outcomes.values().sum::<u64>() >= self.tally.said
    }

    /// What was played; the segments are left to the backend, which drains them.
    pub fn end(self) -> Tally {
        self.tally
    }

    pub fn play(&mut self, entry: &Entry<'_>) -> Result<()> {
        match entry.event {
            Event::Gateway {
                shards,
                ring_bytes,
                record_bytes_max,
                ..
            } => self.come(entry.gateway, shards, ring_bytes, record_bytes_max)?,
            Event::Gone => {
                self.gateways.remove(&entry.gateway);
            }
            Event::Missed {
                leads: Direction::ToBackend,
                bytes,
            } => self.tally.missed_bytes += bytes,
            Event::Record {
                leads: Direction::ToBackend,
                header,
                payload,
            } => self.say(entry.gateway, entry.shard, header, payload)?,
            Event::Missed { .. } | Event::Record { .. } => {}
        }
        Ok(())
    }

    fn come(
        &mut self,
        number: u32,
        shards: u16,
        ring_bytes: u64,
        record_bytes_max: u32,
    ) -> Result<()> {
        // A recording that rotated, or that was put together from several, names its gateways again.
        if self.gateways.contains_key(&number) {
            return Ok(());
        }
        let options = SegmentOptions {
            shards: usize::from(shards),
            ring_bytes: usize::try_from(ring_bytes).context("rings beyond this machine")?,
            record_bytes_max: record_bytes_max as usize,
            protocol: self.protocol,
            build: concat!("tidegate bus replay ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let mut segment = GatewaySegment::create(&self.bus, &options)
            .context("cannot play a recorded gateway")?;
        let shards = (0..shards)
            .filter_map(|shard| segment.take_shard(shard))
            .collect();
        let gateway = Gateway {
            segment,
            shards,
            connections: HashMap::new(),
        };
        self.gateways.insert(number, gateway);
        Ok(())
    }

    fn say(&mut self, number: u32, shard: u16, header: RecordHeader, payload: &[u8]) -> Result<()> {
        let address = (header.shard, header.slot, header.generation);
        if header.kind == ENVELOPE {
            self.wait(|player| player.standing(number, address) != Some(Standing::Greeting))?;
        }
        let standing = self.standing(number, address);
        let Some(gateway) = self.gateways.get_mut(&number) else {
            self.tally.of_unknown += 1;
            return Ok(());
        };
        let connections = &mut gateway.connections;
        match (header.kind, standing) {
            // An announcement of one that is known is for a backend that was another in the recording.
            (OPENED, Some(_)) => return Ok(()),
            (OPENED, None) => {
                let role = Opened::read(payload).map(|opened| opened.record.role);
                let connection = Connection {
                    is_visitor: role == Ok(fb::Role::Visitor.to_u8()),
                    standing: Standing::Greeting,
                };
                connections.insert(address, connection);
                self.tally.connections += 1;
            }
            (ENVELOPE | CLOSED, None) => {
                self.tally.of_unknown += 1;
                return Ok(());
            }
            (ENVELOPE | CLOSED, Some(Standing::Closed)) => {
                if header.kind == CLOSED {
                    connections.remove(&address);
                }
                self.tally.after_close += 1;
                return Ok(());
            }
            _ => {}
        }
        let is_visitor = connections.get(&address).is_some_and(|it| it.is_visitor);
        if header.kind == CLOSED {
            connections.remove(&address);
        }
        self.payload.clear();
        self.payload.extend_from_slice(payload);
        self.name(is_visitor, header)?;
        let is_text = header.kind == ENVELOPE && envelope_kind(header.flags) == Some(Kind::Send);
        let payload = std::mem::take(&mut self.payload);
        self.put(number, shard, header, &payload)?;
        self.payload = payload;
        self.tally.said += u64::from(is_text);
        Ok(())
    }

    fn standing(&self, number: u32, address: Address) -> Option<Standing> {
        let connection = self.gateways.get(&number)?.connections.get(&address)?;
        Some(connection.standing)
    }

    /// Takes what comes until something is so, or for as long as anybody would wait; not at all for a backend that
    /// never answers.
    fn wait(&mut self, is_so: impl Fn(&mut Self) -> bool) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !is_so(self) && !self.is_silent && !self.told.load(Ordering::Relaxed) {
            if Instant::now() >= end {
                self.is_silent = self.tally.answers.is_empty();
                break;
            }
            self.drain()?;
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Calls the conversations in `payload` as this backend does.
    fn name(&mut self, is_visitor: bool, header: RecordHeader) -> Result<()> {
        let attempt = |player: &mut Self| {
            let (kind, flags) = (header.kind, header.flags);
            rename(
                &player.recorded,
                &player.live,
                kind,
                flags,
                &mut player.payload,
            )
        };
        if is_visitor {
            // Others may never be given what the recorded ones were.
            self.wait(|player| attempt(player) != Renamed::NotYet)?;
        }
        self.tally.unnamed += u64::from(attempt(self) == Renamed::NotYet);
        Ok(())
    }

    /// Puts a record on a ring, however long it takes until there is room.
    fn put(&mut self, number: u32, shard: u16, header: RecordHeader, payload: &[u8]) -> Result<()> {
        let mut has_waited = false;
        while !self.told.load(Ordering::Relaxed) {
            let gateway = self.gateways.get_mut(&number);
            let Some(end) = gateway.and_then(|it| it.shards.get_mut(usize::from(shard))) else {
                self.tally.of_unknown += 1;
                return Ok(());
            };
            if let Claimed::Claimed(mut claim) = end.to_backend.claim(payload.len())? {
                claim.payload_mut().copy_from_slice(payload);
                claim.commit(header);
                end.to_backend.ring();
                self.tally.records += 1;
                return Ok(());
            }
            self.tally.waited_for_room += u64::from(!std::mem::replace(&mut has_waited, true));
            self.drain()?;
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    /// Takes what the backend sent to anybody.
    pub fn drain(&mut self) -> Result<()> {
        let Self {
            gateways,
            live,
            copy,
            tally,
            ..
        } = self;
        let mut closed = Vec::new();
        for (number, gateway) in gateways {
            for end in &mut gateway.shards {
                loop {
                    let header = match end.to_gateway.next(copy) {
                        Read::Record(header) => header,
                        Read::Empty => break,
                        Read::Bad(bad) => {
                            anyhow::bail!("the backend wrote what is no record: {bad:?}")
                        }
                    };
                    live.learn(header.kind, header.flags, copy.payload());
                    count(tally, header, copy.payload());
                    let address = (header.shard, header.slot, header.generation);
                    let Some(connection) = gateway.connections.get_mut(&address) else {
                        continue;
                    };
                    let is_welcome = header.kind == ENVELOPE_DOWN
                        && envelope_kind(header.flags) == Some(Kind::Welcome);
                    if is_welcome && connection.standing == Standing::Greeting {
                        connection.standing = Standing::Welcome;
                    }
                    if header.kind == CLOSE && connection.standing != Standing::Closed {
                        connection.standing = Standing::Closed;
                        let code = bus::read_fixed::<bus::CloseRecord>(copy.payload());
                        let code = code.map_or(1000, |(close, _)| close.code);
                        closed.push((*number, end.shard, header, code));
                    }
                }
                end.to_gateway.release_to(end.to_gateway.position());
            }
        }
        for (number, shard, header, code) in closed {
            let record = ClosedRecord {
                code,
                cause: ClosedCause::ByBackend as u8,
                reserved: 0,
            };
            let header = RecordHeader {
                kind: CLOSED,
                flags: 0,
                ..header
            };
            self.put(number, shard, header, record.as_bytes())?;
        }
        Ok(())
    }
}

/// What came, and if it answers a text, how.
fn count(tally: &mut Tally, header: RecordHeader, payload: &[u8]) {
    let of_record = RECORD_KINDS.iter().find(|(kind, _)| *kind == header.kind);
    let kind = envelope_kind(header.flags);
    let name = of_record.map_or_else(|| kind.map_or("another", Kind::name), |(_, name)| name);
    *tally.answers.entry(name.to_owned()).or_default() += 1;
    if header.kind == ENVELOPE_DOWN
        && kind == Some(Kind::SendResult)
        && let Ok(View::SendResult(result)) = verify(Kind::SendResult, payload)
    {
        let outcome = result.outcome().name().unwrap_or("another");
        *tally.outcomes.entry(outcome).or_default() += 1;
    }
}
