//! Whole messages that mean nothing, or nothing good.

use protocol::ws::Opcode;
use tidegate_protocol as protocol;

use super::{Act, Attack, Begins, Ending, HALF_HANDSHAKE, Tokens, frame};

const ABUSE: u16 = 4503;
const FLAT: Option<&str> = Some("tidegate.v1.fb");
/// More than a connection may send of what is malformed.
const STRIKES: usize = 12;

pub(super) fn attacks(tokens: &Tokens) -> Vec<Attack> {
    let text = |text: &str| frame(true, Opcode::Text, text.as_bytes());
    let abuse = |name: &str, bytes: Vec<u8>| {
        Attack::new(
            name,
            Begins::Upgraded(None),
            Act::Write(bytes),
            Ending::Close(ABUSE),
        )
    };
    let flat = |name: &str, message: &[u8]| Attack {
        begins: Begins::Upgraded(FLAT),
        ..abuse(name, frame(true, Opcode::Binary, message).repeat(STRIKES))
    };
    let again = |what: &str| text(what).repeat(STRIKES);
    let mut all = vec![
        abuse("no JSON, again and again", again("{\"kind\":")),
        abuse("empty texts, again and again", again("")),
        abuse("brackets 60,000 deep", again(&"[".repeat(60_000))),
        abuse("objects 10,000 deep", again(&"{\"kind\":".repeat(7_000))),
        abuse(
            "a number without end",
            again(&format!(
                "{{\"kind\":\"send\",\"n\":{}}}",
                "9".repeat(60_000)
            )),
        ),
        abuse(
            "sends before hello",
            again(r#"{"kind":"send","n":1,"text":"x"}"#),
        ),
        flat("noise for envelopes", &noise(200)),
        flat("half an envelope's header", &[1, 0, 0, 0, 0]),
        flat(
            "a payload longer than its message",
            &envelope(2, 500, &[0; 20]),
        ),
        flat("a payload of 4 GiB", &envelope(2, u32::MAX, &[0; 20])),
        flat("a Send of noise", &envelope(3, 64, &noise(64))),
    ];
    let strangers = |n: u32| envelope(200, n, &vec![0; n as usize]);
    all.push(
        Attack {
            begins: Begins::Upgraded(FLAT),
            ..Attack::new(
                "kinds that nobody knows, without pause",
                Begins::Connected,
                Act::Flood(
                    Vec::new(),
                    frame(true, Opcode::Binary, &strangers(0).repeat(250)),
                ),
                Ending::Lasts,
            )
        }
        .by(4),
    );
    let welcomed = |name: &str, person: u128, act: Act, ending: Ending| {
        Attack::new(name, Begins::Welcomed(tokens.hello(person)), act, ending)
    };
    let second_hello = tokens.hello(0xaa01);
    let id = "00000000000000000000000000000077";
    all.extend([
        welcomed(
            "hello, again and again",
            0xaa01,
            Act::Write(again(&second_hello)),
            Ending::Close(ABUSE),
        ),
        welcomed(
            "envelope pings, the pongs unread",
            0xaa02,
            Act::FloodUnread(text(r#"{"kind":"ping","request":1}"#).repeat(200)),
            Ending::Gone,
        )
        .within(HALF_HANDSHAKE),
        welcomed(
            "acknowledgements of strangers' conversations, without pause",
            0xaa03,
            Act::Flood(
                Vec::new(),
                text(&format!(
                    r#"{{"kind":"ack","conversation":"{id}","delivered":9}}"#
                ))
                .repeat(200),
            ),
            Ending::Lasts,
        ),
        welcomed(
            "typing without pause",
            0xaa04,
            Act::Flood(
                Vec::new(),
                text(&format!(r#"{{"kind":"typing","conversation":"{id}"}}"#)).repeat(200),
            ),
            Ending::Lasts,
        ),
        welcomed(
            "one send again and again",
            0xaa05,
            Act::Flood(
                Vec::new(),
                text(r#"{"kind":"send","n":1,"text":"again"}"#).repeat(200),
            ),
            Ending::Lasts,
        ),
    ]);
    all
}

/// One connection's junk: envelopes of unknown kinds, which are passed over, then malformed ones, of which the last
/// that is allowed closes. With how many envelopes it holds.
#[must_use]
pub fn junk(seed: u64) -> (Attack, usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut message = Vec::new();
    for _ in 0..PASSED_OVER {
        let length = random.u32(0..40);
        let bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        message.extend(envelope(random.u8(100..=255), length, &bytes));
    }
    for _ in 0..STRIKES {
        let bytes: Vec<u8> = (0..24).map(|_| random.u8(..)).collect();
        message.extend(envelope(3, 24, &bytes));
    }
    let attack = Attack {
        begins: Begins::Upgraded(FLAT),
        ..Attack::new(
            format!("junk, seed {seed}"),
            Begins::Connected,
            Act::Write(frame(true, Opcode::Binary, &message)),
            Ending::Close(ABUSE),
        )
    };
    (attack, PASSED_OVER + STRIKES)
}

const PASSED_OVER: usize = 52;

fn envelope(kind: u8, length: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(length.to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn noise(length: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(7);
    (0..length).map(|_| random.u8(..)).collect()
}
