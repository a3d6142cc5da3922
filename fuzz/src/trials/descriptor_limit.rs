//! No descriptor left: accepting pauses, at little cost, and goes on when there is room; whoever is connected is served
//! all the while. First at the limit that the process was started with, which it stops short of by itself; then at one
//! that was lowered under it, where it is the kernel that refuses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, prlimit};
use tidegate_bench::latency::Latencies;
use tidegate_bench::socket::{Socket, TEXT};

use super::{Scale, Stand};
use crate::hostile::pair::{self, Talk};
use crate::hostile::target::Target;
use crate::hostile::upgrade;
use crate::procfs;

const LIMIT: u64 = 500;
/// Below what is open when it is lowered.
const LOWERED: u64 = 300;
/// Who come at a time: more than there is room for.
const CROWD: usize = 600;
/// Who leave, so that others get in.
const LEAVE: usize = 300;
const CPU_PART_MAX: f64 = 0.5;
const GOES_ON: Duration = Duration::from_secs(10);
const MESSAGE_EVERY: Duration = Duration::from_millis(20);

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let target = Target::with_descriptors(&stand.binary, stand.scratch(), LIMIT)?;
    let time = if stand.scale == Scale::Full {
        Duration::from_secs(30)
    } else {
        Duration::from_secs(3)
    };
    let mut lasting = Socket::open(target.ws, None)?;
    let mut crowd: Vec<TcpStream> = Vec::new();
    for (name, limit) in [("its own", LIMIT), ("a lowered", LOWERED)] {
        if limit != LIMIT {
            let limit = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            prlimit(Some(target.gateway), Resource::Nofile, limit).context("lowering the limit")?;
            // The accept that is under way still has the limit of when it was begun.
            crowd.drain(..LEAVE);
        }
        while crowd.len() < CROWD {
            let mut stream = TcpStream::connect(target.ws)?;
            stream.write_all(&upgrade(None, ""))?;
            crowd.push(stream);
        }
        at_the_limit(stand, &target, name, &mut lasting, time)?;
        // Those who came first leave; those who waited are let in.
        crowd.drain(..LEAVE);
        let begun = Instant::now();
        let mut answer = [0; 12];
        for stream in &mut crowd[..LEAVE / 2] {
            stream.set_read_timeout(Some(GOES_ON))?;
            stream
                .read_exact(&mut answer)
                .context("expected those who waited to be let in")?;
            ensure!(answer == *b"HTTP/1.1 101", "expected 101, found {answer:?}");
        }
        stand.figure(
            &format!("{name} limit: until {} who waited were in, ms", LEAVE / 2),
            begun.elapsed().as_millis(),
        );
    }
    drop(crowd);
    // And a fresh pair is served as ever.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let pair = scope.spawn(|| pair::chat(target.ws, &Talk::Echo, &stop));
        std::thread::sleep(Duration::from_secs(1));
        stop.store(true, Ordering::Relaxed);
        let pair = pair
            .join()
            .map_err(|_| anyhow::anyhow!("the pair panicked"))?;
        pair.map(drop).context("a pair after the limit")
    })?;
    // Asked now: the page of figures needs a descriptor as well.
    let pauses = target.figure("accept_pauses_total")?;
    stand.figure("times that accepting paused", pauses);
    ensure!(
        pauses >= 2,
        "expected accepting to pause, found {pauses} times"
    );
    Ok(())
}

/// Measures what the limit costs the gateway, and whoever is connected.
fn at_the_limit(
    stand: &mut Stand,
    target: &Target,
    name: &str,
    lasting: &mut Socket,
    time: Duration,
) -> anyhow::Result<()> {
    let (before, begun) = (procfs::cpu(target.gateway)?, Instant::now());
    let latencies = echoes(lasting, time)?;
    let cpu = procfs::cpu(target.gateway)? - before;
    let part = cpu.as_secs_f64() / begun.elapsed().as_secs_f64();
    let held = procfs::descriptors(target.gateway)?;
    stand.figure(&format!("{name} limit: descriptors held"), held);
    stand.figure(&format!("{name} limit: a lasting client"), latencies.line());
    stand.figure(
        &format!("{name} limit: of a core"),
        format!("{:.1} %", part * 100.0),
    );
    ensure!(
        part <= CPU_PART_MAX,
        "expected under {CPU_PART_MAX} of a core at {name} limit, found {part:.2}"
    );
    Ok(())
}

/// A message every 20 ms.
fn echoes(socket: &mut Socket, time: Duration) -> std::io::Result<Latencies> {
    let (mut latencies, mut payload) = (Latencies::default(), Vec::new());
    let end = Instant::now() + time;
    while Instant::now() < end {
        let begun = Instant::now();
        socket.send(TEXT, b"still served")?;
        socket.receive(&mut payload)?;
        latencies.record(begun.elapsed());
        std::thread::sleep(MESSAGE_EVERY);
    }
    Ok(latencies)
}
