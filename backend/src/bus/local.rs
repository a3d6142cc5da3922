//! Gateways in this very process: the same rings over the heap, and a flag instead of a lock. For tests and the
//! simulator, which steps gateways, bus and turn on one thread in virtual time.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use shm_bus::{Consumer, Producer, RingBacking, SegmentError, ring_pair};

use super::board::Board;
use super::link::{Gateways, Link};

/// The gateway's end of one shard.
#[derive(Debug)]
pub struct LocalShard {
    /// Writes to the backend.
    pub to_backend: Producer,
    /// Reads from the backend.
    pub to_gateway: Consumer,
}

/// The gateway's end of a whole gateway.
#[derive(Debug)]
pub struct LocalGateway {
    /// Its instance.
    pub instance: u64,
    /// Its shards.
    pub shards: Vec<LocalShard>,
    alive: Rc<Cell<bool>>,
}

impl LocalGateway {
    /// As kill -9 does it: what was committed stays in the rings.
    pub fn kill(&self) {
        self.alive.set(false);
    }
}

/// The backend's end.
#[derive(Debug)]
pub struct LocalLink {
    instance: u64,
    shards: Vec<(Consumer, Producer)>,
    alive: Rc<Cell<bool>>,
    home: Weak<RefCell<Vec<LocalLink>>>,
    /// Set when the backend let go of a dead gateway for good; otherwise a dropped link goes back to the directory,
    /// as a segment stays in its directory when a backend dies.
    unlinked: bool,
}

/// The directory. Cloned, it survives a backend: what the dropped backend had attached is found again.
#[derive(Debug, Clone, Default)]
pub struct LocalBus {
    waiting: Rc<RefCell<Vec<LocalLink>>>,
}

impl LocalBus {
    /// A gateway starts.
    ///
    /// # Errors
    /// Sizes out of bounds.
    pub fn start_gateway(
        &self,
        instance: u64,
        shards: u16,
        ring_bytes: usize,
        record_bytes_max: usize,
    ) -> Result<LocalGateway, SegmentError> {
        let alive = Rc::new(Cell::new(true));
        let mut near = Vec::new();
        let mut far = Vec::new();
        for _ in 0..shards {
            let (up_producer, up_consumer) =
                ring_pair(ring_bytes, record_bytes_max, &RingBacking::Heap)?;
            let (down_producer, down_consumer) =
                ring_pair(ring_bytes, record_bytes_max, &RingBacking::Heap)?;
            near.push(LocalShard {
                to_backend: up_producer,
                to_gateway: down_consumer,
            });
            far.push((up_consumer, down_producer));
        }
        let home = Rc::downgrade(&self.waiting);
        let link = LocalLink {
            instance,
            shards: far,
            alive: Rc::clone(&alive),
            home,
            unlinked: false,
        };
        self.waiting.borrow_mut().push(link);
        Ok(LocalGateway {
            instance,
            shards: near,
            alive,
        })
    }
}

impl Gateways for LocalBus {
    type Link = LocalLink;

    fn discover(&mut self) -> Vec<LocalLink> {
        self.waiting.take()
    }

    fn beat(&mut self, _now_us: u64) {}

    fn show(&mut self, _board: &Board) {}

    fn refuse(&mut self, link: LocalLink) {
        let _always_possible_here = link.unlink();
    }

    fn prepare_sleep(&mut self) {}

    fn sleep(&mut self, _most: Duration) {}

    fn stay_awake(&mut self) {}
}

impl Link for LocalLink {
    fn instance(&self) -> u64 {
        self.instance
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).expect("invariant: made from a u16")
    }

    fn to_backend(&mut self, shard: u16) -> &mut Consumer {
        &mut self.shards[usize::from(shard)].0
    }

    fn to_gateway(&mut self, shard: u16) -> &mut Producer {
        &mut self.shards[usize::from(shard)].1
    }

    fn is_alive(&self) -> bool {
        self.alive.get()
    }

    fn unlink(mut self) -> Result<(), String> {
        self.unlinked = true;
        Ok(())
    }
}

impl Drop for LocalLink {
    fn drop(&mut self) {
        let Some(home) = self.home.upgrade().filter(|_| !self.unlinked) else {
            return;
        };
        // A backend that comes after reads again what this one did not release.
        let mut shards = std::mem::take(&mut self.shards);
        for (to_backend, _) in &mut shards {
            to_backend.rewind();
        }
        let (instance, alive) = (self.instance, Rc::clone(&self.alive));
        home.borrow_mut().push(Self {
            instance,
            shards,
            alive,
            home: self.home.clone(),
            unlinked: false,
        });
    }
}
