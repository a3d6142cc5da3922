//! The one backend: takes its seat, discovers segments, attaches to them.

use crate::{
    control::BackendControl,
    counters::Counters,
    directory::BusDirectory,
    doorbell::Sleeper,
    error::{AttachError, BusError, SeatError},
    identity::InstanceId,
    ring::{Consumer, Producer},
};

/// The backend's place on the bus. One process at a time; freed by its death, however that comes.
#[derive(Debug)]
pub struct BackendSeat {
    _private: (),
}

impl BackendSeat {
    /// Takes the seat under a fresh instance id.
    ///
    /// # Errors
    /// [`SeatError::Taken`] with the holder's pid; or a page is not what it should be.
    pub fn take(bus: &BusDirectory) -> Result<Self, SeatError> {
        let _ = bus;
        todo!()
    }

    /// This incarnation.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        todo!()
    }

    /// The shared pages.
    #[must_use]
    pub fn control(&self) -> &BackendControl {
        todo!()
    }

    /// The backend's doorbell: all producers of all gateways ring this one.
    pub fn bell(&mut self) -> &mut Sleeper {
        todo!()
    }

    /// Segments that are there and that this call has not told before (living or dead: a dead gateway's records
    /// count). Costs one load while no segment was made; looks into the directory at least every second.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn discover(&mut self) -> Result<Vec<InstanceId>, BusError> {
        todo!()
    }

    /// Checks a segment and attaches to it: from here on its gateway sees this backend's instance.
    ///
    /// # Errors
    /// What was found, what was expected, what to do. The segment is left as it was.
    pub fn attach(&mut self, instance: InstanceId) -> Result<AttachedGateway, AttachError> {
        let _ = instance;
        todo!()
    }
}

/// One gateway's segment, as the backend holds it.
#[derive(Debug)]
pub struct AttachedGateway {
    /// Its shards, by number.
    pub shards: Vec<ShardPorts>,
    _private: (),
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
        todo!()
    }

    /// The gateway's process id, as it wrote it down.
    #[must_use]
    pub fn pid(&self) -> u32 {
        todo!()
    }

    /// The gateway's program, as it wrote it down.
    #[must_use]
    pub fn build(&self) -> &str {
        todo!()
    }

    /// Whether the gateway's process lives, stopped or not. A system call.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        todo!()
    }

    /// Removes a dead gateway's segment, after its records were taken and committed. The memory goes with the last
    /// mapping.
    ///
    /// # Errors
    /// The gateway lives, or files cannot be removed.
    pub fn unlink(self) -> Result<(), AttachError> {
        todo!()
    }
}
