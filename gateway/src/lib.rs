#![doc = include_str!("../README.md")]

pub mod chat;
pub mod config;
pub mod connection;
pub mod counters;
pub mod driver;
pub mod echo;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
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
pub use listener::Inherited;
pub use run::{Bound, ExitReason, Handle};
pub use start::StartError;

// Short names within the crate.
extern crate tidegate_protocol as protocol;
