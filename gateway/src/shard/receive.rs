//! Bytes in: the decoder's events, collected messages, what is held while parked, and the echo's path in place.

use protocol::close::CloseCode;
use protocol::limits::WS_FRAME_HEADER_BYTES_MAX;
use protocol::ws::encoder::server_header;
use protocol::ws::{CloseFrame, Event, Opcode, ProtocolError};

use super::Shard;
use super::core::CloseBy;
use crate::connection::{Flags, Parked, State};
use crate::driver::BufferId;
use crate::service::{Message, MessageKind, Service, Taken};
use crate::time::Span;

/// A message that is being collected counts as stalled unless so many more bytes of it come within
/// `stalled_frame_ms_max`.
const PROGRESS_BYTES: usize = 16 << 10;
/// While more than this is queued for a connection, what it sends is not reflected: it is paused.
const REFLECT_OUT_BYTES_MAX: u32 = 256 << 10;
/// After a violation the peer may read its close frame and hang up for so long, ms.
const BROKEN_MS_MAX: u64 = 2_000;
/// A collected message has room for a header in front, so that it can be reflected without a copy.
const COLLECT_FRONT_BYTES: usize = WS_FRAME_HEADER_BYTES_MAX;
/// First allocation for a collected message, bytes.
const COLLECT_BYTES_MIN: usize = 256;

/// Where bytes lie while they are decoded.
pub(super) struct Place {
    /// The receive buffer, if they lie in one whose send could read them there.
    pub buffer: Option<BufferId>,
    /// Where they begin in it.
    pub base: usize,
}

/// What was put together in place to be sent back: a run of frames in the buffer.
#[derive(Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
}

impl<S: Service> Shard<S> {
    /// Decodes what an open or closing connection received. True: a send reads the buffer; it is not given back yet.
    pub(super) fn frames(&mut self, slot: u32, bytes: &mut [u8], mut place: Place) -> bool {
        let id = self.core.id(slot);
        let in_place = place.buffer.is_some();
        if in_place && self.core.connection(slot).state == State::Open {
            self.service.on_traffic(&mut self.core, id);
        }
        let bounds = self.core.options.bounds;
        let mut decoder = self.core.connection(slot).decoder;
        let mut at = 0;
        let mut run: Option<Run> = None;
        let mut kept = false;
        let mut ended = None;
        while at < bytes.len() && self.core.connection(slot).takes_frames() {
            let step = match decoder.decode(&mut bytes[at..], &bounds) {
                Ok(step) => step,
                Err(error) => {
                    ended = Some(End::Broken(error));
                    break;
                }
            };
            let begin = at;
            at += step.consumed;
            match step.event {
                None => break,
                Some(Event::Message { opcode, payload }) => {
                    let (kind, start) = (kind(opcode), at - payload.len());
                    let taken = self.offer(slot, kind, payload, 0);
                    match taken {
                        Some(Taken::Yes) | None => {}
                        Some(Taken::Park { skip }) => {
                            self.park(slot, kind, skip, bytes[start..at].to_vec());
                        }
                        Some(Taken::Reflect) => {
                            let floor = run.map_or(begin, |run| run.end);
                            let done = place.buffer.is_some()
                                && reflect_in_place(bytes, &mut run, floor, start..at, opcode);
                            if !done {
                                kept |= self.flush_run(slot, bytes, &mut run, &mut place);
                                self.core.queue_frame(slot, opcode, &bytes[start..at]);
                                self.pause_if_unread(slot);
                            }
                        }
                    }
                }
                Some(Event::Part {
                    opcode,
                    payload,
                    last,
                }) => {
                    if self.core.connection(slot).state == State::Open
                        && self.collect(slot, payload)
                        && last
                    {
                        kept |= self.flush_run(slot, bytes, &mut run, &mut place);
                        self.offer_collected(slot, opcode);
                    }
                }
                Some(Event::Control {
                    opcode,
                    payload,
                    last,
                }) => {
                    let length = payload.len();
                    kept |= self.flush_run(slot, bytes, &mut run, &mut place);
                    ended = self.control(slot, opcode, &bytes[at - length..at], last);
                    if ended.is_some() {
                        break;
                    }
                }
            }
        }
        kept |= self.flush_run(slot, bytes, &mut run, &mut place);
        let connection = self.core.connection(slot);
        connection.decoder = decoder;
        match ended {
            Some(End::Broken(error)) => self.broken(slot, error),
            Some(End::Closed(code)) => self.peer_closed(slot, code),
            None => {
                let holds = Flags::PARKED | Flags::PAUSED;
                if at < bytes.len() && connection.flags.any(holds) {
                    self.hold_behind(slot, &bytes[at..]);
                }
                self.watch_for_stall(slot);
            }
        }
        kept
    }

    /// Offers a message to the service; `None` if the connection is closing.
    fn offer(&mut self, slot: u32, kind: MessageKind, payload: &[u8], skip: u32) -> Option<Taken> {
        if self.core.connection(slot).state != State::Open {
            return None;
        }
        self.core.counts.messages_in_total += 1;
        let id = self.core.id(slot);
        let message = Message {
            kind,
            payload,
            skip,
        };
        let taken = self.service.on_message(&mut self.core, id, message);
        (self.core.connection(slot).state == State::Open).then_some(taken)
    }

    // --- reflecting ---------------------------------------------------------------------------------------------

    /// Queues what was put together in place. True: a send reads the buffer from here on.
    fn flush_run(
        &mut self,
        slot: u32,
        bytes: &[u8],
        run: &mut Option<Run>,
        place: &mut Place,
    ) -> bool {
        let Some(Run { start, end }) = run.take() else {
            return false;
        };
        let id = place
            .buffer
            .take()
            .expect("invariant: a run lies in a buffer");
        let key = self.core.key(slot);
        let core = &mut self.core;
        let connection = &mut core.slots[slot as usize];
        core.counts.frames_out_total += 1;
        // A buffer behind a send that may be stuck would be lost to all others: then the bytes are copied.
        let zero_copy = connection.out.is_empty() && !core.buffers_low;
        if zero_copy {
            let offset = |at: usize| {
                u32::try_from(place.base + at).expect("invariant: buffers are below 4 GiB")
            };
            core.outbox
                .push_received(&mut connection.out, id, offset(start), offset(end));
            core.pin(id, key);
        } else {
            let sending = connection.flags.any(Flags::SENDING);
            core.outbox
                .push_copy(&mut connection.out, sending, [&bytes[start..end], &[]]);
        }
        self.core.mark_dirty(slot);
        self.pause_if_unread(slot);
        zero_copy
    }

    /// The rule for reflected messages: not the connection is closed, its peer is made to wait.
    fn pause_if_unread(&mut self, slot: u32) {
        let full = self.core.outbox.bytes > u64::from(self.core.options.out_bytes_max);
        let connection = self.core.connection(slot);
        if connection.out.bytes > REFLECT_OUT_BYTES_MAX || full {
            connection.flags.set(Flags::PAUSED);
            let ms = self.core.options.stalled_frame_ms_max;
            self.core.set_state_deadline(slot, Span::from_ms(ms));
            self.core.mark_dirty(slot);
        }
    }

    /// A paused connection's peer has read: decode on.
    pub(super) fn resume_if_read(&mut self, slot: u32) {
        let connection = self.core.connection(slot);
        if connection.flags.any(Flags::PAUSED) && connection.out.bytes <= REFLECT_OUT_BYTES_MAX / 2
        {
            connection.flags.clear(Flags::PAUSED);
            self.core.clear_state_deadline(slot);
            self.decode_behind(slot);
        }
    }

    // --- collecting ---------------------------------------------------------------------------------------------

    /// Adds a piece to the message in progress. False: there is no room, the connection is being closed.
    fn collect(&mut self, slot: u32, piece: &[u8]) -> bool {
        let bytes_max = self.core.options.bounds.message_bytes_max as usize + COLLECT_FRONT_BYTES;
        let core = &mut self.core;
        let extra = core.slots[slot as usize].extra();
        let before = extra.collect.len();
        if before == 0 {
            extra.collect.reserve(COLLECT_BYTES_MIN);
            extra.collect.resize(COLLECT_FRONT_BYTES, 0);
        }
        let needed = extra.collect.len() + piece.len();
        if needed > extra.collect.capacity() {
            // Doubles like a vector, but never beyond the limit; what is announced and has not come takes no memory.
            let capacity = needed.max((2 * extra.collect.capacity()).min(bytes_max));
            extra.collect.reserve_exact(capacity - extra.collect.len());
        }
        extra.collect.extend_from_slice(piece);
        core.collect_bytes += (needed - before) as u64;
        if core.collect_bytes > core.options.collect_bytes_max {
            core.begin_close(slot, CloseCode::BUSY, "", CloseBy::Gateway);
            return false;
        }
        true
    }

    fn offer_collected(&mut self, slot: u32, opcode: Opcode) {
        let kind = kind(opcode);
        let mut whole = core::mem::take(&mut self.core.connection(slot).extra().collect);
        self.core.collect_bytes -= whole.len() as u64;
        match self.offer(slot, kind, &whole[COLLECT_FRONT_BYTES..], 0) {
            Some(Taken::Yes) | None => {}
            Some(Taken::Park { skip }) => {
                whole.drain(..COLLECT_FRONT_BYTES);
                self.park(slot, kind, skip, whole);
            }
            Some(Taken::Reflect) => {
                let header = server_header(opcode, whole.len() - COLLECT_FRONT_BYTES);
                let start = COLLECT_FRONT_BYTES - header.len();
                whole[start..COLLECT_FRONT_BYTES].copy_from_slice(&header);
                let core = &mut self.core;
                core.counts.frames_out_total += 1;
                let start = u32::try_from(start).expect("invariant: below 14");
                core.outbox
                    .push_owned(&mut core.slots[slot as usize].out, whole, start);
                core.mark_dirty(slot);
                self.pause_if_unread(slot);
            }
        }
        self.core.shrink_extra(slot);
    }

    /// A frame or message that was begun has a deadline, which moves on with every 16 KiB of it.
    fn watch_for_stall(&mut self, slot: u32) {
        let connection = self.core.connection(slot);
        if connection.state != State::Open || connection.flags.any(Flags::PAUSED) {
            return;
        }
        if connection.decoder.is_idle() {
            self.core.clear_state_deadline(slot);
            return;
        }
        let begun = connection.state_deadline_set();
        let extra = connection.extra();
        if !begun || extra.collect.len() >= extra.progress_at {
            extra.progress_at = extra.collect.len() + PROGRESS_BYTES;
            let ms = self.core.options.stalled_frame_ms_max;
            self.core.set_state_deadline(slot, Span::from_ms(ms));
        }
    }

    // --- parking ------------------------------------------------------------------------------------------------

    fn park(&mut self, slot: u32, kind: MessageKind, skip: u32, payload: Vec<u8>) {
        self.core.counts.parked_total += 1;
        self.core.parked_bytes += payload.len() as u64;
        let connection = self.core.connection(slot);
        connection.flags.set(Flags::PARKED);
        connection.extra().parked = Some(Parked {
            kind,
            skip,
            payload,
        });
        self.core.mark_dirty(slot);
        self.keep_parked_bound(slot);
    }

    /// Keeps bytes that can't be decoded yet.
    pub(super) fn hold_behind(&mut self, slot: u32, bytes: &[u8]) {
        self.core.parked_bytes += bytes.len() as u64;
        self.core
            .connection(slot)
            .extra()
            .behind
            .extend_from_slice(bytes);
        self.keep_parked_bound(slot);
    }

    fn keep_parked_bound(&mut self, slot: u32) {
        if self.core.parked_bytes > u64::from(self.core.options.parked_bytes_max) {
            self.core.counts.parked_refused_total += 1;
            self.core
                .begin_close(slot, CloseCode::BUSY, "", CloseBy::Gateway);
        }
    }

    /// Offers a parked message again; once it is taken, decodes what came behind it.
    pub(super) fn offer_parked(&mut self, slot: u32) {
        let Some(parked) = self.core.connection(slot).extra().parked.take() else {
            return;
        };
        self.core.connection(slot).flags.clear(Flags::PARKED);
        self.core.parked_bytes -= parked.payload.len() as u64;
        self.core.counts.messages_in_total -= 1;
        match self.offer(slot, parked.kind, &parked.payload, parked.skip) {
            None => {}
            Some(Taken::Park { skip }) => {
                self.core.counts.parked_total -= 1;
                self.park(slot, parked.kind, skip, parked.payload);
            }
            Some(taken) => {
                if taken == Taken::Reflect {
                    let opcode = super::core::data_opcode(parked.kind);
                    self.core.queue_frame(slot, opcode, &parked.payload);
                    self.pause_if_unread(slot);
                }
                self.decode_behind(slot);
            }
        }
    }

    fn decode_behind(&mut self, slot: u32) {
        let Some(extra) = &mut self.core.connection(slot).extra else {
            return;
        };
        let mut behind = core::mem::take(&mut extra.behind);
        self.core.parked_bytes -= behind.len() as u64;
        let place = Place {
            buffer: None,
            base: 0,
        };
        self.frames(slot, &mut behind, place);
        self.core.shrink_extra(slot);
        self.core.mark_dirty(slot);
    }

    // --- control frames -----------------------------------------------------------------------------------------

    fn control(&mut self, slot: u32, opcode: Opcode, piece: &[u8], last: bool) -> Option<End> {
        let split = self.core.connection(slot).extra.as_ref();
        if last && split.is_none_or(|extra| extra.control.is_empty()) {
            return self.whole_control(slot, opcode, piece);
        }
        let extra = self.core.connection(slot).extra();
        extra.control.extend_from_slice(piece);
        if !last {
            return None;
        }
        let whole = core::mem::take(&mut extra.control);
        let ended = self.whole_control(slot, opcode, &whole);
        self.core.shrink_extra(slot);
        ended
    }

    fn whole_control(&mut self, slot: u32, opcode: Opcode, payload: &[u8]) -> Option<End> {
        let open = self.core.connection(slot).state == State::Open;
        match opcode {
            Opcode::Ping if open => self.core.queue_pong(slot, payload),
            Opcode::Pong if open => {
                let id = self.core.id(slot);
                self.service.on_pong(&mut self.core, id, payload);
            }
            Opcode::Close => {
                return Some(match CloseFrame::parse(payload) {
                    Ok(frame) => End::Closed(frame.code),
                    Err(error) => End::Broken(error),
                });
            }
            _ => {}
        }
        None
    }

    fn broken(&mut self, slot: u32, error: ProtocolError) {
        let connection = self.core.connection(slot);
        connection.flags.set(Flags::DEAF);
        if connection.state != State::Open {
            return;
        }
        if let ProtocolError::MessageTooBig { .. } = error {
            self.core.counts.oversize_total += 1;
        } else {
            self.core.counts.protocol_errors_total += 1;
        }
        let id = self.core.id(slot);
        tracing::debug!(%id, error = error.label(), "protocol error");
        self.core
            .begin_close(slot, error.close_code(), error.label(), CloseBy::Gateway);
        // There will be no answer to wait for, only the peer's end of stream.
        self.core
            .set_own_deadline(slot, Some(Span::from_ms(BROKEN_MS_MAX)));
    }

    fn peer_closed(&mut self, slot: u32, code: Option<CloseCode>) {
        let connection = self.core.connection(slot);
        connection.flags.set(Flags::PEER_CLOSED);
        // 1005: there was no code, and the answer has none either.
        let code = code.unwrap_or(CloseCode(1005));
        self.core.begin_close(slot, code, "", CloseBy::Peer);
        self.core.mark_dirty(slot);
    }
}

/// How decoding ended for good.
enum End {
    Broken(ProtocolError),
    Closed(Option<CloseCode>),
}

fn kind(opcode: Opcode) -> MessageKind {
    match opcode {
        Opcode::Text => MessageKind::Text,
        _ => MessageKind::Binary,
    }
}

/// Puts the server's frame header in front of the payload where it lies: the client's header was at least four bytes
/// longer. A frame behind another is moved up to it, so that one send takes the whole run. False: no room, because
/// part of the header lay in an earlier buffer.
#[inline]
fn reflect_in_place(
    bytes: &mut [u8],
    run: &mut Option<Run>,
    floor: usize,
    payload: core::ops::Range<usize>,
    opcode: Opcode,
) -> bool {
    let header = server_header(opcode, payload.len());
    let room = payload.start - floor;
    if room < header.len() {
        return false;
    }
    match run {
        None => {
            let start = payload.start - header.len();
            bytes[start..payload.start].copy_from_slice(&header);
            *run = Some(Run {
                start,
                end: payload.end,
            });
        }
        Some(run) => {
            let start = run.end + header.len();
            bytes[run.end..start].copy_from_slice(&header);
            run.end = start + payload.len();
            bytes.copy_within(payload, start);
        }
    }
    true
}
