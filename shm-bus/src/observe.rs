//! Observers: processes that look at a bus without a part in it. They map everything read-only, so they cannot slow,
//! block or change anything. They need the bus's user, or the group that its owner lets look on
//! ([`BusDirectory::set_tap_group`]).

use crate::{
    bus_file::{self, Directory},
    counters::{Counter, Counters},
    directory::{self, BACKEND_FILE, BusDirectory, GATEWAY_FILE},
    error::BusError,
    identity::{InstanceId, Position},
    layout::{self, FileRole},
    liveness::{LockProbe, process_exists},
    memory::Word,
    ring::Tap,
    segment::{port_offset, ring_offset},
    sync::Ordering,
};

/// One gateway's segment, as an observer sees it.
#[derive(Debug)]
pub struct ObservedGateway {
    /// Its shards, by number.
    pub shards: Vec<ObservedShard>,
    instance: InstanceId,
    pid: u32,
    build: String,
    /// None: closed to this observer.
    lock: Option<LockProbe>,
    attached: Word,
}

/// One shard, as an observer sees it.
#[derive(Debug)]
pub struct ObservedShard {
    /// Which shard.
    pub shard: u16,
    /// What goes to the backend.
    pub to_backend: Tap,
    /// What goes to the gateway.
    pub to_gateway: Tap,
    /// Written by the gateway.
    pub gateway_counters: ObservedCounters,
    /// Written by the backend.
    pub backend_counters: ObservedCounters,
    to_backend_released: Word,
    to_gateway_released: Word,
    sleep: Word,
}

impl ObservedGateway {
    /// Opens a segment that is there, whoever lives or died.
    ///
    /// ```no_run
    /// use shm_bus::{BusDirectory, ObservedGateway, RecordCopy, Tapped};
    /// let bus = BusDirectory::observe("/dev/shm/my-bus")?;
    /// let mut copy = RecordCopy::default();
    /// for instance in bus.segments()? {
    ///     let mut gateway = ObservedGateway::open(&bus, instance)?;
    ///     for shard in &mut gateway.shards {
    ///         match shard.to_backend.next(&mut copy) {
    ///             Tapped::Record(header) => println!("kind {}, {} bytes", header.kind, copy.payload().len()),
    ///             Tapped::Lapped { missed_bytes } => println!("missed {missed_bytes} bytes"),
    ///             Tapped::Empty => {}
    ///         }
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// What was found, what was expected, what to do.
    pub fn open(bus: &BusDirectory, instance: InstanceId) -> Result<Self, BusError> {
        let directory = bus
            .directory()
            .open_inside(&directory::segment_name(instance))?;
        let lock = match bus.lock_in(&directory) {
            Err(error) if bus_file::is_closed(&error) => None,
            other => Some(other?),
        };
        let open = |directory: &Directory, name, role| {
            bus_file::open_checked(directory, name, role, false)
        };
        let (header, gateway) = open(&directory, GATEWAY_FILE, FileRole::Gateway)?;
        let (twin, backend) = open(&directory, BACKEND_FILE, FileRole::Backend)?;
        let shape = bus_file::shape_in(&directory.path.join(GATEWAY_FILE), &header)?;
        if (header.shards, header.ring_bytes) != (twin.shards, twin.ring_bytes) {
            let sizes = |shards, ring_bytes| format!("{shards} shards of {ring_bytes} bytes");
            let (found, expected) = (
                sizes(twin.shards, twin.ring_bytes),
                sizes(header.shards, header.ring_bytes),
            );
            let path = directory.path.join(BACKEND_FILE);
            return Err(bus_file::unfit(
                &path,
                &found,
                &expected,
                "restart that gateway",
            ));
        }
        let count = header.shards as usize;
        let shards = (0..count).map(|shard| {
            let (port, ring) = (port_offset(shard), ring_offset(shard, count, shape));
            ObservedShard {
                shard: u16::try_from(shard).expect("at most SHARDS_MAX"),
                to_backend: Tap::over(shape, &gateway, port, ring),
                to_gateway: Tap::over(shape, &backend, port, ring),
                gateway_counters: ObservedCounters(Counters::at(&gateway, port)),
                backend_counters: ObservedCounters(Counters::at(&backend, port)),
                to_backend_released: Word::at(&backend, port + layout::PORT_RELEASED_OFFSET),
                to_gateway_released: Word::at(&gateway, port + layout::PORT_RELEASED_OFFSET),
                sleep: Word::at(&gateway, port + layout::PORT_SLEEP_OFFSET),
            }
        });
        Ok(Self {
            shards: shards.collect(),
            instance,
            pid: header.pid,
            build: bus_file::build_of(&header),
            lock,
            attached: Word::at(&backend, layout::ATTACHED_OFFSET),
        })
    }

    /// Whose segment it is.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The gateway's process id, as it wrote it down.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The gateway's program, as it wrote it down.
    #[must_use]
    pub fn build(&self) -> &str {
        &self.build
    }

    /// Whether the gateway's process lives. A system call. (By its process id, where its lock is closed to this
    /// observer.)
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match &self.lock {
            Some(lock) => lock.is_held(),
            None => process_exists(self.pid),
        }
    }

    /// The backend that attached last.
    #[must_use]
    pub fn attached(&self) -> Option<InstanceId> {
        InstanceId::from_raw(self.attached.load(Ordering::Relaxed))
    }
}

impl ObservedShard {
    /// How far the backend has given back `to_backend`.
    #[must_use]
    pub fn to_backend_released(&self) -> Position {
        Position::from_raw(self.to_backend_released.load(Ordering::Relaxed))
    }

    /// How far the gateway has given back `to_gateway`.
    #[must_use]
    pub fn to_gateway_released(&self) -> Position {
        Position::from_raw(self.to_gateway_released.load(Ordering::Relaxed))
    }

    /// Bytes in `to_backend` that the backend has not given back.
    #[must_use]
    pub fn to_backend_depth_bytes(&self) -> u64 {
        depth(self.to_backend_released(), &self.to_backend)
    }

    /// Bytes in `to_gateway` that the gateway has not given back.
    #[must_use]
    pub fn to_gateway_depth_bytes(&self) -> u64 {
        depth(self.to_gateway_released(), &self.to_gateway)
    }

    /// Whether the shard says that it sleeps.
    #[must_use]
    pub fn sleeps(&self) -> bool {
        !self.sleep.load(Ordering::Relaxed).is_multiple_of(2)
    }
}

/// The released cursor is read first, so that a ring that moves on meanwhile shows too much and never less than none.
fn depth(released: Position, ring: &Tap) -> u64 {
    ring.published()
        .get()
        .saturating_sub(released.get())
        .min(ring.ring_bytes())
}

/// Counters of somebody else.
#[derive(Clone, Debug)]
pub struct ObservedCounters(Counters);

impl ObservedCounters {
    /// One of the bus's own.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter)
    }

    /// The owner's counter `index`, by its own table.
    ///
    /// # Panics
    /// `index` is not below [`Counters::USER_COUNTERS`].
    #[must_use]
    pub fn user(&self, index: usize) -> u64 {
        self.0.user(index)
    }
}
