//! From records to frames. What the backend sent is drained first in each turn, up to a bound, and never waits for
//! room towards the backend.
//!
//! A payload is encoded once per codec and its frame shared by all who get it. Receivers are named by slot and
//! generation: a slot that was used again is passed over. The shard sends what a turn queued for one connection with
//! one send; one that reads too slowly is closed (4002) by the shard's bounds, which loses nothing: it resumes.
//!
//! A broadcast to a hundred thousand does not hold up the others: it is spread over turns.

use std::collections::VecDeque;

use super::counters::Tally;
use super::peer::{Flags, Peer, Phase};
use super::ticket::Ticket;
use super::{Chat, moment, voice};
use crate::service::{MessageKind, SendOutcome, SharedFrame, Sockets};
use shm_bus::{Read, RecordCopy, RecordHeader};
use tidegate_protocol::bus::{self, BroadcastFilter, CloseRecord};
use tidegate_protocol::close::{CloseCode, CloseReason};
use tidegate_protocol::{Codec, Kind, fb};

/// Records that one turn takes.
const RECORDS_PER_TURN_MAX: usize = 4_096;
/// Bytes of payload that one turn takes.
const BYTES_PER_TURN_MAX: usize = 1 << 20;
/// Slots that one turn looks at for fan-outs that are under way.
const FANOUT_SLOTS_PER_TURN_MAX: u32 = 4_096;
/// Fan-outs under way; at the bound nothing more is taken from the ring until one is done.
const FANOUTS_MAX: usize = 16;
/// A drained gateway's clients are spread over so long at least.
const DRAIN_RETRY_MS: u32 = 1_000;

/// Frames of one payload, made when first asked for.
struct Frames<'a> {
    kind: Kind,
    timestamp_us: u64,
    payload: &'a [u8],
    made: FramesByCodec,
}

#[derive(Default)]
struct FramesByCodec {
    flat: Option<SharedFrame>,
    json: Option<SharedFrame>,
}

impl Frames<'_> {
    /// The frame in this codec; `None` if the payload does not verify.
    fn get(&mut self, codec: Codec, scratch: &mut Vec<u8>) -> Option<&SharedFrame> {
        let (made, kind) = match codec {
            Codec::Flat => (&mut self.made.flat, MessageKind::Binary),
            Codec::Json => (&mut self.made.json, MessageKind::Text),
        };
        if made.is_none() {
            scratch.clear();
            voice::encode(scratch, codec, self.kind, self.timestamp_us, self.payload).ok()?;
            *made = Some(SharedFrame::new(kind, scratch));
        }
        made.as_ref()
    }
}

/// Something that goes to every slot, a part of them each turn.
enum Fanout {
    /// One frame per codec to whom the filter matches.
    Broadcast {
        filter: BroadcastFilter,
        flat: SharedFrame,
        json: SharedFrame,
    },
    /// Goaway and a close to everybody.
    Drain,
}

/// Fan-outs under way, the oldest first.
#[derive(Default)]
pub(super) struct Fanouts {
    queue: VecDeque<Fanout>,
    next_slot: u32,
}

impl Fanouts {
    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

impl Chat {
    /// Takes what the backend sent.
    pub(super) fn drain_to_gateway(&mut self, io: &mut impl Sockets) {
        self.fan_out(io);
        let mut copy = self.link.take_copy();
        let (mut records, mut bytes) = (0, 0);
        while records < RECORDS_PER_TURN_MAX
            && bytes < BYTES_PER_TURN_MAX
            && self.fanouts.queue.len() < FANOUTS_MAX
        {
            match self.link.next(&mut copy) {
                Read::Empty => break,
                Read::Record(header) => {
                    records += 1;
                    bytes += copy.payload().len();
                    if self.deliver(io, &header, &copy).is_none() {
                        self.link.count(Tally::BadRecords);
                    }
                }
                Read::Bad(bad) => {
                    self.link.count(Tally::BadRecords);
                    if bad.condemned {
                        break;
                    }
                }
            }
        }
        self.link.put_back(copy);
        if records > 0 {
            self.link.release();
        }
    }

    /// One record; `None` if it does not hold what its kind says. A kind from a newer backend is passed over.
    fn deliver(
        &mut self,
        io: &mut impl Sockets,
        header: &RecordHeader,
        copy: &RecordCopy,
    ) -> Option<()> {
        let payload = copy.payload();
        match header.kind {
            bus::ENVELOPE_DOWN => self.deliver_envelope(io, header, payload),
            bus::MULTICAST => self.deliver_multicast(io, header, payload),
            bus::BROADCAST => self.begin_broadcast(header, payload),
            bus::CLOSE => self.close_for_backend(io, header, payload),
            bus::DRAIN => {
                self.fanouts.queue.push_back(Fanout::Drain);
                Some(())
            }
            _ => Some(()),
        }
    }

    fn deliver_envelope(
        &mut self,
        io: &mut impl Sockets,
        header: &RecordHeader,
        payload: &[u8],
    ) -> Option<()> {
        let kind = kind_of(header)?;
        let Some(peer) = receiver(&mut self.peers, header.slot, header.generation) else {
            self.link.count(Tally::StaleDown);
            return Some(());
        };
        if kind == Kind::Message {
            peer.expects_ack(moment(io.now()));
        }
        if header.flags & bus::JOINS_QUEUE != 0 {
            peer.flags.set(Flags::IN_QUEUE);
        } else if header.flags & bus::LEAVES_QUEUE != 0 {
            peer.flags.clear(Flags::IN_QUEUE);
        }
        let (codec, principal, role) = (peer.codec, peer.principal, peer.role);
        let id = self.link.id(header.slot, header.generation);
        let outcome = self
            .voice
            .pass_on(io, id, codec, kind, header.trace, payload)
            .ok()?;
        self.count_down(outcome);
        if kind == Kind::Welcome && role == fb::Role::Visitor && self.link.frontier().at > 0 {
            let pass = self.office.sign(Ticket::pass(io.now().ms()), principal.0);
            self.voice.admitted(io, id, codec, &pass);
        }
        Some(())
    }

    fn deliver_multicast(
        &mut self,
        io: &mut impl Sockets,
        header: &RecordHeader,
        payload: &[u8],
    ) -> Option<()> {
        let kind = kind_of(header)?;
        let (targets, payload) = bus::read_multicast(payload).ok()?;
        let mut frames = Frames {
            kind,
            timestamp_us: header.trace,
            payload,
            made: FramesByCodec::default(),
        };
        let now = moment(io.now());
        for target in targets {
            let Some(peer) = receiver(&mut self.peers, target.slot, target.generation) else {
                self.link.count(Tally::StaleDown);
                continue;
            };
            let codec = peer.codec;
            if kind == Kind::Message {
                peer.expects_ack(now);
            }
            let frame = frames.get(codec, self.voice.scratch())?;
            let outcome = io.send_shared(self.link.id(target.slot, target.generation), frame);
            self.count_down(outcome);
        }
        Some(())
    }

    fn begin_broadcast(&mut self, header: &RecordHeader, payload: &[u8]) -> Option<()> {
        let kind = kind_of(header)?;
        let (filter, payload) = bus::read_fixed::<BroadcastFilter>(payload).ok()?;
        let mut frames = Frames {
            kind,
            timestamp_us: header.trace,
            payload,
            made: FramesByCodec::default(),
        };
        let flat = frames.get(Codec::Flat, self.voice.scratch())?.clone();
        let json = frames.get(Codec::Json, self.voice.scratch())?.clone();
        self.fanouts
            .queue
            .push_back(Fanout::Broadcast { filter, flat, json });
        Some(())
    }

    /// Goes on with what goes to everybody.
    fn fan_out(&mut self, io: &mut impl Sockets) {
        let mut budget = FANOUT_SLOTS_PER_TURN_MAX;
        while let Some(fanout) = self.fanouts.queue.pop_front() {
            while budget > 0 && self.fanouts.next_slot < self.peers.end() {
                let slot = self.fanouts.next_slot;
                self.fanouts.next_slot += 1;
                budget -= 1;
                self.fan_out_to(io, &fanout, slot);
            }
            if self.fanouts.next_slot < self.peers.end() {
                self.fanouts.queue.push_front(fanout);
                return;
            }
            self.fanouts.next_slot = 0;
        }
    }

    fn fan_out_to(&mut self, io: &mut impl Sockets, fanout: &Fanout, slot: u32) {
        let Some(peer) = self.peers.at(slot) else {
            return;
        };
        let id = self.link.id(slot, peer.generation);
        match fanout {
            Fanout::Broadcast { filter, flat, json } if is_meant(filter, peer) => {
                let frame = match peer.codec {
                    Codec::Flat => flat,
                    Codec::Json => json,
                };
                let outcome = io.send_shared(id, frame);
                self.count_down(outcome);
            }
            Fanout::Broadcast { .. } => {}
            Fanout::Drain => {
                let codec = peer.codec;
                let retry_ms = self.jitter.retry_ms(DRAIN_RETRY_MS);
                self.voice.goaway(io, id, codec, retry_ms);
                io.close(
                    id,
                    CloseCode::DRAIN.0,
                    CloseReason::with_retry_ms(retry_ms, "restart").as_str(),
                );
            }
        }
    }

    fn close_for_backend(
        &mut self,
        io: &mut impl Sockets,
        header: &RecordHeader,
        payload: &[u8],
    ) -> Option<()> {
        let (record, _) = bus::read_fixed::<CloseRecord>(payload).ok()?;
        let code = CloseCode(record.code);
        if !code.may_be_sent() {
            return None;
        }
        let Some(peer) = receiver(&mut self.peers, header.slot, header.generation) else {
            self.link.count(Tally::StaleDown);
            return Some(());
        };
        peer.flags.set(Flags::ENDED_BY_BACKEND);
        let reason = match record.retry_ms {
            0 => CloseReason::new(code.name()),
            retry_ms => CloseReason::with_retry_ms(retry_ms, code.name()),
        };
        io.close(
            self.link.id(header.slot, header.generation),
            code.0,
            reason.as_str(),
        );
        Some(())
    }

    fn count_down(&self, outcome: SendOutcome) {
        self.link.count(match outcome {
            SendOutcome::Queued => Tally::EnvelopesDown,
            SendOutcome::NotOpen | SendOutcome::SlowReader => Tally::StaleDown,
        });
    }
}

/// The connection that a record names, if it is still there.
fn receiver(peers: &mut super::peer::Peers, slot: u32, generation: u32) -> Option<&mut Peer> {
    peers
        .get_mut(slot, generation)
        .filter(|peer| peer.phase == Phase::Open)
}

fn kind_of(header: &RecordHeader) -> Option<Kind> {
    let [low, _] = header.flags.to_le_bytes();
    Kind::from_u8(low).filter(|kind| !kind.leads_to_server())
}

/// Whether a broadcast is for this connection.
fn is_meant(filter: &BroadcastFilter, peer: &Peer) -> bool {
    let role_bit = 1_u8.checked_shl(u32::from(peer.role.0)).unwrap_or(0);
    peer.phase == Phase::Open
        && filter.role_mask & role_bit != 0
        && (filter.queued == 0 || peer.flags.has(Flags::IN_QUEUE))
        && (filter.widget == 0 || peer.is_staff() || filter.widget == peer.widget)
}
