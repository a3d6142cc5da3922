//! Per connection: which conversations it follows and how far it has each. A cursor, not a queue: what a connection
//! lacks is what lies between its cursor and the conversation's seq, and it is pulled from the window when there is
//! room.
//!
//! A replay must not drown its reader: per conversation at most [`IN_FLIGHT_BYTES_MAX`] are pushed beyond what the
//! client acknowledged; then the pull waits for its next Ack. So a long backlog goes out at the reader's own pace,
//! and stays below the bound at which the gateway would call it a slow reader.

use tidegate_protocol::Id;

use crate::engine::connections::{Address, ConnectionKey};
use crate::engine::conversation::ConversationKey;
use crate::engine::kinds::{Role, Side};

/// Pushed to one connection in one conversation and not acknowledged.
pub const IN_FLIGHT_BYTES_MAX: u32 = 32 * 1024;

/// One conversation that a connection follows.
#[derive(Debug, Clone, Copy)]
pub struct Follow {
    /// Which.
    pub conversation: ConversationKey,
    /// The connection has, or was sent, everything up to here.
    pub cursor: u64,
    /// The newest seq pushed; an Ack up to it clears `in_flight_bytes`.
    pub pushed: u64,
    /// Bytes pushed since the last Ack that covered all.
    pub in_flight_bytes: u32,
    /// Its state has to go out.
    pub state: bool,
    /// Sides whose marks have to go out, as bits.
    pub receipts: u8,
    /// A page is being read for it.
    pub cold: bool,
}

impl Follow {
    /// From a cursor.
    #[must_use]
    pub const fn new(conversation: ConversationKey, cursor: u64) -> Self {
        Self {
            conversation,
            cursor,
            pushed: 0,
            in_flight_bytes: 0,
            state: false,
            receipts: 0,
            cold: false,
        }
    }

    /// Whether more may be pushed before the next Ack.
    #[must_use]
    pub const fn may_push(&self) -> bool {
        self.in_flight_bytes < IN_FLIGHT_BYTES_MAX
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
    slab: Vec<Option<Delivery>>,
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
        if self.slab.len() <= key.index() {
            self.slab.resize_with(key.index() + 1, || None);
        }
        self.slab[key.index()] = Some(Delivery {
            address,
            principal,
            role,
            behind: false,
            waits_for_reader: false,
            dirty: false,
            follows: Vec::new(),
        });
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
