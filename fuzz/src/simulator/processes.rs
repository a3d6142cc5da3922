//! The processes of the world: started, stepped, killed. A process that is killed stops between two instructions that
//! a named point marks (`shm_bus::fault`); what it held is dropped, and nothing of it is stopped in order.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shm_bus::BusDirectory;
use shm_bus::fault::{self, Died};
use tidegate_backend::app::command::HttpCommand;
use tidegate_backend::config::Synchronous;
use tidegate_backend::engine::conversation::ConversationKey;
use tidegate_backend::engine::kinds::Role;
use tidegate_backend::engine::rows::AgentRow;
use tidegate_backend::store::vfs::Crash;
use tidegate_protocol::Id;

use super::backend::{self, Backend};
use super::check;
use super::gateway::{self, Gateway};
use super::network::End;
use super::plan::START_US;
use super::trace::note;
use super::world::{Actor, World};

/// The supervisor starts a process again after so long, µs.
const RESTART_US: (u64, u64) = (1_000, 3_000_000);

/// What became of a step.
enum Ended<T> {
    /// It went through.
    Stepped(T),
    /// It was killed at that point.
    Killed(String),
    /// It panicked by itself.
    Panicked(String),
}

/// Runs one step of a process that may be about to die.
fn step<T>(armed: &mut u64, run: impl FnOnce() -> T) -> Ended<T> {
    fault::arm(*armed);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    *armed = fault::disarm();
    match outcome {
        Ok(stepped) => Ended::Stepped(stepped),
        Err(panic) => match panic.downcast::<Died>() {
            Ok(died) => Ended::Killed(died.point),
            Err(panic) => Ended::Panicked(said(panic.as_ref())),
        },
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "it panicked".to_owned())
}

impl World {
    // --- the backend ------------------------------------------------------------------------------------------------

    pub(super) fn start_backend(&mut self) {
        let place = self.disk.options(self.plan.backend.store.clone()).place;
        if self.figures.backend_deaths > 0
            && let Err(error) = check::ledger_agrees(&place)
        {
            self.oracle.fail(error);
        }
        let (now_us, wall_us) = (self.now_us, self.wall_us());
        let suspect = self.suspect.take();
        let started = Backend::start(
            &self.plan.backend,
            &self.bus,
            &self.disk,
            suspect.clone(),
            now_us,
            wall_us,
            &mut self.dice,
        );
        match started {
            Ok(backend) => {
                note!(self, "backend {:016x} starts", backend.instance);
                self.oracle.backends += 1;
                self.backend = Some(backend);
                self.plan_next(now_us, Actor::Backend);
                self.everybody_speaks();
            }
            Err(error) => {
                note!(self, "backend does not start");
                self.suspect = suspect;
                if self.settling {
                    self.oracle
                        .fail(format!("the backend does not start: {error}"));
                }
                self.backend_comes_back();
            }
        }
    }

    /// Now and then all speak in the moment in which a backend comes: who is announced is announced before that.
    fn everybody_speaks(&mut self) {
        if self.settling || !self.dice.permille(400) {
            return;
        }
        for client in 0..self.seats.len() {
            self.seats[client].speaker.hurry(self.now_us);
            self.wake(self.now_us, Actor::Client(client));
        }
    }

    /// Everything ends at once, and memory is gone; the disk keeps what it had to.
    pub(super) fn lose_power(&mut self) {
        self.kill_backend("power is lost");
        self.disk.crash(Crash::Power);
        self.network.vanish(self.now_us);
        for post in 0..self.posts.len() {
            self.kill_gateway(post, "power is lost");
        }
        self.buses += 1;
        let path = self.directory.path().join(format!("bus-{}", self.buses));
        self.bus = BusDirectory::open_or_create(path).expect("a bus");
        if self.plan.backend.store.synchronous == Synchronous::Normal {
            self.forget_what_was_lost();
        }
    }

    /// Under NORMAL the newest may be gone, acknowledged or not. From here on the database is right; who was told more
    /// has to be told that.
    fn forget_what_was_lost(&mut self) {
        self.disk.heal();
        let place = self.disk.options(self.plan.backend.store.clone()).place;
        match check::forget_what_was_lost(&mut self.oracle, &place) {
            Ok(lost) => note!(self, "{lost} acknowledged messages are lost with the power"),
            Err(error) => self.oracle.fail(error),
        }
        for seat in &mut self.seats {
            seat.speaker.power_was_lost();
        }
        if let Some(business) = &mut self.business {
            business.power_was_lost();
        }
    }

    fn backend_comes_back(&mut self) {
        let after_us = self.dice.scale(RESTART_US.0, RESTART_US.1);
        self.backend_back_at_us = self.now_us + after_us;
        self.plan_next(self.backend_back_at_us, Actor::Backend);
    }

    pub(super) fn kill_backend(&mut self, how: &str) {
        // What it decided in its last turn may have gone out.
        self.look_at_the_engine();
        if let Some(backend) = self.backend.take() {
            note!(self, "backend {:016x} dies: {how}", backend.instance);
            self.figures.behind += backend.handle.live().counters.marked_behind;
            // First the disk: dropped after it, the store cannot tidy up any more.
            self.disk.crash(Crash::Process);
            drop(backend);
            self.figures.backend_deaths += 1;
            self.backend_armed = 0;
            self.backend_comes_back();
        }
    }

    pub(super) fn backend_acts(&mut self) {
        let now_us = self.now_us;
        if self.backend_stalled_until_us > now_us {
            return self.plan_next(self.backend_stalled_until_us, Actor::Backend);
        }
        let Some(backend) = &mut self.backend else {
            if now_us >= self.backend_back_at_us {
                self.start_backend();
            } else {
                self.plan_next(self.backend_back_at_us, Actor::Backend);
            }
            return;
        };
        match step(&mut self.backend_armed, || backend.step(now_us)) {
            Ended::Stepped(Ok(next)) => {
                let next_us = match next {
                    backend::Next::Again => now_us + self.dice.between(20, 200),
                    backend::Next::Sleeps { until_us } => until_us,
                };
                self.plan_next(next_us, Actor::Backend);
                if next == backend::Next::Again {
                    note!(self, "a turn");
                    self.look_at_the_engine();
                    self.listen_to_bells();
                }
            }
            Ended::Stepped(Err(error)) => {
                self.suspect = Some(backend.broken(&error));
                if !self.may_break {
                    self.oracle.fail(format!("the turn broke: {error}"));
                }
                self.kill_backend(&format!("it broke: {error}"));
            }
            Ended::Killed(point) => self.kill_backend(&point),
            Ended::Panicked(said) => {
                self.suspect = Some(backend.broken(&said));
                self.oracle.fail(format!("the backend panicked: {said}"));
                self.kill_backend("it panicked");
            }
        }
    }

    /// What must hold of the engine after every turn.
    fn look_at_the_engine(&mut self) {
        let Some(backend) = &self.backend else { return };
        let engine = backend.turn.engine();
        for agent in engine.agents().iter() {
            if agent.open_count() > agent.row.capacity {
                self.oracle.failures.push(format!(
                    "agent {} has {} conversations and room for {}",
                    agent.row.id,
                    agent.open_count(),
                    agent.row.capacity
                ));
            }
        }
        let keys = 0..u32::try_from(engine.conversations().keys_end()).expect("few");
        for conversation in keys.filter_map(|key| engine.conversations().get(ConversationKey(key)))
        {
            let row = &conversation.row;
            self.oracle.visitor_of.entry(row.id).or_insert(row.visitor);
            self.oracle.assigned(row.id, row.agent, conversation.seq);
        }
    }

    /// Accounts are made before anybody comes.
    pub(super) fn employ_agents(&mut self) {
        let capacities = self.plan.agent_capacities.clone();
        for (number, capacity) in (1..).zip(capacities) {
            let agent = AgentRow {
                site_id: 1,
                id: Id(number),
                login: format!("agent{number}"),
                name: format!("Agent {number}"),
                role: Role::Agent,
                capacity,
                disabled: false,
                password_hash: "none".to_owned(),
                tokens_valid_from_s: 0,
                created_at_us: START_US,
            };
            let backend = self.backend.as_mut().expect("it was just started");
            let asked = backend.handle.ask(HttpCommand::PutAgent { agent });
            asked.expect("an empty queue");
            let now_us = self.now_us;
            backend.step(now_us).expect("a fresh store commits");
        }
        // A power cut does not take them.
        let backend = self.backend.as_mut().expect("it was just started");
        let emptied = backend.turn.store_mut().checkpoint();
        emptied.expect("a fresh disk synchronises");
    }

    // --- gateways ---------------------------------------------------------------------------------------------------

    pub(super) fn start_gateway(&mut self, number: usize) {
        let (now_us, wall_us) = (self.now_us, self.wall_us());
        let gateway = Gateway::start(
            &self.bus,
            &self.plan.gateway,
            &self.key,
            now_us,
            wall_us,
            &mut self.dice,
        );
        note!(self, "gateway {number} {:016x} starts", gateway.instance);
        for shard in 0..gateway.shards.len() {
            self.plan_next(now_us, Actor::Shard(number, shard));
        }
        let post = &mut self.posts[number];
        post.gateway = Some(gateway);
        post.armed = 0;
        // A backend that sleeps is told by the bell.
        self.listen_to_bells();
    }

    pub(super) fn kill_gateway(&mut self, number: usize, how: &str) {
        let Some(gateway) = self.posts[number].gateway.take() else {
            return;
        };
        note!(
            self,
            "gateway {number} {:016x} dies: {how}",
            gateway.instance
        );
        // The kernel closes its sockets.
        for line in gateway.lines() {
            self.network.close(line, End::Server, self.now_us);
        }
        drop(gateway);
        self.figures.gateway_deaths += 1;
        let after_us = self.dice.scale(RESTART_US.0, RESTART_US.1);
        let post = &mut self.posts[number];
        post.armed = 0;
        post.back_at_us = self.now_us + after_us;
        let back_at_us = post.back_at_us;
        self.plan_next(back_at_us, Actor::Shard(number, 0));
    }

    pub(super) fn shard_acts(&mut self, number: usize, shard: usize) {
        let now_us = self.now_us;
        let post = &mut self.posts[number];
        if post.stalled_until_us > now_us {
            let until_us = post.stalled_until_us;
            return self.plan_next(until_us, Actor::Shard(number, shard));
        }
        let Some(gateway) = &mut post.gateway else {
            let back_at_us = post.back_at_us;
            if now_us >= back_at_us {
                self.start_gateway(number);
            } else {
                self.plan_next(back_at_us, Actor::Shard(number, 0));
            }
            return;
        };
        let network = &mut self.network;
        match step(&mut post.armed, || gateway.round(shard, network, now_us)) {
            Ended::Stepped(Ok(next)) => {
                let next_us = match next {
                    gateway::Next::Again => now_us + self.dice.between(5, 50),
                    gateway::Next::Sleeps { until_us } => until_us,
                };
                self.plan_next(next_us, Actor::Shard(number, shard));
                self.listen_to_bells();
            }
            Ended::Stepped(Err(sentence)) => {
                self.oracle.fail(format!("a gateway ended: {sentence}"));
                self.kill_gateway(number, "it failed");
            }
            Ended::Killed(point) => self.kill_gateway(number, &point),
            Ended::Panicked(said) => {
                self.oracle.fail(format!("a gateway panicked: {said}"));
                self.kill_gateway(number, "it panicked");
            }
        }
    }
}
