//! Two gateways whose rings are full both ways, and a third whose people chat on.
//!
//! The backend is stopped until two gateways have filled their rings to it; then these two are stopped, and the backend
//! goes on: it answers what it finds until the rings to them are full, and may take nothing more from theirs. A third
//! gateway must notice nothing; and when the two go on, everything that was said there is answered.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use shm_bus::{BusDirectory, ObservedGateway};
use tidegate_protocol::{Id, fb};

use super::Stand;
use crate::rig::system::Signal;
use crate::rig::{Crowd, Role, Setup, Shop, System};

/// Full within a second or two.
const RING_BYTES: u64 = 256 << 10;
/// A ring without room for the longest answer: nothing is taken from its twin.
const ANSWER_BYTES_MAX: u64 = 40 << 10;
const STOPPED: [Role; 2] = [Role::Gateway(0), Role::Gateway(1)];
const AGENTS_EACH: u32 = 4;
/// Each has 16 messages under way: together twice what a ring holds.
const VISITORS_EACH: u32 = 120;
/// Messages of the people of the third.
const SENDS_PER_S: u64 = 200;
const CHAT_S: u64 = 30;
const TEXT_BYTES: usize = 100;
const WARM_ROUNDS: usize = 3;
const STEP_S_MAX: Duration = Duration::from_secs(60);
const ANSWER_MS_MAX: u64 = 2_000;

/// `rings-full-both-ways`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    // Each gateway takes so many and no more: so it is known who is where.
    let people_max = AGENTS_EACH + VISITORS_EACH;
    let setup = Setup::new(&stand.binary, stand.scratch())
        .with("GATEWAY__RING_BYTES", RING_BYTES)
        .with("GATEWAY__CONNECTIONS_MAX", people_max)
        .with_gateways(3);
    let mut system = System::start(&setup)?;
    for role in STOPPED {
        system.kill(role)?;
    }
    let mut crowd = Crowd::new(system.ws(), stand.seed)?;
    let met = Instant::now();
    let third = come(&mut crowd, &system, 0)?;
    let mut others = Vec::new();
    for (group, role) in (1..).zip(STOPPED) {
        system.begin(role, None)?;
        system.await_ready(role)?;
        others.extend(come(&mut crowd, &system, group)?);
        // Figures are published ten times a second.
        crowd.until("the gateway counts the group", STEP_S_MAX, |_| {
            let open = system
                .metrics(role)
                .map(|it| it.sum("tidegate_gateway_connections_open"));
            open.is_ok_and(|open| open >= f64::from(people_max))
        })?;
    }

    // Who has been answered a few times has more under way at once.
    let mut random = fastrand::Rng::with_seed(stand.seed);
    for _ in 0..WARM_ROUNDS {
        for _ in 0..others.len() * 16 {
            let (number, room) = talker(&crowd, &others, &mut random);
            crowd.say(number, room, TEXT_BYTES);
        }
        crowd.until("everything said is answered", STEP_S_MAX, |crowd| {
            crowd.unanswered() == 0
        })?;
    }
    // The rings to the backend fill.
    let rings = Rings::of(&system)?;
    system.signal(Role::Backend, Signal::STOP)?;
    // On a busy machine a ring may have been full before.
    let before = STOPPED.map(|role| parked(&system, role).unwrap_or(f64::INFINITY));
    let deadline = Instant::now() + STEP_S_MAX;
    while !STOPPED
        .iter()
        .zip(before)
        .all(|(role, before)| parked(&system, *role).is_ok_and(|count| count > before))
    {
        ensure!(
            Instant::now() < deadline,
            "the rings to the backend were never full: {}",
            rings.say()
        );
        for _ in 0..200 {
            let (number, room) = talker(&crowd, &others, &mut random);
            crowd.say(number, room, TEXT_BYTES);
        }
        crowd.turn(Duration::from_millis(5))?;
    }
    for role in STOPPED {
        system.signal(role, Signal::STOP)?;
    }
    // The rings from the backend fill.
    system.signal(Role::Backend, Signal::CONT)?;
    crowd.until("the rings are full both ways", STEP_S_MAX, |_| {
        rings.are_blocked()
    })?;
    crowd.pass(Duration::from_secs(1))?;
    ensure!(
        rings.are_blocked(),
        "a ring moved though nobody reads it: {}",
        rings.say()
    );
    stand.figure("rings of the two, at the beginning", rings.say());

    crowd.tally.answers_us.reset();
    let seconds = stand.scale.of(CHAT_S);
    let (begun, before) = (Instant::now(), crowd.tally.accepted);
    let mut said = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        let due = SENDS_PER_S * u64::try_from(begun.elapsed().as_millis())? / 1_000;
        while said < due {
            let (number, room) = talker(&crowd, &third, &mut random);
            crowd
                .say(number, room, TEXT_BYTES)
                .context("an outbox of the third is full")?;
            said += 1;
        }
        crowd.turn(Duration::from_millis(1))?;
    }
    let unanswered = |crowd: &Crowd| -> usize {
        let people = third.iter();
        people
            .map(|number| crowd.client(*number).unanswered())
            .sum()
    };
    crowd.until("the third's people are answered", STEP_S_MAX, |crowd| {
        unanswered(crowd) == 0
    })?;
    let accepted = crowd.tally.accepted - before;
    ensure!(
        rings.are_blocked(),
        "a ring moved though nobody reads it: {}",
        rings.say()
    );
    stand.figure("the third's messages meanwhile", said);
    stand.figure("accepted", accepted);
    let answers = &crowd.tally.answers_us;
    let (p99_us, longest_us) = (answers.value_at_quantile(0.99), answers.max());
    stand.figure(
        "answered, p99",
        format!("{:.1} ms", p99_us as f64 / 1_000.0),
    );
    stand.figure(
        "answered, longest",
        format!("{:.1} ms", longest_us as f64 / 1_000.0),
    );
    stand.figure("rings of the two, at the end", rings.say());
    ensure!(
        accepted >= said,
        "{accepted} of {said} messages were accepted"
    );
    ensure!(
        longest_us <= ANSWER_MS_MAX * 1_000,
        "an answer took {longest_us} µs"
    );

    // Relief: everything that was said there is answered, once.
    for role in STOPPED {
        system.signal(role, Signal::CONT)?;
    }
    let relieved = Instant::now();
    crowd.until("everything said is answered", STEP_S_MAX, |crowd| {
        crowd.unanswered() == 0
    })?;
    stand.figure(
        "all answered after the two go on",
        format!("{} ms", relieved.elapsed().as_millis()),
    );
    let mut shop = Shop::around(system, crowd, met);
    shop.close(stand).map(drop)
}

/// A group of agents and visitors come; the visitors say something, and the group's agents get all of them.
fn come(crowd: &mut Crowd, system: &System, group: u32) -> anyhow::Result<Vec<usize>> {
    let capacity = VISITORS_EACH / AGENTS_EACH;
    let mut people = Vec::new();
    for n in 0..AGENTS_EACH {
        people.push(crowd.add_agent(&system.add_agent(&format!("agent-{group}-{n}"), capacity)?));
    }
    crowd.start();
    crowd.until("the agents are welcome", STEP_S_MAX, |crowd| {
        crowd.open() == crowd.len()
    })?;
    for n in 0..VISITORS_EACH {
        people.push(crowd.add_visitor(&system.visitor_token(u64::from(group * VISITORS_EACH + n))));
    }
    crowd.start();
    crowd.until("the visitors are welcome", STEP_S_MAX, |crowd| {
        crowd.open() == crowd.len()
    })?;
    let (agents, visitors) = people.split_at(usize::try_from(AGENTS_EACH)?);
    for number in visitors {
        crowd.say(*number, None, TEXT_BYTES);
    }
    crowd.until("everybody has somebody to talk to", STEP_S_MAX, |crowd| {
        let given = agents.iter().map(|agent| crowd.member(*agent).rooms.len());
        given.sum::<usize>() == visitors.len() && crowd.unanswered() == 0
    })?;
    Ok(people)
}

/// One of these people, and where it talks.
fn talker(crowd: &Crowd, people: &[usize], random: &mut fastrand::Rng) -> (usize, Option<Id>) {
    let number = people[random.usize(..people.len())];
    let member = crowd.member(number);
    if member.role == fb::Role::Visitor {
        return (number, None);
    }
    (
        number,
        Some(member.rooms[random.usize(..member.rooms.len())]),
    )
}

fn parked(system: &System, role: Role) -> anyhow::Result<f64> {
    Ok(system
        .metrics(role)?
        .sum("tidegate_gateway_chat_parked_total"))
}

/// The rings of the stopped gateways, as anybody may look at them.
struct Rings(Vec<ObservedGateway>);

impl Rings {
    fn of(system: &System) -> anyhow::Result<Self> {
        let bus = BusDirectory::open(system.bus())?;
        let pids = STOPPED.map(|role| system.pid(role).map(|pid| pid.as_raw_nonzero().get()));
        let mut rings = Vec::new();
        for instance in bus.segments()? {
            let gateway = ObservedGateway::open(&bus, instance)?;
            if pids.contains(&i32::try_from(gateway.pid()).ok()) {
                rings.push(gateway);
            }
        }
        ensure!(
            rings.len() == STOPPED.len(),
            "{} segments of the two stopped gateways",
            rings.len()
        );
        Ok(Self(rings))
    }

    /// For each: bytes to the backend that it has not taken, bytes to the gateway that it has not.
    fn held(&self) -> impl Iterator<Item = (u64, u64)> {
        let shards = self.0.iter().flat_map(|gateway| &gateway.shards);
        shards.map(|shard| {
            let to_backend = shard.to_backend.published().get() - shard.to_backend_released().get();
            let to_gateway = shard.to_gateway.published().get() - shard.to_gateway_released().get();
            (to_backend, to_gateway)
        })
    }

    /// Something waits for the backend, which has no room for the answer.
    fn are_blocked(&self) -> bool {
        self.held().all(|(to_backend, to_gateway)| {
            to_backend > 0 && to_gateway > RING_BYTES - 2 * ANSWER_BYTES_MAX
        })
    }

    fn say(&self) -> String {
        let held = self.held().map(|(to_backend, to_gateway)| {
            format!("{} and {} KiB", to_backend >> 10, to_gateway >> 10)
        });
        held.collect::<Vec<_>>().join(", ")
    }
}
