//! A thousand connections that each dribble half a frame: they cost themselves, and nobody else.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{Client, Gateway, frame, small};
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::ws::Opcode;

#[test]
fn a_thousand_dribblers_leave_a_healthy_pair_served() {
    let gateway = Gateway::start(small());
    let whole = frame(true, Opcode::Binary, &[9; 20_000]);
    let mut dribblers: Vec<Client> = (0..1_000).map(|_| gateway.client()).collect();
    for client in &mut dribblers {
        client.write(&whole[..10_000]);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (stops, rest) = (Arc::clone(&stop), whole[10_000..19_000].to_vec());
    let dribble = std::thread::spawn(move || {
        let mut at = 0;
        while !stops.load(Ordering::Relaxed) && at < rest.len() {
            for client in &mut dribblers {
                let _ = client.stream.write_all(&rest[at..=at]);
            }
            at += 1;
        }
        (dribblers, at)
    });
    let (mut one, mut other) = (gateway.client(), gateway.client());
    for n in 0..300 {
        one.round_trip(&format!("question {n}"));
        other.round_trip(&format!("answer {n}"));
    }
    stop.store(true, Ordering::Relaxed);
    let (mut dribblers, at) = dribble.join().expect("no panic");
    // Whoever finishes the frame gets it back: nothing was lost meanwhile.
    let client = &mut dribblers[0];
    client.write(&whole[10_000 + at..]);
    assert_eq!(client.hear(), support::Heard::Binary(vec![9; 20_000]));
    drop(dribblers);
    support::wait_for("their memory to be given back", || {
        gateway.counter("collect_bytes") == 0 && gateway.counter("connections") == 2
    });
}

#[test]
fn a_frame_that_stalls_is_closed_and_one_that_gets_on_is_not() {
    let mut config = small();
    config.base.stalled_frame_ms_max = 500;
    let gateway = Gateway::start(config);
    let whole = frame(true, Opcode::Binary, &[9; 200_000]);
    let mut header = gateway.client();
    header.write(&whole[..3]);
    let mut stalled = gateway.client();
    stalled.write(&whole[..5_000]);
    let mut steady = gateway.client();
    // 20 KB every 100 ms: longer than the limit in all, never without progress.
    for piece in whole.chunks(20_000) {
        steady.write(piece);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(steady.hear(), support::Heard::Binary(vec![9; 200_000]));
    stalled.expect_close(CloseCode::HALF_OPEN);
    header.expect_close(CloseCode::HALF_OPEN);
    let mut idle = gateway.client();
    idle.round_trip("an idle connection has no such deadline");
    std::thread::sleep(std::time::Duration::from_millis(800));
    idle.round_trip("still here");
}
