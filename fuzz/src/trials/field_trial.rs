//! The field's own trial, all in one run: thousands of clients send 8 KiB messages on a schedule that pauses for nothing,
//! half a million junk envelopes are poured in, and the backend is killed in the middle.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::Stand;
use super::recover_conversations::kill_and_await;
use crate::hostile::{self, attacker};
use crate::rig::crowd::ms;
use crate::rig::{Crowd, Load, Setup, Shop};

/// Clients that send.
const CLIENTS: u64 = 3_000;
const CHATS_PER_AGENT: u64 = 100;
/// Each of them says something every so often.
const SENDS_EVERY_S: u64 = 1;
const TEXT_BYTES: usize = 8 << 10;
/// Envelopes that mean nothing, or nothing good.
const JUNK: u64 = 500_000;
/// Before the kill, and after the backend is ready again, at least.
const SENDING: Duration = Duration::from_secs(5);
/// The promise, outside the time from the kill until it is ready again.
const ANSWER_US_MAX: u64 = 200_000;
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let clients = stand.scale.of(CLIENTS);
    let junk = stand.scale.of(JUNK);
    let setup = Setup::new(&stand.binary, &stand.scratch().join("system"));
    let mut shop = Shop::open(stand, &setup, clients, clients.div_ceil(CHATS_PER_AGENT))?;
    let Shop { system, crowd, .. } = &mut shop;
    crowd.load = Some(Load {
        per_s: clients / SENDS_EVERY_S,
        text_bytes: TEXT_BYTES,
    });
    crowd.pass(Duration::from_secs(1))?;

    let poured = AtomicU64::new(0);
    let (at, seed) = (system.ws(), stand.seed);
    let said = crowd.tally.accepted;
    let began = Instant::now();
    let (before, window) = std::thread::scope(|scope| -> anyhow::Result<_> {
        let pouring = scope.spawn(|| pour(at, seed, junk, &poured));
        crowd.answers_count_from_now();
        let half = |crowd: &mut Crowd, until: u64, at_least: Duration| {
            let since = Instant::now();
            crowd.until("the junk is poured in", LIMIT, |_| {
                let enough = poured.load(Ordering::Relaxed) >= until || pouring.is_finished();
                enough && since.elapsed() >= at_least
            })
        };
        half(crowd, junk / 2, SENDING)?;
        let before = crowd.tally.answers_us.clone();
        let window = kill_and_await(system, crowd)?;
        crowd.answers_count_from_now();
        half(crowd, junk, SENDING)?;
        let poured = pouring.join();
        poured.map_err(|_| anyhow::anyhow!("the thread that pours panicked"))??;
        Ok((before, window))
    })?;
    let lasted = began.elapsed();
    let mut answers = crowd.tally.answers_us.clone();
    answers.add(&before)?;
    let said = crowd.tally.accepted - said;

    stand.figure("clients", clients);
    stand.figure("messages of 8 KiB acknowledged", said);
    let per_s = u128::from(said) * 1_000 / lasted.as_millis().max(1);
    stand.figure("of these, a second", per_s);
    stand.figure("junk envelopes", poured.load(Ordering::Relaxed));
    stand.figure(
        "window from the kill until ready",
        format!("{} ms", window.as_millis()),
    );
    for (what, share) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        let value = ms(answers.value_at_quantile(share));
        stand.figure(&format!("acknowledged outside it, {what}"), value);
    }
    shop.close(stand)?;
    ensure!(
        poured.load(Ordering::Relaxed) >= junk,
        "{} of {junk} junk envelopes were taken",
        poured.load(Ordering::Relaxed)
    );
    let p99_us = answers.value_at_quantile(0.99);
    let complaint = format!(
        "p99 outside the window is {}, promised are {}",
        ms(p99_us),
        ms(ANSWER_US_MAX)
    );
    stand.in_time(p99_us <= ANSWER_US_MAX, &complaint)
}

/// Pours connection after connection of junk in; each ends as a connection of junk has to.
fn pour(at: SocketAddr, seed: u64, envelopes: u64, poured: &AtomicU64) -> anyhow::Result<()> {
    let mut number = seed;
    while poured.load(Ordering::Relaxed) < envelopes {
        let (attack, of_them) = hostile::envelopes::junk(number);
        let report = attacker::perform(at, &attack, LIMIT)?;
        if let Some(complaint) = attacker::judge(&attack, &report) {
            anyhow::bail!("{complaint}");
        }
        poured.fetch_add(of_them as u64, Ordering::Relaxed);
        number = number.wrapping_add(1);
    }
    Ok(())
}
