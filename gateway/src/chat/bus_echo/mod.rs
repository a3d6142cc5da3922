//! `--echo=bus`: every WebSocket message goes through the rings to a consumer process and comes back from there.
//!
//! Diagnostic: what conformance suites and comparisons send meets the whole data plane, the bus included, without the
//! chat's rules. [`BusEcho`] is the gateway's side; [`consumer_main`] is the other process.
//!
//! A message larger than a record is closed with 1009. One that finds no room is parked until there is some: an echo
//! refuses nothing.

mod consumer;

pub use consumer::{BusEchoError, consumer_main};

use std::os::fd::{AsRawFd, RawFd};

use super::link::{Link, Placed, span_bytes};
use super::moment;
use super::park::{Parked, Parking};
use crate::service::{
    CloseCause, ConnectionId, Frame, Message, MessageKind, Service, Sockets, Taken, Told, Upgrade,
};
use shm_bus::{Read, ShardEnd};
use tidegate_protocol::bus::{ECHO, ECHO_DOWN};
use tidegate_protocol::close::CloseCode;

/// The flags of a record: the opcode of its message.
const TEXT: u16 = 1;
const BINARY: u16 = 2;
/// Bytes of payload that one turn takes.
const BYTES_PER_TURN_MAX: usize = 4 << 20;

/// The echo of one shard, through the bus.
pub struct BusEcho {
    link: Link,
    parking: Parking,
    asleep: bool,
}

impl BusEcho {
    /// Over one shard's end of the segment.
    #[must_use]
    pub fn new(end: ShardEnd) -> BusEcho {
        BusEcho {
            link: Link::new(end),
            parking: Parking::default(),
            asleep: false,
        }
    }

    fn drain_to_gateway(&mut self, io: &mut impl Sockets) {
        let mut copy = self.link.take_copy();
        let mut bytes = 0;
        while bytes < BYTES_PER_TURN_MAX {
            match self.link.next(&mut copy) {
                Read::Record(header) if header.kind == ECHO_DOWN => {
                    bytes += copy.payload().len().max(1);
                    let frame = match header.flags {
                        TEXT => Frame::Text(copy.payload()),
                        _ => Frame::Binary(copy.payload()),
                    };
                    let _lost_with_the_connection =
                        io.send(self.link.id(header.slot, header.generation), frame);
                }
                Read::Record(_) => bytes += 1,
                Read::Bad(bad) if !bad.condemned => bytes += 1,
                Read::Bad(_) | Read::Empty => break,
            }
        }
        self.link.put_back(copy);
        if bytes > 0 {
            self.link.release();
        }
    }
}

impl Service for BusEcho {
    fn on_upgraded(&mut self, _io: &mut impl Sockets, _id: ConnectionId, _upgrade: &Upgrade<'_>) {}

    fn on_message(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        message: Message<'_>,
    ) -> Taken {
        let mut header = self.link.header(ECHO, id.slot, id.generation);
        header.flags = match message.kind {
            MessageKind::Text => TEXT,
            MessageKind::Binary => BINARY,
        };
        match self.link.place(header, message.payload.len(), |to| {
            to.copy_from_slice(message.payload)
        }) {
            Placed::Yes => Taken::Yes,
            Placed::TooLarge => {
                io.close(
                    id,
                    CloseCode::MESSAGE_TOO_BIG.0,
                    "larger than a record of the bus",
                );
                Taken::Yes
            }
            Placed::Full => {
                let parked = Parked {
                    slot: id.slot,
                    generation: id.generation,
                    since: moment(io.now()),
                };
                let need_bytes =
                    u32::try_from(span_bytes(message.payload.len())).unwrap_or(u32::MAX);
                self.parking.await_room(parked, need_bytes);
                Taken::Park { skip: 0 }
            }
        }
    }

    /// Nothing is told: an answer to a connection that is gone names a generation that is gone.
    fn on_closed(&mut self, _io: &mut impl Sockets, _id: ConnectionId, _cause: CloseCause) -> Told {
        Told::Now
    }

    fn turn(&mut self, io: &mut impl Sockets) {
        if std::mem::take(&mut self.asleep) {
            self.link.wake();
        }
        self.drain_to_gateway(io);
        if self.parking.awaits_room() {
            let mut room_bytes = self.link.room_bytes();
            while let Some(parked) = self.parking.next_that_fits(&mut room_bytes) {
                io.unpark(self.link.id(parked.slot, parked.generation));
            }
        }
        self.link.ring();
    }

    fn doorbell(&self) -> Option<RawFd> {
        Some(self.link.doorbell().as_raw_fd())
    }

    fn failure(&self) -> Option<String> {
        self.link.failure()
    }

    fn before_sleep(&mut self) -> bool {
        self.link.ring();
        self.asleep = self.link.prepare_sleep();
        self.asleep
    }
}
