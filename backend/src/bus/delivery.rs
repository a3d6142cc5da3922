//! Per connection: which conversations it follows and how far it has each. A cursor, not a queue: what a connection
//! lacks is what lies between its cursor and the conversation's seq, and it is pulled from the window when there is
//! room.
//!
//! A replay must not drown its reader: per conversation at most a window of bytes is pushed beyond what the client
//! acknowledged; then the pull waits for its next Ack. So a long backlog goes out at the reader's own pace, and stays
//! below the bound at which the gateway would call it a slow reader. The window begins at [`WINDOW_BYTES_MIN`],
//! doubles up to [`WINDOW_BYTES_MAX`] while whole windows are acknowledged quickly, and halves when one is not: what
//! else the reader waits for, a Pong or a message of another conversation, stands behind a quarter of a second of
//! replay or so, not behind all that it can be owed.

use tidegate_protocol::Id;

use crate::engine::connections::{Address, ConnectionKey};
use crate::engine::conversation::ConversationKey;
use crate::engine::kinds::{Role, Side};
use crate::engine::pages::Pages;

/// The smallest window: pushed to one connection in one conversation and not acknowledged.
pub const WINDOW_BYTES_MIN: u32 = 8 * 1024;
/// The largest.
pub const WINDOW_BYTES_MAX: u32 = 32 * 1024;
/// A whole window that is acknowledged sooner doubles the next. Clients acknowledge after 50 ms at most.
const WINDOW_QUICK_US: u64 = 100_000;
/// One that takes longer halves it.
const WINDOW_SLOW_US: u64 = 250_000;

/// One conversation that a connection follows.
#[derive(Debug, Clone, Copy)]
pub struct Follow {
    /// Which.
    pub conversation: ConversationKey,
    /// The connection has, or was sent, everything up to here.
    pub cursor: u64,
    /// The newest seq pushed; an Ack up to it clears `in_flight_bytes`.
    pushed: u64,
    /// When the first of the bytes in flight was pushed.
    pushed_since_us: u64,
    /// Bytes pushed since the last Ack that covered all.
    in_flight_bytes: u32,
    /// How many there may be.
    window_bytes: u32,
    /// Its state has to go out.
    pub state: bool,
    /// Sides whose marks have to go out, as bits.
    pub receipts: u8,
    /// A page is being read for it.
    pub cold: bool,
    /// It no longer is theirs: the next state says so and ends the following.
    pub leaving: bool,
}

impl Follow {
    /// From a cursor.
    #[must_use]
    pub const fn new(conversation: ConversationKey, cursor: u64) -> Self {
        Self {
            conversation,
            cursor,
            pushed: 0,
            pushed_since_us: 0,
            in_flight_bytes: 0,
            window_bytes: WINDOW_BYTES_MIN,
            state: false,
            receipts: 0,
            cold: false,
            leaving: false,
        }
    }

    /// Whether more may be pushed before the next Ack.
    #[must_use]
    pub const fn may_push(&self) -> bool {
        !self.leaving && self.in_flight_bytes < self.window_bytes
    }

    /// A message went out.
    pub fn pushed(&mut self, seq: u64, bytes: usize, now_us: u64) {
        if self.in_flight_bytes == 0 {
            self.pushed_since_us = now_us;
        }
        self.cursor = seq;
        self.pushed = seq;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.in_flight_bytes = self.in_flight_bytes.saturating_add(bytes);
    }

    /// Everything up to a seq was acknowledged. `None` while something pushed is not; else whether the window was
    /// used up, so that a pull may be waiting.
    pub fn acknowledged(&mut self, delivered: u64, now_us: u64) -> Option<bool> {
        if delivered < self.pushed {
            return None;
        }
        let waited = !self.may_push();
        let took_us = now_us.saturating_sub(self.pushed_since_us);
        if waited && took_us < WINDOW_QUICK_US {
            self.window_bytes = (self.window_bytes * 2).min(WINDOW_BYTES_MAX);
        } else if self.in_flight_bytes > 0 && took_us > WINDOW_SLOW_US {
            self.window_bytes = (self.window_bytes / 2).max(WINDOW_BYTES_MIN);
        }
        self.in_flight_bytes = 0;
        Some(waited)
    }
}

/// The bit of a side in [`Follow::receipts`].
#[must_use]
pub const fn receipt_bit(side: Side) -> u8 {
    1 << side.code()
}

/// What is delivered to one connection.
#[derive(Debug)]
pub struct Delivery {
    /// Where it is.
    pub address: Address,
    /// Whose.
    pub principal: Id,
    /// As whom.
    pub role: Role,
    /// In its port's `behind`.
    pub behind: bool,
    /// In `Bus::cold_waiting`.
    pub waits_for_reader: bool,
    /// In `Bus::dirty`.
    pub dirty: bool,
    /// In `Bus::owed`.
    pub owed: bool,
    /// What it follows.
    pub follows: Vec<Follow>,
}

impl Delivery {
    /// One conversation that it follows.
    pub fn follow_mut(&mut self, conversation: ConversationKey) -> Option<&mut Follow> {
        self.follows
            .iter_mut()
            .find(|follow| follow.conversation == conversation)
    }
}

/// All of them, by connection; and the followers of each conversation.
#[derive(Debug, Default)]
pub struct Deliveries {
    slab: Pages<Option<Delivery>>,
    followers: Vec<Vec<ConnectionKey>>,
}

impl Deliveries {
    /// One connection's.
    #[must_use]
    pub fn get(&self, key: ConnectionKey) -> Option<&Delivery> {
        self.slab.get(key.index())?.as_ref()
    }

    /// One connection's, to change.
    pub fn get_mut(&mut self, key: ConnectionKey) -> Option<&mut Delivery> {
        self.slab.get_mut(key.index())?.as_mut()
    }

    /// A connection is welcome.
    pub fn insert(&mut self, key: ConnectionKey, address: Address, principal: Id, role: Role) {
        self.remove(key);
        while self.slab.len() <= key.index() {
            self.slab.push(None);
        }
        let delivery = Delivery {
            address,
            principal,
            role,
            behind: false,
            waits_for_reader: false,
            dirty: false,
            owed: false,
            follows: Vec::new(),
        };
        if let Some(place) = self.slab.get_mut(key.index()) {
            *place = Some(delivery);
        }
    }

    /// A connection is gone.
    pub fn remove(&mut self, key: ConnectionKey) {
        let Some(delivery) = self.slab.get_mut(key.index()).and_then(Option::take) else {
            return;
        };
        for follow in delivery.follows {
            self.unlink(follow.conversation, key);
        }
    }

    /// It follows a conversation from now on. False if it does already.
    pub fn follow(&mut self, key: ConnectionKey, follow: Follow) -> bool {
        let Some(delivery) = self.slab.get_mut(key.index()).and_then(Option::as_mut) else {
            return false;
        };
        if delivery.follow_mut(follow.conversation).is_some() {
            return false;
        }
        delivery.follows.push(follow);
        let index = follow.conversation.index();
        if self.followers.len() <= index {
            self.followers.resize_with(index + 1, Vec::new);
        }
        self.followers[index].push(key);
        true
    }

    /// It no longer does.
    pub fn unfollow(&mut self, key: ConnectionKey, conversation: ConversationKey) {
        if let Some(delivery) = self.get_mut(key) {
            delivery
                .follows
                .retain(|follow| follow.conversation != conversation);
        }
        self.unlink(conversation, key);
    }

    fn unlink(&mut self, conversation: ConversationKey, key: ConnectionKey) {
        if let Some(followers) = self.followers.get_mut(conversation.index()) {
            followers.retain(|&follower| follower != key);
            if followers.is_empty() {
                *followers = Vec::new();
            }
        }
    }

    /// How many follow a conversation.
    #[must_use]
    pub fn follower_count(&self, conversation: ConversationKey) -> usize {
        self.followers.get(conversation.index()).map_or(0, Vec::len)
    }

    /// One of those who follow a conversation.
    #[must_use]
    pub fn follower(&self, conversation: ConversationKey, index: usize) -> Option<ConnectionKey> {
        self.followers
            .get(conversation.index())?
            .get(index)
            .copied()
    }

    /// The conversation left memory: nobody follows it any more.
    pub fn forget(&mut self, conversation: ConversationKey) {
        let followers = self
            .followers
            .get_mut(conversation.index())
            .map(std::mem::take)
            .unwrap_or_default();
        for key in followers {
            if let Some(delivery) = self.get_mut(key) {
                delivery
                    .follows
                    .retain(|follow| follow.conversation != conversation);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000;

    /// Pushes messages of 1 KiB until the window is used up, then acknowledges all of them `after_ms` later; returns
    /// the bytes that were in flight.
    fn one_window(follow: &mut Follow, now_us: &mut u64, after_ms: u64) -> u32 {
        while follow.may_push() {
            follow.pushed(follow.cursor + 1, 1_024, *now_us);
        }
        let in_flight_bytes = follow.in_flight_bytes;
        *now_us += after_ms * MS;
        assert_eq!(follow.acknowledged(follow.cursor - 1, *now_us), None);
        assert_eq!(follow.acknowledged(follow.cursor, *now_us), Some(true));
        in_flight_bytes
    }

    #[test]
    fn a_quick_reader_is_given_more_at_once_and_a_slow_one_less() {
        let mut follow = Follow::new(ConversationKey(0), 0);
        let mut now_us = 0;
        let windows: Vec<u32> = [50, 50, 50, 50, 300, 300, 300]
            .map(|after_ms| one_window(&mut follow, &mut now_us, after_ms))
            .into();
        let kib: Vec<u32> = windows.iter().map(|bytes| bytes / 1_024).collect();
        assert_eq!(kib, [8, 16, 32, 32, 32, 16, 8]);
    }

    #[test]
    fn a_message_larger_than_the_window_goes_out_alone() {
        let mut follow = Follow::new(ConversationKey(0), 0);
        follow.pushed(1, 20_000, 0);
        assert!(!follow.may_push());
        assert_eq!(follow.acknowledged(1, 400 * MS), Some(true));
        assert!(follow.may_push());
    }

    #[test]
    fn a_conversation_with_nothing_in_flight_keeps_its_window_however_late_the_ack() {
        let mut follow = Follow::new(ConversationKey(0), 5);
        let mut now_us = 0;
        one_window(&mut follow, &mut now_us, 50);
        assert_eq!(follow.acknowledged(100, 3_600_000 * MS), Some(false));
        assert_eq!(one_window(&mut follow, &mut now_us, 50), 16 * 1_024);
    }
}
