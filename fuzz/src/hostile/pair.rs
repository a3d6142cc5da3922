//! A healthy pair that chats beside the attackers, and fresh clients that come meanwhile.
//!
//! Each message is counted from the moment at which it was due, so that a stall is not hidden by the messages that it
//! kept from being sent.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Tokens, hello};
use tidegate_bench::latency::Latencies;
use tidegate_bench::socket::{Socket, TEXT};

/// Between two messages of the pair.
const MESSAGE_EVERY: Duration = Duration::from_millis(20);
/// Between two fresh clients.
const FRESH_EVERY: Duration = Duration::from_millis(200);

/// Whom the pair speaks through.
#[derive(Clone, Debug)]
pub enum Talk<'a> {
    /// One who hears themself.
    Echo,
    /// A visitor and an agent.
    Chat {
        /// The agent's token.
        agent: String,
        /// Makes visitors.
        tokens: &'a Tokens,
    },
}

/// Visitors of the pair, and those who come afresh, count up from here.
const PAIR_VISITOR: u128 = 0x9a12;
const FRESH_VISITORS: u128 = 0xf2e5_0000;

/// What they went through.
#[derive(Debug)]
pub struct Suffered {
    /// From when a message was due to its being read by the other.
    pub messages: Samples,
    /// From connecting to the first answer.
    pub fresh: Samples,
}

/// Latencies, and when each was over.
#[derive(Debug, Default)]
pub struct Samples(Vec<(Instant, Duration)>);

impl Samples {
    /// Of them all.
    #[must_use]
    pub fn all(&self) -> Latencies {
        self.of(|_| true)
    }

    /// Of those that were over between these moments.
    #[must_use]
    pub fn between(&self, begin: Instant, end: Instant) -> Latencies {
        self.of(|at| begin <= at && at <= end)
    }

    fn of(&self, counts: impl Fn(Instant) -> bool) -> Latencies {
        let mut latencies = Latencies::default();
        for (_, latency) in self.0.iter().filter(|(at, _)| counts(*at)) {
            latencies.record(*latency);
        }
        latencies
    }
}

/// Chats, and comes afresh again and again, until told to stop.
///
/// # Errors
/// A connection of theirs ended: that is what must not happen.
pub fn chat(server: SocketAddr, talk: &Talk<'_>, stop: &AtomicBool) -> io::Result<Suffered> {
    std::thread::scope(|scope| {
        let fresh = scope.spawn(|| come_afresh(server, talk, stop));
        let messages = match talk {
            Talk::Echo => echo(server, stop),
            Talk::Chat { agent, tokens } => {
                let visitor = tokens.good(PAIR_VISITOR);
                let [visitor, agent] =
                    [&visitor, agent].map(|token| hello(token, fastrand::u64(1..)));
                converse(server, &visitor, &agent, stop)
            }
        };
        // Whoever fails ends the other as well.
        if messages.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        let fresh = fresh
            .join()
            .map_err(|_| io::Error::other("a fresh client panicked"))?;
        Ok(Suffered {
            messages: messages?,
            fresh: fresh?,
        })
    })
}

fn echo(server: SocketAddr, stop: &AtomicBool) -> io::Result<Samples> {
    let mut socket = Socket::open(server, None)?;
    let mut payload = Vec::new();
    each(MESSAGE_EVERY, stop, |number| {
        let text = format!("a healthy pair chats on: {number}");
        socket.send(TEXT, text.as_bytes())?;
        socket.receive(&mut payload)?;
        expect(payload == text.as_bytes(), "the echo", &payload)
    })
}

fn converse(
    server: SocketAddr,
    visitor: &str,
    agent: &str,
    stop: &AtomicBool,
) -> io::Result<Samples> {
    let mut agent = Person::greet(server, agent)?;
    let mut visitor = Person::greet(server, visitor)?;
    let conversation = visitor.say("is anybody there?", None)?;
    agent.hear("is anybody there?")?;
    each(MESSAGE_EVERY, stop, |number| {
        let text = format!("message {number}");
        if number.is_multiple_of(2) {
            visitor.post(&text, None)?;
            agent.hear(&text)
        } else {
            agent.post(&text, Some(&conversation))?;
            visitor.hear(&text)
        }
    })
}

fn come_afresh(server: SocketAddr, talk: &Talk<'_>, stop: &AtomicBool) -> io::Result<Samples> {
    each(FRESH_EVERY, stop, |number| match talk {
        Talk::Echo => {
            let mut payload = Vec::new();
            let mut socket = Socket::open(server, None)?;
            socket.send(TEXT, b"fresh")?;
            socket.receive(&mut payload)?;
            expect(payload == b"fresh", "the echo", &payload)
        }
        Talk::Chat { tokens, .. } => {
            let hello = tokens.hello(FRESH_VISITORS + u128::from(number));
            Person::greet(server, &hello).map(drop)
        }
    })
}

/// Does it at every step until told to stop; what each took, counted from when it was due.
fn each(
    every: Duration,
    stop: &AtomicBool,
    mut step: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<Samples> {
    let mut samples = Samples::default();
    let (mut due, mut number) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        step(number)?;
        let now = Instant::now();
        samples.0.push((now, now.saturating_duration_since(due)));
        due += every;
        number += 1;
    }
    Ok(samples)
}

fn expect(holds: bool, what: &str, found: &[u8]) -> io::Result<()> {
    if holds {
        return Ok(());
    }
    let found = String::from_utf8_lossy(found);
    Err(io::Error::other(format!("expected {what}, found {found}")))
}

/// Somebody who speaks JSON and acknowledges what they read.
struct Person {
    socket: Socket,
    n: u64,
    waiting: Vec<Value>,
}

impl Person {
    fn greet(server: SocketAddr, hello: &str) -> io::Result<Self> {
        let mut socket = Socket::open(server, None)?;
        socket.send(TEXT, hello.as_bytes())?;
        let mut person = Self {
            socket,
            n: 0,
            waiting: Vec::new(),
        };
        person.until(|envelope| envelope["kind"] == "welcome")?;
        Ok(person)
    }

    fn post(&mut self, text: &str, conversation: Option<&str>) -> io::Result<()> {
        self.n += 1;
        let mut send = json!({"kind": "send", "n": self.n, "text": text});
        if let Some(conversation) = conversation {
            send["conversation"] = json!(conversation);
        }
        self.socket.send(TEXT, send.to_string().as_bytes())
    }

    /// Sends, and returns the conversation once it is accepted.
    fn say(&mut self, text: &str, conversation: Option<&str>) -> io::Result<String> {
        self.post(text, conversation)?;
        let result = self.until(|envelope| envelope["kind"] == "send_result")?;
        expect(
            result["outcome"] == "accepted",
            "accepted",
            result.to_string().as_bytes(),
        )?;
        Ok(result["conversation"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// Reads until that text comes.
    fn hear(&mut self, text: &str) -> io::Result<()> {
        self.until(|envelope| envelope["kind"] == "message" && envelope["text"] == text)
            .map(drop)
    }

    fn acknowledge(&mut self, message: &Value) -> io::Result<()> {
        let ack = json!({"kind": "ack", "conversation": message["conversation"], "delivered": message["seq"]});
        self.socket.send(TEXT, ack.to_string().as_bytes())
    }

    /// Reads until such an envelope comes; those before it are dropped, but a refusal is an error.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> io::Result<Value> {
        let mut payload = Vec::new();
        loop {
            while !self.waiting.is_empty() {
                let envelope = self.waiting.remove(0);
                if envelope["kind"] == "message" {
                    self.acknowledge(&envelope)?;
                }
                if wanted(&envelope) {
                    return Ok(envelope);
                }
                let is_refused = envelope["kind"] == "send_result"
                    && !matches!(envelope["outcome"].as_str(), Some("accepted" | "duplicate"));
                expect(
                    !is_refused && envelope["kind"] != "error",
                    "to be served",
                    envelope.to_string().as_bytes(),
                )?;
            }
            match self.socket.receive(&mut payload)? {
                TEXT => match serde_json::from_slice(&payload)? {
                    Value::Array(batch) => self.waiting = batch,
                    one => self.waiting = vec![one],
                },
                9 => self.socket.send(10, &payload)?,
                8 => return expect(false, "to be served", &payload).map(|()| Value::Null),
                _ => {}
            }
        }
    }
}
