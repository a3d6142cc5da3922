//! The handle of an observer: every ring of every gateway, read-only, without a trace.

use std::{
    ffi::c_char,
    ptr,
    time::{Duration, Instant},
};

use shm_bus::{BusDirectory, InstanceId, ObservedGateway, RecordCopy, Tap, Tapped};

use crate::{
    failure::{
        Failure, Handle, Outcome, TIDEGATE_BUS_EMPTY, TIDEGATE_BUS_LAPPED, TIDEGATE_BUS_OK,
        directory, entry, on, place,
    },
    record::Record,
};

/// How often new gateways are looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An observer of a bus.
pub struct BusTap {
    broken: bool,
    bus: BusDirectory,
    gateways: Vec<ObservedGateway>,
    /// Which ring is looked at: gateway, and twice its shard, plus one for the ring that leads to the gateway.
    turn: (usize, usize),
    copy: RecordCopy,
    looked_at: Option<Instant>,
    /// Of gateways that are gone, and of those that came, before they were found.
    missed_bytes: u64,
}

impl Handle for BusTap {
    fn broken(&mut self) -> &mut bool {
        &mut self.broken
    }
}

impl BusTap {
    fn next(&mut self, record: &mut Record) -> Outcome {
        self.look_for_gateways()?;
        let rings: usize = self.gateways.iter().map(|it| 2 * it.shards.len()).sum();
        for _ in 0..rings {
            let (instance, ring, to_gateway) = self.here();
            let found = {
                let (gateway, place) = self.turn;
                let shard = &mut self.gateways[gateway].shards[place / 2];
                let tap = if to_gateway {
                    &mut shard.to_gateway
                } else {
                    &mut shard.to_backend
                };
                (tap.next(&mut self.copy), tap.position())
            };
            let (header, code) = match found.0 {
                Tapped::Record(header) => (header, TIDEGATE_BUS_OK),
                Tapped::Lapped { .. } => (Default::default(), TIDEGATE_BUS_LAPPED),
                Tapped::Empty => {
                    self.go_on();
                    continue;
                }
            };
            let payload = self.copy.payload();
            *record = Record::new(header, instance, ring, to_gateway, found.1, payload);
            // Each ring in turn, so that records come in about the order in which they were written.
            self.go_on();
            return Ok(code);
        }
        Ok(TIDEGATE_BUS_EMPTY)
    }

    /// The ring that is looked at: whose, which, which way.
    fn here(&self) -> (InstanceId, u16, bool) {
        let (gateway, place) = self.turn;
        let gateway = &self.gateways[gateway];
        let to_gateway = !place.is_multiple_of(2);
        (
            gateway.instance(),
            gateway.shards[place / 2].shard,
            to_gateway,
        )
    }

    fn go_on(&mut self) {
        self.turn.1 += 1;
        if self.turn.1 == 2 * self.gateways[self.turn.0].shards.len() {
            self.turn = ((self.turn.0 + 1) % self.gateways.len(), 0);
        }
    }

    fn look_for_gateways(&mut self) -> Result<(), Failure> {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        let is_first_look = self.looked_at.is_none();
        self.looked_at = Some(Instant::now());
        let present = self.bus.segments()?;
        // One that was removed is let go of when all of it was seen.
        let (stay, go): (Vec<_>, Vec<_>) = self
            .gateways
            .drain(..)
            .partition(|it| present.contains(&it.instance()) || !is_read(it));
        self.gateways = stay;
        self.missed_bytes += go.iter().map(missed).sum::<u64>();
        for instance in present {
            if self.gateways.iter().all(|it| it.instance() != instance)
                && let Ok(gateway) = ObservedGateway::open(&self.bus, instance)
                && !gateway.shards.is_empty()
            {
                if !is_first_look {
                    // What it published before it was found went by unseen.
                    self.missed_bytes +=
                        taps(&gateway).map(|tap| tap.position().get()).sum::<u64>();
                }
                self.gateways.push(gateway);
            }
        }
        self.turn = (0, 0);
        Ok(())
    }
}

fn taps(gateway: &ObservedGateway) -> impl Iterator<Item = &Tap> {
    let shards = gateway.shards.iter();
    shards.flat_map(|shard| [&shard.to_backend, &shard.to_gateway])
}

fn is_read(gateway: &ObservedGateway) -> bool {
    taps(gateway).all(|tap| tap.position() == tap.published())
}

fn missed(gateway: &ObservedGateway) -> u64 {
    taps(gateway).map(Tap::missed_bytes).sum()
}

/// Observes the bus in this directory, which must be there: all that is published from now on, in every ring of every
/// gateway, in the order of each ring. A gateway that comes is found within 100 ms; what it published before counts as
/// missed. The memory is mapped read-only: nobody on the bus notices.
///
/// `*tap` is the caller's, to be given to tidegate_bus_tap_free; NULL on an error.
///
/// # Safety
/// `bus_dir` is a text that ends with a zero byte; `tap` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_tap_open(
    bus_dir: *const c_char,
    tap: *mut *mut BusTap,
) -> i32 {
    entry(|| {
        // SAFETY: by this function's contract.
        let (path, out) = unsafe { (directory(bus_dir), place(tap, "tap")?) };
        *out = ptr::null_mut();
        let mut tap = BusTap {
            broken: false,
            bus: BusDirectory::observe(path?)?,
            gateways: Vec::new(),
            turn: (0, 0),
            copy: RecordCopy::default(),
            looked_at: None,
            missed_bytes: 0,
        };
        tap.look_for_gateways()?;
        *out = Box::into_raw(Box::new(tap));
        Ok(TIDEGATE_BUS_OK)
    })
}

/// Copies the next record out: TIDEGATE_BUS_OK with `*record` filled, TIDEGATE_BUS_EMPTY, or TIDEGATE_BUS_LAPPED with
/// the ring named in `*record` and no payload: the producer went past, and the tap goes on at what is published now.
/// Only whole records are shown. Never waits: sleep a little when it is empty.
///
/// # Safety
/// `tap` is a live handle, `record` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_tap_next(tap: *mut BusTap, record: *mut Record) -> i32 {
    // SAFETY: by this function's contract.
    unsafe { on(tap, |tap| tap.next(place(record, "record")?)) }
}

/// Bytes of records (with headers and padding) that went by unseen, in all.
///
/// # Safety
/// `tap` is a live handle, `bytes` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_tap_missed(tap: *mut BusTap, bytes: *mut u64) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(tap, |tap| {
            *place(bytes, "bytes")? =
                tap.missed_bytes + tap.gateways.iter().map(missed).sum::<u64>();
            Ok(TIDEGATE_BUS_OK)
        })
    }
}

/// Gives the handle back. NULL is fine.
///
/// # Safety
/// `tap` is NULL or a handle that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_tap_free(tap: *mut BusTap) {
    entry(|| {
        if !tap.is_null() {
            // SAFETY: by this function's contract it came from `tidegate_bus_tap_open` and was not freed.
            drop(unsafe { Box::from_raw(tap) });
        }
        Ok(TIDEGATE_BUS_OK)
    });
}
