//! Hostile peers at the running gateway: every attack of [`crate::hostile`] on each of the three services, while a
//! healthy pair chats on the same shard and fresh clients come.
//!
//! What waits for a timeout runs beside everything else; in a tenth, what takes longer than a half handshake is left
//! to the virtual time of `gateway/tests/default_deadlines.rs`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tidegate_bench::latency::Latencies;
use tidegate_bench::socket::Socket;

use super::{Scale, Stand};
use crate::hostile::attacker::{Report, judge, perform};
use crate::hostile::pair::{self, Suffered};
use crate::hostile::target::Target;
use crate::hostile::{self, Attack, HALF_HANDSHAKE, SERVICES, Service, envelopes, replay};
use crate::procfs;

/// Quick attackers at a time.
const AT_A_TIME: usize = 8;
/// What a bad length may take to be refused.
const BAD_LENGTH_MS_MAX: f64 = 100.0;
/// Output that may be held for one connection, bytes.
const OUT_BYTES_MAX: u64 = 1 << 20;
const PAIR_P99_MS_MAX: f64 = 50.0;
const PAIR_MS_MAX: f64 = 500.0;
const FRESH_MS_MAX: f64 = 100.0;
/// Times are judged by `--full` runs, which have the samples for a p99, and where the machine was at least so idle before:
/// what others do to them is nobody's promise. They are reported in any case.
const IDLE_PART_MIN: f64 = 0.8;
/// How long the pair is alone.
const ALONE: Duration = Duration::from_secs(1);
/// What the allocator may keep of a storm's memory.
const KEPT_KIB_MAX: u64 = 16 << 10;
const JUNK_ENVELOPES: u64 = 500_000;
/// Everything must be given back so soon.
const GIVEN_BACK: Duration = Duration::from_secs(15);

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let idle = procfs::idle_part(ALONE)?;
    let judged = stand.scale == Scale::Full && idle >= IDLE_PART_MIN;
    let verdict = if judged {
        "times are judged"
    } else {
        "times are not judged"
    };
    stand.figure(
        "machine idle before",
        format!("{:.0} %: {verdict}", idle * 100.0),
    );
    let mut targets = Vec::new();
    for service in SERVICES {
        let directory = stand.scratch().join(format!("{service:?}").to_lowercase());
        std::fs::create_dir_all(&directory)?;
        targets.push(Target::start(service, &stand.binary, &directory)?);
    }
    let targets = &targets;
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let mut slow = Vec::new();
        for target in targets {
            let listed = attacks(target);
            let full = stand.scale == Scale::Full;
            let waits = |attack: &&Attack| {
                !attack.is_quick()
                    && !attack.is_flood()
                    && (full || attack.within <= HALF_HANDSHAKE)
            };
            for attack in listed.iter().filter(waits) {
                for _ in 0..attack.peers {
                    let (attack, failures) = (attack.clone(), &failures);
                    slow.push(scope.spawn(move || note(target, &attack, HALF_HANDSHAKE, failures)));
                }
            }
        }
        let (waiting, begun) = (slow.len(), Instant::now());
        for target in targets {
            one_service(stand, target, judged, &failures)?;
        }
        for thread in slow {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("an attacker panicked"))?;
        }
        stand.figure("peers that waited for a timeout", waiting);
        stand.figure(
            "until the last of them was gone, s",
            format!("{:.1}", begun.elapsed().as_secs_f64()),
        );
        Ok(())
    })?;
    for target in targets {
        given_back(target)?;
    }
    let failures = failures.into_inner().unwrap_or_default();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

fn attacks(target: &Target) -> Vec<Attack> {
    hostile::attacks(target.service, target.message_bytes_max(), target.tokens())
}

/// Performs it once; a sentence among the failures if it did not end as it should.
fn note(
    target: &Target,
    attack: &Attack,
    lasts: Duration,
    failures: &Mutex<Vec<String>>,
) -> Option<Report> {
    let (report, failure) = match perform(target.ws, attack, lasts) {
        Ok(report) => {
            let failure = judge(attack, &report);
            (Some(report), failure)
        }
        Err(error) => (None, Some(format!("{}: {error}", attack.name))),
    };
    if let (Some(failure), Ok(mut failures)) = (failure, failures.lock()) {
        failures.push(format!("{:?}: {failure}", target.service));
    }
    report
}

fn one_service(
    stand: &mut Stand,
    target: &Target,
    judged: bool,
    failures: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let name = format!("{:?}", target.service).to_lowercase();
    let listed = attacks(target);
    // Once unmeasured: slots and rings are touched for the first time.
    let (count, _) = quick(target, &listed, failures);
    let before_kib = procfs::resident_kib(target.gateway)?;
    let (alone, ()) = beside(target, || {
        std::thread::sleep(ALONE);
        Ok(())
    })?;
    let lasts = if stand.scale == Scale::Full {
        Duration::from_secs(4)
    } else {
        Duration::from_millis(400)
    };
    let peak = AtomicU64::new(0);
    let mut floods = Vec::new();
    let (suffered, bad_length) = beside(target, || {
        let (_, bad_length) = quick(target, &listed, failures);
        for attack in listed.iter().filter(|attack| attack.is_flood()) {
            let begun = Instant::now();
            stand.progress(&format!("{name}: {}", attack.name));
            flood(target, attack, lasts, &peak, failures)?;
            floods.push((attack.name.clone(), begun, Instant::now()));
        }
        if target.service == Service::Chat {
            let begun = Instant::now();
            let poured = pour_junk(target, stand.scale.of(JUNK_ENVELOPES), stand.seed)?;
            let per_s = poured as f64 / begun.elapsed().as_secs_f64();
            stand.figure("chat: junk envelopes", format!("{poured}, {per_s:.0}/s"));
            floods.push(("junk envelopes".to_owned(), begun, Instant::now()));
            replay::replay(target)?;
        }
        Ok(bad_length)
    })?;
    let after_kib = settled_kib(target, before_kib + KEPT_KIB_MAX)?;
    let (messages, fresh) = (suffered.messages.all(), suffered.fresh.all());
    let (worst, p99_ms) = floods
        .iter()
        .map(|(flood, begun, over)| (flood, ms(&suffered.messages.between(*begun, *over), 0.99)))
        .max_by(|one, other| one.1.total_cmp(&other.1))
        .context("floods")?;
    let lines = [
        ("attacks, each as listed", count.to_string()),
        ("a bad length, ms at most", format!("{bad_length:.1}")),
        ("the pair alone", alone.messages.all().line()),
        ("the pair beside them", messages.line()),
        ("worst for the pair", format!("p99 {p99_ms:.1} ms: {worst}")),
        ("fresh clients beside them", fresh.line()),
        (
            "out_bytes per attacker, peak",
            peak.load(Ordering::Relaxed).to_string(),
        ),
        (
            "resident before and after, KiB",
            format!("{before_kib}, {after_kib}"),
        ),
    ];
    for (what, found) in lines {
        stand.figure(&format!("{name}: {what}"), found);
    }
    ensure!(
        after_kib <= before_kib + KEPT_KIB_MAX,
        "{name}: expected the memory back, found {before_kib} KiB before and {after_kib} after"
    );
    for (what, found, limit) in [
        ("a bad length", bad_length, BAD_LENGTH_MS_MAX),
        ("the pair's p99", ms(&messages, 0.99), PAIR_P99_MS_MAX),
        ("the pair's slowest", ms(&messages, 1.0), PAIR_MS_MAX),
        ("a fresh client", ms(&fresh, 1.0), FRESH_MS_MAX),
    ] {
        ensure!(
            found <= limit || !judged,
            "{name}: expected {what} within {limit} ms, found {found:.1} ms"
        );
    }
    Ok(())
}

fn ms(latencies: &Latencies, part: f64) -> f64 {
    latencies.quantile(part).as_secs_f64() * 1e3
}

/// Does it while a healthy pair chats; what the pair suffered, and what came out.
fn beside<T>(
    target: &Target,
    act: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(Suffered, T)> {
    let (stop, talk) = (AtomicBool::new(false), target.talk());
    std::thread::scope(|scope| {
        let chats = scope.spawn(|| pair::chat(target.ws, &talk, &stop));
        let done = act();
        stop.store(true, Ordering::Relaxed);
        let chats = chats.join();
        let suffered = chats
            .map_err(|_| anyhow::anyhow!("the healthy pair panicked"))?
            .with_context(|| format!("the healthy pair of {:?}", target.service))?;
        Ok((suffered, done?))
    })
}

/// All that is answered at once; how many, and the slowest refusal of a bad length, ms.
fn quick(target: &Target, listed: &[Attack], failures: &Mutex<Vec<String>>) -> (usize, f64) {
    let quick: Vec<&Attack> = listed.iter().filter(|attack| attack.is_quick()).collect();
    let (next, slowest_us) = (AtomicUsize::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(attack) = quick.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = note(target, attack, Duration::ZERO, failures);
                    if let Some(report) = report
                        && attack.is_bad_length()
                    {
                        let us = u64::try_from(report.after.as_micros()).unwrap_or(u64::MAX);
                        slowest_us.fetch_max(us, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    (quick.len(), slowest_us.load(Ordering::Relaxed) as f64 / 1e3)
}

/// One flood by all its peers, with an eye on what the gateway holds for them.
fn flood(
    target: &Target,
    attack: &Attack,
    lasts: Duration,
    peak: &AtomicU64,
    failures: &Mutex<Vec<String>>,
) -> anyhow::Result<()> {
    let peers = attack.peers as u64;
    let longest = target.message_bytes_max();
    std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..peers)
            .map(|_| scope.spawn(|| note(target, attack, lasts, failures)))
            .collect();
        while !attackers.iter().all(|attacker| attacker.is_finished()) {
            let (out, collected) = (target.figure("out_bytes")?, target.figure("collect_bytes")?);
            // One message may be longer than the bound; it is echoed whole.
            let out_max = peers * OUT_BYTES_MAX.max(longest);
            peak.fetch_max(out / peers, Ordering::Relaxed);
            if out > out_max || collected > 2 * (peers + 1) * longest {
                bail!(
                    "{}: holds {out} bytes of output, {collected} of messages",
                    attack.name
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    })
}

/// Junk by one connection after the other, some at a time; each must end in 4503. How many envelopes went in.
fn pour_junk(target: &Target, envelopes: u64, seed: u64) -> anyhow::Result<u64> {
    let poured = AtomicU64::new(0);
    let (number, failures) = (AtomicU64::new(seed), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while poured.load(Ordering::Relaxed) < envelopes
                    && failures.lock().is_ok_and(|all| all.is_empty())
                {
                    let (attack, count) = envelopes::junk(number.fetch_add(1, Ordering::Relaxed));
                    note(target, &attack, Duration::ZERO, &failures);
                    poured.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    ensure!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(poured.into_inner())
}

/// Resident memory, as soon as it is no more than this, or after a while. The allocator gives back what it holds as it
/// goes about its work, so there is some.
fn settled_kib(target: &Target, enough_kib: u64) -> anyhow::Result<u64> {
    let deadline = Instant::now() + GIVEN_BACK;
    loop {
        let kib = procfs::resident_kib(target.gateway)?;
        if kib <= enough_kib || Instant::now() > deadline {
            return Ok(kib);
        }
        drop(Socket::open(target.ws, None)?);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Nobody is connected any more, and nothing is held.
fn given_back(target: &Target) -> anyhow::Result<()> {
    let deadline = Instant::now() + GIVEN_BACK;
    for gauge in ["connections", "out_bytes", "parked_bytes", "collect_bytes"] {
        while target.figure(gauge)? != 0 {
            ensure!(
                Instant::now() < deadline,
                "{:?}: expected {gauge} to be 0 afterwards, found {}",
                target.service,
                target.figure(gauge)?
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}
