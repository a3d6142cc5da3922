//! A quick look at what the echo costs beside a bare io_uring loop that checks nothing: server CPU per message, per
//! accept, and memory per idle connection. `bench/` answers these questions properly.
//!
//! `cargo run --profile fast -p tidegate-gateway --example measure -- [messages|open|idle|accept] [connections] [bytes] [depth] [rounds]`
//!
//! Server on the first core, load on the second.
#![expect(unsafe_code, reason = "the bare loop names memory to the kernel")]
#![allow(clippy::unwrap_used, reason = "a measurement that fails may stop")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, types};
use rustix::event::epoll;
use tidegate_gateway::driver::BufferId;
use tidegate_gateway::driver::buffers::{BUFFER_GROUP, BufferRing};
use tidegate_gateway::{Config, EchoConfig, Handle, Inherited, run_echo};
use tidegate_protocol::ws::Opcode;
use tidegate_protocol::ws::client::UpgradeRequest;
use tidegate_protocol::ws::encoder::append_client_frame;
use tidegate_protocol::ws::handshake::{Outcome, Policy, Subprotocols, parse};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("serve-echo") => serve_echo(),
        Some("serve-bare") => serve_bare(),
        _ => measure(&args),
    }
}

// --- servers ----------------------------------------------------------------------------------------------------

fn serve_echo() {
    pin(0);
    let handle = Handle::new().unwrap();
    let runs = handle.clone();
    std::thread::spawn(move || {
        let bound = runs.wait_bound(Duration::from_secs(5)).unwrap();
        println!("{}", bound.listen);
        // The load ends: so does this.
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let config = EchoConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        shards: 1,
        max_message_bytes: 16 << 20,
        allowed_origins: Vec::new(),
        base: Config {
            admin_listen: None,
            ..Config::default()
        },
    };
    run_echo(config, Inherited::default(), &handle).unwrap();
}

/// The floor: multishot accept and receive, unmask in place, send. No limits, no timers, no lengths above 64 KiB, one
/// frame per buffer or several that are whole.
fn serve_bare() {
    pin(0);
    let listener = socket2_listener();
    println!("{}", listener.local_addr().unwrap());
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(4096)
        .build(512)
        .unwrap();
    let mut buffers = BufferRing::register(&ring, 128, 16 << 10).unwrap();
    let policy = Policy {
        allowed_origins: Vec::new(),
        subprotocols: Subprotocols::Ignored,
    };
    let mut upgraded = vec![false; 1 << 16];
    let push = |ring: &mut IoUring, entry: io_uring::squeue::Entry| {
        // SAFETY: buffers and descriptors live until their completion.
        while unsafe { ring.submission().push(&entry) }.is_err() {
            ring.submit().unwrap();
        }
    };
    let listener_fd = types::Fd(listener.as_raw_fd());
    push(
        &mut ring,
        opcode::AcceptMulti::new(listener_fd)
            .build()
            .user_data(1 << 56),
    );
    let mut completions: Vec<cqueue::Entry> = Vec::with_capacity(1024);
    let receive = |fd: u32| {
        opcode::RecvMulti::new(types::Fd(i32::try_from(fd).unwrap()), BUFFER_GROUP)
            .build()
            .user_data(2 << 56 | u64::from(fd))
    };
    loop {
        buffers.publish();
        ring.submit_and_wait(1).unwrap();
        completions.clear();
        completions.extend(ring.completion().by_ref().take(1024));
        for completion in &completions {
            let data = completion.user_data();
            let fd = u32::try_from(data & 0xFFFF_FFFF).unwrap();
            match data >> 56 {
                1 => {
                    let fd = u32::try_from(completion.result()).unwrap();
                    upgraded[fd as usize] = false;
                    push(&mut ring, receive(fd));
                }
                2 => {
                    let result = completion.result();
                    if let Some(id) = cqueue::buffer_select(completion.flags()) {
                        buffers.take_out(BufferId(id));
                        let bytes =
                            &mut buffers.buffer(BufferId(id))[..usize::try_from(result).unwrap()];
                        let (start, end) = if upgraded[fd as usize] {
                            reflect(bytes)
                        } else {
                            upgraded[fd as usize] = true;
                            let Outcome::Upgrade(upgrade) = parse(bytes, 0, &policy) else {
                                panic!("the load upgrades")
                            };
                            let mut answer = Vec::new();
                            upgrade.append_response(&mut answer);
                            bytes[..answer.len()].copy_from_slice(&answer);
                            (0, answer.len())
                        };
                        let entry = opcode::Send::new(
                            types::Fd(i32::try_from(fd).unwrap()),
                            bytes[start..].as_ptr(),
                            u32::try_from(end - start).unwrap(),
                        )
                        .build()
                        .user_data(3 << 56 | u64::from(id) << 32 | u64::from(fd));
                        push(&mut ring, entry);
                    }
                    if !cqueue::more(completion.flags()) {
                        if result > 0 || result == -105 {
                            push(&mut ring, receive(fd));
                        } else {
                            // SAFETY: closed once, at the end of its receive.
                            unsafe { libc_close(fd) };
                        }
                    }
                }
                3 => buffers.give_back(BufferId(u16::try_from(data >> 32 & 0xFFFF).unwrap())),
                _ => {}
            }
        }
    }
}

unsafe fn libc_close(fd: u32) {
    use std::os::fd::{FromRawFd, OwnedFd};
    // SAFETY: as the caller says.
    drop(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) });
}

fn reflect(bytes: &mut [u8]) -> (usize, usize) {
    let (mut at, mut out, mut first) = (0, 0, None);
    while at + 6 <= bytes.len() {
        let (length, header) = match bytes[at + 1] & 0x7F {
            126 => (
                usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]])),
                8,
            ),
            short => (usize::from(short), 6),
        };
        let mask = [
            bytes[at + header - 4],
            bytes[at + header - 3],
            bytes[at + header - 2],
            bytes[at + header - 1],
        ];
        let (opcode, start) = (bytes[at], at + header);
        tidegate_protocol::ws::mask::unmask(&mut bytes[start..start + length], mask);
        let to = if first.is_some() { out } else { at + 4 };
        let short = header - 4;
        if short == 4 {
            bytes.copy_within(at + 2..at + 4, to + 2);
            bytes[to + 1] = 126;
        } else {
            bytes[to + 1] = u8::try_from(length).unwrap();
        }
        bytes[to] = opcode;
        if first.is_some() {
            bytes.copy_within(start..start + length, to + short);
        }
        first.get_or_insert(to);
        out = to + short + length;
        at = start + length;
    }
    (first.unwrap_or(0), out)
}

fn socket2_listener() -> TcpListener {
    let fd = tidegate_gateway::listener::bind("127.0.0.1:0".parse().unwrap(), 4096, false).unwrap();
    rustix::net::sockopt::set_tcp_nodelay(&fd, true).unwrap();
    TcpListener::from(fd)
}

fn pin(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    rustix::thread::sched_setaffinity(None, &set).unwrap();
}

// --- load -------------------------------------------------------------------------------------------------------

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(kind: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(kind)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut byte = [0];
        let out = child.stdout.as_mut().unwrap();
        while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(char::from(byte[0]));
        }
        Self {
            child,
            address: line.parse().unwrap(),
        }
    }

    /// CPU time of all threads so far, in seconds (schedstat's run time: exact, not sampled).
    fn cpu_s(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks
            .map(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
                stat.split(' ').next().unwrap().parse::<f64>().unwrap()
            })
            .sum::<f64>()
            / 1e9
    }

    fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut request = Vec::new();
    UpgradeRequest {
        host: "load",
        target: "/ws",
        nonce: *b"0123456789abcdef",
        subprotocols: "",
        origin: "",
    }
    .append(&mut request);
    let mut streams = Vec::with_capacity(count);
    for batch in 0..count.div_ceil(200) {
        let size = (count - batch * 200).min(200);
        let mut fresh: Vec<TcpStream> = (0..size)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for stream in &mut fresh {
            stream.set_nodelay(true).unwrap();
            stream.write_all(&request).unwrap();
        }
        for stream in &mut fresh {
            let mut answer = Vec::new();
            let mut piece = [0; 512];
            while !answer.ends_with(b"\r\n\r\n") {
                let count = stream.read(&mut piece).unwrap();
                assert!(count > 0, "refused: {}", String::from_utf8_lossy(&answer));
                answer.extend_from_slice(&piece[..count]);
            }
        }
        streams.append(&mut fresh);
    }
    streams
}

struct Run {
    messages: u64,
    elapsed_s: f64,
    cpu_s: f64,
    load_cpu_share: f64,
}

/// Each connection keeps `depth` messages in flight; with `rate_per_s`, one message is sent on schedule, whatever came back.
fn run(kind: &str, connections: usize, bytes: usize, depth: usize, rate_per_s: Option<u64>) -> Run {
    let server = Server::start(kind);
    let streams = connect(server.address, connections);
    let mut message = Vec::new();
    append_client_frame(
        &mut message,
        true,
        Opcode::Binary,
        &vec![7; bytes],
        [1, 2, 3, 4],
    );
    let answer_bytes = message.len() - 4;
    let burst = message.repeat(depth);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
    for (index, stream) in streams.iter().enumerate() {
        stream.set_nonblocking(true).unwrap();
        epoll::add(
            &poll,
            stream,
            epoll::EventData::new_u64(index as u64),
            epoll::EventFlags::IN,
        )
        .unwrap();
    }
    let mut received = vec![0_usize; connections];
    let (mut messages, mut counting) = (0_u64, false);
    let began = Instant::now();
    let (warm_s, total_s) = (0.7, 2.7);
    let mut from = (began, 0.0, 0.0);
    let mut buffer = vec![0; 256 << 10];
    let mut events = Vec::with_capacity(512);
    if rate_per_s.is_none() {
        for mut stream in &streams {
            stream.write_all(&burst).unwrap();
        }
    }
    let (mut scheduled, mut next) = (0_u64, 0_usize);
    loop {
        let now = began.elapsed().as_secs_f64();
        if now > warm_s && !counting {
            (counting, messages) = (true, 0);
            from = (Instant::now(), server.cpu_s(), own_cpu_s());
        }
        if now > total_s {
            break;
        }
        if let Some(rate) = rate_per_s {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "seconds"
            )]
            let due = (now * rate as f64) as u64;
            while scheduled < due {
                (&streams[next]).write_all(&message).unwrap();
                (scheduled, next) = (scheduled + 1, (next + 1) % connections);
            }
        }
        events.clear();
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: if rate_per_s.is_some() {
                200_000
            } else {
                10_000_000
            },
        };
        epoll::wait(
            &poll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        )
        .unwrap();
        for event in &events {
            let index = usize::try_from(event.data.u64()).unwrap();
            let mut stream = &streams[index];
            let Ok(count) = stream.read(&mut buffer) else {
                continue;
            };
            assert!(count > 0, "closed by the server");
            received[index] += count;
            let whole = received[index] / answer_bytes;
            received[index] %= answer_bytes;
            messages += whole as u64;
            if rate_per_s.is_none() && whole > 0 {
                stream.write_all(&burst[..whole * message.len()]).unwrap();
            }
        }
    }
    let elapsed_s = from.0.elapsed().as_secs_f64();
    Run {
        messages,
        elapsed_s,
        cpu_s: server.cpu_s() - from.1,
        load_cpu_share: (own_cpu_s() - from.2) / elapsed_s,
    }
}

fn own_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn measure(args: &[String]) {
    pin(1);
    let number =
        |index: usize, default: usize| args.get(index).map_or(default, |arg| arg.parse().unwrap());
    let what = args.first().map_or("messages", String::as_str);
    let (connections, bytes, depth, rounds) =
        (number(1, 500), number(2, 128), number(3, 1), number(4, 5));
    match what {
        "messages" | "open" => {
            let rate = (what == "open").then_some(40_000);
            let mut ratios = Vec::new();
            for _ in 0..rounds {
                let mut costs = [0.0; 2];
                for (cost, kind) in costs.iter_mut().zip(["serve-bare", "serve-echo"]) {
                    let run = run(kind, connections, bytes, depth, rate);
                    #[expect(clippy::cast_precision_loss, reason = "counts")]
                    let messages = run.messages as f64;
                    *cost = run.cpu_s / messages * 1e6;
                    println!(
                        "{kind:11} {:8.0} msg/s  {:6.3} µs CPU/msg  server {:3.0} %  load {:3.0} %",
                        messages / run.elapsed_s,
                        *cost,
                        run.cpu_s / run.elapsed_s * 100.0,
                        run.load_cpu_share * 100.0
                    );
                }
                ratios.push(costs[1] / costs[0]);
            }
            ratios.sort_by(f64::total_cmp);
            println!(
                "echo / bare: median {:.3} of {ratios:.3?}",
                ratios[ratios.len() / 2]
            );
        }
        "idle" => {
            for kind in ["serve-bare", "serve-echo"] {
                let server = Server::start(kind);
                let started = server.resident_bytes();
                let first = connect(server.address, 5_000);
                let low = server.resident_bytes();
                let rest = connect(server.address, 13_000);
                let high = server.resident_bytes();
                println!(
                    "{kind:11} start {} KiB; slope 5,000 to 18,000: {} B per connection; all / 18,000: {} B",
                    started / 1024,
                    (high - low) / 13_000,
                    high / 18_000
                );
                drop((first, rest));
            }
        }
        "accept" => {
            for _ in 0..rounds {
                for kind in ["serve-bare", "serve-echo"] {
                    let server = Server::start(kind);
                    drop(connect(server.address, 1_000));
                    let before = server.cpu_s();
                    let streams = connect(server.address, 15_000);
                    println!(
                        "{kind:11} {:.2} µs CPU per accept and upgrade",
                        (server.cpu_s() - before) / 15_000.0 * 1e6
                    );
                    drop(streams);
                }
            }
        }
        other => panic!("messages, open, idle or accept, not {other}"),
    }
}
