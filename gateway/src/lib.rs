//! Tidegate gateway: sockets in, ring out; ring in, sockets out.
//!
//! A shard is one core with one glommio executor, one io_uring and all its connections; nothing is shared between
//! shards on the hot path. The modules in the order in which a process, then a message, meets them:
//!
//! | module | what it is |
//! | --- | --- |
//! | [`config`], [`start`], [`listener`], [`run`] | settings; what can keep it from starting; sockets; shards started and drained |
//! | [`driver`] | the io_uring of a shard: accept, receive, send, close |
//! | [`shard`], [`connection`], [`wheel`] | all connections of one core, as a machine without I/O; one of them; their deadlines |
//! | [`service`] | the line to what stands above |
//! | [`echo`] | above it: every message back |
//! | [`chat`] | above it: the chat over the bus |
//! | [`id`], [`time`], [`trusted`], [`counters`] | names of connections; time that never steps back; proxies; what is counted |

pub mod chat;
pub mod config;
pub mod connection;
pub mod counters;
pub mod driver;
pub mod echo;
pub mod id;
pub mod listener;
pub mod run;
pub mod service;
pub mod shard;
pub mod start;
pub mod time;
pub mod trusted;
pub mod wheel;

mod admin;

pub use chat::{run, run_bus_echo};
pub use config::{Config, EchoConfig};
pub use echo::run_echo;
pub use run::{Bound, ExitReason, Handle};
pub use start::StartError;

// Short names within the crate.
extern crate tidegate_protocol as protocol;
