//! A gateway process: a real segment on the real bus, and shards that run the chat over the simulated driver. What
//! `gateway::run` and `gateway::driver::drive` do with threads and io_uring is done here step by step.

use std::os::fd::BorrowedFd;

use shm_bus::{BusDirectory, GatewaySegment, SegmentOptions};
use tidegate_gateway::Config;
use tidegate_gateway::chat::{Chat, Settings};
use tidegate_gateway::service::Service;
use tidegate_gateway::shard::{Shard, ShardOptions};
use tidegate_gateway::time::Time;
use tidegate_gateway::trusted::TrustedProxies;
use tidegate_protocol::bus::BUS_PROTOCOL;
use tidegate_protocol::token::Key;
use tidegate_protocol::ws::handshake::{Policy, Subprotocols};

use super::dice::Dice;
use super::driver::{Completion, SimulatedDriver};
use super::network::{LineId, Network};

/// A shard looks around at least so often, µs.
const VISIT_US: u64 = 100_000;
/// Completions that are handed out in one round.
const ROUND_COMPLETIONS_MAX: usize = 64;

/// What one round may queue beyond the bound of all queues, before the largest are cut off.
const ROUND_OUT_BYTES_MAX: u64 = 1 << 20;

/// Sizes of a gateway.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Shards.
    pub shards: u16,
    /// Each ring, bytes.
    pub ring_bytes: usize,
    /// Receive buffers of a shard.
    pub buffers: u16,
    /// Bytes of each.
    pub buffer_bytes: usize,
    /// What an operator may set.
    pub config: Config,
}

/// What a shard does after a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is more to do at once.
    Again,
    /// It sleeps until then, or until something happens.
    Sleeps {
        /// True time.
        until_us: u64,
    },
}

/// One shard with its kernel.
pub struct SimulatedShard {
    /// Ends before the shard's memory does.
    pub driver: SimulatedDriver,
    /// All connections of a core.
    pub shard: Shard<Chat>,
    /// It announced its sleep.
    pub asleep: bool,
    visit_at_us: u64,
}

/// A process.
pub struct Gateway {
    /// Its shards.
    pub shards: Vec<SimulatedShard>,
    /// Its name on the bus.
    pub instance: u64,
    /// Its clock minus the true time, µs.
    offset_us: i64,
    /// Bytes to send, parked, collected: of a shard, with what one round may queue beyond.
    bounds: [u64; 3],
    _segment: GatewaySegment,
}

impl Gateway {
    /// Starts one; its clock is set from the wall's, once.
    pub fn start(
        bus: &BusDirectory,
        sizes: &Sizes,
        key: &Key,
        now_us: u64,
        wall_us: u64,
        dice: &mut Dice,
    ) -> Self {
        let options = SegmentOptions {
            shards: usize::from(sizes.shards),
            ring_bytes: sizes.ring_bytes,
            record_bytes_max: sizes.ring_bytes / 4,
            protocol: BUS_PROTOCOL,
            ..SegmentOptions::default()
        };
        let mut segment =
            GatewaySegment::create(bus, &options).expect("a segment on a bus of our own");
        let now = Time::from_us(wall_us);
        let config = &sizes.config;
        let mut shards = Vec::new();
        for number in 0..sizes.shards {
            let end = segment
                .take_shard(number)
                .expect("a fresh segment's shards are there");
            let settings = Settings::new(config, key.clone(), now.us());
            let chat = Chat::new(settings, end, now);
            let seed = now.us() ^ u64::from(number);
            let mut shard = Shard::new(shard_options(config, number), chat, now, seed);
            let mut driver = SimulatedDriver::new(sizes.buffers, sizes.buffer_bytes, dice.fork());
            shard.begin_round(now);
            shard.start(&mut driver);
            shards.push(SimulatedShard {
                driver,
                shard,
                asleep: false,
                visit_at_us: now_us,
            });
        }
        Self {
            shards,
            instance: segment.instance().get(),
            offset_us: wall_us.cast_signed() - now_us.cast_signed(),
            bounds: [
                u64::from(config.out_bytes_max) + ROUND_OUT_BYTES_MAX,
                u64::from(config.parked_bytes_max),
                config.collect_bytes_max,
            ],
            _segment: segment,
        }
    }

    /// Every line of this process.
    pub fn lines(&self) -> Vec<LineId> {
        let shards = self.shards.iter();
        shards.flat_map(|shard| shard.driver.lines()).collect()
    }

    /// One round of a shard, as the driver's loop does it.
    ///
    /// # Errors
    /// The sentence with which the process ends.
    pub fn round(
        &mut self,
        number: usize,
        network: &mut Network,
        now_us: u64,
    ) -> Result<Next, String> {
        let now = Time::from_us(now_us.saturating_add_signed(self.offset_us));
        let SimulatedShard {
            driver,
            shard,
            asleep,
            visit_at_us,
        } = &mut self.shards[number];
        *asleep = false;
        driver.pump(network, now_us);
        shard.begin_round(now);
        while let Some(socket) = driver.accept() {
            shard.accepted(driver, socket);
        }
        for _ in 0..ROUND_COMPLETIONS_MAX {
            match driver.completions.pop_front() {
                None => break,
                Some(Completion::Received(key, id, length)) => {
                    shard.received(driver, key, id, length);
                }
                Some(Completion::ReceiveEnded(key, end)) => shard.receive_ended(driver, key, end),
                Some(Completion::Sent(key, sent)) => shard.sent(driver, key, sent),
            }
        }
        shard.end_round(driver);
        driver.pump(network, now_us);
        let bounds = shard.counts();
        let held = [bounds.out_bytes, bounds.parked_bytes, bounds.collect_bytes];
        if held
            .iter()
            .zip(&self.bounds)
            .any(|(held, bound)| held > bound)
        {
            return Err(format!(
                "it holds {held:?} bytes to send, parked and collected; bounds are {:?}",
                self.bounds
            ));
        }
        if let Some(broken) = &driver.broken {
            return Err(format!("the driver's contract is broken: {broken}"));
        }
        if now_us >= *visit_at_us {
            *visit_at_us = now_us + VISIT_US;
            if let Some(sentence) = shard.service().failure() {
                return Err(sentence);
            }
        }
        let has_more = !driver.completions.is_empty()
            || (driver.accepting && !driver.backlog.is_empty())
            || !shard.service().before_sleep();
        if has_more {
            return Ok(Next::Again);
        }
        *asleep = true;
        let deadline = shard.next_deadline().map_or(u64::MAX, |at| {
            at.us().saturating_add_signed(-self.offset_us)
        });
        let until_us = deadline.min(*visit_at_us).max(now_us + 1);
        Ok(Next::Sleeps { until_us })
    }

    /// The doorbell of a shard that sleeps.
    pub fn doorbell(&mut self, number: usize) -> Option<BorrowedFd<'_>> {
        let shard = &mut self.shards[number];
        let bell = shard.shard.service().doorbell()?;
        #[expect(unsafe_code, reason = "the service lends its bell by number")]
        // SAFETY: the pipe lives as long as the service, which is borrowed for as long as the descriptor.
        let bell = unsafe { BorrowedFd::borrow_raw(bell) };
        shard.asleep.then_some(bell)
    }
}

fn shard_options(config: &Config, shard: u16) -> ShardOptions {
    let policy = Policy {
        allowed_origins: config.allowed_origins.clone(),
        subprotocols: Subprotocols::Codecs,
    };
    let trusted = TrustedProxies::default();
    ShardOptions {
        shard,
        ..ShardOptions::of(config, config.connections_max, policy, trusted)
    }
}
