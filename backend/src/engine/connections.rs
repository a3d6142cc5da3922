//! Who is connected. A connection is known by its address (gateway, shard, slot, generation) and, inside, by a key
//! that indexes a slab; `bus` keeps its delivery state in a second slab under the same key.
//!
//! A key that became free is given out again only in a later turn ([`Connections::recycle`]): effects of this turn
//! may still name it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_protocol::Id;

use super::kinds::{Family, Role, Side};
use super::pages::{IdIndex, Pages};

/// Where a connection lives. A reused slot has another generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address {
    /// Instance of the gateway process.
    pub gateway: u64,
    /// Ring.
    pub shard: u16,
    /// Slot in the shard.
    pub slot: u32,
    /// Which tenant of the slot.
    pub generation: u32,
}

/// Key of a live connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(pub u32);

impl ConnectionKey {
    /// As an index of a slab.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

const NONE: u32 = u32::MAX;

/// One live, welcomed connection.
#[derive(Debug)]
pub struct Connection {
    /// Where it is.
    pub address: Address,
    /// Whose.
    pub principal: Id,
    /// Which tab.
    pub session: u64,
    /// Which connection of that tab, as it counts; 0: it does not.
    pub number: u32,
    /// Visitors: their widget.
    pub widget: u32,
    /// As whom.
    pub role: Role,
    /// What kind of client.
    pub family: Family,
    next_of_principal: u32,
}

impl Connection {
    /// The side it speaks for.
    #[must_use]
    pub const fn side(&self) -> Side {
        self.role.side()
    }
}

/// All live connections.
#[derive(Debug, Default)]
pub struct Connections {
    slab: Pages<Option<Connection>>,
    free: Vec<u32>,
    /// Freed in this turn.
    resting: Vec<u32>,
    by_slot: BTreeMap<(u64, u16), Vec<u32>>,
    /// By principal, the key of their newest.
    first_of: IdIndex,
    visitors: u32,
    agents: u32,
}

/// What is known of a new connection.
#[derive(Debug, Clone, Copy)]
pub struct NewConnection {
    /// Where it is.
    pub address: Address,
    /// Whose.
    pub principal: Id,
    /// Which tab.
    pub session: u64,
    /// Which connection of that tab, as it counts; 0: it does not.
    pub number: u32,
    /// Visitors: their widget.
    pub widget: u32,
    /// As whom.
    pub role: Role,
    /// What kind of client.
    pub family: Family,
}

impl Connections {
    /// One connection by its key.
    #[must_use]
    pub fn get(&self, key: ConnectionKey) -> Option<&Connection> {
        self.slab.get(key.index())?.as_ref()
    }

    /// The live connection in a slot, whatever its generation.
    #[must_use]
    pub fn in_slot(&self, address: Address) -> Option<ConnectionKey> {
        let slots = self.by_slot.get(&(address.gateway, address.shard))?;
        let key = *slots.get(address.slot as usize)?;
        (key != NONE).then_some(ConnectionKey(key))
    }

    /// The connection at exactly this address.
    #[must_use]
    pub fn at(&self, address: Address) -> Option<ConnectionKey> {
        let key = self.in_slot(address)?;
        (self.get(key)?.address.generation == address.generation).then_some(key)
    }

    /// The connections of a principal, newest first.
    pub fn of(&self, principal: Id) -> impl Iterator<Item = ConnectionKey> + '_ {
        let mut next = self.first_of(principal).unwrap_or(NONE);
        std::iter::from_fn(move || {
            let connection = self.slab.get(next as usize)?.as_ref()?;
            let key = ConnectionKey(next);
            next = connection.next_of_principal;
            Some(key)
        })
    }

    /// Whether a principal has any connection.
    #[must_use]
    pub fn is_connected(&self, principal: Id) -> bool {
        self.first_of(principal).is_some()
    }

    fn first_of(&self, principal: Id) -> Option<u32> {
        self.first_of
            .find(principal, |key| principal_of(&self.slab, key))
    }

    /// Live connections of visitors.
    #[must_use]
    pub const fn visitors(&self) -> u32 {
        self.visitors
    }

    /// Live connections of agents and supervisors.
    #[must_use]
    pub const fn agents(&self) -> u32 {
        self.agents
    }

    /// Keys are below this.
    #[must_use]
    pub fn keys_end(&self) -> usize {
        self.slab.len()
    }

    /// All live connections of a gateway.
    #[must_use]
    pub fn of_gateway(&self, gateway: u64) -> Vec<ConnectionKey> {
        self.by_slot
            .range((gateway, 0)..=(gateway, u16::MAX))
            .flat_map(|(_, slots)| {
                slots
                    .iter()
                    .filter(|&&key| key != NONE)
                    .map(|&key| ConnectionKey(key))
            })
            .collect()
    }

    /// Adds one; its slot must be free (`in_slot` is `None`).
    pub fn insert(&mut self, new: NewConnection) -> ConnectionKey {
        let NewConnection {
            address,
            principal,
            session,
            number,
            widget,
            role,
            family,
        } = new;
        let connection = Connection {
            address,
            principal,
            session,
            number,
            widget,
            role,
            family,
            next_of_principal: self.first_of(principal).unwrap_or(NONE),
        };
        let key = match self.free.pop() {
            Some(key) => {
                if let Some(place) = self.slab.get_mut(key as usize) {
                    *place = Some(connection);
                }
                key
            }
            None => u32::try_from(self.slab.push(Some(connection)))
                .expect("invariant: fewer connections than 2^32"),
        };
        self.lead(principal, key);
        let slots = self
            .by_slot
            .entry((address.gateway, address.shard))
            .or_default();
        let slot = address.slot as usize;
        if slots.len() <= slot {
            slots.resize(slot + 1, NONE);
        }
        slots[slot] = key;
        *self.count(role) += 1;
        ConnectionKey(key)
    }

    /// Removes one; its key rests until [`Connections::recycle`].
    pub fn remove(&mut self, key: ConnectionKey) -> Option<Connection> {
        let connection = self.get(key)?;
        self.unlink(connection.principal, key.0, connection.next_of_principal);
        let connection = self.slab.get_mut(key.index())?.take()?;
        self.resting.push(key.0);
        if let Some(slots) = self
            .by_slot
            .get_mut(&(connection.address.gateway, connection.address.shard))
            && let Some(slot) = slots.get_mut(connection.address.slot as usize)
            && *slot == key.0
        {
            *slot = NONE;
        }
        *self.count(connection.role) -= 1;
        Some(connection)
    }

    /// A connection is its principal's newest.
    fn lead(&mut self, principal: Id, key: u32) {
        let slab = &self.slab;
        self.first_of
            .set(principal, key, |key| principal_of(slab, key));
    }

    /// `key` is about to leave the list of its principal, in which `next` follows it.
    fn unlink(&mut self, principal: Id, key: u32, next: u32) {
        let Some(first) = self.first_of(principal) else {
            return;
        };
        if first == key {
            if next != NONE {
                return self.lead(principal, next);
            }
            let slab = &self.slab;
            self.first_of
                .remove(principal, |key| principal_of(slab, key));
            return;
        }
        let mut at = first;
        while let Some(Some(connection)) = self.slab.get_mut(at as usize) {
            if connection.next_of_principal == key {
                connection.next_of_principal = next;
                return;
            }
            at = connection.next_of_principal;
        }
    }

    fn count(&mut self, role: Role) -> &mut u32 {
        match role.side() {
            Side::Visitor => &mut self.visitors,
            Side::Agent => &mut self.agents,
        }
    }

    /// Keys freed before may be given out again: nothing names them any more.
    pub fn recycle(&mut self) {
        self.free.append(&mut self.resting);
    }

    /// Forgets the slots of a gateway that is gone (its connections were removed one by one).
    pub fn forget_gateway(&mut self, gateway: u64) {
        self.by_slot.retain(|&(instance, _), _| instance != gateway);
    }
}

fn principal_of(slab: &Pages<Option<Connection>>, key: u32) -> Option<Id> {
    let connection = slab.get(key as usize)?.as_ref()?;
    Some(connection.principal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(slot: u32, generation: u32, principal: u128) -> NewConnection {
        NewConnection {
            address: Address {
                gateway: 7,
                shard: 0,
                slot,
                generation,
            },
            principal: Id(principal),
            session: 1,
            number: 0,
            widget: 1,
            role: Role::Visitor,
            family: Family::H5,
        }
    }

    #[test]
    fn a_reused_slot_is_not_found_under_its_old_generation() {
        let mut all = Connections::default();
        let first = all.insert(new(3, 1, 1));
        all.remove(first);
        let second = all.insert(new(3, 2, 1));
        assert_eq!(all.at(new(3, 1, 1).address), None);
        assert_eq!(all.at(new(3, 2, 1).address), Some(second));
    }

    #[test]
    fn a_freed_key_is_not_given_out_again_within_the_turn() {
        let mut all = Connections::default();
        let first = all.insert(new(0, 1, 1));
        all.remove(first);
        assert_ne!(all.insert(new(1, 1, 1)), first);
        all.recycle();
        assert_eq!(all.insert(new(2, 1, 1)), first);
    }

    #[test]
    fn the_connections_of_a_principal_are_a_list_from_which_any_may_leave() {
        let mut all = Connections::default();
        let keys: Vec<_> = (0..4).map(|slot| all.insert(new(slot, 1, 9))).collect();
        all.remove(keys[1]);
        assert_eq!(
            all.of(Id(9)).collect::<Vec<_>>(),
            [keys[3], keys[2], keys[0]]
        );
        all.remove(keys[3]);
        all.remove(keys[0]);
        assert_eq!(all.of(Id(9)).collect::<Vec<_>>(), [keys[2]]);
        all.remove(keys[2]);
        assert!(!all.is_connected(Id(9)));
        assert_eq!(all.visitors(), 0);
    }
}
