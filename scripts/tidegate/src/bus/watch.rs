//! Taps on every ring of every gateway, those that come later included. What they see comes out as entries of a
//! recording, whether it is shown, kept, or both.
//!
//! Within a ring entries are in order, and what is not there was counted as missed. Between rings there is no order but the
//! time at which the tap came by.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use shm_bus::recording::{Direction, Entry, Event};
use shm_bus::{BusDirectory, Control, ObservedGateway, Position, RecordCopy, Tap, Tapped};

use super::find;

/// Records of one ring before the others have their turn.
const RECORDS_PER_TURN_MAX: usize = 1_024;
/// How often it looks for gateways that came or went; those that come are seen at once.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a bus may be without anybody before it counts as ended: a supervisor starts again what died.
const DESERTED_MAX: Duration = Duration::from_secs(3);
/// Between two turns in which nothing was there.
const NAP: Duration = Duration::from_millis(2);

/// All that goes over a bus from now on.
#[derive(Debug)]
pub struct Watch {
    bus: BusDirectory,
    control: Control,
    gateways: Vec<Watched>,
    next_number: u32,
    roster: u64,
    looked: Option<Instant>,
    deserted_since: Option<Instant>,
    copy: RecordCopy,
}

#[derive(Debug)]
struct Watched {
    number: u32,
    gateway: ObservedGateway,
}

/// µs since the Unix epoch.
pub fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

impl Watch {
    /// From what is published now; a gateway that comes later is watched from its first record on.
    pub fn begin(bus: BusDirectory) -> Result<Self> {
        let control = Control::observe(&bus)?;
        Ok(Self {
            control,
            bus,
            gateways: Vec::new(),
            next_number: 0,
            roster: 0,
            looked: None,
            deserted_since: None,
            copy: RecordCopy::default(),
        })
    }

    /// What the records mean, as the backend says.
    pub fn protocol(&self) -> u32 {
        self.control.backend_protocol()
    }

    /// Tells of each gateway that is there, anew.
    pub fn introduce(&self, each: &mut impl FnMut(&Entry<'_>) -> Result<()>) -> Result<()> {
        self.gateways
            .iter()
            .try_for_each(|watched| each(&watched.introduction()))
    }

    /// Takes what is there, or naps for a moment. False: nobody has lived on the bus for a while, or it is gone.
    pub fn turn(&mut self, each: &mut impl FnMut(&Entry<'_>) -> Result<()>) -> Result<bool> {
        if !self.look(each)? {
            return Ok(false);
        }
        let mut seen = false;
        for watched in &mut self.gateways {
            let number = watched.number;
            for shard in &mut watched.gateway.shards {
                let rings = [
                    (Direction::ToBackend, &mut shard.to_backend),
                    (Direction::ToGateway, &mut shard.to_gateway),
                ];
                for (leads, tap) in rings {
                    let at = (number, shard.shard, leads);
                    seen |= take(tap, &mut self.copy, at, each)?;
                }
            }
        }
        if !seen {
            std::thread::sleep(NAP);
        }
        Ok(true)
    }

    /// Finds who came and who went.
    fn look(&mut self, each: &mut impl FnMut(&Entry<'_>) -> Result<()>) -> Result<bool> {
        let (now, roster) = (Instant::now(), self.control.roster());
        let is_due = self.looked.is_none_or(|looked| now - looked >= LOOK_EVERY);
        if !is_due && roster == self.roster {
            return Ok(true);
        }
        let is_first = self.looked.is_none();
        (self.looked, self.roster) = (Some(now), roster);
        if !self.bus.is_at_its_path() {
            return Ok(false);
        }
        if find::is_lived_on(&self.bus) {
            self.deserted_since = None;
        } else if now - *self.deserted_since.get_or_insert(now) > DESERTED_MAX {
            return Ok(false);
        }
        let there = self.bus.segments()?;
        for gone in self
            .gateways
            .extract_if(.., |it| !there.contains(&it.gateway.instance()))
        {
            each(&gone.says(Event::Gone))?;
        }
        for instance in there {
            if self
                .gateways
                .iter()
                .any(|it| it.gateway.instance() == instance)
            {
                continue;
            }
            let mut gateway = match ObservedGateway::open(&self.bus, instance) {
                Ok(gateway) => gateway,
                Err(error) if self.bus.segments()?.contains(&instance) => return Err(error.into()),
                // It went while it was opened: its gateway ended just now.
                Err(_gone) => continue,
            };
            if !is_first {
                for shard in &mut gateway.shards {
                    shard.to_backend.go_to(Position::default());
                    shard.to_gateway.go_to(Position::default());
                }
            }
            let watched = Watched {
                number: self.next_number,
                gateway,
            };
            self.next_number += 1;
            each(&watched.introduction())?;
            self.gateways.push(watched);
        }
        Ok(true)
    }
}

impl Watched {
    /// It is there, and what its rings are like.
    fn introduction(&self) -> Entry<'static> {
        let shards = &self.gateway.shards;
        let ring = shards.first().map(|shard| &shard.to_backend);
        self.says(Event::Gateway {
            instance: self.gateway.instance(),
            shards: u16::try_from(shards.len()).unwrap_or(u16::MAX),
            ring_bytes: ring.map_or(0, Tap::ring_bytes),
            record_bytes_max: ring.map_or(0, Tap::record_bytes_max),
        })
    }

    fn says(&self, event: Event<'static>) -> Entry<'static> {
        Entry {
            at_us: now_us(),
            gateway: self.number,
            shard: 0,
            event,
        }
    }
}

/// What is in one ring, but for so much that the others wait for long. False: nothing.
fn take(
    tap: &mut Tap,
    copy: &mut RecordCopy,
    (gateway, shard, leads): (u32, u16, Direction),
    each: &mut impl FnMut(&Entry<'_>) -> Result<()>,
) -> Result<bool> {
    for taken in 0..RECORDS_PER_TURN_MAX {
        let event = match tap.next(copy) {
            Tapped::Empty => return Ok(taken > 0),
            Tapped::Record(header) => Event::Record {
                leads,
                header,
                payload: copy.payload(),
            },
            Tapped::Lapped { missed_bytes } => Event::Missed {
                leads,
                bytes: missed_bytes,
            },
        };
        let at_us = now_us();
        each(&Entry {
            at_us,
            gateway,
            shard,
            event,
        })?;
    }
    Ok(true)
}
