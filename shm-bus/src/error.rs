//! What was found, what was expected, what to do. Expected outcomes (`Full`, `Empty`) are return values, not errors.

use std::{io, path::PathBuf};

use crate::identity::InstanceId;

/// The bus directory or a control page could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// A system call failed.
    #[error("{what} {path}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The directory or one of its files is not what it should be.
    #[error("{path}: found {found}, expected {expected}; {remedy}")]
    Unfit {
        /// Which file.
        path: PathBuf,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
        /// What a person does about it.
        remedy: String,
    },
    /// A file of another layout: of another release.
    #[error(
        "{path}: found layout version {found} (made by {build:?}, pid {pid}), expected layout version {expected}; \
         run gateway and backend of one release; then start both anew"
    )]
    OtherLayout {
        /// Which file.
        path: PathBuf,
        /// Its major.
        found: u64,
        /// The program that made it.
        build: String,
        /// That program's process id.
        pid: u32,
        /// The major of this program.
        expected: u32,
    },
    /// The file system has no room for the memory.
    #[error(
        "{path}: no room for {wanted_bytes} bytes ({free_bytes} free); Docker gives /dev/shm 64 MiB by default: \
         start the container with --shm-size=1g, or set bus_dir to another memory file system, or lower ring_bytes \
         or shards"
    )]
    NoRoom {
        /// Which file.
        path: PathBuf,
        /// Its size.
        wanted_bytes: u64,
        /// What the file system has left.
        free_bytes: u64,
    },
}

/// A gateway could not make its segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// Directory, file or memory.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A backend is there that takes records to mean something else.
    #[error(
        "{bus}: the backend on this bus (pid {pid}) speaks bus protocol {theirs}, this gateway speaks {ours}; run \
         gateway and backend of one release: stop that backend (kill {pid}) and start the one of this gateway's release"
    )]
    Protocol {
        /// The bus directory.
        bus: PathBuf,
        /// The backend's process id.
        pid: u32,
        /// What it speaks.
        theirs: u32,
        /// What this gateway speaks.
        ours: u32,
    },
    /// An option outside its bounds.
    #[error("{option} is {found}, expected {expected}")]
    Option {
        /// Its name.
        option: &'static str,
        /// What was given.
        found: usize,
        /// Bounds, in words.
        expected: String,
    },
}

/// The backend could not take its seat.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeatError {
    /// Directory, file or memory.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Another backend holds the bus.
    #[error(
        "{bus}: a backend already holds this bus (pid {pid}); stop it (kill {pid}), or start this one on a bus_dir \
         of its own"
    )]
    Taken {
        /// The bus directory.
        bus: PathBuf,
        /// The holder's process id, as it wrote it down (0: it had not yet).
        pid: u32,
    },
}

/// The backend could not attach to a gateway's segment. The segment is left as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Directory, file or memory.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// No segment of that name (any more).
    #[error("gateway {0}: no such segment")]
    Gone(InstanceId),
    /// This process has it attached already.
    #[error("gateway {0}: already attached by this process")]
    AlreadyAttached(InstanceId),
    /// Its process lives: its segment is not removed.
    #[error("gateway {instance}: alive (pid {pid}); stop it first (kill {pid})")]
    GatewayLives {
        /// Whose segment.
        instance: InstanceId,
        /// Its process id, as it wrote it down.
        pid: u32,
    },
    /// Its records mean something else than this backend's. The gateway is told, and ends.
    #[error(
        "gateway {instance} (made by {build:?}, pid {pid}): speaks bus protocol {theirs}, this backend speaks {ours}; \
         run gateway and backend of one release; then start both anew"
    )]
    Protocol {
        /// Whose segment.
        instance: InstanceId,
        /// The program that made it.
        build: String,
        /// Its process id.
        pid: u32,
        /// What it speaks.
        theirs: u32,
        /// What this backend speaks.
        ours: u32,
    },
    /// The cursors of one of its rings cannot be.
    #[error(
        "{segment}, shard {shard}: {damage}; stop that gateway (its pid stands in the lock file) and start it again"
    )]
    Damaged {
        /// The segment's directory.
        segment: PathBuf,
        /// Which shard.
        shard: u32,
        /// What was found.
        damage: Damage,
    },
}

/// What a process holds of the bus is no longer what stands at its name: whoever comes to the bus now does not meet it.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path}: found {found}, expected {expected}: who comes to this bus does not meet this process any more. It ends; \
     started again, it joins the bus that is there then"
)]
pub struct Displaced {
    /// Which directory or file.
    pub path: PathBuf,
    /// What is there.
    pub found: String,
    /// What this process holds.
    pub expected: String,
}

/// A claim that can never succeed, as against [`Claimed::Full`](crate::Claimed::Full).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClaimError {
    /// More than `record_bytes_max` of this ring.
    #[error(
        "a record with {payload_bytes} bytes of payload; this ring takes at most {payload_bytes_max}"
    )]
    TooLarge {
        /// What was asked for.
        payload_bytes: usize,
        /// What this ring takes.
        payload_bytes_max: usize,
    },
    /// The consumer's cursor is impossible: nothing more is written here.
    #[error("the ring is condemned: {0}")]
    Condemned(Damage),
}

/// What a checked copy found wrong with a ring. Positions are bytes since the ring was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Damage {
    /// The peer's cursor is outside what it may be, or not a multiple of 8.
    #[error("peer's cursor is {found}, expected a multiple of 8 from {least} to {most}")]
    Cursor {
        /// What stands there.
        found: u64,
        /// Its least value here.
        least: u64,
        /// Its greatest value here.
        most: u64,
    },
    /// A record's length cannot be: the records behind it cannot be found.
    #[error("a record at {position} has a length of {found} bytes, expected {least} to {most}")]
    Length {
        /// Where.
        position: u64,
        /// What stands there.
        found: u32,
        /// Least.
        least: u32,
        /// Greatest.
        most: u32,
    },
    /// The check word does not belong to this position and header: stale or overwritten memory.
    #[error("a record at {position} has the check word {found:#010x}, expected {expected:#010x}")]
    Check {
        /// Where.
        position: u64,
        /// What stands there.
        found: u32,
        /// What belongs there.
        expected: u32,
    },
    /// A reserved field is not zero. The record is skipped; the ring goes on.
    #[error("a record at {position} has {found} in its reserved partition field, expected 0")]
    Reserved {
        /// Where.
        position: u64,
        /// What stands there.
        found: u16,
    },
}

impl Damage {
    /// Whether the ring is unusable from here on. Otherwise one record was skipped.
    #[must_use]
    pub const fn condemns(&self) -> bool {
        !matches!(self, Self::Reserved { .. })
    }
}
