//! The chat: what stands between WebSocket messages and the shared-memory bus.

pub mod admission;
pub mod heartbeat;
pub mod ticket;
pub mod token_bucket;
