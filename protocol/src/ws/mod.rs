//! RFC 6455 as a sans-IO codec: bytes and state in, events and bytes out; no socket, no clock.
//!
//! A connection begins in [`handshake`]; then its bytes go through a [`MessageReader`], which unmasks in place and
//! lends whole messages out of the buffer that they arrived in, and collects only what is split. What is sent gets
//! its header from [`encoder`].

pub mod client;
pub mod close;
pub mod decoder;
pub mod encoder;
pub mod error;
pub mod handshake;
pub mod header;
pub mod mask;
pub mod reader;
pub mod utf8;

pub use close::CloseFrame;
pub use decoder::{Bounds, Decoder, Event, Step};
pub use error::ProtocolError;
pub use header::{FrameHeader, Opcode, Peer};
pub use reader::{Incoming, MessageReader};
