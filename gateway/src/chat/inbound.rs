//! From WebSocket messages to records. Each envelope of a message is decoded to the one internal form (a verified
//! FlatBuffers payload), and copied whole into a claimed slot of the ring. Envelopes of a batch are independent:
//! those before a bad one count. What is malformed gets an Error with a reason; a connection that goes on like that
//! is closed with 4503, so it gets at most [`STRIKES_MAX`] of them in a row.

use super::counters::Tally;
use super::link::{Placed, span_bytes};
use super::park::Parked;
use super::peer::{Flags, HeldAck, Phase};
use super::{Chat, moment};
use crate::service::{ConnectionId, Message, MessageKind, Sockets, Taken};
use tidegate_protocol::bus;
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::envelope::BatchReader;
use tidegate_protocol::{Codec, Envelope, Id, Kind, View, fb, message, verify};

/// Malformed things that a connection may send; the last of them closes it. Forgiven by halves with each heartbeat.
pub const STRIKES_MAX: u8 = 8;

/// Typing that follows the last of its connection sooner is dropped: nobody types so fast, and a ring full of it would
/// be ahead of everybody's messages.
pub const TYPING_MS_MIN: u32 = 100;

/// Acknowledgements that follow the last of their connection sooner are merged until the end of the round.
const ACK_MS_MIN: u32 = 10;

/// What became of one envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Dealt with; the next one may come.
    Taken,
    /// No room: it and what follows it are kept. It needs so many bytes of ring, or another phase (0).
    Park(u32),
    /// The connection is being closed; the rest does not count.
    Stop,
}

impl Chat {
    pub(super) fn take_message(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        message: Message<'_>,
    ) -> Taken {
        let Some(peer) = self.peers.by_id(id) else {
            return Taken::Yes;
        };
        match (peer.codec, message.kind) {
            (Codec::Flat, MessageKind::Binary) => self.take_flat(io, id, message),
            (Codec::Json, MessageKind::Text) => self.take_json(io, id, message),
            (codec, _) => {
                let expected = match codec {
                    Codec::Flat => "this subprotocol has binary messages only",
                    Codec::Json => "this subprotocol has text messages only",
                };
                io.close(id, CloseCode::UNSUPPORTED_DATA.0, expected);
                Taken::Yes
            }
        }
    }

    /// `skip` counts bytes of the batch.
    fn take_flat(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        message: Message<'_>,
    ) -> Taken {
        let mut batch =
            BatchReader::new(message.payload.get(message.skip as usize..).unwrap_or(&[]));
        loop {
            let taken_bytes = message.payload.len() - batch.rest().len();
            let step = match batch.next() {
                None => return Taken::Yes,
                Some(Ok(envelope)) => self.take_unverified(io, id, &envelope),
                Some(Err(error)) => self.refuse_malformed(io, id, None, &error.to_string()),
            };
            match step {
                Step::Taken => {}
                Step::Stop => return Taken::Yes,
                Step::Park(need_bytes) => return self.park(io, id, taken_bytes, need_bytes),
            }
        }
    }

    /// `skip` counts objects of the array.
    fn take_json(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        message: Message<'_>,
    ) -> Taken {
        let Ok(text) = std::str::from_utf8(message.payload) else {
            io.close(id, CloseCode::INVALID_PAYLOAD.0, "text that is not UTF-8");
            return Taken::Yes;
        };
        let mut decoder = std::mem::take(&mut self.json_decoder);
        let mut batch = decoder.decode(text);
        let mut taken_objects = 0;
        let taken = loop {
            let step = match batch.next() {
                None => break Taken::Yes,
                Some(_) if taken_objects < message.skip as usize => Step::Taken,
                Some(Ok(envelope)) => self.take_unverified(io, id, &envelope),
                Some(Err(error)) => self.refuse(
                    io,
                    id,
                    error.reason(),
                    error.field.unwrap_or(""),
                    &error.to_string(),
                    0,
                ),
            };
            match step {
                Step::Taken => taken_objects += 1,
                Step::Stop => break Taken::Yes,
                Step::Park(need_bytes) => break self.park(io, id, taken_objects, need_bytes),
            }
        };
        self.json_decoder = decoder;
        taken
    }

    /// One envelope, checked here. Unknown kinds, and those that lead the other way, are skipped.
    fn take_unverified(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        envelope: &Envelope<'_>,
    ) -> Step {
        let Some(kind) = Kind::from_u8(envelope.kind).filter(|kind| kind.leads_to_server()) else {
            return Step::Taken;
        };
        match verify(kind, envelope.payload) {
            Ok(view) => self.take_envelope(io, id, &view, envelope.payload),
            Err(error) => self.refuse_malformed(io, id, error.field(), &error.to_string()),
        }
    }

    /// One verified envelope that leads to the server.
    fn take_envelope(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        view: &View<'_>,
        payload: &[u8],
    ) -> Step {
        let now = moment(io.now());
        let Some(peer) = self.peers.by_id(id) else {
            return Step::Stop;
        };
        let (phase, codec) = (peer.phase, peer.codec);
        if !matches!(view, View::Ack(_)) && peer.is_half_open(now) {
            return self.close_half_open(io, id);
        }
        match (phase, view) {
            (_, View::Ping(ping)) => {
                self.voice.pong(io, id, codec, ping.request());
                Step::Taken
            }
            (Phase::Upgraded, View::Hello(hello)) => self.hello(io, id, *hello),
            (Phase::Upgraded, _) => {
                let detail = "expected hello first";
                self.refuse(
                    io,
                    id,
                    fb::Reason::NotWelcomed,
                    "",
                    detail,
                    request_of(view),
                )
            }
            (_, View::Hello(hello)) => {
                let detail = "a second hello: open another connection instead";
                self.refuse(
                    io,
                    id,
                    fb::Reason::InvalidState,
                    "",
                    detail,
                    hello.request(),
                )
            }
            (Phase::Open, _) => self.forward(io, id, view, payload),
            _ => self.unplaced(io, id, view, 0),
        }
    }

    /// An envelope of a connection that the backend knows, or should.
    fn forward(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        view: &View<'_>,
        payload: &[u8],
    ) -> Step {
        let now = moment(io.now());
        match (view, self.peers.by_id(id)) {
            (View::Ack(ack), Some(peer)) => {
                peer.flags.clear(Flags::UNACKNOWLEDGED);
                let hurries = now.0.wrapping_sub(peer.acked_at.0) < ACK_MS_MIN;
                let ack = held_ack(ack);
                if hurries && self.hold_ack(id, ack) {
                    return Step::Taken;
                }
                if let Some(peer) = self.peers.by_id(id) {
                    peer.acked_at = now;
                }
            }
            (View::Typing(_), Some(peer)) => {
                if now.0.wrapping_sub(peer.typed_at.0) < TYPING_MS_MIN {
                    self.link.count(Tally::TypingDropped);
                    return Step::Taken;
                }
                peer.typed_at = now;
            }
            _ => {}
        }
        match self.place_envelope(id, view.kind(), payload) {
            Placed::Yes => {
                self.link.count(Tally::EnvelopesUp);
                Step::Taken
            }
            Placed::Full => {
                let need_bytes = u32::try_from(span_bytes(payload.len())).unwrap_or(u32::MAX);
                self.unplaced(io, id, view, need_bytes)
            }
            Placed::TooLarge => {
                io.close(
                    id,
                    CloseCode::MESSAGE_TOO_BIG.0,
                    "larger than a record of the bus",
                );
                Step::Stop
            }
        }
    }

    /// Places an envelope, behind what has to be told before it: other connections' OPENED and CLOSED, and this
    /// one's announcement to a new backend.
    pub(super) fn place_envelope(
        &mut self,
        id: ConnectionId,
        kind: Kind,
        payload: &[u8],
    ) -> Placed {
        if !self.untold.is_empty() {
            return Placed::Full;
        }
        let current = self.notice_backend();
        let Some(peer) = self.peers.get_mut(id.slot, id.generation) else {
            return Placed::Yes;
        };
        if shm_bus::mutant::is_planted("forget_to_announce") {
            peer.known_to = current;
        } else if peer.known_to != current {
            let heartbeat_ms = peer.pulse.interval_ms();
            match self.tell_announced(id.slot, id.generation, current, heartbeat_ms) {
                Placed::Yes => {}
                other => return other,
            }
        }
        let Some(peer) = self.peers.get(id.slot, id.generation) else {
            return Placed::Yes;
        };
        let mut header = self.link.header(bus::ENVELOPE, id.slot, id.generation);
        header.flags = kind as u16;
        header.principal = peer.principal.0;
        header.trace = peer.session;
        self.link
            .place(header, payload.len(), |to| to.copy_from_slice(payload))
    }

    /// There is no room for it now. Typing is transient; acknowledgements are cumulative and are merged; a Send or a
    /// Command parks its connection, and is refused when that took too long.
    fn unplaced(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        view: &View<'_>,
        need_bytes: u32,
    ) -> Step {
        let Some(peer) = self.peers.by_id(id) else {
            return Step::Stop;
        };
        let (codec, is_overdue) = (peer.codec, peer.flags.has(Flags::OVERDUE));
        match view {
            View::Typing(_) => {
                self.link.count(Tally::TypingDropped);
                Step::Taken
            }
            View::Ack(ack) => {
                if self.hold_ack(id, held_ack(ack)) {
                    Step::Taken
                } else if is_overdue {
                    self.link.count(Tally::AcksDropped);
                    Step::Taken
                } else {
                    Step::Park(need_bytes)
                }
            }
            _ if !is_overdue => Step::Park(need_bytes),
            View::Send(send) => {
                self.link.count(Tally::Busy);
                self.link.count_refused(fb::Reason::Busy);
                let result = message::SendResult {
                    n: send.n(),
                    outcome: fb::SendOutcome::Busy,
                    conversation: Id::from(send.conversation()),
                    retry_ms: self.retry_ms(),
                    reason: fb::Reason::Busy,
                    ..message::SendResult::default()
                };
                self.voice.send_result(io, id, codec, &result);
                Step::Taken
            }
            _ => {
                self.link.count(Tally::Busy);
                self.link.count_refused(fb::Reason::Busy);
                let error = message::Error {
                    request: request_of(view),
                    reason: fb::Reason::Busy,
                    detail: "the system is full; try again",
                    retry_ms: self.retry_ms(),
                    ..message::Error::default()
                };
                self.voice.error(io, id, codec, &error);
                Step::Taken
            }
        }
    }

    /// The shard keeps the message from `skip` on.
    fn park(&mut self, io: &impl Sockets, id: ConnectionId, skip: usize, need_bytes: u32) -> Taken {
        let now = moment(io.now());
        let Some(peer) = self.peers.by_id(id) else {
            return Taken::Yes;
        };
        let is_first_time = !peer.flags.has(Flags::PARKED);
        if is_first_time {
            peer.flags.set(Flags::PARKED);
            peer.parked_since = now;
        }
        let parked = Parked {
            slot: id.slot,
            generation: id.generation,
            since: peer.parked_since,
        };
        if is_first_time {
            self.link.count(Tally::Parked);
            self.parking.enter(parked);
        }
        if peer.phase == Phase::Open {
            self.parking.await_room(parked, need_bytes);
        }
        Taken::Park {
            skip: u32::try_from(skip).expect("invariant: a message is shorter than 4 GiB"),
        }
    }

    /// Offers parked messages again: those that are too old (to be refused if there is still no room), then as many
    /// as there is room for.
    pub(super) fn offer_parked(&mut self, io: &mut impl Sockets) {
        let now = moment(io.now());
        while let Some(parked) = self.parking.next_overdue(now, self.settings.park_ms_max) {
            let id = self.link.id(parked.slot, parked.generation);
            if let Some(peer) = self.peers.by_id(id)
                && peer.flags.has(Flags::PARKED)
                && peer.parked_since == parked.since
            {
                peer.flags.set(Flags::OVERDUE);
                io.unpark(id);
            }
        }
        if !self.parking.awaits_room() || !self.untold.is_empty() {
            return;
        }
        let mut room_bytes = self.link.room_bytes();
        while let Some(parked) = self.parking.next_that_fits(&mut room_bytes) {
            let id = self.link.id(parked.slot, parked.generation);
            if let Some(peer) = self.peers.by_id(id)
                && peer.flags.has(Flags::PARKED)
                && !peer.flags.has(Flags::OVERDUE)
                && peer.parked_since == parked.since
            {
                io.unpark(id);
            }
        }
    }

    fn refuse_malformed(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        field: Option<&'static str>,
        detail: &str,
    ) -> Step {
        self.refuse(
            io,
            id,
            fb::Reason::MalformedEnvelope,
            field.unwrap_or(""),
            detail,
            0,
        )
    }

    /// A strike: an Error, or at the last one the end.
    pub(super) fn refuse(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        reason: fb::Reason,
        field: &str,
        detail: &str,
        request: u64,
    ) -> Step {
        let Some(peer) = self.peers.by_id(id) else {
            return Step::Stop;
        };
        peer.strikes += 1;
        let is_last = peer.strikes >= STRIKES_MAX;
        self.link.count(Tally::Malformed);
        self.say_error(io, id, reason, field, detail, request);
        if !is_last {
            return Step::Taken;
        }
        self.link.count(Tally::Abuse);
        self.log_hostile(io, id, Tally::Abuse, detail);
        io.close(id, CloseCode::PROTOCOL_ABUSE.0, "malformed again and again");
        Step::Stop
    }

    /// One line now and then: whatever repeats is in the counters.
    pub(super) fn log_hostile(
        &mut self,
        io: &impl Sockets,
        id: ConnectionId,
        tally: Tally,
        detail: &str,
    ) {
        if self.hostile_lines.take(moment(io.now())) {
            let principal = self.peers.by_id(id).map(|peer| peer.principal);
            let so_far = self.link.counted(tally);
            tracing::warn!(connection = %id, ?principal, detail, ?tally, so_far, "connection refused and closed");
        }
    }

    pub(super) fn say_error(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        reason: fb::Reason,
        field: &str,
        detail: &str,
        request: u64,
    ) {
        let Some(peer) = self.peers.by_id(id) else {
            return;
        };
        self.link.count_refused(reason);
        let error = message::Error {
            request,
            reason,
            field,
            detail,
            ..message::Error::default()
        };
        self.voice.error(io, id, peer.codec, &error);
    }
}

/// The request that an answer echoes, of those kinds that have one.
fn request_of(view: &View<'_>) -> u64 {
    match view {
        View::Hello(hello) => hello.request(),
        View::Ping(ping) => ping.request(),
        View::Command(command) => command.request(),
        _ => 0,
    }
}

fn held_ack(ack: &fb::Ack<'_>) -> HeldAck {
    HeldAck {
        conversation: Id::from(ack.conversation()),
        delivered: ack.delivered(),
        read: ack.read(),
    }
}
