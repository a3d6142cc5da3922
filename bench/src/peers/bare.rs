//! The floor: multishot accept and receive, unmask in place, send. No checks, no timers, no limits, no lengths above
//! 64 KiB. What a gateway costs beyond this is what its promises cost.

use std::collections::VecDeque;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tidegate_protocol::ws::handshake::{Outcome, Policy, Subprotocols, parse};
use tidegate_protocol::ws::mask::unmask;

use crate::uring::{Completion, Ring, Sizes};

const ACCEPT: u64 = 1 << 32;
const RECEIVE: u64 = 2 << 32;
/// The lower half is a descriptor.
const SEND: u64 = 3 << 32;

const SIZES: Sizes = Sizes {
    submissions: 512,
    completions: 8_192,
    buffers: 256,
    // Sixteen frames of 1 KB fit with their headers.
    buffer_bytes: 32 << 10,
};

/// Once in so long the loop turns without a reason.
const SLEEP: Duration = Duration::from_secs(3_600);

#[derive(Default)]
struct Connection {
    upgraded: bool,
    ended: bool,
    /// What the kernel is sending now; then what waits for it: the order of answers is the order of questions.
    sending: Option<Outgoing>,
    waiting: VecDeque<Outgoing>,
    /// The beginning of a frame whose end has not come.
    partial: Vec<u8>,
}

enum Outgoing {
    /// A part of a received buffer.
    Buffer { id: u16, start: usize, end: usize },
    /// A frame that came in two parts. The ring holds its bytes while they are sent.
    Joined(Vec<u8>),
}

struct Bare {
    ring: Ring,
    /// By descriptor.
    connections: Vec<Connection>,
    policy: Policy,
}

pub(super) fn run(listener: &TcpListener) -> Result<()> {
    let mut bare = Bare {
        ring: Ring::new(SIZES).context("io_uring is not available")?,
        connections: Vec::new(),
        policy: Policy {
            allowed_origins: Vec::new(),
            subprotocols: Subprotocols::Ignored,
        },
    };
    bare.ring.accept(ACCEPT, listener.as_raw_fd());
    super::ready(listener.local_addr()?);
    loop {
        bare.ring.wait(SLEEP)?;
        while let Some(completion) = bare.ring.completion() {
            let fd = RawFd::try_from(completion.data & 0xFFFF_FFFF)?;
            match completion.data & !0xFFFF_FFFF {
                ACCEPT => bare.accepted(completion)?,
                RECEIVE => bare.received(fd, completion)?,
                _ => bare.sent(fd, completion.result),
            }
        }
    }
}

/// A descriptor as part of what a completion names.
fn key(fd: RawFd) -> u64 {
    u64::from(fd.cast_unsigned())
}

impl Bare {
    fn connection(&mut self, fd: RawFd) -> &mut Connection {
        let index = fd.cast_unsigned() as usize;
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, Connection::default);
        }
        &mut self.connections[index]
    }

    fn accepted(&mut self, completion: Completion) -> Result<()> {
        if completion.result < 0 || !completion.more {
            bail!("accepting ended with {}", completion.result);
        }
        let fd = completion.result;
        *self.connection(fd) = Connection::default();
        self.ring.receive(RECEIVE | key(fd), fd);
        Ok(())
    }

    fn received(&mut self, fd: RawFd, completion: Completion) -> Result<()> {
        if let Some(id) = completion.buffer {
            self.read(fd, id, usize::try_from(completion.result)?)?;
        }
        if !completion.more {
            if completion.result > 0 || completion.result == -libc::ENOBUFS {
                self.ring.receive(RECEIVE | key(fd), fd);
            } else {
                self.connection(fd).ended = true;
                self.close_if_over(fd);
            }
        }
        Ok(())
    }

    fn read(&mut self, fd: RawFd, id: u16, count: usize) -> Result<()> {
        if !self.connection(fd).upgraded {
            let answer_bytes = self.upgrade(id, count)?;
            self.connection(fd).upgraded = true;
            self.send(
                fd,
                Outgoing::Buffer {
                    id,
                    start: 0,
                    end: answer_bytes,
                },
            );
            return Ok(());
        }
        let mut from = 0;
        if !self.connection(fd).partial.is_empty() {
            let mut joined = std::mem::take(&mut self.connection(fd).partial);
            from = complete(&mut joined, &self.ring.buffer(id)[..count]);
            if frame_bytes(&joined).is_none_or(|bytes| joined.len() < bytes) {
                self.connection(fd).partial = joined;
                self.ring.give_back(id);
                return Ok(());
            }
            let reflected = reflect(&mut joined);
            joined.truncate(reflected.end);
            joined.drain(..reflected.start);
            self.send(fd, Outgoing::Joined(joined));
        }
        let bytes = &mut self.ring.buffer(id)[from..count];
        let reflected = reflect(bytes);
        let partial = bytes[reflected.consumed..].to_vec();
        self.connection(fd).partial = partial;
        if reflected.start < reflected.end {
            let (start, end) = (from + reflected.start, from + reflected.end);
            self.send(fd, Outgoing::Buffer { id, start, end });
        } else {
            self.ring.give_back(id);
        }
        Ok(())
    }

    /// Writes the answer to a handshake over it; how long it is.
    fn upgrade(&mut self, id: u16, count: usize) -> Result<usize> {
        let mut answer = Vec::new();
        match parse(&self.ring.buffer(id)[..count], 0, &self.policy) {
            Outcome::Upgrade(upgrade) => upgrade.append_response(&mut answer),
            _ => bail!("the bare echo upgrades a handshake that comes at once, and nothing else"),
        }
        self.ring.buffer(id)[..answer.len()].copy_from_slice(&answer);
        Ok(answer.len())
    }

    fn send(&mut self, fd: RawFd, outgoing: Outgoing) {
        let connection = self.connection(fd);
        if connection.sending.is_some() {
            connection.waiting.push_back(outgoing);
            return;
        }
        let submitted = match outgoing {
            Outgoing::Buffer { id, start, end } => {
                self.ring.send_buffer(SEND | key(fd), fd, id, start, end);
                Outgoing::Buffer { id, start, end }
            }
            Outgoing::Joined(bytes) => {
                self.ring.send_owned(SEND | key(fd), fd, bytes);
                Outgoing::Joined(Vec::new())
            }
        };
        self.connection(fd).sending = Some(submitted);
    }

    fn sent(&mut self, fd: RawFd, result: i32) {
        match self.connection(fd).sending.take() {
            Some(Outgoing::Buffer { id, .. }) => self.ring.sent(id),
            Some(Outgoing::Joined(_)) => self.ring.sent_owned(SEND | key(fd)),
            None => {}
        }
        self.connection(fd).ended |= result < 0;
        if !self.connection(fd).ended
            && let Some(next) = self.connection(fd).waiting.pop_front()
        {
            self.send(fd, next);
        }
        self.close_if_over(fd);
    }

    fn close_if_over(&mut self, fd: RawFd) {
        let connection = self.connection(fd);
        if !connection.ended || connection.sending.is_some() {
            return;
        }
        let over = std::mem::take(connection);
        for outgoing in over.waiting {
            if let Outgoing::Buffer { id, .. } = outgoing {
                self.ring.give_back(id);
            }
        }
        #[expect(unsafe_code, reason = "the kernel's accept handed over a number")]
        // SAFETY: accepted once, ended, nothing under way: nobody else holds it.
        drop(unsafe { OwnedFd::from_raw_fd(fd) });
    }
}

/// What of some bytes was whole frames, and where their answers stand now.
struct Reflected {
    start: usize,
    end: usize,
    consumed: usize,
}

/// Bytes of the frame in front with its header; nothing while the header is not whole.
fn frame_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? & 0x7F {
        126 => Some(8 + usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        short => Some(6 + usize::from(short)),
    }
}

/// Moves bytes from the front of `more` until the frame is whole; how many.
fn complete(partial: &mut Vec<u8>, more: &[u8]) -> usize {
    let mut moved = 0;
    while moved < more.len() {
        let wanted = frame_bytes(partial).map_or(1, |bytes| bytes.saturating_sub(partial.len()));
        let count = wanted.min(more.len() - moved);
        if count == 0 {
            break;
        }
        partial.extend_from_slice(&more[moved..moved + count]);
        moved += count;
    }
    moved
}

/// Turns whole frames into their answers, in place: unmasked, without the mask, one behind the other.
fn reflect(bytes: &mut [u8]) -> Reflected {
    let (mut at, mut out, mut first) = (0, 0, None);
    while let Some(frame) = frame_bytes(&bytes[at..]).filter(|frame| at + frame <= bytes.len()) {
        let header = if bytes[at + 1] & 0x7F == 126 { 8 } else { 6 };
        let start = at + header;
        let (opcode, length) = (bytes[at], frame - header);
        let mask = [
            bytes[start - 4],
            bytes[start - 3],
            bytes[start - 2],
            bytes[start - 1],
        ];
        unmask(&mut bytes[start..start + length], mask);
        // The first answer stays where its payload is; its header moves up over the mask.
        let to = if first.is_some() { out } else { at + 4 };
        let short = header - 4;
        bytes.copy_within(at + 2..at + short, to + 2);
        bytes[to + 1] = bytes[at + 1] & 0x7F;
        // A ping comes back as a pong.
        bytes[to] = if opcode == 0x89 { 0x8A } else { opcode };
        if first.is_some() {
            bytes.copy_within(start..start + length, to + short);
        }
        first.get_or_insert(to);
        out = to + short + length;
        at = start + length;
    }
    Reflected {
        start: first.unwrap_or(0),
        end: out,
        consumed: at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Message;

    #[test]
    fn whole_frames_come_back_and_the_rest_waits() {
        for message in [
            Message::Binary { bytes: 5 },
            Message::Binary { bytes: 700 },
            Message::Ping,
        ] {
            let (up, down) = message.frames();
            let mut bytes = up.repeat(3);
            bytes.extend(&up[..up.len() - 1]);
            let reflected = reflect(&mut bytes);
            assert_eq!(bytes[reflected.start..reflected.end], down.repeat(3));
            assert_eq!(reflected.consumed, 3 * up.len());
        }
    }

    #[test]
    fn a_frame_in_two_parts_is_joined_wherever_it_was_cut() {
        let (up, down) = Message::Binary { bytes: 300 }.frames();
        for cut in 1..up.len() {
            let mut partial = up[..cut].to_vec();
            let more = [&up[cut..], &up[..]].concat();
            assert_eq!(complete(&mut partial, &more), up.len() - cut);
            let reflected = reflect(&mut partial);
            assert_eq!(
                partial[reflected.start..reflected.end],
                down,
                "cut at {cut}"
            );
        }
    }
}
