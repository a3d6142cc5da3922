//! No descriptor left: accepting pauses and goes on; whoever is connected is served meanwhile. One test: the limit
//! is the process's, and it can't be raised again.

mod support;

use rustix::process::{Resource, Rlimit, setrlimit};
use support::{Client, Gateway, request, small};

const DESCRIPTORS: u64 = 400;

#[test]
fn accepting_pauses_at_the_limit_and_goes_on_when_there_is_room() {
    let limit = Rlimit {
        current: Some(DESCRIPTORS),
        maximum: Some(DESCRIPTORS),
    };
    setrlimit(Resource::Nofile, limit).expect("lowering is allowed");
    let gateway = Gateway::start(small());
    assert!(
        table_size() >= DESCRIPTORS,
        "the table of descriptors would grow while connections come: it has room for {}",
        table_size()
    );
    let mut lasting = gateway.client();
    lasting.round_trip("before");
    // Both ends are in this process, and a connection that waits in the backlog has only the client's: the clients
    // take the last descriptors, and the gateway's accepts meet the limit.
    let mut clients = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect(gateway.address) {
        clients.push(Client::over(stream));
    }
    for n in 0..50 {
        lasting.round_trip(&format!("at the limit {n}"));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // Room for both ends of those that are left, also of those that were never accepted.
    clients.drain(..clients.len() - 100);
    for client in &mut clients {
        client.write(&request(""));
        client.upgraded();
        client.round_trip("after");
    }
    lasting.round_trip("after");
    assert!(gateway.counter("accept_pauses_total") > 0);
}

/// Descriptors that the process's table has room for now.
fn table_size() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    line.expect("there since Linux 2")
        .trim()
        .parse()
        .expect("a number")
}
