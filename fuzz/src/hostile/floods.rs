//! As much as the socket takes: of what is allowed, so that only bounds and fair turns help.

use protocol::ws::Opcode;
use tidegate_protocol as protocol;

use super::{Act, Attack, Begins, Ending, HALF_HANDSHAKE, STALLED_FRAME, Service, frame};

const TOO_BIG: u16 = 1009;
/// Frames in one write.
const TOGETHER: usize = 500;
/// Attackers at a time.
const PEERS: usize = 4;

pub(super) fn attacks(service: Service) -> Vec<Attack> {
    let upgraded = |name: &str, act: Act, ending: Ending| {
        Attack::new(name, Begins::Upgraded(None), act, ending).by(PEERS)
    };
    let many =
        |fin: bool, opcode: Opcode, payload: &[u8]| frame(fin, opcode, payload).repeat(TOGETHER);
    let begun = frame(false, Opcode::Binary, b"x");
    let flood = |bytes: Vec<u8>| Act::Flood(Vec::new(), bytes);
    let mut all = vec![
        upgraded(
            "empty pings without pause",
            flood(many(true, Opcode::Ping, b"")),
            Ending::Lasts,
        ),
        upgraded(
            "pings of 125 bytes without pause",
            flood(many(true, Opcode::Ping, &[1; 125])),
            Ending::Lasts,
        ),
        upgraded(
            "pings without pause, the pongs unread",
            Act::FloodUnread(many(true, Opcode::Ping, &[1; 125])),
            Ending::Lasts,
        ),
        upgraded(
            "pongs that nobody asked for",
            flood(many(true, Opcode::Pong, b"x")),
            Ending::Lasts,
        ),
        upgraded(
            "fragments of nothing without pause",
            Act::Flood(begun.clone(), many(false, Opcode::Continuation, b"")),
            Ending::Lasts,
        ),
        upgraded(
            "fragments of one byte without end",
            Act::Flood(begun.clone(), many(false, Opcode::Continuation, b"x")),
            Ending::Close(TOO_BIG),
        )
        .within(STALLED_FRAME),
        upgraded(
            "fragments of 1,000 bytes without end",
            Act::Flood(begun, many(false, Opcode::Continuation, &[7; 1_000])),
            Ending::Close(TOO_BIG),
        )
        .within(STALLED_FRAME),
    ];
    if service != Service::Chat {
        all.push(upgraded(
            "messages of one byte without pause",
            flood(many(true, Opcode::Binary, b"x")),
            Ending::Lasts,
        ));
        all.push(upgraded(
            "messages of 8,000 bytes without pause",
            flood(frame(true, Opcode::Binary, &[7; 8_000]).repeat(16)),
            Ending::Lasts,
        ));
        let unread = Act::FloodUnread(frame(true, Opcode::Binary, &[7; 8_000]).repeat(16));
        // The echo makes its sender wait, for as long as a frame may stall; over the bus the queue has a bound.
        let within = if service == Service::Echo {
            STALLED_FRAME
        } else {
            HALF_HANDSHAKE
        };
        all.push(upgraded("never reads what comes back", unread, Ending::Gone).within(within));
    }
    all
}
