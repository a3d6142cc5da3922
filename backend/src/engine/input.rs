//! What can happen. Everything that enters the engine is one of these, and this is what the journal writes down.
//!
//! Inputs borrow: a thousand of them in a turn allocate nothing. The written form ([`Input::write`], [`Input::read`])
//! is little-endian and belongs to one version of the program ([`super::super::journal`] names it).

use std::borrow::Cow;

use tidegate_protocol::Id;

use super::command::HttpCommand;
use super::connections::Address;
use super::kinds::{Family, Role};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input<'a> {
    /// A connection said Hello with a good token, or a living one was announced to a new backend.
    Opened(Opened<'a>),
    /// A connection sent an envelope.
    Envelope(Envelope<'a>),
    /// A text on which the workers that look at texts ruled otherwise than to let it pass.
    Ruled {
        /// As it came: what a repeat is known by.
        envelope: Envelope<'a>,
        /// How.
        ruling: Ruling<'a>,
    },
    /// A connection ended.
    Closed {
        /// Which.
        address: Address,
    },
    /// A connection whose Hello broke the engine twice: it is closed.
    Unwelcome {
        /// Which.
        address: Address,
    },
    /// A gateway process ended; so did its connections.
    GatewayGone {
        /// Its instance.
        gateway: u64,
    },
    /// A request over HTTP. The ticket comes back with the answer.
    Http {
        /// Whose answer.
        ticket: u32,
        /// What.
        command: Cow<'a, HttpCommand>,
    },
    /// A text over HTTP instead of which another is sent.
    HttpReplaced {
        /// Whose answer.
        ticket: u32,
        /// As it came: what a repeat is known by.
        command: Cow<'a, HttpCommand>,
        /// What is sent.
        text: Cow<'a, str>,
    },
    /// The bot answered a visitor's text.
    BotSaid {
        /// Where.
        conversation: Id,
        /// What.
        text: Cow<'a, str>,
    },
    /// Time passed: graces, stays away, marks to write.
    Tick,
    /// A step of retention is due.
    Retain,
    /// The backend stops: what waits for its time is written now.
    Stop,
    /// An envelope that broke the engine twice: it is put aside and answered `refused internal`.
    Quarantined {
        /// What it was.
        envelope: Envelope<'a>,
        /// How far the ring was read behind it.
        position: u64,
        /// What went wrong.
        error: Cow<'a, str>,
    },
}

/// A new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened<'a> {
    /// Where it is.
    pub address: Address,
    /// The token's `sub`.
    pub principal: Id,
    /// `Hello.session`.
    pub session: u64,
    /// `Hello.connection`: which one of that session; 0: not counted.
    pub connection: u32,
    /// `Hello.request`.
    pub request: u64,
    /// The token's role.
    pub role: Role,
    /// What kind of client.
    pub family: Family,
    /// The token's widget; 0 for agents.
    pub widget: u32,
    /// How long it may be silent, as its gateway learned.
    pub heartbeat_ms: u32,
    /// An agent's token: when it was minted, seconds since the Unix epoch.
    pub issued_at_s: u64,
    /// It lived before this backend did: no Hello, resume from the stored marks.
    pub announced: bool,
    /// The token's name.
    pub name: &'a str,
    /// Hello's payload, verified by the gateway and again here; empty when announced.
    pub hello: &'a [u8],
}

/// An envelope of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// Where it came from.
    pub address: Address,
    /// Who sent it.
    pub principal: Id,
    /// First half of a message's id.
    pub session: u64,
    /// The envelope's kind.
    pub kind: u8,
    /// FlatBuffers, verified by the gateway and again here.
    pub payload: &'a [u8],
    /// It was applied and committed before a restart: it changes nothing and is answered from what is known.
    pub settled: bool,
    /// It lay in the ring when this process began: an earlier one may have answered it, though it committed nothing.
    pub left_over: bool,
}

/// What becomes of a text that is not sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling<'a> {
    /// Nothing; its sender reads why.
    Refuse(&'a str),
    /// Another one is sent.
    Replace(&'a str),
}

/// A written input that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal's entry is cut off or of another version")]
pub struct Unreadable;

const OPENED: u8 = 1;
const ENVELOPE: u8 = 2;
const CLOSED: u8 = 3;
const GATEWAY_GONE: u8 = 4;
const HTTP: u8 = 5;
const TICK: u8 = 6;
const QUARANTINED: u8 = 7;
const STOP: u8 = 8;
const UNWELCOME: u8 = 9;
const RETAIN: u8 = 10;
const RULED: u8 = 11;
const HTTP_REPLACED: u8 = 12;
const BOT_SAID: u8 = 13;

const REFUSED: u8 = 1;
const REPLACED: u8 = 2;

impl<'a> Input<'a> {
    /// Appends the written form.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Opened(opened) => {
                out.push(OPENED);
                write_address(out, opened.address);
                out.extend_from_slice(&opened.principal.0.to_le_bytes());
                out.extend_from_slice(&opened.session.to_le_bytes());
                out.extend_from_slice(&opened.connection.to_le_bytes());
                out.extend_from_slice(&opened.request.to_le_bytes());
                out.extend_from_slice(&[
                    opened.role.code(),
                    opened.family.code(),
                    u8::from(opened.announced),
                ]);
                out.extend_from_slice(&opened.widget.to_le_bytes());
                out.extend_from_slice(&opened.heartbeat_ms.to_le_bytes());
                out.extend_from_slice(&opened.issued_at_s.to_le_bytes());
                write_bytes(out, opened.name.as_bytes());
                write_bytes(out, opened.hello);
            }
            Self::Envelope(envelope) => {
                out.push(ENVELOPE);
                write_envelope(out, envelope);
            }
            Self::Ruled { envelope, ruling } => {
                out.push(RULED);
                write_envelope(out, envelope);
                let (code, text) = match ruling {
                    Ruling::Refuse(reason) => (REFUSED, reason),
                    Ruling::Replace(text) => (REPLACED, text),
                };
                out.push(code);
                write_bytes(out, text.as_bytes());
            }
            Self::Closed { address } => {
                out.push(CLOSED);
                write_address(out, *address);
            }
            Self::Unwelcome { address } => {
                out.push(UNWELCOME);
                write_address(out, *address);
            }
            Self::GatewayGone { gateway } => {
                out.push(GATEWAY_GONE);
                out.extend_from_slice(&gateway.to_le_bytes());
            }
            Self::Http { ticket, command } => {
                out.push(HTTP);
                write_command(out, *ticket, command);
            }
            Self::HttpReplaced {
                ticket,
                command,
                text,
            } => {
                out.push(HTTP_REPLACED);
                write_command(out, *ticket, command);
                write_bytes(out, text.as_bytes());
            }
            Self::BotSaid { conversation, text } => {
                out.push(BOT_SAID);
                out.extend_from_slice(&conversation.0.to_le_bytes());
                write_bytes(out, text.as_bytes());
            }
            Self::Tick => out.push(TICK),
            Self::Stop => out.push(STOP),
            Self::Retain => out.push(RETAIN),
            Self::Quarantined {
                envelope,
                position,
                error,
            } => {
                out.push(QUARANTINED);
                write_envelope(out, envelope);
                out.extend_from_slice(&position.to_le_bytes());
                write_bytes(out, error.as_bytes());
            }
        }
    }

    /// Reads a whole written form.
    ///
    /// # Errors
    /// When it is cut off, too long, or names something this version does not know.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Unreadable> {
        let mut reader = Reader { rest: bytes };
        let input = match reader.u8()? {
            OPENED => Self::Opened(Opened {
                address: reader.address()?,
                principal: Id(reader.u128()?),
                session: reader.u64()?,
                connection: reader.u32()?,
                request: reader.u64()?,
                role: Role::from_code(reader.u8()?).ok_or(Unreadable)?,
                family: Family::from_code(reader.u8()?).ok_or(Unreadable)?,
                announced: reader.u8()? != 0,
                widget: reader.u32()?,
                heartbeat_ms: reader.u32()?,
                issued_at_s: reader.u64()?,
                name: reader.text()?,
                hello: reader.bytes()?,
            }),
            ENVELOPE => Self::Envelope(reader.envelope()?),
            RULED => Self::Ruled {
                envelope: reader.envelope()?,
                ruling: match reader.u8()? {
                    REFUSED => Ruling::Refuse(reader.text()?),
                    REPLACED => Ruling::Replace(reader.text()?),
                    _ => return Err(Unreadable),
                },
            },
            CLOSED => Self::Closed {
                address: reader.address()?,
            },
            GATEWAY_GONE => Self::GatewayGone {
                gateway: reader.u64()?,
            },
            HTTP => Self::Http {
                ticket: reader.u32()?,
                command: reader.command()?,
            },
            HTTP_REPLACED => Self::HttpReplaced {
                ticket: reader.u32()?,
                command: reader.command()?,
                text: Cow::Borrowed(reader.text()?),
            },
            BOT_SAID => Self::BotSaid {
                conversation: Id(reader.u128()?),
                text: Cow::Borrowed(reader.text()?),
            },
            UNWELCOME => Self::Unwelcome {
                address: reader.address()?,
            },
            TICK => Self::Tick,
            STOP => Self::Stop,
            RETAIN => Self::Retain,
            QUARANTINED => Self::Quarantined {
                envelope: reader.envelope()?,
                position: reader.u64()?,
                error: Cow::Borrowed(reader.text()?),
            },
            _ => return Err(Unreadable),
        };
        if reader.rest.is_empty() {
            Ok(input)
        } else {
            Err(Unreadable)
        }
    }
}

fn write_address(out: &mut Vec<u8>, address: Address) {
    out.extend_from_slice(&address.gateway.to_le_bytes());
    out.extend_from_slice(&address.shard.to_le_bytes());
    out.extend_from_slice(&address.slot.to_le_bytes());
    out.extend_from_slice(&address.generation.to_le_bytes());
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("invariant: an input is bounded by a record");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

fn write_command(out: &mut Vec<u8>, ticket: u32, command: &HttpCommand) {
    out.extend_from_slice(&ticket.to_le_bytes());
    let json = serde_json::to_vec(command).expect("invariant: a command has only string keys");
    write_bytes(out, &json);
}

fn write_envelope(out: &mut Vec<u8>, envelope: &Envelope<'_>) {
    write_address(out, envelope.address);
    out.extend_from_slice(&envelope.principal.0.to_le_bytes());
    out.extend_from_slice(&envelope.session.to_le_bytes());
    out.extend_from_slice(&[envelope.kind]);
    out.push(u8::from(envelope.settled) | u8::from(envelope.left_over) << 1);
    write_bytes(out, envelope.payload);
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Unreadable)?;
        self.rest = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Unreadable> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Unreadable> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn u128(&mut self) -> Result<u128, Unreadable> {
        Ok(u128::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let length = self.u32()? as usize;
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Unreadable)?;
        self.rest = rest;
        Ok(head)
    }

    fn text(&mut self) -> Result<&'a str, Unreadable> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Unreadable)
    }

    fn command(&mut self) -> Result<Cow<'a, HttpCommand>, Unreadable> {
        let command = serde_json::from_slice(self.bytes()?).map_err(|_| Unreadable)?;
        Ok(Cow::Owned(command))
    }

    fn address(&mut self) -> Result<Address, Unreadable> {
        Ok(Address {
            gateway: self.u64()?,
            shard: self.u16()?,
            slot: self.u32()?,
            generation: self.u32()?,
        })
    }

    fn envelope(&mut self) -> Result<Envelope<'a>, Unreadable> {
        let (address, principal, session) = (self.address()?, Id(self.u128()?), self.u64()?);
        let (kind, flags) = (self.u8()?, self.u8()?);
        Ok(Envelope {
            address,
            principal,
            session,
            kind,
            settled: flags & 1 != 0,
            left_over: flags & 2 != 0,
            payload: self.bytes()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::command::Actor;
    use super::*;

    #[test]
    fn every_input_is_read_back_as_it_was_written_and_never_when_cut() {
        let address = Address {
            gateway: 1,
            shard: 2,
            slot: 3,
            generation: 4,
        };
        let envelope = Envelope {
            address,
            principal: Id(9),
            session: 8,
            kind: 3,
            payload: &[1, 2, 3],
            settled: true,
            left_over: true,
        };
        let by = Actor {
            id: Id(3),
            role: Role::Visitor,
            name: "王".into(),
            widget: 1,
        };
        let inputs = [
            Input::Opened(Opened {
                address,
                principal: Id(5),
                session: 6,
                connection: 3,
                request: 7,
                role: Role::Agent,
                family: Family::App,
                widget: 0,
                heartbeat_ms: 45_000,
                issued_at_s: 1_795_262_400,
                announced: true,
                name: "小李",
                hello: &[9, 9],
            }),
            Input::Envelope(envelope),
            Input::Ruled {
                envelope,
                ruling: Ruling::Refuse("不行"),
            },
            Input::Ruled {
                envelope,
                ruling: Ruling::Replace("***"),
            },
            Input::Closed { address },
            Input::GatewayGone { gateway: 77 },
            Input::Http {
                ticket: 3,
                command: Cow::Owned(HttpCommand::FindOpen { by: by.clone() }),
            },
            Input::HttpReplaced {
                ticket: 4,
                command: Cow::Owned(HttpCommand::FindMine { by }),
                text: "***".into(),
            },
            Input::BotSaid {
                conversation: Id(12),
                text: "我是机器人".into(),
            },
            Input::Tick,
            Input::Stop,
            Input::Retain,
            Input::Unwelcome { address },
            Input::Quarantined {
                envelope,
                position: 4096,
                error: "planted".into(),
            },
        ];
        for input in inputs {
            let mut written = Vec::new();
            input.write(&mut written);
            assert_eq!(Input::read(&written), Ok(input));
            for cut in 0..written.len() {
                assert_eq!(Input::read(&written[..cut]), Err(Unreadable));
            }
        }
    }
}
