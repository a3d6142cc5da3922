//! A million messages wait for people who are offline: what that costs those who are there, beside a system in which
//! nothing waits, by turns in one run.

use std::time::Duration;

use anyhow::{Context, ensure};

use super::recover_conversations::kill_and_await;
use super::{Stand, waiting};
use crate::procfs;
use crate::rig::crowd::ms;
use crate::rig::{Role, Setup, Shop};

/// Messages that wait.
const WAITING: u64 = 1_000_000;
/// Chats that go on in each system.
const CHATS: u64 = 100;
const AGENTS: u64 = 2;
const SENDS_PER_S: u64 = 400;
/// Each system has its turn so often, for so long.
const TURNS: u64 = 100;
/// Fewer say nothing about a p99.
const TURNS_MIN: u64 = 10;
const TURN: Duration = Duration::from_millis(500);
const KILLS: u64 = 5;
const KILLS_MIN: u64 = 2;
/// The promises: 120 of 100, 2 s, and memory that does not follow what waits: a page cache and a resume window of 64 MiB
/// each, and what 10,000 open conversations occupy.
const P99_PERCENT_MAX: u64 = 120;
const READY_MS_MAX: u128 = 2_000;
const MEMORY_MORE_MIB_MAX: u64 = 192;
const LIMIT: Duration = Duration::from_secs(60);
/// Longer than the trial.
const AWAY_S: u64 = 3_600;

/// p50 and p99 of answers, µs.
type Answers = [u64; 2];

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let count = stand.scale.of(WAITING);
    let [nothing, messages] = ["empty", "waiting"].map(|name| stand.scratch().join(name));
    waiting::write(&messages.join("data"), count)?;
    stand.progress(&format!("{count} messages wait"));
    let mut empty = Shop::open(stand, &Setup::new(&stand.binary, &nothing), CHATS, AGENTS)?;
    // Those who are away stay away: their chats are not to become the crowd's.
    let setup = Setup::new(&stand.binary, &messages).with("BACKEND__AGENT_GRACE_S", AWAY_S);
    let mut full = Shop::open(stand, &setup, CHATS, AGENTS)?;
    let (mut in_empty, mut in_full) = (Vec::new(), Vec::new());
    for _ in 0..stand.scale.of(TURNS).max(TURNS_MIN) {
        in_empty.push(turn(&mut empty)?);
        in_full.push(turn(&mut full)?);
    }
    let (before, after) = (memory_mib(&empty)?, memory_mib(&full)?);
    let mut ready_ms = 0;
    for _ in 0..stand.scale.of(KILLS).max(KILLS_MIN) {
        let ready = kill_and_await(&mut full.system, &mut full.crowd)?;
        ready_ms = ready_ms.max(ready.as_millis());
        full.crowd.pass(Duration::from_millis(200))?;
    }
    let most = memory_mib(&full)?.max(after);

    stand.figure("messages that wait", count);
    let (in_empty, in_full) = (medians(&in_empty), medians(&in_full));
    for (name, [p50, p99]) in [("an empty system", in_empty), ("where they wait", in_full)] {
        stand.figure(&format!("new sends in {name}, p50"), ms(p50));
        stand.figure(&format!("new sends in {name}, p99"), ms(p99));
    }
    let percent = in_full[1] * 100 / in_empty[1].max(1);
    stand.figure(
        "p99 of the one to that of the other",
        format!("{percent} %"),
    );
    stand.figure(
        "ready again after a kill, longest",
        format!("{ready_ms} ms"),
    );
    stand.figure("backend's memory, empty", format!("{before} MiB"));
    stand.figure(
        "backend's memory where they wait, most",
        format!("{most} MiB"),
    );
    for mut shop in [empty, full] {
        shop.close_of(stand, |conversation| !waiting::is_ours(conversation))?;
    }
    ensure!(
        most <= before + MEMORY_MORE_MIB_MAX,
        "the backend occupies {most} MiB, {MEMORY_MORE_MIB_MAX} more than the {before} of an empty one are promised"
    );
    stand.in_time(
        ready_ms <= READY_MS_MAX,
        &format!("it was ready again after {ready_ms} ms, promised are {READY_MS_MAX}"),
    )?;
    stand.in_time(
        percent <= P99_PERCENT_MAX,
        &format!("p99 is {percent} % of the empty system's, promised are {P99_PERCENT_MAX} %"),
    )
}

/// One system's turn.
fn turn(shop: &mut Shop) -> anyhow::Result<Answers> {
    shop.crowd.answers_count_from_now();
    shop.chat(SENDS_PER_S);
    shop.crowd.pass(TURN)?;
    shop.crowd.load = None;
    let done = "everything said is answered";
    shop.crowd
        .until(done, LIMIT, |crowd| crowd.unanswered() == 0)?;
    let answers = &shop.crowd.tally.answers_us;
    Ok([0.5, 0.99].map(|share| answers.value_at_quantile(share)))
}

/// The median of all turns' p50s, and of their p99s: what a neighbour does in one turn decides nothing.
fn medians(turns: &[Answers]) -> Answers {
    [0, 1].map(|place| {
        let mut values: Vec<u64> = turns.iter().map(|turn| turn[place]).collect();
        values.sort_unstable();
        values[values.len() / 2]
    })
}

/// The backend's.
fn memory_mib(shop: &Shop) -> anyhow::Result<u64> {
    let pid = shop.system.pid(Role::Backend).context("a backend")?;
    Ok(procfs::resident_kib(pid)? / 1_024)
}
