//! The other process of `--echo=bus`: takes the backend's seat and sends every message back where it came from.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shm_bus::{
    AttachError, AttachedGateway, BackendSeat, BusDirectory, BusError, Claimed, Read, RecordCopy,
    RecordHeader, SeatError, ShardPorts,
};
use tidegate_protocol::bus::{BUS_PROTOCOL, ECHO, ECHO_DOWN};

/// Records that are taken from one shard before the next one has its turn.
const RECORDS_PER_TURN_MAX: usize = 256;
/// How often, in idle turns, dead gateways are looked for.
const SLEEP_MS_MAX: u64 = 100;
/// How soon a full ring is looked at again.
const SLEEP_MS_FOR_ROOM: u64 = 1;

/// The consumer could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum BusEchoError {
    /// The bus directory.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Somebody else is the backend of this bus.
    #[error(transparent)]
    Seat(#[from] SeatError),
    /// A gateway's segment.
    #[error(transparent)]
    Attach(#[from] AttachError),
}

/// Echoes on the bus in `bus_dir` until `stop` is set: the whole of the consumer process. `spin` keeps looking
/// instead of sleeping, for a process that owns its core.
///
/// # Errors
/// The bus cannot be used, or another backend holds it.
pub fn consumer_main(bus_dir: &Path, spin: bool, stop: &AtomicBool) -> Result<(), BusEchoError> {
    let bus = BusDirectory::open_or_create(bus_dir)?;
    let mut seat = BackendSeat::take_for(&bus, BUS_PROTOCOL)?;
    let mut gateways: Vec<Echoed> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        for instance in seat.discover()? {
            match seat.attach(instance) {
                Ok(gateway) => gateways.push(Echoed::new(gateway)),
                Err(AttachError::Gone(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut worked = false;
        for gateway in &mut gateways {
            worked |= gateway.turn();
        }
        if worked || spin {
            continue;
        }
        gateways = bury_dead(gateways)?;
        // Nobody rings when a gateway makes room: look again soon.
        let awaits_room = gateways
            .iter()
            .any(|gateway| gateway.pending.iter().any(Option::is_some));
        seat.bell().prepare();
        if gateways.iter_mut().any(Echoed::has_more) {
            seat.bell().awake();
        } else {
            let sleep_ms = if awaits_room {
                SLEEP_MS_FOR_ROOM
            } else {
                SLEEP_MS_MAX
            };
            seat.bell().sleep(Duration::from_millis(sleep_ms));
        }
    }
    Ok(())
}

/// Unlinks the segments of gateways that died and whose rings are empty.
fn bury_dead(gateways: Vec<Echoed>) -> Result<Vec<Echoed>, AttachError> {
    let mut living = Vec::with_capacity(gateways.len());
    for mut gateway in gateways {
        if gateway.attached.is_alive() || gateway.has_more() {
            living.push(gateway);
        } else {
            gateway.attached.unlink()?;
        }
    }
    Ok(living)
}

/// One gateway, and per shard the record that was taken and not answered yet for want of room.
struct Echoed {
    attached: AttachedGateway,
    pending: Vec<Option<RecordHeader>>,
    copies: Vec<RecordCopy>,
}

impl Echoed {
    fn new(attached: AttachedGateway) -> Echoed {
        let shards = attached.shards.len();
        Echoed {
            attached,
            pending: vec![None; shards],
            copies: vec![RecordCopy::default(); shards],
        }
    }

    /// Answers what is there, as far as there is room; tells whether it did anything.
    fn turn(&mut self) -> bool {
        let mut worked = false;
        let shards = self
            .attached
            .shards
            .iter_mut()
            .zip(&mut self.pending)
            .zip(&mut self.copies);
        for ((ports, pending), copy) in shards {
            let mut answered = 0;
            while answered < RECORDS_PER_TURN_MAX && echo_one(ports, pending, copy) {
                answered += 1;
            }
            if answered > 0 {
                ports.to_gateway.ring();
                worked = true;
            }
        }
        worked
    }

    /// Whether a shard has something that a turn could take.
    fn has_more(&mut self) -> bool {
        let shards = self.attached.shards.iter_mut().zip(&self.pending);
        shards
            .into_iter()
            .any(|(ports, pending)| pending.is_none() && !ports.to_backend.is_empty())
    }
}

/// Answers one record; false if there is none, or no room for its answer.
fn echo_one(
    ports: &mut ShardPorts,
    pending: &mut Option<RecordHeader>,
    copy: &mut RecordCopy,
) -> bool {
    let header = match pending.take() {
        Some(header) => header,
        None => match ports.to_backend.next(copy) {
            Read::Record(header) => header,
            Read::Empty => return false,
            Read::Bad(bad) => return !bad.condemned,
        },
    };
    if header.kind == ECHO {
        match ports.to_gateway.claim(copy.payload().len()) {
            Ok(Claimed::Claimed(mut claim)) => {
                claim.payload_mut().copy_from_slice(copy.payload());
                claim.commit(RecordHeader {
                    kind: ECHO_DOWN,
                    ..header
                });
            }
            Ok(Claimed::Full) => {
                *pending = Some(header);
                return false;
            }
            // Both rings have one shape: what came up fits down. A damaged ring answers nothing.
            Err(_) => {}
        }
    }
    // What was answered is released at once: an echo promises nothing over a crash.
    ports.to_backend.release_to(ports.to_backend.position());
    true
}
