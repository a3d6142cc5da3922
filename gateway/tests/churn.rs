//! Connections that come and go in every way, all at once: afterwards nothing is left of them.

mod support;

use std::io::{Read, Write};

use support::{Client, Gateway, frame, request, small};
use tidegate_protocol::ws::Opcode;

const THREADS: usize = 8;
const ROUNDS: usize = 60;

#[test]
fn after_a_churn_of_every_kind_of_end_nothing_is_left() {
    let mut config = small();
    config.shards = 2;
    config.base.handshake_ms_max = 1_000;
    let gateway = Gateway::start(config);
    gateway.client().round_trip("warm");
    let before = sockets();
    let address = gateway.address;
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            std::thread::spawn(move || {
                for round in 0..ROUNDS {
                    visit(Client::raw(address), thread + round);
                }
            })
        })
        .collect();
    let mut lasting = gateway.client();
    for n in 0..200 {
        lasting.round_trip(&format!("lasting {n}"));
    }
    for thread in threads {
        thread.join().expect("every visit went as planned");
    }
    drop(lasting);
    support::wait_for("all slots and sockets to be free", || {
        gateway.counter("connections") == 0 && sockets() <= before + 2
    });
    for gauge in [
        "out_bytes",
        "parked_bytes",
        "collect_bytes",
        "connections_open",
    ] {
        gateway.expect_counter(gauge, 0);
    }
}

/// Sockets that this process holds. (Not all descriptors: the executors open rings of their own as they get going.)
fn sockets() -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").expect("proc").flatten();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

/// One connection, ended in one of many ways.
fn visit(mut client: Client, way: usize) {
    let message = frame(true, Opcode::Binary, &vec![3; 100 + way * 700 % 40_000]);
    match way % 8 {
        0 => return,
        1 => return client.write(b"GET /ws HTTP/1.1\r\nHo"),
        2 => {
            client.write(b"nonsense\r\n\r\n");
            let _ = client.stream.read_to_end(&mut Vec::new());
            return;
        }
        _ => {
            client.write(&request(""));
            client.upgraded();
        }
    }
    match way % 8 {
        3 => client.write(&message),
        4 => client.write(&message[..message.len() / 2]),
        5 => {
            client.write(&message);
            let _ = client.hear();
            client.frame(true, Opcode::Close, &1000_u16.to_be_bytes());
            client.expect_close(tidegate_protocol::close::CloseCode::NORMAL);
        }
        6 => {
            let _ = client.stream.write_all(&message.repeat(30));
            let _ = client.stream.shutdown(std::net::Shutdown::Write);
            let _ = client.stream.read_to_end(&mut Vec::new());
        }
        _ => {
            client.write(&message);
            client.write(&[0xFF; 20]);
            let _ = client.stream.read_to_end(&mut Vec::new());
        }
    }
}
