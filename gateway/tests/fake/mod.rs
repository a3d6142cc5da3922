//! A driver without a kernel, for tests of the shard: it keeps what was asked for until the test completes it, and checks
//! the contract of each call.

#![allow(
    dead_code,
    reason = "each test file is a program of its own and uses a part of this one"
)]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use tidegate_gateway::driver::{BufferId, Driver, Key, Outgoing, Receive, Socket};
use tidegate_gateway::shard::ShardOptions;
use tidegate_gateway::trusted::TrustedProxies;
use tidegate_protocol::ws::client::UpgradeRequest;
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::ws::handshake::{Policy, Subprotocols};
use tidegate_protocol::ws::{Bounds, Opcode};

pub const BUFFERS: u16 = 16;
pub const BUFFER_BYTES: usize = 4096;

/// Keeps what was asked for until the test completes it.
pub struct Fake {
    pub memory: Vec<Vec<u8>>,
    pub free: VecDeque<BufferId>,
    pub receiving: HashMap<u32, (Key, Receive)>,
    pub cancelled: Vec<Key>,
    pub sending: Vec<(Key, Socket, *const u8, usize)>,
    pub send_cancels: Vec<Key>,
    pub shut: Vec<Socket>,
    pub closed: Vec<Socket>,
    pub accepting: bool,
    pub peer: SocketAddr,
}

impl Fake {
    pub fn new() -> Self {
        Self {
            memory: (0..BUFFERS).map(|_| vec![0; BUFFER_BYTES]).collect(),
            free: (0..BUFFERS).map(BufferId).collect(),
            receiving: HashMap::new(),
            cancelled: Vec::new(),
            sending: Vec::new(),
            send_cancels: Vec::new(),
            shut: Vec::new(),
            closed: Vec::new(),
            accepting: false,
            peer: "192.0.2.1:5000".parse().expect("an address"),
        }
    }
}

impl Driver for Fake {
    fn buffer(&mut self, id: BufferId) -> &mut [u8] {
        assert!(
            !self.free.contains(&id),
            "a buffer that was given back is used"
        );
        &mut self.memory[usize::from(id.0)]
    }
    fn give_back(&mut self, id: BufferId) {
        assert!(!self.free.contains(&id), "given back twice");
        self.memory[usize::from(id.0)].fill(0xEE);
        self.free.push_back(id);
    }
    fn buffers_free(&self) -> (u32, u32) {
        (
            u32::try_from(self.free.len()).expect("few"),
            u32::from(BUFFERS),
        )
    }
    fn buffer_bytes(&self) -> usize {
        BUFFER_BYTES
    }
    fn receive(&mut self, key: Key, socket: Socket, receive: Receive) {
        assert!(!self.closed.contains(&socket), "receive on a closed socket");
        let before = self.receiving.insert(socket.0, (key, receive));
        assert!(before.is_none(), "two receives of one socket");
    }
    fn cancel_receive(&mut self, key: Key) {
        self.cancelled.push(key);
    }
    unsafe fn send(&mut self, key: Key, socket: Socket, bytes: Outgoing<'_>) {
        assert!(
            self.sending.iter().all(|send| send.0 != key),
            "two sends of one connection"
        );
        let (start, length) = match bytes {
            Outgoing::Memory(bytes) => (bytes.as_ptr(), bytes.len()),
            Outgoing::Received { id, start, end } => {
                let bytes = &self.buffer(id)[start as usize..end as usize];
                (bytes.as_ptr(), bytes.len())
            }
        };
        self.sending.push((key, socket, start, length));
    }
    fn cancel_send(&mut self, key: Key) {
        self.send_cancels.push(key);
    }
    fn shutdown_write(&mut self, socket: Socket) {
        self.shut.push(socket);
    }
    fn close(&mut self, socket: Socket) {
        assert!(
            !self.receiving.contains_key(&socket.0),
            "closed under a receive"
        );
        assert!(
            self.sending.iter().all(|send| send.1 != socket),
            "closed under a send"
        );
        self.closed.push(socket);
    }
    fn peer(&mut self, _socket: Socket) -> Option<SocketAddr> {
        Some(self.peer)
    }
    fn set_accepting(&mut self, accepting: bool) {
        self.accepting = accepting;
    }
}

pub fn options() -> ShardOptions {
    ShardOptions {
        shard: 3,
        connections_max: 8,
        bounds: Bounds {
            message_bytes_max: 10_000,
        },
        policy: Policy {
            allowed_origins: Vec::new(),
            subprotocols: Subprotocols::Ignored,
        },
        trusted: TrustedProxies::default(),
        parked_bytes_max: 64 << 10,
        out_bytes_max: 1 << 20,
        visitor_out_bytes_max: 64 << 10,
        agent_out_bytes_max: 256 << 10,
        collect_bytes_max: 1 << 20,
        handshake_ms_max: 10_000,
        stalled_frame_ms_max: 60_000,
        drain_ms: 4_000,
    }
}

pub fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    append_client_frame(&mut bytes, true, opcode, payload, [9, 8, 7, 6]);
    bytes
}

pub fn upgrade_request(extra: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let request = UpgradeRequest {
        host: "t",
        target: "/ws",
        nonce: [1; 16],
        subprotocols: "",
        origin: "",
    };
    request.append(&mut bytes);
    bytes.truncate(bytes.len() - 2);
    bytes.extend_from_slice(extra.as_bytes());
    bytes.extend_from_slice(b"\r\n");
    bytes
}
