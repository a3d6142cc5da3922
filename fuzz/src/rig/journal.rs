//! What each client saw, in the order in which it saw it: enough to prove afterwards what was kept and what was not.
//!
//! A text names its sender and the sender's count ([`Mark`]), so that every copy of it can be recognised wherever it
//! turns up, under whatever id. Conversations are numbered as they turn up: an entry occupies 40 bytes.

use std::collections::HashMap;
use std::fmt;

use tidegate_protocol::Id;

/// Which message: the `key`-th of a member of the crowd. It stands at the beginning of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark {
    /// Whose.
    pub member: u32,
    /// Which of theirs, from 1.
    pub key: u32,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{} ", self.member, self.key)
    }
}

impl Mark {
    /// The mark at the beginning of a text.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let (mark, _) = text.strip_prefix('#')?.split_once(' ')?;
        let (member, key) = mark.split_once('.')?;
        Some(Self {
            member: member.parse().ok()?,
            key: key.parse().ok()?,
        })
    }

    /// A text of so many bytes (or what the mark needs) that begins with it.
    #[must_use]
    pub fn text(self, bytes: usize) -> String {
        let mut text = self.to_string();
        text.extend(std::iter::repeat_n('.', bytes.saturating_sub(text.len())));
        text
    }
}

/// A conversation, numbered as it turned up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Room(pub u32);

/// One thing that a client saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It was about to say something.
    Sent(Mark),
    /// The server said that it has it.
    Accepted {
        /// What.
        mark: Mark,
        /// With `n` its id.
        session: u64,
        /// Counts up by one.
        n: u64,
        /// Where.
        room: Room,
        /// Its place there.
        seq: u64,
    },
    /// The server said that it will not have it.
    Refused(Mark),
    /// A message came, and was the next.
    Received {
        /// By whom it was received.
        member: u32,
        /// Where.
        room: Room,
        /// Its place there.
        seq: u64,
        /// What it says; `None`: the system's, or of nobody here.
        mark: Option<Mark>,
    },
    /// The server said that after < seq ≤ to does not come.
    Hole {
        /// To whom.
        member: u32,
        /// Where.
        room: Room,
        /// The last that they have.
        after: u64,
        /// The last that is missing.
        to: u64,
        /// It is another history.
        reset: bool,
    },
    /// A message was missing for so long that the client asked again: a gap that nobody announced.
    Missed {
        /// Whose.
        member: u32,
        /// Where.
        room: Room,
        /// The last before the gap.
        after: u64,
    },
    /// At the end, it has everything up to here.
    Holds {
        /// Who.
        member: u32,
        /// Where.
        room: Room,
        /// Up to where.
        seq: u64,
    },
}

const _: () = assert!(size_of::<Entry>() <= 40);

/// All entries of a crowd, in order.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Vec<Entry>,
    rooms: Vec<Id>,
    numbers: HashMap<Id, Room>,
}

impl Journal {
    /// Appends.
    pub fn write(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// What was written.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The number of a conversation.
    pub fn room(&mut self, conversation: Id) -> Room {
        let next = Room(u32::try_from(self.rooms.len()).unwrap_or(u32::MAX));
        *self.numbers.entry(conversation).or_insert_with(|| {
            self.rooms.push(conversation);
            next
        })
    }

    /// All conversations that turned up.
    #[must_use]
    pub fn rooms(&self) -> &[Id] {
        &self.rooms
    }

    /// The conversation of a number.
    #[must_use]
    pub fn conversation(&self, room: Room) -> Id {
        self.rooms[room.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_again_in_its_text() {
        let mark = Mark { member: 17, key: 4 };
        assert_eq!(mark.text(40).len(), 40);
        assert_eq!(Mark::of(&mark.text(40)), Some(mark));
        assert_eq!(Mark::of(&mark.text(0)), Some(mark));
        assert_eq!(Mark::of("Is it in stock?"), None);
    }
}
