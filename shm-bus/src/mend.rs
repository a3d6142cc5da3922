//! A control page that is damaged, or of another release, would keep everybody from starting until a person removes
//! it. Where nobody lives on the bus, nobody is disturbed: the page goes, and is made anew. What dead gateways left in
//! their segments stays for the next backend.
//!
//! Those who live on a damaged page notice it ([`Place::look`](crate::Place::look)) and end; whoever comes meanwhile
//! waits for them. A page of another *version* is a living release's own: its users are left alone, and the one who
//! comes is refused by their name.

use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FlockOperation, flock};

use crate::{
    bus_file::{self, is_missing},
    directory::{BACKEND_LOCK, BusDirectory, CONTROL_BACKEND, CONTROL_GATEWAYS},
    error::BusError,
};

/// Twice as long as processes take to notice and to end.
const MEND_MS_MAX: u64 = 3_000;
const MEND_LOOK_MS: u64 = 20;

impl BusDirectory {
    /// Removes control pages that cannot be used, once nobody lives here.
    ///
    /// # Errors
    /// What is wrong with the page, if somebody goes on living on it.
    pub(crate) fn mend(&self) -> Result<(), BusError> {
        let deadline = Instant::now() + Duration::from_millis(MEND_MS_MAX);
        loop {
            let Some(refusal) = self.unfit_page() else {
                return Ok(());
            };
            // One mender at a time: a second one finds the first one's pages, and leaves them alone. The lock is on a
            // file that is closed to those who only look: they could hold one on the directory.
            let gate = bus_file::open_or_make_plain(self.directory().fd(), BACKEND_LOCK)
                .map_err(|e| self.directory().failed("open", BACKEND_LOCK, e))?;
            let alone = flock(&gate, FlockOperation::NonBlockingLockExclusive).is_ok();
            if alone {
                let mended = self.unfit_page().is_some() && self.is_deserted();
                if mended {
                    for page in [&CONTROL_GATEWAYS, &CONTROL_BACKEND] {
                        let _ = rustix::fs::unlinkat(
                            self.directory().fd(),
                            page.name,
                            AtFlags::empty(),
                        );
                    }
                }
                let _ = flock(&gate, FlockOperation::Unlock);
                if mended {
                    return Ok(());
                }
            }
            let is_of_another_release = matches!(refusal, BusError::OtherLayout { .. });
            if is_of_another_release && alone || Instant::now() >= deadline {
                return Err(refusal);
            }
            std::thread::sleep(Duration::from_millis(MEND_LOOK_MS));
        }
    }

    /// Why a control page that is there cannot be used.
    fn unfit_page(&self) -> Option<BusError> {
        [&CONTROL_GATEWAYS, &CONTROL_BACKEND]
            .into_iter()
            .find_map(|page| {
                bus_file::open_checked(self.directory(), page.name, page.role, false)
                    .err()
                    .filter(|error| !is_missing(error))
            })
    }

    /// Whether no living process has a role here.
    fn is_deserted(&self) -> bool {
        if self.backend_is_alive() {
            return false;
        }
        let Ok(names) = self.directory().names() else {
            return false;
        };
        let mut segments = names.iter().filter(|name| name.starts_with("gateway-"));
        segments.all(|name| {
            let inside = self.directory().open_inside(name);
            !inside
                .and_then(|inside| self.lock_in(&inside))
                .is_ok_and(|lock| lock.is_held())
        })
    }
}
