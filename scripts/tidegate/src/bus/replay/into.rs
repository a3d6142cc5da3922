//! A recording into a bus of its own: the replay plays the gateways, with neither browsers nor sockets, and whatever
//! backend is started on that bus gets the recorded records, in their order, at their times, scaled.
//!
//! It behaves as a gateway does: a full ring waits, never drops; `to_gateway` is always drained; a connection that the
//! backend closes says nothing more; conversations are called as this backend calls them. What is not played: envelopes of
//! connections that opened before the recording began (no backend could know them), and what the backend closed.

mod player;

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use shm_bus::BusDirectory;
use shm_bus::recording::{Direction, Entry, Event};

use super::naming::Naming;
use super::{ReplayArguments, open, tell_damage};
use crate::pace::Pace;
use player::{Player, Tally};

/// Between two looks at the rings while something is waited for.
const NAP: Duration = Duration::from_millis(1);
/// How long after the last record the backend may take to answer what it took.
const ANSWERS_MAX: Duration = Duration::from_secs(5);

/// Plays into the bus in that directory, which is made if need be.
pub fn run(wish: &ReplayArguments, directory: &Path, told: &AtomicBool) -> Result<ExitCode> {
    // First what clients were told: later it is known what they speak of.
    let mut recorded = Naming::default();
    let mut first = open(&wish.file)?;
    while let Some(entry) = first.next()? {
        if let Event::Record {
            leads: Direction::ToGateway,
            header,
            payload,
        } = entry.event
        {
            recorded.learn(header.kind, header.flags, payload);
        }
    }
    let mut recording = open(&wish.file)?;
    let bus = BusDirectory::open_or_create(directory)?;
    shm_bus::exit_on_truncation().context("cannot install a signal handler")?;
    let mut player = Player::new(bus, recording.head().protocol, recorded, told);
    let mut pace = None;
    while let Some(entry) = recording.next()? {
        if told.load(Ordering::Relaxed) {
            break;
        }
        let pace = match &mut pace {
            Some(pace) => pace,
            None if matches!(entry.event, Event::Gateway { .. }) => {
                player.play(&entry)?;
                continue;
            }
            // The time begins when somebody listens.
            None => {
                wait_for_backend(&mut player, directory, told)?;
                pace.insert(Pace::begin(wish.speed))
            }
        };
        wait_until_due(&mut player, pace, &entry, told)?;
        player.play(&entry)?;
    }
    let end = Instant::now() + ANSWERS_MAX;
    while !told.load(Ordering::Relaxed) && (player.waits_for_backend() || Instant::now() < end) {
        player.drain()?;
        if player.is_answered() {
            break;
        }
        std::thread::sleep(NAP);
    }
    tell_damage(&wish.file, &recording);
    let took = pace.map(|pace| pace.took()).unwrap_or_default();
    Ok(finish(&player.end(), took, wish.json))
}

fn wait_for_backend(player: &mut Player<'_>, directory: &Path, told: &AtomicBool) -> Result<()> {
    if !player.has_backend() {
        eprintln!(
            "waiting for a backend on {0}; ours: TIDEGATE_BUS_DIR={0} tidegate --data-dir NEW-DIRECTORY backend",
            directory.display()
        );
    }
    while !player.has_backend() && !told.load(Ordering::Relaxed) {
        std::thread::sleep(NAP);
    }
    Ok(())
}

fn wait_until_due(
    player: &mut Player<'_>,
    pace: &mut Pace,
    entry: &Entry<'_>,
    told: &AtomicBool,
) -> Result<()> {
    while !told.load(Ordering::Relaxed) {
        player.drain()?;
        let wait = pace.until(entry.at_us);
        if wait.is_zero() {
            break;
        }
        std::thread::sleep(wait.min(NAP));
    }
    Ok(())
}

/// Exit code 1: a text was taken by nobody, though it was played.
fn finish(tally: &Tally, took: Duration, as_json: bool) -> ExitCode {
    let accepted = tally.outcomes.get("accepted").copied().unwrap_or(0);
    if as_json {
        let figures = json!({
            "seconds": took.as_secs_f64(), "records": tally.records, "connections": tally.connections,
            "said": tally.said, "accepted": accepted, "outcomes": tally.outcomes, "answers": tally.answers,
            "not_played": {
                "of_unknown_connections": tally.of_unknown, "after_close": tally.after_close,
                "missed_bytes": tally.missed_bytes,
            },
            "unnamed_conversations": tally.unnamed, "waited_for_room": tally.waited_for_room,
        });
        println!("{figures}");
    } else {
        println!(
            "{} records of {} connections in {:.1} s; {} texts, {accepted} accepted; the ring was full {} times",
            tally.records,
            tally.connections,
            took.as_secs_f64(),
            tally.said,
            tally.waited_for_room
        );
        for (outcome, count) in &tally.outcomes {
            println!("answered, {outcome:<16} {count:>8}");
        }
        for (kind, count) in &tally.answers {
            println!("received, {kind:<16} {count:>8}");
        }
        if tally.of_unknown + tally.after_close + tally.missed_bytes > 0 {
            println!(
                "not played: {} records of connections that were there before the recording, {} of connections that the \
                 backend closed, {} bytes that the recording missed",
                tally.of_unknown, tally.after_close, tally.missed_bytes
            );
        }
    }
    if tally.said > tally.outcomes.values().sum() {
        eprintln!(
            "tidegate: {} texts were not answered",
            tally.said - tally.outcomes.values().sum::<u64>()
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
