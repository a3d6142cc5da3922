//! Peers that send and do not read: they are made to wait, their memory is bounded, and they hold no receive buffer.

mod support;

use std::io::Write;
use std::time::Duration;

use support::{Client, Gateway, Heard, frame, small};
use tidegate_protocol::ws::Opcode;

#[test]
fn an_echo_that_is_not_read_pauses_its_sender_and_loses_nothing() {
    let gateway = Gateway::start(small());
    let mut writer = gateway.client();
    let mut reader = Client::over(writer.stream.try_clone().expect("descriptors"));
    let (messages, length) = (6_000_u32, 8_000);
    writer
        .stream
        .set_write_timeout(Some(Duration::from_secs(60)))
        .expect("a socket");
    let sends = std::thread::spawn(move || {
        for n in 0..messages {
            let mut message = n.to_be_bytes().to_vec();
            message.resize(length, b'x');
            writer.frame(true, Opcode::Binary, &message);
        }
        writer
    });
    support::wait_for("the sender to be paused", || {
        gateway.counter("out_bytes") > 128 << 10
    });
    // However long it is not read, what is held for it stays bounded.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(20));
        assert!(gateway.counter("out_bytes") < 1 << 20);
        // What one receive had already taken before it was cancelled: at most all receive buffers.
        assert!(gateway.counter("parked_bytes") <= 2 << 20);
    }
    gateway.client().round_trip("beside it");
    for n in 0..messages {
        match reader.hear() {
            Heard::Binary(message) => assert_eq!(message[..4], n.to_be_bytes()),
            other => panic!("message {n}: {other:?}"),
        }
    }
    drop(sends.join().expect("all was taken"));
    gateway.expect_counter("out_bytes", 0);
}

#[test]
fn more_non_readers_than_receive_buffers_do_not_stop_the_others() {
    let mut config = small();
    config.base.receive_buffers = 16;
    let gateway = Gateway::start(config);
    let mut silent: Vec<Client> = (0..64).map(|_| gateway.client()).collect();
    let flood = frame(true, Opcode::Binary, &[1; 8_000]).repeat(200);
    for client in &mut silent {
        client.stream.set_nonblocking(true).expect("a socket");
        // As much as the kernels' buffers and the gateway take.
        while matches!(client.stream.write(&flood), Ok(1..)) {}
    }
    for n in 0..50 {
        gateway.client().round_trip(&format!("served {n}"));
    }
    support::wait_for("the buffers to be the kernel's again", || {
        gateway.counter("buffers_free") > 8
    });
}

#[test]
fn endless_pings_without_reading_are_answered_within_bounds() {
    let gateway = Gateway::start(small());
    let mut hostile = gateway.client();
    let flood = frame(true, Opcode::Ping, &[1; 125]).repeat(1_000);
    hostile
        .stream
        .set_write_timeout(Some(Duration::from_millis(500)))
        .expect("a socket");
    support::wait_for("pongs to be skipped", || {
        let _ = hostile.stream.write_all(&flood);
        assert!(gateway.counter("out_bytes") < 1 << 20);
        gateway.counter("pongs_skipped_total") > 0
    });
    gateway.client().round_trip("beside it");
}

#[test]
fn a_peer_that_never_reads_again_is_closed_after_its_time() {
    let mut config = small();
    config.base.stalled_frame_ms_max = 500;
    let gateway = Gateway::start(config);
    let mut hostile = gateway.client();
    hostile.stream.set_nonblocking(true).expect("a socket");
    let flood = frame(true, Opcode::Binary, &[1; 8_000]).repeat(100);
    support::wait_for("it to be cut", || {
        while matches!(hostile.stream.write(&flood), Ok(1..)) {}
        gateway.counter("connections") == 0
    });
    support::wait_for("its memory to be given back", || {
        gateway.counter("out_bytes") == 0 && gateway.counter("parked_bytes") == 0
    });
}
