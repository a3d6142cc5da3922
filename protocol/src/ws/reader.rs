//! Whole messages out of reads of any size. What lies in one read is lent from there; only what is split over
//! reads or fragments is collected, in memory that exists just as long.

use super::close::CloseFrame;
use super::decoder::{Bounds, Decoder, Event};
use super::error::ProtocolError;
use super::header::{Opcode, Peer};
use crate::limits::WS_CONTROL_BYTES_MAX;

/// What a peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'b> {
    /// A message of UTF-8.
    Text(&'b [u8]),
    /// A message of bytes.
    Binary(&'b [u8]),
    /// To be answered by a Pong with this payload.
    Ping(&'b [u8]),
    /// The answer to a Ping, or a sign of life.
    Pong(&'b [u8]),
    /// The peer closes: answer with the same code, then end. Nothing follows.
    Close(CloseFrame<'b>),
}

impl<'b> Incoming<'b> {
    /// The text of [`Incoming::Text`]; it is checked once more here, and holds.
    #[must_use]
    pub fn as_text(&self) -> Option<&'b str> {
        match self {
            Self::Text(bytes) => core::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }
}

/// A decoder and what it collects. 40 bytes without a message in progress.
#[derive(Debug)]
pub struct MessageReader {
    decoder: Decoder,
    held: Option<Box<Held>>,
}

const _: () = assert!(size_of::<MessageReader>() <= 40);

/// What is split: a message, and a control frame in its middle.
#[derive(Debug)]
struct Held {
    message: Vec<u8>,
    /// The message was lent; it is dropped at the next call.
    message_lent: bool,
    control: [u8; WS_CONTROL_BYTES_MAX],
    control_len: u8,
}

impl MessageReader {
    /// Reads the frames of that peer.
    #[must_use]
    pub const fn new(peer: Peer) -> Self {
        Self {
            decoder: Decoder::new(peer),
            held: None,
        }
    }

    /// The next message or control frame in `input` from `*at` on; `*at` moves behind what was taken, and a message
    /// that was lent from `input` ends there. `None`: everything was taken, and what was lent before is freed.
    ///
    /// # Errors
    /// As [`Decoder::decode`], and for a malformed close frame.
    #[inline]
    pub fn next<'b>(
        &'b mut self,
        input: &'b mut [u8],
        at: &mut usize,
        bounds: &Bounds,
    ) -> Result<Option<Incoming<'b>>, ProtocolError> {
        if self.held.is_some() {
            self.drop_lent();
        }
        // The borrow checker can't see that an event which is kept ends the loop, so the loop runs over indices.
        loop {
            let rest = &mut input[*at..];
            let step = self.decoder.decode(rest, bounds)?;
            let consumed = step.consumed;
            let taken = match step.event {
                None => {
                    *at += consumed;
                    return Ok(None);
                }
                Some(Event::Message { opcode, payload }) => Taken::Whole(opcode, payload.len()),
                Some(Event::Control {
                    opcode,
                    payload,
                    last: true,
                }) if !self.holds_control() => Taken::Whole(opcode, payload.len()),
                Some(Event::Control {
                    opcode,
                    payload,
                    last,
                }) => {
                    self.held().push_control(payload);
                    if last {
                        Taken::HeldControl(opcode)
                    } else {
                        Taken::More
                    }
                }
                Some(Event::Part {
                    opcode,
                    payload,
                    last,
                }) => {
                    self.held()
                        .push_message(payload, bounds.message_bytes_max as usize);
                    if last {
                        Taken::HeldMessage(opcode)
                    } else {
                        Taken::More
                    }
                }
            };
            *at += consumed;
            return match taken {
                Taken::More => continue,
                Taken::Whole(opcode, len) => incoming(opcode, &input[*at - len..*at]).map(Some),
                Taken::HeldMessage(opcode) => {
                    let held = self.held();
                    held.message_lent = true;
                    incoming(opcode, &held.message).map(Some)
                }
                Taken::HeldControl(opcode) => {
                    let held = self.held();
                    let len = usize::from(core::mem::take(&mut held.control_len));
                    incoming(opcode, &held.control[..len]).map(Some)
                }
            };
        }
    }

    /// Bytes of memory that this connection's split message occupies.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held
            .as_ref()
            .map_or(0, |held| size_of::<Held>() + held.message.capacity())
    }

    /// Whether nothing of a message or a frame is in progress: a peer that stops here stops between messages.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.decoder.is_idle()
    }

    /// Whether a close frame was read, or an error was found: nothing more comes out.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.decoder.is_closed()
    }

    fn holds_control(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.control_len > 0)
    }

    fn held(&mut self) -> &mut Held {
        self.held.get_or_insert_with(|| {
            Box::new(Held {
                message: Vec::new(),
                message_lent: false,
                control: [0; WS_CONTROL_BYTES_MAX],
                control_len: 0,
            })
        })
    }

    #[cold]
    fn drop_lent(&mut self) {
        if let Some(held) = &mut self.held {
            if held.message_lent {
                held.message = Vec::new();
                held.message_lent = false;
            }
            if held.message.capacity() == 0 && held.control_len == 0 {
                self.held = None;
            }
        }
    }
}

/// Where an event's payload is.
enum Taken {
    /// In the input: so many bytes, up to where it was consumed.
    Whole(Opcode, usize),
    HeldMessage(Opcode),
    HeldControl(Opcode),
    More,
}

impl Held {
    /// Doubles like a Vec, but never beyond the limit.
    fn push_message(&mut self, piece: &[u8], bytes_max: usize) {
        let room = self.message.capacity() - self.message.len();
        if piece.len() > room {
            let doubled = (2 * self.message.capacity()).clamp(256, bytes_max.max(256));
            let needed = self.message.len() + piece.len();
            self.message
                .reserve_exact(doubled.max(needed) - self.message.len());
        }
        self.message.extend_from_slice(piece);
    }

    fn push_control(&mut self, piece: &[u8]) {
        let start = usize::from(self.control_len);
        self.control[start..start + piece.len()].copy_from_slice(piece);
        self.control_len +=
            u8::try_from(piece.len()).expect("invariant: a control frame has at most 125 bytes");
    }
}

#[inline]
fn incoming(opcode: Opcode, payload: &[u8]) -> Result<Incoming<'_>, ProtocolError> {
    Ok(match opcode {
        Opcode::Text => Incoming::Text(payload),
        Opcode::Ping => Incoming::Ping(payload),
        Opcode::Pong => Incoming::Pong(payload),
        Opcode::Close => Incoming::Close(CloseFrame::parse(payload)?),
        Opcode::Binary | Opcode::Continuation => Incoming::Binary(payload),
    })
}
