//! What can be configured, each key with its unit, its default and its rule. One TOML file < environment < flags;
//! the merging is the binary's part, the meaning stands here.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The gateway's settings. Every key has a default; unknown keys are errors.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the WebSocket port. Ignored where listeners are inherited.
    pub listen: SocketAddr,
    /// Shards, one core each; 0 = one per core that the process may use.
    pub shards: u16,
    /// Pin shard n to the n-th core that the process may use.
    pub pin_cores: bool,
    /// Origins that may connect (`https://shop.example`), `*` for any. Requests without an Origin header (no
    /// browser) are let in. Empty: no page may connect.
    pub allowed_origins: Vec<String>,
    /// Addresses or networks (`10.0.0.0/8`) whose PROXY protocol v2 header and X-Forwarded-For are believed.
    pub trusted_proxies: Vec<String>,
    /// Longest WebSocket message, bytes. Longer ones are refused on the header with 1009.
    pub max_message_bytes: u32,
    /// Connections of this process, all shards together. At the limit accepting pauses; the backlog waits.
    pub connections_max: u32,

    /// Directory of the bus.
    pub bus_dir: PathBuf,
    /// Size of each ring, bytes; a power of two.
    pub ring_bytes: u32,
    /// Rings on pages of 2 MiB. What the kernel gave stands in the log when a gateway starts.
    pub ring_huge_pages: bool,
    /// The NUMA node on which the rings are to lie: that of the cores of gateway and backend. What the kernel gave stands
    /// in the log.
    pub ring_numa_node: Option<u32>,
    /// File with the key that signs tokens: 32 bytes in hex.
    pub token_key_file: PathBuf,

    /// Shortest heartbeat interval, ms.
    pub heartbeat_ms_min: u32,
    /// Longest heartbeat interval, ms (h5; WeChat pages get less).
    pub heartbeat_ms_max: u32,

    /// A message that can't be placed in the ring for so long is refused `busy`, ms.
    pub park_ms_max: u32,
    /// Bytes kept for parked connections, per shard. Past it a connection that would park is closed with 4006.
    pub parked_bytes_max: u32,

    /// Bytes queued for sending, per shard. Past it the largest queue's connection is closed with 4002.
    pub out_bytes_max: u32,
    /// Bytes queued for one visitor. Past it: closed with 4002.
    pub visitor_out_bytes_max: u32,
    /// Bytes queued for one agent or supervisor. Past it: closed with 4002.
    pub agent_out_bytes_max: u32,
    /// Bytes that partial and fragmented messages may hold, per shard. Past it the connection that would hold more
    /// is closed with 4006.
    pub collect_bytes_max: u64,

    /// A connection must have sent its whole handshake after so long, ms.
    pub handshake_ms_max: u32,
    /// A frame or fragmented message that was begun must be whole after so long without 16 KiB more of it, ms. With
    /// the 5 s in which a closed peer may hang up, a stalled one is gone within a minute.
    pub stalled_frame_ms_max: u32,

    /// Silence after which the kernel probes a peer (TCP_KEEPIDLE), seconds; it gives up a peer from which nothing came for
    /// 1.75 times as long. Longer than a heartbeat, so that it probes only those of whom no heartbeat came.
    pub tcp_keepalive_s: u32,
    /// Length of each listen queue, connections. A storm overflows 1,024; the kernel cuts it to net.core.somaxconn.
    pub listen_backlog: u32,

    /// Address of the metrics and health page.
    pub admin_listen: Option<SocketAddr>,
    /// After SIGTERM all connections are closed, jittered, within so long, ms.
    pub drain_ms: u32,

    /// Buffers that the kernel receives into, per shard; a power of two.
    pub receive_buffers: u16,
    /// Size of each, bytes.
    pub receive_buffer_bytes: u32,
}

/// The default WebSocket port.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:8601";
/// The default address of metrics and health.
pub const ADMIN_LISTEN_DEFAULT: &str = "127.0.0.1:8602";

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: LISTEN_DEFAULT.parse().expect("the constant is an address"),
            shards: 0,
            pin_cores: false,
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            max_message_bytes: 64 << 10,
            connections_max: 1 << 20,
            bus_dir: PathBuf::from("/dev/shm/tidegate"),
            ring_bytes: 4 << 20,
            ring_huge_pages: false,
            ring_numa_node: None,
            token_key_file: PathBuf::from("tidegate-data/secrets/token.key"),
            heartbeat_ms_min: 15_000,
            heartbeat_ms_max: 60_000,
            park_ms_max: 2_000,
            parked_bytes_max: 16 << 20,
            out_bytes_max: 64 << 20,
            visitor_out_bytes_max: 64 << 10,
            agent_out_bytes_max: 1 << 20,
            collect_bytes_max: 256 << 20,
            handshake_ms_max: 10_000,
            stalled_frame_ms_max: 50_000,
            tcp_keepalive_s: 120,
            listen_backlog: 65_535,
            admin_listen: Some(
                ADMIN_LISTEN_DEFAULT
                    .parse()
                    .expect("the constant is an address"),
            ),
            drain_ms: 4_000,
            receive_buffers: 128,
            receive_buffer_bytes: 16 << 10,
        }
    }
}

/// Settings of the diagnostic echo: `tidegate gateway --echo`.
#[derive(Clone, Debug)]
pub struct EchoConfig {
    /// Address to listen on; port 0 = the kernel picks.
    pub listen: SocketAddr,
    /// Shards, one core each; 0 = one per core.
    pub shards: u16,
    /// Longest message, bytes: up to 16 MiB.
    pub max_message_bytes: u32,
    /// Origins let in besides requests that have none; empty = any.
    pub allowed_origins: Vec<String>,
    /// The rest: bounds, timeouts, admin listener, buffers.
    pub base: Config,
}
