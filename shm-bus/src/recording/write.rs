//! Writes a recording.

use std::io::{self, Write};

use super::{
    BLOCK_MAGIC, BODY_BYTES, Direction, Entry, Event, HAS_FLAGS, HAS_PRINCIPAL, HAS_SHARD,
    HAS_TRACE, HEAD_BYTES, Head, LEADS_TO_GATEWAY, MAGIC, PAYLOAD_BYTES_MAX, VERSION, WHAT_GATEWAY,
    WHAT_GONE, WHAT_MISSED, WHAT_RECORD,
    number::{check, put},
};
use crate::record::record_span_bytes;

/// Appends entries to a file, a block at a time.
#[derive(Debug)]
pub struct RecordingWriter<W> {
    out: W,
    /// The block that is being made: its entries, the time of the first, the time of the last.
    body: Vec<u8>,
    began_us: u64,
    newest_us: u64,
    written_bytes: u64,
}

impl<W: Write> RecordingWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// What the file says.
    pub fn begin(mut out: W, head: &Head) -> io::Result<Self> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&head.protocol.to_le_bytes());
        bytes.extend_from_slice(&head.began_at_us.to_le_bytes());
        bytes.extend_from_slice(&head.part.to_le_bytes());
        bytes.extend_from_slice(&[0; 12]);
        let check = check(&[&bytes]);
        bytes.extend_from_slice(&check.to_le_bytes());
        out.write_all(&bytes)?;
        Ok(Self {
            out,
            body: Vec::new(),
            began_us: 0,
            newest_us: head.began_at_us,
            written_bytes: bytes.len() as u64,
        })
    }

    /// Adds an entry. It is in the file once its block is ended: when that is full, or by [`flush`](Self::flush).
    ///
    /// # Errors
    /// What the file says. What was written until then ([`written_bytes`](Self::written_bytes)) stays readable.
    pub fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        self.append(entry);
        if self.body.len() >= BODY_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Ends the block that is being made, in one write.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn flush(&mut self) -> io::Result<()> {
        if self.body.is_empty() {
            return Ok(());
        }
        let block = block(self.began_us, &self.body);
        self.body.clear();
        self.out.write_all(&block)?;
        self.out.flush()?;
        self.written_bytes += block.len() as u64;
        Ok(())
    }

    /// Bytes of the header and of the blocks that were ended.
    pub const fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// The file, to be looked after by its owner.
    pub const fn file(&self) -> &W {
        &self.out
    }

    /// Ends the last block and gives the file back.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn end(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.out)
    }

    fn append(&mut self, entry: &Entry<'_>) {
        // A clock that was set back: what came later is not before.
        let at_us = entry.at_us.max(self.newest_us);
        if self.body.is_empty() {
            (self.began_us, self.newest_us) = (at_us, at_us);
        }
        let since_us = at_us - self.newest_us;
        self.newest_us = at_us;
        let body = &mut self.body;
        let begin = |body: &mut Vec<u8>, tag: u8| {
            body.push(tag);
            put(body, since_us);
            put(body, u64::from(entry.gateway));
            put(body, u64::from(entry.shard));
        };
        match entry.event {
            Event::Record {
                leads,
                header,
                payload,
            } if payload.len() <= PAYLOAD_BYTES_MAX => {
                let bit = |is_there: bool, bit| if is_there { bit } else { 0 };
                let tag = WHAT_RECORD
                    | leads_bit(leads)
                    | bit(header.principal != 0, HAS_PRINCIPAL)
                    | bit(header.shard != entry.shard, HAS_SHARD)
                    | bit(header.flags != 0, HAS_FLAGS)
                    | bit(header.trace != 0, HAS_TRACE);
                begin(body, tag);
                put(body, u64::from(header.kind));
                if header.flags != 0 {
                    put(body, u64::from(header.flags));
                }
                if header.shard != entry.shard {
                    put(body, u64::from(header.shard));
                }
                put(body, u64::from(header.slot));
                put(body, u64::from(header.generation));
                if header.trace != 0 {
                    body.extend_from_slice(&header.trace.to_le_bytes());
                }
                if header.principal != 0 {
                    body.extend_from_slice(&header.principal.to_le_bytes());
                }
                put(body, payload.len() as u64);
                body.extend_from_slice(payload);
            }
            Event::Record { leads, payload, .. } => {
                begin(body, WHAT_MISSED | leads_bit(leads));
                put(body, record_span_bytes(payload.len()) as u64);
            }
            Event::Missed { leads, bytes } => {
                begin(body, WHAT_MISSED | leads_bit(leads));
                put(body, bytes);
            }
            Event::Gateway {
                instance,
                shards,
                ring_bytes,
                record_bytes_max,
            } => {
                begin(body, WHAT_GATEWAY);
                body.extend_from_slice(&instance.get().to_le_bytes());
                put(body, u64::from(shards));
                put(body, ring_bytes);
                put(body, u64::from(record_bytes_max));
            }
            Event::Gone => begin(body, WHAT_GONE),
        }
    }
}

/// A body with what stands before it; `at_us` is the time of its first entry.
pub(crate) fn block(at_us: u64, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a body has at most BODY_BYTES_MAX");
    let (length, at_us) = (length.to_le_bytes(), at_us.to_le_bytes());
    let check = check(&[&length, &at_us, body]).to_le_bytes();
    [&BLOCK_MAGIC[..], &length, &at_us, &check, body].concat()
}

const fn leads_bit(leads: Direction) -> u8 {
    match leads {
        Direction::ToBackend => 0,
        Direction::ToGateway => LEADS_TO_GATEWAY,
    }
}
