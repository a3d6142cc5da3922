//! Peers that begin and do not go on: each costs its slot for a bounded time.

use std::time::Duration;

use protocol::ws::Opcode;
use tidegate_protocol as protocol;

use super::{
    Act, Attack, Begins, Ending, HALF_HANDSHAKE, STALLED_FRAME, Service, Tokens, frame, upgrade,
};

const HALF_OPEN: u16 = 4003;
const HELLO_TIMEOUT: u16 = 4004;
/// Whole, a dripped frame of this many bytes would take longer than it may stall.
const DRIP_BYTES: usize = 4_000;
const SLOWLORIS_PEERS: usize = 100;

pub(super) fn attacks(service: Service, message_bytes_max: u64) -> Vec<Attack> {
    let mut all = half_handshakes();
    all.extend(half_frames(service, message_bytes_max));
    let idle = Attack::new(
        "upgraded, and never sends",
        Begins::Upgraded(None),
        Act::Write(Vec::new()),
        Ending::Lasts,
    );
    all.push(if service == Service::Chat {
        // Nobody is a visitor before Hello.
        Attack {
            ending: Ending::Close(HELLO_TIMEOUT),
            ..idle
        }
        .within(HALF_HANDSHAKE)
    } else {
        idle
    });
    all
}

fn half_handshakes() -> Vec<Attack> {
    let request = upgrade(None, "X-Slow: yes\r\n");
    // Never a line that is empty, so never a whole head.
    let dripped: Vec<u8> = request
        .iter()
        .copied()
        .filter(|&byte| byte != b'\r')
        .map(|byte| if byte == b'\n' { b'x' } else { byte })
        .collect();
    let half = request[..request.len() / 2].to_vec();
    let cut = |name: &str, act: Act| {
        Attack::new(name, Begins::Connected, act, Ending::Cut).within(HALF_HANDSHAKE)
    };
    vec![
        cut("connects, and never sends", Act::Write(Vec::new())),
        cut("half a handshake", Act::Write(half.clone())),
        cut(
            "a handshake without its last byte",
            Act::Write(request[..request.len() - 1].to_vec()),
        ),
        cut(
            "slowloris: a handshake that drips",
            Act::Drip(half, dripped, Duration::from_millis(200)),
        )
        .by(SLOWLORIS_PEERS),
    ]
}

/// Of a visitor: what was begun may stall for as long as any frame.
pub(super) fn once_welcomed(tokens: &Tokens) -> Vec<Attack> {
    let text = |fin, text: &str| frame(fin, Opcode::Text, text.as_bytes());
    let stalled = |name: &str, person: u128, begun: &[u8]| {
        let begins = Begins::Welcomed(tokens.hello(person));
        let act = Act::Write(begun.to_vec());
        Attack::new(name, begins, act, Ending::Close(HALF_OPEN)).within(STALLED_FRAME)
    };
    let whole = text(true, r#"{"kind":"ping","request":1}"#);
    vec![
        stalled("half a frame, once welcomed", 0xaa20, &whole[..9]),
        stalled(
            "a fragment, and no other, once welcomed",
            0xaa21,
            &text(false, "{"),
        ),
    ]
}

fn half_frames(service: Service, message_bytes_max: u64) -> Vec<Attack> {
    // What a stranger to the chat begins does not prolong the time for their Hello.
    let (ending, within) = if service == Service::Chat {
        (Ending::Close(HELLO_TIMEOUT), HALF_HANDSHAKE)
    } else {
        (Ending::Close(HALF_OPEN), STALLED_FRAME)
    };
    let whole = frame(true, Opcode::Binary, &[7; DRIP_BYTES]);
    let long_bytes = usize::try_from(message_bytes_max)
        .unwrap_or(usize::MAX)
        .min(60_000);
    let long = frame(true, Opcode::Binary, &vec![7; long_bytes]);
    let fragment = frame(false, Opcode::Binary, b"begun");
    let ping = frame(true, Opcode::Ping, b"");
    let nothing = frame(false, Opcode::Continuation, b"");
    let stalled = |name: &str, act: Act| {
        Attack::new(name, Begins::Upgraded(None), act, ending.clone()).within(within)
    };
    vec![
        stalled(
            "one byte of a frame's header",
            Act::Write(whole[..1].to_vec()),
        ),
        stalled("a frame's header alone", Act::Write(whole[..8].to_vec())),
        stalled("half a frame", Act::Write(long[..long.len() / 2].to_vec())),
        stalled(
            "half a ping",
            Act::Write(frame(true, Opcode::Ping, b"half")[..8].to_vec()),
        ),
        stalled("a fragment, and no other", Act::Write(fragment.clone())),
        stalled(
            "a frame that drips",
            Act::Drip(
                whole[..8].to_vec(),
                whole[8..].to_vec(),
                Duration::from_millis(100),
            ),
        )
        .by(20),
        stalled(
            "a fragment, then pings alone",
            Act::Drip(fragment.clone(), ping, Duration::from_millis(50)),
        ),
        stalled(
            "fragments of nothing without end",
            Act::Drip(fragment, nothing, Duration::from_millis(10)),
        ),
    ]
}
