//! Death at each named point of the turn and of both processes' ends of the rings, while people chat.

use std::time::Duration;

use anyhow::Context;

use super::Stand;
use crate::rig::{Role, Setup, Shop};

const VISITORS: u64 = 60;
const AGENTS: u64 = 3;
const SENDS_PER_S: u64 = 700;
/// The point kills when it is passed for the n-th time: in ever other states.
const NTH: std::ops::Range<u64> = 5..90;
const DEATH_S_MAX: u64 = 30;
const MESSAGES_BETWEEN: u64 = 10;
const TIMES: u64 = 25;

const BACKEND: Role = Role::Backend;
const GATEWAY: Role = Role::Gateway(0);

/// Who dies, and where.
const POINTS: &[(Role, &str)] = &[
    (BACKEND, "turn.before_apply"),
    (BACKEND, "turn.before_commit"),
    (BACKEND, "turn.after_commit"),
    (BACKEND, "turn.before_publish"),
    (BACKEND, "turn.before_ack"),
    (BACKEND, "turn.after_publish"),
    (BACKEND, "turn.before_release"),
    (BACKEND, "turn.after_release"),
    (BACKEND, "consume.before_release"),
    (BACKEND, "consume.after_release"),
    (BACKEND, "claim.before_commit"),
    (BACKEND, "commit.before_publish"),
    (BACKEND, "commit.after_publish"),
    (BACKEND, "ring.before_doorbell"),
    (GATEWAY, "claim.before_commit"),
    (GATEWAY, "commit.before_publish"),
    (GATEWAY, "commit.after_publish"),
    (GATEWAY, "ring.before_doorbell"),
    (GATEWAY, "consume.before_release"),
    (GATEWAY, "consume.after_release"),
];

/// `kill-at-points`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let times = stand.scale.of(TIMES);
    let mut random = fastrand::Rng::with_seed(stand.seed);
    let setup = Setup::new(&stand.binary, stand.scratch()).with_shards(random.usize(1..=2));
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    shop.chat(SENDS_PER_S);
    for &(role, point) in POINTS {
        for _ in 0..times {
            let fault = format!("{point}:{}", random.u64(NTH));
            die(&mut shop, role, &fault)
                .with_context(|| format!("{role:?} at {fault}{}", shop.logs()))?;
        }
        stand.progress(&format!("{role:?} died {times} times at {point}"));
    }
    stand.figure("points", POINTS.len());
    stand.figure("deaths at each", times);
    shop.close(stand).with_context(|| shop.logs())?;
    Ok(())
}

/// A life with a fault, its end, and a whole life after it.
fn die(shop: &mut Shop, role: Role, fault: &str) -> anyhow::Result<()> {
    shop.system.kill(role)?;
    shop.system.begin(role, Some(fault))?;
    let death = Duration::from_secs(DEATH_S_MAX);
    let Shop { system, crowd, .. } = shop;
    let mut ended = None;
    crowd.until("the point is passed", death, |_| {
        ended = system.ended(role).ok().flatten();
        ended.is_some()
    })?;
    shop.system.begin(role, None)?;
    shop.flow(MESSAGES_BETWEEN)?;
    shop.is_whole().map(drop)
}
