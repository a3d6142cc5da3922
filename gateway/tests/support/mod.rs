//! The other side, for the gateway's tests: a gateway in a thread of the test, and clients that can misbehave.

#![allow(
    dead_code,
    reason = "each test file is a program of its own and uses a part of this one"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_gateway::{Config, EchoConfig, ExitReason, Handle, Inherited, StartError, run_echo};
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::ws::client::UpgradeRequest;
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::ws::{Bounds, Incoming, MessageReader, Opcode, Peer};

/// Nothing in a test may take longer: a wait that reaches it is the failure.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a condition.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An echo gateway on a port of the kernel's choice.
pub struct Gateway {
    pub handle: Handle,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    thread: Option<JoinHandle<Result<ExitReason, StartError>>>,
}

/// One shard on ports of the kernel's choice, quick to drain.
pub fn small() -> EchoConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    EchoConfig {
        listen: any,
        shards: 1,
        max_message_bytes: 16 << 20,
        allowed_origins: Vec::new(),
        base: Config {
            admin_listen: Some(any),
            drain_ms: 500,
            ..Config::default()
        },
    }
}

impl Gateway {
    pub fn start(config: EchoConfig) -> Self {
        Self::start_with(config, Inherited::default())
    }

    pub fn start_with(config: EchoConfig, listeners: Inherited) -> Self {
        let handle = Handle::new().expect("descriptors");
        let runs = handle.clone();
        let thread = std::thread::spawn(move || run_echo(config, listeners, &runs));
        let deadline = Instant::now() + PATIENCE;
        let bound = loop {
            if let Some(bound) = handle.wait_bound(Duration::from_millis(50)) {
                break bound;
            }
            if thread.is_finished() {
                panic!("did not start: {:?}", thread.join());
            }
            assert!(Instant::now() < deadline, "did not start in time");
        };
        Self {
            handle,
            address: bound.listen,
            admin: bound.admin.expect("configured"),
            thread: Some(thread),
        }
    }

    /// Drains and says how the run ended.
    pub fn stop(mut self) -> ExitReason {
        self.handle.drain();
        let thread = self.thread.take().expect("not stopped before");
        thread.join().expect("no panic").expect("no error")
    }

    /// A counter, all shards together, as `/metrics` shows it.
    pub fn counter(&self, name: &str) -> u64 {
        let text = http(self.admin, "GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n");
        let start = format!("tidegate_gateway_{name}{{shard=\"");
        let lines = text.lines().filter(|line| line.starts_with(&start));
        let values: Vec<u64> = lines
            .map(|line| line.rsplit(' ').next().expect("a value").parse())
            .collect::<Result<_, _>>()
            .expect("numbers");
        assert!(!values.is_empty(), "no counter {name} in {text}");
        values.iter().sum()
    }

    /// Counters are published every 100 ms: waits until this one has that value.
    pub fn expect_counter(&self, name: &str, value: u64) {
        let mut found = 0;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            found = self.counter(name);
            if found == value {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{name} stayed at {found}, not {value}");
    }

    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.handle.drain();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sends a request and reads to the end of the stream.
pub fn http(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("taken");
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

/// What a client heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<CloseCode>, String),
    /// The stream ended, or was reset.
    End,
}

/// A WebSocket client that sends what it is told to, right or wrong.
pub struct Client {
    pub stream: TcpStream,
    reader: MessageReader,
    pending: Vec<u8>,
}

pub const NONCE: [u8; 16] = *b"0123456789abcdef";

pub fn request(extra: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    UpgradeRequest {
        host: "test",
        target: "/ws",
        nonce: NONCE,
        subprotocols: "",
        origin: "",
    }
    .append(&mut bytes);
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(extra.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    bytes
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        let mut client = Self::raw(address);
        client.write(&request(""));
        client.upgraded();
        client
    }

    /// Connected, nothing sent.
    pub fn raw(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("listens");
        Self::over(stream)
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream,
            reader: MessageReader::new(Peer::Server),
            pending: Vec::new(),
        }
    }

    /// Reads the answer to the upgrade; it must be a 101.
    pub fn upgraded(&mut self) {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Reads the head of an HTTP answer; what follows stays.
    pub fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.pending.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.pending.split_off(end + 4);
                let head = std::mem::replace(&mut self.pending, rest);
                return String::from_utf8(head).expect("ASCII");
            }
            assert!(self.fill(), "the stream ended in the answer's head");
        }
    }

    fn fill(&mut self) -> bool {
        let mut piece = [0; 64 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.pending.extend_from_slice(&piece[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("heard nothing in time"),
            Err(_) => false,
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("taken");
    }

    /// A masked frame, right in itself.
    pub fn frame(&mut self, fin: bool, opcode: Opcode, payload: &[u8]) {
        self.write(&frame(fin, opcode, payload));
    }

    pub fn text(&mut self, text: &str) {
        self.frame(true, Opcode::Text, text.as_bytes());
    }

    pub fn hear(&mut self) -> Heard {
        let bounds = Bounds {
            message_bytes_max: u32::MAX,
        };
        loop {
            let mut at = 0;
            let heard = match self.reader.next(&mut self.pending, &mut at, &bounds) {
                Ok(Some(Incoming::Text(bytes))) => Some(Heard::Text(bytes.to_vec())),
                Ok(Some(Incoming::Binary(bytes))) => Some(Heard::Binary(bytes.to_vec())),
                Ok(Some(Incoming::Ping(bytes))) => Some(Heard::Ping(bytes.to_vec())),
                Ok(Some(Incoming::Pong(bytes))) => Some(Heard::Pong(bytes.to_vec())),
                Ok(Some(Incoming::Close(close))) => {
                    Some(Heard::Close(close.code, close.reason.to_owned()))
                }
                Ok(None) => None,
                Err(error) => panic!("the gateway broke the protocol: {error}"),
            };
            self.pending.drain(..at);
            if let Some(heard) = heard {
                return heard;
            }
            if !self.fill() {
                return Heard::End;
            }
        }
    }

    /// The next thing heard must be this text.
    pub fn expect_text(&mut self, text: &str) {
        let heard = self.hear();
        assert_eq!(heard, Heard::Text(text.as_bytes().to_vec()));
    }

    /// The next thing heard must be a close frame of this code, then the end.
    pub fn expect_close(&mut self, code: CloseCode) {
        loop {
            match self.hear() {
                Heard::Close(found, _) => {
                    assert_eq!(found, Some(code));
                    break;
                }
                Heard::End => panic!("the stream ended without a close frame"),
                _ => {}
            }
        }
        assert_eq!(self.hear(), Heard::End);
    }

    /// One message there and back.
    pub fn round_trip(&mut self, text: &str) {
        self.text(text);
        self.expect_text(text);
    }
}

pub fn frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_client_frame(&mut bytes, fin, opcode, payload, [0x1f, 0x2e, 0x3d, 0x4c]);
    bytes
}
