//! A completion queue far too small for its load: the kernel holds completions back, and nothing is lost.

mod support;

use std::sync::Arc;

use glommio::{LocalExecutorBuilder, Placement};
use support::{Client, PATIENCE};
use tidegate_gateway::counters::Published;
use tidegate_gateway::driver::drive::{Asked, Clock, Surroundings, drive};
use tidegate_gateway::driver::uring::{RingSizes, UringDriver};
use tidegate_gateway::echo::Echo;
use tidegate_gateway::listener::{ShardListeners, bind, local_address};
use tidegate_gateway::shard::{Shard, ShardOptions};
use tidegate_gateway::trusted::TrustedProxies;
use tidegate_protocol::ws::handshake::{Policy, Subprotocols};
use tidegate_protocol::ws::{Bounds, Opcode};

#[test]
fn an_overflown_completion_queue_is_counted_and_survived() {
    let listener = bind("127.0.0.1:0".parse().expect("an address"), 512, false).expect("a port");
    let address = local_address(&listener).expect("bound");
    let published = Arc::new(Published::default());
    let flags = rustix::event::EventfdFlags::NONBLOCK;
    let bell = Arc::new(rustix::event::eventfd(0, flags).expect("descriptors"));
    let (publishes, rings) = (Arc::clone(&published), Arc::clone(&bell));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stops = Arc::clone(&stop);
    let shard = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(64 << 10)
        .spawn(move || async move {
            let sizes = RingSizes {
                submissions: 4,
                completions: 8,
                buffers: 16,
                buffer_bytes: 1024,
            };
            let clock = Clock::start();
            let mut shard = Shard::new(options(), Echo, clock.now(), 1);
            let listeners = ShardListeners {
                own: vec![Arc::new(listener)],
                siblings: Vec::new(),
            };
            let mut driver = UringDriver::new(sizes, listeners).expect("a ring");
            let asked = std::rc::Rc::new(Asked::default());
            let asks = std::rc::Rc::clone(&asked);
            let watch = glommio::spawn_local(async move {
                while !stops.load(std::sync::atomic::Ordering::Relaxed) {
                    glommio::timer::sleep(std::time::Duration::from_millis(10)).await;
                }
                asks.drain.store(true, std::sync::atomic::Ordering::Release);
            })
            .detach();
            let around = Surroundings {
                clock,
                bell: &rings,
                asked: &asked,
                published: &publishes,
            };
            drive(&mut shard, &mut driver, around)
                .await
                .expect("no error of the ring");
            watch.await;
        })
        .expect("an executor");

    let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(address)).collect();
    for round in 0..20_u8 {
        for client in &mut clients {
            client.frame(true, Opcode::Binary, &[round; 2_000]);
        }
        for client in &mut clients {
            assert_eq!(client.hear(), support::Heard::Binary(vec![round; 2_000]));
        }
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    while published.counts().completion_overflows_total == 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "the queue never overflowed"
        );
        for client in &mut clients {
            client.round_trip("more");
        }
    }
    drop(clients);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    shard.join().expect("the shard ended");
}

fn options() -> ShardOptions {
    ShardOptions {
        shard: 0,
        connections_max: 1_000,
        bounds: Bounds {
            message_bytes_max: 1 << 20,
        },
        policy: Policy {
            allowed_origins: Vec::new(),
            subprotocols: Subprotocols::Ignored,
        },
        trusted: TrustedProxies::default(),
        parked_bytes_max: 16 << 20,
        out_bytes_max: 64 << 20,
        visitor_out_bytes_max: 64 << 10,
        agent_out_bytes_max: 1 << 20,
        collect_bytes_max: 64 << 20,
        handshake_ms_max: 10_000,
        stalled_frame_ms_max: 60_000,
        drain_ms: 500,
    }
}
