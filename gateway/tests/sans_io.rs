//! The shard without a kernel: a driver of the test's own stands below, a service that records and obeys stands above.
//! What needs a certain order of completions is told here.
#![expect(unsafe_code, reason = "Driver::send is an unsafe function")]

mod fake;

use fake::{BUFFER_BYTES, BUFFERS, Fake, masked, options, upgrade_request};
use tidegate_gateway::driver::{BufferId, Key, Receive, ReceiveEnd, Socket};
use tidegate_gateway::service::{
    CloseCause, ConnectionId, Frame, Message, MessageKind, PeerClass, SendOutcome, Service,
    SharedFrame, Sockets, Span, Taken, Time, Told, Upgrade,
};
use tidegate_gateway::shard::{SendError, Shard, ShardOptions};
use tidegate_gateway::trusted::TrustedProxies;
use tidegate_protocol::ws::Opcode;

/// What the service does with the next message.
#[derive(Default)]
struct Obedient {
    log: Vec<String>,
    park: bool,
    keep: bool,
    reflect: bool,
    ids: Vec<ConnectionId>,
    unpark: Vec<ConnectionId>,
    release: Vec<ConnectionId>,
    flood: Option<(ConnectionId, usize)>,
    flooded: Option<SendOutcome>,
}

impl Service for Obedient {
    fn on_upgraded(&mut self, io: &mut impl Sockets, id: ConnectionId, upgrade: &Upgrade<'_>) {
        self.ids.push(id);
        self.log.push(format!(
            "upgraded {} {:?}",
            upgrade.client.ip(),
            upgrade.codec
        ));
        io.set_timer(id, io.now() + Span::from_ms(1_000));
    }
    fn on_message(
        &mut self,
        _io: &mut impl Sockets,
        _id: ConnectionId,
        message: Message<'_>,
    ) -> Taken {
        let text = String::from_utf8_lossy(message.payload).into_owned();
        self.log.push(format!("{} skip {}", text, message.skip));
        if self.park {
            Taken::Park {
                skip: message.skip + 1,
            }
        } else if self.reflect {
            Taken::Reflect
        } else {
            Taken::Yes
        }
    }
    fn on_timer(&mut self, _io: &mut impl Sockets, _id: ConnectionId) {
        self.log.push("timer".into());
    }
    fn on_writable(&mut self, _io: &mut impl Sockets, _id: ConnectionId) {
        self.log.push("writable".into());
    }
    fn on_goaway(&mut self, io: &mut impl Sockets, id: ConnectionId, _retry_ms: u32) {
        let _ = io.send(id, Frame::Text(b"goaway"));
    }
    fn on_closed(&mut self, io: &mut impl Sockets, id: ConnectionId, cause: CloseCause) -> Told {
        assert!(!io.is_open(id));
        assert_eq!(io.send(id, Frame::Text(b"too late")), SendOutcome::NotOpen);
        self.log.push(format!("closed {}", cause.code()));
        if self.keep { Told::Later } else { Told::Now }
    }
    fn turn(&mut self, io: &mut impl Sockets) {
        for id in self.unpark.drain(..) {
            io.unpark(id);
        }
        for id in self.release.drain(..) {
            io.release(id);
        }
        if let Some((id, frames)) = self.flood.take() {
            for _ in 0..frames {
                self.flooded = Some(io.send(id, Frame::Binary(&[7; 1024])));
            }
        }
    }
}

struct World {
    shard: Shard<Obedient>,
    driver: Fake,
    now: Time,
}

impl World {
    fn new() -> Self {
        Self::with(options())
    }

    fn with(options: ShardOptions) -> Self {
        let now = Time::from_us(1_700_000_000_000_000);
        let mut world = Self {
            shard: Shard::new(options, Obedient::default(), now, 7),
            driver: Fake::new(),
            now,
        };
        world.shard.begin_round(now);
        world.shard.start(&mut world.driver);
        world
    }

    fn round(&mut self, after_ms: u64) {
        self.shard.end_round(&mut self.driver);
        self.now = self.now + Span::from_ms(after_ms);
        self.shard.begin_round(self.now);
        self.shard.end_round(&mut self.driver);
    }

    fn accept(&mut self, socket: u32) -> Key {
        self.shard.accepted(&mut self.driver, Socket(socket));
        self.driver.receiving[&socket].0
    }

    /// Bytes arrive in buffers of the driver's.
    fn receive(&mut self, key: Key, bytes: &[u8]) {
        for piece in bytes.chunks(BUFFER_BYTES) {
            let id = self.driver.free.pop_front().expect("a buffer");
            self.driver.memory[usize::from(id.0)][..piece.len()].copy_from_slice(piece);
            self.shard.received(&mut self.driver, key, id, piece.len());
        }
    }

    fn receive_ends(&mut self, socket: u32, end: ReceiveEnd) {
        let (key, _) = self.driver.receiving.remove(&socket).expect("a receive");
        self.shard.receive_ended(&mut self.driver, key, end);
    }

    /// Completes all sends, also those that follow; returns what the peers read.
    fn send_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        self.shard.end_round(&mut self.driver);
        while !self.driver.sending.is_empty() {
            let (key, _, start, length) = self.driver.sending.remove(0);
            // SAFETY: the contract of Driver::send: the bytes stay until `sent` is told.
            all.extend_from_slice(unsafe { std::slice::from_raw_parts(start, length) });
            let length = u32::try_from(length).expect("short");
            self.shard.sent(&mut self.driver, key, Ok(length));
            self.shard.end_round(&mut self.driver);
        }
        all
    }

    fn open(&mut self, socket: u32) -> (Key, ConnectionId) {
        let key = self.accept(socket);
        self.receive(key, &upgrade_request(""));
        let answer = self.send_all();
        assert!(answer.starts_with(b"HTTP/1.1 101"));
        (key, *self.shard.service().ids.last().expect("upgraded"))
    }

    fn log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.shard.service().log)
    }
}

#[test]
fn a_parked_message_is_offered_again_with_its_mark_and_what_came_behind_it_follows_in_order() {
    let mut world = World::new();
    let (key, id) = world.open(10);
    world.log();
    world.shard.service().park = true;
    let mut bytes = masked(Opcode::Text, b"one");
    bytes.extend(masked(Opcode::Text, b"two"));
    world.receive(key, &bytes);
    // In flight before the cancellation: kept as well.
    world.receive(key, &masked(Opcode::Text, b"three"));
    assert_eq!(world.log(), ["one skip 0"]);
    assert_eq!(
        world.driver.cancelled,
        [key],
        "a parked connection is not read from"
    );
    assert_eq!(
        world.driver.free.len(),
        usize::from(BUFFERS),
        "and owns no buffer"
    );
    world.receive_ends(10, ReceiveEnd::Over);
    assert!(world.driver.receiving.is_empty());

    world.shard.service().unpark.push(id);
    world.round(0);
    assert_eq!(world.log(), ["one skip 1"], "parked again");
    world.shard.service().park = false;
    world.shard.service().unpark.push(id);
    world.round(0);
    assert_eq!(world.log(), ["one skip 2", "two skip 0", "three skip 0"]);
    assert!(world.driver.receiving.contains_key(&10), "read from again");
    assert_eq!(world.shard.counts().parked_bytes, 0);
}

#[test]
fn past_parked_bytes_max_the_connection_is_closed_to_come_back() {
    let mut world = World::new();
    let (key, _) = world.open(10);
    world.log();
    world.shard.service().park = true;
    world.receive(key, &masked(Opcode::Binary, &[1; 9_000]));
    for _ in 0..8 {
        world.receive(key, &masked(Opcode::Binary, &[1; 9_000]));
    }
    world.round(0);
    assert_eq!(world.log().last().map(String::as_str), Some("closed 4006"));
    assert_eq!(world.shard.counts().parked_bytes, 0);
}

#[test]
fn a_slot_is_used_again_only_after_every_completion_and_with_a_new_generation() {
    let mut world = World::new();
    let (key, first) = world.open(10);
    world.shard.service().reflect = true;
    world.receive(key, &masked(Opcode::Text, b"in flight"));
    world.receive_ends(10, ReceiveEnd::Failed);
    assert!(
        world.driver.closed.is_empty(),
        "a send still reads its memory"
    );
    assert_eq!(world.driver.send_cancels, [key]);
    let other = world.accept(11);
    assert_ne!(other.slot, key.slot, "the slot is not free yet");
    world.driver.sending.clear();
    world
        .shard
        .sent(&mut world.driver, key, Err(SendError::Cancelled));
    assert_eq!(world.driver.closed, [Socket(10)]);
    assert_eq!(world.driver.free.len(), usize::from(BUFFERS));
    let (again, second) = world.open(12);
    assert_eq!(again.slot, key.slot);
    assert_ne!(again.generation, key.generation);
    // Late news of the first connection change nothing.
    world.log();
    world
        .shard
        .sent(&mut world.driver, key, Err(SendError::Failed));
    world
        .shard
        .receive_ended(&mut world.driver, key, ReceiveEnd::EndOfStream);
    world.shard.service().unpark.push(first);
    world.shard.service().release.push(first);
    world.shard.service().flood = Some((first, 1));
    world.round(0);
    assert_eq!(world.log(), [""; 0]);
    assert_eq!(world.shard.service().flooded, Some(SendOutcome::NotOpen));
    world.shard.service().flood = Some((second, 1));
    world.round(0);
    assert_eq!(world.shard.service().flooded, Some(SendOutcome::Queued));
}

#[test]
fn a_slot_whose_end_was_not_told_yet_is_kept_until_it_is_released() {
    let mut world = World::new();
    world.shard.service().keep = true;
    let (key, id) = world.open(10);
    world.receive_ends(10, ReceiveEnd::EndOfStream);
    assert_eq!(
        world.driver.closed,
        [Socket(10)],
        "the descriptor does not wait"
    );
    let other = world.accept(11);
    assert_ne!(other.slot, key.slot);
    world.shard.service().release.push(id);
    world.round(0);
    assert_eq!(world.accept(12).slot, key.slot);
}

#[test]
fn a_full_shard_sleeps_and_accepts_again_when_a_slot_is_free() {
    let mut world = World::new();
    world.shard.service().keep = true;
    let ids: Vec<_> = (10..18).map(|socket| world.open(socket).1).collect();
    assert!(!world.driver.accepting, "all 8 slots are taken");
    world.round(10_000);
    let next = world.shard.next_deadline();
    assert!(next.is_none_or(|next| next > world.now), "it would spin");
    // The descriptor is closed, but the slot is kept for the service.
    world.receive_ends(10, ReceiveEnd::EndOfStream);
    world.round(0);
    assert!(!world.driver.accepting);
    world.shard.service().release.push(ids[0]);
    world.round(0);
    world.round(0);
    assert!(world.driver.accepting);
    assert_eq!(world.shard.counts().accept_pauses_total, 1);
}

#[test]
fn want_of_descriptors_pauses_accepting_for_a_moment_or_until_somebody_leaves() {
    let mut world = World::new();
    world.open(10);
    for leaves in [false, true] {
        world.shard.accept_failed(&mut world.driver);
        assert!(!world.driver.accepting);
        let next = world.shard.next_deadline().expect("the next try");
        assert!(next > world.now);
        if leaves {
            world.receive_ends(10, ReceiveEnd::EndOfStream);
            world.round(0);
        } else {
            world.round(50);
        }
        assert!(world.driver.accepting);
    }
}

#[test]
fn a_slow_reader_is_closed_at_its_bound_and_an_agents_is_wider() {
    let mut world = World::new();
    let (_, visitor) = world.open(10);
    world.log();
    world.shard.service().flood = Some((visitor, 63));
    world.round(0);
    assert_eq!(world.shard.service().flooded, Some(SendOutcome::Queued));
    assert_eq!(world.log(), [""; 0]);
    world.shard.service().flood = Some((visitor, 2));
    world.round(0);
    assert_eq!(world.log(), ["closed 4002"]);
    assert!(
        world.shard.counts().out_bytes < 1024 + 70 * 1024,
        "what waited is dropped"
    );
}

#[test]
fn at_the_shards_bound_the_largest_queue_is_shed() {
    let mut world = World::with(ShardOptions {
        out_bytes_max: 100 << 10,
        ..options()
    });
    let (_, large) = world.open(10);
    let (_, small) = world.open(11);
    world.log();
    world.shard.service().flood = Some((large, 60));
    world.round(0);
    world.shard.service().flood = Some((small, 50));
    world.round(0);
    assert_eq!(world.log(), ["closed 4002"]);
    assert_eq!(world.shard.service().flooded, Some(SendOutcome::Queued));
    assert_eq!(world.shard.counts().shed_total, 1);
}

#[test]
fn on_writable_comes_when_a_filled_queue_is_empty_again() {
    let mut world = World::new();
    let (_, id) = world.open(10);
    world.log();
    world.shard.service().flood = Some((id, 10));
    world.send_all();
    assert_eq!(world.log(), [""; 0], "a short queue is no reason");
    world.shard.service().flood = Some((id, 40));
    world.send_all();
    assert_eq!(world.log(), ["writable"]);
}

#[test]
fn out_of_buffers_receives_again_when_buffers_return() {
    let mut world = World::new();
    let (_, _) = world.open(10);
    let taken: Vec<BufferId> = world.driver.free.drain(..).collect();
    world.receive_ends(10, ReceiveEnd::NoBuffers);
    world.round(0);
    assert!(
        world.driver.receiving.is_empty(),
        "there is nothing to receive into"
    );
    world.driver.free.extend(taken);
    world.round(0);
    assert!(world.driver.receiving.contains_key(&10));
}

#[test]
fn a_send_that_pins_a_receive_buffer_gets_a_copy_when_buffers_are_low() {
    let mut world = World::new();
    world.shard.service().reflect = true;
    let keys: Vec<Key> = (0..7).map(|n| world.open(10 + n).0).collect();
    for key in &keys {
        world.receive(*key, &masked(Opcode::Binary, &[5; 100]));
    }
    // Their peers do not read, and others use buffers up.
    let taken: Vec<BufferId> = world.driver.free.drain(..).take(100).collect();
    world.round(100);
    world.round(100);
    assert_eq!(world.driver.send_cancels.len(), 7);
    for key in keys {
        world.driver.sending.retain(|send| send.0 != key);
        world
            .shard
            .sent(&mut world.driver, key, Err(SendError::Cancelled));
    }
    assert_eq!(world.driver.free.len(), 7, "their buffers are back");
    world.driver.free.extend(taken);
    let out = world.send_all();
    let mut frame = vec![0x82, 100];
    frame.extend([5; 100]);
    assert_eq!(out, frame.repeat(7), "and nothing was lost");
}

#[test]
fn a_connection_over_its_rate_falls_back_to_single_receives_and_recovers() {
    let mut world = World::new();
    let (key, _) = world.open(10);
    for _ in 0..12 {
        let bytes = masked(Opcode::Binary, &[1; BUFFER_BYTES - 8]);
        world.receive(key, &bytes);
    }
    assert_eq!(world.driver.cancelled, [key]);
    world.receive_ends(10, ReceiveEnd::Over);
    assert_eq!(world.driver.receiving[&10].1, Receive::Once);
    world.receive(key, &masked(Opcode::Binary, &[1; 10]));
    world.receive_ends(10, ReceiveEnd::Over);
    assert_eq!(world.driver.receiving[&10].1, Receive::Multishot);
}

#[test]
fn timers_come_in_time_and_a_half_handshake_dies_of_its_own() {
    let mut world = World::new();
    let (_, _) = world.open(10);
    let silent = world.accept(11);
    world.log();
    world.round(990);
    assert_eq!(world.log(), [""; 0]);
    world.round(80);
    assert_eq!(world.log(), ["timer"]);
    let next = world.shard.next_deadline().expect("the handshake's");
    assert!(next <= world.now + Span::from_ms(9_100));
    world.round(9_000);
    assert_eq!(world.driver.cancelled, [silent]);
    world.receive_ends(11, ReceiveEnd::Over);
    assert_eq!(world.driver.closed, [Socket(11)]);
    assert_eq!(
        world.log(),
        [""; 0],
        "what was never upgraded is never shown"
    );
}

#[test]
fn a_trusted_proxy_speaks_for_its_client_and_nobody_else_does() {
    let proxied = |trusted: &[&str], first: &[u8], extra: &str| {
        let entries: Vec<String> = trusted.iter().map(ToString::to_string).collect();
        let mut world = World::with(ShardOptions {
            trusted: TrustedProxies::parse(&entries).expect("networks"),
            ..options()
        });
        let key = world.accept(10);
        // Byte by byte: the header may be cut anywhere.
        for byte in [first, &upgrade_request(extra)].concat() {
            world.receive(key, &[byte]);
        }
        world.log().first().cloned().unwrap_or_default()
    };
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\x30\x39\0\x50";
    let forwarded = "X-Forwarded-For: 6.6.6.6, 198.51.100.4\r\n";
    assert_eq!(
        proxied(&["192.0.2.0/24"], header, ""),
        "upgraded 203.0.113.7 Json"
    );
    assert_eq!(
        proxied(&["192.0.2.1"], b"", forwarded),
        "upgraded 198.51.100.4 Json"
    );
    assert_eq!(proxied(&["192.0.2.1"], b"", ""), "upgraded 192.0.2.1 Json");
    assert_eq!(
        proxied(&["10.0.0.0/8"], b"", forwarded),
        "upgraded 192.0.2.1 Json"
    );
    assert_eq!(
        proxied(&["10.0.0.0/8"], header, ""),
        "",
        "refused: it is no HTTP"
    );
    assert_eq!(proxied(&[], b"", forwarded), "upgraded 192.0.2.1 Json");
}

#[test]
fn a_drain_says_goodbye_at_once_and_closes_within_its_time() {
    let mut world = World::new();
    for socket in 10..14 {
        world.open(socket);
    }
    world.log();
    world.shard.drain(&mut world.driver);
    assert!(!world.driver.accepting);
    let goodbyes = world.send_all();
    assert_eq!(
        goodbyes.windows(6).filter(|six| six == b"goaway").count(),
        4
    );
    assert_eq!(world.log(), [""; 0], "nobody is closed before their turn");
    world.round(3_100);
    let mut log = world.log();
    log.retain(|line| line != "timer");
    assert_eq!(log, ["closed 4005"; 4]);
    assert!(!world.shard.is_drained());
    world.round(1_000);
    assert!(world.shard.is_drained());
    world.shard.accepted(&mut world.driver, Socket(20));
    assert!(world.driver.closed.contains(&Socket(20)), "too late");
}

#[test]
fn whom_the_kernel_accepted_just_before_a_drain_is_upgraded_and_said_goodbye_to() {
    let mut world = World::new();
    world.open(10);
    world.log();
    world.shard.drain(&mut world.driver);
    let before = world.send_all();
    assert_eq!(before.windows(6).filter(|six| six == b"goaway").count(), 1);
    let key = world.accept(11);
    world.receive(key, &upgrade_request(""));
    let after = world.send_all();
    assert!(after.starts_with(b"HTTP/1.1 101"));
    assert_eq!(after.windows(6).filter(|six| six == b"goaway").count(), 1);
    world.round(3_100);
    let mut log = world.log();
    log.retain(|line| line.starts_with("closed"));
    assert_eq!(log, ["closed 4005"; 2]);
}

#[test]
fn one_shared_frame_reaches_many_and_is_charged_to_each() {
    struct Broadcast(Vec<ConnectionId>);
    impl Service for Broadcast {
        fn on_upgraded(&mut self, io: &mut impl Sockets, id: ConnectionId, _: &Upgrade<'_>) {
            io.set_class(id, PeerClass::Agent);
            self.0.push(id);
        }
        fn on_message(&mut self, io: &mut impl Sockets, _: ConnectionId, _: Message<'_>) -> Taken {
            let frame = SharedFrame::new(MessageKind::Binary, &[3; 5_000]);
            for id in &self.0 {
                assert_eq!(io.send_shared(*id, &frame), SendOutcome::Queued);
                assert_eq!(io.out_bytes(*id), 5_004);
                assert_eq!(io.room_bytes(*id), (256 << 10) - 5_004);
            }
            Taken::Yes
        }
        fn on_closed(&mut self, _: &mut impl Sockets, _: ConnectionId, _: CloseCause) -> Told {
            Told::Now
        }
    }
    let now = Time::from_us(1);
    let (mut driver, mut shard) = (
        Fake::new(),
        Shard::new(options(), Broadcast(Vec::new()), now, 1),
    );
    shard.begin_round(now);
    for socket in 0..3 {
        shard.accepted(&mut driver, Socket(socket));
        let key = driver.receiving[&socket].0;
        let bytes = upgrade_request("");
        let id = driver.free.pop_front().expect("a buffer");
        driver.memory[usize::from(id.0)][..bytes.len()].copy_from_slice(&bytes);
        shard.received(&mut driver, key, id, bytes.len());
        shard.end_round(&mut driver);
        let (key, _, _, length) = driver.sending.remove(0);
        shard.sent(&mut driver, key, Ok(u32::try_from(length).expect("short")));
    }
    let key = driver.receiving[&0].0;
    let bytes = masked(Opcode::Text, b"go");
    let id = driver.free.pop_front().expect("a buffer");
    driver.memory[usize::from(id.0)][..bytes.len()].copy_from_slice(&bytes);
    shard.received(&mut driver, key, id, bytes.len());
    shard.end_round(&mut driver);
    assert_eq!(driver.sending.len(), 3);
    let first = driver.sending[0].2;
    assert!(
        driver.sending.iter().all(|send| send.2 == first),
        "one memory for all"
    );
}
