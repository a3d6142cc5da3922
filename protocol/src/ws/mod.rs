//! RFC 6455 as a sans-IO codec: bytes and state in, events and bytes out; no socket, no clock.
//!
//! A connection begins in [`handshake`]; then its bytes go through a [`MessageReader`], which unmasks in place and
//! lends whole messages out of the buffer that they arrived in, and collects only what is split. What is sent gets
//! its header from [`encoder`].
//!
//! ```
//! use tidegate_protocol::ws::encoder::append_frame;
//! use tidegate_protocol::ws::{Bounds, Incoming, MessageReader, Opcode, Peer};
//!
//! let bounds = Bounds { message_bytes_max: 65_536 };
//! let mut reader = MessageReader::new(Peer::Client);
//! let mut received = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]; // RFC 6455 5.7
//!
//! let (mut at, mut answer) = (0, Vec::new());
//! while let Some(incoming) = reader.next(&mut received, &mut at, &bounds)? {
//!     match incoming {
//!         Incoming::Text(text) => append_frame(&mut answer, Opcode::Text, text),
//!         Incoming::Ping(payload) => append_frame(&mut answer, Opcode::Pong, payload),
//!         other => panic!("{other:?}"),
//!     }
//! }
//! assert_eq!(answer, b"\x81\x05Hello");
//! # Ok::<(), tidegate_protocol::ws::ProtocolError>(())
//! ```

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
