//! One look at everything that the bus shows. Rates are taken from the look before.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use shm_bus::{BusDirectory, Control, Counter, InstanceId, ObservedGateway, ObservedShard};
use tidegate_backend::bus::board::Board;
use tidegate_backend::engine::ledger::Ledger;
use tidegate_gateway::chat::counters::{Tally, refused};

use crate::bus::find;
use crate::bus::watch::now_us;

/// One ring of one shard.
#[derive(Serialize)]
pub struct Ring {
    /// Committed, and not given back by the reader.
    pub depth_bytes: u64,
    pub ring_bytes: u64,
    pub records: u64,
    pub records_per_s: f64,
    pub bytes_per_s: f64,
    /// Committed, and not read yet.
    pub lag_records: u64,
    /// Claims that found no room.
    pub full: u64,
    pub bad_records: u64,
    /// Times its writer woke its reader.
    pub doorbells: u64,
    pub doorbells_per_s: f64,
}

#[derive(Serialize)]
pub struct Shard {
    pub shard: u16,
    pub asleep: bool,
    /// Times it went to sleep.
    pub sleeps: u64,
    pub to_backend: Ring,
    pub to_gateway: Ring,
}

#[derive(Serialize)]
pub struct Gateway {
    pub instance: String,
    pub pid: u32,
    pub build: String,
    pub alive: bool,
    /// The backend that attached to it last.
    pub attached: Option<String>,
    /// That is the one that holds the seat, and it lives.
    pub served: bool,
    pub shards: Vec<Shard>,
    /// What the gateway itself refused, over its shards.
    pub refused: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
pub struct Backend {
    pub instance: String,
    pub pid: u32,
    pub alive: bool,
    pub heartbeat_age_ms: u64,
}

#[derive(Serialize)]
pub struct Stat {
    pub at_us: u64,
    pub bus: String,
    pub backend: Option<Backend>,
    /// Segments that were ever made on this bus: each start of a gateway makes one.
    pub epochs: u64,
    pub tickets: u64,
    pub frontier: u64,
    /// How fast the frontier moves, tickets a second; 0: unknown, or nobody controls admission.
    pub admitted_per_s: f64,
    /// Visitors in the waiting rooms of the gateways that live.
    pub waiting: u64,
    pub gateways: Vec<Gateway>,
    pub ledger: Option<Ledger>,
    pub counters: BTreeMap<&'static str, u64>,
    /// How long turns and texts took, in µs.
    pub times: BTreeMap<&'static str, u64>,
    /// What the backend refused.
    pub refused: BTreeMap<&'static str, u64>,
}

/// What of one shard a rate is taken of.
#[derive(Clone, Copy, Default)]
struct Counts {
    records: [u64; 2],
    bytes: [u64; 2],
    doorbells: [u64; 2],
}

impl Counts {
    fn of(shard: &ObservedShard) -> Self {
        let of = |counter| {
            [
                shard.gateway_counters.get(counter),
                shard.backend_counters.get(counter),
            ]
        };
        Self {
            records: of(Counter::RecordsOut),
            bytes: [
                shard.to_backend.published().get(),
                shard.to_gateway.published().get(),
            ],
            doorbells: of(Counter::DoorbellsRung),
        }
    }
}

/// Looks again and again; gateways come and go meanwhile.
pub struct Eye {
    bus: BusDirectory,
    control: Control,
    gateways: Vec<ObservedGateway>,
    before: HashMap<(InstanceId, u16), Counts>,
    looked: Instant,
}

impl Eye {
    /// Takes the first look, which gives nothing but what rates begin from.
    pub fn open(bus: BusDirectory) -> Result<Self> {
        let mut eye = Self {
            control: Control::observe(&bus)?,
            bus,
            gateways: Vec::new(),
            before: HashMap::new(),
            looked: Instant::now(),
        };
        eye.look()?;
        Ok(eye)
    }

    /// Everything, now.
    pub fn look(&mut self) -> Result<Stat> {
        self.find_gateways()?;
        if !self.bus.is_at_its_path() || self.gateways.is_empty() && !find::is_lived_on(&self.bus) {
            bail!(
                "Tidegate has ended: nobody lives on {} any more",
                self.bus.path().display()
            );
        }
        let now = Instant::now();
        let over_s = (now - self.looked).as_secs_f64();
        self.looked = now;
        let holder = self.control.backend_instance();
        let backend_lives = self.bus.backend_is_alive();
        let mut gateways = Vec::new();
        let mut after = HashMap::new();
        for gateway in &self.gateways {
            let mut shards = Vec::new();
            for shard in &gateway.shards {
                let key = (gateway.instance(), shard.shard);
                let counts = Counts::of(shard);
                let before = self.before.get(&key).copied().unwrap_or(counts);
                shards.push(shard_of(shard, &before, &counts, over_s));
                after.insert(key, counts);
            }
            let attached = gateway.attached();
            gateways.push(Gateway {
                instance: gateway.instance().to_string(),
                pid: gateway.pid(),
                build: gateway.build().to_owned(),
                alive: gateway.is_alive(),
                attached: attached.map(|instance| instance.to_string()),
                served: attached.is_some() && attached == holder && backend_lives,
                shards,
                refused: refused_by(gateway),
            });
        }
        self.before = after;
        let board = Board::read(&self.control);
        let living = self.gateways.iter().filter(|gateway| gateway.is_alive());
        let waiting = living
            .flat_map(|gateway| &gateway.shards)
            .map(|shard| shard.gateway_counters.user(Tally::Waiting.index()))
            .sum();
        let (at_us, control) = (now_us(), &self.control);
        Ok(Stat {
            at_us,
            bus: self.bus.path().display().to_string(),
            backend: holder.map(|instance| Backend {
                instance: instance.to_string(),
                pid: control.backend_pid(),
                alive: backend_lives,
                heartbeat_age_ms: at_us.saturating_sub(control.backend_heartbeat_us()) / 1_000,
            }),
            epochs: control.roster(),
            tickets: control.tickets(),
            frontier: control.frontier(),
            admitted_per_s: per_s(control.admission_rate(), 1_000.0),
            waiting,
            gateways,
            ledger: board.as_ref().map(Board::ledger),
            counters: board.iter().flat_map(Board::counters).collect(),
            times: board.iter().flat_map(Board::times).collect(),
            refused: board.iter().flat_map(Board::refused).collect(),
        })
    }

    /// A segment that goes while it is opened belongs to a gateway that ended just now.
    fn find_gateways(&mut self) -> Result<()> {
        let there = self.bus.segments()?;
        self.gateways
            .retain(|gateway| there.contains(&gateway.instance()));
        for instance in there {
            if self
                .gateways
                .iter()
                .any(|gateway| gateway.instance() == instance)
            {
                continue;
            }
            match ObservedGateway::open(&self.bus, instance) {
                Ok(gateway) => self.gateways.push(gateway),
                Err(error) if self.bus.segments()?.contains(&instance) => return Err(error.into()),
                Err(_gone) => {}
            }
        }
        self.gateways.sort_by_key(ObservedGateway::instance);
        Ok(())
    }
}

fn shard_of(shard: &ObservedShard, before: &Counts, now: &Counts, over_s: f64) -> Shard {
    let (ours, theirs) = (&shard.gateway_counters, &shard.backend_counters);
    let ring = |way: usize, depth_bytes, ring_bytes| {
        let (writer, reader) = if way == 0 {
            (ours, theirs)
        } else {
            (theirs, ours)
        };
        let rate = |of: fn(&Counts) -> [u64; 2]| {
            per_s(of(now)[way].saturating_sub(of(before)[way]), over_s)
        };
        Ring {
            depth_bytes,
            ring_bytes,
            records: now.records[way],
            records_per_s: rate(|counts| counts.records),
            bytes_per_s: rate(|counts| counts.bytes),
            lag_records: now.records[way].saturating_sub(reader.get(Counter::RecordsIn)),
            full: writer.get(Counter::RingFull),
            bad_records: reader.get(Counter::BadRecords),
            doorbells: now.doorbells[way],
            doorbells_per_s: rate(|counts| counts.doorbells),
        }
    };
    let depths = (
        shard.to_backend_depth_bytes(),
        shard.to_gateway_depth_bytes(),
    );
    Shard {
        shard: shard.shard,
        asleep: shard.sleeps(),
        sleeps: ours.get(Counter::Sleeps),
        to_backend: ring(0, depths.0, shard.to_backend.ring_bytes()),
        to_gateway: ring(1, depths.1, shard.to_gateway.ring_bytes()),
    }
}

fn refused_by(gateway: &ObservedGateway) -> BTreeMap<&'static str, u64> {
    let mut all = BTreeMap::new();
    for shard in &gateway.shards {
        for (reason, count) in refused(|index| shard.gateway_counters.user(index)) {
            *all.entry(reason).or_default() += count;
        }
    }
    all
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is for reading: 2^52 records in a look are none"
)]
fn per_s(count: u64, over_s: f64) -> f64 {
    count as f64 / over_s.max(0.001)
}
