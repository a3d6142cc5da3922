//! Connections that hold a message for which the ring had no room.
//!
//! The shard keeps the message and stops reading from that one connection; everybody else goes on. A parked message
//! is offered again when there is room for it, in the order of parking, and at the latest when it is `park_ms_max`
//! old: then what still finds no room is refused `busy`. Nobody waits for ever, and no memory grows here beyond one
//! entry a parked message (the shard bounds those by `parked_bytes_max`).

use super::heartbeat::Moment;
use std::collections::VecDeque;

/// One parked message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parked {
    /// Whose slot.
    pub slot: u32,
    /// Its generation.
    pub generation: u32,
    /// When it was first offered.
    pub since: Moment,
}

/// The parked connections of one shard. Entries of connections that went on or away are passed over by the caller.
#[derive(Default)]
pub struct Parking {
    by_age: VecDeque<Parked>,
    for_room: VecDeque<(Parked, u32)>,
}

impl Parking {
    /// A message was parked for the first time.
    pub fn enter(&mut self, parked: Parked) {
        self.by_age.push_back(parked);
    }

    /// A parked message needs so many bytes of ring to go on. Comes after [`Parking::enter`], and again each time the
    /// message was offered in vain.
    pub fn await_room(&mut self, parked: Parked, need_bytes: u32) {
        self.for_room.push_back((parked, need_bytes));
    }

    /// The oldest message, if it is too old by now.
    pub fn next_overdue(&mut self, now: Moment, park_ms_max: u32) -> Option<Parked> {
        let oldest = self.by_age.front()?;
        if now.since_ms(oldest.since) < park_ms_max {
            None
        } else {
            self.by_age.pop_front()
        }
    }

    /// The first message for which there is room; takes what it needs from `room_bytes`.
    pub fn next_that_fits(&mut self, room_bytes: &mut usize) -> Option<Parked> {
        let &(_, need_bytes) = self.for_room.front()?;
        *room_bytes = room_bytes.checked_sub(need_bytes as usize)?;
        self.for_room.pop_front().map(|(parked, _)| parked)
    }

    /// Whether any message waits for room.
    pub fn awaits_room(&self) -> bool {
        !self.for_room.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(slot: u32, since_ms: u32) -> Parked {
        Parked {
            slot,
            generation: 1,
            since: Moment(since_ms),
        }
    }

    #[test]
    fn messages_are_offered_again_in_order_and_only_as_many_as_fit() {
        let mut parking = Parking::default();
        for (slot, need_bytes) in [(1, 100), (2, 300), (3, 50)] {
            parking.await_room(parked(slot, 0), need_bytes);
        }
        let mut room_bytes = 350;
        assert_eq!(parking.next_that_fits(&mut room_bytes), Some(parked(1, 0)));
        assert_eq!(
            parking.next_that_fits(&mut room_bytes),
            None,
            "a later one does not overtake"
        );
        assert_eq!(room_bytes, 250);
        room_bytes = 400;
        assert_eq!(parking.next_that_fits(&mut room_bytes), Some(parked(2, 0)));
        assert_eq!(parking.next_that_fits(&mut room_bytes), Some(parked(3, 0)));
        assert!(!parking.awaits_room());
    }

    #[test]
    fn a_message_is_overdue_at_its_age_and_not_before() {
        let mut parking = Parking::default();
        parking.enter(parked(1, 0));
        parking.enter(parked(2, 500));
        assert_eq!(parking.next_overdue(Moment(1_999), 2_000), None);
        assert_eq!(
            parking.next_overdue(Moment(2_000), 2_000),
            Some(parked(1, 0))
        );
        assert_eq!(parking.next_overdue(Moment(2_000), 2_000), None);
    }
}
