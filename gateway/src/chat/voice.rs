//! What the gateway itself says, and how a payload becomes a message in a connection's codec.

use crate::service::{ConnectionId, Frame, SendOutcome, Sockets};
use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::codec::json;
use tidegate_protocol::envelope::{Malformed, append_envelope};
use tidegate_protocol::{Codec, Kind, message, verify};

/// Appends the one message that carries this payload.
///
/// # Errors
/// JSON is written from a verified view; a payload that does not verify has none. The binary form is passed on as it
/// is: the client verifies for itself.
pub fn encode(
    out: &mut Vec<u8>,
    codec: Codec,
    kind: Kind,
    timestamp_us: u64,
    payload: &[u8],
) -> Result<(), Malformed> {
    match codec {
        Codec::Flat => append_envelope(out, kind, timestamp_us, payload),
        Codec::Json => json::encode(out, timestamp_us, &verify(kind, payload)?),
    }
    Ok(())
}

/// The frame for a message in this codec.
pub fn frame(codec: Codec, message: &[u8]) -> Frame<'_> {
    match codec {
        Codec::Flat => Frame::Binary(message),
        Codec::Json => Frame::Text(message),
    }
}

/// Writes the gateway's own messages. Its buffers grow to the longest and stay.
#[derive(Default)]
pub struct Voice {
    builder: FlatBufferBuilder<'static>,
    out: Vec<u8>,
}

impl Voice {
    /// A buffer to write messages into.
    pub fn scratch(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Answers a Ping.
    pub fn pong(&mut self, io: &mut impl Sockets, id: ConnectionId, codec: Codec, request: u64) {
        let payload = message::Pong { request }.encode(&mut self.builder);
        say(&mut self.out, io, id, codec, Kind::Pong, payload);
    }

    /// Says what was wrong.
    pub fn error(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        codec: Codec,
        error: &message::Error<'_>,
    ) {
        let payload = error.encode(&mut self.builder);
        say(&mut self.out, io, id, codec, Kind::Error, payload);
    }

    /// Refuses a Send.
    pub fn send_result(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        codec: Codec,
        result: &message::SendResult<'_>,
    ) {
        let payload = result.encode(&mut self.builder);
        say(&mut self.out, io, id, codec, Kind::SendResult, payload);
    }

    /// Tells the place in the waiting room.
    pub fn wait(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        codec: Codec,
        wait: &message::Wait<'_>,
    ) {
        let payload = wait.encode(&mut self.builder);
        say(&mut self.out, io, id, codec, Kind::Wait, payload);
    }

    /// Gives one who is inside what brings them back in.
    pub fn admitted(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        codec: Codec,
        ticket: &str,
    ) {
        let payload = message::Admitted { ticket }.encode(&mut self.builder);
        say(&mut self.out, io, id, codec, Kind::Admitted, payload);
    }

    /// Asks to come back later.
    pub fn goaway(&mut self, io: &mut impl Sockets, id: ConnectionId, codec: Codec, retry_ms: u32) {
        let payload = message::Goaway { retry_ms }.encode(&mut self.builder);
        say(&mut self.out, io, id, codec, Kind::Goaway, payload);
    }

    /// Passes one payload of the backend's on to one connection.
    ///
    /// # Errors
    /// The payload does not verify, and the connection speaks JSON.
    pub fn pass_on(
        &mut self,
        io: &mut impl Sockets,
        id: ConnectionId,
        codec: Codec,
        kind: Kind,
        timestamp_us: u64,
        payload: &[u8],
    ) -> Result<SendOutcome, Malformed> {
        self.out.clear();
        encode(&mut self.out, codec, kind, timestamp_us, payload)?;
        Ok(io.send(id, frame(codec, &self.out)))
    }
}

/// What the gateway says is lost only together with the connection: the outcome tells nothing that `on_closed`
/// will not.
fn say(
    out: &mut Vec<u8>,
    io: &mut impl Sockets,
    id: ConnectionId,
    codec: Codec,
    kind: Kind,
    payload: &[u8],
) {
    out.clear();
    encode(out, codec, kind, io.now().us(), payload)
        .expect("invariant: our own encoder's payload verifies");
    let _lost_with_the_connection = io.send(id, frame(codec, out));
}
