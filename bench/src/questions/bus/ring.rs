//! Our own rings, with the real files, the real attach, and the doorbell rung after each record.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shm_bus::{
    BackendSeat, BusDirectory, Claimed, Consumer, GatewaySegment, Producer, Read, RecordCopy,
    RecordHeader, SegmentOptions, Sleeper,
};

use super::link::{Link, PAYLOAD_BYTES};

/// Room is given back this often: a store that the other core then fetches.
const RELEASE_BYTES: u64 = 64 * 1024;
/// Longest pause of a consumer that has caught up with a stream, in `PAUSE` instructions.
const PAUSES_MAX: u32 = 128;
/// The other end is there within this time.
const ATTACH_MS_MAX: u128 = 10_000;

/// What an end does while there is nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// It keeps looking: it has a core of its own.
    Spin,
    /// It sleeps until it is rung.
    Sleep,
}

/// Both rings of a shard, seen from one end.
pub struct Ends {
    to: Producer,
    from: Consumer,
    copy: RecordCopy,
    pace: Pace,
    idle: Idle,
    side: Side,
}

/// Whose end it is, with what has to live as long.
enum Side {
    Backend(Box<BackendSeat>),
    Gateway(
        Sleeper,
        #[expect(dead_code, reason = "held")] Box<GatewaySegment>,
    ),
}

impl Ends {
    #[cold]
    fn sleep(&mut self) {
        let bell = match &mut self.side {
            Side::Backend(seat) => seat.bell(),
            Side::Gateway(sleeper, _) => sleeper,
        };
        bell.prepare();
        if self.from.is_empty() {
            bell.sleep(Duration::from_millis(shm_bus::SLEEP_MS_MAX));
        } else {
            bell.awake();
        }
    }
}

/// How long a spinning consumer waits before it looks again. One that looks at once takes the line of the producer's
/// cursor away for each record of a stream, which costs both of them twice what a record costs; one that waits answers
/// late. So it waits the longer the more records it found at one look, and hardly at all while they come one by one.
#[derive(Default)]
struct Pace {
    pauses: u32,
    found: u32,
}

impl Pace {
    #[inline]
    fn found_one(&mut self) {
        self.found = self.found.saturating_add(1);
    }

    #[inline]
    fn wait(&mut self) {
        match std::mem::take(&mut self.found) {
            0 => {}
            1 => self.pauses = self.pauses.saturating_sub(1).max(1),
            _ => self.pauses = (self.pauses * 2).clamp(1, PAUSES_MAX),
        }
        (0..self.pauses.max(1)).for_each(|_| std::hint::spin_loop());
    }
}

impl Link for Ends {
    #[inline]
    fn send(&mut self, fill: impl FnOnce(&mut [u8])) -> Result<()> {
        loop {
            if let Claimed::Claimed(mut claim) = self.to.claim(PAYLOAD_BYTES)? {
                fill(claim.payload_mut());
                claim.commit(RecordHeader {
                    kind: 1,
                    ..RecordHeader::default()
                });
                self.to.ring();
                return Ok(());
            }
            // The consumer is awake, as there is something to read.
            std::hint::spin_loop();
        }
    }

    #[inline]
    fn receive<T>(&mut self, read: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        loop {
            match self.from.next(&mut self.copy) {
                Read::Record(_) => {
                    self.pace.found_one();
                    if self.from.position().get() - self.from.released().get() >= RELEASE_BYTES {
                        self.from.release_to(self.from.position());
                    }
                    return read(self.copy.payload());
                }
                Read::Empty if self.idle == Idle::Spin => self.pace.wait(),
                Read::Empty => self.sleep(),
                Read::Bad(bad) => bail!("{bad:?}"),
            }
        }
    }
}

/// Takes the backend's seat: the near end, before the gateway starts.
///
/// # Errors
/// When the directory can't be made or somebody sits there.
pub fn take_seat(bus: &Path) -> Result<BackendSeat> {
    Ok(BackendSeat::take(&BusDirectory::open_or_create(bus)?)?)
}

/// The near end, once the gateway is there.
///
/// # Errors
/// When none comes in time, or it can't be attached to.
pub fn near(mut seat: BackendSeat, idle: Idle) -> Result<Ends> {
    let began = Instant::now();
    let instance = loop {
        if let Some(instance) = seat.discover()?.first() {
            break *instance;
        }
        ensure!(
            began.elapsed().as_millis() < ATTACH_MS_MAX,
            "no gateway appeared on the bus"
        );
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut gateway = seat.attach(instance)?;
    let shard = gateway.shards.pop().context("a gateway without shards")?;
    Ok(Ends {
        to: shard.to_gateway,
        from: shard.to_backend,
        copy: RecordCopy::default(),
        pace: Pace::default(),
        idle,
        side: Side::Backend(Box::new(seat)),
    })
}

/// The far end: a gateway of one shard.
///
/// # Errors
/// When it can't be made, or no backend attaches in time.
pub fn far(bus: &Path, idle: Idle) -> Result<Ends> {
    let bus = BusDirectory::open_or_create(bus)?;
    let mut segment = GatewaySegment::create(&bus, &SegmentOptions::default())?;
    let shard = segment.take_shard(0).context("a shard is taken once")?;
    let began = Instant::now();
    while shard.backend.instance().is_none() {
        ensure!(
            began.elapsed().as_millis() < ATTACH_MS_MAX,
            "no backend attached to the bus"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(Ends {
        to: shard.to_backend,
        from: shard.to_gateway,
        copy: RecordCopy::default(),
        pace: Pace::default(),
        idle,
        side: Side::Gateway(shard.sleeper, Box::new(segment)),
    })
}
