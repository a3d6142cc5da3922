//! Codecs turn what a client speaks into the one internal form, FlatBuffers payloads, and back.

pub mod json;

/// How one connection speaks, chosen once at the upgrade by its WebSocket subprotocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// `tidegate.v1.json`: text frames, one object or an array of objects. The default when none is offered.
    #[default]
    Json = 0,
    /// `tidegate.v1.fb`: binary frames of envelopes; what the SDK speaks.
    Flat = 1,
    // 2 is kept for `tidegate.v1.pb` (protobuf).
}

impl Codec {
    /// Every codec, the preferred first.
    pub const ALL: &[Self] = &[Self::Flat, Self::Json];

    /// Its name in `Sec-WebSocket-Protocol`.
    #[must_use]
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "tidegate.v1.json",
            Self::Flat => "tidegate.v1.fb",
        }
    }

    /// The codec of a subprotocol's name.
    #[must_use]
    pub fn from_subprotocol(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|codec| codec.subprotocol() == name)
    }

    /// The codec of its byte on the bus.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Json),
            1 => Some(Self::Flat),
            _ => None,
        }
    }
}
