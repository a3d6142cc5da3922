//! A backend is killed while many connections live: how long until all are announced to its successor and served
//! again, and how long those who go on chatting wait from the moment that it is ready.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tidegate_protocol::Id;

use super::Stand;
use super::far_crowd::{self, FarCrowd, MEMBERS_MAX};
use super::recover_conversations::kill_and_await;
use crate::rig::crowd::ms;
use crate::rig::shop::SPARE;
use crate::rig::{Role, Setup, Shop, System};

/// Connections that live.
const CONNECTIONS: u64 = 100_000;
/// Of these, who has something to say while nobody is there.
const SPEAK_PER_1000: u64 = 10;
/// Chats that go on meanwhile.
const CHATS: u64 = 200;
const AGENTS: u64 = 4;
const SENDS_PER_S: u64 = 200;
/// How long they are looked at.
const CHATTING: Duration = Duration::from_secs(6);
/// The promises.
const SERVED_MS_MAX: u128 = 5_000;
const ANSWER_US_MAX: u64 = 500_000;
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let count = stand.scale.of(CONNECTIONS);
    let processes = count.div_ceil(MEMBERS_MAX);
    let setup = Setup::new(&stand.binary, &stand.scratch().join("system"))
        .with("GATEWAY__CONNECTIONS_MAX", MEMBERS_MAX + CHATS)
        .with_gateways(usize::try_from(processes + 1)?);
    let mut shop = Shop::open(stand, &setup, CHATS, AGENTS)?;
    fill_up(&mut shop)?;
    let mut crowds = Vec::new();
    let mut first = 1_000_000;
    for left in (0..processes).rev() {
        let share = (count - (first - 1_000_000)) / (left + 1);
        crowds.push(FarCrowd::start(
            &shop.system,
            stand.scratch(),
            stand.seed,
            first,
            share,
        )?);
        first += share;
    }
    far_crowd::until(&mut crowds, "all are welcome", LIMIT, |report| {
        report.open == count
    })?;
    let everybody = count + shop.crowd.len() as u64;
    stand.progress(&format!("{everybody} connections live"));
    let known = |system: &System| -> anyhow::Result<u64> {
        let metrics = system.metrics(Role::Backend)?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a gauge of whole numbers"
        )]
        Ok(metrics.sum("tidegate_connections") as u64)
    };
    // Its figures are those of a tenth of a second ago at most, on a core that is free.
    let deadline = Instant::now() + LIMIT;
    while known(&shop.system)? != everybody {
        ensure!(
            Instant::now() < deadline,
            "the backend knows {} of {everybody} connections",
            known(&shop.system)?
        );
        shop.crowd.pass(Duration::from_millis(50))?;
    }
    let before = far_crowd::reports(&mut crowds)?;
    shop.chat(SENDS_PER_S);
    shop.crowd.pass(Duration::from_secs(1))?;

    let began = Instant::now();
    let speakers = count * SPEAK_PER_1000 / 1_000;
    for crowd in &mut crowds {
        crowd.speak(usize::try_from(speakers / processes)?.max(1))?;
    }
    let spoken = crowds.len() as u64 * (speakers / processes).max(1);
    let ready = kill_and_await(&mut shop.system, &mut shop.crowd)?;
    // They have chatted all the while; what was said from now on counts.
    shop.crowd.answers_count_from_now();
    let (mut announced, mut served) = (None, None);
    while began.elapsed() < LIMIT && (announced.is_none() || served.is_none()) {
        shop.crowd.pass(Duration::from_millis(50))?;
        if announced.is_none() && known(&shop.system)? == everybody {
            announced = Some(began.elapsed());
        }
        if served.is_none() {
            let now = far_crowd::reports(&mut crowds)?;
            let answered = now.unanswered == 0 && now.accepted >= before.accepted + spoken;
            if answered && now.open == count {
                served = Some(began.elapsed());
            }
        }
    }
    shop.crowd.pass(CHATTING.saturating_sub(began.elapsed()))?;
    let answers = &shop.crowd.tally.answers_us;
    let p99_us = answers.value_at_quantile(0.99);
    let p50_us = answers.value_at_quantile(0.5);
    let longest_us = answers.max();
    let after = far_crowd::reports(&mut crowds)?;

    let after_ms = |time: Option<Duration>| {
        time.map_or("never".to_owned(), |time| {
            format!("{} ms", time.as_millis())
        })
    };
    stand.figure("connections live", everybody);
    stand.figure("backend ready again after", after_ms(Some(ready)));
    stand.figure("all announced after", after_ms(announced));
    stand.figure(
        &format!("{spoken} who spoke meanwhile answered after"),
        after_ms(served),
    );
    stand.figure("chats from then on, p50", ms(p50_us));
    stand.figure("chats from then on, p99", ms(p99_us));
    stand.figure("chats from then on, longest", ms(longest_us));
    stand.figure("chats' messages set back", shop.crowd.tally.set_back);
    stand.figure(
        "connections that had to come again",
        after.welcomes - before.welcomes,
    );
    let ours: HashSet<Id> = shop.crowd.journal.rooms().iter().copied().collect();
    shop.close_of(stand, |conversation| ours.contains(&conversation))?;
    ensure!(
        announced.is_some() && served.is_some(),
        "announced after {}, served after {}",
        after_ms(announced),
        after_ms(served)
    );
    ensure!(
        after.welcomes == before.welcomes,
        "{} connections were lost by a backend's death",
        after.welcomes - before.welcomes
    );
    for (what, time) in [("announced", announced), ("served", served)] {
        let complaint = format!(
            "all were {what} after {}, promised are {SERVED_MS_MAX} ms",
            after_ms(time)
        );
        let kept = time.is_some_and(|time| time.as_millis() <= SERVED_MS_MAX);
        stand.in_time(kept, &complaint)?;
    }
    let complaint = format!(
        "chats had a p99 of {}, promised are {}",
        ms(p99_us),
        ms(ANSWER_US_MAX)
    );
    stand.in_time(p99_us < ANSWER_US_MAX, &complaint)
}

/// Takes the agents' last places, so that they are not given chats of the others, of whom nobody here keeps a journal.
fn fill_up(shop: &mut Shop) -> anyhow::Result<()> {
    let agents = shop.crowd.len() - usize::try_from(CHATS)?;
    let mut numbers = Vec::new();
    for n in 0..AGENTS * SPARE {
        let token = shop.system.visitor_token(CHATS + n);
        let number = shop.crowd.add_visitor(&token);
        shop.crowd.start_one(number);
        numbers.push(number);
    }
    shop.crowd.until("the last are welcome", LIMIT, |crowd| {
        crowd.open() == crowd.len()
    })?;
    for number in numbers {
        shop.crowd.say(number, None, 40);
    }
    let no_place = "the agents have no place left";
    shop.crowd.until(no_place, LIMIT, |crowd| {
        let given: usize = crowd
            .members()
            .take(agents)
            .map(|agent| agent.rooms.len())
            .sum();
        given as u64 == CHATS + AGENTS * SPARE && crowd.unanswered() == 0
    })
}
