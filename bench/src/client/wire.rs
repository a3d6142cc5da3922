//! Bytes on one connection: the upgrade, frames, envelopes in either codec. Knows nothing of what they mean.

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::codec::json;
use tidegate_protocol::envelope::append_envelope;
use tidegate_protocol::limits::WS_MESSAGE_BYTES_MAX;
use tidegate_protocol::ws::client::{ClientError, UpgradeRequest};
use tidegate_protocol::ws::encoder::{append_client_close, append_client_frame};
use tidegate_protocol::ws::{Bounds, MessageReader, Opcode, Peer};
use tidegate_protocol::{Codec, Kind, verify};

use super::{Exchange, Settings};

/// What the server may send in one message.
pub(super) const BOUNDS: Bounds = Bounds {
    message_bytes_max: {
        assert!(WS_MESSAGE_BYTES_MAX <= u32::MAX as usize);
        #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
        {
            WS_MESSAGE_BYTES_MAX as u32
        }
    },
};

/// Where a connection's bytes stand.
#[derive(Debug)]
pub(super) enum Wire {
    /// No connection, or none that was upgraded.
    None,
    /// The upgrade was sent; its answer comes.
    Upgrading(Box<Upgrading>),
    /// Frames.
    Open(MessageReader),
}

#[derive(Debug)]
pub(super) struct Upgrading {
    nonce: [u8; 16],
    answer: Vec<u8>,
}

impl Wire {
    /// Asks for the upgrade.
    pub(super) fn upgrade(&mut self, settings: &Settings, nonce: [u8; 16], output: &mut Vec<u8>) {
        request(settings, nonce).append(output);
        let answer = Vec::new();
        *self = Self::Upgrading(Box::new(Upgrading { nonce, answer }));
    }

    /// Takes bytes of the upgrade's answer. `Ok(Some(rest))`: frames from there on.
    pub(super) fn answer(
        &mut self,
        settings: &Settings,
        bytes: &[u8],
    ) -> Result<Option<usize>, ClientError> {
        let Self::Upgrading(upgrading) = self else {
            return Ok(Some(0));
        };
        let had = upgrading.answer.len();
        upgrading.answer.extend_from_slice(bytes);
        let upgraded = request(settings, upgrading.nonce).parse_response(&upgrading.answer)?;
        let Some(head) = upgraded.map(|upgraded| upgraded.response_bytes) else {
            return Ok(None);
        };
        *self = Self::Open(MessageReader::new(Peer::Server));
        Ok(Some(head - had))
    }
}

fn request(settings: &Settings, nonce: [u8; 16]) -> UpgradeRequest<'_> {
    UpgradeRequest {
        host: &settings.host,
        target: &settings.target,
        nonce,
        subprotocols: settings.codec.subprotocol(),
        origin: &settings.origin,
    }
}

/// Appends one message of one envelope.
pub(super) fn append(
    exchange: &mut Exchange,
    codec: Codec,
    kind: Kind,
    now_us: u64,
    mask: [u8; 4],
    encode: impl for<'b> FnOnce(&'b mut FlatBufferBuilder<'static>) -> &'b [u8],
) {
    let payload = encode(&mut exchange.builder);
    let scratch = &mut exchange.json;
    scratch.clear();
    let opcode = match codec {
        Codec::Flat => {
            append_envelope(scratch, kind, now_us, payload);
            Opcode::Binary
        }
        Codec::Json => {
            let view = verify(kind, payload).expect("a client encodes within the limits");
            json::encode(scratch, now_us, &view);
            Opcode::Text
        }
    };
    append_client_frame(&mut exchange.output, true, opcode, scratch, mask);
}

/// Appends a close frame.
pub(super) fn append_close(output: &mut Vec<u8>, code: CloseCode, mask: [u8; 4]) {
    append_client_close(output, Some(code), "", mask);
}
