//! What a seed decides before anything happens: the sizes of the world, who is there, what may go wrong.

use tidegate_backend::admission::Limits;
use tidegate_backend::app::run::rules_of;
use tidegate_backend::config::{Config, Synchronous};
use tidegate_backend::store::StoreOptions;
use tidegate_backend::store::load::LoadBounds;
use tidegate_backend::store::open::Place;
use tidegate_backend::turn::TurnLimits;

use super::backend;
use super::dice::Dice;
use super::faults::{Fault, Menu};
use super::gateway;

/// 2026-11-21 12:00 UTC: where virtual time begins, µs.
pub const START_US: u64 = 1_795_262_400_000_000;

/// A world's sizes.
pub struct Plan {
    /// Processes that hold sockets.
    pub gateways: usize,
    /// How each is started.
    pub gateway: gateway::Sizes,
    /// How the backend is started.
    pub backend: backend::Start,
    /// Ordinary visitors.
    pub visitors: usize,
    /// Of so many of a thousand people there is a second device.
    pub second_devices_permille: u64,
    /// Ordinary agents, and how much each may have.
    pub agent_capacities: Vec<u32>,
    /// Clients that speak the protocol as they like.
    pub wild: usize,
    /// Clients that mean harm.
    pub hostile: usize,
    /// Somebody speaks over HTTP.
    pub has_business: bool,
    /// The longest text of anybody has at least so many bytes.
    pub text_bytes_least: u64,
    /// How long things go wrong, µs.
    pub storm_us: u64,
    /// What may go wrong.
    pub menu: Menu,
}

impl Plan {
    /// The plan of a seed.
    pub fn new(dice: &mut Dice) -> Self {
        let mut menu = Menu::new(dice);
        let two_gateways = dice.permille(600);
        // Many talk at once, and long: a shard that stands still meanwhile finds its ring full.
        let is_crowded = dice.permille(150);
        if is_crowded {
            menu.add(Fault::ShardStalls);
        }
        let (visitors, capacity) = if is_crowded {
            ((8, 12), (4, 8))
        } else {
            ((2, 5), (1, 3))
        };
        let shards = if two_gateways || dice.permille(300) {
            1
        } else {
            2
        };
        Self {
            gateways: if two_gateways { 2 } else { 1 },
            // All may come to the same shard.
            gateway: gateway_sizes(dice, shards, is_crowded),
            backend: backend_start(dice),
            visitors: usize::try_from(dice.between(visitors.0, visitors.1)).expect("few"),
            agent_capacities: (0..dice.between(1, 3))
                .map(|_| u32::try_from(dice.between(capacity.0, capacity.1)).expect("few"))
                .collect(),
            second_devices_permille: *dice.pick(&[0, 0, 0, 500]),
            wild: usize::try_from(dice.below(3)).expect("few"),
            hostile: usize::try_from(dice.below(3)).expect("few"),
            has_business: dice.permille(300),
            text_bytes_least: if is_crowded { 8_000 } else { 8 },
            storm_us: dice.between(2_000, 20_000) * 1_000,
            menu,
        }
    }
}

fn gateway_sizes(dice: &mut Dice, shards: u16, is_crowded: bool) -> gateway::Sizes {
    // A crowd's agent may have eight conversations, and each may bring a window and one text more at once.
    let (connections_least, out_kib_least) = if is_crowded { (40, 256) } else { (20, 64) };
    let kib = |dice: &mut Dice, from, to| {
        u32::try_from(dice.scale(from, to) * 1024).expect("invariant: a few MiB")
    };
    let config = tidegate_gateway::Config {
        connections_max: u32::try_from(dice.between(connections_least, 64)).expect("few"),
        park_ms_max: u32::try_from(dice.between(200, 2_000)).expect("few"),
        parked_bytes_max: kib(dice, 64, 1_024),
        visitor_out_bytes_max: kib(dice, 32, 64),
        agent_out_bytes_max: kib(dice, out_kib_least, 4 * out_kib_least),
        out_bytes_max: kib(dice, 4 * out_kib_least, 16 * out_kib_least),
        collect_bytes_max: u64::from(kib(dice, 256, 1_024)),
        ..tidegate_gateway::Config::default()
    };
    gateway::Sizes {
        shards,
        ring_bytes: 256 << 10,
        buffers: u16::try_from(dice.between(4, 32)).expect("few"),
        buffer_bytes: usize::try_from(dice.scale(256, 16_384)).expect("small"),
        config,
    }
}

/// In every third world newcomers come in one by one, and some wait at the door while gateways and backends die. Made of
/// what was drawn for other things: the other worlds stay what they were.
fn admission(config: &Config) -> Limits {
    if !config.visitor_gone_s_max.is_multiple_of(3) {
        return Limits::default();
    }
    Limits {
        per_s: 5 + u32::try_from(config.abandoned_s_max % 100).expect("small"),
        burst: 1 + u32::try_from(config.visitor_gone_s_max % 16).expect("small"),
        inside_max: 0,
    }
}

fn backend_start(dice: &mut Dice) -> backend::Start {
    let sends_per_s_max = if dice.permille(800) { 10_000 } else { 10 };
    let config = Config {
        window_bytes_max: usize::try_from(dice.scale(16, 1_024) << 10).expect("small"),
        sessions_max: usize::try_from(dice.scale(8, 1_000)).expect("small"),
        turn_inputs_max: usize::try_from(dice.scale(1, 256)).expect("small"),
        agent_grace_s: dice.between(1, 10),
        visitor_gone_s_max: dice.between(20, 600),
        abandoned_s_max: dice.between(20, 600),
        sends_per_s_max,
        sends_burst_max: sends_per_s_max,
        ..Config::default()
    };
    let mut rules = rules_of(&config);
    rules.closed_conversations_max = usize::try_from(dice.scale(1, 64)).expect("small");
    if dice.permille(100) {
        // An operator gives days; runs last seconds.
        rules.messages_kept_us = dice.between(1_000_000, 60_000_000);
    }
    backend::Start {
        rules,
        limits: TurnLimits {
            inputs_max: config.turn_inputs_max,
            inputs_per_visit: usize::try_from(dice.scale(1, 64)).expect("small"),
            lookups_max: usize::try_from(dice.scale(1, 64)).expect("small"),
            record_bytes_max: 64 << 10,
            admission: admission(&config),
        },
        store: StoreOptions {
            place: Place {
                path: "".into(),
                vfs: None,
                busy_ms_max: 0,
                cache_bytes: 1 << 20,
                mmap_bytes: 0,
            },
            synchronous: if dice.permille(500) {
                Synchronous::Full
            } else {
                Synchronous::Normal
            },
            wal_bytes_max: 64 << 20,
            checkpoint_every_ms: 0,
            bounds: LoadBounds {
                window_bytes_max: config.window_bytes_max,
                sessions_max: config.sessions_max,
            },
            outbox_rows_max: dice.scale(1, 1_000),
            site_id: 1,
            now_us: 0,
            random: 0,
            boot_id: "the one boot".to_owned(),
        },
    }
}
