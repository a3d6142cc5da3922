//! The directory that is the bus.

use std::path::{Path, PathBuf};

use crate::{error::BusError, layout::FileRole, memory::Memory, sync::Arc};

/// A control page: its name and what it is.
pub(crate) struct ControlPage {
    pub(crate) name: &'static str,
    pub(crate) role: FileRole,
}

pub(crate) const CONTROL_GATEWAYS: ControlPage = ControlPage {
    name: "control.gateways.mem",
    role: FileRole::ControlGateways,
};
pub(crate) const CONTROL_BACKEND: ControlPage = ControlPage {
    name: "control.backend.mem",
    role: FileRole::ControlBackend,
};

/// One directory, one bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct BusDirectory {
    path: PathBuf,
}

impl BusDirectory {
    /// Opens the bus at `path`; makes the directory (mode 0700), the control pages and the backend's bell (0600) if
    /// they are not there. Any number of processes may do so at once.
    ///
    /// # Errors
    /// The parent is missing or not writable; the directory belongs to somebody else or is open to others; a control
    /// page is of another layout version; no room.
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, BusError> {
        let _ = path;
        todo!()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn control_page(
        &self,
        page: &ControlPage,
        writable: bool,
    ) -> Result<Arc<Memory>, BusError> {
        let _ = (page.name, page.role, writable);
        todo!()
    }
}
