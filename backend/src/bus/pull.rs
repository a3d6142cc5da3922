//! A connection is sent what it lacks: from the window in memory, or from pages that a reader thread brings; as far as
//! there is room and credit, and again from its cursor when there is more.

use tidegate_protocol::Kind;

use super::Bus;
use super::cold::{ColdPage, ColdReader, ColdRequest};
use super::delivery::{Follow, receipt_bit};
use super::link::Gateways;
use super::port::Sent;
use super::publish::queue_flags;
use crate::engine::connections::{Address, ConnectionKey};
use crate::engine::conversation::ConversationKey;
use crate::engine::kinds::Side;
use crate::engine::{Engine, encode_message};

impl<G: Gateways, C: ColdReader> Bus<G, C> {
    /// Sends a connection what it lacks of one conversation, up to a seq, as far as there is room, credit and memory.
    pub(super) fn pull(
        &mut self,
        engine: &Engine,
        connection: ConnectionKey,
        conversation: ConversationKey,
        up_to: u64,
    ) -> Sent {
        let Some(delivery) = self.deliveries.get(connection) else {
            return Sent::Yes;
        };
        let address = delivery.address;
        if delivery.behind {
            return Sent::NoRoom;
        }
        let Some(found) = engine.conversations().get(conversation) else {
            return Sent::Yes;
        };
        loop {
            let Some(follow) = self.follow_mut(connection, conversation) else {
                return Sent::Yes;
            };
            if follow.cursor >= up_to || follow.cold || !follow.may_push() {
                return Sent::Yes;
            }
            let seq = follow.cursor + 1;
            let entry = found
                .position_of(seq)
                .and_then(|position| engine.window().get(position));
            let Some(entry) = entry else {
                let after = follow.cursor;
                self.ask_cold(ColdRequest {
                    connection,
                    address,
                    conversation,
                    id: found.row.id,
                    after,
                });
                return Sent::Yes;
            };
            if self.offer(address, Kind::Message, entry.at_us, entry.payload) == Sent::NoRoom
                && !shm_bus::mutant::is_planted("drop_derivable")
            {
                self.set_behind(connection);
                return Sent::NoRoom;
            }
            if let Some(follow) = self.follow_mut(connection, conversation) {
                follow.pushed(seq, entry.payload.len(), engine.view_us());
            }
            self.pay(connection);
        }
    }

    /// Sends a connection everything that it lacks.
    pub(super) fn catch_up(&mut self, engine: &Engine, connection: ConnectionKey) -> Sent {
        if self.flush(engine, connection) == Sent::NoRoom {
            return Sent::NoRoom;
        }
        let count = self
            .deliveries
            .get(connection)
            .map_or(0, |delivery| delivery.follows.len());
        for index in 0..count {
            let Some(delivery) = self.deliveries.get(connection) else {
                break;
            };
            let Some(follow) = delivery.follows.get(index).copied() else {
                break;
            };
            let Some(found) = engine.conversations().get(follow.conversation) else {
                continue;
            };
            if follow.cursor < found.seq
                && self.pull(engine, connection, follow.conversation, found.seq) == Sent::NoRoom
            {
                return Sent::NoRoom;
            }
        }
        Sent::Yes
    }

    /// Sends a connection the states and receipts that changed.
    pub(super) fn flush(&mut self, engine: &Engine, connection: ConnectionKey) -> Sent {
        let Some(delivery) = self.deliveries.get(connection) else {
            return Sent::Yes;
        };
        if delivery.behind {
            return Sent::NoRoom;
        }
        let address = delivery.address;
        let mut builder = std::mem::take(&mut self.builder);
        let mut sent = Sent::Yes;
        let mut index = 0;
        while let Some(follow) = self
            .deliveries
            .get(connection)
            .and_then(|d| d.follows.get(index))
            .copied()
        {
            index += 1;
            if (!follow.state && follow.receipts == 0)
                || engine.conversations().get(follow.conversation).is_none()
            {
                continue;
            }
            sent = self.flush_one(engine, address, &follow, &mut builder);
            if sent == Sent::NoRoom {
                break;
            }
            if follow.leaving {
                self.deliveries.unfollow(connection, follow.conversation);
                index -= 1;
            } else if let Some(follow) = self.follow_mut(connection, follow.conversation) {
                follow.state = false;
                follow.receipts = 0;
            }
        }
        self.builder = builder;
        if sent == Sent::NoRoom {
            self.set_behind(connection);
        }
        sent
    }

    /// The state carries both sides' marks: with it no receipt is needed.
    fn flush_one(
        &mut self,
        engine: &Engine,
        address: Address,
        follow: &Follow,
        builder: &mut flatbuffers::FlatBufferBuilder<'static>,
    ) -> Sent {
        if follow.state {
            let payload = engine
                .state_of(follow.conversation, 0, !follow.leaving)
                .encode(builder);
            let flags = u16::from(Kind::ConversationState as u8) | queue_flags(engine, address);
            return self.offer_flagged(address, flags, engine.view_us(), payload);
        }
        for side in [Side::Visitor, Side::Agent] {
            if follow.receipts & receipt_bit(side) != 0 {
                let payload = engine.receipt_of(follow.conversation, side).encode(builder);
                if self.offer(address, Kind::Receipt, engine.view_us(), payload) == Sent::NoRoom {
                    return Sent::NoRoom;
                }
            }
        }
        Sent::Yes
    }

    fn ask_cold(&mut self, request: ColdRequest) {
        if self.cold.request(request) {
            if let Some(follow) = self.follow_mut(request.connection, request.conversation) {
                follow.cold = true;
            }
        } else {
            let waits = self.deliveries.get_mut(request.connection);
            if waits
                .is_some_and(|delivery| !std::mem::replace(&mut delivery.waits_for_reader, true))
            {
                self.cold_waiting.push_back(request.connection);
            }
        }
    }

    /// A page came: it goes to the one who asked, if that one still is there and still lacks it.
    pub(super) fn hand_out(&mut self, engine: &Engine, page: &ColdPage) {
        let Some(request) = page.request else { return };
        let same = self
            .deliveries
            .get(request.connection)
            .is_some_and(|d| d.address == request.address);
        if !same {
            return;
        }
        let Some(follow) = self.follow_mut(request.connection, request.conversation) else {
            return;
        };
        follow.cold = false;
        let before = follow.cursor;
        let mut builder = std::mem::take(&mut self.builder);
        for row in &page.messages {
            let Some(follow) = self.follow_mut(request.connection, request.conversation) else {
                break;
            };
            if row.conversation != request.id || !follow.may_push() {
                break;
            }
            if row.seq != follow.cursor + 1 {
                continue;
            }
            let payload = encode_message(
                &mut builder,
                row,
                page.text(row.sender_name),
                page.text(row.text),
            );
            if self.offer(request.address, Kind::Message, row.at_us, payload) == Sent::NoRoom {
                self.set_behind(request.connection);
                break;
            }
            self.tally.replayed_cold += 1;
            if let Some(follow) = self.follow_mut(request.connection, request.conversation) {
                follow.pushed(row.seq, payload.len(), engine.view_us());
            }
        }
        self.builder = builder;
        let useless = page
            .messages
            .first()
            .is_none_or(|first| first.seq > before + 1);
        if useless && before == request.after {
            // Unreadable, or removed by retention: asking again at once would go round and round.
            tracing::warn!(conversation = %request.id, after = request.after, "history has no such page");
            return;
        }
        self.catch_up(engine, request.connection);
    }

    pub(super) fn follow_mut(
        &mut self,
        connection: ConnectionKey,
        conversation: ConversationKey,
    ) -> Option<&mut Follow> {
        self.deliveries
            .get_mut(connection)?
            .follow_mut(conversation)
    }

    pub(super) fn mark(&mut self, conversation: ConversationKey, edit: impl Fn(&mut Follow)) {
        for index in 0..self.deliveries.follower_count(conversation) {
            if let Some(connection) = self.deliveries.follower(conversation, index) {
                self.mark_one(connection, conversation, &edit);
            }
        }
    }

    pub(super) fn mark_one(
        &mut self,
        connection: ConnectionKey,
        conversation: ConversationKey,
        edit: impl Fn(&mut Follow),
    ) {
        let Some(delivery) = self.deliveries.get_mut(connection) else {
            return;
        };
        if let Some(follow) = delivery.follow_mut(conversation) {
            edit(follow);
        }
        if !std::mem::replace(&mut delivery.dirty, true) {
            self.dirty.push(connection);
        }
    }

    fn set_behind(&mut self, connection: ConnectionKey) {
        let Some(delivery) = self.deliveries.get_mut(connection) else {
            return;
        };
        if std::mem::replace(&mut delivery.behind, true) {
            return;
        }
        let address = delivery.address;
        self.tally.marked_behind += 1;
        if let Some((port, _)) = self.port_of(address.gateway, usize::from(address.shard)) {
            port.behind.push_back(connection);
        }
    }
}
