//! Clients that mean harm: bytes that are no handshake, handshakes without end, frames and envelopes of chance, tokens
//! of nobody, and somebody who asks and never reads. They prove nothing themselves; everybody else has to be served.

use flatbuffers::FlatBufferBuilder;
use tidegate_protocol::envelope::append_envelope;
use tidegate_protocol::ws::Opcode;
use tidegate_protocol::ws::client::UpgradeRequest;
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::{Codec, Kind, message};

use super::dice::Dice;
use super::speaker::{Speaker, Surroundings, Want};

/// Between two of its doings at most, µs.
const PAUSE_US_MAX: u64 = 500_000;
/// Bytes of one doing at most.
const JUNK_BYTES_MAX: u64 = 8_192;

/// What it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Malice {
    /// Bytes of chance from the beginning.
    Noise,
    /// A handshake, byte by byte, without an end.
    EndlessHandshake,
    /// Frames of chance behind a good handshake.
    JunkFrames,
    /// Envelopes of chance behind a good Hello.
    JunkEnvelopes,
    /// A Hello with a token that nobody signed.
    ForgedToken,
    /// Pings and sends, and never reads.
    NeverReads,
}

const MALICES: &[Malice] = &[
    Malice::Noise,
    Malice::EndlessHandshake,
    Malice::JunkFrames,
    Malice::JunkEnvelopes,
    Malice::ForgedToken,
    Malice::NeverReads,
];

/// See the module.
pub struct Hostile {
    malice: Malice,
    token: String,
    session: u64,
    is_connected: bool,
    settled: bool,
    wake_at_us: u64,
    n: u64,
}

impl Hostile {
    /// With a good token, of which it makes what it likes.
    pub fn new(mut token: String, dice: &mut Dice) -> Self {
        let malice = *dice.pick(MALICES);
        if malice == Malice::ForgedToken {
            // Another letter somewhere.
            let at = dice.index(token.len());
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            token.replace_range(at..=at, other);
        }
        Self {
            malice,
            token,
            session: dice.number() | 1,
            is_connected: false,
            settled: false,
            wake_at_us: 0,
            n: 0,
        }
    }

    fn begin(&mut self, around: &mut Surroundings<'_>) {
        let mut nonce = [0; 16];
        around.dice.fill(&mut nonce);
        let request = UpgradeRequest {
            host: "tidegate",
            target: "/ws",
            nonce,
            subprotocols: Codec::Flat.subprotocol(),
            origin: "",
        };
        match self.malice {
            Malice::Noise => {}
            Malice::EndlessHandshake => around.output.extend_from_slice(b"GET /ws HTTP/1.1\r\n"),
            Malice::JunkFrames => request.append(around.output),
            Malice::JunkEnvelopes | Malice::ForgedToken | Malice::NeverReads => {
                request.append(around.output);
                let hello = message::Hello {
                    request: 1,
                    token: &self.token,
                    session: self.session,
                    ..Default::default()
                };
                let mut builder = FlatBufferBuilder::new();
                let hello = hello.encode(&mut builder).to_vec();
                say(around, Kind::Hello, &hello);
            }
        }
    }

    fn go_on(&mut self, around: &mut Surroundings<'_>) {
        let bytes = usize::try_from(around.dice.scale(1, JUNK_BYTES_MAX)).expect("small");
        let mut junk = vec![0; bytes];
        around.dice.fill(&mut junk);
        match self.malice {
            Malice::Noise | Malice::JunkFrames => around.output.append(&mut junk),
            Malice::EndlessHandshake => around.output.extend_from_slice(b"X-More: and more\r\n"),
            Malice::ForgedToken => {}
            Malice::JunkEnvelopes => {
                let kind = *around.dice.pick(Kind::ALL);
                if around.dice.permille(500) {
                    let mut send = self.send();
                    let at = around.dice.index(send.len());
                    send[at] ^= junk[0];
                    say(around, kind, &send);
                } else {
                    say(around, kind, &junk);
                }
            }
            Malice::NeverReads => {
                let ping = message::Ping { request: self.n }
                    .encode(&mut FlatBufferBuilder::new())
                    .to_vec();
                for _ in 0..around.dice.below(50) {
                    say(around, Kind::Ping, &ping);
                }
                let send = self.send();
                say(around, Kind::Send, &send);
            }
        }
    }

    fn send(&mut self) -> Vec<u8> {
        self.n += 1;
        let send = message::Send {
            n: self.n,
            text: "无",
            ..Default::default()
        };
        send.encode(&mut FlatBufferBuilder::new()).to_vec()
    }
}

fn say(around: &mut Surroundings<'_>, kind: Kind, payload: &[u8]) {
    let mut envelope = Vec::new();
    append_envelope(&mut envelope, kind, around.now_us, payload);
    append_client_frame(around.output, true, Opcode::Binary, &envelope, [7, 7, 7, 7]);
}

impl Speaker for Hostile {
    fn name(&self) -> String {
        format!("{:?}", self.malice)
    }

    fn connected(&mut self, around: &mut Surroundings<'_>) {
        self.is_connected = true;
        self.begin(around);
    }

    fn received(&mut self, _bytes: &mut [u8], _around: &mut Surroundings<'_>) {}

    fn lost(&mut self, around: &mut Surroundings<'_>) {
        self.is_connected = false;
        self.wake_at_us = around.now_us + around.dice.between(1_000, 3_000_000);
    }

    fn tick(&mut self, around: &mut Surroundings<'_>) {
        if around.now_us < self.wake_at_us {
            return;
        }
        self.wake_at_us = around.now_us + around.dice.between(1_000, PAUSE_US_MAX);
        if self.settled {
            self.wake_at_us = u64::MAX;
            if self.is_connected {
                around.wants.push(Want::Abort);
            }
        } else if self.is_connected {
            self.go_on(around);
        } else {
            around.wants.push(Want::Connect);
        }
    }

    fn wake_at_us(&self) -> u64 {
        self.wake_at_us
    }

    fn settle(&mut self, _now_us: u64) {
        self.settled = true;
        self.wake_at_us = 0;
    }

    fn reads(&self) -> bool {
        self.malice != Malice::NeverReads
    }
}
