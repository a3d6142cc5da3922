//! Everything together: who is there, what time it is, and who acts next. One event at a time, by virtual time; what
//! comes due at the same moment goes in the order in which it was asked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use shm_bus::BusDirectory;
use tempfile::TempDir;
use tidegate_backend::store::vfs::SimulatedDisk;
use tidegate_backend::turn::careful::Suspect;
use tidegate_protocol::Id;
use tidegate_protocol::token::Key;

use super::Outcome;
use super::backend::Backend;
use super::business::Business;
use super::check::{self, Sums};
use super::dice::Dice;
use super::gateway::Gateway;
use super::network::{Network, Wake};
use super::oracle::Oracle;
use super::plan::{Plan, START_US};
use super::speaker::Seat;
use super::trace::{Trace, note};

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Actor {
    /// The backend's turn, or its start.
    Backend,
    /// A shard's round; of shard 0 also its gateway's start.
    Shard(usize, usize),
    /// A client.
    Client(usize),
    /// A business system.
    Business,
    /// The next fault.
    Fault,
    /// A disk that fails is mended.
    Disk,
}

/// Why somebody acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    /// It planned to, and has not acted since.
    Planned,
    /// Something happened.
    Woken,
}

/// A gateway, or the hole where one was.
pub(super) struct Post {
    pub gateway: Option<Gateway>,
    /// When it starts again, if it is gone, µs.
    pub back_at_us: u64,
    /// Points that it still passes before it dies; 0: it lives on.
    pub armed: u64,
    /// It stands still until then, µs.
    pub stalled_until_us: u64,
}

/// See the module.
pub struct World {
    pub(super) plan: Plan,
    pub(super) now_us: u64,
    /// The wall clock minus the true time, µs.
    pub(super) wall_offset_us: i64,
    pub(super) dice: Dice,
    pub(super) trace: Trace,
    pub(super) network: Network,
    pub(super) key: Key,
    pub(super) bus: BusDirectory,
    pub(super) disk: SimulatedDisk,
    pub(super) posts: Vec<Post>,
    pub(super) backend: Option<Backend>,
    pub(super) backend_back_at_us: u64,
    pub(super) backend_armed: u64,
    pub(super) backend_stalled_until_us: u64,
    pub(super) suspect: Option<Suspect>,
    /// A synchronisation was made to fail: the backend may end with a sentence, also later.
    pub(super) may_break: bool,
    /// How many buses there were.
    pub(super) buses: u32,
    pub(super) seats: Vec<Seat>,
    pub(super) business: Option<Business>,
    pub(super) oracle: Oracle,
    /// What goes wrong was put right, and nothing new is begun.
    pub(super) settling: bool,
    pub(super) figures: Figures,
    queue: BinaryHeap<Reverse<(u64, u64, Actor, Why)>>,
    asked: u64,
    /// When each wants to act by itself; what it wanted before is void.
    due_us: BTreeMap<Actor, u64>,
    /// Where the bus is, for as long as the world is.
    pub(super) directory: TempDir,
}

/// What happened how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events.
    pub events: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Backends that died.
    pub backend_deaths: u64,
    /// Gateways that died.
    pub gateway_deaths: u64,
    /// Messages that clients were told are accepted.
    pub accepted: u64,
    /// Times that a full ring made a connection wait for what it is owed.
    pub behind: u64,
}

impl World {
    /// The world of a seed, at its beginning.
    pub fn new(seed: u64, printing: bool) -> Self {
        let mut dice = Dice::new(seed);
        shm_bus::seed_instance_ids(Some(dice.number()));
        let plan = Plan::new(&mut dice);
        let directory = tempfile::Builder::new()
            .prefix("tidegate-simulate-")
            .tempdir_in(scratch())
            .expect("a directory of our own");
        let disk = SimulatedDisk::new(dice.number());
        let bus = BusDirectory::open_or_create(directory.path().join("bus")).expect("a bus");
        let network = Network::new(dice.fork());
        let posts = (0..plan.gateways).map(|_| Post {
            gateway: None,
            back_at_us: START_US,
            armed: 0,
            stalled_until_us: 0,
        });
        let mut key = [0; 32];
        dice.fill(&mut key);
        let mut world = Self {
            posts: posts.collect(),
            plan,
            now_us: START_US,
            wall_offset_us: 0,
            dice,
            trace: Trace::new(START_US, printing),
            network,
            key: Key::new(key),
            bus,
            disk,
            backend: None,
            backend_back_at_us: START_US,
            backend_armed: 0,
            backend_stalled_until_us: 0,
            suspect: None,
            may_break: false,
            buses: 1,
            seats: Vec::new(),
            business: None,
            oracle: Oracle::default(),
            settling: false,
            figures: Figures::default(),
            queue: BinaryHeap::new(),
            asked: 0,
            due_us: BTreeMap::new(),
            directory,
        };
        let kinds: Vec<_> = world.plan.menu.kinds().collect();
        note!(world, "seed {seed}: {kinds:?}");
        world.start_backend();
        world.employ_agents();
        for post in 0..world.posts.len() {
            world.start_gateway(post);
        }
        world.invite_clients();
        world
    }

    /// Something happens for somebody at that time, or now if it is past.
    pub(super) fn wake(&mut self, at_us: u64, actor: Actor) {
        self.push(at_us, actor, Why::Woken);
    }

    /// Somebody acts at that time, unless it acts before; what it planned before is void.
    pub(super) fn plan_next(&mut self, at_us: u64, actor: Actor) {
        let at_us = at_us.max(self.now_us);
        self.due_us.insert(actor, at_us);
        if at_us < u64::MAX {
            self.push(at_us, actor, Why::Planned);
        }
    }

    fn push(&mut self, at_us: u64, actor: Actor, why: Why) {
        self.asked += 1;
        let at_us = at_us.max(self.now_us);
        self.queue.push(Reverse((at_us, self.asked, actor, why)));
    }

    /// Lets the storm rage, then puts everything right and waits until all is quiet.
    pub fn run(&mut self) {
        if let Some(pause_us) = self.plan.menu.pause_us(&mut self.dice) {
            self.plan_next(self.now_us + pause_us, Actor::Fault);
        }
        let storm_ends_us = START_US + self.plan.storm_us;
        self.run_until(storm_ends_us, |_| false);
        if !self.is_over() {
            self.settle();
        }
    }

    /// Compares what was promised with what is stored.
    pub fn outcome(mut self, seed: u64) -> Outcome {
        let capacities = (1..).map(Id).zip(self.plan.agent_capacities.clone());
        let capacities: Vec<(Id, u32)> = capacities.collect();
        let mut ledger = Sums::default();
        if !self.is_over() {
            let place = self.disk.options(self.plan.backend.store.clone()).place;
            let keeps_all = self.plan.backend.rules.messages_kept_us == 0;
            match check::compare(&mut self.oracle, &place, &capacities, keeps_all) {
                Ok(sums) => ledger = sums,
                Err(error) => self.oracle.fail(error),
            }
            let shows = self.seats.iter().flat_map(|seat| seat.speaker.shows());
            if let Err(error) = check::shows_what_is_stored(&place, shows) {
                self.oracle.fail(error);
            }
        }
        note!(self, "{ledger:?}");
        let counters = self.backend.as_ref().map(|backend| backend.handle.live());
        self.figures.behind += counters.map_or(0, |live| live.counters.marked_behind);
        self.figures.accepted = self.oracle.accepted.len() as u64;
        Outcome {
            seed,
            trace_hash: self.trace.hash(),
            simulated_us: self.now_us - START_US,
            figures: self.figures,
            ledger,
            failure: self.oracle.failures.first().cloned(),
        }
    }

    /// A promise was broken: going on would only bury it.
    pub(super) fn is_over(&self) -> bool {
        !self.oracle.failures.is_empty()
    }

    /// Acts until that time, or until `done`.
    pub(super) fn run_until(&mut self, until_us: u64, mut done: impl FnMut(&mut Self) -> bool) {
        while let Some(&Reverse((at_us, _, actor, why))) = self.queue.peek() {
            if at_us > until_us || self.is_over() {
                break;
            }
            self.queue.pop();
            if why == Why::Planned && self.due_us.get(&actor) != Some(&at_us) {
                continue;
            }
            self.due_us.remove(&actor);
            self.now_us = at_us;
            self.figures.events += 1;
            match actor {
                Actor::Backend => self.backend_acts(),
                Actor::Shard(post, shard) => self.shard_acts(post, shard),
                Actor::Client(client) => self.client_acts(client),
                Actor::Business => self.business_acts(),
                Actor::Fault => self.fault_strikes(),
                Actor::Disk => self.disk.heal(),
            }
            self.pass_wakes_on();
            if done(self) {
                return;
            }
        }
        self.now_us = self.now_us.max(until_us);
    }

    /// What the network has for somebody becomes their event.
    fn pass_wakes_on(&mut self) {
        let mut wakes = std::mem::take(&mut self.network.wakes);
        for (at_us, wake) in wakes.drain(..) {
            let actor = match wake {
                Wake::Client(client) => Actor::Client(client),
                Wake::Shard(post, shard) => Actor::Shard(post, shard),
            };
            self.wake(at_us, actor);
        }
        self.network.wakes = wakes;
    }

    /// Whoever sleeps and whose bell was rung acts.
    pub(super) fn listen_to_bells(&mut self) {
        let mut rung = Vec::new();
        if is_rung(self.backend.as_mut().and_then(Backend::doorbell)) {
            rung.push(Actor::Backend);
        }
        for (number, post) in self.posts.iter_mut().enumerate() {
            let Some(gateway) = &mut post.gateway else {
                continue;
            };
            for shard in 0..gateway.shards.len() {
                if is_rung(gateway.doorbell(shard)) {
                    rung.push(Actor::Shard(number, shard));
                }
            }
        }
        for actor in rung {
            let wake_us = self.dice.between(5, 60);
            self.wake(self.now_us + wake_us, actor);
        }
    }

    /// The wall's time, µs.
    pub(super) fn wall_us(&self) -> u64 {
        self.now_us.saturating_add_signed(self.wall_offset_us)
    }
}

fn is_rung(bell: Option<std::os::fd::BorrowedFd<'_>>) -> bool {
    let Some(bell) = bell else { return false };
    let mut bells = [PollFd::from_borrowed_fd(bell, PollFlags::IN)];
    poll(&mut bells, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Memory if there is some: nothing here has to survive.
fn scratch() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}
