//! What a connection needs goes to the driver: sends, receives, cancellations, the close.

use super::Shard;
use super::core::Core;
use crate::connection::{Flags, State};
use crate::driver::{Driver, Receive};
use crate::service::{CloseCause, Service, Told};

impl<S: Service> Shard<S> {
    /// All that was asked for since the last flush. Callbacks may ask for more meanwhile: the list is worked off until it
    /// is empty; each connection's answer to its own end comes once, so that it ends.
    pub(super) fn flush(&mut self, driver: &mut impl Driver) {
        while let Some(slot) = self.core.dirty.pop() {
            self.core.connection(slot).flags.clear(Flags::DIRTY);
            self.flush_slot(driver, slot);
        }
        for id in self.core.to_give_back.drain(..) {
            self.core.pinned[usize::from(id.0)] = None;
            driver.give_back(id);
        }
    }

    /// What one connection needs.
    #[inline]
    pub(super) fn flush_slot(&mut self, driver: &mut impl Driver, slot: u32) {
        if self.core.connection(slot).flags.take(Flags::UNPARK) {
            self.offer_parked(slot);
        }
        self.tell_end(slot);
        match self.core.connection(slot).state {
            State::Free | State::Kept => {}
            State::Handshake | State::Open => {
                self.send(driver, slot);
                self.receive(driver, slot);
            }
            State::Answering | State::Closing => self.finish(driver, slot),
            State::Dying => self.die(driver, slot),
        }
    }

    /// Tells the service of the end of a connection that it knows, once.
    fn tell_end(&mut self, slot: u32) {
        let connection = self.core.connection(slot);
        let ending = matches!(connection.state, State::Closing | State::Dying);
        if !ending || !connection.flags.any(Flags::UPGRADED) || connection.flags.any(Flags::TOLD) {
            return;
        }
        connection.flags.set(Flags::TOLD);
        let cause = connection.cause;
        let counts = &mut self.core.counts;
        counts.connections_open -= 1;
        match cause {
            CloseCause::Peer { .. } => counts.closed_peer_total += 1,
            CloseCause::Gone => counts.closed_gone_total += 1,
            CloseCause::Gateway { .. } => counts.closed_gateway_total += 1,
            CloseCause::Service { .. } => counts.closed_service_total += 1,
        }
        let id = self.core.id(slot);
        if self.service.on_closed(&mut self.core, id, cause) == Told::Later {
            self.core.connection(slot).flags.set(Flags::KEPT);
        }
    }

    #[inline]
    fn send(&mut self, driver: &mut impl Driver, slot: u32) {
        let key = self.core.key(slot);
        let core = &mut self.core;
        let connection = &mut core.slots[slot as usize];
        if connection.flags.any(Flags::SENDING) {
            return;
        }
        let Some(bytes) = core.outbox.head(&connection.out) else {
            return;
        };
        connection.flags.set(Flags::SENDING);
        #[expect(unsafe_code, reason = "the contract of Driver::send is kept here")]
        // SAFETY: the head of a queue stays where it is until `sent` was told: SENDING keeps the outbox from
        // growing, truncating or clearing it, the slot is vacated only when SENDING is clear, and a received buffer
        // is given back only by `Outbox::sent`, `unpin` and `clear`, none of which runs while SENDING is set.
        unsafe {
            driver.send(key, connection.socket, bytes);
        }
    }

    #[inline]
    fn receive(&mut self, driver: &mut impl Driver, slot: u32) {
        let key = self.core.key(slot);
        let connection = self.core.connection(slot);
        let flags = connection.flags;
        if connection.wants_bytes() {
            if !flags.any(Flags::RECEIVING) {
                let receive = if flags.any(Flags::SINGLE) {
                    Receive::Once
                } else {
                    Receive::Multishot
                };
                connection.flags.set(Flags::RECEIVING);
                driver.receive(key, connection.socket, receive);
            }
        } else {
            self.cancel_receive(driver, slot);
        }
    }

    /// Closing and answering: all is sent, then the write side is shut, then the peer hangs up or its time is over.
    fn finish(&mut self, driver: &mut impl Driver, slot: u32) {
        self.send(driver, slot);
        let connection = self.core.connection(slot);
        let flags = connection.flags;
        if connection.out.is_empty() {
            if flags.any(Flags::PEER_CLOSED | Flags::END_OF_STREAM) {
                self.core.kill(slot, CloseCause::Gone);
                return self.die(driver, slot);
            }
            let over = connection.state == State::Answering || flags.any(Flags::DEAF);
            if over && !flags.any(Flags::SHUT) {
                connection.flags.set(Flags::SHUT);
                driver.shutdown_write(connection.socket);
            }
        }
        self.receive(driver, slot);
    }

    fn die(&mut self, driver: &mut impl Driver, slot: u32) {
        let key = self.core.key(slot);
        let flags = self.core.connection(slot).flags;
        if flags.any(Flags::RECEIVING) {
            self.cancel_receive(driver, slot);
        }
        if flags.any(Flags::SENDING) && !flags.any(Flags::SEND_CANCELLED) {
            self.core.connection(slot).flags.set(Flags::SEND_CANCELLED);
            driver.cancel_send(key);
        }
        let busy = flags.any(Flags::RECEIVING | Flags::SENDING);
        if busy && !shm_bus::mutant::is_planted("free_send_memory") {
            return;
        }
        self.bury(driver, slot);
    }

    /// No operation is under way: buffers, descriptor and slot are given back.
    fn bury(&mut self, driver: &mut impl Driver, slot: u32) {
        let core: &mut Core = &mut self.core;
        let connection = &mut core.slots[slot as usize];
        let pinned = &mut core.pinned;
        core.outbox.clear(&mut connection.out, |id| {
            pinned[usize::from(id.0)] = None;
            driver.give_back(id);
        });
        driver.close(connection.socket);
        core.live -= 1;
        core.wheel.set(slot, crate::wheel::Tick::NEVER);
        if connection.flags.any(Flags::KEPT) {
            connection.state = State::Kept;
        } else {
            core.vacate(slot);
        }
        // Where the descriptor limit stopped accepting, there is room now.
        if let Some(retry) = &mut self.accept_retry {
            *retry = (*retry).min(self.core.now);
        }
    }
}
