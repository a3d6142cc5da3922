//! Any order of completions, any cut of the bytes, peers that vanish at any moment: buffers come back, descriptors are
//! closed once, slots are freed, what is echoed is what was sent.
#![expect(
    unsafe_code,
    reason = "what a send reads is read as the kernel would: at its completion"
)]

mod fake;

use std::collections::HashMap;

use fake::{BUFFER_BYTES, BUFFERS, Fake, masked, options, upgrade_request};
use proptest::prelude::*;
use tidegate_gateway::driver::{BufferId, ReceiveEnd, Socket};
use tidegate_gateway::echo::Echo;
use tidegate_gateway::service::{Span, Time};
use tidegate_gateway::shard::{SendError, Shard};
use tidegate_protocol::ws::Opcode;
use tidegate_protocol::ws::encoder::append_frame;

/// One thing that happens; numbers pick among what is possible.
#[derive(Clone, Debug)]
enum Happening {
    Accept,
    /// So many of the peer's next bytes arrive.
    Receive {
        which: usize,
        bytes: usize,
    },
    /// The peer begins another message.
    Say {
        which: usize,
        bytes: usize,
    },
    /// A send completes: so much of it, or with an error.
    Sent {
        which: usize,
        share: u8,
    },
    /// The kernel ends a receive.
    End {
        which: usize,
        how: u8,
    },
    Cancels,
    Round {
        ms: u64,
    },
}

fn happening() -> impl Strategy<Value = Happening> {
    let which = 0_usize..64;
    prop_oneof![
        2 => Just(Happening::Accept),
        8 => (which.clone(), 1_usize..6_000).prop_map(|(which, bytes)| Happening::Receive { which, bytes }),
        5 => (which.clone(), 0_usize..5_000).prop_map(|(which, bytes)| Happening::Say { which, bytes }),
        8 => (which.clone(), any::<u8>()).prop_map(|(which, share)| Happening::Sent { which, share }),
        1 => (which, any::<u8>()).prop_map(|(which, how)| Happening::End { which, how }),
        3 => Just(Happening::Cancels),
        4 => (0_u64..200).prop_map(|ms| Happening::Round { ms }),
    ]
}

/// The peer of one socket.
#[derive(Default)]
struct Peer {
    /// What it sends, and how much of that arrived.
    out: Vec<u8>,
    arrived: usize,
    /// What an echo of all that it said looks like.
    expected: Vec<u8>,
    heard: Vec<u8>,
}

struct World {
    shard: Shard<Echo>,
    driver: Fake,
    now: Time,
    peers: HashMap<u32, Peer>,
    sockets: u32,
}

impl World {
    fn new() -> Self {
        let now = Time::from_us(1_000_000);
        let mut shard = Shard::new(options(), Echo, now, 3);
        shard.begin_round(now);
        Self {
            shard,
            driver: Fake::new(),
            now,
            peers: HashMap::new(),
            sockets: 100,
        }
    }

    fn receiving(&self, which: usize) -> Option<u32> {
        let mut sockets: Vec<u32> = self.driver.receiving.keys().copied().collect();
        sockets.sort_unstable();
        (!sockets.is_empty()).then(|| sockets[which % sockets.len()])
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Accept => {
                self.sockets += 1;
                self.shard.accepted(&mut self.driver, Socket(self.sockets));
                if self.driver.receiving.contains_key(&self.sockets) {
                    let peer = Peer {
                        out: upgrade_request(""),
                        ..Peer::default()
                    };
                    self.peers.insert(self.sockets, peer);
                }
            }
            Happening::Say { which, bytes } => {
                if let Some(peer) = self
                    .receiving(which)
                    .and_then(|socket| self.peers.get_mut(&socket))
                {
                    let byte = u8::try_from(bytes % 251).expect("below 251");
                    peer.out.extend(masked(Opcode::Binary, &vec![byte; bytes]));
                    append_frame(&mut peer.expected, Opcode::Binary, &vec![byte; bytes]);
                }
            }
            Happening::Receive { which, bytes } => self.receive(which, bytes),
            Happening::Sent { which, share } => self.sent(which, share),
            Happening::End { which, how } => {
                if let Some(socket) = self.receiving(which) {
                    let end = match how % 8 {
                        0 => ReceiveEnd::EndOfStream,
                        1 => ReceiveEnd::Failed,
                        2..4 => ReceiveEnd::NoBuffers,
                        _ => ReceiveEnd::Over,
                    };
                    self.end(socket, end);
                }
            }
            Happening::Cancels => self.cancels(),
            Happening::Round { ms } => {
                self.shard.end_round(&mut self.driver);
                self.now = self.now + Span::from_ms(ms);
                self.shard.begin_round(self.now);
            }
        }
    }

    fn receive(&mut self, which: usize, bytes: usize) {
        let Some(socket) = self.receiving(which) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&socket) else {
            return;
        };
        let left = &peer.out[peer.arrived..];
        let count = left.len().min(bytes).min(BUFFER_BYTES);
        if count == 0 {
            return;
        }
        let Some(id) = self.driver.free.pop_front() else {
            return self.end(socket, ReceiveEnd::NoBuffers);
        };
        self.driver.memory[usize::from(id.0)][..count].copy_from_slice(&left[..count]);
        peer.arrived += count;
        let (key, receive) = self.driver.receiving[&socket];
        self.shard.received(&mut self.driver, key, id, count);
        if receive == tidegate_gateway::driver::Receive::Once {
            self.end(socket, ReceiveEnd::Over);
        }
    }

    fn end(&mut self, socket: u32, end: ReceiveEnd) {
        let (key, _) = self
            .driver
            .receiving
            .remove(&socket)
            .expect("it is under way");
        self.driver.cancelled.retain(|cancelled| *cancelled != key);
        self.shard.receive_ended(&mut self.driver, key, end);
    }

    fn sent(&mut self, which: usize, share: u8) {
        if self.driver.sending.is_empty() {
            return;
        }
        let index = which % self.driver.sending.len();
        let (key, socket, start, length) = self.driver.sending.remove(index);
        self.driver
            .send_cancels
            .retain(|cancelled| *cancelled != key);
        if share == 255 {
            return self
                .shard
                .sent(&mut self.driver, key, Err(SendError::Failed));
        }
        let count = (length * usize::from(share) / 200).clamp(1, length);
        // SAFETY: the contract of Driver::send: the bytes stay until `sent` is told.
        let bytes = unsafe { std::slice::from_raw_parts(start, count) };
        if let Some(peer) = self.peers.get_mut(&socket.0) {
            peer.heard.extend_from_slice(bytes);
        }
        let count = u32::try_from(count).expect("short");
        self.shard.sent(&mut self.driver, key, Ok(count));
    }

    fn cancels(&mut self) {
        for key in std::mem::take(&mut self.driver.cancelled) {
            let found = self
                .driver
                .receiving
                .iter()
                .find(|(_, receive)| receive.0 == key);
            if let Some(socket) = found.map(|(socket, _)| *socket) {
                self.end(socket, ReceiveEnd::Over);
            }
        }
        for key in std::mem::take(&mut self.driver.send_cancels) {
            if let Some(index) = self.driver.sending.iter().position(|send| send.0 == key) {
                self.driver.sending.remove(index);
                self.shard
                    .sent(&mut self.driver, key, Err(SendError::Cancelled));
            }
        }
    }

    /// What was heard so far is a prefix of the echo.
    fn check(&self) {
        for (socket, peer) in &self.peers {
            let Some(head) = peer.heard.windows(4).position(|end| end == b"\r\n\r\n") else {
                continue;
            };
            let echoed = &peer.heard[head + 4..];
            // A close frame may end it: drained, stalled, or no room.
            let common = echoed
                .iter()
                .zip(&peer.expected)
                .take_while(|(a, b)| a == b)
                .count();
            assert!(
                common == echoed.len() || echoed[common] == 0x88,
                "socket {socket} heard something else"
            );
        }
    }

    /// Everybody hangs up: all must be given back.
    fn end_all(&mut self) {
        for _ in 0..400 {
            self.happen(Happening::Round { ms: 50 });
            self.cancels();
            let receiving: Vec<u32> = self.driver.receiving.keys().copied().collect();
            for socket in receiving {
                self.end(socket, ReceiveEnd::EndOfStream);
            }
            self.cancels();
        }
        assert_eq!(self.shard.counts().connections, 0);
        assert!(self.driver.sending.is_empty() && self.driver.receiving.is_empty());
        let mut free: Vec<BufferId> = self.driver.free.iter().copied().collect();
        free.sort_unstable_by_key(|id| id.0);
        assert_eq!(free, (0..BUFFERS).map(BufferId).collect::<Vec<_>>());
        let mut closed: Vec<u32> = self.driver.closed.iter().map(|socket| socket.0).collect();
        closed.sort_unstable();
        assert_eq!(
            closed,
            (101..=self.sockets).collect::<Vec<_>>(),
            "each is closed once"
        );
        let counts = *self.shard.counts();
        assert_eq!(
            (counts.out_bytes, counts.parked_bytes, counts.collect_bytes),
            (0, 0, 0)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn nothing_leaks_and_nothing_is_mixed_up(happenings in proptest::collection::vec(happening(), 1..300)) {
        let mut world = World::new();
        for happening in happenings {
            world.happen(happening);
            world.check();
        }
        world.end_all();
    }
}
