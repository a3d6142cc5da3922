//! What the records on shm-bus carry. shm-bus moves a record of some `kind: u16` and does not look inside; the
//! meaning stands here. Both ends run on one machine from one build, so numbers are in its own byte order
//! (little-endian: checked below), and [`zerocopy`] reads them at any alignment.
//!
//! | kind | leads to | record header | payload |
//! | --- | --- | --- | --- |
//! | [`OPENED`] | backend | principal = the token's `sub` | [`OpenedRecord`], name, padding to 8, Hello's payload |
//! | [`ENVELOPE`] | backend | principal, flags = [`Kind`], trace = the connection's `Hello.session` | one envelope's payload |
//! | [`CLOSED`] | backend | | [`ClosedRecord`] |
//! | [`ECHO`] | backend | flags = WebSocket opcode | the message |
//! | [`ENVELOPE_DOWN`] | gateway | flags = [`Kind`], trace = server's µs | one envelope's payload |
//! | [`MULTICAST`] | gateway | flags = [`Kind`], trace = server's µs | [`MulticastHeader`], targets, payload |
//! | [`BROADCAST`] | gateway | flags = [`Kind`], trace = server's µs | [`BroadcastFilter`], payload |
//! | [`CLOSE`] | gateway | | [`CloseRecord`] |
//! | [`DRAIN`] | gateway | | none |
//! | [`ECHO_DOWN`] | gateway | flags = WebSocket opcode | the message |
//!
//! [`Kind`]: crate::Kind

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Counts the meanings that records have had: whoever changes a kind or a payload below so that the other side would
/// misread it counts on. It stands on the bus, and gateway and backend of different counts refuse each other.
pub const BUS_PROTOCOL: u32 = 2;

/// To the backend: a connection said Hello and its token was verified.
pub const OPENED: u16 = 1;
/// To the backend: one envelope of a connection. Its header names principal *and session*, so that a backend that
/// restarted can apply what was left in the ring before the gateway announces the connection: a message's id is
/// (session, n). The client's timestamp is information only and is not carried.
pub const ENVELOPE: u16 = 2;
/// To the backend: a connection ended; its slot is used again only after this was told.
pub const CLOSED: u16 = 3;
/// To the consumer of `--echo=bus`.
pub const ECHO: u16 = 4;
/// To the gateway: one envelope to one connection.
pub const ENVELOPE_DOWN: u16 = 16;
/// In the flags of an [`ENVELOPE_DOWN`], beside the kind: from this envelope on the connection hears what is broadcast to
/// those in the queue ([`BroadcastFilter::queued`]).
pub const JOINS_QUEUE: u16 = 1 << 8;
/// The same, the end of it.
pub const LEAVES_QUEUE: u16 = 1 << 9;
/// To the gateway: one envelope to many connections of this shard.
pub const MULTICAST: u16 = 17;
/// To the gateway: one envelope to every connection of this shard that a filter matches.
pub const BROADCAST: u16 = 18;
/// To the gateway: close one connection.
pub const CLOSE: u16 = 19;
/// To the gateway: say Goaway to all and end.
pub const DRAIN: u16 = 20;
/// From the consumer of `--echo=bus`.
pub const ECHO_DOWN: u16 = 21;

/// Where a connection lives within one gateway process. A reused slot has another generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The shard: one core, one pair of rings.
    pub shard: u16,
    /// The slot in the shard's slab.
    pub slot: u32,
    /// How often that slot was used.
    pub generation: u32,
}

/// [`OpenedRecord::flags`]: the connection lived before this backend did; no Hello follows, resume from the
/// stored marks.
pub const OPENED_ANNOUNCED: u8 = 1;
/// [`OpenedRecord::flags`]: the visitor was let in on a ticket and was not inside before: it counts against the
/// operator's rate of admission.
pub const OPENED_ON_TICKET: u8 = 2;

/// The fixed part of an [`OPENED`] record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct OpenedRecord {
    /// `Hello.session`.
    pub session: u64,
    /// `Hello.request`, echoed by Welcome.
    pub request: u64,
    /// When an agent's token was minted, seconds since the Unix epoch: a newer password ends older tokens. 0 for
    /// visitors. That a token expires is the gateway's own business.
    pub issued_at_s: u64,
    /// The first bytes of the peer's address: /24 of IPv4 (mapped), /48 of IPv6; the rest is zero.
    pub peer_prefix: [u8; 16],
    /// The token's `wid`; 0 for agents.
    pub widget: u32,
    /// The token's `sid`.
    pub site: u32,
    /// Bytes of Hello's payload after the name; 0 in an announcement.
    pub hello_bytes: u32,
    /// Bytes of the token's `name` after this struct.
    pub name_bytes: u16,
    /// `fb::Role`.
    pub role: u8,
    /// `fb::Family`.
    pub family: u8,
    /// [`Codec`](crate::codec::Codec).
    pub codec: u8,
    /// [`OPENED_ANNOUNCED`], [`OPENED_ON_TICKET`].
    pub flags: u8,
    /// Zero.
    pub padding: [u8; 2],
    /// How long the connection may be silent, ms, as the gateway learned it: `Welcome.heartbeat_ms`.
    pub heartbeat_ms: u32,
    /// `Hello.connection`, in an announcement too.
    pub connection: u32,
    /// Zero.
    pub reserved: [u8; 4],
}

/// The payload of a [`CLOSED`] record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct ClosedRecord {
    /// The close code that was received or sent; 1006 where there was none.
    pub code: u16,
    /// [`ClosedCause`] as a byte.
    pub cause: u8,
    /// Zero.
    pub reserved: u8,
}

/// Who or what ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ClosedCause {
    /// The peer sent a close frame.
    PeerClosed = 0,
    /// The peer's TCP ended or was reset without one.
    PeerGone = 1,
    /// It was silent, or sent without acknowledging, for too long.
    TimedOut = 2,
    /// It read too slowly.
    SlowReader = 3,
    /// It broke the protocol.
    Misbehaved = 4,
    /// The backend asked for it.
    ByBackend = 5,
    /// The gateway drains or sheds load.
    ByGateway = 6,
}

impl ClosedCause {
    /// The cause of a byte; an unknown one counts as [`ClosedCause::PeerGone`].
    #[must_use]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::PeerClosed,
            2 => Self::TimedOut,
            3 => Self::SlowReader,
            4 => Self::Misbehaved,
            5 => Self::ByBackend,
            6 => Self::ByGateway,
            _ => Self::PeerGone,
        }
    }
}

/// In front of the targets of a [`MULTICAST`] record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MulticastHeader {
    /// How many [`MulticastTarget`]s follow.
    pub count: u32,
    /// Zero.
    pub reserved: u32,
}

/// One connection of a [`MULTICAST`] record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct MulticastTarget {
    /// The slot in the shard's slab.
    pub slot: u32,
    /// How often that slot was used; another generation is passed over.
    pub generation: u32,
}

/// In front of the payload of a [`BROADCAST`] record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct BroadcastFilter {
    /// Bit n: role n of the schema gets it.
    pub role_mask: u8,
    /// 1: only connections that wait in the queue for an agent ([`JOINS_QUEUE`]). 0: whether they do or not.
    pub queued: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// Only visitors of this widget; 0 = of any.
    pub widget: u32,
}

/// The payload of a [`CLOSE`] record.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct CloseRecord {
    /// The close code to send.
    pub code: u16,
    /// Zero.
    pub reserved: u16,
    /// When to come back; 0 = the reason names no time.
    pub retry_ms: u32,
}

const _: () = {
    assert!(cfg!(target_endian = "little"));
    assert!(size_of::<OpenedRecord>() == 72);
    assert!(size_of::<ClosedRecord>() == 4);
    assert!(size_of::<MulticastHeader>() == 8);
    assert!(size_of::<MulticastTarget>() == 8);
    assert!(size_of::<BroadcastFilter>() == 8);
    assert!(size_of::<CloseRecord>() == 8);
};

/// A record whose payload is shorter than what its own fields say, or whose name is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bus record of {found_bytes} bytes does not hold what it declares ({what})")]
pub struct BusRecordError {
    /// Which record.
    pub what: &'static str,
    /// The payload's length.
    pub found_bytes: usize,
}

/// The three parts of an [`OPENED`] record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// The fixed part; `name_bytes` and `hello_bytes` are set by [`Opened::write`].
    pub record: OpenedRecord,
    /// The token's `name`.
    pub name: &'a str,
    /// The verified payload of Hello; empty in an announcement.
    pub hello: &'a [u8],
}

impl<'a> Opened<'a> {
    /// Bytes of the whole payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<OpenedRecord>() + self.name.len().next_multiple_of(8) + self.hello.len()
    }

    /// Writes the payload to `to`, which is [`Opened::bytes`] long.
    ///
    /// # Panics
    /// When `to` has another length, or the name is longer than a u16 or Hello than a u32.
    pub fn write(&self, to: &mut [u8]) {
        assert_eq!(to.len(), self.bytes());
        let record = OpenedRecord {
            name_bytes: u16::try_from(self.name.len()).expect("a name within NAME_BYTES_MAX"),
            hello_bytes: u32::try_from(self.hello.len())
                .expect("a payload within ENVELOPE_PAYLOAD_BYTES_MAX"),
            ..self.record
        };
        let (fixed, tail) = to.split_at_mut(size_of::<OpenedRecord>());
        fixed.copy_from_slice(record.as_bytes());
        let (name, hello) = tail.split_at_mut(self.name.len().next_multiple_of(8));
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        name[self.name.len()..].fill(0);
        hello.copy_from_slice(self.hello);
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// When it is shorter than it says, or the name is not UTF-8.
    pub fn read(payload: &'a [u8]) -> Result<Self, BusRecordError> {
        let error = BusRecordError {
            what: "opened",
            found_bytes: payload.len(),
        };
        let (record, tail) = OpenedRecord::read_from_prefix(payload).map_err(|_| error)?;
        let name_bytes = usize::from(record.name_bytes);
        let (name, hello) = tail
            .split_at_checked(name_bytes.next_multiple_of(8))
            .ok_or(error)?;
        let name = core::str::from_utf8(&name[..name_bytes]).map_err(|_| error)?;
        let hello = hello.get(..record.hello_bytes as usize).ok_or(error)?;
        Ok(Self {
            record,
            name,
            hello,
        })
    }
}

/// Bytes of a [`MULTICAST`] payload.
#[must_use]
pub const fn multicast_bytes(targets: usize, payload_bytes: usize) -> usize {
    size_of::<MulticastHeader>() + targets * size_of::<MulticastTarget>() + payload_bytes
}

/// Writes a [`MULTICAST`] payload to `to`, which is [`multicast_bytes`] long.
///
/// # Panics
/// When `to` has another length.
pub fn write_multicast(to: &mut [u8], targets: &[MulticastTarget], payload: &[u8]) {
    assert_eq!(to.len(), multicast_bytes(targets.len(), payload.len()));
    let count = u32::try_from(targets.len()).expect("targets are slots, which are u32");
    let (header, tail) = to.split_at_mut(size_of::<MulticastHeader>());
    header.copy_from_slice(MulticastHeader { count, reserved: 0 }.as_bytes());
    let (list, body) = tail.split_at_mut(size_of_val(targets));
    list.copy_from_slice(targets.as_bytes());
    body.copy_from_slice(payload);
}

/// Reads a [`MULTICAST`] payload: the targets, and the envelope's payload.
///
/// # Errors
/// When it is shorter than its count says.
pub fn read_multicast(
    payload: &[u8],
) -> Result<(impl ExactSizeIterator<Item = MulticastTarget> + '_, &[u8]), BusRecordError> {
    let error = BusRecordError {
        what: "multicast",
        found_bytes: payload.len(),
    };
    let (header, tail) = MulticastHeader::read_from_prefix(payload).map_err(|_| error)?;
    let list_bytes = (header.count as usize)
        .checked_mul(size_of::<MulticastTarget>())
        .ok_or(error)?;
    let (list, body) = tail.split_at_checked(list_bytes).ok_or(error)?;
    let targets = list
        .chunks_exact(size_of::<MulticastTarget>())
        .map(|bytes| {
            MulticastTarget::read_from_bytes(bytes)
                .expect("invariant: chunks have the size of a target")
        });
    Ok((targets, body))
}

/// Reads a record that begins with a fixed struct: it, and what follows.
///
/// # Errors
/// When the payload is shorter than the struct.
pub fn read_fixed<T: FromBytes>(payload: &[u8]) -> Result<(T, &[u8]), BusRecordError> {
    T::read_from_prefix(payload).map_err(|_| BusRecordError {
        what: core::any::type_name::<T>(),
        found_bytes: payload.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_opened_record_gives_back_its_three_parts() {
        for name in ["", "Ann", "Ann Lee!", "访客 8812"] {
            let opened = Opened {
                record: OpenedRecord {
                    session: 7,
                    role: 1,
                    ..OpenedRecord::default()
                },
                name,
                hello: &[1, 2, 3, 4],
            };
            let mut bytes = vec![0xff; opened.bytes()];
            opened.write(&mut bytes);
            let read = Opened::read(&bytes).expect("whole");
            assert_eq!(
                (read.name, read.hello, read.record.session),
                (name, opened.hello, 7)
            );
            for cut in 0..bytes.len() {
                assert!(Opened::read(&bytes[..cut]).is_err(), "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_multicast_gives_back_its_targets_and_payload() {
        let targets: Vec<_> = (0..5)
            .map(|slot| MulticastTarget {
                slot,
                generation: slot * 3,
            })
            .collect();
        let mut bytes = vec![0; multicast_bytes(5, 3)];
        write_multicast(&mut bytes, &targets, b"abc");
        let (read, body) = read_multicast(&bytes).expect("whole");
        assert_eq!(read.collect::<Vec<_>>(), targets);
        assert_eq!(body, b"abc");
        assert!(read_multicast(&bytes[..47]).is_err());
    }

    #[test]
    fn a_count_that_no_memory_could_hold_is_an_error() {
        let header = MulticastHeader {
            count: u32::MAX,
            reserved: 0,
        };
        assert!(read_multicast(header.as_bytes()).is_err());
    }
}
