//! The frame decoder. It owns no payload: bytes are unmasked where the caller has them and lent back as events.
//!
//! ```text
//!            ┌────────────────────────── frame done ──────────────────────────┐
//!            ▼                                                                │
//!   Header ──┤ whole frame at hand ─▶ event ─────────────────────────────────▶│
//!     │      └ part of it ─▶ Payload{remaining} ─▶ event ─▶ … ─▶ remaining 0 ─┘
//!     └ half a header: kept in the state (at most 13 bytes)      close frame done ─▶ Closed
//! ```
//!
//! Invariant of a call: 0 ≤ consumed ≤ input, and without an event everything was consumed. So every byte is given
//! to the decoder once, in whatever pieces it arrives, and the events that follow differ only in where parts are cut.

use super::error::ProtocolError;
use super::header::{FrameHeader, MASK_BYTES, Opcode, Peer};
use super::mask::unmask;
use super::utf8::Utf8;
use crate::limits::WS_FRAME_HEADER_BYTES_MAX;

/// A header that needs more is at least one byte short.
const PARTIAL_HEADER_BYTES_MAX: usize = WS_FRAME_HEADER_BYTES_MAX - 1;

/// What a decoder refuses; shared by all connections of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// All fragments of one message together, bytes.
    pub message_bytes_max: u32,
}

/// What the bytes meant.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'b> {
    /// A whole message in one piece, unmasked in place; text is UTF-8. It ends where `consumed` ends.
    Message {
        /// Text or Binary.
        opcode: Opcode,
        /// The message.
        payload: &'b [u8],
    },
    /// The next piece of a message that is split over fragments or reads; text is UTF-8 so far.
    Part {
        /// Text or Binary, of the whole message.
        opcode: Opcode,
        /// The piece.
        payload: &'b [u8],
        /// The message ends here; text is UTF-8.
        last: bool,
    },
    /// A control frame, or a piece of one that is split over reads: together at most 125 bytes.
    Control {
        /// Close, Ping or Pong.
        opcode: Opcode,
        /// The piece.
        payload: &'b [u8],
        /// The frame ends here.
        last: bool,
    },
}

/// The outcome of one call.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'b> {
    /// Bytes of the input that are done with; the next call begins after them.
    pub consumed: usize,
    /// What they meant. `None`: everything was consumed and more is needed.
    pub event: Option<Event<'b>>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Header {
        bytes: [u8; PARTIAL_HEADER_BYTES_MAX],
        len: u8,
    },
    Payload {
        remaining: u64,
        mask: [u8; MASK_BYTES],
        opcode: Opcode,
        fin: bool,
    },
    Closed,
}

const AWAIT_HEADER: State = State::Header {
    bytes: [0; PARTIAL_HEADER_BYTES_MAX],
    len: 0,
};

/// Frames in, events out. 32 bytes: one sits in every connection's slot.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    state: State,
    /// Bytes of the message in progress that headers have declared so far.
    message_bytes: u32,
    utf8: Utf8,
    /// Text or Binary while a message is in progress, Continuation between messages.
    message: Opcode,
    peer: Peer,
}

const _: () = assert!(size_of::<Decoder>() <= 32);

impl Decoder {
    /// Reads the frames of that peer.
    #[must_use]
    pub const fn new(peer: Peer) -> Self {
        Self {
            state: AWAIT_HEADER,
            message_bytes: 0,
            utf8: Utf8::NONE,
            message: Opcode::Continuation,
            peer,
        }
    }

    /// Whether nothing of a message or a frame is in progress.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, State::Header { len: 0, .. })
            && matches!(self.message, Opcode::Continuation)
    }

    /// Whether a close frame was read: what follows it is consumed and ignored (RFC 6455 5.5.1).
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Takes bytes until there is an event or they end.
    ///
    /// # Errors
    /// At the first byte that RFC 6455 does not allow. The connection is then to be closed with
    /// [`ProtocolError::close_code`]; the decoder ignores what follows.
    #[inline]
    pub fn decode<'b>(
        &mut self,
        input: &'b mut [u8],
        bounds: &Bounds,
    ) -> Result<Step<'b>, ProtocolError> {
        let step = self.step(input, bounds);
        if step.is_err() {
            self.state = State::Closed;
        }
        step
    }

    #[inline]
    fn step<'b>(
        &mut self,
        input: &'b mut [u8],
        bounds: &Bounds,
    ) -> Result<Step<'b>, ProtocolError> {
        let mut at = 0;
        loop {
            if let State::Header { bytes, len } = &mut self.state {
                let (header, mask) = if *len == 0 {
                    match whole_header(&input[at..], self.peer, self.message_bytes, bounds)? {
                        Some(found) => {
                            at += found.0.header_bytes;
                            found
                        }
                        None => {
                            let half = &input[at..];
                            bytes[..half.len()].copy_from_slice(half);
                            *len = u8::try_from(half.len()).expect("invariant: a partial header");
                            return Ok(Step {
                                consumed: input.len(),
                                event: None,
                            });
                        }
                    }
                } else {
                    let mut grown = [0; WS_FRAME_HEADER_BYTES_MAX];
                    let kept = usize::from(*len);
                    grown[..kept].copy_from_slice(&bytes[..kept]);
                    let more = (WS_FRAME_HEADER_BYTES_MAX - kept).min(input.len() - at);
                    grown[kept..kept + more].copy_from_slice(&input[at..at + more]);
                    match whole_header(
                        &grown[..kept + more],
                        self.peer,
                        self.message_bytes,
                        bounds,
                    )? {
                        Some(found) => {
                            at += found.0.header_bytes - kept;
                            found
                        }
                        None => {
                            bytes[kept..kept + more].copy_from_slice(&input[at..at + more]);
                            *len = u8::try_from(kept + more).expect("invariant: a partial header");
                            return Ok(Step {
                                consumed: input.len(),
                                event: None,
                            });
                        }
                    }
                };
                self.begin_frame(header)?;
                self.state = State::Payload {
                    remaining: header.payload_bytes,
                    mask,
                    opcode: header.opcode,
                    fin: header.fin,
                };
                // The fast path: the frame is a whole message and lies here in one piece.
                let available = input.len() - at;
                if header.fin
                    && matches!(header.opcode, Opcode::Text | Opcode::Binary)
                    && header.payload_bytes <= available as u64
                {
                    return self.whole_message(input, at);
                }
            }
            let State::Payload {
                remaining,
                mask,
                opcode,
                fin,
            } = &mut self.state
            else {
                return Ok(Step {
                    consumed: input.len(),
                    event: None,
                });
            };
            let available = input.len() - at;
            let take = usize::try_from(*remaining)
                .unwrap_or(usize::MAX)
                .min(available);
            if take == 0 && *remaining > 0 {
                return Ok(Step {
                    consumed: input.len(),
                    event: None,
                });
            }
            *mask = unmask(&mut input[at..at + take], *mask);
            *remaining -= take as u64;
            let (done, opcode, fin) = (*remaining == 0, *opcode, *fin);
            let consumed = at + take;
            if done {
                self.state = if opcode == Opcode::Close {
                    State::Closed
                } else {
                    AWAIT_HEADER
                };
            }
            if opcode.is_control() {
                let payload = &input[at..consumed];
                return Ok(Step {
                    consumed,
                    event: Some(Event::Control {
                        opcode,
                        payload,
                        last: done,
                    }),
                });
            }
            let message = self.message;
            let last = done && fin;
            if message == Opcode::Text {
                self.utf8.feed(&input[at..consumed])?;
            }
            if last {
                self.utf8.finish()?;
                self.message = Opcode::Continuation;
                self.message_bytes = 0;
            }
            at = consumed;
            if take > 0 || last {
                let payload = &input[consumed - take..consumed];
                return Ok(Step {
                    consumed,
                    event: Some(Event::Part {
                        opcode: message,
                        payload,
                        last,
                    }),
                });
            }
        }
    }

    /// The rules that need to know what came before the frame (RFC 6455 5.4).
    #[inline]
    fn begin_frame(&mut self, header: FrameHeader) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        match (self.message, header.opcode) {
            (Opcode::Continuation, Opcode::Continuation) => {
                return Err(ProtocolError::UnexpectedContinuation);
            }
            (_, Opcode::Continuation) => {}
            (Opcode::Continuation, first) => self.message = first,
            _ => return Err(ProtocolError::InterleavedMessage),
        }
        let payload_bytes =
            u32::try_from(header.payload_bytes).expect("invariant: within the bound");
        self.message_bytes += payload_bytes;
        Ok(())
    }

    #[inline]
    fn whole_message<'b>(
        &mut self,
        input: &'b mut [u8],
        at: usize,
    ) -> Result<Step<'b>, ProtocolError> {
        let State::Payload {
            remaining,
            mask,
            opcode,
            ..
        } = self.state
        else {
            unreachable!("invariant: called with a frame at hand")
        };
        let payload_bytes = usize::try_from(remaining).expect("invariant: within the input");
        let consumed = at + payload_bytes;
        let payload = &mut input[at..consumed];
        unmask(payload, mask);
        if opcode == Opcode::Text && simdutf8::basic::from_utf8(payload).is_err() {
            return Err(ProtocolError::InvalidUtf8);
        }
        self.state = AWAIT_HEADER;
        self.message = Opcode::Continuation;
        self.message_bytes = 0;
        Ok(Step {
            consumed,
            event: Some(Event::Message { opcode, payload }),
        })
    }
}

/// A header with its mask, if all of it is there; oversize is refused as soon as the length is.
#[inline]
fn whole_header(
    bytes: &[u8],
    peer: Peer,
    message_bytes: u32,
    bounds: &Bounds,
) -> Result<Option<(FrameHeader, [u8; MASK_BYTES])>, ProtocolError> {
    let Some(header) = FrameHeader::parse(bytes, peer)? else {
        return Ok(None);
    };
    let max_bytes = bounds.message_bytes_max;
    if !header.opcode.is_control()
        && header.payload_bytes > u64::from(max_bytes.saturating_sub(message_bytes))
    {
        return Err(ProtocolError::MessageTooBig { max_bytes });
    }
    let Some(whole) = bytes.get(..header.header_bytes) else {
        return Ok(None);
    };
    let mask = match (peer, whole.last_chunk()) {
        (Peer::Client, Some(mask)) => *mask,
        _ => [0; MASK_BYTES],
    };
    Ok(Some((header, mask)))
}
