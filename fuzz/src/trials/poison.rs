//! A text on which the engine panics. It is put aside after it has broken the backend twice, its sender is told, and
//! everybody else goes on. (Rows that violate a constraint: `turn::tests::failures` in the backend.)

use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use tidegate_backend::engine::POISON_TEXT;
use tidegate_bench::socket::{Socket, TEXT};

use super::Stand;
use crate::rig::{Role, Setup, Shop};

const VISITORS: u64 = 40;
const AGENTS: u64 = 2;
const SENDS_PER_S: u64 = 300;
const ANSWERED_S_MAX: u64 = 60;
const TIMES: u64 = 10;
/// After so many an input is put aside.
const BREAKS: u64 = 2;

/// `poison-inputs`
pub fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let setup = Setup::new(&stand.binary, stand.scratch());
    let mut shop = Shop::open(stand, &setup, VISITORS, AGENTS)?;
    shop.chat(SENDS_PER_S);
    let mut ends = Vec::new();
    let times = stand.scale.of(TIMES);
    for nth in 0..times {
        shop.flow(50)?;
        let token = shop.system.visitor_token(1_000_000 + nth);
        let ended = poison(&mut shop, &token).with_context(|| shop.logs())?;
        ensure!(
            (BREAKS..=BREAKS + 1).contains(&ended),
            "it ended the backend {ended} times; expected {BREAKS}, and perhaps one more in company"
        );
        ends.push(ended);
    }
    stand.figure("poison inputs", ends.len());
    stand.figure("ends of the backend", ends.iter().sum::<u64>());
    shop.close(stand).with_context(|| shop.logs())?;
    Ok(())
}

/// Sends it and sees to it that a backend runs until it is answered; how often one ended.
fn poison(shop: &mut Shop, token: &str) -> anyhow::Result<u64> {
    let mut socket = Socket::open(shop.system.ws(), None)?;
    let session = format!("{:016x}", fastrand::u64(1..));
    let hello = json!({"kind": "hello", "request": 1, "token": token, "session": session});
    socket.send(TEXT, hello.to_string().as_bytes())?;
    answer(&mut socket, "welcome")?;
    let send = json!({"kind": "send", "n": 1, "text": POISON_TEXT});
    socket.send(TEXT, send.to_string().as_bytes())?;
    let deadline = Instant::now() + Duration::from_secs(ANSWERED_S_MAX);
    let mut ends = 0;
    // The counter is the process's: the one that puts it aside lives on.
    while ends < BREAKS || !is_put_aside(shop) {
        ensure!(
            Instant::now() < deadline,
            "it was not put aside within {ANSWERED_S_MAX} s, after {ends} ends"
        );
        shop.crowd.pass(Duration::from_millis(20))?;
        if shop.system.ended(Role::Backend)?.is_some() {
            ends += 1;
            shop.system.begin(Role::Backend, None)?;
        }
    }
    let result = answer(&mut socket, "send_result")?;
    ensure!(
        result["outcome"] == "refused" && result["reason"] == "internal",
        "expected refused, internal; found {result}"
    );
    Ok(ends)
}

fn is_put_aside(shop: &Shop) -> bool {
    let metrics = shop.system.metrics(Role::Backend);
    metrics.is_ok_and(|metrics| metrics.sum("tidegate_quarantined_total") >= 1.0)
}

/// The next envelope of a kind.
fn answer(socket: &mut Socket, kind: &str) -> anyhow::Result<Value> {
    let mut payload = Vec::new();
    loop {
        if socket.receive(&mut payload)? != TEXT {
            bail!("expected {kind}, found no text: {payload:?}");
        }
        let envelopes = match serde_json::from_slice(&payload)? {
            Value::Array(envelopes) => envelopes,
            one => vec![one],
        };
        if let Some(found) = envelopes.into_iter().find(|found| found["kind"] == kind) {
            return Ok(found);
        }
    }
}
