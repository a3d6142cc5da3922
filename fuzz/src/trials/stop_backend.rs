//! The backend is stopped (SIGSTOP) under load: it neither answers nor dies, as when its disk hangs. The gateway goes on
//! answering pings; every send gets an acknowledgement, a refusal or a close; and when the backend continues, nothing
//! stays unanswered. The ring is the usual one and does not fill up meanwhile: who is parked because it is full is
//! another trial's matter.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Scale, Stand};
use crate::rig::system::Signal;
use crate::rig::{Role, Setup, Shop};

const VISITORS: u64 = 200;
const AGENTS: u64 = 8;
const SENDS_PER_S: u64 = 500;
const WARM_MESSAGES: u64 = 500;
const STOP_S: u64 = 10;
/// The same at a tenth of the scale.
const STOP_SHORT_S: u64 = 3;
const PING_EVERY_MS: u64 = 100;
const PONG_P99_MS_MAX: u64 = 50;
const PERCENTILE: f64 = 99.0;

/// `stop-backend`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let full = stand.scale == Scale::Full;
    let stop_s = if full { STOP_S } else { STOP_SHORT_S };
    let setup = Setup::new(&stand.binary, stand.scratch());
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    shop.chat(SENDS_PER_S);
    shop.flow(WARM_MESSAGES)?;

    let (sent, busy) = (shop.crowd.tally.sent, shop.crowd.tally.set_back);
    shop.crowd.tally.pongs_us.reset();
    shop.system.signal(Role::Backend, Signal::STOP)?;
    let stopped = Instant::now();
    while stopped.elapsed() < Duration::from_secs(stop_s) {
        (0..shop.crowd.len()).for_each(|number| shop.crowd.ping(number));
        shop.crowd.pass(Duration::from_millis(PING_EVERY_MS))?;
    }
    let pongs = shop.crowd.tally.pongs_us.clone();
    let closed: u64 = shop.crowd.tally.closed.values().sum();
    let unanswered = shop.crowd.unanswered();
    shop.system.signal(Role::Backend, Signal::CONT)?;
    let continued = Instant::now();
    shop.crowd.load = None;
    let settle = Duration::from_secs(60);
    shop.crowd
        .until("everything said meanwhile is answered", settle, |crowd| {
            crowd.unanswered() == 0
        })
        .with_context(|| shop.logs())?;

    let p99_us = pongs.value_at_percentile(PERCENTILE);
    stand.figure("stopped for", format!("{stop_s} s"));
    stand.figure("messages said meanwhile", shop.crowd.tally.sent - sent);
    stand.figure(
        "refused busy meanwhile, and said again",
        shop.crowd.tally.set_back - busy,
    );
    stand.figure("connections closed", closed);
    stand.figure("pings answered meanwhile", pongs.len());
    stand.figure(
        "ping to pong meanwhile, p99",
        format!("{:.1} ms", p99_us as f64 / 1000.0),
    );
    stand.figure(
        "ping to pong meanwhile, longest",
        format!("{:.1} ms", pongs.max() as f64 / 1000.0),
    );
    stand.figure("unanswered when it continues", unanswered);
    stand.figure(
        "until all of them are answered",
        format!("{} ms", continued.elapsed().as_millis()),
    );
    let asked = u64::try_from(shop.crowd.len())? * stop_s * 1000 / (2 * PING_EVERY_MS);
    ensure!(
        pongs.len() >= asked,
        "the gateway answered {} pings, expected {asked} or more",
        pongs.len()
    );
    // On a shared machine a figure; a promise where the counts are full.
    ensure!(
        !full || p99_us <= PONG_P99_MS_MAX * 1000,
        "p99 of ping to pong is {p99_us} µs, expected {PONG_P99_MS_MAX} ms or less"
    );
    shop.close(stand).with_context(|| shop.logs())?;
    Ok(())
}
