//! Question: what does the bus cost, from one process to another, when both spin?
//!
//! Two processes on two cores, the real files, the real attach: (1) a stream of records one way, (2) a ping and its
//! answer. The answers are checked: every record's number and payload arrive, in order, none missing.
//!
//! ```text
//! cargo run --release -p tidegate-shm-bus --example ring_speed -- [payload bytes] [records] [pauses] [pings]
//! ```
//!
//! By default 464 bytes of payload (with the 48 of the header a 512-byte record), 20,000,000 records, and 128 pauses
//! of the consumer when it has caught up. With 1 it looks again at once, and takes the producer's cursor away from it
//! for each record: that costs about as much again. A backend's turn does not do so.

use std::{
    error::Error,
    process::{Child, Command},
    time::Instant,
};

use shm_bus::{
    BackendSeat, BusDirectory, Claimed, Consumer, GatewaySegment, Producer, Read, RecordCopy,
    RecordHeader, SegmentOptions, record_span_bytes,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

const WINDOW: u32 = 10_000;
const STREAM: u16 = 1;
const PING: u16 = 2;
/// Room is given back this often: a store that the other core then fetches.
const RELEASE_BYTES: u64 = 64 * 1024;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, default: usize| arguments.get(at).map_or(Ok(default), |text| text.parse());
    if arguments.first().is_some_and(|first| first == "gateway") {
        return gateway(
            &arguments[1],
            number(2, 0)?,
            number(3, 0)? as u64,
            number(4, 0)? as u64,
        );
    }
    let (payload_bytes, records) = (number(0, 464)?, number(1, 20_000_000)? as u64);
    let (stream_pauses, pings) = (u32::try_from(number(2, 128)?)?, number(3, 200_000)? as u64);
    let parent = tempfile::tempdir_in("/dev/shm")?;
    let path = parent.path().join("bus");
    let bus = BusDirectory::open_or_create(&path)?;
    let mut seat = BackendSeat::take(&bus)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("gateway")
        .arg(&path)
        .args([
            payload_bytes.to_string(),
            records.to_string(),
            pings.to_string(),
        ])
        .spawn()?;
    pin_to(0)?;
    let instance = loop {
        if let Some(instance) = seat.discover()?.first() {
            break *instance;
        }
        if let Some(status) = child.try_wait()? {
            return Err(format!("the gateway ended before it was found: {status}").into());
        }
    };
    let mut attached = seat.attach(instance)?;
    let ports = &mut attached.shards[0];
    backend(
        (&mut ports.to_backend, &mut ports.to_gateway),
        (records, pings),
        stream_pauses,
        &mut child,
    )?;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("the gateway ended with {status}").into());
    }
    Ok(())
}

/// Checks every record, then answers pings.
fn backend(
    (from, to): (&mut Consumer, &mut Producer),
    (records, pings): (u64, u64),
    stream_pauses: u32,
    child: &mut Child,
) -> Outcome<()> {
    let (mut copy, mut expected, mut answered, mut idle) =
        (RecordCopy::default(), 0u64, 0u64, 0u64);
    while answered < pings {
        match from.next(&mut copy) {
            Read::Record(header) if header.kind == STREAM => {
                idle = 0;
                let words = (
                    copy.payload()[..8].try_into()?,
                    copy.payload()[copy.payload().len() - 8..].try_into()?,
                );
                if (u64::from_le_bytes(words.0), u64::from_le_bytes(words.1))
                    != (expected, !expected)
                {
                    return Err(format!("record {expected} arrived with another's payload").into());
                }
                expected += 1;
                if from.position().get() - from.released().get() >= RELEASE_BYTES {
                    from.release_to(from.position());
                }
            }
            Read::Record(header) if header.kind == PING => {
                idle = 0;
                from.release_to(from.position());
                send(to, PING, header.trace, |_| {}, 0)?;
                answered += 1;
            }
            Read::Empty => {
                idle += 1;
                if idle.is_multiple_of(1 << 24) && child.try_wait()?.is_some() {
                    return Err("the gateway died".into());
                }
                let pauses = if expected < records { stream_pauses } else { 1 };
                (0..pauses).for_each(|_| std::hint::spin_loop());
            }
            other => return Err(format!("{other:?}").into()),
        }
    }
    if expected != records {
        return Err(format!("{expected} records arrived, expected {records}").into());
    }
    Ok(())
}

fn gateway(path: &str, payload_bytes: usize, records: u64, pings: u64) -> Outcome<()> {
    let bus = BusDirectory::open_or_create(path)?;
    let mut segment = GatewaySegment::create(&bus, &SegmentOptions::default())?;
    let mut end = segment.take_shard(0).ok_or("shard 0")?;
    pin_to(1)?;
    while end.backend.instance().is_none() {
        std::hint::spin_loop();
    }
    // Other work on this machine shows in the upper percentiles: the lower ones are the ring's.
    let mut window_start = Instant::now();
    let mut windows_ns = Vec::new();
    for number in 0..records {
        if number.is_multiple_of(u64::from(WINDOW)) {
            windows_ns.push(window_start.elapsed().as_secs_f64() * 1e9 / f64::from(WINDOW));
            window_start = Instant::now();
        }
        let fill = |payload: &mut [u8]| {
            payload[..8].copy_from_slice(&number.to_le_bytes());
            let last = payload.len() - 8;
            payload[8..last].fill(0x5a);
            payload[last..].copy_from_slice(&(!number).to_le_bytes());
        };
        send(
            &mut end.to_backend,
            STREAM,
            number,
            fill,
            payload_bytes.max(16),
        )?;
    }
    while end.to_backend.released() < end.to_backend.position() && !drained(&mut end.to_backend) {
        std::hint::spin_loop();
    }
    windows_ns.remove(0);
    windows_ns.sort_by(f64::total_cmp);
    let span = record_span_bytes(payload_bytes.max(16));
    println!("stream: {records} records of {span} bytes, all checked");
    let at = |percent: usize| windows_ns[(windows_ns.len() - 1) * percent / 100];
    let (best, low, median, high) = (at(1), at(10), at(50), at(90));
    println!(
        "  ns a record in windows of {WINDOW}: p1 {best:.1}, p10 {low:.1}, p50 {median:.1}, p90 {high:.1}"
    );
    let (mut copy, mut round_trips_ns) = (RecordCopy::default(), Vec::new());
    for number in 0..pings {
        let sent = Instant::now();
        send(&mut end.to_backend, PING, number, |_| {}, 0)?;
        loop {
            match end.to_gateway.next(&mut copy) {
                Read::Record(header) if header.trace == number => break,
                Read::Empty => std::hint::spin_loop(),
                other => return Err(format!("ping {number}: {other:?}").into()),
            }
        }
        end.to_gateway.release_to(end.to_gateway.position());
        round_trips_ns.push(sent.elapsed().as_nanos());
    }
    round_trips_ns.sort_unstable();
    let at = |percent: usize| round_trips_ns[(round_trips_ns.len() - 1) * percent / 100];
    println!(
        "ping: {pings} round trips, p50 {} ns, p99 {} ns",
        at(50),
        at(99)
    );
    Ok(())
}

/// Less than one release is left: the consumer has read it all but for its last batch.
fn drained(producer: &mut Producer) -> bool {
    producer.position().get() - producer.released().get() < RELEASE_BYTES
}

fn send(
    to: &mut Producer,
    kind: u16,
    trace: u64,
    fill: impl Fn(&mut [u8]),
    payload_bytes: usize,
) -> Outcome<()> {
    loop {
        if let Claimed::Claimed(mut claim) = to.claim(payload_bytes)? {
            fill(claim.payload_mut());
            claim.commit(RecordHeader {
                kind,
                trace,
                ..RecordHeader::default()
            });
            return Ok(());
        }
        std::hint::spin_loop();
    }
}

fn pin_to(core: usize) -> Outcome<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}
