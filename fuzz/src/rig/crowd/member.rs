//! One of a crowd: a client, its socket, and what it does by itself. Visitors talk in their own conversation; agents say
//! that they are online, and talk in the conversations that they are given.

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use tidegate_bench::client::{Client, NEVER};
use tidegate_protocol::{Id, fb};

use super::socket::Socket;
use crate::rig::journal::Mark;

/// Members that come from one address.
const OFFICE: u32 = 250;

/// One of a crowd.
#[derive(Debug)]
pub struct Member {
    /// Its protocol's side.
    pub client: Client,
    /// A visitor, or an agent.
    pub role: fb::Role,
    /// Where it comes from.
    pub address: Ipv4Addr,
    /// The conversations that it is part of and that are open.
    pub rooms: Vec<Id>,
    /// How often it was welcomed: once for each connection.
    pub welcomes: u64,
    /// How many of its pings were answered.
    pub pongs: u64,
    /// How often it was told that the server goes away.
    pub goaways: u64,
    pub(super) socket: Option<Socket>,
    pub(super) stamp: u32,
    /// The earliest entry for it in the crowd's heap.
    pub(super) armed_us: u64,
    /// Messages ever said; the client counts them in the same way.
    pub(super) said: u32,
    /// When those were said that are not answered yet.
    pub(super) asked: VecDeque<(u32, u64)>,
    pub(super) number: u32,
}

impl Member {
    pub(super) fn new(client: Client, role: fb::Role, number: u32) -> Self {
        // 250 of one address, like an office.
        let [.., high, low] = (number / OFFICE + 1).to_be_bytes();
        Self {
            client,
            role,
            address: Ipv4Addr::new(127, 1, high, low.max(1)),
            rooms: Vec::new(),
            welcomes: 0,
            pongs: 0,
            goaways: 0,
            socket: None,
            stamp: 0,
            armed_us: NEVER,
            said: 0,
            asked: VecDeque::new(),
            number,
        }
    }

    /// Whether the server has welcomed it on this connection.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.client.phase() == tidegate_bench::client::Phase::Open
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
