//! Faults: which write, sync or writer's lock of a database's files fails, with what, once or until it is healed.

use std::ffi::c_int;

use rusqlite::ffi;

/// What may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A write to the database, its log or its journal.
    Write,
    /// An fsync of one of them.
    Sync,
    /// Taking the writer's lock.
    Lock,
}

/// How it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No room (`ENOSPC`). A sync that fails for it is a failed sync like any other, as on Linux.
    Full,
    /// The device failed (`EIO`). After a sync that failed so nobody knows what is on the medium.
    Io,
    /// Somebody holds it; nothing was changed.
    Busy,
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What fails.
    pub operation: Operation,
    /// How.
    pub failure: Failure,
    /// Which: 1 = the next such operation from now on.
    pub nth: u64,
    /// How many from there on fail; `u64::MAX` = all until the disk is healed.
    pub times: u64,
}

/// The faults that are still to come, and what has happened so far.
#[derive(Debug, Default)]
pub struct Faults {
    planted: Vec<Planted>,
    counts: Counts,
}

/// What a disk was asked to do, failures included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Writes and truncations.
    pub writes: u64,
    /// Syncs.
    pub syncs: u64,
    /// Times that the writer's lock was asked for.
    pub locks: u64,
    /// Operations that were failed on purpose.
    pub failed: u64,
}

#[derive(Debug)]
struct Planted {
    fault: Fault,
    /// Count of the operation at which it begins.
    first: u64,
}

impl Fault {
    /// Fails the nth operation from now on, once.
    #[must_use]
    pub const fn once(operation: Operation, nth: u64, failure: Failure) -> Self {
        Self {
            operation,
            failure,
            nth,
            times: 1,
        }
    }

    /// Fails every such operation until the disk is healed.
    #[must_use]
    pub const fn lasting(operation: Operation, failure: Failure) -> Self {
        Self {
            operation,
            failure,
            nth: 1,
            times: u64::MAX,
        }
    }
}

impl Failure {
    /// What SQLite's own VFS answers to such an error.
    #[must_use]
    pub const fn code(self, operation: Operation) -> c_int {
        match (self, operation) {
            (Self::Busy, _) | (_, Operation::Lock) => ffi::SQLITE_BUSY,
            (_, Operation::Sync) => ffi::SQLITE_IOERR_FSYNC,
            (Self::Full, Operation::Write) => ffi::SQLITE_FULL,
            (Self::Io, Operation::Write) => ffi::SQLITE_IOERR_WRITE,
        }
    }
}

impl Faults {
    pub fn plant(&mut self, fault: Fault) {
        let first = self.count(fault.operation).saturating_add(fault.nth.max(1));
        self.planted.push(Planted { fault, first });
    }

    #[cfg(feature = "simulation")]
    pub fn heal(&mut self) {
        self.planted.clear();
    }

    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Counts one operation and says how it fails, if it does.
    pub fn next(&mut self, operation: Operation) -> Option<Failure> {
        match operation {
            Operation::Write => self.counts.writes += 1,
            Operation::Sync => self.counts.syncs += 1,
            Operation::Lock => self.counts.locks += 1,
        }
        let count = self.count(operation);
        self.planted
            .retain(|planted| planted.fault.operation != operation || count <= planted.last());
        let hit = self
            .planted
            .iter()
            .find(|planted| planted.fault.operation == operation && planted.first <= count)?;
        self.counts.failed += 1;
        Some(hit.fault.failure)
    }

    const fn count(&self, operation: Operation) -> u64 {
        match operation {
            Operation::Write => self.counts.writes,
            Operation::Sync => self.counts.syncs,
            Operation::Lock => self.counts.locks,
        }
    }
}

impl Planted {
    const fn last(&self) -> u64 {
        self.first.saturating_add(self.fault.times - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_hits_the_nth_operation_from_when_it_was_planted_and_then_no_more() {
        let mut faults = Faults::default();
        assert_eq!(faults.next(Operation::Write), None);
        faults.plant(Fault::once(Operation::Write, 2, Failure::Full));
        assert_eq!(faults.next(Operation::Write), None);
        assert_eq!(faults.next(Operation::Sync), None);
        assert_eq!(faults.next(Operation::Write), Some(Failure::Full));
        assert_eq!(faults.next(Operation::Write), None);
        assert_eq!((faults.counts().writes, faults.counts().failed), (4, 1));
    }

    #[test]
    #[cfg(feature = "simulation")]
    fn a_lasting_fault_lasts_until_it_is_healed() {
        let mut faults = Faults::default();
        faults.plant(Fault::lasting(Operation::Sync, Failure::Io));
        assert_eq!(faults.next(Operation::Sync), Some(Failure::Io));
        assert_eq!(faults.next(Operation::Sync), Some(Failure::Io));
        faults.heal();
        assert_eq!(faults.next(Operation::Sync), None);
    }

    #[test]
    fn errors_are_those_of_sqlites_own_vfs() {
        assert_eq!(Failure::Full.code(Operation::Write), ffi::SQLITE_FULL);
        assert_eq!(Failure::Full.code(Operation::Sync), ffi::SQLITE_IOERR_FSYNC);
        assert_eq!(Failure::Io.code(Operation::Write), ffi::SQLITE_IOERR_WRITE);
        assert_eq!(Failure::Busy.code(Operation::Write), ffi::SQLITE_BUSY);
    }
}
