//! `tidegate bus stat`: the bus of a running Tidegate, looked at through read-only mappings. Two looks, some time
//! apart, give the rates.

use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use shm_bus::{BusDirectory, Control, Counter, ObservedCounters, ObservedGateway};
use std::collections::BTreeMap;
use tidegate_backend::bus::board::Board;
use tidegate_backend::engine::ledger::Ledger;
use tidegate_gateway::chat::counters::{Tally, refused};

use crate::ledger::print_ledger;
use crate::settings::Settings;

/// `tidegate bus stat`
#[derive(Debug, clap::Args)]
pub struct StatArguments {
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Milliseconds between the two looks that the rates are taken from
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    over_ms: u64,
}

/// One ring of one shard.
#[derive(Serialize)]
struct Ring {
    depth_bytes: u64,
    ring_bytes: u64,
    records: u64,
    records_per_s: f64,
    /// Claims that found no room.
    full: u64,
    bad_records: u64,
}

#[derive(Serialize)]
struct Shard {
    shard: u16,
    asleep: bool,
    to_backend: Ring,
    to_gateway: Ring,
}

#[derive(Serialize)]
struct Gateway {
    instance: String,
    pid: u32,
    build: String,
    alive: bool,
    /// The backend that attached to it last; served while it is the one that holds the seat.
    attached: Option<String>,
    shards: Vec<Shard>,
    /// What the gateway itself refused, over its shards.
    refused: BTreeMap<&'static str, u64>,
}

#[derive(Serialize)]
struct Backend {
    instance: String,
    pid: u32,
    alive: bool,
    heartbeat_age_ms: u64,
}

#[derive(Serialize)]
struct Stat {
    bus: String,
    backend: Option<Backend>,
    tickets: u64,
    frontier: u64,
    /// How fast the frontier moves, tickets a second; 0: unknown, or nobody controls admission.
    admitted_per_s: f64,
    /// Visitors in the waiting rooms of the gateways that live.
    waiting: u64,
    gateways: Vec<Gateway>,
    ledger: Option<Ledger>,
    counters: BTreeMap<&'static str, u64>,
    /// How long turns and texts took, in µs.
    times: BTreeMap<&'static str, u64>,
    /// What the backend refused.
    refused: BTreeMap<&'static str, u64>,
}

/// Looks and prints; refuses where no bus is.
pub fn run(settings: &Settings, arguments: &StatArguments) -> Result<()> {
    let path = &settings.bus_dir;
    if !path.exists() {
        bail!(
            "no Tidegate runs on {}: there is no bus at {}. Start it with `tidegate up`, or name its data directory: \
             --data-dir DIRECTORY",
            settings.data_dir.display(),
            path.display()
        );
    }
    let bus = BusDirectory::open(path)?;
    let control = Control::observe(&bus)?;
    let gateways = open_gateways(&bus)?;
    if !bus.backend_is_alive() && !gateways.iter().any(ObservedGateway::is_alive) {
        bail!(
            "no Tidegate runs on {}: what is at {} was left by one that ended. Start it with `tidegate up`",
            settings.data_dir.display(),
            path.display()
        );
    }
    let before: Vec<_> = gateways.iter().flat_map(records).collect();
    sleep(Duration::from_millis(arguments.over_ms));
    let stat = look(&bus, &control, &gateways, &before, arguments.over_ms)?;
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string(&stat).context("figures as JSON")?
        );
    } else {
        print(&stat);
    }
    Ok(())
}

/// A segment that goes while it is opened belongs to a gateway that ended just now.
fn open_gateways(bus: &BusDirectory) -> Result<Vec<ObservedGateway>> {
    let mut gateways = Vec::new();
    for instance in bus.segments()? {
        match ObservedGateway::open(bus, instance) {
            Ok(gateway) => gateways.push(gateway),
            Err(error) if bus.segments()?.contains(&instance) => return Err(error.into()),
            Err(_gone) => {}
        }
    }
    gateways.sort_by_key(ObservedGateway::instance);
    Ok(gateways)
}

/// Records of each shard's two rings so far.
fn records(gateway: &ObservedGateway) -> impl Iterator<Item = [u64; 2]> {
    gateway.shards.iter().map(|shard| {
        [
            shard.gateway_counters.get(Counter::RecordsOut),
            shard.backend_counters.get(Counter::RecordsOut),
        ]
    })
}

fn look(
    bus: &BusDirectory,
    control: &Control,
    gateways: &[ObservedGateway],
    before: &[[u64; 2]],
    over_ms: u64,
) -> Result<Stat> {
    let now_us = u64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .context("the clock is before 1970")?
            .as_micros(),
    )?;
    let mut before = before.iter();
    let mut shown = Vec::new();
    for gateway in gateways {
        let mut shards = Vec::new();
        for shard in &gateway.shards {
            let [sent, answered] = before.next().copied().unwrap_or_default();
            let ring =
                |depth_bytes, ring_bytes, out: &ObservedCounters, other: &ObservedCounters, was| {
                    let records = out.get(Counter::RecordsOut);
                    Ring {
                        depth_bytes,
                        ring_bytes,
                        records,
                        records_per_s: per_s(records.saturating_sub(was), over_ms),
                        full: out.get(Counter::RingFull),
                        bad_records: other.get(Counter::BadRecords),
                    }
                };
            let (ours, theirs) = (&shard.gateway_counters, &shard.backend_counters);
            shards.push(Shard {
                shard: shard.shard,
                asleep: shard.sleeps(),
                to_backend: ring(
                    shard.to_backend_depth_bytes(),
                    shard.to_backend.ring_bytes(),
                    ours,
                    theirs,
                    sent,
                ),
                to_gateway: ring(
                    shard.to_gateway_depth_bytes(),
                    shard.to_gateway.ring_bytes(),
                    theirs,
                    ours,
                    answered,
                ),
            });
        }
        shown.push(Gateway {
            instance: gateway.instance().to_string(),
            pid: gateway.pid(),
            build: gateway.build().to_owned(),
            alive: gateway.is_alive(),
            attached: gateway.attached().map(|instance| instance.to_string()),
            shards,
            refused: refused_by(gateway),
        });
    }
    let board = Board::read(control);
    let living = gateways.iter().filter(|gateway| gateway.is_alive());
    let waiting = living
        .flat_map(|gateway| &gateway.shards)
        .map(|shard| shard.gateway_counters.user(Tally::Waiting.index()))
        .sum();
    Ok(Stat {
        bus: bus.path().display().to_string(),
        backend: control.backend_instance().map(|instance| Backend {
            instance: instance.to_string(),
            pid: control.backend_pid(),
            alive: bus.backend_is_alive(),
            heartbeat_age_ms: now_us.saturating_sub(control.backend_heartbeat_us()) / 1_000,
        }),
        tickets: control.tickets(),
        frontier: control.frontier(),
        admitted_per_s: per_s(control.admission_rate(), 1_000_000),
        waiting,
        gateways: shown,
        ledger: board.as_ref().map(Board::ledger),
        counters: board.iter().flat_map(Board::counters).collect(),
        times: board.iter().flat_map(Board::times).collect(),
        refused: board.iter().flat_map(Board::refused).collect(),
    })
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
fn per_s(records: u64, over_ms: u64) -> f64 {
    records as f64 * 1_000.0 / over_ms.max(1) as f64
}

fn print(stat: &Stat) {
    println!("bus      {}", stat.bus);
    match &stat.backend {
        Some(backend) => println!(
            "backend  {}  pid {}  {}  heartbeat {} ms ago",
            backend.instance,
            backend.pid,
            life(backend.alive),
            backend.heartbeat_age_ms
        ),
        None => println!("backend  none yet"),
    }
    match stat.frontier {
        0 => println!("admission  not controlled: everybody comes in"),
        frontier => println!(
            "admission  {} tickets given, frontier {} ({} behind), {:.1} a second, {} people wait",
            stat.tickets,
            frontier,
            stat.tickets.saturating_sub(frontier),
            stat.admitted_per_s,
            stat.waiting
        ),
    }
    for gateway in &stat.gateways {
        println!(
            "gateway  {}  pid {}  {}  {}",
            gateway.instance,
            gateway.pid,
            life(gateway.alive),
            gateway.build
        );
        println!(
            "  {:<14} {:>12} {:>12} {:>14} {:>12} {:>8} {:>5}",
            "ring", "depth bytes", "of", "records", "a second", "full", "bad"
        );
        for shard in &gateway.shards {
            for (name, ring) in [
                ("to_backend", &shard.to_backend),
                ("to_gateway", &shard.to_gateway),
            ] {
                println!(
                    "  {:<14} {:>12} {:>12} {:>14} {:>12.1} {:>8} {:>5}",
                    format!("{} {name}", shard.shard),
                    ring.depth_bytes,
                    ring.ring_bytes,
                    ring.records,
                    ring.records_per_s,
                    ring.full,
                    ring.bad_records
                );
            }
        }
        for (reason, count) in &gateway.refused {
            println!("  refused, {reason:<17} {count:>8}");
        }
    }
    println!(
        "{:<24} {:>12} {:>12} {:>12} {:>12}",
        "ledger", "accepted", "delivered", "pending", "expired"
    );
    match &stat.ledger {
        Some(ledger) => print_ledger("backend", ledger),
        None => println!("the backend died while it wrote them; the next one writes them again"),
    }
    for (name, value) in &stat.counters {
        println!("{name:<24} {value:>12}");
    }
    for (name, value) in &stat.times {
        println!("{name:<24} {value:>12}");
    }
    for (reason, count) in &stat.refused {
        println!("refused, {reason:<15} {count:>12}");
    }
}

const fn life(alive: bool) -> &'static str {
    if alive { "alive" } else { "dead" }
}
