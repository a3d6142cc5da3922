//! A record out of a ring becomes an input. What does not make sense is counted and skipped: the gateway is of this
//! project, but its memory may be anything.

use shm_bus::RecordHeader;
use tidegate_protocol::{Id, bus};

use crate::engine::connections::Address;
use crate::engine::input::{Envelope, Input, Opened};
use crate::engine::kinds::{Family, Role, Side};

/// What one record is to the engine; `None`: nothing it knows.
///
/// `settled`: the store's cursor is beyond this record, so it was applied and committed before a restart. `left_over`:
/// it lay in the ring when this backend came.
#[must_use]
pub fn decode<'a>(
    gateway: u64,
    shard: u16,
    header: &RecordHeader,
    payload: &'a [u8],
    (settled, left_over): (bool, bool),
) -> Option<Input<'a>> {
    let address = Address {
        gateway,
        shard,
        slot: header.slot,
        generation: header.generation,
    };
    let principal = Id(header.principal);
    match header.kind {
        bus::OPENED => {
            let opened = bus::Opened::read(payload).ok()?;
            Some(Input::Opened(Opened {
                address,
                principal,
                session: opened.record.session,
                connection: opened.record.connection,
                request: opened.record.request,
                role: Role::from_code(opened.record.role)?,
                family: Family::from_code(opened.record.family).unwrap_or(Family::H5),
                widget: opened.record.widget,
                heartbeat_ms: opened.record.heartbeat_ms,
                issued_at_s: opened.record.issued_at_s,
                announced: opened.record.flags & bus::OPENED_ANNOUNCED != 0,
                name: opened.name,
                hello: opened.hello,
            }))
        }
        bus::ENVELOPE => {
            let kind = header.flags.to_le_bytes()[0];
            let session = header.trace;
            Some(Input::Envelope(Envelope {
                address,
                principal,
                session,
                kind,
                payload,
                settled,
                left_over,
            }))
        }
        bus::CLOSED => Some(Input::Closed { address }),
        _ => None,
    }
}

/// Whether a record says that a new visitor was let in.
#[must_use]
pub fn is_let_in(header: &RecordHeader, payload: &[u8]) -> bool {
    header.kind == bus::OPENED
        && bus::read_fixed::<bus::OpenedRecord>(payload)
            .is_ok_and(|(record, _)| record.flags & bus::OPENED_ON_TICKET != 0)
}

/// Bytes of `to_gateway` that the answer to a record may need, header included.
#[must_use]
pub fn answer_bytes(header: &RecordHeader, payload: &[u8]) -> usize {
    match header.kind {
        bus::OPENED => {
            match bus::Opened::read(payload).map(|opened| Role::from_code(opened.record.role)) {
                Ok(Some(role)) if role.side() == Side::Visitor => WELCOME_VISITOR_BYTES_MAX,
                _ => WELCOME_AGENT_BYTES_MAX,
            }
        }
        bus::ENVELOPE => match header.flags.to_le_bytes()[0] {
            SEND => SEND_RESULT_BYTES_MAX,
            ACK | TYPING => 0,
            _ => STATE_BYTES_MAX,
        },
        _ => 0,
    }
}

const SEND: u8 = tidegate_protocol::Kind::Send as u8;
const ACK: u8 = tidegate_protocol::Kind::Ack as u8;
const TYPING: u8 = tidegate_protocol::Kind::Typing as u8;

/// A SendResult with the longest detail.
pub const SEND_RESULT_BYTES_MAX: usize = 512;
/// A ConversationState with the longest names, text and page.
pub const STATE_BYTES_MAX: usize = 4 * 1024;
/// A visitor's Welcome: the open conversation and two closed ones, and a Close of the superseded connection.
pub const WELCOME_VISITOR_BYTES_MAX: usize = 3 * STATE_BYTES_MAX + 512;
/// An agent's Welcome: as much as an envelope holds.
pub const WELCOME_AGENT_BYTES_MAX: usize =
    tidegate_protocol::limits::ENVELOPE_PAYLOAD_BYTES_MAX + 512;
/// What the answer to any record may need.
pub const ANSWER_BYTES_MAX: usize = WELCOME_AGENT_BYTES_MAX;

const _: () = {
    use tidegate_protocol::limits;
    // Names, text and page with the fixed part of the table, all at their longest.
    assert!(
        2 * limits::NAME_BYTES_MAX + limits::LAST_TEXT_BYTES_MAX + limits::PAGE_BYTES_MAX + 512
            < STATE_BYTES_MAX
    );
    assert!(WELCOME_VISITOR_BYTES_MAX <= ANSWER_BYTES_MAX);
};
