//! How long do a pong and a new message take to a reader that is busy with a long replay and reads slowly?
//!
//! A visitor left a backlog in one conversation. An agent connects and reads at a fixed rate, so the backlog is
//! replayed at that rate; meanwhile the agent's client pings, and another visitor writes in another conversation. What
//! is measured is the time from the ping to its pong, and from the other visitor's send to the agent's reading it,
//! both through the slow reader's own connection. (A new message in the *same* conversation comes after the backlog:
//! there is one order.)

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::latency::Latencies;
use crate::server::Server;
use crate::socket::{Socket, TEXT};

/// What the server is started with: a visitor may leave a backlog at once.
pub const SETTINGS: [(&str, &str); 2] = [
    ("TIDEGATE_BACKEND__SENDS_PER_S_MAX", "100000"),
    ("TIDEGATE_BACKEND__SENDS_BURST_MAX", "100000"),
];

const PROBE_EVERY_MS: u64 = 100;
const READ_BYTES: usize = 4_096;

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Messages in the backlog (at most 200: more are read over HTTP, and not replayed to a client without a cursor).
    pub backlog_messages: usize,
    /// Bytes of each.
    pub message_bytes: usize,
    /// How fast the agent reads.
    pub read_bytes_per_s: u64,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Answer {
    /// Ping to pong.
    pub pongs: Latencies,
    /// The other visitor's send to the agent's reading it.
    pub messages: Latencies,
    /// Messages of the backlog that came while probes were answered.
    pub replayed: usize,
    /// How long the replay took.
    pub replay: Duration,
}

/// Asks a server that was started with [`SETTINGS`].
pub fn ask(server: &Server, question: Question) -> io::Result<Answer> {
    let mut first = Visitor::connect(server, "00000000000000a1")?;
    let text = "x".repeat(question.message_bytes);
    for _ in 0..question.backlog_messages {
        first.send(&text)?;
    }
    let mut second = Visitor::connect(server, "00000000000000a2")?;
    second.send("before")?;

    let login = json!({"user": "demo", "password": server.password});
    let login = server.ask("POST", "/api/agent/login", None, Some(&login))?;
    let token = login["token"].as_str().unwrap_or_default().to_owned();
    let mut agent = Socket::open(server.ws, None)?;
    hello(&mut agent, &token, "00000000000000b1")?;

    let sent: Mutex<HashMap<String, Instant>> = Mutex::default();
    let (mut answer, begin) = (Answer::default(), Instant::now());
    let mut reader = SlowReader {
        stream: agent.stream().try_clone()?,
        rate: question.read_bytes_per_s,
        begin,
        read: 0,
    };
    let mut probe_at = begin;
    let mut probes = 0_u64;
    let mut bytes = Vec::new();
    let mut marks: HashMap<String, u64> = HashMap::new();
    while answer.replayed < question.backlog_messages {
        if Instant::now() >= probe_at {
            probe_at += Duration::from_millis(PROBE_EVERY_MS);
            probes += 1;
            let now = Instant::now();
            let mut sent = sent.lock().map_err(|_| io::Error::other("poisoned"))?;
            sent.insert(format!("ping {probes}"), now);
            sent.insert(format!("probe {probes}"), now);
            agent.send(
                TEXT,
                json!({"kind": "ping", "request": probes})
                    .to_string()
                    .as_bytes(),
            )?;
            second.post(&format!("probe {probes}"))?;
        }
        reader.read_some(&mut bytes)?;
        for envelope in take_envelopes(&mut bytes)? {
            let mut sent = sent.lock().map_err(|_| io::Error::other("poisoned"))?;
            match envelope["kind"].as_str() {
                Some("pong") => {
                    if let Some(at) = sent.remove(&format!("ping {}", envelope["request"])) {
                        answer.pongs.record(at.elapsed());
                    }
                }
                Some("message") => {
                    let text = envelope["text"].as_str().unwrap_or_default();
                    if let Some(at) = sent.remove(text) {
                        answer.messages.record(at.elapsed());
                    }
                    answer.replayed += usize::from(text.len() == question.message_bytes);
                    let conversation = envelope["conversation"]
                        .as_str()
                        .unwrap_or_default()
                        .to_owned();
                    marks.insert(conversation, envelope["seq"].as_u64().unwrap_or_default());
                }
                _ => {}
            }
        }
        for (conversation, seq) in marks.drain() {
            let ack = json!({"kind": "ack", "conversation": conversation, "delivered": seq});
            agent.send(TEXT, ack.to_string().as_bytes())?;
        }
    }
    answer.replay = begin.elapsed();
    Ok(answer)
}

/// Reads so much as its rate allows by now, and no more.
struct SlowReader {
    stream: std::net::TcpStream,
    rate: u64,
    begin: Instant,
    read: u64,
}

impl SlowReader {
    fn read_some(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        let due = Duration::from_secs_f64(self.read as f64 / self.rate as f64);
        let wait = due.saturating_sub(self.begin.elapsed());
        if !wait.is_zero() {
            std::thread::sleep(wait.min(Duration::from_millis(20)));
            return Ok(());
        }
        self.stream
            .set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut chunk = [0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => Err(io::Error::other("the server closed the slow reader")),
            Ok(count) => {
                self.read += count as u64;
                bytes.extend_from_slice(&chunk[..count]);
                Ok(())
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The envelopes of the whole frames in front; pings of the server are passed over (its TCP sees the reads).
fn take_envelopes(bytes: &mut Vec<u8>) -> io::Result<Vec<Value>> {
    let (mut envelopes, mut at) = (Vec::new(), 0);
    while let Some((opcode, start, end)) = frame_at(&bytes[at..]) {
        let payload = &bytes[at + start..at + end];
        match opcode {
            TEXT => match serde_json::from_slice(payload)? {
                Value::Array(batch) => envelopes.extend(batch),
                one => envelopes.push(one),
            },
            8 => {
                return Err(io::Error::other(format!(
                    "closed: {}",
                    String::from_utf8_lossy(&payload[2..])
                )));
            }
            _ => {}
        }
        at += end;
    }
    bytes.drain(..at);
    Ok(envelopes)
}

/// Opcode, and where the payload begins and ends, of a whole frame in front.
fn frame_at(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let (start, length) = match second {
        126 => (
            4,
            usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?])),
        ),
        127 => (
            10,
            usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?,
        ),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= start + length).then_some((first & 0x0f, start, start + length))
}

fn hello(socket: &mut Socket, token: &str, session: &str) -> io::Result<()> {
    let hello = json!({"kind": "hello", "request": 1, "token": token, "session": session});
    socket.send(TEXT, hello.to_string().as_bytes())
}

/// Somebody who writes.
struct Visitor {
    socket: Socket,
    n: u64,
}

impl Visitor {
    fn connect(server: &Server, session: &str) -> io::Result<Self> {
        let token = server.ask(
            "POST",
            "/api/visitor/token",
            None,
            Some(&json!({"widget": "default"})),
        )?;
        let mut socket = Socket::open(server.ws, None)?;
        hello(
            &mut socket,
            token["token"].as_str().unwrap_or_default(),
            session,
        )?;
        Ok(Self { socket, n: 0 })
    }

    fn post(&mut self, text: &str) -> io::Result<()> {
        self.n += 1;
        let send = json!({"kind": "send", "n": self.n, "text": text});
        self.socket.send(TEXT, send.to_string().as_bytes())
    }

    /// Sends, and waits until it was accepted.
    fn send(&mut self, text: &str) -> io::Result<()> {
        self.post(text)?;
        let mut payload = Vec::new();
        loop {
            self.socket.receive(&mut payload)?;
            let envelope: Value = serde_json::from_slice(&payload).unwrap_or_default();
            if envelope["kind"] == "send_result" {
                return match envelope["outcome"].as_str() {
                    Some("accepted") => Ok(()),
                    _ => Err(io::Error::other(format!("not accepted: {envelope}"))),
                };
            }
        }
    }
}
