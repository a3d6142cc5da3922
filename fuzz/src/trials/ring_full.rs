//! The backend stands still for a minute while people go on sending, and the ring that leads to it is full: what finds
//! no room is held and then refused `busy` with a time to come back, never dropped; who only listens has pongs all the
//! while; and two seconds after relief messages are accepted again.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::Stand;
use crate::rig::system::Signal;
use crate::rig::{Crowd, Role, Setup, Shop};

const STOPPED_S: u64 = 60;
/// Less than a second of the messages below.
const RING_BYTES: u64 = 256 << 10;
const PARKED_BYTES_MAX: u64 = 1 << 20;
const VISITORS: u64 = 200;
const AGENTS: u64 = 4;
const SENDS_PER_S: u64 = 2_000;
/// People who are there and say nothing: their sockets are never held.
const LISTENERS: u64 = 20;
const PING_EVERY: Duration = Duration::from_millis(200);
const TURN: Duration = Duration::from_millis(2);
const RELIEF_MS_MAX: u128 = 2_000;
const COME_S_MAX: u64 = 30;

/// `ring-full`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let stopped_for = Duration::from_secs(stand.scale.of(STOPPED_S));
    let setup = Setup::new(&stand.binary, stand.scratch())
        .with("GATEWAY__RING_BYTES", RING_BYTES)
        .with("GATEWAY__PARKED_BYTES_MAX", PARKED_BYTES_MAX);
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    let mut listeners = Crowd::new(shop.system.ws(), stand.seed ^ 1)?;
    for n in 0..LISTENERS {
        listeners.add_visitor(&shop.system.visitor_token(VISITORS + n));
    }
    listeners.start();
    let come = Duration::from_secs(COME_S_MAX);
    listeners.until("the listeners are welcome", come, |crowd| {
        crowd.open() == crowd.len()
    })?;
    shop.chat(SENDS_PER_S);
    shop.flow(500)?;

    shop.system.signal(Role::Backend, Signal::STOP)?;
    let (stopped, accepted) = (Instant::now(), shop.crowd.tally.accepted);
    let (mut pings, mut next_ping) = (0, stopped);
    let (mut parked_bytes_most, mut to_busy) = (0.0_f64, None);
    while stopped.elapsed() < stopped_for {
        if Instant::now() >= next_ping {
            next_ping += PING_EVERY;
            (0..listeners.len()).for_each(|number| listeners.ping(number));
            pings += LISTENERS;
            let metrics = shop.system.metrics(Role::Gateway(0))?;
            parked_bytes_most = parked_bytes_most.max(metrics.sum("tidegate_gateway_parked_bytes"));
        }
        shop.crowd.turn(TURN)?;
        listeners.turn(Duration::ZERO)?;
        if to_busy.is_none() && shop.crowd.tally.set_back > 0 {
            to_busy = Some(stopped.elapsed());
        }
    }
    let metrics = shop.system.metrics(Role::Gateway(0))?;
    let refused_busy = shop.crowd.tally.set_back;
    let accepted_meanwhile = shop.crowd.tally.accepted - accepted;

    shop.system.signal(Role::Backend, Signal::CONT)?;
    let relieved = Instant::now();
    let number = shop.crowd.len() - 1;
    let before = shop.crowd.tally.accepted;
    let relief = Duration::from_secs(COME_S_MAX);
    shop.crowd
        .until("a message is accepted after relief", relief, |crowd| {
            crowd.tally.accepted > before
        })?;
    let first = relieved.elapsed();
    // All who were told to come back do so within their time, a bounded one.
    shop.crowd.load = None;
    shop.crowd
        .until(
            "everything said is answered after relief",
            relief,
            |crowd| crowd.unanswered() == 0,
        )
        .with_context(|| shop.logs())?;
    let all = relieved.elapsed();
    // A new message, of somebody who waited for nothing.
    let asked = Instant::now();
    let before = shop.crowd.tally.accepted;
    shop.crowd
        .say(number, None, 32)
        .context("no room in an empty outbox")?;
    shop.crowd
        .until("a new message is accepted", relief, |crowd| {
            crowd.tally.accepted > before
        })?;
    let fresh = asked.elapsed();
    listeners.pass(Duration::from_millis(500))?;

    stand.figure("backend stopped", format!("{} s", stopped_for.as_secs()));
    stand.figure(
        "messages held",
        metrics.sum("tidegate_gateway_chat_parked_total"),
    );
    stand.figure("messages refused busy", refused_busy);
    stand.figure(
        "from the stop to the first refusal",
        to_busy.map_or("none".to_owned(), |time| format!("{} ms", time.as_millis())),
    );
    stand.figure(
        "held at most",
        format!(
            "{:.1} KiB of {} KiB",
            parked_bytes_most / 1024.0,
            PARKED_BYTES_MAX >> 10
        ),
    );
    let pongs = &listeners.tally.pongs_us;
    stand.figure(
        "pings of listeners, answered",
        format!("{} of {pings}", pongs.len()),
    );
    stand.figure(
        "pong while the ring is full, p99",
        format!("{:.1} ms", pongs.value_at_quantile(0.99) as f64 / 1_000.0),
    );
    let ms = |time: Duration| format!("{} ms", time.as_millis());
    stand.figure("first acceptance after relief", ms(first));
    stand.figure("all that was said is answered after relief", ms(all));
    stand.figure("a new message then", ms(fresh));
    shop.close(stand).with_context(|| shop.logs())?;

    ensure!(
        accepted_meanwhile <= VISITORS + AGENTS,
        "a stopped backend accepted {accepted_meanwhile}"
    );
    ensure!(
        refused_busy > 0,
        "nobody was refused: the ring was never full"
    );
    ensure!(
        parked_bytes_most <= PARKED_BYTES_MAX as f64,
        "{parked_bytes_most} bytes were held, parked_bytes_max is {PARKED_BYTES_MAX}"
    );
    ensure!(
        pongs.len() == pings,
        "{} of {pings} pings were answered",
        pongs.len()
    );
    ensure!(
        listeners.tally.closed.is_empty() && listeners.open() == listeners.len(),
        "listeners lost their connections: {:?}",
        listeners.tally.closed
    );
    ensure!(
        first.as_millis() <= RELIEF_MS_MAX && fresh.as_millis() <= RELIEF_MS_MAX,
        "accepted {first:?} after relief, a new message within {fresh:?}; expected {RELIEF_MS_MAX} ms at most"
    );
    Ok(())
}
