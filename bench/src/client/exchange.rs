//! What a client needs while it works, and not while it is idle: one serves thousands of clients in turn.

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::codec::json::JsonDecoder;

use super::Event;

/// The place where one client's call leaves its results. Take both out before the next client's call.
#[derive(Default)]
pub struct Exchange {
    /// Bytes for the socket, in order.
    pub output: Vec<u8>,
    /// What happened, in order.
    pub events: Vec<Event>,
    pub(super) builder: FlatBufferBuilder<'static>,
    pub(super) decoder: JsonDecoder,
    pub(super) json: Vec<u8>,
}

impl core::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Exchange")
            .field("output_bytes", &self.output.len())
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
