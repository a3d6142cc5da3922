//! The machine's wall clock is stepped an hour forward, two hours back, and set right again, under people who chat;
//! after each step backend and gateway are also started anew by that clock.
//!
//! A wall clock can't be stepped for some processes alone (time namespaces have none), so with fault points every part
//! reads it through one function, which adds what a file says. What nobody must notice: the time of the server never
//! steps back, every message is accepted and delivered at once, logins and tokens hold.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tidegate_bench::latency::Latencies;
use tidegate_bench::socket::{Socket, TEXT};

use super::Stand;
use crate::rig::{Role, Setup, System};

const HOUR_S: i64 = 3_600;
/// Where the clock stands, one after the other, seconds from the right time.
const STEPS_S: [i64; 4] = [HOUR_S, -HOUR_S, HOUR_S, 0];
/// Visitors that one address may make a minute: one more comes free within a second.
const VISITORS_PER_MIN: u32 = 60;
const VISITOR_AGAIN: Duration = Duration::from_secs(10);
/// A login waits for argon2 on a busy machine, a restart for a process; neither for a clock.
const SERVED: Duration = Duration::from_secs(20);

pub(super) fn run(stand: &mut Stand) -> anyhow::Result<()> {
    let clock = stand.scratch().join("clock");
    std::fs::write(&clock, "0")?;
    let setup = Setup::new(&stand.binary, stand.scratch())
        .with("CLOCK_FILE", clock.display())
        .with(
            "BACKEND__VISITOR_TOKENS_PER_ADDRESS_PER_MIN_MAX",
            VISITORS_PER_MIN,
        );
    let mut system = System::start(&setup)?;
    let mut watched = Watched::default();
    let rounds = stand.scale.of(100);
    let agent = system.add_agent("lin", 50)?;
    let mut pair = Pair::meet(&system, &agent.token)?;
    pair.talk(rounds, &mut watched)?;
    for ahead_s in STEPS_S {
        use_up_visitors(&system)?;
        std::fs::write(&clock, ahead_s.to_string())?;
        stand.progress(&format!("the clock is {ahead_s} s ahead"));
        // Those who are there notice nothing.
        pair.talk(rounds, &mut watched)
            .with_context(|| format!("those who were there, {ahead_s} s ahead"))?;
        visitor_again(&system)?;
        // A password that is changed by this clock lets its owner in, now and after the next step.
        let password = change_password(&system)?;
        log_in(&system, &password)?;
        // Parts that are started anew read the clock as it is.
        for role in [Role::Backend, Role::Gateway(0)] {
            system.kill(role)?;
            system.begin(role, None)?;
            system.await_ready(role)?;
        }
        let token = log_in(&system, &password)?;
        pair = Pair::meet(&system, &token)?;
        pair.talk(rounds, &mut watched)
            .with_context(|| format!("after the restarts, {ahead_s} s ahead"))?;
        std::fs::write(&clock, "0")?;
        log_in(&system, &password).context("after the clock was set right")?;
        std::fs::write(&clock, ahead_s.to_string())?;
    }
    stand.figure(
        "messages while the clock was stepped",
        watched.latencies.count(),
    );
    stand.figure("from send to receipt", watched.latencies.line());
    stand.figure("server time went back, times", watched.went_back);
    ensure!(
        watched.went_back == 0,
        "expected the server's time to rise, found {} steps back",
        watched.went_back
    );
    Ok(())
}

/// What the pair saw.
#[derive(Default)]
struct Watched {
    latencies: Latencies,
    last_at_us: u64,
    went_back: u64,
}

impl Watched {
    fn sees(&mut self, message: &Value) {
        let at_us = message["at_us"].as_u64().unwrap_or_default();
        self.went_back += u64::from(at_us <= self.last_at_us);
        self.last_at_us = self.last_at_us.max(at_us);
    }
}

/// A visitor and an agent who speak JSON.
struct Pair {
    visitor: Person,
    agent: Person,
}

impl Pair {
    fn meet(system: &System, agent_token: &str) -> anyhow::Result<Self> {
        let agent = Person::greet(system, agent_token)?;
        let visitor = Person::greet(system, &system.visitor_token(1))?;
        Ok(Self { visitor, agent })
    }

    fn talk(&mut self, messages: u64, watched: &mut Watched) -> anyhow::Result<()> {
        for _ in 0..messages {
            let begun = Instant::now();
            let text = self.visitor.say().context("the visitor says something")?;
            let message = self.agent.hear(&text);
            let message = message.with_context(|| format!("the agent hears {text:?}"))?;
            watched.latencies.record(begun.elapsed());
            watched.sees(&message);
        }
        Ok(())
    }
}

struct Person {
    socket: Socket,
    session: u64,
    n: u64,
}

impl Person {
    fn greet(system: &System, token: &str) -> anyhow::Result<Self> {
        let mut socket = Socket::open(system.ws(), None)?;
        let session = fastrand::u64(1..);
        let hello = json!({"kind": "hello", "request": 1, "token": token, "session": format!("{session:016x}")});
        socket.send(TEXT, hello.to_string().as_bytes())?;
        let mut person = Self {
            socket,
            session,
            n: 0,
        };
        person.until(|envelope| envelope["kind"] == "welcome")?;
        Ok(person)
    }

    fn say(&mut self) -> anyhow::Result<String> {
        self.n += 1;
        let text = format!("{:x} {}", self.session, self.n);
        let send = json!({"kind": "send", "n": self.n, "text": text});
        self.socket.send(TEXT, send.to_string().as_bytes())?;
        let result = self.until(|envelope| envelope["kind"] == "send_result")?;
        ensure!(
            result["outcome"] == "accepted",
            "expected accepted, found {result}"
        );
        Ok(text)
    }

    fn hear(&mut self, text: &str) -> anyhow::Result<Value> {
        self.until(|envelope| envelope["kind"] == "message" && envelope["text"] == text)
    }

    fn acknowledge(&mut self, message: &Value) -> std::io::Result<()> {
        let ack = json!({"kind": "ack", "conversation": message["conversation"], "delivered": message["seq"]});
        self.socket.send(TEXT, ack.to_string().as_bytes())
    }

    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> anyhow::Result<Value> {
        let (mut payload, mut last) = (Vec::new(), Value::Null);
        let deadline = Instant::now() + SERVED;
        loop {
            ensure!(
                Instant::now() < deadline,
                "expected an answer within {SERVED:?}, found last {last}"
            );
            let received = self.socket.receive(&mut payload);
            match received.with_context(|| format!("after {last}"))? {
                TEXT => {}
                8 => anyhow::bail!(
                    "expected to be served, found a close: {}",
                    String::from_utf8_lossy(&payload)
                ),
                _ => continue,
            }
            let envelopes = match serde_json::from_slice(&payload)? {
                Value::Array(batch) => batch,
                one => vec![one],
            };
            last = Value::from(envelopes.clone());
            // Whoever acknowledges nothing gets no more after a while.
            for message in envelopes.iter().filter(|one| one["kind"] == "message") {
                self.acknowledge(message)?;
            }
            if let Some(found) = envelopes.into_iter().find(|envelope| wanted(envelope)) {
                return Ok(found);
            }
        }
    }
}

/// Asks for visitors until there are none for now.
fn use_up_visitors(system: &System) -> anyhow::Result<()> {
    for _ in 0..=3 * VISITORS_PER_MIN {
        if new_visitor(system).is_err() {
            return Ok(());
        }
    }
    anyhow::bail!("expected to be refused after {VISITORS_PER_MIN} visitors")
}

/// Time has passed by any clock, so there is room for another one.
fn visitor_again(system: &System) -> anyhow::Result<()> {
    let deadline = Instant::now() + VISITOR_AGAIN;
    while let Err(error) = new_visitor(system) {
        ensure!(
            Instant::now() < deadline,
            "expected another visitor within {VISITOR_AGAIN:?} of the step, found: {error:#}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn new_visitor(system: &System) -> anyhow::Result<Value> {
    system.rest(
        "POST",
        "/api/visitor/token",
        None,
        Some(&json!({"widget": "default"})),
    )
}

fn change_password(system: &System) -> anyhow::Result<String> {
    let said = system.run(&["agent", "passwd", "lin"])?;
    let password = said
        .split_once("password ")
        .and_then(|(_, rest)| rest.split_whitespace().next());
    Ok(password
        .with_context(|| format!("expected a password, found {said:?}"))?
        .to_owned())
}

/// Logs in, and is known by the token.
fn log_in(system: &System, password: &str) -> anyhow::Result<String> {
    let login = json!({"user": "lin", "password": password});
    let answer = system.rest("POST", "/api/agent/login", None, Some(&login))?;
    let token = answer["token"].as_str().context("a token")?.to_owned();
    system.rest("GET", "/api/agent/me", Some(&token), None)?;
    Ok(token)
}
