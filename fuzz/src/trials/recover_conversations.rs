//! How long a backend takes from kill -9 until it is ready, with many conversations open and people talking in them.

use std::time::{Duration, Instant};

use super::Stand;
use crate::rig::{Crowd, Role, Setup, Shop, System};

/// Conversations that are open.
const CONVERSATIONS: u64 = 10_000;
const CHATS_PER_AGENT: u64 = 100;
/// How often it is killed.
const KILLS: u64 = 20;
/// Said meanwhile.
const SENDS_PER_S: u64 = 200;
/// The promise.
const READY_MS_MAX: u128 = 2_000;
const LIMIT: Duration = Duration::from_secs(60);

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let setup = Setup::new(&stand.binary, &stand.scratch().join("system"));
    let count = stand.scale.of(CONVERSATIONS);
    let mut shop = Shop::open(stand, &setup, count, count.div_ceil(CHATS_PER_AGENT))?;
    shop.chat(SENDS_PER_S);
    let mut took = Vec::new();
    for _ in 0..stand.scale.of(KILLS) {
        shop.crowd.pass(Duration::from_millis(500))?;
        took.push(kill_and_await(&mut shop.system, &mut shop.crowd)?);
    }
    took.sort_unstable();
    let ms = |time: Option<&Duration>| format!("{} ms", time.map_or(0, Duration::as_millis));
    stand.figure("conversations open", count);
    stand.figure("kills", took.len());
    stand.figure("ready again after, median", ms(took.get(took.len() / 2)));
    stand.figure("ready again after, longest", ms(took.last()));
    shop.close(stand)?;
    let longest = took.last().map_or(0, Duration::as_millis);
    stand.in_time(
        longest <= READY_MS_MAX,
        &format!("it was ready again after {longest} ms, promised are {READY_MS_MAX}"),
    )
}

/// From kill -9 until `/readyz` says so, with the crowd moving all the while.
pub(super) fn kill_and_await(system: &mut System, crowd: &mut Crowd) -> anyhow::Result<Duration> {
    let began = Instant::now();
    system.kill(Role::Backend)?;
    system.begin(Role::Backend, None)?;
    let system = &*system;
    std::thread::scope(|scope| {
        // Its listening socket is held here: the question waits in the backlog until it is answered.
        let ready = scope.spawn(|| {
            while !system.is_ready(Role::Backend) && began.elapsed() < LIMIT {
                std::thread::sleep(Duration::from_millis(1));
            }
            began.elapsed()
        });
        crowd.until("the backend is ready again", 2 * LIMIT, |_| {
            ready.is_finished()
        })?;
        let took = ready.join();
        took.map_err(|_| anyhow::anyhow!("the thread that asks panicked"))
    })
}
