//! A sample as text for people.

use std::fmt::Write as _;

use super::look::{Gateway, Ring, Stat};
use crate::ledger;

/// The whole table, a line each; narrow enough for 100 columns.
pub fn text(stat: &Stat) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write(&mut out, stat);
    out
}

fn write(out: &mut String, stat: &Stat) -> std::fmt::Result {
    writeln!(out, "bus      {}  {} epochs", stat.bus, stat.epochs)?;
    match &stat.backend {
        Some(backend) => writeln!(
            out,
            "backend  {}  pid {}  {}  heartbeat {} ms ago",
            backend.instance,
            backend.pid,
            life(backend.alive),
            backend.heartbeat_age_ms
        )?,
        None => writeln!(out, "backend  none yet")?,
    }
    match stat.frontier {
        0 => writeln!(out, "admission  not controlled: everybody comes in")?,
        frontier => writeln!(
            out,
            "admission  {} tickets given, frontier {} ({} behind), {:.1} a second, {} people wait",
            stat.tickets,
            frontier,
            stat.tickets.saturating_sub(frontier),
            stat.admitted_per_s,
            stat.waiting
        )?,
    }
    for gateway in &stat.gateways {
        write_gateway(out, gateway)?;
    }
    writeln!(
        out,
        "{:<24} {:>12} {:>12} {:>12} {:>12}",
        "ledger", "accepted", "delivered", "pending", "expired"
    )?;
    match &stat.ledger {
        Some(found) => {
            for line in ledger::lines("backend", found) {
                writeln!(out, "{line}")?;
            }
        }
        None => writeln!(
            out,
            "the backend died while it wrote them; the next one writes them again"
        )?,
    }
    let figures: Vec<String> = [&stat.counters, &stat.times]
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name:<22} {value:>12}"))
        .chain(
            stat.refused
                .iter()
                .map(|(reason, count)| format!("{:<22} {count:>12}", format!("refused, {reason}"))),
        )
        .collect();
    // Two columns: a terminal of 40 lines shows it all.
    let half = figures.len().div_ceil(2);
    for (n, left) in figures.iter().take(half).enumerate() {
        let right = figures.get(half + n).map_or("", String::as_str);
        writeln!(out, "{}", format!("{left}    {right}").trim_end())?;
    }
    Ok(())
}

fn write_gateway(out: &mut String, gateway: &Gateway) -> std::fmt::Result {
    writeln!(
        out,
        "gateway  {}  pid {}  {}  {}  {}",
        gateway.instance,
        gateway.pid,
        life(gateway.alive),
        if gateway.served {
            "served"
        } else {
            "not served"
        },
        gateway.build
    )?;
    writeln!(
        out,
        "  {:<14} {:>9} {:>9} {:>5} {:>9} {:>7} {:>6} {:>5} {:>8} shard",
        "ring", "records/s", "KiB/s", "depth", "records", "lag", "full", "bad", "bells/s"
    )?;
    for shard in &gateway.shards {
        for (name, ring) in [
            ("to_backend", &shard.to_backend),
            ("to_gateway", &shard.to_gateway),
        ] {
            let name = format!("{} {name}", shard.shard);
            write_ring(
                out,
                &name,
                ring,
                if shard.asleep { "asleep" } else { "awake" },
            )?;
        }
    }
    for (reason, count) in &gateway.refused {
        writeln!(out, "  refused, {reason:<17} {count:>8}")?;
    }
    Ok(())
}

fn write_ring(out: &mut String, name: &str, ring: &Ring, state: &str) -> std::fmt::Result {
    let percent = ring.depth_bytes * 100 / ring.ring_bytes.max(1);
    writeln!(
        out,
        "  {name:<14} {:>9.1} {:>9.1} {percent:>4}% {:>9} {:>7} {:>6} {:>5} {:>8.1} {state}",
        ring.records_per_s,
        ring.bytes_per_s / 1_024.0,
        ring.records,
        ring.lag_records,
        ring.full,
        ring.bad_records,
        ring.doorbells_per_s,
    )
}

const fn life(alive: bool) -> &'static str {
    if alive { "alive" } else { "dead" }
}
