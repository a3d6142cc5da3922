//! Somebody is away while 1, 25, 51, 301, 1,001 or 5,000 messages come for them; back again, they are cut off at random
//! while those are replayed. They get them contiguous, or are told which not: never a silent gap.

use std::time::Duration;

use anyhow::{Context, ensure};
use tidegate_protocol::{Codec, Id};

use super::Stand;
use crate::rig::{Crowd, Setup, System, check};

const BACKLOGS: [u64; 6] = [1, 25, 51, 301, 1_001, 5_000];
/// At how many random moments of a replay its reader is cut off.
const CUTS: usize = 3;
const SETTLED: Duration = Duration::from_secs(60);
const TEXT_BYTES: usize = 100;

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let rounds = stand.scale.of(10);
    let mut random = fastrand::Rng::with_seed(stand.seed);
    for (number, codec) in [Codec::Flat, Codec::Json].into_iter().enumerate() {
        let directory = stand.scratch().join(number.to_string());
        let system = System::start(&Setup::new(&stand.binary, &directory))?;
        let mut crowd = Crowd::speaking(system.ws(), random.u64(..), codec)?;
        let agent = crowd.add_agent(&system.add_agent("lin", 100)?);
        let visitor = crowd.add_visitor(&system.visitor_token(1));
        crowd.start();
        crowd.until("both are welcome", SETTLED, |crowd| crowd.open() == 2)?;
        crowd.say(visitor, None, TEXT_BYTES);
        crowd.until("they have a conversation", SETTLED, |crowd| {
            crowd.unanswered() == 0 && !crowd.member(agent).rooms.is_empty()
        })?;
        let conversation = crowd.member(agent).rooms[0];
        let mut recovered = Vec::new();
        for _ in 0..rounds {
            for backlog in BACKLOGS {
                for away in [visitor, agent] {
                    let holes = crowd.tally.holes;
                    let there = if away == visitor { agent } else { visitor };
                    absence(&mut crowd, away, there, conversation, backlog, &mut random)
                        .with_context(|| format!("a backlog of {backlog} in {codec:?}"))?;
                    recovered.push((backlog, crowd.tally.holes == holes));
                }
            }
        }
        crowd.settle(SETTLED)?;
        let report = check::check(&crowd.journal, &check::Stored::read(&system.database())?);
        stand.figure(&format!("{codec:?}"), report.to_string());
        for backlog in BACKLOGS {
            let of_it = || recovered.iter().filter(|(of, _)| *of == backlog);
            let whole = of_it().filter(|(_, whole)| *whole).count();
            stand.figure(
                &format!("{codec:?}: backlogs of {backlog}, contiguous of"),
                format!("{whole} of {}", of_it().count()),
            );
        }
        report.into_result()?;
    }
    Ok(())
}

/// One leaves in some way; the other says so much; the one comes back, and is cut off a few times on the way.
fn absence(
    crowd: &mut Crowd,
    away: usize,
    there: usize,
    conversation: Id,
    backlog: u64,
    random: &mut fastrand::Rng,
) -> anyhow::Result<()> {
    crowd.until("both are welcome", SETTLED, |crowd| crowd.open() == 2)?;
    if random.bool() {
        crowd.stop_one(away);
    } else {
        crowd.cut(away);
        crowd.stop_one(away);
    }
    let to = (!crowd.member(there).rooms.is_empty()).then_some(conversation);
    let mut said = 0;
    while said < backlog {
        if crowd.unanswered() < 64 && crowd.say(there, to, TEXT_BYTES).is_some() {
            said += 1;
        } else {
            crowd.turn(Duration::from_millis(5))?;
        }
    }
    crowd.until("all of it is answered", SETTLED, |crowd| {
        crowd.unanswered() == 0
    })?;
    crowd.start_one(away);
    for _ in 0..CUTS {
        let received = crowd.tally.received;
        let some = random.u64(0..=backlog);
        // It may be over before, or come as a hole.
        let _over_before = crowd.until("some of it is here", Duration::from_millis(200), |crowd| {
            crowd.tally.received >= received + some
        });
        crowd.cut(away);
    }
    crowd.until("it holds everything", SETTLED, |crowd| {
        let has = |number: usize| crowd.client(number).cursor(conversation);
        crowd.open() == 2 && has(away) == has(there)
    })?;
    ensure!(crowd.unanswered() == 0, "expected nothing to be unanswered");
    Ok(())
}
