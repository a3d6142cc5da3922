//! What taps cost the producer of a ring: 200,000 records of 512 bytes a second, in bursts of 64, beside no, one and four
//! taps that read them all. Each tap naps for 2 ms when it has caught up, as `tidegate bus tap` does. Told is the median burst,
//! so that what the scheduler does to the others' threads is left out.
//!
//! ```text
//! cargo run --profile fast -p tidegate-shm-bus --example tap_cost
//! ```

use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use shm_bus::{
    BackendSeat, BusDirectory, Claimed, GatewaySegment, ObservedGateway, Read, RecordCopy,
    RecordHeader, SegmentOptions, Tapped,
};

const BURSTS: u64 = 12_000;
const BURST: u64 = 64;
const BURST_EVERY: Duration = Duration::from_micros(320);
/// Holds 0.3 s of it: the reader may lose its core for a while.
const RING_BYTES: usize = 32 << 20;
const PAYLOAD_BYTES: usize = 464;
const NAP: Duration = Duration::from_millis(2);

fn main() -> Result<(), Box<dyn Error>> {
    let path = format!("/dev/shm/tap-cost-{}", std::process::id());
    for taps in [0, 1, 4] {
        let round = round(&path, taps);
        std::fs::remove_dir_all(&path)?;
        let (ns, seen, missed_bytes) = round?;
        println!(
            "{taps} taps: {ns:.1} ns a record; they saw {seen} records, missed {missed_bytes} bytes"
        );
    }
    Ok(())
}

/// ns a record, what the taps saw together, and what they missed.
fn round(path: &str, taps: usize) -> Result<(f64, u64, u64), Box<dyn Error>> {
    let bus = BusDirectory::open_or_create(path)?;
    let options = SegmentOptions {
        ring_bytes: RING_BYTES,
        ..SegmentOptions::default()
    };
    let mut segment = GatewaySegment::create(&bus, &options)?;
    let mut end = segment.take_shard(0).ok_or("a fresh segment has shard 0")?;
    let mut seat = BackendSeat::take(&bus)?;
    let mut gateway = seat.attach(segment.instance())?;
    let observed = (0..taps).map(|_| ObservedGateway::open(&bus, segment.instance()));
    let observed = observed.collect::<Result<Vec<_>, _>>()?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let watchers: Vec<_> = observed
            .into_iter()
            .map(|gateway| scope.spawn(|| watch(gateway, &ended)))
            .collect();
        let from = &mut gateway.shards[0].to_backend;
        let ended = &ended;
        let reader = scope.spawn(move || {
            let (mut copy, mut read) = (RecordCopy::default(), 0);
            while read < BURSTS * BURST && !ended.load(Ordering::Relaxed) {
                match from.next(&mut copy) {
                    Read::Record(_) => read += 1,
                    Read::Empty => {
                        from.release_to(from.position());
                        thread::sleep(BURST_EVERY);
                    }
                    Read::Bad(bad) => panic!("{bad:?}"),
                }
            }
        });
        let mut times = Vec::new();
        let mut next = Instant::now();
        for burst in 0..BURSTS {
            while Instant::now() < next {
                std::hint::spin_loop();
            }
            let began = Instant::now();
            for number in burst * BURST..(burst + 1) * BURST {
                let Claimed::Claimed(mut claim) = end.to_backend.claim(PAYLOAD_BYTES)? else {
                    ended.store(true, Ordering::Relaxed);
                    return Err("the reader fell behind: too much else runs here".into());
                };
                claim.payload_mut().fill(0x5a);
                let header = RecordHeader {
                    kind: 1,
                    trace: number,
                    ..RecordHeader::default()
                };
                claim.commit(header);
            }
            times.push(began.elapsed());
            next += BURST_EVERY;
        }
        reader.join().map_err(|_| "the reader panicked")?;
        times.sort();
        let ns = times[times.len() / 2].as_secs_f64() * 1e9 / BURST as f64;
        ended.store(true, Ordering::Relaxed);
        let mut sums = (0, 0);
        for watcher in watchers {
            let (seen, missed) = watcher.join().map_err(|_| "a tap panicked")?;
            sums = (sums.0 + seen, sums.1 + missed);
        }
        Ok((ns, sums.0, sums.1))
    })
}

fn watch(mut gateway: ObservedGateway, ended: &AtomicBool) -> (u64, u64) {
    let tap = &mut gateway.shards[0].to_backend;
    let (mut copy, mut seen) = (RecordCopy::default(), 0);
    loop {
        let ended = ended.load(Ordering::Relaxed);
        match tap.next(&mut copy) {
            Tapped::Record(_) => seen += 1,
            Tapped::Lapped { .. } => {}
            Tapped::Empty if ended => break,
            Tapped::Empty => thread::sleep(NAP),
        }
    }
    (seen, tap.missed_bytes())
}
