//! A gateway makes its segment: two files of memory, a lock, a bell for each shard, under a fresh id at each start.
//! It never attaches to an old one.

use std::io;

use rustix::io::Errno;

use crate::{
    bus_file::{self, Directory, is_missing},
    control::GatewayControl,
    counters::Counters,
    directory::{self, ATTEMPTS_MAX, BACKEND_FILE, BusDirectory, GATEWAY_FILE, GATEWAY_LOCK},
    doorbell::{Pipe, Ringer, Sleeper},
    error::{BusError, SegmentError},
    identity::InstanceId,
    layout::{self, FileHeader, FileRole},
    limits::{RECORD_BYTES_MAX_DEFAULT, RING_BYTES_DEFAULT, SHARDS_MAX},
    liveness::{RoleLock, Taking},
    memory::{Memory, Word},
    place::Place,
    placement::{Placed, Placement},
    ring::{Consumer, Producer, RingShape},
    sync::{Arc, Ordering},
    watch::BackendWatch,
};

/// Sizes of a segment. Its memory is twice `shards × ring_bytes`, allocated in full when it is made.
#[derive(Clone, Debug)]
pub struct SegmentOptions {
    /// Shards of this gateway, 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// Each ring, a power of two from [`RING_BYTES_MIN`](crate::RING_BYTES_MIN) to
    /// [`RING_BYTES_MAX`](crate::RING_BYTES_MAX).
    pub ring_bytes: usize,
    /// Largest record, header and payload: a multiple of 8, at most a quarter of `ring_bytes`.
    pub record_bytes_max: usize,
    /// What its records mean, by their users' own count: a backend of another refuses the segment.
    pub protocol: u32,
    /// Name and version of the program, for the sentences of those who refuse it. At most 64 bytes count.
    pub build: String,
}

impl Default for SegmentOptions {
    fn default() -> Self {
        Self {
            shards: 1,
            ring_bytes: RING_BYTES_DEFAULT,
            record_bytes_max: RECORD_BYTES_MAX_DEFAULT,
            protocol: 0,
            build: concat!("shm-bus ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A gateway's own segment. It lives, for everybody, as long as this value or one of its rings' ends does, and no
/// longer than the process.
#[derive(Debug)]
pub struct GatewaySegment {
    bus: BusDirectory,
    instance: InstanceId,
    shape: RingShape,
    gateway: Arc<Memory>,
    backend: Arc<Memory>,
    control: GatewayControl,
    backend_ringer: Ringer,
    watch: BackendWatch,
    /// One bell a shard; gone once its shard was taken.
    bells: Vec<Option<Pipe>>,
    role: Arc<RoleLock>,
    placed: Placed,
    /// For one shard each: the names by which it is met.
    places: Vec<Place>,
}

impl GatewaySegment {
    /// Makes a segment under a fresh id, and tells a backend that sleeps. Nothing half-made is ever seen: it gets its
    /// name when it is complete.
    ///
    /// # Errors
    /// An option out of bounds; a living backend of another protocol; no room (the sentence names Docker's default); the
    /// directory is gone.
    pub fn create(bus: &BusDirectory, options: &SegmentOptions) -> Result<Self, SegmentError> {
        Self::create_placed(bus, options, Placement::default())
    }

    /// As [`Self::create`], with a wish where its memory is to lie; [`Self::placed`] says what came of it.
    ///
    /// # Errors
    /// As [`Self::create`]. A wish that is refused is none.
    pub fn create_placed(
        bus: &BusDirectory,
        options: &SegmentOptions,
        placement: Placement,
    ) -> Result<Self, SegmentError> {
        let shape = RingShape::new(options.ring_bytes, options.record_bytes_max)?;
        if options.shards == 0 || options.shards > SHARDS_MAX {
            let expected = format!("1 to {SHARDS_MAX}");
            return Err(SegmentError::Option {
                option: "shards",
                found: options.shards,
                expected,
            });
        }
        bus.sweep();
        sweep_what_nobody_misses(bus);
        let control = GatewayControl::open(bus)?;
        let lock = Arc::new(bus.backend_probe()?);
        let theirs = control.backend_protocol();
        if control.backend_instance().is_some() && lock.is_held() && theirs != options.protocol {
            return Err(SegmentError::Protocol {
                bus: bus.path().to_owned(),
                pid: lock.pid(),
                theirs,
                ours: options.protocol,
            });
        }
        let backend_word = Word::at(&control.backend_memory, layout::BACKEND_SLEEP_OFFSET);
        let backend_ringer = Ringer::new(backend_word, Arc::new(bus.backend_pipe()?));
        for _ in 0..ATTEMPTS_MAX {
            let Some(making) = Making::begin(bus)? else {
                continue;
            };
            let filled = match making.fill(bus, options, shape, placement) {
                Err(error) if is_missing(&error) && bus.is_at_its_path() => continue,
                other => other?,
            };
            control.enter_roster();
            backend_ringer.ring();
            let attached = Word::at(&filled.backend, layout::ATTACHED_OFFSET);
            let refused = Word::at(&filled.backend, layout::REFUSED_OFFSET);
            return Ok(Self {
                places: places(bus, making.instance, options.shards)?,
                bus: bus.clone(),
                instance: making.instance,
                shape,
                gateway: filled.gateway,
                backend: filled.backend,
                watch: BackendWatch {
                    attached,
                    refused,
                    control: control.clone(),
                    lock,
                },
                control,
                backend_ringer,
                bells: filled.bells,
                role: Arc::new(making.role),
                placed: filled.placed,
            });
        }
        let source = io::Error::other("other starters swept it away each time");
        Err(bus
            .directory()
            .failed("make a segment in", ".", source)
            .into())
    }

    /// Its name.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        self.instance
    }

    /// Where its memory lies, beside what was wished for when it was made.
    #[must_use]
    pub fn placed(&self) -> &Placed {
        &self.placed
    }

    /// The shared pages.
    #[must_use]
    pub fn control(&self) -> &GatewayControl {
        &self.control
    }

    /// How many shards it was made with.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.bells.len()
    }

    /// Which backend is attached.
    #[must_use]
    pub fn backend(&self) -> &BackendWatch {
        &self.watch
    }

    /// The ends of one shard; `None` if there is no such shard or it was taken.
    ///
    /// # Panics
    /// Somebody has written into this segment's files between its making and this call: nothing to go on with.
    pub fn take_shard(&mut self, shard: u16) -> Option<ShardEnd> {
        let index = usize::from(shard);
        let pipe = self.bells.get_mut(index)?.take()?;
        let port = port_offset(index);
        let ring = ring_offset(index, self.bells.len(), self.shape);
        let fresh = "a fresh segment has fresh cursors";
        let mut to_backend =
            Producer::over(self.shape, &self.gateway, &self.backend, port, ring).expect(fresh);
        let mut to_gateway =
            Consumer::over(self.shape, &self.gateway, &self.backend, port, ring).expect(fresh);
        to_backend.set_ringer(self.backend_ringer.for_one_producer());
        to_backend.hold(self.role.clone());
        to_gateway.hold(self.role.clone());
        let counters = Counters::at(&self.gateway, port);
        let word = Word::at(&self.gateway, port + layout::PORT_SLEEP_OFFSET);
        let sleeper = Sleeper::new(word, Arc::new(pipe), Some(counters.clone()));
        let (backend, control) = (self.watch.clone(), self.control.clone());
        let place = self.places[index].clone();
        Some(ShardEnd {
            shard,
            to_backend,
            to_gateway,
            sleeper,
            backend,
            counters,
            control,
            place,
        })
    }

    /// Takes the segment's name away, when its gateway ends and knows that nothing of it is still wanted. A gateway
    /// that just exits leaves this to the backend, which drains first.
    ///
    /// # Errors
    /// The files cannot be removed.
    pub fn unlink(self) -> Result<(), SegmentError> {
        Ok(self.bus.remove_segment(self.instance)?)
    }
}

/// A directory that still has its `.new` name, and its lock, held.
struct Making {
    instance: InstanceId,
    directory: Directory,
    role: RoleLock,
}

impl Making {
    /// `None`: a sweeper was quicker, or (once in 2^64) the id was used.
    fn begin(bus: &BusDirectory) -> Result<Option<Self>, BusError> {
        let bus = bus.directory();
        let instance = InstanceId::fresh().map_err(|e| bus.failed("name a segment in", ".", e))?;
        let name = directory::segment_name_making(instance);
        match bus.make_inside(&name) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(None),
            Err(error) => return Err(bus.failed("make", &name, error)),
        }
        let directory = match bus.open_inside(&name) {
            Err(error) if is_missing(&error) => return Ok(None),
            other => other?,
        };
        match RoleLock::take(directory.fd(), GATEWAY_LOCK) {
            Ok(Taking::Taken(role)) => Ok(Some(Self {
                instance,
                directory,
                role,
            })),
            Ok(Taking::Held(_)) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(directory.failed("lock", GATEWAY_LOCK, error)),
        }
    }

    /// Makes the files and the bells, then gives the directory its name. Nothing of a failed attempt stays; the memory
    /// least of all.
    fn fill(
        &self,
        bus: &BusDirectory,
        options: &SegmentOptions,
        shape: RingShape,
        placement: Placement,
    ) -> Result<Filled, BusError> {
        let filled = self
            .make_files(options, shape, placement)
            .and_then(|filled| {
                crate::fault::point("segment.before_rename");
                let (making, name) = (
                    directory::segment_name_making(self.instance),
                    directory::segment_name(self.instance),
                );
                let fd = bus.directory().fd();
                rustix::fs::renameat(fd, &*making, fd, &*name)
                    .map_err(|e| bus.directory().failed("name", &name, e))?;
                Ok(filled)
            });
        if filled.is_err() {
            let _ = bus
                .directory()
                .remove_inside(&directory::segment_name_making(self.instance), GATEWAY_LOCK);
        }
        filled
    }

    fn make_files(
        &self,
        options: &SegmentOptions,
        shape: RingShape,
        placement: Placement,
    ) -> Result<Filled, BusError> {
        let directory = &self.directory;
        let bytes = layout::file_bytes(options.shards, options.ring_bytes);
        let header = |role| self.header(role, options, shape);
        let file = bus_file::make(directory, GATEWAY_FILE, &header(FileRole::Gateway))?;
        let gateway = Memory::map(&file, bytes, true)
            .map_err(|e| directory.failed("map", GATEWAY_FILE, e))?;
        bus_file::make(directory, BACKEND_FILE, &header(FileRole::Backend))?;
        let (_, backend) =
            bus_file::open_checked(directory, BACKEND_FILE, FileRole::Backend, false)?;
        let mut placed = Placed::nowhere_in_particular(placement);
        gateway.place(&mut placed);
        backend.place(&mut placed);
        let bells = (0..options.shards).map(|shard| open_bell(directory, shard, true).map(Some));
        Ok(Filled {
            gateway,
            backend,
            placed,
            bells: bells.collect::<Result<_, _>>()?,
        })
    }

    fn header(&self, role: FileRole, options: &SegmentOptions, shape: RingShape) -> FileHeader {
        let bytes = layout::file_bytes(options.shards, options.ring_bytes);
        FileHeader {
            shards: u32::try_from(options.shards).expect("at most SHARDS_MAX"),
            instance: self.instance.get(),
            protocol: options.protocol,
            ring_bytes: shape.ring_bytes,
            record_bytes_max: u64::from(shape.record_bytes_max),
            ports_offset: layout::PAGE_BYTES as u64,
            port_stride_bytes: layout::PAGE_BYTES as u64,
            rings_offset: layout::rings_offset(options.shards) as u64,
            ..bus_file::header(role, bytes, &options.build)
        }
    }
}

/// A segment's memory, as its gateway maps it, and its bells.
struct Filled {
    gateway: Arc<Memory>,
    backend: Arc<Memory>,
    placed: Placed,
    bells: Vec<Option<Pipe>>,
}

/// For each shard, the names by which it is met.
fn places(bus: &BusDirectory, instance: InstanceId, shards: usize) -> Result<Vec<Place>, BusError> {
    let name = directory::segment_name(instance);
    let segment = Arc::new(bus.directory().open_inside(&name)?);
    let place = |shard| {
        let bell = directory::shard_bell(shard);
        Place::of_segment(
            bus,
            &segment,
            &[GATEWAY_LOCK, GATEWAY_FILE, BACKEND_FILE, &bell],
        )
    };
    (0..shards).map(place).collect()
}

/// Where a shard's port page lies, in either file.
pub(crate) const fn port_offset(shard: usize) -> usize {
    layout::PAGE_BYTES * (1 + shard)
}

/// Where a shard's ring lies, in either file.
pub(crate) fn ring_offset(shard: usize, shards: usize, shape: RingShape) -> usize {
    layout::rings_offset(shards)
        + shard * usize::try_from(shape.ring_bytes).expect("at most RING_BYTES_MAX")
}

/// A shard's bell, made if this is its gateway.
pub(crate) fn open_bell(directory: &Directory, shard: usize, make: bool) -> Result<Pipe, BusError> {
    let name = directory::shard_bell(shard);
    if make {
        directory.make_pipe(&name)?
    } else {
        directory.check_pipe(&name)?
    }
    Pipe::open_at(directory.fd(), &name).map_err(|e| directory.failed("open", &name, e))
}

/// While no backend runs, gateways that come and go would fill the memory with their segments. One that is dead and
/// whose `to_backend` rings are empty holds nothing that a backend would want.
fn sweep_what_nobody_misses(bus: &BusDirectory) {
    if bus.backend_probe().is_ok_and(|probe| probe.is_held()) {
        return;
    }
    for instance in bus.segments().unwrap_or_default() {
        if is_dead_and_drained(bus, instance).unwrap_or(false) {
            let _ = bus.remove_segment(instance);
        }
    }
}

fn is_dead_and_drained(bus: &BusDirectory, instance: InstanceId) -> Result<bool, BusError> {
    let directory = bus
        .directory()
        .open_inside(&directory::segment_name(instance))?;
    if bus.lock_in(&directory)?.is_held() {
        return Ok(false);
    }
    let (header, gateway) =
        bus_file::open_checked(&directory, GATEWAY_FILE, FileRole::Gateway, false)?;
    let (_, backend) = bus_file::open_checked(&directory, BACKEND_FILE, FileRole::Backend, false)?;
    Ok((0..header.shards as usize).all(|shard| {
        let port = port_offset(shard);
        let published =
            Word::at(&gateway, port + layout::PORT_PUBLISHED_OFFSET).load(Ordering::Acquire);
        published == Word::at(&backend, port + layout::PORT_RELEASED_OFFSET).load(Ordering::Acquire)
    }))
}

/// Everything that one shard's thread holds of the bus.
#[derive(Debug)]
pub struct ShardEnd {
    /// Which shard.
    pub shard: u16,
    /// Writes to the backend.
    pub to_backend: Producer,
    /// Reads from the backend.
    pub to_gateway: Consumer,
    /// This shard's doorbell.
    pub sleeper: Sleeper,
    /// Which backend is attached.
    pub backend: BackendWatch,
    /// This shard's counters, in shared memory.
    pub counters: Counters,
    /// Tickets and frontier.
    pub control: GatewayControl,
    /// The names by which this shard is met: look at them a few times a second.
    pub place: Place,
}
