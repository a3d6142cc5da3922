//! kill -9 at random, hundreds of times, while people chat: of the backend, of the gateway, of both at once.

use std::time::{Duration, Instant};

use anyhow::Context;

use super::Stand;
use crate::rig::{Role, Setup, Shop};

const VISITORS: u64 = 120;
const AGENTS: u64 = 6;
/// What the schedule says: the promise is for 500, and outages are part of the time.
const SENDS_PER_S: u64 = 900;
/// Between being back and the next death: so many messages, by chance.
const MESSAGES_PER_LIFE: std::ops::Range<u64> = 10..120;
const BACK_S_MAX: u64 = 60;

/// `kill-backend`
pub fn backend(stand: &mut Stand) -> anyhow::Result<()> {
    kill(stand, 200, &[Role::Backend])
}

/// `kill-gateway`
pub fn gateway(stand: &mut Stand) -> anyhow::Result<()> {
    kill(stand, 100, &[Role::Gateway(0)])
}

/// `kill-both`
pub fn both(stand: &mut Stand) -> anyhow::Result<()> {
    kill(stand, 50, &[Role::Gateway(0), Role::Backend])
}

fn kill(stand: &mut Stand, full: u64, victims: &[Role]) -> anyhow::Result<()> {
    let kills = stand.scale.of(full);
    let mut random = fastrand::Rng::with_seed(stand.seed);
    let setup = Setup::new(&stand.binary, stand.scratch()).with_shards(random.usize(1..=2));
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    shop.chat(SENDS_PER_S);
    let mut back_ms = Vec::new();
    for nth in 1..=kills {
        shop.flow(random.u64(MESSAGES_PER_LIFE))?;
        // Not only at the moment at which an acknowledgement arrives.
        shop.crowd
            .pass(Duration::from_micros(random.u64(..3_000)))?;
        let killed = Instant::now();
        for &victim in victims {
            shop.kill(victim)?;
        }
        // What is said from now on can only be answered by the next life.
        let died_us = shop.crowd.now_us();
        let back = Duration::from_secs(BACK_S_MAX);
        shop.crowd
            .until("everybody is back and is served", back, |crowd| {
                crowd.open() == crowd.len() && crowd.tally.newest_answered_us >= died_us
            })
            .with_context(|| format!("after kill {nth}{}", shop.logs()))?;
        back_ms.push(killed.elapsed().as_millis());
        shop.is_whole()
            .with_context(|| format!("after kill {nth}"))?;
        if nth % 25 == 0 {
            stand.progress(&format!("{nth} of {kills} kills"));
        }
    }
    stand.figure("kills", kills);
    shop.close(stand).with_context(|| shop.logs())?;
    back_ms.sort_unstable();
    stand.figure(
        "until all are served again, median",
        format!("{} ms", back_ms[back_ms.len() / 2]),
    );
    stand.figure(
        "until all are served again, longest",
        format!("{} ms", back_ms[back_ms.len() - 1]),
    );
    Ok(())
}
