//! What a gateway knows of the backend.

use crate::{
    control::GatewayControl,
    identity::InstanceId,
    liveness::LockProbe,
    memory::Word,
    sync::{Arc, Ordering},
};

/// What a gateway knows of the backend.
#[derive(Clone, Debug)]
pub struct BackendWatch {
    pub(crate) attached: Word,
    pub(crate) refused: Word,
    pub(crate) control: GatewayControl,
    pub(crate) lock: Arc<LockProbe>,
}

impl BackendWatch {
    /// The backend instance that attached to this segment last. One load: ask as often as you like. A change means
    /// that connections have to be announced to the new one.
    #[must_use]
    pub fn instance(&self) -> Option<InstanceId> {
        // SYNC(attached)
        InstanceId::from_raw(self.attached.load(Ordering::Acquire))
    }

    /// The backend instance that will not serve this segment, whose log says why. The gateway ends; started again, it
    /// makes a fresh one.
    #[must_use]
    pub fn refused_by(&self) -> Option<InstanceId> {
        InstanceId::from_raw(self.refused.load(Ordering::Relaxed))
    }

    /// Whether a living process holds the backend's seat, stopped or not. A system call.
    #[must_use]
    pub fn alive(&self) -> bool {
        self.lock.is_held()
    }

    /// Its process id, as it wrote it down; 0 if none ever did.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.lock.pid()
    }

    /// When the backend last beat, µs since the Unix epoch; 0 = never.
    #[must_use]
    pub fn heartbeat_us(&self) -> u64 {
        self.control.backend_heartbeat_us()
    }
}
