//! What was seen, as a line of JSON: an envelope in the words of the JSON codec, the other records by their fields.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::value::RawValue;
use shm_bus::RecordHeader;
use shm_bus::recording::{Direction, Entry, Event};
use tidegate_protocol::bus::{
    self, BROADCAST, CLOSE, CLOSED, DRAIN, ECHO, ECHO_DOWN, ENVELOPE, ENVELOPE_DOWN, MULTICAST,
    OPENED, Opened,
};
use tidegate_protocol::codec::json;
use tidegate_protocol::names::Named as _;
use tidegate_protocol::{Codec, Id, fb, verify};

use super::mask;

/// Receivers of one record that are named; of more only the number is told.
const RECEIVERS_NAMED_MAX: usize = 32;

/// Records that are no envelopes, by name.
pub const RECORD_KINDS: [(u16, &str); 6] = [
    (OPENED, "opened"),
    (CLOSED, "closed"),
    (CLOSE, "close"),
    (DRAIN, "drain"),
    (ECHO, "echo"),
    (ECHO_DOWN, "echo_down"),
];

/// Where a connection lives in its gateway, as `shard.slot.generation`.
pub type Connection = (u16, u32, u32);

/// A line, and what filters ask of it.
#[derive(Debug, Default, Serialize)]
pub struct Line {
    at_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<&'static str>,
    gateway: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<u16>,
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    connection: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    connections: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receivers: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<String>,
    #[serde(flatten)]
    fields: BTreeMap<&'static str, serde_json::Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope: Option<Box<RawValue>>,
    /// Every connection that it is of or for.
    #[serde(skip)]
    pub all: Vec<Connection>,
}

impl Line {
    /// Whether it concerns that conversation.
    pub fn concerns(&self, conversation: &str) -> bool {
        let member = format!("\"conversation\":\"{conversation}\"");
        // In a text the quotes would be escaped: nobody can write this who is not of that conversation.
        self.envelope
            .as_ref()
            .is_some_and(|json| json.get().contains(&member))
    }
}

/// Writes lines; knows the gateways by their numbers.
#[derive(Debug)]
pub struct Lines {
    gateways: BTreeMap<u32, String>,
    bodies: bool,
}

impl Lines {
    /// `bodies`: with what people wrote.
    pub const fn new(bodies: bool) -> Self {
        Self {
            gateways: BTreeMap::new(),
            bodies,
        }
    }

    /// The line of what was seen.
    pub fn line(&mut self, entry: &Entry<'_>) -> Line {
        if let Event::Gateway { instance, .. } = entry.event {
            self.gateways.insert(entry.gateway, instance.to_string());
        }
        let mut line = Line {
            at_us: entry.at_us,
            gateway: self
                .gateways
                .get(&entry.gateway)
                .cloned()
                .unwrap_or_default(),
            ..Line::default()
        };
        match entry.event {
            Event::Gateway { shards, .. } => {
                line.kind = "gateway".into();
                line.fields.insert("shards", shards.into());
            }
            Event::Gone => {
                line.kind = "gateway_gone".into();
                self.gateways.remove(&entry.gateway);
            }
            Event::Missed { leads, bytes } => {
                line.kind = "missed".into();
                (line.direction, line.shard) = (Some(direction(leads)), Some(entry.shard));
                line.fields.insert("missed_bytes", bytes.into());
            }
            Event::Record {
                leads,
                header,
                payload,
            } => {
                (line.direction, line.shard) = (Some(direction(leads)), Some(entry.shard));
                self.record(&mut line, header, payload);
            }
        }
        line
    }

    fn record(&self, line: &mut Line, header: RecordHeader, payload: &[u8]) {
        let bytes = payload.len();
        let whole = match header.kind {
            OPENED => self.opened(line, payload),
            ENVELOPE => {
                line.fields
                    .insert("session", format!("{:016x}", header.trace).into());
                self.envelope(line, header.flags, 0, payload)
            }
            ENVELOPE_DOWN => self.envelope(line, header.flags, header.trace, payload),
            MULTICAST => bus::read_multicast(payload).is_ok_and(|(targets, body)| {
                line.all = targets
                    .map(|to| (header.shard, to.slot, to.generation))
                    .collect();
                line.receivers = Some(line.all.len());
                let named = line.all.iter().take(RECEIVERS_NAMED_MAX);
                line.connections = named.copied().map(text_of).collect();
                self.envelope(line, header.flags, header.trace, body)
            }),
            BROADCAST => {
                bus::read_fixed::<bus::BroadcastFilter>(payload).is_ok_and(|(filter, body)| {
                    line.fields.insert("to_roles", filter.role_mask.into());
                    line.fields.insert("to_queued", (filter.queued != 0).into());
                    line.fields.insert("to_widget", filter.widget.into());
                    self.envelope(line, header.flags, header.trace, body)
                })
            }
            CLOSED => bus::read_fixed::<bus::ClosedRecord>(payload).is_ok_and(|(closed, _)| {
                let cause = bus::ClosedCause::from_u8(closed.cause);
                line.fields.insert("code", closed.code.into());
                line.fields
                    .insert("cause", snake(&format!("{cause:?}")).into());
                true
            }),
            CLOSE => bus::read_fixed::<bus::CloseRecord>(payload).is_ok_and(|(close, _)| {
                line.fields.insert("code", close.code.into());
                line.fields.insert("retry_ms", close.retry_ms.into());
                true
            }),
            _ => {
                line.fields.insert("bytes", bytes.into());
                true
            }
        };
        if let Some((_, name)) = RECORD_KINDS.iter().find(|(kind, _)| *kind == header.kind) {
            line.kind = (*name).into();
        } else if line.kind.is_empty() {
            line.kind = format!("record_{}", header.kind);
        }
        if !whole {
            line.fields.insert("unreadable_bytes", bytes.into());
        }
        if !matches!(header.kind, MULTICAST | BROADCAST | DRAIN) {
            let connection = (header.shard, header.slot, header.generation);
            line.all.push(connection);
            line.connection = Some(text_of(connection));
        }
        if header.principal != 0 {
            line.principal = Some(format!("{:032x}", header.principal));
        }
    }

    /// False: it is not what it says.
    fn envelope(&self, line: &mut Line, flags: u16, timestamp_us: u64, payload: &[u8]) -> bool {
        let Some(kind) = mask::envelope_kind(flags) else {
            return false;
        };
        line.kind = kind.name().into();
        let Ok(view) = verify(kind, payload) else {
            return false;
        };
        let mut text = Vec::new();
        json::encode(&mut text, timestamp_us, &view);
        let text = mask::json(&String::from_utf8_lossy(&text), self.bodies);
        line.conversation = first_conversation(&text);
        line.envelope = RawValue::from_string(text).ok();
        line.envelope.is_some()
    }

    fn opened(&self, line: &mut Line, payload: &[u8]) -> bool {
        let Ok(opened) = Opened::read(payload) else {
            return false;
        };
        let record = opened.record;
        let fields = &mut line.fields;
        fields.insert("session", format!("{:016x}", record.session).into());
        fields.insert("role", fb::Role(record.role).name().into());
        fields.insert("family", fb::Family(record.family).name().into());
        let codec = Codec::from_u8(record.codec).map(Codec::subprotocol);
        fields.insert("codec", codec.into());
        fields.insert("name", opened.name.into());
        fields.insert("widget", record.widget.into());
        let announced = record.flags & bus::OPENED_ANNOUNCED != 0;
        fields.insert("announced", announced.into());
        // An announcement has no Hello.
        let whole = opened.hello.is_empty() || self.envelope(line, fb_hello(), 0, opened.hello);
        line.conversation = None;
        whole
    }
}

const fn fb_hello() -> u16 {
    tidegate_protocol::Kind::Hello as u16
}

/// As filters and lines name it.
pub const fn direction(leads: Direction) -> &'static str {
    match leads {
        Direction::ToBackend => "to_backend",
        Direction::ToGateway => "to_gateway",
    }
}

fn text_of((shard, slot, generation): Connection) -> String {
    format!("{shard}.{slot}.{generation}")
}

fn first_conversation(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\"conversation\":\"")?;
    let id: Id = rest.get(..32)?.parse().ok()?;
    Some(id.to_string())
}

/// `PeerClosed` as `peer_closed`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for char in name.chars() {
        if char.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(char.to_lowercase());
    }
    out
}
