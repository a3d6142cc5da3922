//! What the crowd knows of one of its people beside the client: visitors talk in their own conversation; agents talk in
//! the conversations that they are given.

use std::collections::VecDeque;

use tidegate_protocol::{Id, fb};

use crate::rig::journal::Mark;

/// One of a crowd.
#[derive(Debug)]
pub struct Person {
    /// A visitor, or an agent.
    pub role: fb::Role,
    /// The conversations that it is part of and that are open.
    pub rooms: Vec<Id>,
    /// How often it was welcomed: once for each connection.
    pub welcomes: u64,
    /// How many of its pings were answered.
    pub pongs: u64,
    /// How often it was told that the server goes away.
    pub goaways: u64,
    /// Messages ever said; the client counts them in the same way.
    pub(super) said: u32,
    /// When those were said that are not answered yet.
    pub(super) asked: VecDeque<(u32, u64)>,
    pub(super) number: u32,
}

impl Person {
    pub(super) const fn new(role: fb::Role, number: u32) -> Self {
        Self {
            role,
            rooms: Vec::new(),
            welcomes: 0,
            pongs: 0,
            goaways: 0,
            said: 0,
            asked: VecDeque::new(),
            number,
        }
    }

    pub(super) const fn mark(&self, key: u32) -> Mark {
        Mark {
            member: self.number,
            key,
        }
    }

    /// Where it would say something now: `None` in an own conversation, else one that it was given.
    pub(super) fn place(&self, random: &mut fastrand::Rng) -> Option<Option<Id>> {
        if self.role == fb::Role::Visitor {
            return Some(None);
        }
        if self.rooms.is_empty() {
            return None;
        }
        Some(Some(self.rooms[random.usize(..self.rooms.len())]))
    }

    /// Takes the time at which a message was said; messages before it were answered or given up.
    pub(super) fn take_asked(&mut self, key: u32) -> Option<u64> {
        let place = self.asked.iter().position(|(asked, _)| *asked == key)?;
        self.asked.remove(place).map(|(_, at_us)| at_us)
    }
}
