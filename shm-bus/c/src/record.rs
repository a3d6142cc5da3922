//! What a record is in C.

use shm_bus::{InstanceId, Position, RecordHeader};

/// What stands before the payload. The bus reads `kind` (not 0) and `partition` (0); the rest is the users' own.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Header {
    /// What the payload means, by the users' own table; never 0.
    pub kind: u16,
    /// Free for the kind to use.
    pub flags: u16,
    /// Reserved: 0.
    pub partition: u16,
    /// The connection: shard,
    pub shard: u16,
    /// slot,
    pub slot: u32,
    /// and which tenant of the slot.
    pub generation: u32,
    /// Free for the kind to use.
    pub trace: u64,
    /// Who it is about: the low 64 bits,
    pub principal_low: u64,
    /// and the high ones. Both 0: nobody.
    pub principal_high: u64,
}

impl From<RecordHeader> for Header {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a u128")]
    fn from(header: RecordHeader) -> Self {
        Self {
            kind: header.kind,
            flags: header.flags,
            partition: header.partition,
            shard: header.shard,
            slot: header.slot,
            generation: header.generation,
            trace: header.trace,
            principal_low: header.principal as u64,
            principal_high: (header.principal >> 64) as u64,
        }
    }
}

impl From<Header> for RecordHeader {
    fn from(header: Header) -> Self {
        Self {
            kind: header.kind,
            flags: header.flags,
            partition: header.partition,
            shard: header.shard,
            slot: header.slot,
            generation: header.generation,
            trace: header.trace,
            principal: u128::from(header.principal_low) | u128::from(header.principal_high) << 64,
        }
    }
}

/// A record that was copied out of a ring, and where from.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Record {
    /// Its header.
    pub header: Header,
    /// The gateway whose ring it was in: its instance id, never 0.
    pub gateway: u64,
    /// Where the record ends, in bytes since the ring was made: what tidegate_bus_release takes.
    pub position: u64,
    /// The payload, 8-byte aligned: the library's copy, which stands until the next call that reads on this handle.
    pub payload: *const u8,
    /// Its size in bytes.
    pub payload_bytes: usize,
    /// The shard of the gateway whose ring it was in.
    pub ring: u16,
    /// 1: from the ring that leads to the gateway; 0: from the one that leads to the backend.
    pub to_gateway: u8,
}

impl Record {
    pub(crate) fn new(
        header: RecordHeader,
        gateway: InstanceId,
        ring: u16,
        to_gateway: bool,
        position: Position,
        payload: &[u8],
    ) -> Self {
        Self {
            header: header.into(),
            gateway: gateway.get(),
            position: position.get(),
            payload: payload.as_ptr(),
            payload_bytes: payload.len(),
            ring,
            to_gateway: u8::from(to_gateway),
        }
    }
}
