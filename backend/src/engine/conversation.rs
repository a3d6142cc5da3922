//! One conversation in memory, and all of them.

use std::collections::{HashMap, VecDeque};

use tidegate_protocol::Id;

use super::kinds::{CloseReason, Side, Status};
use super::loaded::Pending;
use super::marks::Marks;
use super::queue::Place;
use super::rows::{ConversationRow, MarksRow};

/// Key of a conversation in memory. Used again only after [`super::effect::Effect::Forgotten`] was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConversationKey(pub u32);

impl ConversationKey {
    /// As an index of a slab.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A conversation and what is derived from its messages.
#[derive(Debug)]
pub struct Conversation {
    /// As stored, except while `row_turn` is the running turn's.
    pub row: ConversationRow,
    /// The visitor's name.
    pub visitor_name: Box<str>,
    /// Highest seq; 0 = none.
    pub seq: u64,
    /// Messages up to here were removed by retention; 0 = none.
    pub erased: u64,
    /// Delivered and read, per side.
    pub marks: Marks,
    /// Memory is ahead of the store.
    pub marks_dirty: bool,
    /// Turn in which the marks were last put into a WriteSet.
    pub marks_turn: u32,
    /// Texts above the receiving side's delivered mark.
    pub pending: Pending,
    /// Texts that were acknowledged since the marks were written last: the ledger has them when they are stored.
    pub delivered_unwritten: Pending,
    /// At most 120 bytes of the newest text.
    pub last_text: String,
    /// When it came.
    pub last_at_us: u64,
    /// First visitor text without an answer; 0 = none.
    pub unanswered_since_us: u64,
    /// Where it stands in the queue.
    pub place: Option<Place>,
    /// When the visitor was last heard of, by socket or HTTP.
    pub seen_at_us: u64,
    /// When it is looked whether the visitor is gone; 0 = not planned.
    pub look_at_us: u64,
    /// Positions of its newest messages in the window; the last one is `seq`'s.
    pub window: VecDeque<u64>,
    /// Turn in which the row was last put into the WriteSet, and where.
    pub row_turn: u32,
    /// Index in `WriteSet::conversations`.
    pub row_index: u32,
}

impl Conversation {
    /// Still going on.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.row.status != Status::Closed
    }

    /// Whether somebody takes part on a side.
    #[must_use]
    pub fn side_of(&self, principal: Id) -> Option<Side> {
        if self.row.visitor == principal {
            Some(Side::Visitor)
        } else if self.row.agent == Some(principal) {
            Some(Side::Agent)
        } else {
            None
        }
    }

    /// The oldest seq that is in memory; `seq + 1` when none is.
    #[must_use]
    pub fn window_first(&self) -> u64 {
        self.seq + 1 - self.window.len() as u64
    }

    /// The position in the window of a seq.
    #[must_use]
    pub fn position_of(&self, seq: u64) -> Option<u64> {
        let index = seq.checked_sub(self.window_first())?;
        self.window.get(usize::try_from(index).ok()?).copied()
    }

    /// The marks as a row.
    #[must_use]
    pub const fn marks_row(&self) -> MarksRow {
        MarksRow {
            site_id: self.row.site_id,
            conversation: self.row.id,
            visitor_delivered: self.marks.visitor.delivered,
            visitor_read: self.marks.visitor.read,
            agent_delivered: self.marks.agent.delivered,
            agent_read: self.marks.agent.read,
        }
    }
}

/// All conversations in memory: every open one, and the newest closed ones.
#[derive(Debug, Default)]
pub struct Conversations {
    slab: Vec<Option<Box<Conversation>>>,
    free: Vec<u32>,
    resting: Vec<u32>,
    by_id: HashMap<Id, u32>,
    /// The open one per (visitor, widget): at most one, whatever arrives at once.
    open_of: HashMap<(Id, u32), u32>,
    /// Closed ones, the longest in memory first.
    closed: VecDeque<u32>,
    chatting: u32,
}

impl Conversations {
    /// By key.
    #[must_use]
    pub fn get(&self, key: ConversationKey) -> Option<&Conversation> {
        self.slab.get(key.index())?.as_deref()
    }

    /// By key, to change.
    pub fn get_mut(&mut self, key: ConversationKey) -> Option<&mut Conversation> {
        self.slab.get_mut(key.index())?.as_deref_mut()
    }

    /// By key, when it is known to be there.
    ///
    /// # Panics
    /// When a key outlived its conversation: a bug.
    #[must_use]
    pub fn at(&self, key: ConversationKey) -> &Conversation {
        self.get(key)
            .expect("invariant: keys do not outlive their conversation")
    }

    /// By key, to change, when it is known to be there.
    ///
    /// # Panics
    /// When a key outlived its conversation: a bug.
    pub fn at_mut(&mut self, key: ConversationKey) -> &mut Conversation {
        self.get_mut(key)
            .expect("invariant: keys do not outlive their conversation")
    }

    /// By id, if it is in memory.
    #[must_use]
    pub fn find(&self, id: Id) -> Option<ConversationKey> {
        self.by_id.get(&id).map(|&key| ConversationKey(key))
    }

    /// The highest seq of one in memory; 0 if it is not.
    #[must_use]
    pub fn seq_of(&self, id: Id) -> u64 {
        self.find(id)
            .and_then(|key| self.get(key))
            .map_or(0, |conversation| conversation.seq)
    }

    /// A visitor's open one.
    #[must_use]
    pub fn open_of(&self, visitor: Id, widget: u32) -> Option<ConversationKey> {
        self.open_of
            .get(&(visitor, widget))
            .map(|&key| ConversationKey(key))
    }

    /// Keys are below this.
    #[must_use]
    pub fn keys_end(&self) -> usize {
        self.slab.len()
    }

    /// How many an agent has.
    #[must_use]
    pub const fn chatting(&self) -> u32 {
        self.chatting
    }

    /// In memory, open or closed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// None is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Adds one that is not in memory.
    pub fn insert(&mut self, conversation: Conversation) -> ConversationKey {
        let (id, visitor, widget) = (
            conversation.row.id,
            conversation.row.visitor,
            conversation.row.widget,
        );
        let status = conversation.row.status;
        let boxed = Some(Box::new(conversation));
        let key = if let Some(key) = self.free.pop() {
            self.slab[key as usize] = boxed;
            key
        } else {
            self.slab.push(boxed);
            u32::try_from(self.slab.len() - 1).expect("invariant: fewer conversations than 2^32")
        };
        self.by_id.insert(id, key);
        match status {
            Status::Closed => self.closed.push_back(key),
            Status::Chatting | Status::Waiting => {
                self.open_of.insert((visitor, widget), key);
                self.chatting += u32::from(status == Status::Chatting);
            }
        }
        ConversationKey(key)
    }

    /// Changes the status, and everything that is kept by status.
    pub fn set_status(&mut self, key: ConversationKey, status: Status, reason: CloseReason) {
        let conversation = self.at_mut(key);
        let before = std::mem::replace(&mut conversation.row.status, status);
        conversation.row.close_reason = reason;
        let owner = (conversation.row.visitor, conversation.row.widget);
        self.chatting -= u32::from(before == Status::Chatting);
        self.chatting += u32::from(status == Status::Chatting);
        if status == Status::Closed && before != Status::Closed {
            self.open_of.remove(&owner);
            self.closed.push_back(key.0);
        }
    }

    /// The closed one that is in memory longest, when more than `closed_max` are.
    #[must_use]
    pub fn excess_closed(&self, closed_max: usize) -> Option<ConversationKey> {
        if self.closed.len() > closed_max {
            self.closed.front().map(|&key| ConversationKey(key))
        } else {
            None
        }
    }

    /// Removes the one that `excess_closed` named; its key rests until `recycle`.
    pub fn forget_oldest_closed(&mut self) -> Option<Box<Conversation>> {
        let key = self.closed.pop_front()?;
        let conversation = self.slab[key as usize].take()?;
        self.by_id.remove(&conversation.row.id);
        self.resting.push(key);
        Some(conversation)
    }

    /// Keys freed before may be given out again.
    pub fn recycle(&mut self) {
        self.free.append(&mut self.resting);
    }
}
