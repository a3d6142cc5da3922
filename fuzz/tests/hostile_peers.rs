//! Every attack that is answered at once, against the three services in this process: each ends as the list says, and
//! nothing of it is left. What takes its time, and what floods, is the trial `hostile-peers`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_bench::socket::{Socket, TEXT};
use tidegate_fuzz::hostile::attacker::{judge, perform};
use tidegate_fuzz::hostile::{Attack, Begins, Service, Tokens, attacks};
use tidegate_gateway::chat::bus_echo::consumer_main;
use tidegate_gateway::{Config, EchoConfig, Handle, Inherited, run, run_bus_echo, run_echo};
use tidegate_protocol::token::Key;

const PATIENCE: Duration = Duration::from_secs(20);
/// Attackers at a time.
const AT_A_TIME: usize = 16;
/// Small enough to be passed often, large enough for what is allowed.
const MESSAGE_BYTES_MAX: u32 = 256 << 10;

/// A gateway of one shard in threads of the test.
struct Gateway {
    handle: Handle,
    listen: SocketAddr,
    admin: SocketAddr,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _directory: tempfile::TempDir,
}

impl Gateway {
    fn start(service: Service, key: &Key) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = config(directory.path(), key);
        let bus_dir = config.bus_dir.clone();
        let message_bytes_max = config.max_message_bytes;
        let echo = EchoConfig {
            listen: config.listen,
            shards: 1,
            max_message_bytes: message_bytes_max,
            allowed_origins: Vec::new(),
            base: config.clone(),
        };
        let (handle, stop) = (
            Handle::new().expect("descriptors"),
            Arc::new(AtomicBool::new(false)),
        );
        let runs = handle.clone();
        let mut threads = vec![std::thread::spawn(move || {
            let ended = match service {
                Service::Echo => run_echo(echo, Inherited::default(), &runs),
                Service::BusEcho => run_bus_echo(echo, Inherited::default(), &runs),
                Service::Chat => run(config, Inherited::default(), &runs),
            };
            ended.expect("the gateway runs until it is drained");
        })];
        if service == Service::BusEcho {
            let stops = Arc::clone(&stop);
            threads.push(std::thread::spawn(move || {
                consumer_main(&bus_dir, false, &stops).expect("the consumer runs");
            }));
        }
        let bound = handle.wait_bound(PATIENCE).expect("it listens");
        Self {
            handle,
            listen: bound.listen,
            admin: bound.admin.expect("configured"),
            stop,
            threads,
            _directory: directory,
        }
    }

    fn gauge(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.admin).expect("listens");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n").expect("taken");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let start = format!("tidegate_gateway_{name}{{shard=\"0\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&start));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.handle.drain();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
            // The gateway first: the consumer then finds it dead and removes its segment.
            self.stop.store(true, Ordering::Relaxed);
        }
    }
}

fn config(directory: &Path, key: &Key) -> Config {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let token_key_file = directory.join("token.key");
    std::fs::write(&token_key_file, key.to_hex()).expect("written");
    Config {
        listen: any,
        admin_listen: Some(any),
        shards: 1,
        max_message_bytes: MESSAGE_BYTES_MAX,
        bus_dir: directory.join("bus"),
        token_key_file,
        ring_bytes: 2 << 20,
        drain_ms: 500,
        ..Config::default()
    }
}

fn now_s() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_secs()
}

/// Performs them, some at a time; the sentences about those that did not end as they should.
fn perform_all(server: SocketAddr, attacks: &[Attack]) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(attack) = attacks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let failure = match perform(server, attack, Duration::ZERO) {
                        Ok(report) => judge(attack, &report),
                        Err(error) => Some(format!("{}: {error}", attack.name)),
                    };
                    failures.lock().expect("no panic").extend(failure);
                }
            });
        }
    });
    failures.into_inner().expect("no panic")
}

fn every_quick_attack_ends_as_listed(service: Service) {
    let key = Key::new([7; 32]);
    let gateway = Gateway::start(service, &key);
    let tokens = Tokens::new(key, now_s());
    let listed = attacks(
        service,
        u64::from(MESSAGE_BYTES_MAX),
        (service == Service::Chat).then_some(&tokens),
    );
    // Nobody is welcomed here: the chat has no backend.
    let possible =
        |attack: &Attack| attack.is_quick() && !matches!(attack.begins, Begins::Welcomed(_));
    let quick: Vec<Attack> = listed.into_iter().filter(possible).collect();
    assert!(quick.len() > 100, "{} attacks", quick.len());
    let failures = perform_all(gateway.listen, &quick);
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if service != Service::Chat {
        let mut healthy = Socket::open(gateway.listen, None).expect("served");
        healthy.send(TEXT, b"still here").expect("taken");
        let mut heard = Vec::new();
        healthy.receive(&mut heard).expect("answered");
        assert_eq!(heard, b"still here");
    }
    let deadline = Instant::now() + PATIENCE;
    for gauge in ["connections", "out_bytes", "parked_bytes", "collect_bytes"] {
        while gateway.gauge(gauge) != 0 {
            assert!(
                Instant::now() < deadline,
                "{gauge} stays at {}",
                gateway.gauge(gauge)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn every_quick_attack_on_the_echo_ends_as_listed() {
    every_quick_attack_ends_as_listed(Service::Echo);
}

#[test]
fn every_quick_attack_on_the_echo_over_the_bus_ends_as_listed() {
    every_quick_attack_ends_as_listed(Service::BusEcho);
}

#[test]
fn every_quick_attack_on_the_chat_ends_as_listed() {
    every_quick_attack_ends_as_listed(Service::Chat);
}
