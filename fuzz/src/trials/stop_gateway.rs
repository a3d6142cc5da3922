//! One gateway of two is stopped (SIGSTOP) under load. The people of the other notice nothing: they keep their
//! connections and are answered. Who comes new meanwhile is welcomed, also whom the kernel gave to the stopped one: the
//! other lets them in. When it continues, nothing stays unanswered.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::{Scale, Stand};
use crate::rig::system::Signal;
use crate::rig::{Role, Setup, Shop};

const VISITORS: u64 = 120;
const AGENTS: u64 = 6;
const NEWCOMERS: usize = 20;
const SENDS_PER_S: u64 = 400;
const WARM_MESSAGES: u64 = 400;
const STOP_S: u64 = 10;
/// The same at a tenth of the scale.
const STOP_SHORT_S: u64 = 3;
/// Each round everybody concerned is asked once, and has so long to get the answer.
const ROUND_MS: u64 = 500;
const PERCENTILE: f64 = 99.0;

/// `stop-gateway`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let stop_s = match stand.scale {
        Scale::Full => STOP_S,
        Scale::Tenth => STOP_SHORT_S,
    };
    let setup = Setup::new(&stand.binary, stand.scratch()).with_gateways(2);
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    let holds = held(&shop, 0)?;
    ensure!(
        holds > 0 && held(&shop, 1)? > 0,
        "expected that both gateways hold somebody, found {holds} at the first"
    );
    shop.chat(SENDS_PER_S);
    shop.flow(WARM_MESSAGES)?;

    shop.system.signal(Role::Gateway(1), Signal::STOP)?;
    let stopped = Instant::now();
    // The stopped one's last answers arrive; then whoever is answered is at the other, which says how many these are.
    shop.crowd.pass(Duration::from_millis(ROUND_MS))?;
    let everybody: Vec<usize> = (0..shop.crowd.len()).collect();
    let silent = silent_after_ping(&mut shop, &everybody)?;
    let mut there: Vec<usize> = everybody
        .into_iter()
        .filter(|number| !silent.contains(number))
        .collect();
    ensure!(
        there.len() == holds,
        "gateway 0 holds {holds} connections, and {} of them are answered within {ROUND_MS} ms",
        there.len()
    );
    // Some leave, so that there is room for others.
    let left = there.split_off(there.len() - NEWCOMERS);
    left.iter().for_each(|&number| shop.crowd.stop_one(number));
    let before: Vec<u64> = there
        .iter()
        .map(|&i| shop.crowd.member(i).welcomes)
        .collect();
    let first_new = shop.crowd.len();
    for n in 0..NEWCOMERS {
        let token = shop.system.visitor_token(VISITORS + u64::try_from(n)?);
        let number = shop.crowd.add_visitor(&token);
        shop.crowd.start_one(number);
    }
    shop.crowd.tally.pongs_us.reset();
    let mut rounds = 0;
    while stopped.elapsed() < Duration::from_secs(stop_s) {
        let silent = silent_after_ping(&mut shop, &there)?;
        ensure!(
            silent.is_empty(),
            "{} of {} connections of gateway 0 were not answered within {ROUND_MS} ms",
            silent.len(),
            there.len()
        );
        rounds += 1;
    }
    let after: Vec<u64> = there
        .iter()
        .map(|&i| shop.crowd.member(i).welcomes)
        .collect();
    ensure!(
        before == after,
        "somebody at gateway 0 had to connect again"
    );
    let pongs = &shop.crowd.tally.pongs_us;
    stand.figure("stopped for", format!("{stop_s} s"));
    stand.figure("connections of the other gateway, none lost", there.len());
    stand.figure("pings to each of them, all answered", rounds);
    let p99_ms = pongs.value_at_percentile(PERCENTILE) as f64 / 1000.0;
    stand.figure("ping to pong there, p99", format!("{p99_ms:.1} ms"));
    let served = (first_new..shop.crowd.len())
        .filter(|&number| shop.crowd.is_open(number))
        .count();
    stand.figure(
        "newcomers welcomed meanwhile",
        format!("{served} of {NEWCOMERS}"),
    );
    ensure!(
        served == NEWCOMERS,
        "{served} of {NEWCOMERS} newcomers were welcomed within {stop_s} s: the others wait for the stopped gateway"
    );
    shop.system.signal(Role::Gateway(1), Signal::CONT)?;
    left.iter().for_each(|&number| shop.crowd.start_one(number));
    let time_max = Duration::from_secs(60);
    shop.crowd
        .until("everybody is welcome", time_max, |crowd| {
            crowd.open() == crowd.len()
        })
        .with_context(|| shop.logs())?;
    shop.close(stand).with_context(|| shop.logs())?;
    Ok(())
}

/// How many connections a gateway has welcomed and holds.
fn held(shop: &Shop, gateway: usize) -> anyhow::Result<usize> {
    let open = shop
        .system
        .metrics(Role::Gateway(gateway))?
        .sum("tidegate_gateway_chat_open");
    // A gauge of whole connections.
    Ok(format!("{open:.0}").parse()?)
}

/// Asks these; those whom nobody answered in time.
fn silent_after_ping(shop: &mut Shop, numbers: &[usize]) -> anyhow::Result<Vec<usize>> {
    let before: Vec<u64> = numbers
        .iter()
        .map(|&i| shop.crowd.member(i).pongs)
        .collect();
    numbers.iter().for_each(|&number| shop.crowd.ping(number));
    shop.crowd.pass(Duration::from_millis(ROUND_MS))?;
    let is_silent = |(number, had): (&usize, &u64)| {
        (shop.crowd.member(*number).pongs == *had).then_some(*number)
    };
    Ok(numbers.iter().zip(&before).filter_map(is_silent).collect())
}
