//! The handle of a process that has a part in the bus, and every call on it.

use std::{ffi::c_char, ptr, slice, time::Duration};

use shm_bus::{
    BusDirectory, Position, RECORD_BYTES_MAX_DEFAULT, RING_BYTES_DEFAULT, SegmentOptions,
};

use crate::{
    backend::Backend,
    failure::{
        Failure, Handle, TIDEGATE_BUS_EMPTY, TIDEGATE_BUS_FULL, TIDEGATE_BUS_GONE,
        TIDEGATE_BUS_INVALID, TIDEGATE_BUS_OK, TIDEGATE_BUS_SYSTEM, directory, entry, null, on,
        place, text,
    },
    gateway::Gateway,
    port::Port,
    record::{Header, Record},
};

/// A process's part in a bus: its one backend, or a gateway.
pub struct Bus {
    broken: bool,
    role: Role,
}

enum Role {
    Backend(Box<Backend>),
    Gateway(Box<Gateway>),
}

/// How a gateway's segment is made. All zeros: the defaults. Its memory is twice `ring_bytes`, allocated at once.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct GatewayOptions {
    /// Size of each of the two rings, a power of two from 4096 to 2^30; 0: 4 MiB.
    pub ring_bytes: usize,
    /// Largest record with its 48 bytes of header, a multiple of 8, at most a quarter of ring_bytes; 0: 256 KiB, or
    /// that quarter.
    pub record_bytes_max: usize,
    /// What records mean, by the users' own count: a backend of another number refuses the segment.
    pub protocol: u32,
    /// Name and version of the program, for the sentences of those who refuse it; NULL: the library's.
    pub build: *const c_char,
}

impl Handle for Bus {
    fn broken(&mut self) -> &mut bool {
        &mut self.broken
    }
}

impl Bus {
    fn lend(role: Role, out: &mut *mut Self) -> i32 {
        let broken = false;
        *out = Box::into_raw(Box::new(Self { broken, role }));
        TIDEGATE_BUS_OK
    }

    fn ports(&mut self) -> &mut [Port] {
        match &mut self.role {
            Role::Backend(backend) => &mut backend.ports,
            Role::Gateway(gateway) => slice::from_mut(&mut gateway.port),
        }
    }

    fn port(&mut self, gateway: u64, ring: u16) -> Result<&mut Port, Failure> {
        let mut ports = self.ports().iter_mut();
        ports
            .find(|port| port.gateway.get() == gateway && port.ring == ring)
            .ok_or_else(|| {
                let said = format!("gateway {gateway:016x} has no ring {ring} here (any more)");
                Failure::new(TIDEGATE_BUS_GONE, said)
            })
    }
}

/// Becomes the one backend of the bus in this directory, which is made if it is not there. Gateways attach and go by
/// themselves, inside tidegate_bus_next and tidegate_bus_wait; a segment whose gateway died is removed once everything
/// it sent was released. `protocol` is what this backend takes records to mean, by the users' own count (Tidegate's
/// gateways: BUS_PROTOCOL in protocol/src/bus.rs).
///
/// `*bus` is the caller's, to be given to tidegate_bus_free; NULL on an error.
///
/// # Safety
/// `bus_dir` is a text that ends with a zero byte; `bus` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_take_backend(
    bus_dir: *const c_char,
    protocol: u32,
    bus: *mut *mut Bus,
) -> i32 {
    entry(|| {
        // SAFETY: by this function's contract.
        let (path, out) = unsafe { (directory(bus_dir), place(bus, "bus")?) };
        *out = ptr::null_mut();
        let directory = BusDirectory::open_or_create(path?)?;
        let backend = Box::new(Backend::take(&directory, protocol)?);
        Ok(Bus::lend(Role::Backend(backend), out))
    })
}

/// Makes a gateway's segment with one shard on the bus in this directory, which is made if it is not there. One thread,
/// one pair of rings: several threads make several. `options` NULL: the defaults.
///
/// `*bus` is the caller's, to be given to tidegate_bus_free; NULL on an error.
///
/// # Safety
/// `bus_dir` is a text that ends with a zero byte, and so is `options->build` if it is not NULL; `bus` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_make_gateway(
    bus_dir: *const c_char,
    options: *const GatewayOptions,
    bus: *mut *mut Bus,
) -> i32 {
    entry(|| {
        // SAFETY: by this function's contract.
        let (path, out) = unsafe { (directory(bus_dir), place(bus, "bus")?) };
        *out = ptr::null_mut();
        // SAFETY: by this function's contract.
        let wish = match unsafe { options.as_ref() } {
            // SAFETY: by this function's contract.
            Some(options) => unsafe { segment_options(options)? },
            None => SegmentOptions::default(),
        };
        let gateway = Gateway::make(&BusDirectory::open_or_create(path?)?, &wish)?;
        Ok(Bus::lend(Role::Gateway(Box::new(gateway)), out))
    })
}

/// # Safety
/// `build` is null or a text that ends with a zero byte.
unsafe fn segment_options(wish: &GatewayOptions) -> Result<SegmentOptions, Failure> {
    let mut options = SegmentOptions {
        protocol: wish.protocol,
        ..SegmentOptions::default()
    };
    if wish.ring_bytes != 0 {
        options.ring_bytes = wish.ring_bytes;
        options.record_bytes_max = (wish.ring_bytes / 4).min(RECORD_BYTES_MAX_DEFAULT);
    }
    if wish.record_bytes_max != 0 {
        options.record_bytes_max = wish.record_bytes_max;
    }
    if !wish.build.is_null() {
        // SAFETY: by this function's contract.
        options.build = unsafe { text(wish.build, "build")? }.to_owned();
    }
    const { assert!(RECORD_BYTES_MAX_DEFAULT <= RING_BYTES_DEFAULT / 4) };
    Ok(options)
}

/// Gives up the role and everything that the handle lent. NULL is fine. A gateway's segment stays for the backend to
/// drain; a backend's gateways stay, and wait for the next.
///
/// # Safety
/// `bus` is NULL or a handle that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_free(bus: *mut Bus) {
    entry(|| {
        if !bus.is_null() {
            // SAFETY: by this function's contract it came from `Bus::lend` and was not freed.
            drop(unsafe { Box::from_raw(bus) });
        }
        Ok(TIDEGATE_BUS_OK)
    });
}

/// Copies the next record out, from any ring that leads here: TIDEGATE_BUS_OK with `*record` filled, or
/// TIDEGATE_BUS_EMPTY. `record->payload` stands until the next tidegate_bus_next on this handle. What was read and not
/// released is read again by the next process in this role: do with it what you do, commit, then release.
///
/// TIDEGATE_BUS_REFUSED (backend): one gateway cannot be served; the others go on. TIDEGATE_BUS_CONDEMNED (gateway),
/// TIDEGATE_BUS_DISPLACED: end, and start again.
///
/// # Safety
/// `bus` is a live handle, `record` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_next(bus: *mut Bus, record: *mut Record) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            let record = place(record, "record")?;
            match &mut bus.role {
                Role::Backend(backend) => backend.next(record),
                Role::Gateway(gateway) => gateway.next(record),
            }
        })
    }
}

/// Sleeps until a record may be there, but no longer than `timeout_ms`, of which at most 100 count (a producer may have
/// died between its record and the bell), or until a signal came. TIDEGATE_BUS_OK: look. TIDEGATE_BUS_EMPTY: nothing.
/// Returns at once while records are there that were not read.
///
/// # Safety
/// `bus` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_wait(bus: *mut Bus, timeout_ms: u32) -> i32 {
    let timeout = Duration::from_millis(u64::from(timeout_ms));
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| match &mut bus.role {
            Role::Backend(backend) => backend.wait(timeout),
            Role::Gateway(gateway) => gateway.wait(timeout),
        })
    }
}

/// Gives the room up to `position` (a record's) of that ring back to its producer. What was released is never read
/// again, by anybody.
///
/// # Safety
/// `bus` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_release(
    bus: *mut Bus,
    gateway: u64,
    ring: u16,
    position: u64,
) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            let port = bus.port(gateway, ring)?;
            port.from.release_to(Position::from_raw(position));
            Ok(TIDEGATE_BUS_OK)
        })
    }
}

/// Gives the room of everything that was read back, on all rings.
///
/// # Safety
/// `bus` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_release_all(bus: *mut Bus) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            for port in bus.ports() {
                port.from.release_to(port.from.position());
            }
            Ok(TIDEGATE_BUS_OK)
        })
    }
}

/// Copies one record into the ring that leads away from here, to (backend) or from (gateway) that gateway's shard.
/// Nobody is woken: see tidegate_bus_ring. TIDEGATE_BUS_FULL: nothing was written.
///
/// # Safety
/// `bus` is a live handle; `header` may be read, and so may `payload_bytes` bytes at `payload` (0: it may be NULL).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_send(
    bus: *mut Bus,
    gateway: u64,
    ring: u16,
    header: *const Header,
    payload: *const u8,
    payload_bytes: usize,
) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            let header = *header.as_ref().ok_or_else(|| null("the header"))?;
            let payload = match payload_bytes {
                0 => &[],
                _ if payload.is_null() => return Err(null("the payload")),
                _ if isize::try_from(payload_bytes).is_err() => {
                    let said = format!("a payload of {payload_bytes} bytes");
                    return Err(Failure::new(TIDEGATE_BUS_INVALID, said));
                }
                // SAFETY: by this function's contract; its size was looked at.
                _ => slice::from_raw_parts(payload, payload_bytes),
            };
            bus.port(gateway, ring)?.to.send(header.into(), payload)
        })
    }
}

/// Claims room for one record with this much payload, to be written in place: `*payload`, 8-byte aligned, with whatever
/// an earlier record left there. Write all of it, then tidegate_bus_commit, which makes it seen, or
/// tidegate_bus_abandon. One claim a ring; until then other calls that write to that ring are refused.
/// TIDEGATE_BUS_FULL: `*payload` is NULL.
///
/// # Safety
/// `bus` is a live handle; `payload` may be written. The room is not touched after commit, abandon or free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_claim(
    bus: *mut Bus,
    gateway: u64,
    ring: u16,
    payload_bytes: usize,
    payload: *mut *mut u8,
) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            let out = place(payload, "payload")?;
            *out = ptr::null_mut();
            let claimed = bus.port(gateway, ring)?.to.claim(payload_bytes)?;
            Ok(claimed.map_or(TIDEGATE_BUS_FULL, |room| {
                *out = room;
                TIDEGATE_BUS_OK
            }))
        })
    }
}

/// Publishes the record that was claimed last on that ring. Nobody is woken: see tidegate_bus_ring.
///
/// # Safety
/// `bus` is a live handle; `header` may be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_commit(
    bus: *mut Bus,
    gateway: u64,
    ring: u16,
    header: *const Header,
) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            let header = *header.as_ref().ok_or_else(|| null("the header"))?;
            bus.port(gateway, ring)?.to.commit(header.into())
        })
    }
}

/// Gives a claim up: it never was. Without one: nothing.
///
/// # Safety
/// `bus` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_abandon(bus: *mut Bus, gateway: u64, ring: u16) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            bus.port(gateway, ring)?.to.abandon();
            Ok(TIDEGATE_BUS_OK)
        })
    }
}

/// Wakes whoever reads what was written to that ring, if they sleep: once after a batch. Costs a system call only then.
///
/// # Safety
/// `bus` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_ring(bus: *mut Bus, gateway: u64, ring: u16) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            bus.port(gateway, ring)?.to.ring()?;
            Ok(TIDEGATE_BUS_OK)
        })
    }
}

/// Room that is there for certain in the ring that leads away: records whose 48 bytes of header and payloads, each
/// rounded up to 8, add up to at most this can all be claimed now.
///
/// # Safety
/// `bus` is a live handle; `bytes` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_room(
    bus: *mut Bus,
    gateway: u64,
    ring: u16,
    bytes: *mut usize,
) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            let out = place(bytes, "bytes")?;
            *out = bus.port(gateway, ring)?.to.room_bytes()?;
            Ok(TIDEGATE_BUS_OK)
        })
    }
}

/// The gateways that are served now (backend), or the own one (gateway): writes up to `capacity` instance ids, and how
/// many there are to `*count`. Each shard of a gateway has a ring of its own, numbered from 0.
///
/// # Safety
/// `bus` is a live handle; `capacity` ids may be written at `gateways` (0: it may be NULL), and `count` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_gateways(
    bus: *mut Bus,
    gateways: *mut u64,
    capacity: usize,
    count: *mut usize,
) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            let ids: Vec<u64> = match &bus.role {
                Role::Backend(backend) => backend.gateways().map(|id| id.get()).collect(),
                Role::Gateway(gateway) => vec![gateway.port.gateway.get()],
            };
            *place(count, "count")? = ids.len();
            if capacity > 0 && gateways.is_null() {
                return Err(null("gateways"));
            }
            for (index, id) in ids.into_iter().take(capacity).enumerate() {
                gateways.add(index).write(id);
            }
            Ok(TIDEGATE_BUS_OK)
        })
    }
}

/// Which backend serves: the instance id of the one that attached last to this gateway's segment, or a backend's own;
/// 0: none yet. A change means another backend. TIDEGATE_BUS_EMPTY: it is dead (records wait for the next).
///
/// # Safety
/// `bus` is a live handle; `instance` may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_backend(bus: *mut Bus, instance: *mut u64) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| {
            let out = place(instance, "instance")?;
            match &bus.role {
                Role::Backend(backend) => *out = backend.seat.instance().get(),
                Role::Gateway(gateway) => {
                    *out = gateway.backend.instance().map_or(0, |id| id.get());
                    if !gateway.backend.alive() {
                        return Ok(TIDEGATE_BUS_EMPTY);
                    }
                }
            }
            Ok(TIDEGATE_BUS_OK)
        })
    }
}

/// Lets everybody in whose admission ticket is below `frontier` (backend). It only moves forward. Needed only where
/// an earlier backend of this bus controlled admission.
///
/// # Safety
/// `bus` is a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tidegate_bus_admit(bus: *mut Bus, frontier: u64) -> i32 {
    // SAFETY: by this function's contract.
    unsafe {
        on(bus, |bus| match &bus.role {
            Role::Backend(backend) => {
                backend.seat.control().advance_frontier(frontier);
                Ok(TIDEGATE_BUS_OK)
            }
            Role::Gateway(_) => Err(Failure::new(
                TIDEGATE_BUS_INVALID,
                "only the backend admits",
            )),
        })
    }
}

/// From here on a file of the bus that somebody cuts short under this process ends it with one sentence on the standard
/// error and exit code 74, instead of a bare SIGBUS. Installs a handler of SIGBUS; for main, once.
#[unsafe(no_mangle)]
pub extern "C" fn tidegate_bus_exit_on_truncation() -> i32 {
    entry(|| {
        shm_bus::exit_on_truncation()
            .map(|()| TIDEGATE_BUS_OK)
            .map_err(|error| Failure::new(TIDEGATE_BUS_SYSTEM, error.to_string()))
    })
}
