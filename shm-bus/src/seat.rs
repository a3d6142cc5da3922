//! The one backend: takes its seat, discovers segments, attaches to them, removes those of the dead.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    bus_file::{self, Directory, unfit},
    control::BackendControl,
    counters::Counters,
    directory::{self, BACKEND_FILE, BACKEND_LOCK, BusDirectory, GATEWAY_FILE},
    doorbell::{Ringer, Sleeper},
    error::{AttachError, BusError, Damage, SeatError},
    identity::InstanceId,
    layout::{self, FileHeader, FileRole},
    liveness::{LockProbe, RoleLock, Taking},
    memory::{Memory, Word},
    place::Place,
    ring::{Consumer, Producer, RingShape},
    segment::{open_bell, port_offset, ring_offset},
    sync::{Arc, Ordering},
};

/// A gateway may die between naming its segment and entering the roster: the directory is looked at this often even
/// if the roster did not change.
const DISCOVER_MS_MAX: u64 = 1_000;

/// The backend's place on the bus. One process at a time; freed by its death, however that comes.
#[derive(Debug)]
pub struct BackendSeat {
    bus: BusDirectory,
    instance: InstanceId,
    control: BackendControl,
    bell: Sleeper,
    role: Arc<RoleLock>,
    told: BTreeSet<InstanceId>,
    roster_seen: Option<u64>,
    looked_at: Instant,
    place: Place,
    /// What records mean to this backend, by their users' own count.
    protocol: u32,
    /// Segments that are not served: removed when their gateways are dead.
    refused: BTreeSet<InstanceId>,
    /// Holds of segments, weakly: gone with the last ring end of that segment.
    attached: BTreeMap<InstanceId, std::sync::Weak<Hold>>,
}

/// What each ring end of an attached segment holds: the seat, and its place among the attached.
#[derive(Debug)]
struct Hold {
    _role: Arc<RoleLock>,
}

impl BackendSeat {
    /// Takes the seat under a fresh instance id, for gateways whose [`SegmentOptions`](crate::SegmentOptions) name no
    /// protocol.
    ///
    /// # Errors
    /// [`SeatError::Taken`] with the holder's pid; or a page is not what it should be.
    pub fn take(bus: &BusDirectory) -> Result<Self, SeatError> {
        Self::take_for(bus, 0)
    }

    /// Takes the seat under a fresh instance id, for gateways of this protocol: others are refused by name.
    ///
    /// # Errors
    /// [`SeatError::Taken`] with the holder's pid; or a page is not what it should be.
    pub fn take_for(bus: &BusDirectory, protocol: u32) -> Result<Self, SeatError> {
        let directory = bus.directory();
        let role = match RoleLock::take(directory.fd(), BACKEND_LOCK) {
            Ok(Taking::Taken(role)) => Arc::new(role),
            Ok(Taking::Held(pid)) => {
                return Err(SeatError::Taken {
                    bus: bus.path().to_owned(),
                    pid,
                });
            }
            Err(error) => return Err(directory.failed("lock", BACKEND_LOCK, error).into()),
        };
        let instance =
            InstanceId::fresh().map_err(|e| directory.failed("name a backend in", ".", e))?;
        let control = BackendControl::open(bus)?;
        let word = Word::at(&control.backend_memory, layout::BACKEND_SLEEP_OFFSET);
        let bell = Sleeper::new(word, Arc::new(bus.backend_pipe()?), None);
        bus.sweep();
        control.announce(instance, std::process::id(), protocol);
        Ok(Self {
            place: Place::on(bus)?,
            protocol,
            refused: BTreeSet::new(),
            bus: bus.clone(),
            instance,
            control,
            bell,
            role,
            told: BTreeSet::new(),
            roster_seen: None,
            looked_at: Instant::now(),
            attached: BTreeMap::new(),
        })
    }

    /// This incarnation.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// The shared pages.
    #[must_use]
    pub fn control(&self) -> &BackendControl {
        &self.control
    }

    /// The names by which this backend is met: look at them a few times a second.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The backend's doorbell: all producers of all gateways ring this one.
    pub fn bell(&mut self) -> &mut Sleeper {
        &mut self.bell
    }

    /// Segments that are there and that this call has not told before (living or dead: a dead gateway's records
    /// count). Costs one load while no segment was made; looks into the directory at least every second.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn discover(&mut self) -> Result<Vec<InstanceId>, BusError> {
        let roster = self.control.roster();
        let lately = self.looked_at.elapsed() < Duration::from_millis(DISCOVER_MS_MAX);
        if self.roster_seen == Some(roster) && lately {
            return Ok(Vec::new());
        }
        let present: BTreeSet<_> = self.bus.segments()?.into_iter().collect();
        (self.roster_seen, self.looked_at) = (Some(roster), Instant::now());
        let fresh = present.difference(&self.told).copied().collect();
        self.told = present;
        Ok(fresh)
    }

    /// Checks a segment and attaches to it: from here on its gateway sees this backend's instance. The consumers
    /// begin where an earlier backend released last.
    ///
    /// # Errors
    /// What was found, what was expected, what to do. The segment is left as it was, and is removed once its gateway is
    /// dead ([`bury_refused`](Self::bury_refused)).
    pub fn attach(&mut self, instance: InstanceId) -> Result<AttachedGateway, AttachError> {
        let attached = self.try_attach(instance);
        if let Err(
            AttachError::Bus(BusError::Unfit { .. } | BusError::OtherLayout { .. })
            | AttachError::Gone(_)
            | AttachError::Protocol { .. }
            | AttachError::Damaged { .. },
        ) = &attached
        {
            self.refused.insert(instance);
        }
        attached
    }

    fn try_attach(&mut self, instance: InstanceId) -> Result<AttachedGateway, AttachError> {
        self.attached.retain(|_, hold| hold.strong_count() > 0);
        if self.attached.contains_key(&instance) {
            return Err(AttachError::AlreadyAttached(instance));
        }
        let gone = |error: BusError| match error {
            BusError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                AttachError::Gone(instance)
            }
            other => other.into(),
        };
        let name = directory::segment_name(instance);
        let inside = self.bus.directory().open_inside(&name);
        let segment = inside.and_then(|inside| Segment::open(&self.bus, inside, instance));
        if let Err(BusError::Io { .. }) = segment {
            // Out of descriptors or memory, perhaps: `discover` tells it again.
            self.told.remove(&instance);
        }
        let segment = segment.map_err(gone)?;
        if segment.header.protocol != self.protocol {
            segment
                .refused()
                .store(self.instance.get(), Ordering::Relaxed);
            return Err(AttachError::Protocol {
                instance,
                build: bus_file::build_of(&segment.header),
                pid: segment.header.pid,
                theirs: segment.header.protocol,
                ours: self.protocol,
            });
        }
        let hold = Arc::new(Hold {
            _role: Arc::clone(&self.role),
        });
        let shards = (0..segment.header.shards).map(|shard| segment.ports(shard, &hold));
        let shards = shards.collect::<Result<Vec<_>, _>>()?;
        self.attached.insert(instance, Arc::downgrade(&hold));
        // An earlier backend's refusal is not this one's.
        segment.refused().store(0, Ordering::Relaxed);
        crate::fault::point("attach.before_attached");
        // SYNC(attached): the gateway that sees this instance finds its rings served by it.
        Word::at(&segment.backend, layout::ATTACHED_OFFSET)
            .store(self.instance.get(), Ordering::Release);
        for ports in &shards {
            ports.to_gateway.ring();
        }
        Ok(AttachedGateway {
            shards,
            bus: self.bus.clone(),
            instance,
            pid: segment.header.pid,
            build: bus_file::build_of(&segment.header),
            refused: segment.refused(),
            lock: segment.lock,
            _hold: hold,
        })
    }

    /// Lets a gateway go that lives and cannot be served: one whose ring is condemned, say. Its process is told, and
    /// ends; its segment is removed then.
    pub fn refuse(&mut self, mut gateway: AttachedGateway) {
        let instance = self.instance.get();
        gateway.refused.store(instance, Ordering::Relaxed);
        for ports in &mut gateway.shards {
            ports.to_gateway.ring();
        }
        self.refused.insert(gateway.instance);
    }

    /// Removes the segments of gateways that were refused and are dead now; tells which.
    pub fn bury_refused(&mut self) -> Vec<InstanceId> {
        if self.refused.is_empty() {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.refused);
        let (mut buried, present) = (Vec::new(), self.bus.segments().unwrap_or_default());
        for instance in waiting.into_iter().filter(|one| present.contains(one)) {
            match self.discard(instance) {
                Ok(()) => buried.push(instance),
                // It lives; or the kernel is out of something just now.
                Err(_) => drop(self.refused.insert(instance)),
            }
        }
        buried
    }

    /// Removes the segment of a dead gateway without reading it: for one that [`attach`](Self::attach) refuses. What
    /// was in its rings was never accepted, and is lost with it.
    ///
    /// # Errors
    /// Its gateway lives; or files cannot be removed.
    pub fn discard(&mut self, instance: InstanceId) -> Result<(), AttachError> {
        let inside = self
            .bus
            .directory()
            .open_inside(&directory::segment_name(instance))?;
        // Without a lock file there is no gateway: the lock is made first and removed last.
        if let Ok(lock) = self.bus.lock_in(&inside)
            && lock.is_held()
        {
            return Err(AttachError::GatewayLives {
                instance,
                pid: lock.pid(),
            });
        }
        Ok(self.bus.remove_segment(instance)?)
    }
}

/// A segment's two files, checked and mapped.
struct Segment {
    directory: Directory,
    header: FileHeader,
    shape: RingShape,
    gateway: Arc<Memory>,
    backend: Arc<Memory>,
    lock: LockProbe,
}

impl Segment {
    fn open(
        bus: &BusDirectory,
        directory: Directory,
        instance: InstanceId,
    ) -> Result<Self, BusError> {
        let lock = bus.lock_in(&directory)?;
        let (header, gateway) =
            bus_file::open_checked(&directory, GATEWAY_FILE, FileRole::Gateway, false)?;
        let (twin, backend) =
            bus_file::open_checked(&directory, BACKEND_FILE, FileRole::Backend, true)?;
        let path: PathBuf = directory.path.join(GATEWAY_FILE);
        let shape = bus_file::shape_in(&path, &header)?;
        let remedy = "stop that gateway (its pid stands in the lock file) and start it again";
        if header.instance != instance.get() {
            let found = format!("instance {:016x}", header.instance);
            return Err(unfit(
                &path,
                &found,
                &format!("instance {instance}, its directory's"),
                remedy,
            ));
        }
        let sizes = |header: &FileHeader| {
            (
                header.instance,
                header.shards,
                header.ring_bytes,
                header.record_bytes_max,
            )
        };
        if sizes(&header) != sizes(&twin) {
            let (found, expected) = (
                format!("{:?}", sizes(&twin)),
                format!("{:?}", sizes(&header)),
            );
            return Err(unfit(
                &directory.path.join(BACKEND_FILE),
                &found,
                &expected,
                remedy,
            ));
        }
        Ok(Self {
            directory,
            header,
            shape,
            gateway,
            backend,
            lock,
        })
    }

    fn ports(&self, shard: u32, hold: &Arc<Hold>) -> Result<ShardPorts, AttachError> {
        let (index, shards) = (shard as usize, self.header.shards as usize);
        let (port, ring) = (port_offset(index), ring_offset(index, shards, self.shape));
        let damaged = |damage: Damage| AttachError::Damaged {
            segment: self.directory.path.clone(),
            shard,
            damage,
        };
        let consumer = Consumer::over(self.shape, &self.backend, &self.gateway, port, ring);
        let producer = Producer::over(self.shape, &self.backend, &self.gateway, port, ring);
        let (mut to_backend, mut to_gateway) =
            (consumer.map_err(damaged)?, producer.map_err(damaged)?);
        let word = Word::at(&self.gateway, port + layout::PORT_SLEEP_OFFSET);
        to_gateway.set_ringer(Ringer::new(
            word,
            Arc::new(open_bell(&self.directory, index, false)?),
        ));
        to_backend.hold(hold.clone());
        to_gateway.hold(hold.clone());
        let counters = Counters::at(&self.backend, port);
        let shard = u16::try_from(shard).expect("at most SHARDS_MAX");
        Ok(ShardPorts {
            shard,
            to_backend,
            to_gateway,
            counters,
        })
    }

    fn refused(&self) -> Word {
        Word::at(&self.backend, layout::REFUSED_OFFSET)
    }
}

/// One gateway's segment, as the backend holds it.
#[derive(Debug)]
pub struct AttachedGateway {
    /// Its shards, by number.
    pub shards: Vec<ShardPorts>,
    bus: BusDirectory,
    instance: InstanceId,
    pid: u32,
    build: String,
    lock: LockProbe,
    refused: Word,
    _hold: Arc<Hold>,
}

/// The backend's ends of one shard.
#[derive(Debug)]
pub struct ShardPorts {
    /// Which shard.
    pub shard: u16,
    /// Reads from the gateway.
    pub to_backend: Consumer,
    /// Writes to the gateway.
    pub to_gateway: Producer,
    /// The backend's counters of this shard.
    pub counters: Counters,
}

impl AttachedGateway {
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

    /// Whether the gateway's process lives, stopped or not. A system call. Ask this first and then drain: what the
    /// gateway published before it died is all there once this says `false`.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.lock.is_held()
    }

    /// Removes a dead gateway's segment, after its records were taken and committed. The memory goes with the last
    /// mapping.
    ///
    /// # Errors
    /// The gateway lives, or files cannot be removed.
    pub fn unlink(self) -> Result<(), AttachError> {
        if self.is_alive() {
            return Err(AttachError::GatewayLives {
                instance: self.instance,
                pid: self.lock.pid(),
            });
        }
        Ok(self.bus.remove_segment(self.instance)?)
    }
}
