//! A gateway as the turn sees it: two rings a shard, and whether its process lives. The real one lies in shared
//! memory ([`super::seat`]); tests and the simulator put both ends into one process ([`super::local`]).

use std::time::Duration;

use shm_bus::{Consumer, Producer};

use super::board::Board;

/// One attached gateway.
pub trait Link {
    /// Its instance, never 0.
    fn instance(&self) -> u64;
    /// How many shards.
    fn shards(&self) -> u16;
    /// The ring that leads here.
    fn to_backend(&mut self, shard: u16) -> &mut Consumer;
    /// The ring that leads there.
    fn to_gateway(&mut self, shard: u16) -> &mut Producer;
    /// Whether its process lives, stopped or not.
    fn is_alive(&self) -> bool;
    /// Removes what a dead one left.
    ///
    /// # Errors
    /// A sentence for the log.
    fn unlink(self) -> Result<(), String>;
}

/// How gateways are found, and how the turn sleeps.
pub trait Gateways {
    /// What is attached.
    type Link: Link;
    /// Gateways that came since the last call, attached.
    fn discover(&mut self) -> Vec<Self::Link>;
    /// Tells the gateways that this backend lives.
    fn beat(&mut self, now_us: u64);
    /// Admission tickets given out, and the frontier that stands on the bus.
    fn tickets_and_frontier(&mut self) -> (u64, u64) {
        (0, 0)
    }
    /// Lets in who has a ticket below `frontier`, and says how fast it moves, in thousandths of a ticket a second.
    fn let_in(&mut self, _frontier: u64, _per_1000_s: u64) {}
    /// Shows the figures of the last commit to whoever looks at the bus.
    fn show(&mut self, board: &Board);
    /// Lets a gateway go that lives and cannot be served: its process is told to end, and what it leaves is removed then.
    fn refuse(&mut self, link: Self::Link);
    /// Why nobody who comes now meets this backend, as of the last [`beat`](Self::beat).
    fn displaced(&self) -> Option<&str> {
        None
    }
    /// Announces the sleep: from here on producers ring.
    fn prepare_sleep(&mut self);
    /// Sleeps, after `prepare_sleep` and one more look at all rings.
    fn sleep(&mut self, most: Duration);
    /// Ends what `prepare_sleep` announced, without sleeping.
    fn stay_awake(&mut self);
}
