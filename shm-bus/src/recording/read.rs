//! Reads a recording: total, whatever the bytes are. It goes forward with each call, holds at most one block, and gives
//! nothing of a block whose check does not fit.

use std::io::{self, Read};

use super::{
    BLOCK_HEAD_BYTES, BLOCK_MAGIC, BODY_BYTES_MAX, Direction, Entry, Event, HAS_FLAGS,
    HAS_PRINCIPAL, HAS_SHARD, HAS_TRACE, HEAD_BYTES, Head, LEADS_TO_GATEWAY, MAGIC,
    PAYLOAD_BYTES_MAX, RESERVED, VERSION, WHAT, WHAT_GATEWAY, WHAT_GONE, WHAT_MISSED, WHAT_RECORD,
    number::{Cursor, check},
};
use crate::{identity::InstanceId, record::RecordHeader};

const READ_BYTES: usize = 64 * 1024;

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordingError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It begins with something else.
    #[error("no recording of a bus (it does not begin with TIDEGTGR)")]
    NoRecording,
    /// Another release's.
    #[error(
        "a recording of version {found}, expected {VERSION}; read it with the release that wrote it"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// Its header is cut short or does not fit its check.
    #[error("the recording's header is damaged; nothing says what its records mean")]
    Header,
}

/// The entries of a recording, one after the other.
#[derive(Debug)]
pub struct RecordingReader<R> {
    input: R,
    head: Head,
    /// Bytes of the file: those before `at` were taken; `end` is where the block that is being read ends, 0 if none is.
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    newest_us: u64,
    is_at_end: bool,
    damaged_bytes: u64,
}

impl<R: Read> RecordingReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// It is no recording, of another version, or its header is damaged.
    pub fn open(input: R) -> Result<Self, RecordingError> {
        let mut reader = Self {
            input,
            head: Head::default(),
            buffer: Vec::new(),
            at: 0,
            end: 0,
            newest_us: 0,
            is_at_end: false,
            damaged_bytes: 0,
        };
        reader.fill(HEAD_BYTES)?;
        let bytes = reader.buffer.get(..HEAD_BYTES).unwrap_or(&reader.buffer);
        if !bytes.starts_with(&MAGIC) {
            return Err(RecordingError::NoRecording);
        }
        let (found, head) = head(bytes).ok_or(RecordingError::Header)?;
        if found != VERSION {
            return Err(RecordingError::Version { found });
        }
        (reader.head, reader.at) = (head, HEAD_BYTES);
        Ok(reader)
    }

    /// What it says of itself.
    pub const fn head(&self) -> Head {
        self.head
    }

    /// Bytes that were passed over because they were no whole block.
    pub const fn damaged_bytes(&self) -> u64 {
        self.damaged_bytes
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read. What is damaged in it is no error: it is passed over, and counted.
    #[expect(clippy::should_implement_trait, reason = "an entry borrows the reader")]
    pub fn next(&mut self) -> io::Result<Option<Entry<'_>>> {
        while self.at >= self.end {
            if !self.find_block()? {
                return Ok(None);
            }
        }
        // The block's check fits, and each of its entries was taken once: see `find_block`.
        let mut rest = Cursor(&self.buffer[self.at..self.end]);
        let entry = entry(&mut rest, &mut self.newest_us);
        self.at = self.end - rest.0.len();
        Ok(entry)
    }

    /// Goes to the next block that is whole; false at the end of the file.
    fn find_block(&mut self) -> io::Result<bool> {
        loop {
            self.end = 0;
            self.fill(BLOCK_HEAD_BYTES)?;
            let bytes = &self.buffer[self.at..];
            if bytes.is_empty() {
                return Ok(false);
            }
            if let Some((body_bytes, _, _)) = block_head(bytes) {
                self.fill(BLOCK_HEAD_BYTES + body_bytes)?;
                if let Some((at_us, body)) = block(&self.buffer[self.at..])
                    && holds_entries(body, at_us)
                {
                    self.at += BLOCK_HEAD_BYTES;
                    self.end = self.at + body_bytes;
                    self.newest_us = at_us;
                    return Ok(true);
                }
            }
            // No block begins here: at the next place where one could.
            let bytes = &self.buffer[self.at..];
            let next = (1..bytes.len())
                .find(|&at| BLOCK_MAGIC.starts_with(&bytes[at..bytes.len().min(at + 4)]))
                .unwrap_or(bytes.len());
            self.at += next;
            self.damaged_bytes += next as u64;
        }
    }

    /// Reads until so many bytes stand behind `at`, or the file ends.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.buffer.len() - self.at >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        while self.buffer.len() < wanted && !self.is_at_end {
            let had = self.buffer.len();
            let most = READ_BYTES.max(wanted - had) as u64;
            let read = self
                .input
                .by_ref()
                .take(most)
                .read_to_end(&mut self.buffer)?;
            self.is_at_end = (read as u64) < most;
        }
        Ok(())
    }
}

fn head(bytes: &[u8]) -> Option<(u32, Head)> {
    let mut rest = Cursor(bytes.get(MAGIC.len()..)?);
    let version = u32::from_le_bytes(rest.array()?);
    let head = Head {
        protocol: u32::from_le_bytes(rest.array()?),
        began_at_us: u64::from_le_bytes(rest.array()?),
        part: u64::from_le_bytes(rest.array()?),
    };
    rest.bytes(12)?;
    let found = u32::from_le_bytes(rest.array()?);
    // Of another version only the magic and the version are known to be where they are.
    (version != VERSION || found == check(&[&bytes[..HEAD_BYTES - 4]])).then_some((version, head))
}

/// Size of the body, time, check; if they can be a block's.
fn block_head(bytes: &[u8]) -> Option<(usize, u64, u32)> {
    let mut rest = Cursor(bytes.strip_prefix(&BLOCK_MAGIC)?);
    let body_bytes = usize::try_from(u32::from_le_bytes(rest.array()?)).ok()?;
    let at_us = u64::from_le_bytes(rest.array()?);
    let check = u32::from_le_bytes(rest.array()?);
    (body_bytes <= BODY_BYTES_MAX).then_some((body_bytes, at_us, check))
}

/// Time and body of a block that is all there and fits its check.
fn block(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (body_bytes, at_us, found) = block_head(bytes)?;
    let body = bytes.get(BLOCK_HEAD_BYTES..)?.get(..body_bytes)?;
    let wanted = check(&[&bytes[4..16], body]);
    (found == wanted).then_some((at_us, body))
}

/// Whether a body is entries back to back, and at least one. An entry that is none may take all bytes with it: that no
/// byte is left does not say so.
fn holds_entries(body: &[u8], mut newest_us: u64) -> bool {
    let mut rest = Cursor(body);
    while !rest.0.is_empty() {
        if entry(&mut rest, &mut newest_us).is_none() {
            return false;
        }
    }
    !body.is_empty()
}

/// One entry. `None`: nothing that a writer writes.
fn entry<'a>(rest: &mut Cursor<'a>, newest_us: &mut u64) -> Option<Entry<'a>> {
    let tag = rest.byte()?;
    let at_us = newest_us.checked_add(rest.number()?)?;
    let gateway = rest.number()?;
    let shard = rest.number()?;
    let leads = if tag & LEADS_TO_GATEWAY == 0 {
        Direction::ToBackend
    } else {
        Direction::ToGateway
    };
    let optional = HAS_PRINCIPAL | HAS_SHARD | HAS_FLAGS | HAS_TRACE;
    let unknown = match tag & WHAT {
        WHAT_RECORD => RESERVED,
        WHAT_MISSED => RESERVED | optional,
        _ => RESERVED | optional | LEADS_TO_GATEWAY,
    };
    if tag & unknown != 0 {
        return None;
    }
    let event = match tag & WHAT {
        WHAT_RECORD => record(rest, tag, shard, leads)?,
        WHAT_MISSED => Event::Missed {
            leads,
            bytes: rest.number()?,
        },
        WHAT_GATEWAY => Event::Gateway {
            instance: InstanceId::from_raw(u64::from_le_bytes(rest.array()?))?,
            shards: rest.number()?,
            ring_bytes: rest.number()?,
            record_bytes_max: rest.number()?,
        },
        WHAT_GONE => Event::Gone,
        _ => return None,
    };
    *newest_us = at_us;
    Some(Entry {
        at_us,
        gateway,
        shard,
        event,
    })
}

fn record<'a>(
    rest: &mut Cursor<'a>,
    tag: u8,
    ring_shard: u16,
    leads: Direction,
) -> Option<Event<'a>> {
    let mut header = RecordHeader {
        kind: rest.number()?,
        shard: ring_shard,
        ..RecordHeader::default()
    };
    if tag & HAS_FLAGS != 0 {
        header.flags = rest.number()?;
    }
    if tag & HAS_SHARD != 0 {
        header.shard = rest.number()?;
    }
    header.slot = rest.number()?;
    header.generation = rest.number()?;
    if tag & HAS_TRACE != 0 {
        header.trace = u64::from_le_bytes(rest.array()?);
    }
    if tag & HAS_PRINCIPAL != 0 {
        header.principal = u128::from_le_bytes(rest.array()?);
    }
    let payload_bytes = rest.number()?;
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return None;
    }
    let payload = rest.bytes(payload_bytes)?;
    Some(Event::Record {
        leads,
        header,
        payload,
    })
}
