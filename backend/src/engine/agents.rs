//! Agents: who is there, who is given conversations, and who is next.
//!
//! A conversation goes to the online agent with the fewest open ones below capacity; among equals to the one whose
//! last assignment is longest ago. All of it happens within one input of one thread, so no race can break a capacity.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_protocol::Id;

use super::kinds::{AgentStatus, Role};
use super::marks::Register;
use super::rows::AgentRow;

/// Whether an agent's page is open somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attendance {
    /// At least one connection.
    Connected,
    /// The last connection went; still counts as there until the deadline.
    Leaving {
        /// When the agent counts as gone.
        until_us: u64,
    },
    /// This backend started and has not heard of the agent yet: gets nothing new, keeps what they have.
    Expected {
        /// When the agent counts as gone.
        until_us: u64,
    },
    /// Not there.
    Gone,
}

/// One agent or supervisor.
#[derive(Debug)]
pub struct Agent {
    /// As an administrator made them.
    pub row: AgentRow,
    /// What they chose.
    pub chosen: Register<AgentStatus>,
    /// Whether they are there.
    pub attendance: Attendance,
    /// Keys of the conversations they have.
    pub open: BTreeSet<u32>,
    /// Number of their newest assignment over all agents.
    pub assigned_no: u64,
}

impl Agent {
    /// What others see and what assignment goes by.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        match self.attendance {
            Attendance::Connected | Attendance::Leaving { .. } if !self.row.disabled => {
                self.chosen.value
            }
            _ => AgentStatus::Offline,
        }
    }

    /// Open conversations.
    #[must_use]
    pub fn open_count(&self) -> u32 {
        u32::try_from(self.open.len()).unwrap_or(u32::MAX)
    }

    fn room(&self) -> u32 {
        let mutant = shm_bus::mutant::is_planted("capacity_off_by_one");
        self.row.capacity.saturating_add(u32::from(mutant))
    }

    /// Online with room for one more, and really there: who is leaving keeps what they have, and is given nothing.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.attendance == Attendance::Connected
            && self.status() == AgentStatus::Online
            && self.open_count() < self.room()
    }
}

/// All agents, and those with room in the order in which they are served.
#[derive(Debug, Default)]
pub struct Agents {
    agents: BTreeMap<Id, Agent>,
    /// (the load generator's, open, number of the newest assignment, id), exactly those with room.
    with_room: BTreeSet<(bool, u32, u64, Id)>,
    online: u32,
    assignments: u64,
    /// Attendance that ends: (when, who).
    deadlines: BTreeSet<(u64, Id)>,
}

impl Agents {
    /// One agent.
    #[must_use]
    pub fn get(&self, id: Id) -> Option<&Agent> {
        self.agents.get(&id)
    }

    /// All, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Agent> {
        self.agents.values()
    }

    /// How many are online; the load generator's do not count.
    #[must_use]
    pub const fn online(&self) -> u32 {
        self.online
    }

    /// The role of a principal, if it is an agent's.
    #[must_use]
    pub fn role_of(&self, id: Id) -> Option<Role> {
        self.agents.get(&id).map(|agent| agent.row.role)
    }

    /// The agent who gets the next conversation: a real one, or one of the load generator's.
    #[must_use]
    pub fn next(&self, synthetic: bool) -> Option<Id> {
        let first = self.with_room.range((synthetic, 0, 0, Id(0))..).next();
        first
            .filter(|found| found.0 == synthetic)
            .map(|found| found.3)
    }

    /// Forgets an agent; true when there was one, without a conversation.
    pub fn remove(&mut self, id: Id) -> bool {
        if self
            .agents
            .get(&id)
            .is_none_or(|agent| !agent.open.is_empty())
        {
            return false;
        }
        self.attend(id, Attendance::Gone);
        self.agents.remove(&id).is_some()
    }

    /// New settings of an agent, or a new one: not there, and with the status that new ones begin with.
    pub fn put(&mut self, row: AgentRow, chosen: Register<AgentStatus>) {
        let id = row.id;
        if self.agents.contains_key(&id) {
            self.change(id, |agent| agent.row = row);
            return;
        }
        let agent = Agent {
            row,
            chosen,
            attendance: Attendance::Gone,
            open: BTreeSet::new(),
            assigned_no: 0,
        };
        self.agents.insert(id, agent);
    }

    /// Everything that may change whether an agent has room goes through here, so that `with_room` and `online`
    /// always agree with the agents. True when the status that others see changed.
    fn change(&mut self, id: Id, edit: impl FnOnce(&mut Agent)) -> bool {
        let Some(agent) = self.agents.get_mut(&id) else {
            return false;
        };
        let before = agent.status();
        let place = |agent: &Agent| (id.is_synthetic(), agent.open_count(), agent.assigned_no, id);
        self.with_room.remove(&place(agent));
        edit(agent);
        let after = agent.status();
        if agent.has_room() {
            self.with_room.insert(place(agent));
        }
        let counts = |status| status == AgentStatus::Online && !id.is_synthetic();
        let (was_online, is_online) = (counts(before), counts(after));
        if is_online && !was_online {
            self.online += 1;
        } else if was_online && !is_online {
            self.online -= 1;
        }
        before != after
    }

    /// The agent chose a status; the later write wins. True when what others see changed.
    pub fn choose(&mut self, id: Id, write: Register<AgentStatus>) -> bool {
        self.change(id, |agent| agent.chosen = agent.chosen.merge(write))
    }

    /// The agent's attendance changed. True when what others see changed.
    pub fn attend(&mut self, id: Id, attendance: Attendance) -> bool {
        let Some(agent) = self.agents.get(&id) else {
            return false;
        };
        if let Attendance::Expected { until_us } | Attendance::Leaving { until_us } =
            agent.attendance
        {
            self.deadlines.remove(&(until_us, id));
        }
        if let Attendance::Expected { until_us } | Attendance::Leaving { until_us } = attendance {
            self.deadlines.insert((until_us, id));
        }
        self.change(id, |agent| agent.attendance = attendance)
    }

    /// The next agent whose grace is over, and when the next one's is.
    #[must_use]
    pub fn next_deadline(&self) -> Option<(u64, Id)> {
        self.deadlines.first().copied()
    }

    /// The agent has one conversation more.
    pub fn give(&mut self, id: Id, conversation: u32) {
        self.assignments += 1;
        let number = self.assignments;
        self.change(id, |agent| {
            agent.open.insert(conversation);
            agent.assigned_no = number;
        });
    }

    /// The agent had one at start; not an assignment.
    pub fn restore(&mut self, id: Id, conversation: u32) {
        self.change(id, |agent| {
            agent.open.insert(conversation);
        });
    }

    /// The agent has one conversation less.
    pub fn take(&mut self, id: Id, conversation: u32) {
        self.change(id, |agent| {
            agent.open.remove(&conversation);
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::clock::Stamp;
    use super::*;

    fn row(id: u128, capacity: u32) -> AgentRow {
        AgentRow {
            site_id: 1,
            id: Id(id),
            login: format!("a{id}"),
            name: format!("A{id}"),
            role: Role::Agent,
            capacity,
            disabled: false,
            password_hash: String::new(),
            tokens_valid_from_s: 0,
            created_at_us: 0,
        }
    }

    #[derive(Debug, Clone)]
    enum Op {
        Give,
        Take(prop::sample::Index),
        Attend(u128, bool),
        Choose(u128, AgentStatus),
        Resize(u128, u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        let status = prop_oneof![
            Just(AgentStatus::Online),
            Just(AgentStatus::Away),
            Just(AgentStatus::Offline)
        ];
        prop_oneof![
            5 => Just(Op::Give),
            3 => any::<prop::sample::Index>().prop_map(Op::Take),
            1 => (1..5_u128, any::<bool>()).prop_map(|(id, there)| Op::Attend(id, there)),
            1 => (1..5_u128, status).prop_map(|(id, status)| Op::Choose(id, status)),
            1 => (1..5_u128, 0..5_u32).prop_map(|(id, capacity)| Op::Resize(id, capacity)),
        ]
    }

    proptest! {
        #[test]
        fn the_next_agent_is_the_one_a_search_over_all_would_find(ops in prop::collection::vec(op(), 1..200)) {
            let mut agents = Agents::default();
            for id in 1..5_u128 {
                let chosen = Register { stamp: Stamp(0), node: 0, value: AgentStatus::Online };
                agents.put(row(id, 2), chosen);
            }
            let mut given: Vec<(Id, u32)> = Vec::new();
            for (no, op) in (1_u32..).zip(ops) {
                match op {
                    Op::Give => if let Some(id) = agents.next(false) {
                        agents.give(id, no);
                        given.push((id, no));
                    },
                    Op::Take(index) => if !given.is_empty() {
                        let (id, key) = given.remove(index.index(given.len()));
                        agents.take(id, key);
                    },
                    Op::Attend(id, there) => {
                        let attendance = if there { Attendance::Connected } else { Attendance::Gone };
                        agents.attend(Id(id), attendance);
                    }
                    Op::Choose(id, value) => {
                        agents.choose(Id(id), Register { stamp: Stamp(u64::from(no)), node: 0, value });
                    }
                    Op::Resize(id, capacity) => {
                        let chosen = agents.get(Id(id)).unwrap().chosen;
                        agents.put(row(id, capacity), chosen);
                    }
                }
                let naive = agents.iter().filter(|agent| agent.has_room())
                    .min_by_key(|agent| (agent.open_count(), agent.assigned_no, agent.row.id))
                    .map(|agent| agent.row.id);
                prop_assert_eq!(agents.next(false), naive);
                prop_assert_eq!(agents.next(true), None);
                let online = agents.iter().filter(|agent| agent.status() == AgentStatus::Online).count();
                prop_assert_eq!(agents.online() as usize, online);
            }
        }
    }
}
