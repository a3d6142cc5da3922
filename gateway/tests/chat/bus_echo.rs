//! `--echo=bus`: messages through the rings and back from a consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tidegate_gateway::chat::bus_echo::consumer_main;
use tidegate_gateway::{EchoConfig, Handle, Inherited, run_bus_echo};
use tidegate_protocol::close::CloseCode;
use tidegate_protocol::ws::Opcode;

use crate::support::{Client, Heard, PATIENCE, small, wait_for};

struct BusEcho {
    handle: Handle,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
    address: std::net::SocketAddr,
    _directory: TempDir,
}

fn start(ring_bytes: u32) -> BusEcho {
    let directory = tempfile::tempdir().expect("a directory");
    let bus_dir = directory.path().join("bus");
    let mut config: EchoConfig = small();
    config.base.bus_dir = bus_dir.clone();
    config.base.ring_bytes = ring_bytes;
    let handle = Handle::new().expect("descriptors");
    let (runs, stop) = (handle.clone(), Arc::new(AtomicBool::new(false)));
    let gateway = std::thread::spawn(move || {
        run_bus_echo(config, Inherited::default(), &runs).expect("the gateway runs");
    });
    let stops = Arc::clone(&stop);
    let consumer = std::thread::spawn(move || {
        consumer_main(&bus_dir, false, &stops).expect("the consumer runs")
    });
    wait_for("the gateway listens", || {
        handle.wait_bound(Duration::from_millis(50)).is_some()
    });
    let address = handle.wait_bound(PATIENCE).expect("it listens").listen;
    BusEcho {
        handle,
        stop,
        threads: vec![gateway, consumer],
        address,
        _directory: directory,
    }
}

impl Drop for BusEcho {
    fn drop(&mut self) {
        self.handle.drain();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
            // The gateway first: the consumer then finds it dead and its segment is removed.
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn texts_and_binaries_come_back_through_the_bus_in_order() {
    let echo = start(1 << 20);
    let mut clients: Vec<_> = (0..10).map(|_| Client::connect(echo.address)).collect();
    for round in 0..20 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.text(&format!("{round} of {n} ✓"));
            client.frame(true, Opcode::Binary, &vec![round; 1_000 * n]);
        }
        for (n, client) in clients.iter_mut().enumerate() {
            client.expect_text(&format!("{round} of {n} ✓"));
            assert_eq!(client.hear(), Heard::Binary(vec![round; 1_000 * n]));
        }
    }
}

#[test]
fn what_exceeds_a_record_is_closed_with_1009_and_what_just_fits_is_not() {
    let echo = start(1 << 20);
    let fits = (256 << 10) - 48;
    let mut client = Client::connect(echo.address);
    client.frame(true, Opcode::Binary, &vec![7; fits]);
    assert_eq!(client.hear(), Heard::Binary(vec![7; fits]));
    client.frame(true, Opcode::Binary, &vec![7; fits + 1]);
    client.expect_close(CloseCode::MESSAGE_TOO_BIG);
}

#[test]
fn more_than_the_rings_hold_is_parked_and_nothing_is_lost() {
    let echo = start(64 << 10);
    let mut client = Client::connect(echo.address);
    let mut writer = Client::over(client.stream.try_clone().expect("a socket"));
    let sender = std::thread::spawn(move || {
        for n in 0..2_000_u32 {
            let mut payload = vec![0; 1_000];
            payload[..4].copy_from_slice(&n.to_le_bytes());
            writer.frame(true, Opcode::Binary, &payload);
        }
    });
    for n in 0..2_000_u32 {
        let Heard::Binary(payload) = client.hear() else {
            panic!("an echo")
        };
        assert_eq!(payload[..4], n.to_le_bytes());
    }
    sender.join().expect("all was taken");
}
