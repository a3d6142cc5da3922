//! What a violation leaves: lengths over the limit, data behind the end, fragments without one. The list of all
//! violations and their close codes is `fuzz/src/hostile/`, run by `fuzz/tests/hostile_peers.rs`.

mod support;

use std::time::{Duration, Instant};

use support::{Gateway, Heard, frame, small};
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::ws::Opcode;

/// Sends the bytes on a fresh connection; it must be closed with that code, beside a healthy connection.
fn ends_in(gateway: &Gateway, what: &str, bytes: &[u8], code: CloseCode) {
    let mut healthy = gateway.client();
    let mut hostile = gateway.client();
    hostile.write(bytes);
    loop {
        match hostile.hear() {
            Heard::Close(found, _) => {
                assert_eq!(found, Some(code), "{what}");
                break;
            }
            Heard::End => panic!("{what}: ended without a close frame"),
            _ => {}
        }
    }
    assert_eq!(hostile.hear(), Heard::End, "{what}");
    healthy.round_trip(what);
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first, u8::try_from(payload.len()).expect("short")];
    bytes.extend_from_slice(payload);
    bytes
}

#[test]
fn too_long_a_message_is_refused_on_its_header_before_any_payload() {
    let mut config = small();
    config.max_message_bytes = 1000;
    let gateway = Gateway::start(config);
    let big = CloseCode::MESSAGE_TOO_BIG;
    let header = [0x82, 0xFE, 0x03, 0xE9, 0, 0, 0, 0];
    ends_in(&gateway, "1001 bytes announced", &header, big);
    let huge = [
        0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0,
    ];
    ends_in(&gateway, "2^63 - 1 bytes announced", &huge, big);
    let fragments = [
        frame(false, Opcode::Binary, &[1; 600]),
        frame(true, Opcode::Continuation, &[2; 401]),
    ]
    .concat();
    ends_in(&gateway, "600 + 401 bytes in fragments", &fragments, big);
    let mut client = gateway.client();
    client.frame(true, Opcode::Binary, &[1; 1000]);
    assert_eq!(client.hear(), Heard::Binary(vec![1; 1000]));
    support::wait_for("the memory to be given back", || {
        gateway.counter("collect_bytes") == 0
    });
    gateway.expect_counter("oversize_total", 3);
}

#[test]
fn data_behind_a_violation_is_discarded_and_the_connection_still_ends() {
    let gateway = Gateway::start(small());
    let mut hostile = gateway.client();
    hostile.write(&unmasked(0x81, b"hi"));
    let flood = vec![0x55; 64 << 10];
    let deadline = Instant::now() + support::PATIENCE;
    hostile
        .stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .expect("a socket");
    use std::io::Write;
    while hostile.stream.write_all(&flood).is_ok() {
        assert!(Instant::now() < deadline, "a deaf connection was never cut");
    }
    support::wait_for("the slot to be free", || {
        gateway.counter("connections") == 0
    });
}

#[test]
fn endless_fragments_of_nothing_end_as_a_stalled_message() {
    let mut config = small();
    config.base.stalled_frame_ms_max = 600;
    let gateway = Gateway::start(config);
    let mut hostile = gateway.client();
    hostile.frame(false, Opcode::Binary, b"");
    let deadline = Instant::now() + support::PATIENCE;
    use std::io::Write;
    let empty = frame(false, Opcode::Continuation, b"");
    while hostile.stream.write_all(&empty).is_ok() {
        assert!(Instant::now() < deadline, "never cut");
        std::thread::sleep(Duration::from_millis(20));
        if gateway.counter("stalled_frames_total") == 1 {
            break;
        }
    }
    hostile.expect_close(CloseCode::HALF_OPEN);
}
