//! Tidegate gateway: sockets in, ring out; ring in, sockets out.

pub mod chat;
pub mod config;
pub mod id;
pub mod service;
pub mod time;

pub use config::{Config, EchoConfig};
