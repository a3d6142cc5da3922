//! What the default timeouts promise, in virtual time: a half handshake is gone within 15 s and a stalled frame within
//! 60 s, however it drips meanwhile.
#![expect(unsafe_code, reason = "Driver::send is an unsafe function")]

mod fake;

use fake::{Fake, masked, options, upgrade_request};
use tidegate_gateway::Config;
use tidegate_gateway::driver::{Key, ReceiveEnd, Socket};
use tidegate_gateway::service::{
    CloseCause, ConnectionId, Message, Service, Sockets, Span, Taken, Time, Told, Upgrade,
};
use tidegate_gateway::shard::{SendError, Shard, ShardOptions};
use tidegate_protocol::ws::Opcode;

const HALF_HANDSHAKE_MS_MAX: u64 = 15_000;
const STALLED_FRAME_MS_MAX: u64 = 60_000;
const STEP_MS: u64 = 100;
const PEER: Socket = Socket(10);

struct Silent;

impl Service for Silent {
    fn on_upgraded(&mut self, _: &mut impl Sockets, _: ConnectionId, _: &Upgrade<'_>) {}
    fn on_message(&mut self, _: &mut impl Sockets, _: ConnectionId, _: Message<'_>) -> Taken {
        Taken::Yes
    }
    fn on_closed(&mut self, _: &mut impl Sockets, _: ConnectionId, _: CloseCause) -> Told {
        Told::Now
    }
}

/// One peer of a shard with the default timeouts.
struct World {
    shard: Shard<Silent>,
    driver: Fake,
    now: Time,
    key: Key,
    /// All that was sent to it.
    heard: Vec<u8>,
    reads: bool,
}

impl World {
    fn new(reads: bool) -> Self {
        let defaults = Config::default();
        let options = ShardOptions {
            handshake_ms_max: u64::from(defaults.handshake_ms_max),
            stalled_frame_ms_max: u64::from(defaults.stalled_frame_ms_max),
            ..options()
        };
        let now = Time::from_us(1_700_000_000_000_000);
        let (mut driver, mut shard) = (Fake::new(), Shard::new(options, Silent, now, 7));
        shard.begin_round(now);
        shard.accepted(&mut driver, PEER);
        let key = driver.receiving[&PEER.0].0;
        Self {
            shard,
            driver,
            now,
            key,
            heard: Vec::new(),
            reads,
        }
    }

    fn upgraded(reads: bool) -> Self {
        let mut world = Self::new(true);
        world.say(&upgrade_request(""));
        world.pass(0);
        assert!(world.heard.starts_with(b"HTTP/1.1 101"));
        world.heard.clear();
        world.reads = reads;
        world
    }

    fn say(&mut self, bytes: &[u8]) {
        if !self.driver.receiving.contains_key(&PEER.0) {
            return;
        }
        let id = self.driver.free.pop_front().expect("a buffer");
        self.driver.memory[usize::from(id.0)][..bytes.len()].copy_from_slice(bytes);
        self.shard
            .received(&mut self.driver, self.key, id, bytes.len());
    }

    /// Time passes; the kernel does what was asked of it.
    fn pass(&mut self, ms: u64) {
        self.now = self.now + Span::from_ms(ms);
        self.shard.begin_round(self.now);
        self.shard.end_round(&mut self.driver);
        while self.reads && !self.driver.sending.is_empty() {
            let (key, _, start, length) = self.driver.sending.remove(0);
            // SAFETY: the contract of Driver::send: the bytes stay until `sent` is told.
            let bytes = unsafe { std::slice::from_raw_parts(start, length) };
            self.heard.extend_from_slice(bytes);
            let length = u32::try_from(length).expect("short");
            self.shard.sent(&mut self.driver, key, Ok(length));
        }
        for key in std::mem::take(&mut self.driver.send_cancels) {
            self.driver.sending.retain(|send| send.0 != key);
            self.shard
                .sent(&mut self.driver, key, Err(SendError::Cancelled));
        }
        for key in std::mem::take(&mut self.driver.cancelled) {
            self.driver.receiving.remove(&PEER.0);
            self.shard
                .receive_ended(&mut self.driver, key, ReceiveEnd::Over);
        }
        self.shard.end_round(&mut self.driver);
    }

    /// How long it lives while it says this at every step, ms; at most a little over the bound.
    fn lives_ms(&mut self, bound_ms: u64, mut says: impl FnMut(u64) -> Vec<u8>) -> u64 {
        let mut ms = 0;
        while !self.driver.closed.contains(&PEER) && ms <= bound_ms {
            self.say(&says(ms / STEP_MS));
            self.pass(STEP_MS);
            ms += STEP_MS;
        }
        ms
    }

    fn heard_close(&self, code: u16) -> bool {
        self.heard.windows(2).any(|two| two == code.to_be_bytes())
    }
}

#[test]
fn a_handshake_that_drips_is_gone_within_15_s() {
    let mut world = World::new(true);
    let request = upgrade_request("");
    let lived_ms = world.lives_ms(HALF_HANDSHAKE_MS_MAX, |step| {
        let at = usize::try_from(step).expect("short");
        if at == 0 {
            request[..40].to_vec()
        } else {
            vec![b'x']
        }
    });
    assert!(lived_ms <= HALF_HANDSHAKE_MS_MAX, "{lived_ms} ms");
}

#[test]
fn silence_before_the_handshake_is_gone_within_15_s() {
    let lived_ms = World::new(true).lives_ms(HALF_HANDSHAKE_MS_MAX, |_| Vec::new());
    assert!(lived_ms <= HALF_HANDSHAKE_MS_MAX, "{lived_ms} ms");
}

#[test]
fn a_frame_that_drips_is_closed_with_4003_and_gone_within_60_s_even_if_it_is_not_read() {
    let header = [0x82, 0xFE, 0x20, 0x00, 0, 0, 0, 0];
    for reads in [true, false] {
        let mut world = World::upgraded(reads);
        let lived_ms = world.lives_ms(STALLED_FRAME_MS_MAX, |step| {
            if step == 0 { header.to_vec() } else { vec![7] }
        });
        assert!(lived_ms <= STALLED_FRAME_MS_MAX, "{lived_ms} ms");
        assert_eq!(world.heard_close(4003), reads);
    }
}

#[test]
fn neither_pings_nor_empty_fragments_keep_a_message_from_stalling() {
    let mut empty = masked(Opcode::Continuation, b"");
    empty[0] &= 0x7F;
    for kept_up_by in [masked(Opcode::Ping, b"still here"), empty] {
        let mut world = World::upgraded(true);
        let mut begun = masked(Opcode::Binary, b"begun");
        begun[0] &= 0x7F;
        let lived_ms = world.lives_ms(STALLED_FRAME_MS_MAX, |step| {
            if step == 0 {
                begun.clone()
            } else {
                kept_up_by.clone()
            }
        });
        assert!(lived_ms <= STALLED_FRAME_MS_MAX, "{lived_ms} ms");
        assert!(world.heard_close(4003));
    }
}

#[test]
fn whoever_is_idle_between_messages_has_no_such_deadline() {
    let mut world = World::upgraded(true);
    let lived_ms = world.lives_ms(2 * STALLED_FRAME_MS_MAX, |step| {
        if step % 300 == 0 {
            masked(Opcode::Binary, b"whole")
        } else {
            Vec::new()
        }
    });
    assert!(lived_ms > 2 * STALLED_FRAME_MS_MAX);
}
